//! What it brings over the network to plan.

use std::sync::atomic::{AtomicU64, Ordering};

use nix2oci::content::Entry;
use nix2oci::{ContentSource, Context, Result, StorePath};

/// Another source, of which is counted what its visits bring over the network.
pub(super) struct CountedContent<'a> {
    inner: &'a dyn ContentSource,
    bytes: AtomicU64,
}

impl<'a> CountedContent<'a> {
    pub(super) fn new(inner: &'a dyn ContentSource) -> Self {
        Self {
            inner,
            bytes: AtomicU64::new(0),
        }
    }

    /// Returns the bytes of all visits that came to their end.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl ContentSource for CountedContent<'_> {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.inner.visit(cx, path, visitor)?;
        let bytes = self.inner.download_size(cx, path)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn expect(&self, cx: &Context, paths: &[StorePath]) {
        self.inner.expect(cx, paths);
    }

    fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        self.inner.look_up(cx, paths)
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        self.inner.has(cx, path)
    }

    fn nar_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        self.inner.nar_size(cx, path)
    }

    fn download_size(&self, cx: &Context, path: &StorePath) -> Result<u64> {
        self.inner.download_size(cx, path)
    }
}
