//! Redirects, upload sessions, and what of them leaves for another server.

use std::sync::Mutex;

use super::super::request::{Request, Target};
use super::super::test_bed::{Authority, Bed, ca_file, get, put, shown, with_password, with_tls};
use super::*;
use crate::error::ErrorClass;
use crate::net::TlsOptions;
use crate::net::test_server::{TestServer, answer};

#[test]
fn a_redirect_is_followed_without_credentials() {
    // CVE-2020-15157: containerd sent its credentials along.
    let other = TestServer::http(|_| answer(200).body("there"));
    let there = format!("http://{}/blob?signature=hunter2", other.host());
    let server = TestServer::http(move |seen| match seen.header("authorization") {
        None => answer(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        Some(_) if seen.target == "/v2/same" => answer(302).header("Location", "elsewhere"),
        Some(_) => answer(307).header("Location", there.clone()),
    });
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &with_password());
    for path in ["/v2/blob", "/v2/same"] {
        let taken = bed.send(&transport, get(path)).unwrap();
        assert_eq!((&*taken.path, &*taken.body), ("/blob", &b"there"[..]));
    }
    for seen in other.seen() {
        assert_eq!(seen.header("authorization"), None);
    }
    let followed: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        followed,
        ["/v2/blob", "/v2/blob", "/v2/same", "/v2/elsewhere"]
    );
}

#[test]
fn a_way_back_does_not_bring_the_credentials_back() {
    let back = Arc::new(Mutex::new(String::new()));
    let way = Arc::clone(&back);
    let other = TestServer::http(move |_| answer(307).header("Location", &**way.lock().unwrap()));
    let there = format!("http://{}/", other.host());
    let server = TestServer::http(move |seen| match seen.header("authorization") {
        None => answer(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        Some(_) => answer(307).header("Location", there.clone()),
    });
    *back.lock().unwrap() = format!("http://{}/v2/secret", server.host());
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &with_password());
    let error = bed.send(&transport, get("/v2/blob")).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    for seen in server.seen() {
        let is_secret = seen.target == "/v2/secret";
        assert!(!is_secret || seen.header("authorization").is_none());
    }
}

#[test]
fn redirects_have_an_end() {
    let server = TestServer::http(|_| answer(302).header("Location", "/v2/again"));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &with_tls(TlsOptions::default()));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert!(shown(&error).ends_with("more than 10 redirects, one after another"));
    assert_eq!(server.seen().len(), 11);
}

#[test]
fn a_change_is_not_redirected_elsewhere() {
    let other = TestServer::http(|_| answer(201));
    for (status, location, is_followed) in [
        (307, "/v2/there".to_owned(), true),
        (308, "/v2/there".to_owned(), true),
        (302, "/v2/there".to_owned(), false),
        (307, format!("http://{}/", other.host()), false),
    ] {
        let server = TestServer::http(move |seen| match &*seen.target {
            "/v2/there" => answer(201),
            _ => answer(status).header("Location", location.clone()),
        });
        let bed = Bed::new();
        let transport = bed.transport(&server.host(), &with_tls(TlsOptions::default()));
        let request = put("/v2/", Body::Bytes(bytes::Bytes::from_static(b"body")));
        let result = bed.send(&transport, request);
        assert_eq!(result.is_ok(), is_followed, "{status}");
        if is_followed {
            assert_eq!(server.seen()[1].body, b"body");
        }
    }
    assert_eq!(other.seen().len(), 0);
}

#[test]
fn https_does_not_lead_to_http() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let plain = TestServer::http(|_| answer(200).body(r#"{"token":"x"}"#));
    let there = format!("http://{}/", plain.host());
    let server = TestServer::https(
        authority.server("127.0.0.1", None),
        move |seen| match &*seen.target {
            "/v2/realm" => {
                answer(401).header("WWW-Authenticate", format!("Bearer realm=\"{there}\""))
            }
            _ => answer(302).header("Location", there.clone()),
        },
    );
    let bed = Bed::new();
    let options = RegistryOptions {
        credentials: with_password().credentials,
        ..with_tls(ca_file(directory.path(), &authority))
    };
    let transport = bed.transport(&server.host(), &options);
    let session = Request {
        target: Target::Session(Url::parse(&format!("http://{}/", plain.host())).unwrap()),
        ..get("")
    };
    for request in [get("/v2/realm"), get("/v2/redirect"), session] {
        let error = bed.send(&transport, request).unwrap_err();
        let text = shown(&error);
        assert!(text.contains("which is not https"), "{text}");
    }
    assert_eq!(plain.seen().len(), 0);

    // But the registry itself, named by http, is meant as it was asked.
    let own = format!("http://{}/v2/own", server.host());
    let session = Request {
        target: Target::Session(Url::parse(&own).unwrap()),
        accept: &[302],
        ..get("")
    };
    assert_eq!(bed.send(&transport, session).unwrap().status, 302);
}

#[test]
fn a_session_elsewhere_sees_no_credentials() {
    let other = TestServer::http(|seen| match &*seen.target {
        "/denied" => answer(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        _ => answer(201),
    });
    let server = TestServer::http(|seen| match seen.header("authorization") {
        None => answer(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        Some(_) => answer(200),
    });
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &with_password());
    bed.send(&transport, get("/v2/")).unwrap();
    let session = |path: &str| Request {
        target: Target::Session(Url::parse(&format!("http://{}/{path}", other.host())).unwrap()),
        ..put("", Body::Empty)
    };
    bed.send(&transport, session("upload?state=hunter2"))
        .unwrap();
    let error = bed.send(&transport, session("denied")).unwrap_err();
    // It is not the registry that refuses.
    assert_eq!(error.class(), ErrorClass::Remote);
    assert!(shown(&error).starts_with(&other.host()));
    for seen in other.seen() {
        assert_eq!(seen.header("authorization"), None);
    }
}

#[test]
fn a_path_is_not_another_server() {
    let server = TestServer::http(|_| answer(200));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &with_password());
    for path in [
        "//example.org/v2/",
        "https://example.org/",
        "\\\\example.org/",
    ] {
        let error = bed.send(&transport, get(path)).unwrap_err();
        assert!(shown(&error).ends_with("the request has no address"));
    }
    assert_eq!(server.seen().len(), 0);
}
