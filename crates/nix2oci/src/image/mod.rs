//! Config, manifest and index bytes; reading images back.
//!
//! - [`ImageConfig`]: what an image's config says besides its layers
//! - [`assemble`]: config and manifest from layer records; no I/O

mod assemble;
mod config;
mod config_document;

pub use assemble::{AssembledImage, ImageLayer, RawManifest, assemble};
pub use config::ImageConfig;
