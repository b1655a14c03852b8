//! Images that are pinned: written down, and read again as they were.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{
    BlobFiles, FoundFile, ImageLock, ImageReader, LOCK_VERSION, LockedBlob, LockedDocument,
    LockedImage, RemoteBlobs,
};
use crate::input::InputKind;
use crate::oci::{
    MediaType, Platform, Reference, descriptor, display_platform, parse_platform, parse_reference,
};

use super::Registries;
use super::image::remote_blob;

/// Bytes that all documents of a lock may have: those of a hundred images for a
/// dozen platforms each have a tenth of it, and a reader takes four times as
/// much (see [`InputKind::Lock`]).
const MAX_DOCUMENTS: u64 = InputKind::Lock.limit() / 4;

/// An image to be pinned.
#[derive(Debug, Clone, PartialEq)]
pub struct LockRequest {
    /// Its name.
    pub reference: Reference,
    /// The one platform that is wanted; all of them without it.
    pub platform: Option<Platform>,
}

impl LockRequest {
    /// Returns what was asked for to get the images of a lock; `name` names it in
    /// errors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if a name or a platform in
    /// it is none.
    pub fn of_lock(lock: &ImageLock, name: &str) -> Result<Vec<Self>> {
        let request = |image: &LockedImage| {
            let platform = image.platform.as_deref().map(parse_platform);
            Ok(Self {
                reference: parse_reference(&image.name)
                    .map_err(|e| Error::image(name, e.to_string()))?,
                platform: platform
                    .transpose()
                    .map_err(|e| Error::image(name, e.to_string()))?,
            })
        };
        lock.images.iter().map(request).collect()
    }
}

impl Registries {
    /// Pins images: reads their manifests, indexes and configs, and no layer.
    ///
    /// # Errors
    ///
    /// As those of [`Registries::open`] and
    /// [`ImageReader::tree`](crate::image::ImageReader::tree);
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if all that is to be
    /// written down has more than 64 MiB.
    pub fn lock(self: &Arc<Self>, cx: &Context, requests: &[LockRequest]) -> Result<ImageLock> {
        let mut images = Vec::with_capacity(requests.len());
        let mut documents = Documents::default();
        let mut blobs: BTreeMap<String, LockedBlob> = BTreeMap::new();
        for request in requests {
            cx.cancel.check()?;
            let reader = self.open(&request.reference)?;
            let tree = reader.tree(cx, request.platform.as_ref())?;
            let root = &tree.root().descriptor;
            let resolved = reader.index().manifests().first();
            images.push(LockedImage {
                name: request.reference.whole(),
                platform: request.platform.as_ref().map(display_platform),
                resolved: resolved.unwrap_or(root).digest().to_string(),
                digest: root.digest().to_string(),
                media_type: root.media_type().to_string(),
            });
            for document in &tree.documents {
                documents.add(reader.name(), document.bytes.clone())?;
                if let Some(config) = &document.config {
                    documents.add(reader.name(), reader.read_config(config)?)?;
                }
            }
            let place = format!(
                "{}/{}",
                request.reference.registry(),
                request.reference.repository()
            );
            for layer in tree.layers() {
                let digest = layer.digest().to_string();
                let blob = blobs.entry(digest.clone()).or_insert_with(|| LockedBlob {
                    digest,
                    size: layer.size(),
                    media_type: layer.media_type().to_string(),
                    from: Vec::new(),
                });
                if !blob.from.contains(&place) {
                    blob.from.push(place.clone());
                }
            }
        }
        Ok(ImageLock {
            version: LOCK_VERSION,
            images,
            documents: documents.finish(),
            blobs: blobs.into_values().collect(),
        })
    }

    /// Returns the digest of what a name stands for now, or `None` if there is
    /// nothing of that name.
    ///
    /// # Errors
    ///
    /// Those of the registry.
    pub fn resolve(self: &Arc<Self>, reference: &Reference) -> Result<Option<String>> {
        let found = self.find(reference)?;
        let digest = |reader: &ImageReader| {
            let entry = reader.index().manifests().first()?;
            Some(entry.digest().to_string())
        };
        Ok(found.as_ref().and_then(digest))
    }

    /// Opens what a lock pins, as
    /// [`ImageReader::open_lock`](crate::image::ImageReader::open_lock). Layers
    /// that are not among `files` are asked for where they are, and only then is
    /// a registry talked to.
    ///
    /// # Errors
    ///
    /// As that.
    pub fn open_lock(
        self: &Arc<Self>,
        lock: &ImageLock,
        name: &str,
        tag: Option<&str>,
        files: BlobFiles,
    ) -> Result<ImageReader> {
        let remote = Box::new(Remote(Arc::clone(self)));
        ImageReader::open_lock_with(lock, name, tag, files, Some(remote))
    }
}

/// The documents of a lock, which are in memory together.
#[derive(Default)]
struct Documents {
    texts: BTreeMap<String, String>,
    bytes: u64,
}

impl Documents {
    /// Adds a document of an image, unless it is there.
    fn add(&mut self, image: &str, bytes: Vec<u8>) -> Result<()> {
        let digest = Digest::of(&bytes).to_string();
        if self.texts.contains_key(&digest) {
            return Ok(());
        }
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_DOCUMENTS {
            let problem = format!(
                "its manifests, indexes and configs and those before it have over {MAX_DOCUMENTS} \
                 bytes, too many for one lock"
            );
            return Err(Error::image(image, problem));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            let problem = format!("document {digest} is not UTF-8, and so no JSON");
            Error::image(image, problem)
        })?;
        self.texts.insert(digest, text);
        Ok(())
    }

    fn finish(self) -> Vec<LockedDocument> {
        let texts = self.texts.into_iter();
        texts
            .map(|(digest, text)| LockedDocument { digest, text })
            .collect()
    }
}

/// Asks registries for layers.
struct Remote(Arc<Registries>);

impl RemoteBlobs for Remote {
    fn open(&self, blob: &LockedBlob) -> Result<FoundFile> {
        let invalid = |problem: String| Error::invalid(format!("blob {}", blob.digest), problem);
        let place = blob
            .from
            .first()
            .ok_or_else(|| invalid("no repository is named that has it".to_owned()))?;
        let reference = parse_reference(place).map_err(|e| invalid(e.to_string()))?;
        let digest = blob.digest.parse::<Digest>();
        let digest = digest.map_err(|e| invalid(e.to_string()))?;
        let media_type = MediaType::from(&*blob.media_type);
        let descriptor = descriptor(media_type, digest, blob.size);
        Ok(FoundFile {
            size: blob.size,
            reader: remote_blob(&self.0, self.0.source(&reference)?, descriptor),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_a_lock_are_bounded_together() {
        let mut documents = Documents::default();
        let most = usize::try_from(MAX_DOCUMENTS).unwrap();
        let first = vec![b'1'; most / 2];
        documents.add("one", first.clone()).unwrap();
        documents.add("two", vec![b'2'; most - most / 2]).unwrap();
        // What is there already costs nothing.
        documents.add("three", first).unwrap();
        let error = documents.add("four", vec![b'4']).unwrap_err().to_string();
        assert!(error.starts_with("four: its manifests"), "{error}");
        assert!(error.contains("67108864 bytes"), "{error}");
        assert_eq!(documents.finish().len(), 2);
    }

    #[test]
    fn a_document_that_is_no_text_is_refused() {
        let error = Documents::default().add("it", vec![0xff]).unwrap_err();
        assert!(error.to_string().contains("is not UTF-8"), "{error}");
    }
}
