//! Registries: where images are pushed to and read from over HTTP.
//!
//! - [`RegistryOptions`]: how to reach one
//! - [`Registries`]: all of them, for code that is not async; `uploads` are its
//!   many blobs at once, `image` what it reads
//! - [`Client`]: one of them; [`Repository`]: all that is asked of it
//! - [`Replayable`], [`UploadSession`], [`Sent`]: blobs on their way
//!
//! From the top down: a `repository` has a file for each kind of thing that is
//! asked of it: `manifest`, `tags` and `referrers`, which are lists in `pages`,
//! and `upload` for blobs. A blob that can be read again has a `source` and is
//! sent in one `way` or another, perhaps in `chunks`; a `stream` is sent while
//! it is made. `location` is where an upload goes on, `quirks` what registries
//! do otherwise.
//!
//! Below, `transport` sends a `request` by what `net` has; `auth` says who asks,
//! and has read the `challenge` and fetched the `token` for it. `warning` reads
//! what registries say to people.

mod auth;
mod challenge;
mod chunks;
mod client;
mod image;
mod location;
mod lock;
mod manifest;
mod options;
mod pages;
mod quirks;
mod referrers;
mod registries;
mod repository;
mod request;
mod source;
mod stream;
mod tags;
#[cfg(test)]
mod test_bed;
mod token;
mod transport;
mod upload;
mod uploads;
mod warning;
mod way;

pub use crate::net::{ProxyOptions, TlsOptions};
pub use client::Client;
pub use lock::LockRequest;
pub use manifest::FetchedManifest;
pub use options::{DEFAULT_JOBS, DEFAULT_RETRIES, RegistryOptions};
pub use registries::Registries;
pub use repository::Repository;
pub use source::{OpenFn, Replayable};
pub use upload::{Mounted, Sent, SentFn, UploadSession};
pub(crate) use uploads::{LayerStream, Upload, Uploads};
