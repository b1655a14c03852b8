//! From a recipe to the image that it is of.

use std::sync::Arc;

use crate::content::ContentSource;
use crate::context::{Context, Event};
use crate::error::{Error, Location, Result};
use crate::image::{BaseImage, BaseLayer, RawManifest, config_platform};
use crate::layer::LayerRecord;
use crate::oci::{ImageConfiguration, Platform, Reference};
use crate::sink::ImageSink;

use super::build::{Work, put_layers};
use super::mismatch::Remade;
use super::recipe_parts::{outline, recipe_label};
use super::{BuildReport, LayerReport, Recipe, RecipeParts};

/// A recipe, and what its layers are made of.
#[derive(Clone)]
pub struct RecipeSource<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// What errors call it.
    pub name: &'a str,
    /// What is inside the store paths.
    pub content: Arc<dyn ContentSource>,
    /// The base that the recipe names, which has the layers that it cannot make.
    pub base: Option<&'a BaseImage>,
}

/// Makes the image that a recipe is of, and gives it to a sink under these
/// names.
///
/// Reads the content of every store path once, as [`build`](super::build())
/// does; the manifest is the recipe's, byte for byte.
///
/// # Errors
///
/// Those of [`build`](super::build()); an integrity error if a layer cannot be
/// made as it was;
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the image is on
/// a base that is not given, or is another one.
pub fn build_recipe(
    cx: &Context,
    source: &RecipeSource<'_>,
    names: &[Reference],
    sink: &mut dyn ImageSink,
) -> Result<BuildReport> {
    let RecipeSource { recipe, name, .. } = source;
    let parts = recipe.parts(name)?;
    if let Some(base) = source.base {
        check_base(base, recipe, &parts.base)?;
    }
    let platform = recipe_platform(name, &parts)?;
    let report = put_recipe(cx, &parts, source.base, source.content.as_ref(), sink)?;
    let manifest = RawManifest {
        blob: parts.manifest.blob.with_platform(platform),
    };
    sink.put_manifest(cx, &manifest, names)?;
    sink.commit(cx)?;
    cx.observer.event(&Event::Committed {
        manifest: manifest.digest(),
    });
    Ok(report)
}

/// Fails if a base is not the one that a recipe names.
pub(super) fn check_base(base: &BaseImage, recipe: &Recipe, records: &[LayerRecord]) -> Result<()> {
    let found = base.layers().iter().map(BaseLayer::digest);
    if found.eq(records.iter().map(|record| record.digest)) {
        return Ok(());
    }
    let problem = match base_name(recipe) {
        Some(named) => {
            format!("its layers are not those of {named}, the base that the recipe names")
        }
        None => "the recipe's image is on no base".to_owned(),
    };
    let what = format!("the base image {}", base.name());
    Err(Error::invalid(what, problem))
}

/// Returns how a recipe names its base.
pub(super) fn base_name(recipe: &Recipe) -> Option<&str> {
    let from = recipe.from.as_ref()?;
    Some(from.name.as_ref().unwrap_or(&from.digest))
}

/// Returns the platform of the image that a recipe is of.
pub(super) fn recipe_platform(name: &str, parts: &RecipeParts) -> Result<Platform> {
    let config: ImageConfiguration = serde_json::from_slice(parts.config.bytes())
        .map_err(|e| Error::document(name, Location::Key("config".into()), e.to_string()))?;
    Ok(config_platform(&config))
}

/// Makes the layers of a recipe again, with those of its base below them.
pub(super) fn put_recipe(
    cx: &Context,
    parts: &RecipeParts,
    base: Option<&BaseImage>,
    content: &dyn ContentSource,
    sink: &mut dyn ImageSink,
) -> Result<BuildReport> {
    if base.is_none() && !parts.base.is_empty() {
        let recipe = format!("the recipe of {}", parts.manifest.digest());
        let problem =
            "its image is on a base, which is not given: a recipe does not have its layers";
        return Err(Error::invalid(recipe, problem));
    }
    let base = base.map(|base| (base, base.layers()));
    // What the sink has need not be made again.
    let blobs: Vec<_> = parts.layers.iter().map(|(_, r)| r.descriptor()).collect();
    let missing = sink.missing(cx, &blobs)?;
    let known = parts.layers.iter().zip(&blobs);
    let known = known.map(|((_, record), blob)| (!missing.contains(blob)).then(|| record.clone()));
    let specs = || parts.layers.iter().map(|(spec, _)| spec);
    let sizes = parts.layers.iter().map(|(_, r)| r.uncompressed_size);
    let work = Work {
        layers: specs().cloned().collect(),
        sizes: sizes.collect(),
        labels: specs().map(recipe_label).collect(),
        known: known.collect(),
        packing: parts.packing,
        content,
        base,
    };
    let records = put_layers(cx, &work, sink, |layer, record: &LayerRecord| {
        let (spec, expected) = &parts.layers[layer];
        if record == expected {
            return Ok(());
        }
        let remade = Remade {
            spec,
            label: &work.labels[layer],
            why: "made again for the recipe",
            expected: expected.digest,
            found: record.digest,
        };
        Err(remade.error(cx, content)?)
    })?;
    sink.put_blob(cx, &mut parts.config.clone())?;
    let layers = specs().zip(records).zip(work.downloads(cx)?);
    let layers = layers.map(|((spec, record), download_size)| LayerReport {
        outline: outline(spec, spec.key(&parts.packing), record.uncompressed_size),
        record,
        download_size,
    });
    Ok(BuildReport {
        manifest_digest: parts.manifest.digest(),
        manifest_size: parts.manifest.blob.bytes().len() as u64,
        config_digest: parts.config.digest(),
        layers: layers.collect(),
        foreign_programs: Vec::new(),
        base: base.map_or_else(Vec::new, |(_, layers)| layers.to_vec()),
    })
}
