//! The JSON documents of `plan --json`, `build --json` and `--metadata-file`.
//!
//! `JSON.md` beside this crate documents them for users.
//!
//! One shape for all three; what a plan cannot know is `null`. Sizes are bytes,
//! layers are in image order, bottom first. New keys may appear without a new
//! version; a key that changes its meaning or goes away gets one.

use std::collections::BTreeSet;

use nix2oci::build::{
    BuildReport, ImagePlan, IndexImageReport, LayerOutline, LayerReport, LayerState, PushForecast,
    PushReport, PushedLayer,
};
use nix2oci::image::{BaseLayer, ImageTree};
use nix2oci::oci::{Descriptor, Platform, Reference, display_platform};
use nix2oci::{Digest, ImageSpec, LayerRecord, StoreDir, StorePath};
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
    /// Not known of an image that was only copied.
    platform: Option<String>,
    layers: Vec<Layer>,
    totals: Totals,
    /// The images of an index, or those that were copied together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Self>,
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
    /// The config's digest: what docker calls the image ID. An index of several
    /// platforms has none.
    config_digest: Option<String>,
    /// The name for ever, of an image that was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<String>,
    /// The tags that did not point to it before, of an image that was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_tags: Option<Vec<String>>,
}

impl Image {
    fn new(names: &[Reference], digest: Digest, size: u64) -> Self {
        let names: Vec<String> = names.iter().map(Reference::whole).collect();
        Self {
            name: names.first().cloned(),
            names,
            digest: digest.to_string(),
            size,
            config_digest: None,
            pinned: None,
            changed_tags: None,
        }
    }
}

/// What is told of an index.
#[derive(Debug)]
pub(crate) struct Joined<'a> {
    pub(crate) names: &'a [Reference],
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Of one that was pushed, its name for ever.
    pub(crate) pinned: Option<&'a str>,
    /// Of one that was pushed, the tags that did not point to it before.
    pub(crate) changed_tags: Option<&'a [String]>,
}

/// Makes the layers of blobs of which nothing else is known.
fn copied(blobs: &[Descriptor]) -> Vec<Layer> {
    let layer = |blob: &Descriptor| Layer {
        digest: Some(blob.digest().to_string()),
        size: Some(blob.size()),
        state: LayerState::New.name(),
        ..Layer::default()
    };
    blobs.iter().map(layer).collect()
}

/// A layer.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    /// The digest of all that shapes its bytes; `null` if a NAR hash is not
    /// known.
    key: Option<String>,
    /// Whether it is of the base: then it was not made here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    base: bool,
    /// The full store paths; none in the layer of the root's files.
    paths: Vec<String>,
    nar_size: u64,
    strategy: String,
    reason: String,
    /// The name of a `LayerOrigin`; `null` of a layer that is not known.
    origin: Option<&'static str>,
    digest: Option<String>,
    diff_id: Option<String>,
    /// The bytes of the blob.
    size: Option<u64>,
    /// The name of a `LayerState`; `new` where nothing was asked.
    state: &'static str,
    /// Bytes that making it brings over the network, or brought.
    download_bytes: u64,
}

/// Sums over the layers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    /// Store paths.
    paths: usize,
    nar_size: u64,
    layers: usize,
    /// Bytes of the blobs that are new; `null` if one of them is not packed.
    upload_bytes: Option<u64>,
    /// The NAR sizes of the layers that are new: what is packed for them.
    upload_nar_size: u64,
    /// Bytes of the blobs that were there already.
    reused_bytes: u64,
    /// Bytes that making the layers brings over the network, or brought.
    download_bytes: u64,
    /// Bytes that it brought over the network to plan.
    plan_download_bytes: u64,
}

impl Layer {
    /// Makes a layer that is not packed yet.
    fn planned(outline: &LayerOutline) -> Self {
        let full = |path: &StorePath| outline.spec.store_dir.join(path);
        Self {
            key: outline.key.map(|key| key.to_string()),
            base: false,
            paths: outline.paths().iter().map(full).collect(),
            nar_size: outline.nar_size,
            strategy: outline.strategy.clone(),
            reason: outline.reason.clone(),
            origin: Some(outline.origin.name()),
            digest: None,
            diff_id: None,
            size: None,
            state: LayerState::New.name(),
            download_bytes: 0,
        }
    }

    fn downloaded(self, download_bytes: u64) -> Self {
        Self {
            download_bytes,
            ..self
        }
    }

    fn of_record(outline: &LayerOutline, record: Option<&LayerRecord>, state: LayerState) -> Self {
        Self {
            digest: record.map(|record| record.digest.to_string()),
            diff_id: record.map(|record| record.diff_id.to_string()),
            size: record.map(|record| record.size),
            state: state.name(),
            ..Self::planned(outline)
        }
    }

    fn built(layer: &LayerReport) -> Self {
        Self::of_record(&layer.outline, Some(&layer.record), LayerState::New)
            .downloaded(layer.download_size)
    }

    /// Makes a layer of the base, with its store paths as far as their whole
    /// names are known.
    fn of_base(layer: &BaseLayer, store_dir: &StoreDir, state: LayerState) -> Self {
        let whole = layer.paths.iter().filter_map(|listed| listed.path.whole());
        let sizes = layer.paths.iter().filter_map(|listed| listed.nar_size);
        Self {
            base: true,
            paths: whole.map(|path| store_dir.join(&path)).collect(),
            nar_size: sizes.fold(0, u64::saturating_add),
            strategy: "base".to_owned(),
            reason: "of the base image".to_owned(),
            digest: Some(layer.digest().to_string()),
            diff_id: Some(layer.diff_id.to_string()),
            size: Some(layer.descriptor().size()),
            state: state.name(),
            ..Self::default()
        }
    }

    /// Makes a layer that was pushed. Of one that was only copied nobody knows
    /// what is in it.
    fn pushed(layer: &PushedLayer, store_dir: &StoreDir) -> Self {
        if let Some(base) = &layer.base {
            return Self::of_base(base, store_dir, layer.state);
        }
        let planned = layer.outline.as_ref().map(Self::planned);
        Self {
            digest: Some(layer.descriptor.digest().to_string()),
            diff_id: layer.diff_id.map(|diff_id| diff_id.to_string()),
            size: Some(layer.descriptor.size()),
            state: layer.state.name(),
            download_bytes: layer.download_size,
            ..planned.unwrap_or_default()
        }
    }
}

impl Report {
    /// Makes the report of a plan; `downloads` has for each layer what making it
    /// brings over the network.
    pub(crate) fn planned(spec: &ImageSpec, plan: &ImagePlan, downloads: &[u64]) -> Self {
        let layers = plan.layers.iter().zip(downloads);
        let layers = layers.map(|(layer, bytes)| Layer::planned(layer).downloaded(*bytes));
        let layers = below(spec.closure.store_dir(), &plan.base).chain(layers);
        Self::new(None, Some(&spec.config.platform), layers.collect())
    }

    /// Makes the report of what a push would do.
    pub(crate) fn forecast(spec: &ImageSpec, forecast: &PushForecast) -> Self {
        let layers = forecast.plan.layers.iter().zip(&forecast.layers);
        let layers = layers.map(|(outline, l)| {
            Layer::of_record(outline, l.record.as_ref(), l.state).downloaded(l.download_size)
        });
        let store_dir = spec.closure.store_dir();
        let base = forecast.plan.base.iter().zip(&forecast.base);
        let base = base.map(|(layer, l)| Layer::of_base(layer, store_dir, l.state));
        let layers = base.chain(layers);
        Self::new(None, Some(&spec.config.platform), layers.collect())
    }

    /// Makes the report of an image that was built or resolved.
    pub(crate) fn built(spec: &ImageSpec, report: &BuildReport) -> Self {
        let names: Vec<String> = spec.names.iter().map(Reference::whole).collect();
        let image = Image {
            name: names.first().cloned(),
            names,
            digest: report.manifest_digest.to_string(),
            size: report.manifest_size,
            config_digest: Some(report.config_digest.to_string()),
            pinned: None,
            changed_tags: None,
        };
        let layers = below(spec.closure.store_dir(), &report.base)
            .chain(report.layers.iter().map(Layer::built));
        Self::new(Some(image), Some(&spec.config.platform), layers.collect())
    }

    /// Makes the report of an image that was pushed; `platform` is that of an
    /// image that was built for it, `store_dir` where its store paths are.
    pub(crate) fn pushed(
        platform: Option<&Platform>,
        store_dir: &StoreDir,
        names: &[Reference],
        report: &PushReport,
    ) -> Self {
        let names: Vec<String> = names.iter().map(Reference::whole).collect();
        let image = Image {
            name: names.first().cloned(),
            names,
            digest: report.manifest_digest.to_string(),
            size: report.manifest_size,
            config_digest: report.config_digest.map(|digest| digest.to_string()),
            pinned: Some(report.pinned.clone()),
            changed_tags: Some(report.changed_tags.clone()),
        };
        let layers = report.layers.iter();
        let layers = layers.map(|layer| Layer::pushed(layer, store_dir));
        Self::new(Some(image), platform, layers.collect())
    }

    /// Makes the report of an image of an index.
    /// Its store paths are in `store_dir`.
    pub(crate) fn image(
        platform: Option<&Platform>,
        store_dir: &StoreDir,
        image: &IndexImageReport,
    ) -> Self {
        match image {
            IndexImageReport::Built(built) => Self::remade(platform, store_dir, &[], built),
            IndexImageReport::Copied(image) => {
                let layers = copied(&image.layers);
                let image = Image {
                    config_digest: Some(image.config.digest().to_string()),
                    ..Image::new(&[], image.manifest_digest, image.manifest_size)
                };
                Self::new(Some(image), platform, layers)
            }
            _ => Self::new(None, platform, Vec::new()),
        }
    }

    /// Makes the report of an image that a recipe is of, or of one in an index.
    pub(crate) fn remade(
        platform: Option<&Platform>,
        store_dir: &StoreDir,
        names: &[Reference],
        built: &BuildReport,
    ) -> Self {
        let image = Image {
            config_digest: Some(built.config_digest.to_string()),
            ..Image::new(names, built.manifest_digest, built.manifest_size)
        };
        let layers = below(store_dir, &built.base);
        let layers = layers.chain(built.layers.iter().map(Layer::built));
        Self::new(Some(image), platform, layers.collect())
    }

    /// Makes the report of an image that was copied.
    pub(crate) fn copied(names: &[Reference], tree: &ImageTree) -> Self {
        let root = tree.root();
        let image = Image {
            digest: root.descriptor.digest().to_string(),
            config_digest: root.config.as_ref().map(|c| c.digest().to_string()),
            ..Image::new(names, Digest::of(&root.bytes), root.bytes.len() as u64)
        };
        let layers: Vec<Descriptor> = tree.layers().cloned().collect();
        Self::new(Some(image), None, copied(&layers))
    }

    /// Makes the report of an index of images, or, without an index, of images
    /// that were copied together.
    pub(crate) fn several(index: Option<Joined<'_>>, images: Vec<Self>) -> Self {
        let mut seen = BTreeSet::new();
        let all = images.iter().flat_map(|image| &image.layers);
        // One that is only planned has no digest yet.
        let layers = all.filter(|layer| match layer.digest.as_ref().or(layer.key.as_ref()) {
            Some(digest) => seen.insert(digest.clone()),
            None => true,
        });
        let layers: Vec<Layer> = layers.cloned().collect();
        let index = index.map(|index| Image {
            pinned: index.pinned.map(str::to_owned),
            changed_tags: index.changed_tags.map(<[String]>::to_vec),
            ..Image::new(index.names, index.digest, index.size)
        });
        Self {
            images,
            ..Self::new(index, None, layers)
        }
    }

    /// Adds what it brought over the network to plan.
    pub(crate) fn planned_with(mut self, download_bytes: u64) -> Self {
        self.totals.plan_download_bytes = download_bytes;
        self
    }

    /// Returns how many layers there are.
    pub(crate) fn layers(&self) -> usize {
        self.totals.layers
    }

    /// Returns the bytes of the blobs of all layers, as far as they are known.
    pub(crate) fn size(&self) -> u64 {
        sum(self.layers.iter().filter_map(|layer| layer.size))
    }

    fn new(image: Option<Image>, platform: Option<&Platform>, layers: Vec<Layer>) -> Self {
        let (new, there): (Vec<_>, Vec<_>) = layers
            .iter()
            .partition(|layer| layer.state == LayerState::New.name());
        let totals = Totals {
            paths: layers.iter().map(|layer| layer.paths.len()).sum(),
            nar_size: sum(layers.iter().map(|layer| layer.nar_size)),
            layers: layers.len(),
            upload_bytes: total(new.iter().map(|layer| layer.size)),
            upload_nar_size: sum(new.iter().map(|layer| layer.nar_size)),
            reused_bytes: sum(there.iter().filter_map(|layer| layer.size)),
            download_bytes: sum(layers.iter().map(|layer| layer.download_bytes)),
            plan_download_bytes: 0,
        };
        Self {
            version: VERSION,
            image,
            platform: platform.map(display_platform),
            layers,
            totals,
            images: Vec::new(),
        }
    }
}

/// Adds up sizes. Those of layers that are there may be any.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Adds up sizes if all of them are known.
fn total(sizes: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    sizes
        .collect::<Option<Vec<u64>>>()
        .map(|sizes| sum(sizes.into_iter()))
}

/// Returns the layers of a base, which are copied.
fn below<'a>(store_dir: &'a StoreDir, base: &'a [BaseLayer]) -> impl Iterator<Item = Layer> + 'a {
    base.iter()
        .map(|layer| Layer::of_base(layer, store_dir, LayerState::New))
}
