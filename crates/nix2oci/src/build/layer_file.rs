//! Layers that are made by themselves, for images that will use them.
//!
//! A directory with a document `layer.json`, and perhaps the blobs. The
//! document names the documents of the layers below it and does not repeat
//! them, so that a long chain of layers stays a chain, and a layer that is
//! reached in many ways is read and used once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, Location, Result};
use crate::input::{InputKind, read_file};
use crate::layer::{Blob as _, LayerHistory, SpoolPlace, UsedLayer};
use crate::oci::canonical_json;
use crate::sink::BlobOrder;
use crate::store::StoreDir;

use super::build::{Work, pack_others, tell_planned};
use super::programs::{checked_content, tell};
use super::recipe::{RecipeLayer, RecipePacking, recipe_layer};
use super::recipe_parts::packing_of;
use super::{ImageSpec, plan};

/// The version of the format that is written. Older ones stay readable.
pub const LAYER_FILE_VERSION: u64 = 1;

/// The document's name in its directory.
pub const LAYER_FILE: &str = "layer.json";

/// Layers that were made by themselves: the document beside their blobs.
///
/// A reader must refuse a `version` that it does not know and ignore fields
/// that it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerFile {
    /// [`LAYER_FILE_VERSION`].
    pub version: u64,
    /// The directory of the store paths in the image.
    pub store_dir: String,
    /// How the layers are packed.
    pub packing: RecipePacking,
    /// The layers, bottom first.
    pub layers: Vec<MadeLayer>,
    /// The documents of the layers below them, each below the next.
    pub uses: Vec<LayerFileReference>,
}

/// A layer in a [`LayerFile`]: what a recipe says of one, and more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MadeLayer {
    /// What it is made of and what it became.
    #[serde(flatten)]
    pub layer: RecipeLayer,
    /// The NAR size of each of its store paths, in bytes.
    pub nar_sizes: Vec<u64>,
    /// The file of its blob, relative to the document's directory, if it is
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
    /// What the history of an image says of it.
    #[serde(default, skip_serializing_if = "LayerHistory::is_empty")]
    pub history: LayerHistory,
}

/// Another document that a [`LayerFile`] is built on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerFileReference {
    /// Its directory: absolute, or relative to that of the document.
    pub path: String,
    /// The digest of the document.
    pub digest: String,
}

impl LayerFile {
    /// Returns the document: canonical JSON with a line break at the end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = canonical_json(self);
        json.push(b'\n');
        json
    }

    /// Reads a document; `name` names it in errors.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| Error::json_syntax(name, &e))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(LAYER_FILE_VERSION) {
            let problem = match version {
                Some(version) => {
                    format!("{version} is not a version that is known: expected 1")
                }
                None => "it is missing: these are no layers of `nix2oci layer`".to_owned(),
            };
            return Err(Error::document(
                name,
                Location::Key("version".into()),
                problem,
            ));
        }
        serde_json::from_value(value)
            .map_err(|e| Error::document(name, Location::Whole, e.to_string()))
    }

    /// Returns the layers in the library's own types; the document is in `dir`.
    fn used(&self, dir: &Path, name: &str) -> Result<Vec<UsedLayer>> {
        let refuse = |key: &str, problem: &dyn std::fmt::Display| {
            Error::document(name, Location::Key(key.to_owned()), problem.to_string())
        };
        let store_dir: StoreDir = self.store_dir.parse().map_err(|e| refuse("storeDir", &e))?;
        let packing = packing_of(&self.packing, refuse)?;
        let mut layers = Vec::with_capacity(self.layers.len());
        for (at, made) in self.layers.iter().enumerate() {
            let refuse = |key: &str, problem: &dyn std::fmt::Display| {
                refuse(&format!("layers[{at}].{key}"), problem)
            };
            if made.layer.base {
                return Err(refuse("base", &"a layer of a base is not made"));
            }
            if made.layer.packing.is_some() {
                return Err(refuse("packing", &"the document says it for all layers"));
            }
            let (spec, record) = made.layer.parts(&store_dir, refuse)?;
            let paths = spec.content.store_paths().len();
            if !matches!(made.nar_sizes.len(), 0) && made.nar_sizes.len() != paths {
                let problem = format!("there are {} for {paths} store paths", made.nar_sizes.len());
                return Err(refuse("narSizes", &problem));
            }
            let mut layer = UsedLayer::new(dir.display().to_string(), spec, packing, record);
            layer.nar_sizes.clone_from(&made.nar_sizes);
            layer.history = made.history.clone();
            if let Some(blob) = &made.blob {
                let is_below = Path::new(blob)
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                if !is_below {
                    let problem = format!("{blob:?} is no file below the document's directory");
                    return Err(refuse("blob", &problem));
                }
                layer.blob = Some(dir.join(blob));
            }
            layers.push(layer);
        }
        Ok(layers)
    }
}

/// Layers that were made by themselves, and all that are below them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct UsedLayers {
    /// The layers, bottom first, each once.
    pub layers: Vec<UsedLayer>,
    /// The documents that were named, in their order and each once, by their real
    /// directories.
    pub references: Vec<LayerFileReference>,
}

impl UsedLayers {
    /// Reads the documents in these directories and all documents that they are
    /// built on, each once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReadInput`](crate::ErrorKind::ReadInput) and
    /// [`ErrorKind::Document`](crate::ErrorKind::Document);
    /// [`ErrorKind::DigestMismatch`](crate::ErrorKind::DigestMismatch) if a
    /// document below is not the one that was built on.
    pub fn read(cx: &Context, dirs: &[PathBuf]) -> Result<Self> {
        let mut reading = Reading::default();
        let mut used = Self::default();
        for dir in dirs {
            let (real, digest) = reading.read(cx, dir)?;
            let reference = LayerFileReference {
                path: real.to_string_lossy().into_owned(),
                digest: digest.to_string(),
            };
            if !used.references.iter().any(|r| r.digest == reference.digest) {
                used.references.push(reference);
            }
        }
        let mut digests = BTreeSet::new();
        let is_first = |layer: &UsedLayer| digests.insert(layer.record.digest);
        used.layers = reading.layers;
        used.layers.retain(is_first);
        Ok(used)
    }

    /// Returns the names of store paths that are in more than one of these
    /// layers, in full, with the layers' names.
    pub fn duplicates(&self) -> Vec<(String, Vec<&str>)> {
        let mut holders: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for layer in &self.layers {
            for (path, _) in layer.spec.content.store_paths() {
                let full = layer.spec.store_dir.join(path);
                holders.entry(full).or_default().push(&layer.name);
            }
        }
        holders.retain(|_, names| names.len() > 1);
        holders.into_iter().collect()
    }
}

/// Documents that were read.
#[derive(Default)]
struct Reading {
    /// By their real directories.
    known: BTreeMap<PathBuf, Digest>,
    digests: BTreeSet<Digest>,
    layers: Vec<UsedLayer>,
}

/// A document whose layers come after those of the documents that it uses.
struct Open {
    /// Its real directory, so that a long chain has no long path.
    dir: PathBuf,
    file: LayerFile,
    /// The next one of `uses` to look at.
    next: usize,
}

impl Reading {
    /// Reads a document and all below it, unless that was done.
    fn read(&mut self, cx: &Context, dir: &Path) -> Result<(PathBuf, Digest)> {
        let mut open: Vec<Open> = Vec::new();
        let named = self.open(dir, None, &mut open)?;
        while let Some(top) = open.last_mut() {
            cx.cancel.check()?;
            if let Some(below) = top.file.uses.get(top.next).cloned() {
                top.next += 1;
                let dir = top.dir.join(&below.path);
                self.open(&dir, Some(&below), &mut open)?;
                continue;
            }
            let Some(done) = open.pop() else { break };
            let name = done.dir.join(LAYER_FILE).display().to_string();
            self.layers.extend(done.file.used(&done.dir, &name)?);
        }
        Ok(named)
    }

    /// Opens a document, unless it is known, and returns its real directory and
    /// its digest.
    fn open(
        &mut self,
        dir: &Path,
        expected: Option<&LayerFileReference>,
        open: &mut Vec<Open>,
    ) -> Result<(PathBuf, Digest)> {
        let path = dir.join(LAYER_FILE);
        let real = dir.canonicalize().map_err(Error::reading(&path))?;
        let digest = match self.known.get(&real) {
            Some(known) => *known,
            None => {
                let bytes = read_document(&path)?;
                let digest = Digest::of(&bytes);
                self.known.insert(real.clone(), digest);
                if self.digests.insert(digest) {
                    let file = LayerFile::parse(&bytes, &path.display().to_string())?;
                    open.push(Open {
                        dir: real.clone(),
                        file,
                        next: 0,
                    });
                }
                digest
            }
        };
        if let Some(expected) = expected
            && expected.digest != digest.to_string()
        {
            let expected = expected.digest.parse().map_err(|error| {
                let name = path.display().to_string();
                Error::document(name, Location::Key("uses".into()), format!("{error}"))
            })?;
            return Err(crate::error::ErrorKind::DigestMismatch {
                what: path.display().to_string(),
                expected,
                found: digest,
            }
            .into());
        }
        Ok((real, digest))
    }
}

fn read_document(path: &Path) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(Error::reading(path))?;
    if !metadata.is_file() {
        let name = path.display().to_string();
        return Err(Error::document(
            name,
            Location::Whole,
            "it is no regular file",
        ));
    }
    read_file(path, InputKind::LayerFile)
}

/// Makes the layers of a spec that are not among those that it uses, and returns
/// what they became; `uses` are the documents that it names as used, and
/// `history` is what is said of each of them. With
/// `blobs`, a directory that is there, their blobs are kept in `blobs/sha256`
/// of it, which is made; without, nothing is.
///
/// Reads the content of every store path of these layers once. What is in the
/// directory after an error are whole blobs.
///
/// # Errors
///
/// Those of [`build`](super::build()).
pub fn make_layers(
    cx: &Context,
    spec: &ImageSpec,
    uses: Vec<LayerFileReference>,
    history: &LayerHistory,
    blobs: Option<&Path>,
) -> Result<LayerFile> {
    let mut plan = plan(cx, spec)?;
    plan.layers
        .retain(|layer| layer.spec.content.used().is_none());
    let content = checked_content(spec)?;
    let work = Work::of(&plan, spec.packing, &content);
    let place = match blobs {
        Some(dir) => {
            let dir = dir.join(BLOBS);
            fs::create_dir_all(&dir).map_err(Error::writing("create", &dir))?;
            SpoolPlace::Named(dir)
        }
        None => SpoolPlace::Nowhere,
    };
    tell_planned(cx, &work, &work.known);
    let known = work.known.clone();
    let records = pack_others(cx, &work, known, BlobOrder::Any, place, |_, packed| match (
        packed.kept,
        blobs,
    ) {
        (Some(mut blob), Some(dir)) => {
            let path = dir.join(blob_name(packed.record.digest));
            blob.move_to(&path).map(|_| ())
        }
        _ => Ok(()),
    })?;
    tell(cx, &content);
    let layers = plan
        .layers
        .iter()
        .zip(&records)
        .map(|(outline, record)| MadeLayer {
            layer: recipe_layer(&outline.spec, outline.key, spec.packing, record),
            nar_sizes: outline.nar_sizes.clone(),
            blob: blobs.map(|_| blob_name(record.digest)),
            history: history.clone(),
        });
    Ok(LayerFile {
        version: LAYER_FILE_VERSION,
        store_dir: spec.closure.store_dir().to_string(),
        packing: RecipePacking::new(spec.packing),
        layers: layers.collect(),
        uses,
    })
}

/// Where blobs are below a document's directory.
const BLOBS: &str = "blobs/sha256";

fn blob_name(digest: Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

#[cfg(test)]
#[path = "layer_file_tests.rs"]
mod tests;
