//! HTTP and the one thread that it runs on.
//!
//! - [`TlsOptions`], [`ProxyOptions`]: how servers are reached and believed
//! - [`Runtime`]: the thread
//! - [`Clients`], [`exchange`]: one request and its answer, within [`Limits`];
//!   [`Slowest`]: how slow an answer may come
//! - [`Wire`]: the way to a server, with redirects
//! - [`Patience`]: how often it is asked again, and how much at once
//! - [`Body`], [`BodyStream`]: bytes on their way; [`Progress`]: how far they are
//! - [`Response`]: an answer; [`refusal`]: one that is an error
//! - [`Fetcher`]: small and large answers of one server, for code that is not
//!   async; [`Answered`]: whether it has what it is asked for
//! - [`speaks_tls`]: whether a server does
//! - [`Reach`]: how far away an address is, and who may name it

#[cfg(feature = "binary-cache")]
mod ahead;
mod body;
mod cancel;
#[cfg(feature = "binary-cache")]
mod download;
#[cfg(feature = "binary-cache")]
mod fetch;
mod http;
mod options;
mod outgoing;
mod pace;
mod patience;
mod probe;
mod problem;
mod progress;
mod proxy;
mod reach;
mod refusal;
mod response;
mod retry;
mod runtime;
#[cfg(feature = "binary-cache")]
mod sign;
#[cfg(test)]
pub(crate) mod test_bed;
#[cfg(test)]
pub(crate) mod test_server;
mod throttle;
mod tls;
mod wire;

pub(crate) use body::{BodyStream, read_pieces};
pub(crate) use cancel::until_cancelled;
#[cfg(feature = "binary-cache")]
pub(crate) use download::Pending;
#[cfg(feature = "binary-cache")]
pub(crate) use fetch::{Answered, FetchOptions, Fetcher};
pub(crate) use http::{Clients, HttpError, Limits, exchange, explain, io_problem};
pub use options::{ProxyOptions, TlsOptions};
pub(crate) use outgoing::{Body, Outgoing};
pub(crate) use pace::Slowest;
pub(crate) use patience::Patience;
pub(crate) use probe::speaks_tls;
pub(crate) use problem::{one_line, problem};
pub(crate) use progress::{Progress, watched};
pub(crate) use proxy::Proxies;
pub(crate) use reach::{Home, Reach, Resolver};
pub(crate) use refusal::{Failure, refusal};
pub(crate) use response::Response;
pub(crate) use retry::{gave_up, may_pass};
pub(crate) use runtime::Runtime;
#[cfg(feature = "binary-cache")]
pub(crate) use sign::Signer;
pub(crate) use throttle::Permit;
pub(crate) use tls::{Certificates, unchecked_config};
pub(crate) use wire::{
    Sending, ServerAddress, Wire, WireOptions, authorization, basic, secret_value,
};
