//! HTTP and the one thread that it runs on.
//!
//! - [`TlsOptions`], [`ProxyOptions`]: how servers are reached and believed
//! - [`Runtime`]: the thread
//! - [`BodyStream`]: bytes on their way

mod body;
mod cancel;
mod options;
mod runtime;
mod tls;

pub(crate) use body::BodyStream;
pub(crate) use body::read_pieces;
pub(crate) use cancel::until_cancelled;
pub use options::{ProxyOptions, TlsOptions};
pub(crate) use runtime::Runtime;
pub(crate) use tls::client_config;
