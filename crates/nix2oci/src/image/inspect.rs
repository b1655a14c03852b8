//! What an image is, for people and scripts.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::context::Context;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::layer::survey;
use crate::oci::{Platform, descriptor_digest};
use crate::parallel;
use crate::store::StoreDir;

use super::document::parse;
use super::efficiency::efficiency;
use super::select::{config_platform, platform_text};
use super::{ImageReader, ImageTable, LayerEfficiency, StoredImage, StoredLayer, TablePath};

/// The version of [`ImageSummary`] as JSON. A field that changes its meaning
/// or goes is a new version; a new field is not.
const VERSION: u32 = 1;

/// How an image is inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectOptions {
    /// Whether the layers are read, to tell what is in them. It costs a pass
    /// over all of them.
    pub contents: bool,
    /// Whether it is found out how much of the layers nobody sees. It costs
    /// another pass over all of them.
    pub efficiency: bool,
    /// The directory that store paths are in, in the image.
    pub store_dir: StoreDir,
}

impl Default for InspectOptions {
    /// Layers are read once, and store paths are in `/nix/store`.
    fn default() -> Self {
        Self {
            contents: true,
            efficiency: false,
            store_dir: StoreDir::default(),
        }
    }
}

/// What an image is. A function of its bytes, also in its order.
///
/// Serialized with the field names in camel case; digests are texts such as
/// `sha256:…`, sizes are bytes, what is not known is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageSummary {
    /// The version of this document: 1.
    pub version: u32,
    /// The image as it was named to be opened.
    pub image: String,
    /// The names it has, perhaps none.
    pub names: Vec<String>,
    /// The digest of the manifest, which is the image's. For an archive
    /// without an OCI index the manifest is made up from what it holds.
    #[serde(serialize_with = "text")]
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// When it was made, as the config says it.
    pub created: Option<String>,
    /// Who made it, as the config says it.
    pub author: Option<String>,
    /// The digest of the config.
    #[serde(serialize_with = "text")]
    pub config_digest: Digest,
    /// Bytes of manifest, config and all layers' blobs.
    pub size: u64,
    /// Bytes of all layers' tars, if the layers were read.
    pub uncompressed_size: Option<u64>,
    /// The `config` object: `Entrypoint`, `Env` and so on, with fields that
    /// the specification does not know.
    pub config: serde_json::Value,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// How much of the layers nobody sees, if that was asked for.
    pub efficiency: Option<LayerEfficiency>,
    /// The layers, bottom first.
    pub layers: Vec<LayerSummary>,
}

/// What a layer is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerSummary {
    /// The digest of the blob, as the manifest says it.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The digest of the tar.
    #[serde(serialize_with = "text")]
    pub diff_id: DiffId,
    /// Whether it is of the base that the image was built on, if the image
    /// tells it.
    #[serde(rename = "base")]
    pub is_base: Option<bool>,
    /// The beginning of the layer's key, if the image tells it:
    /// `sha256:<40 digits>…`.
    pub key: Option<String>,
    /// The store paths in it, in the order in which they are packed, if the
    /// image tells them: in full, or `abcdefgh…-name` if only the beginning of
    /// the hash is told.
    pub paths: Option<Vec<String>>,
    /// The NAR sizes of [`paths`](Self::paths) in bytes.
    pub nar_sizes: Option<Vec<Option<u64>>>,
    /// The comment of its history entry.
    pub comment: Option<String>,
    /// The command of its history entry.
    pub created_by: Option<String>,
    /// What is in it, if the layers were read.
    pub contents: Option<LayerContents>,
}

/// What is in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerContents {
    /// Bytes of the tar.
    pub uncompressed_size: u64,
    /// The store paths in it, in full, in the order of their names.
    pub store_paths: Vec<String>,
    /// Regular files.
    pub files: u64,
    /// Bytes of their content.
    pub file_bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Hard links.
    pub hard_links: u64,
    /// Marks that delete what lower layers have.
    pub whiteouts: u64,
}

fn text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Tells what an image is.
///
/// The image is the one that `platform` and the tag choose, as in
/// [`ImageReader::image`]. Layers are read on `cx.threads` workers.
///
/// # Errors
///
/// As those of [`ImageReader::image`]; a layer that is not what its descriptor
/// says or that is no readable tar is an error too. Use
/// [`check`](super::check()) to hear all that is wrong.
pub fn inspect(
    cx: &Context,
    reader: &ImageReader,
    platform: Option<&Platform>,
    options: &InspectOptions,
) -> Result<ImageSummary> {
    let image = reader.image(cx, platform)?;
    let contents = if options.contents {
        parallel::for_each(cx, &image.layers, |layer| {
            contents(cx, reader, options, layer).map(Some)
        })?
    } else {
        vec![None; image.layers.len()]
    };
    let efficiency = options
        .efficiency
        .then(|| efficiency(cx, reader, &image, &options.store_dir))
        .transpose()?;
    let mut summary = summary(reader.name(), image, &options.store_dir, &contents)?;
    summary.efficiency = efficiency;
    Ok(summary)
}

/// Tells what is in an image's documents, and in its layers as far as that is
/// known.
pub(crate) fn summary(
    name: &str,
    image: StoredImage,
    store_dir: &StoreDir,
    contents: &[Option<LayerContents>],
) -> Result<ImageSummary> {
    let raw: serde_json::Value = parse(name, image.raw_config.bytes())?;
    let layers = layers(&image, store_dir, contents);
    let sizes = layers.iter().map(|layer| layer.size);
    let documents = image.raw_manifest.blob.bytes().len() + image.raw_config.bytes().len();
    let platform = config_platform(&image.config);
    Ok(ImageSummary {
        version: VERSION,
        image: name.to_owned(),
        digest: image.raw_manifest.digest(),
        media_type: image_media_type(&image),
        platform: platform_text(&platform),
        created: image.config.created().clone(),
        author: image.config.author().clone(),
        config_digest: image.raw_config.digest(),
        size: sizes.fold(documents as u64, u64::saturating_add),
        uncompressed_size: contents
            .iter()
            .map(|contents| contents.as_ref().map(|c| c.uncompressed_size))
            .sum(),
        config: raw.get("config").cloned().unwrap_or_default(),
        annotations: image
            .manifest
            .annotations()
            .iter()
            .flatten()
            .map(pair)
            .collect(),
        names: image.names,
        efficiency: None,
        layers,
    })
}

fn pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

fn image_media_type(image: &StoredImage) -> String {
    use crate::layer::Blob;
    image
        .raw_manifest
        .blob
        .descriptor()
        .media_type()
        .to_string()
}

fn layers(
    image: &StoredImage,
    store_dir: &StoreDir,
    contents: &[Option<LayerContents>],
) -> Vec<LayerSummary> {
    let history = image.config.history().as_deref().unwrap_or_default();
    let mut history = history
        .iter()
        .filter(|entry| entry.empty_layer() != Some(true));
    let table = ImageTable::read(&image.manifest).unwrap_or_default();
    let full = |told: &TablePath| match told.path.whole() {
        Some(path) => store_dir.join(&path),
        None => told.path.to_string(),
    };
    image
        .layers
        .iter()
        .zip(contents)
        .enumerate()
        .map(|(at, (layer, contents))| {
            let entry = history.next();
            let told = table.layers.get(at);
            let paths = told.map(|told| &told.paths);
            LayerSummary {
                digest: layer.descriptor.digest().to_string(),
                size: layer.descriptor.size(),
                media_type: layer.descriptor.media_type().to_string(),
                diff_id: layer.diff_id,
                is_base: told.map(|_| at < table.base_layers),
                key: told.and_then(|told| told.key).map(|key| key.to_string()),
                paths: paths.map(|paths| paths.iter().map(full).collect()),
                nar_sizes: paths.map(|paths| paths.iter().map(|path| path.nar_size).collect()),
                comment: entry.and_then(|entry| entry.comment().clone()),
                created_by: entry.and_then(|entry| entry.created_by().clone()),
                contents: contents.clone(),
            }
        })
        .collect()
}

/// Reads a layer.
fn contents(
    cx: &Context,
    reader: &ImageReader,
    options: &InspectOptions,
    layer: &StoredLayer,
) -> Result<LayerContents> {
    let found = survey(cx, &options.store_dir, reader.open_blob(&layer.descriptor)?)?;
    let place = || format!("{}: layer {}", reader.name(), layer.descriptor.digest());
    debug_assert_eq!(descriptor_digest(&layer.descriptor), Some(found.digest));
    let is_unreadable = |problem: &&crate::layer::LayerProblem| problem.is_unreadable();
    if let Some(problem) = found.problems.iter().find(is_unreadable) {
        return Err(Error::image(place(), problem.to_string()));
    }
    let Some((_, uncompressed_size)) = found.tar else {
        return Err(Error::image(place(), "cannot be decompressed"));
    };
    Ok(LayerContents {
        uncompressed_size,
        store_paths: found
            .store_paths
            .iter()
            .map(|path| options.store_dir.join(path))
            .collect(),
        files: found.entries.files,
        file_bytes: found.entries.file_bytes,
        directories: found.entries.directories,
        symlinks: found.entries.symlinks,
        hard_links: found.entries.hard_links,
        whiteouts: found.entries.whiteouts,
    })
}
