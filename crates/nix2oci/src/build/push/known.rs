//! A plan beside an image that is not in the registry that it is pushed to.

use std::collections::{BTreeMap, BTreeSet};

use crate::context::Context;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::{ImageListing, ImageTable, StoredImage, layer_records};
use crate::layer::{LayerKeyPrefix, LayerRecord};
use crate::oci::descriptor_digest;
use crate::plan::EarlierImage;

use super::{LayerForecast, LayerState, PushForecast};
use crate::build::download::download_size;
use crate::build::plan::plan_on;
use crate::build::{ImagePlan, ImageSpec, Recipe};

/// What is known of the layers of an image that exists, or would.
#[derive(Debug, Clone)]
pub struct KnownImage {
    layers: EarlierImage,
    /// The blobs that it has.
    blobs: BTreeSet<Digest>,
    evidence: Evidence,
}

/// How it is known that a layer is the same.
#[derive(Debug, Clone)]
enum Evidence {
    /// It has the same key.
    Keys(BTreeMap<LayerKeyPrefix, LayerRecord>),
    /// It has the same store paths: of a plan no more can be known.
    Paths,
}

impl KnownImage {
    /// Takes what the documents of an image say; `None` if they do not tell its
    /// store paths. See [`layer_records`] for what may be believed.
    pub fn of_image(image: &StoredImage) -> Option<Self> {
        let records = layer_records(&image.manifest, &image.config);
        Some(Self {
            layers: ImageTable::read(&image.manifest)?.earlier_image(),
            blobs: image
                .layers
                .iter()
                .filter_map(|layer| descriptor_digest(&layer.descriptor))
                .collect(),
            evidence: Evidence::Keys(records),
        })
    }

    /// Takes which store paths were found in an image that was made by another
    /// program. None of its layers is the same, but it can be planned on from.
    pub fn of_listing(listing: &ImageListing) -> Self {
        Self {
            layers: listing.earlier_image(),
            blobs: blobs_of(listing),
            evidence: Evidence::Keys(BTreeMap::new()),
        }
    }

    /// Takes what a recipe says; errors name it `name`.
    ///
    /// # Errors
    ///
    /// As [`Recipe::parts`].
    pub fn of_recipe(recipe: &Recipe, name: &str) -> Result<Self> {
        let parts = recipe.parts(name)?;
        let records = parts.layers.iter().filter_map(|(spec, record)| {
            let key = spec.key(&parts.packing)?;
            Some((key.prefix(), record.clone()))
        });
        let listing = recipe.listing(name)?;
        Ok(Self {
            layers: listing.earlier_image(),
            blobs: blobs_of(&listing),
            evidence: Evidence::Keys(records.collect()),
        })
    }

    /// Takes the layers of a plan.
    pub fn of_plan(layers: EarlierImage) -> Self {
        Self {
            layers,
            blobs: BTreeSet::new(),
            evidence: Evidence::Paths,
        }
    }

    /// Returns which store paths share a layer.
    pub fn layers(&self) -> &EarlierImage {
        &self.layers
    }
}

/// Finds out what a node that has `known` would fetch of an image. With `keep`
/// the image is planned on from it, as a push over it would do, unless the spec
/// names another one.
///
/// # Errors
///
/// As [`plan`](crate::build::plan()).
pub fn forecast_over(
    cx: &Context,
    spec: &ImageSpec,
    known: &KnownImage,
    keep: bool,
) -> Result<PushForecast> {
    if keep && spec.keep_layers.is_none() {
        let found = compared(plan_on(cx, spec, Some(&known.layers))?, spec, known);
        // As a push does: nothing is gained by going on from layers that are
        // packed otherwise.
        if found.layers.iter().any(|l| l.state == LayerState::Reused) {
            return with_downloads(cx, spec, found);
        }
    }
    let plan = plan_on(cx, spec, spec.keep_layers.as_ref())?;
    with_downloads(cx, spec, compared(plan, spec, known))
}

/// Finds out what comes over the network for the layers that the image lacks.
fn with_downloads(cx: &Context, spec: &ImageSpec, found: PushForecast) -> Result<PushForecast> {
    let mut found = found;
    for (outline, layer) in found.plan.layers.iter().zip(&mut found.layers) {
        if layer.state == LayerState::New {
            layer.download_size = download_size(cx, spec.content.as_ref(), &outline.spec)?;
        }
    }
    Ok(found)
}

fn blobs_of(listing: &ImageListing) -> BTreeSet<Digest> {
    listing.layers.iter().filter_map(|l| l.digest).collect()
}

/// Finds out which layers of a plan an image has.
fn compared(plan: ImagePlan, spec: &ImageSpec, known: &KnownImage) -> PushForecast {
    let media_type = spec.packing.compression.media_type();
    let layers = plan.layers.iter().map(|outline| {
        let mut record = None;
        let is_there = match &known.evidence {
            Evidence::Keys(records) => {
                let key = outline.key.map(|key| key.prefix());
                record = key.and_then(|key| records.get(&key));
                record = record.filter(|record| record.media_type == media_type);
                record.is_some()
            }
            Evidence::Paths => known.layers.has_layer(&outline.paths()),
        };
        LayerForecast {
            state: match is_there {
                true => LayerState::Reused,
                false => LayerState::New,
            },
            record: record.cloned(),
            download_size: 0,
        }
    });
    let base = plan.base.iter().map(|layer| LayerForecast {
        state: match known.blobs.contains(&layer.digest()) {
            true => LayerState::Reused,
            false => LayerState::New,
        },
        record: Some(layer.record()),
        download_size: 0,
    });
    PushForecast {
        base: base.collect(),
        layers: layers.collect(),
        plan,
        is_first: false,
    }
}
