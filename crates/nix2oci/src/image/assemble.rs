//! Config and manifest bytes from layer records.

use crate::digest::Digest;
use crate::error::Result;
use crate::layer::{BytesBlob, LayerKey, LayerRecord};

use super::ImageConfig;

/// A layer as the config and the manifest tell of it.
#[derive(Debug, Clone)]
pub struct ImageLayer<'a> {
    /// Its bytes.
    pub record: &'a LayerRecord,
    /// Its key, if its NAR hashes were known.
    pub key: Option<LayerKey>,
    /// What it holds, for people: the history's comment.
    pub comment: String,
}

/// A manifest's exact bytes: what was hashed is what is written.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// The bytes with their descriptor (media type, digest, size, and the
    /// platform).
    pub blob: BytesBlob,
}

impl RawManifest {
    /// Returns the manifest's digest, which is the image's.
    pub fn digest(&self) -> Digest {
        self.blob.digest()
    }
}

/// Config and manifest of an image.
#[derive(Debug, Clone)]
pub struct AssembledImage {
    /// The config's bytes.
    pub config: BytesBlob,
    /// The manifest's bytes.
    pub manifest: RawManifest,
}

/// Makes config and manifest of an image with these layers, bottom first.
///
/// A function of its arguments: no clock, no environment.
pub fn assemble(config: &ImageConfig, layers: &[ImageLayer<'_>]) -> Result<AssembledImage> {
    let _ = (config, layers);
    unimplemented!("image::assemble")
}
