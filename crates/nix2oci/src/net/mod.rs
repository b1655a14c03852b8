//! HTTP and the one thread that it runs on.
//!
//! - [`TlsOptions`], [`ProxyOptions`]: how servers are reached and believed

mod options;

pub use options::{ProxyOptions, TlsOptions};
