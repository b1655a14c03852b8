//! An image whose digests are known and whose layers are not stored.

use std::os::unix::ffi::OsStrExt as _;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Location, Result};
use crate::image::{AssembledImage, BaseLayer};
use crate::layer::{LayerContent, LayerKey, LayerRecord, LayerSpec, Packing};
use crate::oci::{MediaType, canonical_json};
use crate::store::{NarHash, StorePath};

use super::recipe_node::{RecipeNode, recipe_nodes, spell};
use super::recipe_rule::{RecipeRule, recipe_rules};
use super::{ImagePlan, ImageSpec};

/// The newest version of the recipe format. A recipe that needs nothing of it
/// is written in version 1, and older ones stay readable.
///
/// Version 2 adds regular files outside the store, owners, extended attributes,
/// rules, tars and bases. A recipe without them is written as version 1, so that
/// older programs read it.
pub const RECIPE_VERSION: u64 = 2;

/// An image whose digests are known and whose layers are not stored: with the
/// store paths at hand, the same bytes can be made again.
///
/// It is a JSON document, some kilobytes long; see the fields. A reader must
/// refuse a `version` that it does not know and ignore fields that it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Recipe {
    /// 1, or [`RECIPE_VERSION`] if it has what version 1 lacks.
    pub version: u64,
    /// The names that the image gets.
    pub names: Vec<String>,
    /// The directory of the store paths in the image.
    pub store_dir: String,
    /// What shapes the layers' bytes.
    pub packing: RecipePacking,
    /// The digest of the manifest.
    pub manifest_digest: String,
    /// The manifest: these bytes exactly.
    pub manifest: String,
    /// The digest of the config.
    pub config_digest: String,
    /// The config: these bytes exactly.
    pub config: String,
    /// The image that it is built on. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RecipeBase>,
    /// The layers, bottom first, those of the base below all others.
    pub layers: Vec<RecipeLayer>,
}

/// A base in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipeBase {
    /// What others call it, if they know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The digest of its manifest.
    pub digest: String,
}

/// [`Packing`](crate::Packing) in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipePacking {
    /// As on the command line: `gzip:6`.
    pub compression: String,
    /// Seconds since 1970.
    pub mtime: u64,
    /// The owner's number.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
}

/// A layer in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipeLayer {
    /// Whether it is of the base, so that it cannot be made again. Such a layer
    /// has neither key nor content here. Since version 2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base: bool,
    /// Its key, if all NAR hashes were known.
    pub key: Option<String>,
    /// The store paths in it, in the order in which they are packed.
    pub paths: Vec<RecipePath>,
    /// Files outside the store, in order; a layer has these or store paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root_tree: Vec<RecipeNode>,
    /// The file of a tar that is the layer as it is, compressed or not: a path
    /// as it was given. Such a layer has nothing else. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar: Option<String>,
    /// Rules that its files follow. Since version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RecipeRule>,
    /// How it is packed, if otherwise than the recipe says: it was made before.
    /// Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<RecipePacking>,
    /// The digest of the blob.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    /// The digest of the tar.
    pub diff_id: String,
    /// Bytes of the tar; 0 for a layer of a base that does not tell it.
    pub uncompressed_size: u64,
    /// The blob's media type.
    pub media_type: String,
}

/// A store path in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipePath {
    /// The full path.
    pub path: String,
    /// Its NAR hash, if it was known.
    pub nar_hash: Option<String>,
}

impl RecipePacking {
    pub(super) fn new(packing: Packing) -> Self {
        Self {
            compression: packing.compression.to_string(),
            mtime: packing.mtime,
            uid: packing.owner.uid,
            gid: packing.owner.gid,
        }
    }
}

impl Recipe {
    pub(super) fn new(
        spec: &ImageSpec,
        plan: &ImagePlan,
        records: &[LayerRecord],
        image: &AssembledImage,
    ) -> Self {
        let store_dir = spec.closure.store_dir();
        let layers = plan.layers.iter().zip(records).map(|(outline, record)| {
            recipe_layer(&outline.spec, outline.key, spec.packing, record)
        });
        let layers: Vec<RecipeLayer> = plan.base.iter().map(base_layer).chain(layers).collect();
        let from = spec.base.as_ref().map(|base| RecipeBase {
            name: base.reference().map(str::to_owned),
            digest: base.digest().to_string(),
        });
        Self {
            version: version(from.as_ref(), &layers),
            names: spec.names.iter().map(ToString::to_string).collect(),
            store_dir: store_dir.to_string(),
            packing: RecipePacking::new(spec.packing),
            manifest_digest: image.manifest.digest().to_string(),
            manifest: text(image.manifest.blob.bytes()),
            config_digest: image.config.digest().to_string(),
            config: text(image.config.bytes()),
            from,
            layers,
        }
    }

    /// Returns the document: canonical JSON, the same for the same recipe, with
    /// a line break at the end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = canonical_json(self);
        json.push(b'\n');
        json
    }

    /// Reads a document; `name` names it in errors. Checks the version, that
    /// manifest and config have their digests, and that the layers' digests,
    /// sizes and diff IDs are well-formed and those of the manifest and config.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| Error::json_syntax(name, &e))?;
        let refuse =
            |key: &str, problem: String| Error::document(name, Location::Key(key.into()), problem);
        if value.get("recipes").is_some() {
            let problem = "it is of an index of several images, and that of one is expected";
            return Err(refuse("recipes", problem.to_owned()));
        }
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(1..=RECIPE_VERSION) => {}
            Some(version) => {
                let problem = format!("{version} is not a version that is known: expected 1 or 2");
                return Err(refuse("version", problem));
            }
            None => {
                let problem = "it is missing: this is not a recipe".to_owned();
                return Err(refuse("version", problem));
            }
        }
        let recipe: Self = serde_json::from_value(value)
            .map_err(|e| Error::document(name, Location::Whole, e.to_string()))?;
        for (key, bytes, expected) in [
            ("manifest", &recipe.manifest, &recipe.manifest_digest),
            ("config", &recipe.config, &recipe.config_digest),
        ] {
            let found = Digest::of(bytes.as_bytes()).to_string();
            if found != *expected {
                return Err(refuse(
                    key,
                    format!("it has digest {found}, expected {expected}"),
                ));
            }
        }
        recipe.check_layers(refuse)?;
        Ok(recipe)
    }

    fn check_layers(&self, refuse: impl Fn(&str, String) -> Error) -> Result<()> {
        let manifest: crate::oci::ImageManifest =
            serde_json::from_str(&self.manifest).map_err(|e| refuse("manifest", e.to_string()))?;
        let config: crate::oci::ImageConfiguration =
            serde_json::from_str(&self.config).map_err(|e| refuse("config", e.to_string()))?;
        if manifest.config().digest().to_string() != self.config_digest {
            return Err(refuse(
                "configDigest",
                "the manifest has another".to_owned(),
            ));
        }
        let (layers, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
        if layers.len() != self.layers.len() || diff_ids.len() != self.layers.len() {
            let problem = format!(
                "there are {}, the manifest has {} and the config {}",
                self.layers.len(),
                layers.len(),
                diff_ids.len()
            );
            return Err(refuse("layers", problem));
        }
        for (at, ((layer, descriptor), diff_id)) in
            self.layers.iter().zip(layers).zip(diff_ids).enumerate()
        {
            let is_out_of_place = layer.base && at > 0 && !self.layers[at - 1].base;
            if is_out_of_place || layer.base && self.from.is_none() {
                let problem = "a layer of a base is below all others, and \"from\" names the base";
                return Err(refuse(&format!("layers[{at}]"), problem.to_owned()));
            }
            let same = descriptor.digest().to_string() == layer.digest
                && descriptor.size() == layer.size
                && *diff_id == layer.diff_id
                && *descriptor.media_type() == MediaType::from(layer.media_type.as_str());
            if !same {
                let problem = "it is not the layer of the manifest and the config".to_owned();
                return Err(refuse(&format!("layers[{at}]"), problem));
            }
            layer
                .digest
                .parse::<Digest>()
                .and(layer.diff_id.parse::<DiffId>().map(|_| ()))
                .map_err(|e| refuse(&format!("layers[{at}]"), e.to_string()))?;
        }
        Ok(())
    }
}

/// Returns what a recipe says of a layer of an image whose layers are packed so.
pub(super) fn recipe_layer(
    spec: &LayerSpec,
    key: Option<LayerKey>,
    packing: Packing,
    record: &LayerRecord,
) -> RecipeLayer {
    let (spec, own) = spec.made_of(packing);
    let store_dir = &spec.store_dir;
    let mut layer = RecipeLayer {
        base: false,
        key: key.map(|key| key.to_string()),
        paths: Vec::new(),
        root_tree: Vec::new(),
        tar: None,
        rules: recipe_rules(&spec.rules, store_dir),
        packing: (own != packing).then(|| RecipePacking::new(own)),
        digest: record.digest.to_string(),
        size: record.size,
        diff_id: record.diff_id.to_string(),
        uncompressed_size: record.uncompressed_size,
        media_type: record.media_type.to_string(),
    };
    match &spec.content {
        LayerContent::RootTree(tree) => layer.root_tree = recipe_nodes(tree, store_dir),
        LayerContent::Tar(file) => layer.tar = Some(spell(file.path().as_os_str().as_bytes())),
        content => {
            let path = |(path, nar_hash): &(StorePath, Option<NarHash>)| RecipePath {
                path: store_dir.join(path),
                nar_hash: nar_hash.map(|hash| hash.to_string()),
            };
            layer.paths = content.store_paths().iter().map(path).collect();
        }
    }
    layer
}

fn base_layer(layer: &BaseLayer) -> RecipeLayer {
    let record = layer.record();
    RecipeLayer {
        base: true,
        key: None,
        paths: Vec::new(),
        root_tree: Vec::new(),
        rules: Vec::new(),
        tar: None,
        packing: None,
        digest: record.digest.to_string(),
        size: record.size,
        diff_id: record.diff_id.to_string(),
        uncompressed_size: record.uncompressed_size,
        media_type: record.media_type.to_string(),
    }
}

/// Returns the oldest version that has what a recipe needs.
fn version(from: Option<&RecipeBase>, layers: &[RecipeLayer]) -> u64 {
    let is_new = |layer: &RecipeLayer| {
        layer.tar.is_some()
            || layer.packing.is_some()
            || !layer.rules.is_empty()
            || layer.root_tree.iter().any(RecipeNode::is_of_version_2)
    };
    if from.is_some() || layers.iter().any(is_new) {
        2
    } else {
        1
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("canonical JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_documents_are_refused() {
        for (json, problem) in [
            ("", "EOF"),
            ("{}", "not a recipe"),
            (r#"{"version":3}"#, "not a version that is known"),
            (r#"{"version":1}"#, "missing field"),
            (
                r#"{"version":1,"recipes":[]}"#,
                "an index of several images",
            ),
        ] {
            let error = Recipe::parse(json.as_bytes(), "app.json").unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.to_string().starts_with("app.json"), "{error}");
        }
    }
}
