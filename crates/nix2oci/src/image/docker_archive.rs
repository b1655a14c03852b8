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
use crate::oci::annotation::{IMAGE_NAME, REF_NAME};
use crate::oci::{Descriptor, MediaType, canonical_json, descriptor};

use super::document::{self, lift, read_all};
use super::reader::{DockerBlob, Files, Found, FoundFile, MAX_CONFIG};
use super::walk::MAX_ENTRIES;

/// The file's name in an archive.
pub(super) const MANIFEST_JSON: &str = "manifest.json";

/// The media type of the manifests that are made.
const PRESENTED: MediaType = MediaType::ImageManifest;

/// Images that `manifest.json` may name.
const MAX_IMAGES: usize = 1024;

/// Layers that an image may have. No loader takes as many; those that one
/// refuses are still told from those that only waste memory.
const MAX_IMAGE_LAYERS: usize = 4096;

/// Layers that all images of an archive may have.
const MAX_ALL_LAYERS: usize = 1 << 16;

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

/// Reads `manifest.json`. It is small, but much is made of each word in it, so
/// there is a limit for every list.
pub(super) fn parse(document: &str, bytes: &[u8]) -> Result<Vec<DockerImage>> {
    let images: Vec<DockerImage> = document::parse(document, bytes)?;
    let names = images.iter().flat_map(|image| &image.repo_tags);
    let layers = images.iter().flat_map(|image| &image.layers).map(Vec::len);
    for (count, limit, what) in [
        (images.len(), MAX_IMAGES, "images"),
        (names.map(Vec::len).sum(), MAX_ENTRIES, "RepoTags"),
        (
            layers.clone().max().unwrap_or(0),
            MAX_IMAGE_LAYERS,
            "layers of one image",
        ),
        (layers.sum(), MAX_ALL_LAYERS, "layers"),
    ] {
        if count > limit {
            let problem = format!("names {count} {what}, {limit} are allowed");
            return Err(Error::document(document, Location::Whole, problem));
        }
    }
    Ok(images)
}

/// Makes an index and manifests for the images of an archive.
///
/// A layer that is not compressed gets the digest that the config says, which
/// is then verified by whoever reads it; others are hashed. A file that is not
/// there gets a digest nevertheless, so that all the others can be looked at;
/// whoever opens it hears of it.
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
        cx.cancel.check()?;
        let (config, diff_ids) = present_config(archive, files, &image.config)?;
        let mut layers = Vec::new();
        for (i, file) in image.layers.iter().flatten().enumerate() {
            cx.cancel.check()?;
            let layer = match hashed.get(file) {
                Some(known) => Descriptor::clone(known),
                None => {
                    let layer = present_layer(cx, archive, files, file, diff_ids.get(i).copied())?;
                    hashed.insert(file, layer.clone());
                    layer
                }
            };
            if let Some(digest) = crate::oci::descriptor_digest(&layer) {
                blobs.insert(digest, DockerBlob::Member(file.clone()));
            }
            layers.push(layer);
        }
        let manifest = canonical_json(&json!({
            "schemaVersion": 2,
            "mediaType": PRESENTED.as_ref(),
            "config": config,
            "layers": layers,
        }));
        let manifest_digest = Digest::of(&manifest);
        let mut entry = descriptor(PRESENTED, manifest_digest, manifest.len() as u64);
        if let Some(digest) = crate::oci::descriptor_digest(&config) {
            blobs.insert(digest, DockerBlob::Member(image.config.clone()));
        }
        blobs.insert(manifest_digest, DockerBlob::Bytes(manifest));
        let names = image.repo_tags.as_deref().unwrap_or_default();
        if names.is_empty() {
            entries.push(entry.clone());
        }
        for name in names {
            let annotations = [REF_NAME, IMAGE_NAME].map(|key| (key.to_owned(), name.clone()));
            entry.set_annotations(Some(annotations.into()));
            entries.push(entry.clone());
        }
    }
    let index = canonical_json(&json!({ "schemaVersion": 2, "manifests": entries }));
    Ok(Presented { index, blobs })
}

/// Finds what a config's descriptor must be, and which diff IDs it names.
fn present_config(
    archive: &str,
    files: &dyn Files,
    file: &str,
) -> Result<(Descriptor, Vec<Digest>)> {
    let (digest, size, diff_ids) = match files.find(file)? {
        Found::File(found) if found.size <= MAX_CONFIG => {
            let bytes = read_all(&format!("{archive}: {file}"), found.reader, MAX_CONFIG)?;
            (Digest::of(&bytes), bytes.len() as u64, diff_ids(&bytes))
        }
        Found::File(found) => (stand_in(file), found.size, Vec::new()),
        Found::Nothing | Found::Unusable(_) => (stand_in(file), 0, Vec::new()),
    };
    Ok((descriptor(MediaType::ImageConfig, digest, size), diff_ids))
}

/// Finds what a layer's descriptor must be.
fn present_layer(
    cx: &Context,
    archive: &str,
    files: &dyn Files,
    file: &str,
    diff_id: Option<Digest>,
) -> Result<Descriptor> {
    let lost = || {
        let digest = diff_id.unwrap_or_else(|| stand_in(file));
        Ok(descriptor(MediaType::ImageLayer, digest, 0))
    };
    let Found::File(found) = files.find(file)? else {
        return lost();
    };
    let mut head = Vec::new();
    found
        .reader
        .take(Codec::MAGIC_LEN as u64)
        .read_to_end(&mut head)
        .map_err(|error| lift(archive, error))?;
    let codec = Codec::sniff(&head);
    let digest = match (codec, diff_id) {
        (Codec::None, Some(digest)) => digest,
        _ => match files.find(file)? {
            Found::File(again) => hash(cx, archive, again)?,
            Found::Nothing | Found::Unusable(_) => return lost(),
        },
    };
    Ok(descriptor(codec.media_type(), digest, found.size))
}

/// Returns the digest of a file that cannot be read: what its name says, else
/// one that no other file has.
fn stand_in(file: &str) -> Digest {
    let name = file.rsplit('/').next().unwrap_or(file);
    let hex = name.strip_suffix(".json").unwrap_or(name);
    format!("sha256:{hex}")
        .parse()
        .unwrap_or_else(|_| Digest::of(file.as_bytes()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_has_a_limit() {
        let image = |tags: usize, layers: usize| json!({ "Config": "c", "RepoTags": vec!["t"; tags], "Layers": vec!["l"; layers] });
        let read = |images: Vec<serde_json::Value>| {
            let bytes = serde_json::to_vec(&images).unwrap();
            parse("test", &bytes).map_err(|error| error.to_string())
        };
        assert_eq!(read(vec![image(2048, 4096); 2]).unwrap().len(), 2);
        for (images, expected) in [
            (vec![image(0, 0); 1025], "names 1025 images, 1024 are"),
            (vec![image(2049, 0); 2], "names 4098 RepoTags, 4096 are"),
            (
                vec![image(1, 4097)],
                "names 4097 layers of one image, 4096 are",
            ),
            (vec![image(1, 4000); 17], "names 68000 layers, 65536 are"),
        ] {
            let error = read(images).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
