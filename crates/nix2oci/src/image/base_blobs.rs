//! The blobs of a base's layers, each downloaded once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use crate::context::Context;
use crate::digest::Digest;
use crate::error::Result;
use crate::layer::{Blob, SpoolPlace, SpooledBlob};
use crate::oci::{Descriptor, descriptor_digest};
use crate::parallel::{Ahead, Lead, ahead};

use super::ImageReader;

/// Blobs that are downloaded at once: as many as docker and containerd do.
pub(crate) const DOWNLOADS: usize = 3;

/// Bytes of blobs that were downloaded to be looked at and are kept for who
/// wants them next. What is beyond is downloaded again.
const MOST_KEPT: u64 = 8 << 30;

/// The layers of an image, of which those of a registry are downloaded once.
pub(super) struct BaseBlobs {
    reader: Arc<ImageReader>,
    kept: Mutex<BTreeMap<Digest, Arc<SpooledBlob>>>,
}

/// A blob in a temporary file that others use as well.
pub(super) struct KeptBlob {
    blob: Arc<SpooledBlob>,
    descriptor: Descriptor,
}

impl BaseBlobs {
    pub(super) fn new(reader: Arc<ImageReader>) -> Self {
        Self {
            reader,
            kept: Mutex::default(),
        }
    }

    pub(super) fn reader(&self) -> &Arc<ImageReader> {
        &self.reader
    }

    fn kept(&self, descriptor: &Descriptor) -> Option<Arc<SpooledBlob>> {
        let digest = descriptor_digest(descriptor)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&digest).cloned()
    }

    /// Keeps a blob for the next reader, if there is room.
    fn keep(&self, blob: SpooledBlob) {
        let Some(digest) = descriptor_digest(blob.descriptor()) else {
            return;
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let size: u64 = kept.values().map(|kept| kept.descriptor().size()).sum();
        if size.saturating_add(blob.descriptor().size()) <= MOST_KEPT {
            kept.insert(digest, Arc::new(blob));
        }
    }

    /// Returns whether a blob is on this machine.
    pub(super) fn is_local(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.kept(descriptor).is_some() || self.reader.is_local(descriptor)?)
    }

    /// Returns a blob as it is described here; from a registry, if it is not on
    /// this machine.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Box<dyn Blob + '_> {
        let descriptor = descriptor.clone();
        match self.kept(&descriptor) {
            Some(blob) => Box::new(KeptBlob { blob, descriptor }),
            None => Box::new(self.reader.blob(descriptor)),
        }
    }

    /// Returns a reader of a blob, which fails unless the bytes are those of the
    /// descriptor.
    pub(super) fn open(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        match self.kept(descriptor) {
            Some(blob) => Ok(Box::new(blob.reader())),
            None => self.reader.open_blob(descriptor),
        }
    }

    /// Calls `look` for each blob, one after the other and in their order; those
    /// of a registry are downloaded ahead, and kept.
    pub(super) fn look_at(
        &self,
        cx: &Context,
        blobs: &[Descriptor],
        mut look: impl FnMut(usize, &mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut remote = Vec::new();
        let mut is_remote = vec![false; blobs.len()];
        for (at, blob) in blobs.iter().enumerate() {
            if seen.insert(descriptor_digest(blob)) && !self.is_local(blob)? {
                remote.push(blob.clone());
                is_remote[at] = true;
            }
        }
        let place = SpoolPlace::Unnamed(cx.spool_dir.clone());
        let download = |cx: &Context, blob: &Descriptor| {
            SpooledBlob::read_from(cx, &place, blob.clone(), self.reader.open_blob(blob)?)
        };
        let lead = Lead {
            threads: DOWNLOADS,
            items: DOWNLOADS,
        };
        ahead(
            cx,
            &remote,
            lead,
            download,
            |ahead: &mut Ahead<'_, SpooledBlob>| {
                for (at, blob) in blobs.iter().enumerate() {
                    let next = is_remote[at].then(|| ahead.next()).flatten();
                    match next {
                        None => look(at, &mut self.open(blob)?)?,
                        Some(blob) => {
                            let blob = blob?;
                            look(at, &mut blob.open()?)?;
                            self.keep(blob);
                        }
                    }
                }
                Ok(())
            },
        )
    }
}

impl Blob for KeptBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.blob.reader()))
    }
}
