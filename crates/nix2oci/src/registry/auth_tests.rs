//! Who asks: challenges, tokens, and what never leaves for another server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::super::RegistryOptions;
use super::super::request::Request;
use super::super::test_bed::{
    Bed, LIMITS, PASSWORD, get, put, scope, shown, take, with, with_password,
};
use super::*;
use crate::error::ErrorClass;
use crate::net::test_server::{Answer, Seen, TestServer, answer};
use crate::net::{Body, ProxyOptions, ServerAddress, TlsOptions, WireOptions};

const BASIC: &str = "Basic dXNlcjpodW50ZXIy";

/// A token server that gives `token-1`, `token-2`, … for so many seconds.
fn token_server(life: u32) -> TestServer {
    let count = AtomicUsize::new(0);
    TestServer::http(move |_| {
        // Long enough for others to come meanwhile.
        thread::sleep(Duration::from_millis(50));
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        answer(200).body(format!(
            r#"{{"token":"token-{number}","expires_in":{life}}}"#
        ))
    })
}

fn challenge(tokens: &TestServer) -> String {
    format!(
        r#"Bearer realm="http://{}/token?x=1",service="a b",scope="repository:app:pull""#,
        tokens.host()
    )
}

/// A registry that lets those in who have a token that `is_good`.
fn registry(
    challenge: String,
    is_good: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> TestServer {
    TestServer::http(move |seen| match seen.header("authorization") {
        Some(value) if is_good(value) => answer(200),
        _ => answer(401)
            .header("WWW-Authenticate", challenge.clone())
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#),
    })
}

fn any_token(value: &str) -> bool {
    value.starts_with("Bearer token-")
}

#[test]
fn many_requests_fetch_one_token() {
    let tokens = token_server(300);
    let registry = registry(challenge(&tokens), any_token);
    let bed = Bed::new();
    let transport = bed.transport(
        &registry.host(),
        &RegistryOptions {
            jobs: 20.try_into().unwrap(),
            ..with_password()
        },
    );
    bed.runtime
        .block_on(&bed.cx, async move {
            let tasks: Vec<_> = (0..20)
                .map(|_| {
                    let transport = transport.clone();
                    tokio::spawn(async move { take(&transport, get("/v2/")).await.map(drop) })
                })
                .collect();
            for task in tasks {
                task.await.unwrap()?;
            }
            Ok(())
        })
        .unwrap();
    let seen = tokens.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0].target,
        "/token?x=1&service=a+b&scope=repository%3Aapp%3Apull%2Cpush"
    );
    assert_eq!(seen[0].header("authorization"), Some(BASIC));
}

#[test]
fn a_failed_fetch_is_shared_by_those_who_wait() {
    let tokens = TestServer::http(|_| {
        thread::sleep(Duration::from_millis(300));
        answer(401).body(r#"{"details":"incorrect username or password"}"#)
    });
    let registry = registry(challenge(&tokens), any_token);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    let errors = bed
        .runtime
        .block_on(&bed.cx, async move {
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let transport = transport.clone();
                    tokio::spawn(async move { take(&transport, get("/v2/")).await.unwrap_err() })
                })
                .collect();
            let mut errors = Vec::new();
            for task in tasks {
                errors.push(task.await.unwrap());
            }
            Ok(errors)
        })
        .unwrap();
    let expected = format!(
        "{} refused to give a token to push to repository app: status 401 Unauthorized: incorrect username or password",
        tokens.host()
    );
    for error in errors {
        assert_eq!(error.class(), ErrorClass::Denied);
        assert_eq!(shown(&error), expected);
    }
    assert_eq!(tokens.seen().len(), 1);
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    for (life, fetched) in [(1_000, 1), (20, 1)] {
        let tokens = token_server(life);
        let registry = registry(challenge(&tokens), any_token);
        let bed = Bed::new();
        let transport = bed.transport(&registry.host(), &with_password());
        for _ in 0..3 {
            bed.send(&transport, get("/v2/")).unwrap();
        }
        // Less than a minute counts as a minute.
        assert_eq!(tokens.seen().len(), fetched);
    }
}

#[test]
fn a_token_near_its_end_is_not_used() {
    let tokens = token_server(300);
    let bed = Bed::new();
    let transport_host = "registry.example";
    let auth = Arc::new(Auth::new(transport_host, with_password().credentials));
    let server = TokenServer {
        realm: Url::parse(&format!("http://{}/", tokens.host())).unwrap(),
        service: None,
    };
    *lock(&auth.wanted) = Some(Wanted::Bearer(server.clone()));
    let wire = Arc::new(
        Wire::new(WireOptions {
            shown: &tokens.host(),
            address: ServerAddress::Known(server.realm.clone()),
            cert_dir: &tokens.host(),
            tls: &TlsOptions::default(),
            proxy: &ProxyOptions::default(),
            limits: LIMITS,
        })
        .unwrap(),
    );
    let used = |left: u64| {
        let (auth, wire, server) = (Arc::clone(&auth), Arc::clone(&wire), server.clone());
        let cancel = bed.cx.cancel.clone();
        bed.runtime
            .block_on(&bed.cx, async move {
                let old = Token {
                    value: secret_value("Bearer old").unwrap(),
                    until: Instant::now() + Duration::from_secs(left),
                };
                auth.slot(&scope()).lock().await.token = Some((old, server));
                wire.base("connect").await?;
                let value = auth
                    .authorization(&wire, &cancel, &scope(), Instant::now())
                    .await;
                Ok(value.unwrap().unwrap())
            })
            .unwrap()
    };
    assert_eq!(used(32), "Bearer old");
    assert_eq!(used(29), "Bearer token-1");
}

#[test]
fn a_token_that_is_no_longer_taken_is_renewed_once() {
    let tokens = token_server(300);
    let count = AtomicUsize::new(0);
    // Takes each token for two requests, as if it ended then.
    let registry = registry(challenge(&tokens), move |value| {
        let round = count.fetch_add(1, Ordering::Relaxed) / 3 + 1;
        value == format!("Bearer token-{round}")
    });
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    for _ in 0..6 {
        let body = Body::Replay(
            Arc::new(|| {
                Ok(crate::net::read_pieces(
                    Box::new(&b"x"[..]),
                    |_| unreachable!(),
                ))
            }),
            1,
        );
        let request = Request {
            accept: &[200],
            ..put("/v2/", body)
        };
        bed.send(&transport, request).unwrap();
    }
    assert!((2..=3).contains(&tokens.seen().len()));
}

#[test]
fn an_endless_401_ends() {
    let tokens = token_server(300);
    let registry = registry(challenge(&tokens), |_| false);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    let expected = format!(
        "{} refused to give the thing: status 401 Unauthorized: UNAUTHORIZED: who are you",
        registry.host()
    );
    assert_eq!(shown(&error), expected);
    assert_eq!(error.class(), ErrorClass::Denied);
    assert_eq!(registry.seen().len(), 2);
    // An accepted 401 is an answer, after the same try.
    let request = Request {
        accept: &[201, 401],
        ..get("/v2/")
    };
    assert_eq!(bed.send(&transport, request).unwrap().status, 401);
    assert_eq!(tokens.seen().len(), 2);
}

#[test]
fn a_body_that_is_sent_once_learns_for_the_next() {
    let tokens = token_server(300);
    let registry = registry(challenge(&tokens), any_token);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    let stream = || crate::net::read_pieces(Box::new(&b"x"[..]), |_| unreachable!());
    let request = || Request {
        accept: &[200],
        ..put("/v2/", Body::stream(stream(), None))
    };
    let error = bed.send(&transport, request()).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::Answer {
            status: Some(401),
            ..
        }
    ));
    bed.send(&transport, request()).unwrap();
}

#[test]
fn forbidden_is_denied() {
    let registry = TestServer::http(|_| answer(403).body("no"));
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    assert_eq!(registry.seen().len(), 1);
}

#[test]
fn the_registry_may_ask_for_more() {
    let tokens = token_server(300);
    let challenge = challenge(&tokens).replace("app:pull", "app:delete");
    let registry = registry(challenge, |value| value == "Bearer token-1");
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    let mut request = get("/v2/");
    request.scope.mount_from = Some("base".to_owned());
    bed.send(&transport, request).unwrap();
    let target = &tokens.seen()[0].target;
    assert!(
        target.ends_with(
            "&scope=repository%3Aapp%3Adelete&scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull"
        ),
        "{target}"
    );
}

#[test]
fn basic_is_said_at_once_after_the_first_time() {
    let registry = registry(r#"Basic realm="r""#.to_owned(), |value| value == BASIC);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    for _ in 0..3 {
        bed.send(&transport, get("/v2/")).unwrap();
    }
    assert_eq!(registry.seen().len(), 4);
}

#[test]
fn wrong_basic_credentials_are_said_once() {
    for options in [with_password(), with(Credentials::Anonymous)] {
        let registry = registry(r#"Basic realm="r""#.to_owned(), |_| false);
        let bed = Bed::new();
        let transport = bed.transport(&registry.host(), &options);
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        assert!(registry.seen().len() <= 2);
    }
}

#[test]
fn bearer_is_preferred() {
    let tokens = token_server(300);
    let both = format!(r#"Basic realm="r", {}"#, challenge(&tokens));
    let registry = registry(both, any_token);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    bed.send(&transport, get("/v2/")).unwrap();
}

#[test]
fn nobody_asks_as_nobody() {
    let tokens = token_server(300);
    let registry = registry(challenge(&tokens), any_token);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with(Credentials::Anonymous));
    bed.send(&transport, get("/v2/")).unwrap();
    assert_eq!(tokens.seen()[0].header("authorization"), None);
}

#[test]
fn a_registry_token_is_sent_as_it_is() {
    let registry = registry("Bearer realm=\"http://127.0.0.1:1/\"".to_owned(), |value| {
        value == "Bearer hunter2"
    });
    let token = || with(Credentials::RegistryToken(Secret::new(PASSWORD)));
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &token());
    bed.send(&transport, get("/v2/")).unwrap();

    let registry = self::registry("Bearer realm=\"http://127.0.0.1:1/\"".to_owned(), |_| false);
    let transport = bed.transport(&registry.host(), &token());
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    assert_eq!(registry.seen().len(), 2);
}

/// A token server that does not know OAuth2, or does.
fn oauth(status: u16) -> TestServer {
    TestServer::http(move |seen: &Seen| -> Answer {
        match &*seen.method {
            "POST" if status != 200 => answer(status),
            "POST" => answer(200).body(r#"{"access_token":"token-1","expires_in":300}"#),
            _ => answer(200).body(r#"{"token":"token-2"}"#),
        }
    })
}

#[test]
fn an_identity_token_is_posted() {
    let identity = [
        Credentials::IdentityToken(Secret::new(PASSWORD)),
        Credentials::Password {
            user: "<token>".to_owned(),
            password: Secret::new(PASSWORD),
        },
    ];
    for credentials in identity {
        let tokens = oauth(200);
        let registry = registry(challenge(&tokens), any_token);
        let bed = Bed::new();
        let transport = bed.transport(&registry.host(), &with(credentials));
        bed.send(&transport, get("/v2/")).unwrap();
        let seen = tokens.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(
            String::from_utf8_lossy(&seen[0].body),
            "grant_type=refresh_token&service=a+b&client_id=nix2oci&scope=repository%3Aapp%3Apull%2Cpush&refresh_token=hunter2"
        );
        assert_eq!(seen[0].target, "/token?x=1");
    }
}

#[test]
fn servers_without_oauth2_are_asked_by_get() {
    // 404 Google, 401 Artifactory, 400 Azure, 405 others: containerd,
    // `remotes/docker/authorizer.go`.
    for status in [404, 401, 400, 405] {
        let tokens = oauth(status);
        let registry = registry(challenge(&tokens), any_token);
        let bed = Bed::new();
        let credentials = Credentials::IdentityToken(Secret::new(PASSWORD));
        let transport = bed.transport(&registry.host(), &with(credentials));
        bed.send(&transport, get("/v2/")).unwrap();
        assert_eq!(tokens.seen().len(), 2);
    }
}

#[test]
fn a_bad_realm_is_refused() {
    for realm in [
        "/token",
        "nowhere",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://user@127.0.0.1/",
        "http://169.254.169.254/latest",
        "",
    ] {
        let registry = registry(format!("Bearer realm=\"{realm}\""), any_token);
        let bed = Bed::new();
        let transport = bed.transport(&registry.host(), &with_password());
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        let text = shown(&error);
        assert!(text.contains("failed to name a token server: "), "{text}");
        assert_eq!(registry.seen().len(), 1);
    }
}

#[test]
fn a_token_answer_has_a_bound() {
    for body in [
        format!(r#"{{"token":"{}"}}"#, "x".repeat(1024 * 1024)),
        r#"{"token":"two\nlines"}"#.to_owned(),
        "{}".to_owned(),
    ] {
        let tokens = TestServer::http(move |_| answer(200).body(&*body));
        let registry = registry(challenge(&tokens), any_token);
        let bed = Bed::new();
        let transport = bed.transport(&registry.host(), &with_password());
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Remote);
        assert!(shown(&error).contains("failed to give a token to push to repository app"));
    }
}

#[test]
fn a_busy_token_server_is_asked_again() {
    let count = AtomicUsize::new(0);
    let tokens = TestServer::http(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer(503).header("Retry-After", "0"),
        _ => answer(200).body(r#"{"token":"token-1"}"#),
    });
    let registry = registry(challenge(&tokens), any_token);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    bed.send(&transport, get("/v2/")).unwrap();
    assert_eq!(bed.told().len(), 1);
}

#[test]
fn a_token_server_that_leads_elsewhere_takes_no_password_along() {
    let other = token_server(300);
    let location = format!("http://{}/token", other.host());
    let tokens = TestServer::http(move |_| answer(307).header("Location", location.clone()));
    let registry = registry(challenge(&tokens), any_token);
    let bed = Bed::new();
    let transport = bed.transport(&registry.host(), &with_password());
    bed.send(&transport, get("/v2/")).unwrap();
    assert_eq!(tokens.seen()[0].header("authorization"), Some(BASIC));
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[test]
fn an_error_of_the_source_is_the_error() {
    struct Broken;
    impl CredentialSource for Broken {
        fn find(&self, host: &str, _: &str) -> Result<Credentials> {
            Err(Error::invalid(host, "no credentials today"))
        }
    }
    let registry = registry(r#"Basic realm="r""#.to_owned(), |_| true);
    let bed = Bed::new();
    let options = RegistryOptions {
        credentials: Arc::new(Broken),
        ..RegistryOptions::default()
    };
    let transport = bed.transport(&registry.host(), &options);
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert!(shown(&error).ends_with("no credentials today"));
}
