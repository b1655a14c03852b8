//! Whom TLS believes.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::TlsOptions;
use crate::error::{Error, Result};

/// Makes the configuration of TLS for one registry.
pub(crate) fn client_config(_options: &TlsOptions, _host: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let _ = roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("TLS", error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
