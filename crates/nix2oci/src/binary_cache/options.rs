//! How binary caches are reached and believed.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use crate::credentials::{Anonymous, AwsLookup, CredentialSource, Secret};
use crate::net::{ProxyOptions, TlsOptions};

use super::{NarInfoCache, Trust};

/// How often a request to a cache is repeated, if nothing else is said.
pub const DEFAULT_CACHE_RETRIES: u32 = 5;

/// How many narinfos are asked for at once of each cache, if nothing else is
/// said.
pub const DEFAULT_CACHE_JOBS: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not 0");

/// How binary caches are reached and believed.
#[derive(Clone)]
#[non_exhaustive]
pub struct CacheOptions {
    /// What is believed.
    pub trust: Trust,
    /// Who asks: asked by a server's host, with the port if one is written, and
    /// an empty repository. Only a name with a password is of use.
    pub credentials: Arc<dyn CredentialSource>,
    /// Whose keys requests to buckets of S3 are signed with.
    pub aws: AwsLookup,
    /// The time, for the signatures: S3 refuses those that are more than 15
    /// minutes old. Without it nothing is signed.
    pub now: Option<SystemTime>,
    /// What is sent with every request besides.
    pub headers: Vec<CacheHeader>,
    /// Whom TLS believes.
    pub tls: TlsOptions,
    /// Which proxy is used.
    pub proxy: ProxyOptions,
    /// How often a request is repeated that failed for a reason that may pass.
    pub retries: u32,
    /// How many narinfos are asked for at once of each cache. There are fewer
    /// while it asks for patience.
    pub jobs: NonZeroUsize,
    /// Where is kept what caches say of store paths, if anywhere.
    pub info_cache: Option<NarInfoCache>,
}

/// A header of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheHeader {
    /// Of which server, with the port if the cache's address has one; every
    /// one's if none is named.
    pub host: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Secret,
}

impl Default for CacheOptions {
    /// The key of <https://cache.nixos.org> and the system's authorities are
    /// believed, nobody asks, no proxy, nothing is kept.
    fn default() -> Self {
        Self {
            trust: Trust::default(),
            credentials: Arc::new(Anonymous),
            aws: AwsLookup::default(),
            now: None,
            headers: Vec::new(),
            tls: TlsOptions::default(),
            proxy: ProxyOptions::default(),
            retries: DEFAULT_CACHE_RETRIES,
            jobs: DEFAULT_CACHE_JOBS,
            info_cache: None,
        }
    }
}

impl fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions")
            .field("trust", &self.trust)
            .field("headers", &self.headers)
            .field("tls", &self.tls)
            .field("retries", &self.retries)
            .field("jobs", &self.jobs)
            .field("info_cache", &self.info_cache)
            .finish_non_exhaustive()
    }
}
