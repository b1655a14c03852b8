//! What was pushed.

use crate::build::{ImagePlan, LayerOutline};
use crate::digest::{DiffId, Digest};
use crate::image::{AssembledImage, BaseLayer};
use crate::layer::{LayerKey, LayerRecord};
use crate::oci::Descriptor;

use super::Target;
use super::base::BaseLayers;
use super::transfer::{Sent, SentLayers};

/// An image that is in a registry now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PushReport {
    /// The image for ever: `registry/repository@sha256:…`.
    pub pinned: String,
    /// The digest of the manifest, or of the index of several platforms.
    pub manifest_digest: Digest,
    /// The bytes of it.
    pub manifest_size: u64,
    /// The digest of the config, if it is one image.
    pub config_digest: Option<Digest>,
    /// The tags that did not point to it before.
    pub changed_tags: Vec<String>,
    /// The layers, bottom first, those of a base as well; of an image that was copied its blobs, the
    /// config as well, and of an index those of all its images.
    pub layers: Vec<PushedLayer>,
}

/// A layer that is in a registry now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PushedLayer {
    /// What it is made of, unless it is of a base or a stored image was copied.
    pub outline: Option<LayerOutline>,
    /// What is known of it if it is of a base.
    pub base: Option<BaseLayer>,
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of its tar, if it is known.
    pub diff_id: Option<DiffId>,
    /// How it came there.
    pub state: LayerState,
    /// Bytes that came over the network to make it, as the content source told
    /// them; 0 if it was not made, or only copied.
    pub download_size: u64,
}

/// How a layer came into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerState {
    /// It was sent.
    New,
    /// The layer cache knew it, and the registry had it.
    Cached,
    /// It is of an earlier image of the repository, which vouches for it.
    Reused,
    /// The registry said that it had it.
    Exists,
    /// The registry took it from another repository.
    Mounted,
}

impl LayerState {
    /// Returns its name, as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cached => "cached",
            Self::Reused => "reused",
            Self::Exists => "exists",
            Self::Mounted => "mounted",
        }
    }
}

impl SentLayers {
    /// Returns the records of the layers on the base.
    pub(super) fn records(&self) -> Vec<LayerRecord> {
        self.own.iter().map(|layer| layer.record.clone()).collect()
    }

    /// Returns the record of each layer, and its key.
    pub(super) fn keyed(&self) -> Vec<(Option<LayerKey>, LayerRecord)> {
        let layers = self.own.iter();
        layers
            .map(|layer| (layer.key, layer.record.clone()))
            .collect()
    }

    /// Makes the report.
    pub(super) fn report(
        self,
        target: &Target<'_>,
        changed_tags: Vec<String>,
        image: &AssembledImage,
        base: &BaseLayers,
        plan: Option<ImagePlan>,
    ) -> PushReport {
        let mut outlines = plan.into_iter().flat_map(|plan| plan.layers);
        let layer = |sent: Sent| PushedLayer {
            outline: Some(outlines.next().unwrap_or_else(|| sent.outline())),
            base: None,
            descriptor: sent.record.descriptor(),
            diff_id: Some(sent.record.diff_id),
            state: sent.state,
            download_size: sent.download_size,
        };
        let below = base.layers.iter().cloned().zip(self.base);
        let below = below.map(|(layer, state)| PushedLayer {
            outline: None,
            descriptor: layer.descriptor().clone(),
            diff_id: Some(layer.diff_id),
            base: Some(layer),
            state,
            download_size: 0,
        });
        PushReport {
            pinned: format!("{}@{}", target.name, image.manifest.digest()),
            manifest_digest: image.manifest.digest(),
            manifest_size: image.manifest.blob.bytes().len() as u64,
            config_digest: Some(image.config.digest()),
            changed_tags,
            layers: below.chain(self.own.into_iter().map(layer)).collect(),
        }
    }
}
