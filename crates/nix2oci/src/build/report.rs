//! What was built.

use crate::content::ForeignPrograms;
use crate::digest::Digest;
use crate::image::BaseLayer;
use crate::layer::LayerRecord;

use super::LayerOutline;

/// An image that was built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuildReport {
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// The bytes of the manifest.
    pub manifest_size: u64,
    /// The digest of the config.
    pub config_digest: Digest,
    /// The layers of the base, bottom first.
    pub base: Vec<BaseLayer>,
    /// The layers on it, bottom first.
    pub layers: Vec<LayerReport>,
    /// Store paths with programs that the image's platform cannot run. Empty if
    /// a recipe made the image: whoever wrote it was told.
    pub foreign_programs: Vec<ForeignPrograms>,
}

impl BuildReport {
    /// Returns the bytes of each layer's blob, bottom first, the base's as well.
    pub fn sizes(&self) -> impl Iterator<Item = u64> {
        let base = self.base.iter().map(|layer| layer.descriptor().size());
        base.chain(self.layers.iter().map(|layer| layer.record.size))
    }

    /// Returns the bytes of all layers' blobs.
    pub fn size(&self) -> u64 {
        self.sizes().fold(0, u64::saturating_add)
    }
}

/// A layer of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerReport {
    /// What was planned.
    pub outline: LayerOutline,
    /// Its digests and sizes.
    pub record: LayerRecord,
    /// Bytes that came over the network to make it, as the content source told
    /// them; 0 if it was there.
    pub download_size: u64,
}
