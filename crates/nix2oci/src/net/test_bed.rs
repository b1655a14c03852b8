//! What the tests of HTTP share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::{Limits, Runtime, Slowest};
use crate::context::{Context, Event, Observer};

/// A runtime, and a context that keeps what it is told.
pub(crate) struct Bed {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) cx: Context,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// Short enough to wait for.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    stall: Duration::from_millis(400),
    answer: Duration::from_millis(400),
    blob_answer: Duration::from_millis(1500),
    waits: Duration::from_secs(60),
    slowest: SLOWEST,
};

/// Long enough to be cancelled.
pub(crate) const PATIENT: Limits = Limits {
    connect: Duration::from_secs(60),
    stall: Duration::from_secs(60),
    answer: Duration::from_secs(60),
    blob_answer: Duration::from_secs(60),
    waits: Duration::from_secs(600),
    slowest: SLOWEST,
};

/// Slower than any test.
const SLOWEST: Slowest = Slowest {
    bytes: 1,
    time: Duration::from_secs(600),
};

impl Bed {
    pub(crate) fn new() -> Self {
        let told = Arc::new(Told::default());
        Self {
            runtime: Arc::new(Runtime::start().unwrap()),
            cx: Context {
                observer: Arc::clone(&told) as Arc<dyn Observer>,
                ..Context::default()
            },
            told,
        }
    }

    /// Returns the events so far, and checks that they show no secret.
    pub(crate) fn told(&self) -> Vec<String> {
        let told = self.told.0.lock().unwrap().clone();
        assert!(!told.iter().any(|event| event.contains(PASSWORD)));
        told
    }
}

/// The password of all tests: it must be nowhere to be seen.
pub(crate) const PASSWORD: &str = "hunter2";

/// Shows an error with its causes, and checks that it shows no secret.
pub(crate) fn shown(error: &crate::error::Error) -> String {
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
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn sign(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Makes the configuration of a server with this name, which wants client
    /// certificates of an authority or none.
    pub(crate) fn server(&self, name: &str, clients: Option<&Self>) -> Arc<ServerConfig> {
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

    /// Writes its certificate to a file.
    pub(crate) fn file(&self, directory: &Path) -> PathBuf {
        let file = directory.join("ca.pem");
        fs::write(&file, self.0.pem()).unwrap();
        file
    }
}
