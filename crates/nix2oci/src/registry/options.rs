//! How to reach a registry.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;

use crate::credentials::{Anonymous, CredentialSource};
use crate::net::{ProxyOptions, TlsOptions};

/// How often a request is repeated, if nothing else is said.
pub const DEFAULT_RETRIES: u32 = 5;

/// How many requests run at once at most, if nothing else is said.
pub const DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");

/// How to reach registries.
#[derive(Clone)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// Who asks.
    pub credentials: Arc<dyn CredentialSource>,
    /// Whom TLS believes.
    pub tls: TlsOptions,
    /// Whether plain HTTP is used where the registry is not on this machine. A
    /// registry on a loopback address may always speak it.
    pub plain_http: bool,
    /// Which proxy is used.
    pub proxy: ProxyOptions,
    /// How often a request is repeated that failed for a reason that may pass.
    pub retries: u32,
    /// How many requests run at once at most. There are fewer while the
    /// registry asks for patience.
    pub jobs: NonZeroUsize,
    /// Sends blobs in chunks of so many bytes. Without it a blob is one
    /// request, and chunks are what is tried after a large one broke.
    pub chunk_size: Option<NonZeroU64>,
}

impl Default for RegistryOptions {
    /// Nobody asks, the system's authorities are believed, no proxy.
    fn default() -> Self {
        Self {
            credentials: Arc::new(Anonymous),
            tls: TlsOptions::default(),
            plain_http: false,
            proxy: ProxyOptions::default(),
            retries: DEFAULT_RETRIES,
            jobs: DEFAULT_JOBS,
            chunk_size: None,
        }
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("tls", &self.tls)
            .field("plain_http", &self.plain_http)
            .field("retries", &self.retries)
            .field("jobs", &self.jobs)
            .field("chunk_size", &self.chunk_size)
            .finish_non_exhaustive()
    }
}
