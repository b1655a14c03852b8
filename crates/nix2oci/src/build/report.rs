//! What was built.

use crate::digest::Digest;
use crate::layer::{LayerKey, LayerRecord};
use crate::store::StorePath;

/// An image that was built or resolved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BuildReport {
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// The bytes of the manifest.
    pub manifest_size: u64,
    /// The digest of the config.
    pub config_digest: Digest,
    /// The layers, bottom first.
    pub layers: Vec<LayerReport>,
}

/// A layer of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerReport {
    /// Its key, if all NAR hashes are known.
    pub key: Option<LayerKey>,
    /// The store paths in it; none for the root tree.
    pub paths: Vec<StorePath>,
    /// The sum of their NAR sizes, in bytes.
    pub nar_size: u64,
    /// The strategy that made it, `named`, or `root-tree`.
    pub strategy: String,
    /// Why these paths are together.
    pub reason: String,
    /// Digests and sizes.
    pub record: LayerRecord,
    /// What was done with it.
    pub state: LayerState,
}

/// What was done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerState {
    /// It was packed.
    New,
    /// Its record was known and the sink had its bytes.
    Reused,
}
