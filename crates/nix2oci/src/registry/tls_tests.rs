//! Whom TLS believes, and who is shown the client certificate.

use std::fs;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use super::super::test_bed::{Authority, Bed, ca_file, get, shown, with_tls};
use super::super::transport::Transport;
use crate::error::ErrorClass;
use crate::net::TlsOptions;
use crate::net::test_server::{TestServer, answer};

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
    for (name, trusted, expected) in [
        (
            "127.0.0.1",
            &theirs,
            "its certificate is signed by an authority that is not trusted",
        ),
        (
            "other.example",
            &ours,
            "its certificate is for another name",
        ),
    ] {
        let tls = ca_file(directory.path(), trusted);
        let server = TestServer::https(ours.server(name, None), |_| answer(200));
        let bed = Bed::new();
        let transport = bed.transport(&server.host(), &with_tls(tls));
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        assert_eq!(
            shown(&error),
            format!(
                "{} did not answer when asked to give the thing: {expected}",
                server.host()
            )
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
        let transport = Transport::new(&bed.cx, "registry.example", &with_tls(tls));
        let error = transport.err().unwrap();
        let text = shown(&error);
        assert!(text.contains(expected), "{text}");
        assert_eq!(error.class(), ErrorClass::Input);
    }
}
