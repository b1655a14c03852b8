//! Certificates for tests: an authority of our own and what it signs.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// A certificate authority that nobody trusts but who is told to.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate alone, without the authority's.
    pub pem: String,
    /// The private key, in PKCS 8.
    pub key_pem: String,
}

impl TestCa {
    /// Makes an authority with a new key.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        let pem = certificate.pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Returns the authority's own certificate in PEM: what clients trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for a server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Certificate {
        self.sign(names, "server", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Signs a certificate for a server on the loopback interface.
    pub fn loopback(&self) -> Certificate {
        self.server(&["localhost", "127.0.0.1", "::1"])
    }

    /// Signs a certificate that a client shows.
    pub fn client(&self, name: &str) -> Certificate {
        self.sign(&[], name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, names: &[&str], name: &str, usage: ExtendedKeyUsagePurpose) -> Certificate {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are DNS names");
        params.distinguished_name = common_name(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = new_key();
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are valid");
        Certificate {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Returns what a server on the loopback interface needs that has a
    /// certificate of this authority. With `clients`, it asks clients for a
    /// certificate that this other authority signed, and refuses those without.
    pub fn server_config(&self, clients: Option<&Self>) -> Arc<ServerConfig> {
        let certificate = self.loopback();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has all of them");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(der(ca.pem()))
                    .expect("an authority of ours can be trusted");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .expect("there is a root");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())
            .expect("the key was just written");
        let mut config = builder
            .with_single_cert(vec![der(&certificate.pem)], key)
            .expect("certificate and key belong together");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Returns the bytes of a certificate in PEM.
pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("the certificate was just written")
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has random numbers")
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TestCa").field(&self.pem).finish()
    }
}
