//! The JSON documents of `plan --json`, `build --json` and `--metadata-file`.
//!
//! `JSON.md` beside this crate documents them for users.
//!
//! One shape for all three; what a plan cannot know is `null`. Sizes are bytes,
//! layers are in image order, bottom first. New keys may appear without a new
//! version; a key that changes its meaning or goes away gets one.

use nix2oci::build::{BuildReport, ImagePlan, LayerOutline, LayerReport};
use nix2oci::oci::{Platform, Reference, display_platform};
use nix2oci::{ImageSpec, StorePath};
use serde::Serialize;

const VERSION: u32 = 1;

/// What would be built, or was.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    version: u32,
    /// The image itself; a plan has none.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    image: Option<Image>,
    platform: String,
    layers: Vec<Layer>,
    totals: Totals,
}

/// What is known of an image once it is built.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    /// The first of its names.
    name: Option<String>,
    /// All of them.
    names: Vec<String>,
    /// The manifest's digest.
    digest: String,
    /// The manifest's bytes: with `digest`, what a descriptor says.
    size: u64,
    /// The config's digest: what docker calls the image ID.
    config_digest: String,
}

/// A layer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    /// The digest of all that shapes its bytes; `null` if a NAR hash is not
    /// known.
    key: Option<String>,
    /// The full store paths; none in the layer of the root's files.
    paths: Vec<String>,
    nar_size: u64,
    strategy: String,
    reason: String,
    digest: Option<String>,
    diff_id: Option<String>,
    /// The bytes of the blob.
    size: Option<u64>,
    /// `new`: has to be packed or was; there is no other state yet.
    state: &'static str,
}

/// Sums over the layers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    /// Store paths.
    paths: usize,
    nar_size: u64,
    layers: usize,
    /// Bytes of the blobs that are new.
    upload_bytes: Option<u64>,
    /// Bytes of the blobs that were there already.
    reused_bytes: u64,
}

impl Layer {
    /// Makes a layer that is not packed yet.
    fn planned(spec: &ImageSpec, outline: &LayerOutline) -> Self {
        let full = |path: &StorePath| spec.closure.store_dir().join(path);
        Self {
            key: outline.key.map(|key| key.to_string()),
            paths: outline.paths().iter().map(full).collect(),
            nar_size: outline.nar_size,
            strategy: outline.strategy.clone(),
            reason: outline.reason.clone(),
            digest: None,
            diff_id: None,
            size: None,
            state: "new",
        }
    }

    fn built(spec: &ImageSpec, layer: &LayerReport) -> Self {
        Self {
            digest: Some(layer.record.digest.to_string()),
            diff_id: Some(layer.record.diff_id.to_string()),
            size: Some(layer.record.size),
            ..Self::planned(spec, &layer.outline)
        }
    }
}

impl Report {
    /// Makes the report of a plan.
    pub(crate) fn planned(spec: &ImageSpec, plan: &ImagePlan) -> Self {
        let layers = plan.layers.iter().map(|layer| Layer::planned(spec, layer));
        Self::new(None, &spec.config.platform, layers.collect())
    }

    /// Makes the report of an image that was built or resolved.
    pub(crate) fn built(spec: &ImageSpec, report: &BuildReport) -> Self {
        let names: Vec<String> = spec.names.iter().map(Reference::whole).collect();
        let image = Image {
            name: names.first().cloned(),
            names,
            digest: report.manifest_digest.to_string(),
            size: report.manifest_size,
            config_digest: report.config_digest.to_string(),
        };
        let layers = report.layers.iter().map(|layer| Layer::built(spec, layer));
        Self::new(Some(image), &spec.config.platform, layers.collect())
    }

    fn new(image: Option<Image>, platform: &Platform, layers: Vec<Layer>) -> Self {
        let size_of = |state: &str| -> Option<u64> {
            let of_state = layers.iter().filter(|layer| layer.state == state);
            of_state.map(|layer| layer.size).sum()
        };
        let totals = Totals {
            paths: layers.iter().map(|layer| layer.paths.len()).sum(),
            nar_size: layers.iter().map(|layer| layer.nar_size).sum(),
            layers: layers.len(),
            upload_bytes: size_of("new"),
            reused_bytes: size_of("reused").unwrap_or(0),
        };
        Self {
            version: VERSION,
            image,
            platform: display_platform(platform),
            layers,
            totals,
        }
    }
}
