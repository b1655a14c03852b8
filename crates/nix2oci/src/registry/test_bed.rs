//! What the tests of the transport share.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use reqwest::Method;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::RegistryOptions;
use super::request::{Body, Request, Scope, Target};
use super::transport::Transport;
use crate::context::{Context, Event, Observer};
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::error::Result;
use crate::net::test_server::TestServer;
use crate::net::{Limits, ProxyOptions, Runtime, TlsOptions};

/// A runtime, and a context that keeps what it is told.
pub(super) struct Bed {
    pub(super) runtime: Runtime,
    pub(super) cx: Context,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// An answer that was accepted.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) status: u16,
    pub(super) path: String,
    pub(super) body: Bytes,
}

/// Short enough to wait for.
pub(super) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    stall: Duration::from_millis(400),
    answer: Duration::from_millis(400),
    blob_answer: Duration::from_millis(1500),
};

/// Long enough to be cancelled.
pub(super) const PATIENT: Limits = Limits {
    connect: Duration::from_secs(60),
    stall: Duration::from_secs(60),
    answer: Duration::from_secs(60),
    blob_answer: Duration::from_secs(60),
};

impl Bed {
    pub(super) fn new() -> Self {
        let told = Arc::new(Told::default());
        Self {
            runtime: Runtime::start().unwrap(),
            cx: Context {
                observer: Arc::clone(&told) as Arc<dyn Observer>,
                ..Context::default()
            },
            told,
        }
    }

    pub(super) fn transport(&self, host: &str, options: &RegistryOptions) -> Transport {
        Transport::with_limits(&self.cx, host, options, LIMITS).unwrap()
    }

    pub(super) fn send(&self, transport: &Transport, request: Request) -> Result<Taken> {
        let transport = transport.clone();
        self.runtime
            .block_on(&self.cx, async move { take(&transport, request).await })
    }

    /// Returns the events so far, and checks that they show no secret.
    pub(super) fn told(&self) -> Vec<String> {
        let told = self.told.0.lock().unwrap().clone();
        assert!(!told.iter().any(|event| event.contains(PASSWORD)));
        told
    }
}

/// Sends a request and reads the answer.
pub(super) async fn take(transport: &Transport, request: Request) -> Result<Taken> {
    let response = transport.send(request, None).await?;
    Ok(Taken {
        status: response.status,
        path: response.url.path().to_owned(),
        body: response.bytes(1024 * 1024).await?,
    })
}

pub(super) fn scope() -> Scope {
    Scope {
        repository: "app".to_owned(),
        push: true,
        mount_from: None,
    }
}

/// Makes a request for a path.
pub(super) fn get(path: &str) -> Request {
    let target = Target::Api(path.to_owned());
    Request::new(Method::GET, target, scope(), "give the thing".to_owned())
}

/// Makes a request with a body.
pub(super) fn put(path: &str, body: Body) -> Request {
    Request {
        method: Method::PUT,
        body,
        accept: &[201],
        action: "take the thing".to_owned(),
        ..get(path)
    }
}

/// Always says the same.
pub(super) struct Known(pub(super) Credentials);

impl CredentialSource for Known {
    fn find(&self, host: &str, repository: &str) -> Result<Credentials> {
        assert_eq!(repository, "app", "{host}");
        Ok(self.0.clone())
    }
}

/// The password of all tests: it must be nowhere to be seen.
pub(super) const PASSWORD: &str = "hunter2";

pub(super) fn with_password() -> RegistryOptions {
    with(Credentials::Password {
        user: "user".to_owned(),
        password: Secret::new(PASSWORD),
    })
}

pub(super) fn with(credentials: Credentials) -> RegistryOptions {
    RegistryOptions {
        credentials: Arc::new(Known(credentials)),
        ..RegistryOptions::default()
    }
}

/// Shows an error with its causes, and checks that it shows no secret.
pub(super) fn shown(error: &crate::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    let all = format!("{text} {error:?}");
    assert!(!all.contains(PASSWORD), "{all}");
    text
}

/// An authority of certificates.
pub(super) struct Authority(pub(super) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Makes the configuration of a server with this name, which wants client
    /// certificates of an authority or none.
    pub(super) fn server(&self, name: &str, clients: Option<&Self>) -> Arc<ServerConfig> {
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

pub(super) fn with_tls(tls: TlsOptions) -> RegistryOptions {
    RegistryOptions {
        tls,
        retries: 5,
        ..RegistryOptions::default()
    }
}

pub(super) fn ca_file(directory: &Path, authority: &Authority) -> TlsOptions {
    let file = directory.join("ca.pem");
    fs::write(&file, authority.0.pem()).unwrap();
    TlsOptions {
        ca_files: vec![file],
        ..TlsOptions::default()
    }
}

pub(super) fn with_proxy(proxy: &TestServer) -> RegistryOptions {
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
