//! The files of a binary cache on a server.

use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::context::Context;
use crate::credentials::Credentials;
use crate::error::{ErrorKind, Result};
use crate::net::{FetchOptions, Fetcher, Limits, Pending, Runtime, Signer};

use super::files::{CacheFiles, Reply, Started, Wanted};
use super::{CacheOptions, CacheUrl, NarCompression};

/// A cache that is read over HTTP.
pub(super) struct Server(Fetcher);

/// The thread that servers are talked to on, for as long as one is.
#[derive(Default)]
pub(super) struct Network(Mutex<Weak<Runtime>>);

impl Network {
    fn runtime(&self) -> Result<Arc<Runtime>> {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = runtime.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Runtime::start()?);
        *runtime = Arc::downgrade(&started);
        Ok(started)
    }
}

impl Server {
    /// Prepares to talk to the server at `base`. Opens no connection.
    pub(super) fn new(
        network: &Network,
        url: &CacheUrl,
        base: &str,
        options: &CacheOptions,
    ) -> Result<Self> {
        let host = url.host().unwrap_or_default();
        let user = match options.credentials.find(host, "")? {
            Credentials::Anonymous => None,
            Credentials::Password { user, password } => Some((user, password)),
            Credentials::IdentityToken(_) | Credentials::RegistryToken(_) => {
                return Err(ErrorKind::Credentials {
                    host: host.to_owned(),
                    from: "the source of credentials".to_owned(),
                    problem: "a token of a registry was found; expected a name and a password"
                        .to_owned(),
                }
                .into());
            }
        };
        let headers = options.headers.iter().filter(|header| {
            let theirs = header.host.as_deref();
            theirs.is_none_or(|theirs| theirs.eq_ignore_ascii_case(host))
        });
        let fetcher = Fetcher::new(
            network.runtime()?,
            &FetchOptions {
                base: base.to_owned(),
                shown: url.to_string(),
                headers: headers
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
                user,
                signer: signer(url, options)?,
                tls: options.tls.clone(),
                proxy: options.proxy.clone(),
                retries: options.retries,
                jobs: options.jobs,
                limits: Limits::default(),
                decode,
            },
        )?;
        Ok(Self(fetcher))
    }
}

/// Returns what signs requests to a cache, if it is a bucket that there are keys
/// for. Others may be open to everybody.
fn signer(url: &CacheUrl, options: &CacheOptions) -> Result<Option<Signer>> {
    let (Some(bucket), Some(now)) = (url.bucket(), options.now) else {
        return Ok(None);
    };
    let keys = options.aws.find(bucket.profile.as_deref())?;
    Ok(keys.map(|keys| Signer::new(keys, &bucket.region, now)))
}

impl CacheFiles for Server {
    fn ask(&self, cx: &Context, wanted: Wanted, reply: Reply) {
        let Wanted {
            name,
            action,
            limit,
        } = wanted;
        self.0.begin(cx, name, action, limit, reply);
    }

    fn start(&self, cx: &Context, name: &str, action: &str, ahead: usize) -> Box<dyn Started> {
        Box::new(self.0.start(cx, name, action, ahead))
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl Started for Pending {
    fn is_answered_within(&self, limit: Duration) -> bool {
        self.is_answered_within(limit)
    }

    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        let reader = Self::open(*self)?;
        Ok(reader.map(|reader| -> Box<dyn Read + Send> { Box::new(reader) }))
    }
}

/// Decodes an answer that a server encodes though nobody asked it to.
fn decode(encoding: &str, input: Box<dyn Read + Send>) -> Option<Box<dyn Read + Send>> {
    let compression = match encoding {
        "gzip" | "x-gzip" => NarCompression::Gzip,
        "br" => NarCompression::Brotli,
        "zstd" => NarCompression::Zstd,
        // Not registered, but what Nix writes to S3 if told to.
        "xz" => NarCompression::Xz,
        "bzip2" => NarCompression::Bzip2,
        _ => return None,
    };
    compression.decoder(BufReader::new(input)).ok()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
