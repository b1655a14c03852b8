//! The layers of a base on their way into a sink.

use std::collections::BTreeSet;
use std::mem;

use crate::context::{Context, Event};
use crate::error::Result;
use crate::image::{BaseImage, BaseLayer, DOWNLOADS};
use crate::layer::{Blob, SpoolPlace, SpooledBlob};
use crate::parallel::{Ahead, Lead, ahead};

use super::watched::{WatchedBlob, WatchedReader};

/// The layers of a base that an image has, each once and bottom first.
pub(super) struct BaseBlobs<'a> {
    blobs: Vec<BaseBlob<'a>>,
    /// Those whose bytes are not on this machine.
    remote: Vec<BaseBlob<'a>>,
    /// Which of them is put next.
    next: usize,
}

#[derive(Clone, Copy)]
struct BaseBlob<'a> {
    image: &'a BaseImage,
    layer: &'a BaseLayer,
    /// What the observer calls it.
    number: usize,
    is_local: bool,
}

/// Returns bytes of each layer of a plan's base, and what it is called, for who
/// is told of progress.
pub(super) fn told(layers: &[BaseLayer]) -> impl Iterator<Item = (u64, String)> {
    layers.iter().map(|layer| {
        let hex = layer.digest().hex();
        let label = format!("base {}", &hex[..12]);
        (layer.descriptor().size(), label)
    })
}

impl<'a> BaseBlobs<'a> {
    /// Takes these layers of a base. The observer knows them as the layers from `first`
    /// on, and hears of those that are there twice.
    pub(super) fn new(
        cx: &Context,
        base: Option<(&'a BaseImage, &'a [BaseLayer])>,
        first: usize,
    ) -> Result<Self> {
        let mut blobs = Vec::new();
        let mut seen = BTreeSet::new();
        if let Some((image, layers)) = base {
            for (at, layer) in layers.iter().enumerate() {
                let number = first + at;
                if seen.insert(layer.digest()) {
                    blobs.push(BaseBlob {
                        image,
                        layer,
                        number,
                        is_local: image.is_local(layer)?,
                    });
                    continue;
                }
                cx.observer.event(&Event::LayerReused {
                    layer: number,
                    digest: layer.digest(),
                    size: layer.descriptor().size(),
                });
            }
        }
        let remote = blobs.iter().filter(|blob| !blob.is_local);
        Ok(Self {
            remote: remote.copied().collect(),
            blobs,
            next: 0,
        })
    }

    /// Runs `main` while those that are not on this machine are downloaded.
    pub(super) fn while_downloading<O>(
        mut self,
        cx: &Context,
        place: &SpoolPlace,
        main: impl FnOnce(&mut Self, &mut Ahead<'_, SpooledBlob>) -> Result<O>,
    ) -> Result<O> {
        let remote = mem::take(&mut self.remote);
        // All of them: the image needs that room in any case.
        let lead = Lead {
            threads: DOWNLOADS,
            items: remote.len(),
        };
        let download = |cx: &Context, blob: &BaseBlob<'_>| {
            let reader = blob.image.open_layer(blob.layer)?;
            let reader = WatchedReader::new(reader, blob.number, cx);
            SpooledBlob::read_from(cx, place, blob.layer.descriptor().clone(), reader)
        };
        ahead(cx, &remote, lead, download, |ahead| main(&mut self, ahead))
    }

    /// Gives those to `put` that can be had, or with `waits` all. Returns
    /// whether these were the last.
    pub(super) fn put(
        &mut self,
        cx: &Context,
        downloads: &mut Ahead<'_, SpooledBlob>,
        waits: bool,
        mut put: impl FnMut(usize, &mut dyn Blob) -> Result<()>,
    ) -> Result<bool> {
        while let Some(blob) = self.blobs.get(self.next) {
            let number = blob.number;
            if blob.is_local {
                put(
                    number,
                    &mut WatchedBlob::new(blob.image.blob(blob.layer), number, cx),
                )?;
            } else {
                let next = if waits {
                    downloads.next()
                } else {
                    downloads.ready()
                };
                match next {
                    Some(blob) => put(number, &mut blob?)?,
                    None => return Ok(false),
                }
            }
            self.next += 1;
        }
        Ok(true)
    }
}
