//! Small answers: what is there, what is not, and what of the user's leaves for
//! another server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::super::download::FetchReader;
use super::*;
use crate::credentials::AwsCredentials;
use crate::error::ErrorClass;
use crate::net::test_bed::{Authority, Bed, PASSWORD, PATIENT, shown};
use crate::net::test_server::{Answer, Cut, TestServer, answer};

/// Knows one encoding, which turns every byte over.
pub(in crate::net) fn turned(
    encoding: &str,
    mut bytes: Box<dyn Read + Send>,
) -> Option<Box<dyn Read + Send>> {
    if encoding != "turned" {
        return None;
    }
    struct Turned(Box<dyn Read + Send>);
    impl Read for Turned {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            buffer[..count].iter_mut().for_each(|byte| *byte = !*byte);
            Ok(count)
        }
    }
    Some(Box::new(Turned(std::mem::replace(
        &mut bytes,
        Box::new(std::io::empty()),
    ))))
}

pub(in crate::net) fn options(base: &str) -> FetchOptions {
    FetchOptions {
        base: base.to_owned(),
        shown: base.to_owned(),
        headers: Vec::new(),
        user: None,
        signer: None,
        tls: TlsOptions::default(),
        proxy: ProxyOptions::default(),
        retries: 0,
        jobs: NonZeroUsize::new(4).unwrap(),
        limits: PATIENT,
        decode: turned,
    }
}

pub(in crate::net) fn fetcher(bed: &Bed, options: &FetchOptions) -> Fetcher {
    Fetcher::new(Arc::clone(&bed.runtime), options).unwrap()
}

/// Long enough for a busy machine, short enough to wait for.
pub(in crate::net) const STALL: Limits = Limits {
    stall: Duration::from_secs(2),
    ..PATIENT
};

/// Makes a fetcher of a server's folder `cache`.
pub(in crate::net) fn of(bed: &Bed, server: &TestServer, retries: u32) -> Fetcher {
    let options = FetchOptions {
        retries,
        ..options(&format!("http://{}/cache", server.host()))
    };
    fetcher(bed, &options)
}

fn get(bed: &Bed, fetcher: &Fetcher, target: &str) -> Result<Answered<Bytes>> {
    let (sender, answers) = mpsc::channel();
    let action = "give the thing".to_owned();
    let done = move |found| drop(sender.send(found));
    fetcher.begin(&bed.cx, target.to_owned(), action, 1000, done);
    answers.recv().unwrap()
}

/// Begins to fetch a large answer and waits for its head.
fn open(fetcher: &Fetcher, bed: &Bed, target: &str) -> Result<Option<FetchReader>> {
    fetcher.start(&bed.cx, target, "give the thing", 10).open()
}

#[test]
fn what_is_there_is_fetched() {
    let server = TestServer::http(|_| answer(200).body("there"));
    let bed = Bed::new();
    for base in ["", "/", "/cache", "/cache/"] {
        let base = format!("http://{}{base}", server.host());
        let found = get(&bed, &fetcher(&bed, &options(&base)), "a.narinfo").unwrap();
        assert_eq!(found, Answered::Given("there".into()));
    }
    let seen = server.seen();
    let targets: Vec<_> = seen.iter().map(|seen| &*seen.target).collect();
    assert_eq!(
        targets,
        [
            "/a.narinfo",
            "/a.narinfo",
            "/cache/a.narinfo",
            "/cache/a.narinfo"
        ]
    );
    assert_eq!(seen[0].header("accept-encoding"), None);
    assert_eq!(seen[0].header("authorization"), None);
}

#[test]
fn what_is_not_there_is_none() {
    let denied = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";
    for (status, body, found) in [
        (404, "", Answered::Missing),
        (410, "", Answered::Missing),
        (403, "", Answered::Withheld),
        (403, denied, Answered::Withheld),
    ] {
        let server = TestServer::http(move |_| answer(status).body(body));
        let bed = Bed::new();
        let fetcher = of(&bed, &server, 3);
        assert_eq!(get(&bed, &fetcher, "a").unwrap(), found, "{status}");
        assert!(open(&fetcher, &bed, "a").unwrap().is_none());
        assert_eq!(server.seen().len(), 2);
    }
}

#[test]
fn a_refusal_of_who_asks_is_no_absence() {
    let refusals: [fn() -> Answer; 3] = [
        || answer(401),
        || answer(403).header("WWW-Authenticate", "Basic realm=\"r\""),
        || answer(403).body("<Error><Code>SignatureDoesNotMatch</Code></Error>"),
    ];
    for refusal in refusals {
        let server = TestServer::http(move |_| refusal());
        let bed = Bed::new();
        let error = get(&bed, &of(&bed, &server, 3), "a").unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        let expected = format!("http://{}/cache refused to give the thing", server.host());
        assert!(shown(&error).starts_with(&expected), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
    // Elsewhere nobody was told who asks.
    let other = TestServer::http(|_| answer(401));
    let there = format!("http://{}/", other.host());
    let server = TestServer::http(move |_| answer(302).header("Location", there.clone()));
    let bed = Bed::new();
    let error = get(&bed, &of(&bed, &server, 3), "a").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Remote);
    assert!(shown(&error).starts_with(&other.host()), "{error}");
}

#[test]
fn what_may_pass_is_repeated_and_what_stays_is_not() {
    for (status, is_repeated) in [
        (429, true),
        (500, true),
        (503, true),
        (400, false),
        (206, false),
        (418, false),
        (501, false),
    ] {
        let count = AtomicUsize::new(0);
        let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(status).header("Retry-After", "0"),
            _ => answer(200),
        });
        let bed = Bed::new();
        let found = get(&bed, &of(&bed, &server, 1), "a");
        assert_eq!(found.is_ok(), is_repeated, "{status}");
        assert_eq!(server.seen().len(), 1 + usize::from(is_repeated));
        if let Err(error) = found {
            assert_eq!(error.class(), ErrorClass::Remote);
        }
    }
}

#[test]
fn waits_have_a_bound_in_sum() {
    let server = TestServer::http(|_| answer(503).header("Retry-After", "1"));
    let bed = Bed::new();
    let options = FetchOptions {
        retries: 5,
        limits: Limits {
            waits: Duration::from_millis(1500),
            ..PATIENT
        },
        ..options(&format!("http://{}/", server.host()))
    };
    let error = get(&bed, &fetcher(&bed, &options), "a").unwrap_err();
    let text = shown(&error);
    assert!(
        text.contains("asks to wait again and again, longer than 1 s in sum: status 503"),
        "{text}"
    );
    assert!(!crate::net::may_pass(&error));
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_small_answer_that_broke_is_fetched_again() {
    for cut in [Cut::Closed, Cut::Silent] {
        let count = AtomicUsize::new(0);
        let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(200).body("0123456789").cut(4, cut),
            _ => answer(200).body("0123456789"),
        });
        let bed = Bed::new();
        let options = FetchOptions {
            retries: 1,
            limits: STALL,
            ..options(&format!("http://{}", server.host()))
        };
        let found = get(&bed, &fetcher(&bed, &options), "a").unwrap();
        assert_eq!(found, Answered::Given("0123456789".into()));
        assert_eq!(bed.told().len(), 1);
    }
}

#[test]
fn a_small_answer_has_a_bound() {
    for size in [1000, 1001, 50_000_000] {
        let server = TestServer::http(move |_| answer(200).body(vec![0; size]));
        let bed = Bed::new();
        let found = get(&bed, &of(&bed, &server, 3), "a");
        match found {
            Ok(found) => assert_eq!(found.given().unwrap().len(), 1000),
            Err(error) => {
                assert!(size > 1000);
                assert!(shown(&error).ends_with("the answer has more than 1000 bytes"));
                assert_eq!(server.seen().len(), 1);
            }
        }
    }
}

#[test]
fn an_encoded_answer_is_decoded() {
    let cases = [
        ("turned", 10, None),
        ("identity", 10, None),
        ("Turned", 1000, None),
        ("turned", 1001, Some("the answer has more than 1000 bytes")),
        (
            "br",
            10,
            Some("it comes with Content-Encoding \"br\", which is not known here"),
        ),
        (
            "br, turned",
            10,
            Some("it comes with Content-Encoding \"br, turned\", which is not known here"),
        ),
    ];
    for (encoding, size, problem) in cases {
        let byte = if encoding == "identity" { 7 } else { !7 };
        let server = TestServer::http(move |_| {
            answer(200)
                .header("Content-Encoding", encoding)
                .body(vec![byte; size])
        });
        let bed = Bed::new();
        let fetcher = of(&bed, &server, 3);
        let small = get(&bed, &fetcher, "a");
        let large = open(&fetcher, &bed, "a");
        match problem {
            None => {
                assert_eq!(small.unwrap().given().unwrap(), vec![7; size]);
                let mut bytes = Vec::new();
                large.unwrap().unwrap().read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, vec![7; size]);
            }
            Some(problem) => {
                let text = shown(&small.unwrap_err());
                assert!(text.ends_with(problem), "{text}");
                if size <= 1000 {
                    let text = shown(&large.err().unwrap());
                    assert!(text.ends_with(problem), "{text}");
                }
            }
        }
    }
}

#[test]
fn the_users_headers_are_for_the_server_itself() {
    let other = TestServer::http(|_| answer(200).body("there"));
    let there = format!("http://{}/nar?signature={PASSWORD}", other.host());
    let way = there.clone();
    let server = TestServer::http(move |seen| match &*seen.target {
        "/away" => answer(307).header("Location", way.clone()),
        "/same" => answer(302).header("Location", "/here"),
        _ => answer(200).body("here"),
    });
    let bed = Bed::new();
    let options = FetchOptions {
        headers: vec![("X-Key".to_owned(), Secret::new(PASSWORD))],
        user: Some(("user".to_owned(), Secret::new(PASSWORD))),
        ..options(&format!("http://{}", server.host()))
    };
    let fetcher = fetcher(&bed, &options);
    assert!(!format!("{fetcher:?}").contains(PASSWORD));
    for (target, body) in [("same", "here"), ("away", "there"), (&there, "there")] {
        assert_eq!(get(&bed, &fetcher, target).unwrap().given().unwrap(), body);
        let mut bytes = Vec::new();
        let large = open(&fetcher, &bed, target).unwrap();
        large.unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, body.as_bytes());
    }
    for seen in server.seen() {
        let basic = seen.header("authorization");
        assert_eq!(basic, Some("Basic dXNlcjpodW50ZXIy"));
        assert_eq!(seen.header("x-key"), Some(PASSWORD));
    }
    assert_eq!(other.seen().len(), 4);
    for seen in other.seen() {
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.header("x-key"), None);
    }
}

#[test]
fn a_header_for_who_asks_wins_over_the_user() {
    let server = TestServer::http(|_| answer(200));
    let bed = Bed::new();
    let options = FetchOptions {
        headers: vec![("authorization".to_owned(), Secret::new("Bearer token"))],
        user: Some(("user".to_owned(), Secret::new(PASSWORD))),
        ..options(&format!("http://{}", server.host()))
    };
    get(&bed, &fetcher(&bed, &options), "a").unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].header("authorization"), Some("Bearer token"));
}

#[test]
fn what_the_server_itself_is_asked_is_signed() {
    let other = TestServer::http(|_| answer(200));
    let there = format!("http://{}/", other.host());
    let count = AtomicUsize::new(0);
    let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(503).header("Retry-After", "1"),
        1 => answer(302).header("Location", there.clone()),
        _ => answer(200),
    });
    let credentials = AwsCredentials {
        access_key: "AKIA".to_owned(),
        secret_key: Secret::new(PASSWORD),
        session_token: None,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let options = FetchOptions {
        signer: Some(Signer::new(credentials, "eu-west-1", now)),
        retries: 1,
        ..options(&format!("http://{}/bucket", server.host()))
    };
    let bed = Bed::new();
    get(&bed, &fetcher(&bed, &options), "a+b.narinfo").unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].target, "/bucket/a%2Bb.narinfo");
    // Each try has a time of its own, so that the last is not too old.
    assert_ne!(seen[0].header("x-amz-date"), seen[1].header("x-amz-date"));
    for seen in seen {
        let who = seen.header("authorization").unwrap();
        assert!(
            who.contains("=AKIA/20231114/eu-west-1/s3/aws4_request,"),
            "{who}"
        );
        assert!(!who.contains(PASSWORD));
    }
    assert_eq!(other.seen()[0].header("authorization"), None);
    assert_eq!(other.seen()[0].header("x-amz-date"), None);
}

#[test]
fn a_target_stays_where_it_belongs() {
    let server = TestServer::http(|_| answer(200));
    let bed = Bed::new();
    let fetcher = of(&bed, &server, 0);
    for (target, expected) in [
        ("nar/a.nar.xz", "/cache/nar/a.nar.xz"),
        ("nar/a.nar?hash=b%2F", "/cache/nar/a.nar?hash=b%2F"),
        ("//example.org/a", "/cache///example.org/a"),
        ("\\\\example.org/a", "/cache///example.org/a"),
        ("a#part", "/cache/a"),
        ("@example.org", "/cache/@example.org"),
        ("ftp://example.org/", "/cache/ftp://example.org/"),
    ] {
        get(&bed, &fetcher, target).unwrap();
        assert_eq!(server.seen().last().unwrap().target, expected);
    }
    let count = server.seen().len();
    for target in [
        "../other",
        "..",
        "nar/../../a",
        "%2e%2e/a",
        "http://",
        "https://u:p@e.org/a",
    ] {
        let error = get(&bed, &fetcher, target).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Remote);
        assert!(!shown(&error).contains("u:p"), "{error}");
    }
    assert_eq!(server.seen().len(), count);
}

#[test]
fn what_is_no_server_is_refused() {
    let bed = Bed::new();
    for base in [
        "",
        "example.org",
        "ftp://example.org",
        "file:///nix",
        "https://",
        "https://example.org/?a",
        "https://example.org/#a",
        &format!("https://user:{PASSWORD}@example.org"),
    ] {
        let options = FetchOptions {
            shown: "the cache".to_owned(),
            ..options(base)
        };
        let error = Fetcher::new(Arc::clone(&bed.runtime), &options).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Input, "{base}");
        assert!(shown(&error).starts_with("the cache: "), "{error}");
    }
    for (name, value) in [("a b", "x"), ("", "x"), ("Range", "x"), ("host", "x")] {
        let options = FetchOptions {
            headers: vec![(name.to_owned(), Secret::new(value))],
            ..options("https://example.org")
        };
        let error = Fetcher::new(Arc::clone(&bed.runtime), &options).unwrap_err();
        assert!(shown(&error).starts_with(&format!("header {name:?} for ")));
    }
    let options = FetchOptions {
        headers: vec![("x".to_owned(), Secret::new(format!("{PASSWORD}\n")))],
        ..options("https://example.org")
    };
    let error = Fetcher::new(Arc::clone(&bed.runtime), &options).unwrap_err();
    assert!(shown(&error).ends_with("characters that no header can have"));
}

#[test]
fn https_stays_https() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let plain = TestServer::http(|_| answer(200).body("plain"));
    let there = format!("http://{}/", plain.host());
    let server = TestServer::https(
        authority.server("127.0.0.1", None),
        move |seen| match &*seen.target {
            "/away" => answer(302).header("Location", there.clone()),
            _ => answer(200).body("here"),
        },
    );
    let bed = Bed::new();
    let tls = |base: String, verify: bool| FetchOptions {
        tls: TlsOptions {
            verify,
            ca_files: vec![authority.file(directory.path())],
            ..TlsOptions::default()
        },
        ..options(&base)
    };
    let fetcher = |base, verify| fetcher(&bed, &tls(base, verify));
    let ours = fetcher(format!("https://{}", server.host()), true);
    assert_eq!(get(&bed, &ours, "here").unwrap().given().unwrap(), "here");
    let error = get(&bed, &ours, "away").unwrap_err();
    assert!(shown(&error).ends_with("which is not https"), "{error}");
    let error = get(&bed, &ours, &format!("http://{}/", plain.host())).unwrap_err();
    assert!(shown(&error).ends_with("which is not https"), "{error}");

    // Nor does a server on this machine, or one that is believed whatever its
    // certificate says, make it HTTP.
    for verify in [true, false] {
        let fetcher = fetcher(format!("https://{}", plain.host()), verify);
        get(&bed, &fetcher, "a").unwrap_err();
    }
    assert_eq!(plain.seen().len(), 0);
}

#[test]
fn a_far_server_cannot_send_us_to_this_machine() {
    let near = TestServer::http(|_| answer(200));
    for named in [
        near.host(),
        format!("localhost:{}", near.port()),
        "10.0.0.1".to_owned(),
    ] {
        let named = format!("http://{named}/");
        let way = named.clone();
        // It answers in the place of a server on the internet.
        let proxy = TestServer::http(move |_| answer(307).header("Location", way.clone()));
        let address = format!("http://user:{PASSWORD}@{}", proxy.host());
        let options = FetchOptions {
            proxy: ProxyOptions {
                http: Some(Secret::new(address)),
                ..ProxyOptions::default()
            },
            ..options("http://cache.example")
        };
        let bed = Bed::new();
        let fetcher = fetcher(&bed, &options);
        for target in ["a", &named] {
            let text = shown(&get(&bed, &fetcher, target).unwrap_err());
            assert!(text.contains("is on a private network"), "{text}");
        }
        let seen = proxy.seen();
        assert_eq!(seen[0].target, "http://cache.example/a");
        assert_eq!(seen.len(), 1);
    }
    assert_eq!(near.seen().len(), 0);
}

#[test]
fn a_wait_can_be_cancelled() {
    let silent = TestServer::http(|_| {
        thread::sleep(Duration::from_secs(20));
        answer(200)
    });
    let busy = TestServer::http(|_| answer(503).header("Retry-After", "100"));
    for server in [&silent, &busy] {
        let bed = Bed::new();
        let options = FetchOptions {
            retries: 5,
            limits: PATIENT,
            ..options(&format!("http://{}", server.host()))
        };
        let fetcher = fetcher(&bed, &options);
        let cancel = bed.cx.cancel.clone();
        let canceller = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            cancel.cancel();
            Instant::now()
        });
        let error = get(&bed, &fetcher, "a").unwrap_err();
        assert_eq!(error.class(), ErrorClass::Cancelled);
        let late = canceller.join().unwrap().elapsed();
        // A machine that does much else may be late itself.
        assert!(late < Duration::from_secs(5), "{late:?}");
    }
}
