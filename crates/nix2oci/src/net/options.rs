//! How servers are reached and believed.

use std::path::PathBuf;

use crate::credentials::Secret;

/// Whom TLS believes, and how it shows who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Whether a server's certificate is checked at all.
    pub verify: bool,
    /// Files of further authorities, in PEM, beside those of the system.
    pub ca_files: Vec<PathBuf>,
    /// Directories as skopeo and podman take them with `--cert-dir`: every
    /// `*.crt` is an authority, `NAME.cert` and `NAME.key` are a client
    /// certificate and its key. A directory that is not there is an error.
    pub cert_dirs: Vec<PathBuf>,
    /// Directories with one such directory for each registry, named as its
    /// host with the port: `/etc/docker/certs.d`. They need not be there.
    pub host_cert_dirs: Vec<PathBuf>,
}

impl Default for TlsOptions {
    /// Certificates are checked, against the system's authorities.
    fn default() -> Self {
        Self {
            verify: true,
            ca_files: Vec::new(),
            cert_dirs: Vec::new(),
            host_cert_dirs: Vec::new(),
        }
    }
}

/// Which proxy is used; texts as the environment variables of the same names
/// have them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProxyOptions {
    /// For `https:` servers: `https_proxy`. It may hold a password.
    pub https: Option<Secret>,
    /// For `http:` servers: `http_proxy`.
    pub http: Option<Secret>,
    /// For which servers no proxy is used: `no_proxy`.
    pub none: Option<String>,
}
