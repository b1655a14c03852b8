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

/// A layer of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerReport {
    /// What was planned.
    pub outline: LayerOutline,
    /// Its digests and sizes.
    pub record: LayerRecord,
}
