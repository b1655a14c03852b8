//! Whom TLS believes, and how it shows who asks.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, OtherError,
    RootCertStore, SignatureScheme, WantsVerifier,
};

use super::TlsOptions;
use crate::error::{Error, Location, Result};
use crate::input::{InputKind, read_file};

/// What the files of [`TlsOptions`] hold for one server.
pub(crate) struct Certificates {
    verify: bool,
    /// Further authorities, each with its file.
    authorities: Vec<(PathBuf, CertificateDer<'static>)>,
    /// A client certificate with its chain and its key.
    client: Option<(
        PathBuf,
        Vec<CertificateDer<'static>>,
        PrivateKeyDer<'static>,
    )>,
}

impl Certificates {
    /// Reads the files for a server: its host, with the port if one is written.
    /// Where several client certificates are there, the first one counts:
    /// directories as they are given, names in order.
    pub(crate) fn read(options: &TlsOptions, host: &str) -> Result<Self> {
        let mut found = Self {
            verify: options.verify,
            authorities: Vec::new(),
            client: None,
        };
        for file in &options.ca_files {
            found.read_authorities(file)?;
        }
        for directory in &options.cert_dirs {
            found.read_directory(directory)?;
        }
        for directories in &options.host_cert_dirs {
            let directory = directories.join(host);
            match found.read_directory(&directory) {
                Err(error) if is_not_there(&error, &directory) => {}
                result => result?,
            }
        }
        Ok(found)
    }

    fn read_directory(&mut self, directory: &Path) -> Result<()> {
        let mut files = fs::read_dir(directory)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(Error::reading(directory))?;
        files.sort();
        for file in &files {
            let partner = |extension| {
                let partner = file.with_extension(extension);
                if files.contains(&partner) {
                    return Ok(partner);
                }
                Err(Error::invalid(
                    file.display().to_string(),
                    format!(
                        "{} is missing; a client certificate NAME.cert and its key NAME.key go together",
                        partner.display()
                    ),
                ))
            };
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.read_authorities(file)?,
                Some("cert") => self.read_client(file, &partner("key")?)?,
                Some("key") => drop(partner("cert")?),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_authorities(&mut self, file: &Path) -> Result<()> {
        for certificate in read_certificates(file)? {
            self.authorities.push((file.to_owned(), certificate));
        }
        Ok(())
    }

    fn read_client(&mut self, file: &Path, key_file: &Path) -> Result<()> {
        if self.client.is_some() {
            return Ok(());
        }
        let certificates = read_certificates(file)?;
        let key = read_file(key_file, InputKind::Certificates)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| not_pem(key_file, "no private key in PEM"))?;
        self.client = Some((file.to_owned(), certificates, key));
        Ok(())
    }

    /// Makes the configuration of TLS. Reads the system's authorities: about
    /// 10 ms. `is_home` says whether it is for the home itself: nobody else
    /// is shown the client certificate.
    pub(crate) fn to_config(&self, is_home: bool) -> Result<ClientConfig> {
        let builder = if self.verify {
            let builder = builder();
            let provider = Arc::clone(builder.crypto_provider());
            let chains =
                WebPkiServerVerifier::builder_with_provider(self.roots()?.into(), provider)
                    .build()
                    .expect("there are roots and no revocation lists");
            let own = self.authorities.iter();
            let own = own.map(|(_, certificate)| certificate.clone()).collect();
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ChainOrItself { chains, own }))
        } else {
            any_server()
        };
        match &self.client {
            Some((file, certificates, key)) if is_home => builder
                .with_client_auth_cert(certificates.clone(), key.clone_key())
                .map_err(|error| {
                    Error::invalid(
                        file.display().to_string(),
                        format!("not a client certificate that TLS can use: {error}"),
                    )
                }),
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// Returns the system's authorities and the further ones.
    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for (file, certificate) in &self.authorities {
            roots.add(certificate.clone()).map_err(|error| {
                Error::invalid(
                    file.display().to_string(),
                    format!("not the certificate of an authority: {error}"),
                )
            })?;
        }
        // A system has authorities that rustls cannot read; others are enough.
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err(Error::invalid(
                "certificate authorities",
                "this system has none, so no server can be believed; expected a file of them",
            ));
        }
        Ok(roots)
    }
}

/// Makes a configuration that believes every server, for connections that
/// nothing is sent over.
pub(crate) fn unchecked_config() -> ClientConfig {
    any_server().with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
}

fn any_server() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let builder = builder();
    let provider = Arc::clone(builder.crypto_provider());
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer { provider }))
}

/// Returns whether a directory itself is not there.
fn is_not_there(error: &Error, directory: &Path) -> bool {
    use crate::error::ErrorKind::ReadInput;
    matches!(error.kind(), ReadInput { path, source }
        if path == directory && source.kind() == io::ErrorKind::NotFound)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read_file(file, InputKind::Certificates)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(file, &format!("not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(not_pem(file, "no certificate in PEM"));
    }
    Ok(certificates)
}

fn not_pem(file: &Path, problem: &str) -> Error {
    Error::document(file.display().to_string(), Location::Whole, problem)
}

/// Believes a certificate that an authority signed, as usual, and one that is
/// itself among those that the user gave.
///
/// The certificate that `openssl req -x509` makes for a registry is its own
/// authority and marked as one. Its owner gives it as the authority, and Go, so
/// docker and podman, take it; webpki does not, as an authority must not be a
/// server.
#[derive(Debug)]
struct ChainOrItself {
    chains: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ChainOrItself {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = self
            .chains
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match found {
            // Found after its time was checked, and before its name is.
            Err(error) if is_authority_itself(&error) && self.own.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Returns whether a server's certificate is refused because it is marked as
/// that of an authority. rustls hands this error of webpki's on as it is.
pub(super) fn is_authority_itself(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error
    else {
        return false;
    };
    error.to_string() == "CaUsedAsEndEntity"
}

/// Takes any server for the one that it says it is.
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for AnyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyServer")
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // The signatures are not looked at either: certificates too old for their
    // keys to be read are a reason why people switch the check off.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
