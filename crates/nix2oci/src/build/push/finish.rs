//! Config and manifest.

use std::future::Future;
use std::sync::Arc;

use crate::error::Result;
use crate::image::AssembledImage;
use crate::layer::{Blob as _, BytesBlob};
use crate::oci::MediaType;
use crate::registry::{Replayable, Uploads};

use super::transfer::{SentLayers, Transfer};
use super::{Target, lacks_blobs};

impl Transfer<'_> {
    /// Lets all tags point to the image and returns those that did not before. An
    /// image of an index gets none.
    ///
    /// Should the registry lack a blob after all, which an earlier image only
    /// promised, then all blobs are asked for and mended, once.
    pub(super) fn finish(
        &self,
        image: &AssembledImage,
        layers: &mut SentLayers,
    ) -> Result<Vec<String>> {
        let digest = image.manifest.digest();
        let tags = self.target.tags.iter();
        let names: Vec<String> = if self.target.is_of_index {
            let is_there = self.earlier.has_blob(digest);
            (!is_there)
                .then(|| digest.to_string())
                .into_iter()
                .collect()
        } else {
            tags.filter(|tag| !self.earlier.has_tag(tag, digest))
                .cloned()
                .collect()
        };
        if names.is_empty() {
            return Ok(names);
        }
        if !self.earlier.has_blob(image.config.digest()) {
            self.put_config(&image.config)?;
        }
        let manifest = &image.manifest.blob;
        match self.target.put_manifest(manifest, &names) {
            Err(error) if lacks_blobs(&error) => {
                let mended_layers = self.mend(layers)?;
                let mended_config = self.put_config(&image.config)?;
                if !mended_layers && !mended_config {
                    return Err(error);
                }
                self.target.put_manifest(manifest, &names)?;
            }
            result => result?,
        }
        Ok(match self.target.is_of_index {
            true => Vec::new(),
            false => names,
        })
    }

    /// Sends the config if the registry does not have it, and returns whether
    /// it was sent.
    fn put_config(&self, config: &BytesBlob) -> Result<bool> {
        let uploads = self.target.uploads();
        let descriptor = config.descriptor().clone();
        if !self.earlier.is_new() && uploads.present(std::slice::from_ref(&descriptor))?[0] {
            return Ok(false);
        }
        let bytes: Arc<[u8]> = config.bytes().into();
        let blob = Replayable {
            descriptor,
            open: Arc::new(move || Ok(Box::new(std::io::Cursor::new(Arc::clone(&bytes))))),
        };
        self.target.put_blob(blob)?;
        Ok(true)
    }
}

impl<'a> Target<'a> {
    /// Returns the way of blobs to the repository.
    pub(super) fn uploads(&self) -> Uploads<'a> {
        Uploads::new(self.cx, self.registries, self.repository.clone())
    }

    /// Runs requests on the network's thread and waits for them.
    pub(super) fn block_on<T: Send + 'static>(
        &self,
        requests: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.registries.block_on(self.cx, requests)
    }

    /// Sends a blob that is no layer.
    pub(super) fn put_blob(&self, blob: Replayable) -> Result<()> {
        let repository = self.repository.clone();
        self.block_on(async move {
            let sent: crate::registry::SentFn = Arc::new(|_| {});
            repository.put_blob(&blob, None, &sent).await
        })
    }

    /// Sends a manifest or an index and gives it names: tags or its digest.
    pub(super) fn put_manifest(&self, manifest: &BytesBlob, which: &[String]) -> Result<()> {
        let repository = self.repository.clone();
        let bytes = manifest.bytes().to_vec();
        let media_type: MediaType = manifest.descriptor().media_type().clone();
        let which = which.to_vec();
        self.block_on(async move {
            let which: Vec<&str> = which.iter().map(String::as_str).collect();
            repository.put_manifest(&bytes, &media_type, &which).await
        })
    }
}
