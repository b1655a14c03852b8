//! An index and what it names, as a sink is given them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::image::{Content, RawManifest, content, is_attached, is_elsewhere, is_index};
use crate::layer::Blob as _;
use crate::oci::{Descriptor, ImageManifest, Platform};

use super::index_json::parse_manifest;

/// An index whose manifests are all at hand.
pub(super) struct IndexParts {
    /// Those of its children that are manifests, in the order of the children.
    pub(super) manifests: Vec<ImageManifest>,
    /// The one of them that a program takes that knows of no index: that for
    /// linux/amd64, else the first image. There may be none.
    pub(super) first: Option<usize>,
}

/// What is needed of an index. Programs in Go write an empty list as `null`.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl IndexParts {
    /// Reads an index and its children; `image` names the sink in errors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if one of them cannot be
    /// read, or if an index names what is not among those before it.
    pub(super) fn new(image: &str, index: &RawManifest, children: &[RawManifest]) -> Result<Self> {
        let mut known = BTreeSet::new();
        let mut named = BTreeMap::new();
        let mut manifests = Vec::new();
        let mut digests = Vec::new();
        for child in children {
            if is_index(child.blob.descriptor().media_type()) {
                named.extend(read_index(image, child, &known)?);
            } else {
                manifests.push(parse_manifest(image, child)?);
                digests.push(child.digest().to_string());
            }
            known.insert(child.digest().to_string());
        }
        if !is_index(index.blob.descriptor().media_type()) {
            let problem = format!(
                "cannot hold a {} as an index",
                index.blob.descriptor().media_type()
            );
            return Err(Error::image(image, problem));
        }
        named.extend(read_index(image, index, &known)?);
        let is_image = |at: &usize| {
            content(&manifests[*at]) == Content::Image
                && !named.get(&digests[*at]).is_some_and(is_attached)
        };
        let is_usual = |at: &usize| {
            let descriptor = named.get(&digests[*at]);
            let platform = descriptor.and_then(|d| d.platform().as_ref());
            platform.is_some_and(is_linux_amd64)
        };
        let images: Vec<usize> = (0..manifests.len()).filter(is_image).collect();
        let usual = images.iter().copied().find(is_usual);
        Ok(Self {
            first: usual.or(images.first().copied()),
            manifests,
        })
    }
}

/// Reads an index whose manifests must all be known; returns them by digest.
fn read_index(
    image: &str,
    index: &RawManifest,
    known: &BTreeSet<String>,
) -> Result<BTreeMap<String, Descriptor>> {
    let parsed: Index = serde_json::from_slice(index.blob.bytes())
        .map_err(|e| Error::image(image, format!("index {}: {e}", index.digest())))?;
    let manifests = parsed.manifests.unwrap_or_default().into_iter();
    let named: BTreeMap<_, _> = manifests.map(|d| (d.digest().to_string(), d)).collect();
    match named.keys().find(|digest| !known.contains(*digest)) {
        Some(missing) => {
            let problem = format!("manifest {missing} of the index is missing");
            Err(Error::image(image, problem))
        }
        None => Ok(named),
    }
}

fn is_linux_amd64(platform: &Platform) -> bool {
    platform.os().to_string() == "linux" && platform.architecture().to_string() == "amd64"
}

/// Returns the blobs that a sink must have for a manifest: all but those that
/// nodes get elsewhere.
pub(super) fn needed_blobs(manifest: &ImageManifest) -> impl Iterator<Item = &Descriptor> {
    let blobs = manifest.layers().iter().chain([manifest.config()]);
    blobs.filter(|blob| !is_elsewhere(blob))
}
