//! HTTP and the one thread that it runs on.
//!
//! - [`TlsOptions`], [`ProxyOptions`]: how servers are reached and believed
//! - [`Runtime`]: the thread
//! - [`Clients`], [`exchange`]: one request and its answer, within [`Limits`]
//! - [`BodyStream`]: bytes on their way; [`Progress`]: how far they are
//! - [`speaks_tls`]: whether a server does
//! - [`Reach`]: how far away an address is, and who may name it

mod body;
mod cancel;
mod http;
mod options;
mod probe;
mod progress;
mod proxy;
mod reach;
mod runtime;
#[cfg(test)]
pub(crate) mod test_server;
mod tls;

pub(crate) use body::{BodyStream, read_pieces};
pub(crate) use cancel::until_cancelled;
pub(crate) use http::{Clients, HttpError, Limits, exchange, explain, io_problem};
pub use options::{ProxyOptions, TlsOptions};
pub(crate) use probe::speaks_tls;
pub(crate) use progress::{Progress, watched};
pub(crate) use proxy::Proxies;
pub(crate) use reach::{Home, Reach, Resolver};
pub(crate) use runtime::Runtime;
pub(crate) use tls::{Certificates, unchecked_config};
