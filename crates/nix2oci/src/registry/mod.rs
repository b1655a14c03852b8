//! Registries: where images are pushed to and read from over HTTP.
//!
//! - [`RegistryOptions`]: how to reach one
//! - `transport`: sends requests to one registry and sees to everything that
//!   all requests have in common

mod options;
mod problem;
#[expect(dead_code, reason = "the registry's client comes with the next change")]
mod request;
#[expect(dead_code, reason = "the registry's client comes with the next change")]
mod response;
mod throttle;
#[expect(dead_code, reason = "the registry's client comes with the next change")]
mod transport;

pub use crate::net::{ProxyOptions, TlsOptions};
pub use options::{DEFAULT_JOBS, DEFAULT_RETRIES, RegistryOptions};
