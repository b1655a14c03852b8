//! Turns Nix store closures into OCI images.
#![forbid(unsafe_code)]

pub mod build;
pub mod closure;
pub mod content;
pub mod context;
pub mod digest;
pub mod error;
pub mod image;
pub mod layer;
pub mod oci;
mod parallel;
pub mod plan;
pub mod sink;
pub mod store;

pub use build::{BuildReport, ImageSpec, build, resolve};
pub use closure::{Closure, ClosureSource};
pub use content::{ContentSource, LocalStore};
pub use context::{CancelFlag, Context, Event, Observer};
pub use digest::{DiffId, Digest};
pub use error::{Error, ErrorClass, ErrorKind, Result};
pub use layer::{Compression, LayerRecord, Packing};
pub use plan::{LayerPlan, LayerStrategy};
pub use sink::ImageSink;
pub use store::{NarHash, PathInfo, StoreDir, StorePath};
