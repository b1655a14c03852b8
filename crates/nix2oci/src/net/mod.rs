//! HTTP and the one thread that it runs on.
//!
//! - [`TlsOptions`], [`ProxyOptions`]: how servers are reached and believed
//! - [`Runtime`]: the thread
//! - [`BodyStream`]: bytes on their way

#[expect(dead_code, reason = "the registry's client comes with the next change")]
mod body;
mod cancel;
mod options;
#[expect(dead_code, reason = "the registry's client comes with the next change")]
mod runtime;
mod tls;

pub(crate) use body::BodyStream;
#[expect(
    unused_imports,
    reason = "the registry's client comes with the next change"
)]
pub(crate) use body::read_pieces;
pub(crate) use cancel::until_cancelled;
pub use options::{ProxyOptions, TlsOptions};
#[expect(
    unused_imports,
    reason = "the registry's client comes with the next change"
)]
pub(crate) use runtime::Runtime;
pub(crate) use tls::client_config;
