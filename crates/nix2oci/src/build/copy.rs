//! A stored image into a sink.

use std::io::{self, Read};

use crate::context::{Context, Event};
use crate::error::Result;
use crate::image::{ImageReader, RawManifest, StoredBlob, StoredImage};
use crate::layer::Blob;
use crate::oci::{Descriptor, Platform, Reference};
use crate::sink::ImageSink;

/// Copies an image of a layout or an archive into a sink under these names, and
/// keeps every digest.
///
/// Each blob is read once, layers bottom first, and checked against its
/// descriptor on the way. The observer hears of every layer as one that is
/// sent.
///
/// # Errors
///
/// Those of [`ImageReader::open_blob`], and the sink's. What is in the sink
/// then is the sink's matter: nothing with a final name.
pub fn copy(
    cx: &Context,
    from: &ImageReader,
    image: &StoredImage,
    names: &[Reference],
    sink: &mut dyn ImageSink,
) -> Result<()> {
    let layers = || image.layers.iter().map(|layer| &layer.descriptor);
    let sizes: Vec<u64> = layers().map(Descriptor::size).collect();
    let labels: Vec<String> = layers().map(label).collect();
    cx.observer.event(&Event::Planned {
        layers: &sizes,
        labels: &labels,
    });
    for (layer, descriptor) in layers().enumerate() {
        let mut blob = WatchedBlob {
            blob: from.blob(descriptor.clone()),
            layer,
            cx,
        };
        sink.put_blob(cx, &mut blob)?;
        cx.observer.event(&Event::LayerWritten { layer });
    }
    sink.put_blob(cx, &mut image.raw_config.clone())?;
    // An index tells the platform without a look at the config.
    let manifest = RawManifest {
        blob: image
            .raw_manifest
            .blob
            .clone()
            .with_platform(platform(image)),
    };
    sink.put_manifest(cx, &manifest, names)?;
    sink.commit(cx)?;
    cx.observer.event(&Event::Committed {
        manifest: manifest.digest(),
    });
    Ok(())
}

/// Returns as much of a layer's digest as tells it from others: nothing else is
/// known of every stored layer.
fn label(layer: &Descriptor) -> String {
    layer.digest().digest().chars().take(12).collect()
}

fn platform(image: &StoredImage) -> Platform {
    let mut platform = Platform::default();
    platform
        .set_os(image.config.os().clone())
        .set_architecture(image.config.architecture().clone())
        .set_variant(image.config.variant().clone());
    platform
}

/// A layer's blob of which the observer hears how far it was read.
struct WatchedBlob<'a> {
    blob: StoredBlob<'a>,
    layer: usize,
    cx: &'a Context,
}

impl Blob for WatchedBlob<'_> {
    fn descriptor(&self) -> &Descriptor {
        self.blob.descriptor()
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(WatchedReader {
            inner: self.blob.open()?,
            layer: self.layer,
            cx: self.cx,
        }))
    }
}

struct WatchedReader<'a> {
    inner: Box<dyn Read + Send + 'a>,
    layer: usize,
    cx: &'a Context,
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
