//! Registries: where images are pushed to and read from over HTTP.
//!
//! - [`RegistryOptions`]: how to reach one

mod options;

pub use crate::net::{ProxyOptions, TlsOptions};
pub use options::{DEFAULT_JOBS, DEFAULT_RETRIES, RegistryOptions};
