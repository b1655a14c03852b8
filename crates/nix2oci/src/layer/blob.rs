//! Bytes that match a descriptor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::digest::Digest;
use crate::error::Result;
use crate::oci::{Descriptor, Platform};

/// Bytes that have the digest and the size of their descriptor and can be read
/// more than once.
pub trait Blob: Send {
    /// Returns the descriptor.
    fn descriptor(&self) -> &Descriptor;

    /// Returns a reader of all bytes.
    fn open(&self) -> Result<Box<dyn Read + Send + '_>>;

    /// Returns the file that anybody may have written it to, for errors.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// Lends a file that holds the bytes and nothing else, so that they can be
    /// copied without being read.
    ///
    /// Whoever lends one promises that the bytes were hashed while they were
    /// written to it and that nobody else can write to it: a sink checks their
    /// number only. The caller may move the file's position.
    fn verified_file(&self) -> Option<&File> {
        None
    }

    /// Gives the bytes the name `path` without copying them, and returns
    /// whether it could; the blob may then be read no more. A blob that can
    /// do so makes the promise of [`Blob::verified_file`]. `path` is on a file
    /// system of the caller's choice, which may be another one.
    fn move_to(&mut self, path: &Path) -> Result<bool> {
        let _ = path;
        Ok(false)
    }
}

/// A blob in memory: configs and manifests.
#[derive(Debug, Clone)]
pub struct BytesBlob {
    bytes: Vec<u8>,
    descriptor: Descriptor,
}

impl BytesBlob {
    /// Takes bytes of a media type.
    pub fn new(media_type: crate::oci::MediaType, bytes: Vec<u8>) -> Self {
        let descriptor = crate::oci::descriptor(media_type, Digest::of(&bytes), bytes.len() as u64);
        Self { bytes, descriptor }
    }

    /// Says on the descriptor for which platform the bytes are.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.descriptor.set_platform(Some(platform));
        self
    }

    /// Says more about the bytes on the descriptor; nothing if there is nothing
    /// to say.
    #[must_use]
    pub fn with_annotations(mut self, annotations: BTreeMap<String, String>) -> Self {
        let annotations = (!annotations.is_empty()).then(|| annotations.into_iter().collect());
        self.descriptor.set_annotations(annotations);
        self
    }

    /// Says of the bytes what another descriptor says of the same bytes.
    #[must_use]
    pub(crate) fn described_as(mut self, other: &Descriptor) -> Self {
        self.descriptor
            .set_platform(other.platform().clone())
            .set_annotations(other.annotations().clone())
            .set_artifact_type(other.artifact_type().clone());
        self
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

impl Blob for BytesBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.bytes.as_slice()))
    }
}
