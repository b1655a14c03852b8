//! Blobs of which the observer hears how far they were read.

use std::io::{self, Read};

use crate::context::{Context, Event};
use crate::error::Result;
use crate::layer::Blob;
use crate::oci::Descriptor;

/// A blob that is told of as a layer that is sent.
pub(super) struct WatchedBlob<'a> {
    blob: Box<dyn Blob + 'a>,
    layer: usize,
    cx: &'a Context,
}

/// Its bytes.
pub(super) struct WatchedReader<'a> {
    inner: Box<dyn Read + Send + 'a>,
    layer: usize,
    cx: &'a Context,
}

impl<'a> WatchedBlob<'a> {
    pub(super) fn new(blob: Box<dyn Blob + 'a>, layer: usize, cx: &'a Context) -> Self {
        Self { blob, layer, cx }
    }
}

impl<'a> WatchedReader<'a> {
    pub(super) fn new(inner: Box<dyn Read + Send + 'a>, layer: usize, cx: &'a Context) -> Self {
        Self { inner, layer, cx }
    }
}

impl Blob for WatchedBlob<'_> {
    fn descriptor(&self) -> &Descriptor {
        self.blob.descriptor()
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        let reader = WatchedReader::new(self.blob.open()?, self.layer, self.cx);
        Ok(Box::new(reader))
    }
}

impl Read for WatchedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n > 0 {
            self.cx.observer.event(&Event::LayerSent {
                layer: self.layer,
                bytes: n as u64,
            });
        }
        Ok(n)
    }
}
