//! What `docker save` writes: `manifest.json` and files that it names.
//!
//! Source: moby `image/tarexport/` (24.0): an array of objects with `Config`,
//! `RepoTags` and `Layers`. The config is what OCI made its own of, so only the
//! manifest is missing, and is made here.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use serde_json::json;

use crate::context::Context;
use crate::digest::{Digest, DigestReader};
use crate::error::{Error, Location, Result};
use crate::layer::Codec;
use crate::oci::{Descriptor, MediaType, canonical_json, descriptor};

use super::reader::{self, DockerBlob, Files, FoundFile, MAX_CONFIG, lift, read_document};
use super::select::{CONTAINERD_NAME, REF_NAME};

/// The file's name in an archive.
pub(super) const MANIFEST_JSON: &str = "manifest.json";

/// The media type of the manifests that are made.
const PRESENTED: MediaType = MediaType::ImageManifest;

/// Images that `manifest.json` may name.
const MAX_IMAGES: usize = 1024;

/// One entry of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    /// The config's file.
    pub(super) config: String,
    /// The image's names.
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    /// The layers' files, bottom first.
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// An archive as if it had an OCI index.
pub(super) struct Presented {
    pub(super) index: Vec<u8>,
    pub(super) blobs: BTreeMap<Digest, DockerBlob>,
}

/// Reads `manifest.json`.
pub(super) fn parse(document: &str, bytes: &[u8]) -> Result<Vec<DockerImage>> {
    let images: Vec<DockerImage> = reader::parse(document, bytes)?;
    if images.len() > MAX_IMAGES {
        let problem = format!("names {} images, {MAX_IMAGES} are allowed", images.len());
        return Err(Error::document(document, Location::Whole, problem));
    }
    Ok(images)
}

/// Makes an index and manifests for the images of an archive.
///
/// A layer that is not compressed gets the digest that the config says, which
/// is then verified by whoever reads it; others are hashed.
pub(super) fn present(
    cx: &Context,
    archive: &str,
    files: &dyn Files,
    images: &[DockerImage],
) -> Result<Presented> {
    let mut blobs = BTreeMap::new();
    let mut hashed = BTreeMap::new();
    let mut entries = Vec::new();
    for image in images {
        let config = read_document(archive, files, &image.config, MAX_CONFIG)?
            .ok_or_else(|| missing(archive, &image.config))?;
        let diff_ids = diff_ids(&config);
        let mut layers = Vec::new();
        for (i, file) in image.layers.iter().flatten().enumerate() {
            cx.cancel.check()?;
            let layer = match hashed.get(file) {
                Some(known) => Descriptor::clone(known),
                None => {
                    let found = files.open(file)?.ok_or_else(|| missing(archive, file))?;
                    let again = || files.open(file)?.ok_or_else(|| missing(archive, file));
                    let layer = describe(cx, archive, found, again, diff_ids.get(i).copied())?;
                    hashed.insert(file, layer.clone());
                    layer
                }
            };
            if let Some(digest) = crate::oci::descriptor_digest(&layer) {
                blobs.insert(digest, DockerBlob::Member(file.clone()));
            }
            layers.push(layer);
        }
        let config_digest = Digest::of(&config);
        let manifest = canonical_json(&json!({
            "schemaVersion": 2,
            "mediaType": PRESENTED.as_ref(),
            "config": descriptor(MediaType::ImageConfig, config_digest, config.len() as u64),
            "layers": layers,
        }));
        let manifest_digest = Digest::of(&manifest);
        let mut entry = descriptor(PRESENTED, manifest_digest, manifest.len() as u64);
        blobs.insert(config_digest, DockerBlob::Member(image.config.clone()));
        blobs.insert(manifest_digest, DockerBlob::Bytes(manifest));
        let names = image.repo_tags.as_deref().unwrap_or_default();
        if names.is_empty() {
            entries.push(entry.clone());
        }
        for name in names {
            let annotations = [REF_NAME, CONTAINERD_NAME].map(|key| (key.to_owned(), name.clone()));
            entry.set_annotations(Some(annotations.into()));
            entries.push(entry.clone());
        }
    }
    let index = canonical_json(&json!({ "schemaVersion": 2, "manifests": entries }));
    Ok(Presented { index, blobs })
}

/// Finds what a layer's descriptor must be.
fn describe(
    cx: &Context,
    archive: &str,
    found: FoundFile,
    again: impl FnOnce() -> Result<FoundFile>,
    diff_id: Option<Digest>,
) -> Result<Descriptor> {
    let mut head = Vec::new();
    found
        .reader
        .take(Codec::MAGIC_LEN as u64)
        .read_to_end(&mut head)
        .map_err(|error| lift(archive, error))?;
    let codec = Codec::sniff(&head);
    let digest = match (codec, diff_id) {
        (Codec::None, Some(digest)) => digest,
        _ => hash(cx, archive, again()?)?,
    };
    Ok(descriptor(codec.media_type(), digest, found.size))
}

/// Returns the digest of a file.
pub(super) fn hash(cx: &Context, archive: &str, found: FoundFile) -> Result<Digest> {
    let mut reader = DigestReader::new(found.reader);
    let mut buffer = vec![0; 128 << 10];
    loop {
        cx.cancel.check()?;
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(reader.finish().1),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(lift(archive, error)),
        }
    }
}

/// Returns the diff IDs that a config names, up to the first bad one.
fn diff_ids(config: &[u8]) -> Vec<Digest> {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    config["rootfs"]["diff_ids"]
        .as_array()
        .into_iter()
        .flatten()
        .map_while(|id| id.as_str()?.parse().ok())
        .collect()
}

fn missing(archive: &str, file: &str) -> Error {
    Error::image(
        archive,
        format!("{MANIFEST_JSON} names {file:?}, which is not there"),
    )
}
