//! All that an image consists of, for whoever copies it.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::oci::{Descriptor, ImageIndex, ImageManifest, Platform};

use super::document::parse;
use super::reader::{ImageReader, MAX_MANIFEST};
use super::walk::{Limit, Parent, Visitor, Walk};
use super::{StoredManifest, select};

/// Bytes that all manifests of a tree may have, which is in memory as a whole: 32
/// of the largest, or some ten thousand usual ones.
const MAX_MANIFESTS: u64 = 32 * MAX_MANIFEST;

/// All that an image consists of: one image, or an index with the images of
/// several platforms and what is stored beside them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageTree {
    /// Manifests and indexes, each once and after those that it names. The last
    /// one is the image.
    pub documents: Vec<TreeDocument>,
    /// The blobs that they name, each once: layers in the order of the
    /// manifests, each manifest's config after its layers. Without those that a
    /// registry may not have, which a node gets elsewhere.
    pub blobs: Vec<Descriptor>,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TreeDocument {
    /// Its descriptor, as it is named.
    pub descriptor: Descriptor,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// Its config, if it is a manifest.
    pub config: Option<Descriptor>,
    /// What it belongs to, if it is a signature or another artifact.
    pub subject: Option<Descriptor>,
}

impl ImageTree {
    /// Returns the blobs that are no configs: the layers of all images, each
    /// once.
    pub fn layers(&self) -> impl Iterator<Item = &Descriptor> {
        let configs = self.documents.iter().filter_map(|d| d.config.as_ref());
        let configs: BTreeSet<_> = configs.map(|d| d.digest().to_string()).collect();
        let blobs = self.blobs.iter();
        blobs.filter(move |blob| !configs.contains(&blob.digest().to_string()))
    }

    /// Returns the layers that a manifest of the tree names, without those that are
    /// not among its blobs.
    pub(crate) fn layers_of(&self, manifest: &TreeDocument) -> Vec<Descriptor> {
        let parsed = serde_json::from_slice::<ImageManifest>(&manifest.bytes);
        let parsed = parsed.expect("it was parsed when the tree was walked");
        let blobs = self.blobs.iter().map(|blob| blob.digest().to_string());
        let blobs: BTreeSet<String> = blobs.collect();
        let is_copied = |layer: &&Descriptor| blobs.contains(&layer.digest().to_string());
        parsed.layers().iter().filter(is_copied).cloned().collect()
    }

    /// Returns the image's own document.
    pub fn root(&self) -> &TreeDocument {
        self.documents
            .last()
            .expect("a tree has at least the document that it began with")
    }
}

impl ImageReader {
    /// Returns all that one image consists of: the image that the tag and
    /// `platform` choose, or without a platform the whole entry of the
    /// outermost index, which may be an index of several platforms.
    ///
    /// Reads manifests and indexes, no config and no layer.
    ///
    /// # Errors
    ///
    /// As [`ImageReader::image`] and [`ImageReader::manifests`];
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) as well if there are
    /// several images and no tag chooses one, if an index names what is not
    /// there, or if the manifests have more than 128 MiB.
    pub fn tree(&self, cx: &Context, platform: Option<&Platform>) -> Result<ImageTree> {
        let entry = match platform {
            Some(_) => self.chosen(cx, platform)?.descriptor,
            None => self.only_entry()?.clone(),
        };
        let mut collect = Collect {
            image: self,
            seen: BTreeSet::new(),
            manifests: Vec::new(),
            indexes: Vec::new(),
            blobs: Vec::new(),
            room: MAX_MANIFESTS,
        };
        Walk::new(cx).entry(&entry, &mut collect)?;
        let Collect {
            mut manifests,
            mut indexes,
            blobs,
            ..
        } = collect;
        // An index is met before those in it.
        indexes.reverse();
        manifests.append(&mut indexes);
        Ok(ImageTree {
            documents: manifests,
            blobs,
        })
    }

    /// Returns the platform of an image that is a document of its tree: what its
    /// config says. Nothing if it is an index, or a manifest of something else.
    ///
    /// # Errors
    ///
    /// As [`ImageReader::load`].
    pub fn platform_of(&self, document: &TreeDocument) -> Result<Option<Platform>> {
        let Some(manifest) = &document.config else {
            return Ok(None);
        };
        if !select::is_config(manifest.media_type()) || select::is_attached(&document.descriptor) {
            return Ok(None);
        }
        let image = self.load(&StoredManifest {
            names: Vec::new(),
            descriptor: document.descriptor.clone(),
            entry: 0,
        })?;
        Ok(Some(select::config_platform(&image.config)))
    }

    /// Returns the one entry of the outermost index that the tag names.
    fn only_entry(&self) -> Result<&Descriptor> {
        let entries = self.index().manifests().iter();
        let mut left: Vec<&Descriptor> = entries.filter(|d| !select::is_attached(d)).collect();
        let names: Vec<String> = left.iter().flat_map(|d| select::names(d)).collect();
        if let Some(tag) = self.tag() {
            left = select::tagged(left, tag, |d| select::names(d));
        }
        left.dedup_by(|a, b| a.digest() == b.digest());
        let problem = match (left.as_slice(), self.tag()) {
            ([one], _) => return Ok(one),
            ([], None) => "holds no image".to_owned(),
            ([], Some(tag)) => format!("holds no image {tag}; it holds {}", names.join(", ")),
            (left, _) => {
                let name = |d: &&Descriptor| select::names(d).into_iter().next();
                let names: Vec<String> = left.iter().filter_map(name).collect();
                format!(
                    "holds several images, and one must be chosen by its tag: {}",
                    names.join(", ")
                )
            }
        };
        Err(Error::image(self.name(), problem))
    }
}

/// Collects documents and blobs.
struct Collect<'a> {
    image: &'a ImageReader,
    seen: BTreeSet<String>,
    manifests: Vec<TreeDocument>,
    indexes: Vec<TreeDocument>,
    blobs: Vec<Descriptor>,
    /// Bytes that the manifests still to come may have.
    room: u64,
}

impl Collect<'_> {
    /// Returns whether a digest is met for the first time.
    fn is_new(&mut self, descriptor: &Descriptor) -> bool {
        self.seen.insert(descriptor.digest().to_string())
    }
}

impl Visitor for Collect<'_> {
    fn manifest(&mut self, descriptor: &Descriptor, _: Option<Parent<'_>>) -> Result<()> {
        if !self.is_new(descriptor) {
            return Ok(());
        }
        self.room = self.room.checked_sub(descriptor.size()).ok_or_else(|| {
            let problem = format!("holds manifests of more than {MAX_MANIFESTS} bytes");
            Error::image(self.image.name(), problem)
        })?;
        let bytes = self.image.read_blob(descriptor, "manifest", MAX_MANIFEST)?;
        let manifest: ImageManifest = parse(&self.image.place("manifest", descriptor), &bytes)?;
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            if !is_elsewhere(blob) && self.is_new(blob) {
                self.blobs.push(blob.clone());
            }
        }
        self.manifests.push(TreeDocument {
            descriptor: descriptor.clone(),
            bytes,
            config: Some(manifest.config().clone()),
            subject: manifest.subject().clone(),
        });
        Ok(())
    }

    fn index(&mut self, descriptor: &Descriptor) -> Result<Option<ImageIndex>> {
        // One that is met again, and all in it, has to stand before this parent
        // as well.
        self.indexes
            .retain(|known| known.descriptor.digest() != descriptor.digest());
        let bytes = self.image.read_blob(descriptor, "index", MAX_MANIFEST)?;
        let index: ImageIndex = parse(&self.image.place("index", descriptor), &bytes)?;
        self.indexes.push(TreeDocument {
            descriptor: descriptor.clone(),
            bytes,
            config: None,
            subject: index.subject().clone(),
        });
        Ok(Some(index))
    }

    fn beyond(&mut self, _: &Descriptor, limit: Limit) -> Result<()> {
        Err(self.image.endless(limit))
    }
}

/// Returns whether a layer is one that registries do not keep: Windows' base
/// layers, which are fetched from the `urls` of the descriptor.
pub(crate) fn is_elsewhere(blob: &Descriptor) -> bool {
    let media_type = blob.media_type().to_string();
    blob.urls().as_ref().is_some_and(|urls| !urls.is_empty())
        && (media_type.contains("nondistributable") || media_type.contains("foreign"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::{BlobFiles, ImageLock};
    use crate::oci::{MediaType, descriptor};

    #[test]
    fn manifests_are_read_only_while_there_is_room() {
        let lock = br#"{"version": 1, "images": [], "documents": [], "blobs": []}"#;
        let lock = ImageLock::parse(lock, "lock.json").unwrap();
        let image = ImageReader::open_lock(&lock, "it", None, BlobFiles::default()).unwrap();
        let mut collect = Collect {
            image: &image,
            seen: BTreeSet::new(),
            manifests: Vec::new(),
            indexes: Vec::new(),
            blobs: Vec::new(),
            room: 100,
        };
        let mut meet = |text: &str, size| {
            let digest = Digest::of(text.as_bytes());
            let manifest = descriptor(MediaType::ImageManifest, digest, size);
            let met = collect.manifest(&manifest, None);
            met.unwrap_err().to_string()
        };
        // It is asked for, and not there.
        assert!(meet("one", 60).ends_with("is not there"));
        assert!(meet("two", 60).contains("holds manifests of more than"));
        assert!(meet("three", 40).ends_with("is not there"));
        assert!(meet("four", u64::MAX).contains("holds manifests of more than"));
    }
}
