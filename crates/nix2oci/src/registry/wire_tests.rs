//! Schemes, TLS, proxies and redirects.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::super::request::{Request, Target};
use super::super::test_bed::{Bed, PASSWORD, get, put, shown, with_password};
use super::*;
use crate::credentials::Secret;
use crate::error::ErrorClass;
use crate::net::test_server::{TestServer, answer, read_head};
use crate::net::{ProxyOptions, TlsOptions};

/// An authority of certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Makes the configuration of a server with this name, which wants client
    /// certificates of an authority or none.
    fn server(&self, name: &str, clients: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (certificate, key) = self.sign(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(
            builder
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap(),
        )
    }
}

fn with_tls(tls: TlsOptions) -> RegistryOptions {
    RegistryOptions {
        tls,
        retries: 5,
        ..RegistryOptions::default()
    }
}

fn ca_file(directory: &Path, authority: &Authority) -> TlsOptions {
    let file = directory.join("ca.pem");
    fs::write(&file, authority.0.pem()).unwrap();
    TlsOptions {
        ca_files: vec![file],
        ..TlsOptions::default()
    }
}

#[test]
fn a_loopback_registry_may_speak_tls() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let server = TestServer::https(authority.server("127.0.0.1", None), |_| answer(200));
    let bed = Bed::new();
    let options = with_tls(ca_file(directory.path(), &authority));
    bed.send(&bed.transport(&server.host(), &options), get("/v2/"))
        .unwrap();
    assert_eq!(server.seen().len(), 1, "nothing but the request itself");
}

#[test]
fn a_wrong_certificate_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for (name, tls, expected) in [
        (
            "127.0.0.1",
            ca_file(directory.path(), &theirs),
            "its certificate is signed by an authority that is not trusted",
        ),
        (
            "other.example",
            ca_file(directory.path(), &ours),
            "its certificate is for another name",
        ),
    ] {
        // The file is the same for both.
        fs::write(
            directory.path().join("ca.pem"),
            if name == "127.0.0.1" {
                theirs.0.pem()
            } else {
                ours.0.pem()
            },
        )
        .unwrap();
        let server = TestServer::https(ours.server(name, None), |_| answer(200));
        let bed = Bed::new();
        let transport = bed.transport(&server.host(), &with_tls(tls));
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        assert_eq!(
            shown(&error),
            format!("failed to give the thing at {}: {expected}", server.host())
        );
        assert_eq!(bed.told(), [""; 0], "it is not repeated");

        let anything = TlsOptions {
            verify: false,
            ..TlsOptions::default()
        };
        let transport = bed.transport(&server.host(), &with_tls(anything));
        bed.send(&transport, get("/v2/")).unwrap();
    }
}

/// Makes the certificate of a server that is its own authority and says so, as
/// `openssl req -x509` does.
fn own_authority(name: &str, has_ended: bool) -> (String, Arc<ServerConfig>) {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if has_ended {
        parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (certificate.pem(), Arc::new(config))
}

#[test]
fn a_server_may_be_its_own_authority() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    for (name, has_ended, is_given, problem) in [
        ("127.0.0.1", false, true, None),
        ("127.0.0.1", true, true, Some("has expired")),
        ("127.0.0.2", false, true, Some("is for another name")),
        ("127.0.0.1", false, false, Some("is not trusted")),
    ] {
        let (pem, config) = own_authority(name, has_ended);
        let server = TestServer::https(config, |_| answer(200));
        let other = Authority::new("other").0.pem();
        fs::write(&file, if is_given { pem } else { other }).unwrap();
        let tls = TlsOptions {
            ca_files: vec![file.clone()],
            ..TlsOptions::default()
        };
        let bed = Bed::new();
        let transport = bed.transport(&server.host(), &with_tls(tls));
        let found = bed.send(&transport, get("/v2/"));
        match problem {
            None => assert!(found.is_ok()),
            Some(problem) => {
                let text = shown(&found.unwrap_err());
                assert!(text.contains(problem), "{text}");
            }
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_the_registry_only() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("ours"), Authority::new("clients"));
    let config = || authority.server("127.0.0.1", Some(&clients));
    let other = TestServer::https(config(), |_| answer(200));
    let elsewhere = format!("https://{}/", other.host());
    let server = TestServer::https(config(), move |seen| match &*seen.target {
        "/v2/elsewhere" => answer(307).header("Location", elsewhere.clone()),
        _ => answer(200),
    });

    let per_host = directory.path().join(server.host());
    fs::create_dir(&per_host).unwrap();
    fs::write(per_host.join("ca.crt"), authority.0.pem()).unwrap();
    let (certificate, key) = clients.sign("client");
    fs::write(per_host.join("client.cert"), certificate.pem()).unwrap();
    fs::write(per_host.join("client.key"), key.serialize_pem()).unwrap();
    let tls = TlsOptions {
        host_cert_dirs: vec![directory.path().to_owned(), "/nowhere".into()],
        ..TlsOptions::default()
    };
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &with_tls(tls));
    bed.send(&transport, get("/v2/")).unwrap();
    let error = bed.send(&transport, get("/v2/elsewhere")).unwrap_err();
    assert!(shown(&error).contains("TLS failed: "), "{error}");
    assert_eq!(other.seen().len(), 0);

    let tls = TlsOptions {
        cert_dirs: vec![per_host],
        ..TlsOptions::default()
    };
    let transport = bed.transport(&server.host(), &with_tls(tls));
    bed.send(&transport, get("/v2/")).unwrap();
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("empty.pem"), "").unwrap();
    fs::write(
        path("broken.pem"),
        "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for name in ["cert-only", "key-only", "bad-key"] {
        fs::create_dir(path(name)).unwrap();
    }
    let pem = Authority::new("x").0.pem();
    fs::write(path("cert-only/a.cert"), &pem).unwrap();
    fs::write(path("key-only/a.key"), "").unwrap();
    fs::write(path("bad-key/a.cert"), &pem).unwrap();
    fs::write(path("bad-key/a.key"), "hunter2").unwrap();

    let files = |name: &str| TlsOptions {
        ca_files: vec![path(name)],
        ..TlsOptions::default()
    };
    let directories = |name: &str| TlsOptions {
        cert_dirs: vec![path(name)],
        ..TlsOptions::default()
    };
    let bed = Bed::new();
    for (tls, expected) in [
        (files("empty.pem"), "empty.pem: no certificate in PEM"),
        (files("broken.pem"), "broken.pem: not PEM"),
        (files("missing.pem"), "missing.pem"),
        (directories("missing"), "missing"),
        (directories("cert-only"), "a.key is missing"),
        (directories("key-only"), "a.cert is missing"),
        (directories("bad-key"), "a.key: no private key in PEM"),
    ] {
        let transport =
            super::super::transport::Transport::new(&bed.cx, "registry.example", &with_tls(tls));
        let error = transport.err().unwrap();
        let text = shown(&error);
        assert!(text.contains(expected), "{text}");
        assert_eq!(error.class(), ErrorClass::Input);
    }
}

fn with_proxy(proxy: &TestServer) -> RegistryOptions {
    let address = Secret::new(format!("http://proxy-user:{PASSWORD}@{}", proxy.host()));
    RegistryOptions {
        proxy: ProxyOptions {
            https: Some(address.clone()),
            http: Some(address),
            none: None,
        },
        retries: 0,
        ..RegistryOptions::default()
    }
}

const PROXY_USER: &str = "Basic cHJveHktdXNlcjpodW50ZXIy";

/// A proxy that connects to one server, whatever it is asked for; returns what
/// it was asked too.
fn tunnel(to: &TestServer) -> (TestServer, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, to) = (Arc::clone(&asked), to.host());
    let proxy = TestServer::raw(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let seen = read_head(&mut reader).unwrap().unwrap();
        let user = seen.header("proxy-authorization").unwrap_or_default();
        log.lock()
            .unwrap()
            .push(format!("{} {} {user}", seen.method, seen.target));
        let server = TcpStream::connect(&to).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut back = (server.try_clone().unwrap(), stream.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut back.0, &mut back.1);
            let _ = back.1.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut reader, &mut &server);
        let _ = server.shutdown(Shutdown::Both);
    });
    (proxy, asked)
}

#[test]
fn https_goes_through_a_tunnel() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let config = authority.server("registry.example", None);
    let server = TestServer::https(config, |_| answer(200));
    let (proxy, asked) = tunnel(&server);
    let options = RegistryOptions {
        tls: ca_file(directory.path(), &authority),
        ..with_proxy(&proxy)
    };
    let bed = Bed::new();
    let transport = bed.transport("registry.example", &options);
    bed.send(&transport, get("/v2/")).unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        [format!("CONNECT registry.example:443 {PROXY_USER}")]
    );
    assert_eq!(server.seen()[0].header("proxy-authorization"), None);
}

#[test]
fn http_is_asked_of_the_proxy() {
    let proxy = TestServer::http(|_| answer(200));
    let options = RegistryOptions {
        plain_http: true,
        ..with_proxy(&proxy)
    };
    let bed = Bed::new();
    let transport = bed.transport("registry.example:5000", &options);
    bed.send(&transport, get("/v2/")).unwrap();
    let seen = proxy.seen();
    assert_eq!(seen[0].target, "http://registry.example:5000/v2/");
    assert_eq!(seen[0].header("proxy-authorization"), Some(PROXY_USER));
}

#[test]
fn a_proxy_that_refuses_is_told_without_its_password() {
    for (status, expected) in [
        (407, "proxy authorization required"),
        (502, "tunnel error: unsuccessful"),
    ] {
        let proxy = TestServer::http(move |_| answer(status));
        let bed = Bed::new();
        let transport = bed.transport("registry.example", &with_proxy(&proxy));
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        let text = shown(&error);
        assert!(text.contains(expected), "{text}");
    }
}

/// Answers as a registry on the internet, which a proxy stands in for.
fn far_registry(
    answer_of: fn(&str) -> crate::net::test_server::Answer,
    named: String,
) -> TestServer {
    TestServer::http(move |_| answer_of(&named))
}

#[test]
fn a_far_registry_cannot_send_us_to_this_machine() {
    let near = TestServer::http(|_| answer(200).body(r#"{"token":"x"}"#));
    let challenge: fn(&str) -> _ =
        |named| answer(401).header("WWW-Authenticate", format!("Bearer realm=\"{named}\""));
    let redirect: fn(&str) -> _ = |named| answer(307).header("Location", named);
    for answer_of in [challenge, redirect] {
        for host in [
            format!("127.0.0.1:{}", near.port()),
            format!("localhost:{}", near.port()),
            format!("[::ffff:127.0.0.1]:{}", near.port()),
            format!("2130706433:{}", near.port()),
            "169.254.169.254".to_owned(),
            "10.0.0.1".to_owned(),
        ] {
            let proxy = far_registry(answer_of, format!("http://{host}/token"));
            let options = RegistryOptions {
                plain_http: true,
                credentials: with_password().credentials,
                ..with_proxy(&proxy)
            };
            let bed = Bed::new();
            let transport = bed.transport("registry.example", &options);
            let error = bed.send(&transport, get("/v2/")).unwrap_err();
            let text = shown(&error);
            assert!(text.contains("is on a private network"), "{text}");
        }
    }
    assert_eq!(near.seen().len(), 0);
}

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
