//! What a recipe says, in the library's own types.

use std::ffi::OsString;
use std::iter;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Location, Result};
use crate::image::{
    ImageListing, ImageSummary, ImageTable, ListedLayer, RawManifest, StoredImage, StoredLayer,
    TablePath, summary,
};
use crate::layer::{
    BytesBlob, LayerContent, LayerKey, LayerRecord, LayerSpec, Owner, Packing, TarFile, UsedLayer,
};
use crate::oci::{ImageConfiguration, ImageManifest, MediaType};
use crate::plan::LayerOrigin;
use crate::store::{NarHash, StoreDir, StorePathPrefix};

use super::recipe::{RecipeLayer, RecipePacking};
use super::recipe_node::{root_tree, unspell};
use super::recipe_rule::parse_rules;
use super::{LayerOutline, Recipe};

/// A recipe in the library's own types.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecipeParts {
    /// What shapes the layers' bytes.
    pub packing: Packing,
    /// The layers of the base, bottom first: nothing is known of how they were
    /// made.
    pub base: Vec<LayerRecord>,
    /// What goes into each layer on it, bottom first, and what it has to become.
    pub layers: Vec<(LayerSpec, LayerRecord)>,
    /// The config's exact bytes.
    pub config: BytesBlob,
    /// The manifest's exact bytes.
    pub manifest: RawManifest,
}

impl Recipe {
    /// Returns what it says, in the library's own types.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`](crate::ErrorKind::Document) if a store path, a
    /// NAR hash, a file of the root tree or the packing is not well-formed;
    /// `name` names the recipe in it. [`Recipe::parse`] checked the rest.
    pub fn parts(&self, name: &str) -> Result<RecipeParts> {
        let refuse = |key: &str, problem: &dyn std::fmt::Display| {
            Error::document(name, Location::Key(key.to_owned()), problem.to_string())
        };
        let store_dir: StoreDir = self.store_dir.parse().map_err(|e| refuse("storeDir", &e))?;
        let packing = packing_of(&self.packing, refuse)?;
        let mut base = Vec::new();
        let mut layers = Vec::with_capacity(self.layers.len());
        for (at, layer) in self.layers.iter().enumerate() {
            let refuse = |key: &str, problem: &dyn std::fmt::Display| {
                refuse(&format!("layers[{at}].{key}"), problem)
            };
            if layer.base {
                base.push(record(layer, refuse)?);
                continue;
            }
            let (spec, record) = layer.parts(&store_dir, refuse)?;
            let spec = match &layer.packing {
                None => spec,
                Some(own) => {
                    let own = packing_of(own, refuse)?;
                    used(UsedLayer::new(name, spec, own, record.clone()))
                }
            };
            layers.push((spec, record));
        }
        Ok(RecipeParts {
            packing,
            base,
            layers,
            config: BytesBlob::new(MediaType::ImageConfig, self.config.clone().into_bytes()),
            manifest: RawManifest {
                blob: BytesBlob::new(MediaType::ImageManifest, self.manifest.clone().into_bytes()),
            },
        })
    }
}

/// Returns the spec of a layer that was made before.
pub(super) fn used(layer: UsedLayer) -> LayerSpec {
    LayerSpec {
        store_dir: layer.spec.store_dir.clone(),
        rules: Arc::default(),
        content: LayerContent::Used(Box::new(layer)),
    }
}

/// Reads how layers are packed.
pub(super) fn packing_of(
    packing: &RecipePacking,
    refuse: impl Fn(&str, &dyn std::fmt::Display) -> Error,
) -> Result<Packing> {
    let compression = packing.compression.parse();
    let packing = Packing {
        compression: compression.map_err(|e| refuse("packing.compression", &e))?,
        mtime: packing.mtime,
        owner: Owner {
            uid: packing.uid,
            gid: packing.gid,
        },
    };
    packing.check().map_err(|e| refuse("packing", &e))?;
    Ok(packing)
}

impl RecipeLayer {
    /// Returns what goes into it and what it has to become, but for a packing of
    /// its own.
    pub(super) fn parts(
        &self,
        store_dir: &StoreDir,
        refuse: impl Fn(&str, &dyn std::fmt::Display) -> Error,
    ) -> Result<(LayerSpec, LayerRecord)> {
        let record = record(self, &refuse)?;
        let spec = LayerSpec {
            store_dir: store_dir.clone(),
            content: content(self, store_dir, &record, &refuse)?,
            rules: parse_rules(&self.rules, store_dir)
                .map_err(|problem| refuse("rules", &problem))?,
        };
        Ok((spec, record))
    }
}

impl Recipe {
    /// Tells what the image is that it is of, as
    /// [`inspect`](crate::image::inspect()) does of one whose layers are not read;
    /// `name` names the recipe.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::parts`].
    pub fn summary(&self, name: &str) -> Result<ImageSummary> {
        let parts = self.parts(name)?;
        let refuse = |key: &str, error: serde_json::Error| {
            Error::document(name, Location::Key(key.to_owned()), error.to_string())
        };
        let manifest: ImageManifest = serde_json::from_slice(parts.manifest.blob.bytes())
            .map_err(|error| refuse("manifest", error))?;
        let config: ImageConfiguration = serde_json::from_slice(parts.config.bytes())
            .map_err(|error| refuse("config", error))?;
        let own = parts.layers.iter().map(|(_, record)| record);
        let layers = parts.base.iter().chain(own).map(|record| StoredLayer {
            descriptor: record.descriptor(),
            diff_id: record.diff_id,
        });
        let image = StoredImage {
            names: self.names.clone(),
            raw_manifest: parts.manifest,
            manifest,
            raw_config: parts.config,
            config,
            layers: layers.collect(),
        };
        let store_dir: StoreDir = self.store_dir.parse().unwrap_or_default();
        let contents = vec![None; image.layers.len()];
        let mut summary = summary(name, image, &store_dir, &contents)?;
        // The recipe has whole names where the image may have beginnings.
        let own = summary.layers.iter_mut().skip(parts.base.len());
        for (layer, (spec, _)) in own.zip(&parts.layers) {
            let paths = spec.content.store_paths();
            let paths: Vec<String> = paths.iter().map(|(path, _)| store_dir.join(path)).collect();
            if layer
                .nar_sizes
                .as_ref()
                .is_some_and(|sizes| sizes.len() != paths.len())
            {
                layer.nar_sizes = None;
            }
            layer.paths = Some(paths);
        }
        Ok(summary)
    }

    /// Returns which store paths are in which layer of the image that it is of;
    /// `name` names the recipe. It has no NAR sizes.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::parts`].
    pub fn listing(&self, name: &str) -> Result<ImageListing> {
        let parts = self.parts(name)?;
        let config: serde_json::Value = serde_json::from_slice(parts.config.bytes())
            .map_err(|e| Error::document(name, Location::Key("config".into()), e.to_string()))?;
        let part = |key: &str| config.get(key).and_then(serde_json::Value::as_str);
        let platform = [part("os"), part("architecture"), part("variant")];
        let platform: Vec<&str> = platform.into_iter().flatten().collect();
        let listed = |record: &LayerRecord, paths: Vec<TablePath>, is_base: bool| ListedLayer {
            digest: Some(record.digest),
            size: Some(record.size),
            media_type: Some(record.media_type.to_string()),
            diff_id: Some(record.diff_id),
            nar_size: None,
            paths: Some(paths),
            is_base: Some(is_base),
        };
        // Of a base's layers only the image itself tells.
        let manifest: ImageManifest = serde_json::from_slice(parts.manifest.blob.bytes())
            .map_err(|e| Error::document(name, Location::Key("manifest".into()), e.to_string()))?;
        let told = ImageTable::read(&manifest).unwrap_or_default().layers;
        let told = told.into_iter().map(|layer| layer.paths);
        let below = parts.base.iter().zip(told.chain(iter::repeat(Vec::new())));
        let below = below.map(|(record, paths)| listed(record, paths, true));
        let layers = parts.layers.iter();
        let layers = layers.map(|(spec, record)| listed(record, listed_paths(spec), false));
        let layers = below.chain(layers);
        Ok(ImageListing {
            name: name.to_owned(),
            digest: Some(parts.manifest.digest()),
            platform: Some(platform.join("/")),
            layers: layers.collect(),
            config: Some(config),
        })
    }
}

/// Returns what is in a layer of a recipe, which has no sizes of its paths: the
/// last one, which needs those before it.
pub(super) fn recipe_label(spec: &LayerSpec) -> String {
    match &spec.content {
        LayerContent::StorePaths(paths) => paths.last().map(|(path, _)| path.name()),
        LayerContent::RootTree(_) => None,
        LayerContent::Tar(_) => Some("tar"),
        LayerContent::Used(used) => return recipe_label(&used.spec),
    }
    .unwrap_or("root tree")
    .to_owned()
}

/// Returns what a recipe tells of a layer's plan.
pub(super) fn outline(spec: &LayerSpec, key: Option<LayerKey>, nar_size: u64) -> LayerOutline {
    LayerOutline {
        spec: spec.clone(),
        key,
        nar_size,
        nar_sizes: Vec::new(),
        strategy: "recipe".to_owned(),
        reason: "as the recipe says".to_owned(),
        origin: LayerOrigin::New,
    }
}

fn listed_paths(spec: &LayerSpec) -> Vec<TablePath> {
    let listed = spec
        .content
        .store_paths()
        .iter()
        .map(|(path, _)| TablePath {
            path: StorePathPrefix::from(path),
            nar_size: None,
        });
    listed.collect()
}

fn content(
    layer: &RecipeLayer,
    store_dir: &StoreDir,
    record: &LayerRecord,
    refuse: impl Fn(&str, &dyn std::fmt::Display) -> Error,
) -> Result<LayerContent> {
    if let Some(file) = &layer.tar {
        if !layer.root_tree.is_empty() || !layer.paths.is_empty() {
            return Err(refuse("tar", &"a layer that is a tar has nothing else"));
        }
        let path = unspell(file).filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| refuse("tar", &format!("{file:?} is no file's name")))?;
        let path = PathBuf::from(OsString::from_vec(path));
        let (diff_id, size) = (record.diff_id, record.uncompressed_size);
        return Ok(LayerContent::Tar(TarFile::known(path, diff_id, size)));
    }
    if !layer.root_tree.is_empty() && !layer.paths.is_empty() {
        return Err(refuse(
            "rootTree",
            &"a layer has files or store paths, not both",
        ));
    }
    if layer.paths.is_empty() {
        let refuse = |problem: &dyn std::fmt::Display| refuse("rootTree", problem);
        let tree = root_tree(&layer.root_tree, store_dir, &refuse)?;
        return Ok(LayerContent::RootTree(tree));
    }
    let paths = layer.paths.iter().map(|path| {
        let nar_hash = path.nar_hash.as_deref().map(str::parse::<NarHash>);
        Ok((
            store_dir
                .parse_path(&path.path)
                .map_err(|e| refuse("paths", &e))?,
            nar_hash.transpose().map_err(|e| refuse("paths", &e))?,
        ))
    });
    paths.collect::<Result<_>>().map(LayerContent::StorePaths)
}

fn record(
    layer: &RecipeLayer,
    refuse: impl Fn(&str, &dyn std::fmt::Display) -> Error,
) -> Result<LayerRecord> {
    let digest: Digest = layer.digest.parse().map_err(|e| refuse("digest", &e))?;
    let diff_id: DiffId = layer.diff_id.parse().map_err(|e| refuse("diffId", &e))?;
    Ok(LayerRecord {
        diff_id,
        uncompressed_size: layer.uncompressed_size,
        digest,
        size: layer.size,
        media_type: MediaType::from(layer.media_type.as_str()),
    })
}
