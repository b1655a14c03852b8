//! A registry.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::RegistryOptions;
use super::quirks::{Quirks, Seen};
use super::repository::Repository;
use super::transport::Transport;
use crate::context::Context;
use crate::error::Result;

/// A registry that can be talked to. Clones are cheap and share connections,
/// tokens and what the registry showed of itself.
///
/// Its futures run on any tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What all repositories of a registry share.
pub(super) struct Shared {
    pub(super) transport: Transport,
    pub(super) quirks: Quirks,
    pub(super) seen: Seen,
    /// Bytes of a chunk, if the user wants chunks.
    pub(super) chunk_size: Option<NonZeroU64>,
    /// Held while the list of a subject's referrers is read and written, so
    /// that two writers of this process do not lose each other's.
    pub(super) referrers: tokio::sync::Mutex<()>,
}

impl Client {
    /// Prepares for a registry, whose host is as in a reference: `docker.io`,
    /// `localhost:5000`. Opens no connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) and
    /// [`ErrorKind::ReadInput`](crate::ErrorKind::ReadInput) if the options
    /// name certificates or proxies that are none.
    pub fn new(cx: &Context, host: &str, options: &RegistryOptions) -> Result<Self> {
        let transport = Transport::new(cx, host, options)?;
        Ok(Self {
            shared: Arc::new(Shared {
                quirks: Quirks::of(transport.api_host()),
                transport,
                seen: Seen::default(),
                chunk_size: options.chunk_size,
                referrers: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Returns the host as it was given.
    pub fn host(&self) -> &str {
        self.shared.transport.host()
    }

    /// Returns a repository, which need not exist: `library/app`. Whether the
    /// name is one is looked at when it is first used.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(Arc::clone(&self.shared), name)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}
