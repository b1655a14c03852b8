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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::oci::{MediaType, descriptor};

    #[test]
    fn every_future_may_run_on_another_thread() {
        fn is_send(_: impl Send) {}
        let options = RegistryOptions::default();
        let client = Client::new(&Context::default(), "localhost:1", &options).unwrap();
        assert_eq!(
            format!("{client:?}"),
            r#"Client { host: "localhost:1", .. }"#
        );
        let app = client.repository("app");
        let digest = Digest::of(b"");
        let blob = descriptor(MediaType::ImageLayer, digest, 0);
        is_send(app.blob_size(digest));
        is_send(app.read_blob(&blob, 0));
        is_send(app.open_blob(&blob));
        is_send(app.mount(&blob, "base"));
        is_send(app.manifest("v1"));
        is_send(app.put_manifest(b"", &MediaType::ImageManifest, &["v1"]));
        is_send(app.put_referrer(b"", &MediaType::ImageManifest));
        is_send(app.referrers(digest, None));
        is_send(app.tags());
    }
}
