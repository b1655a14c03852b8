//! Stored images into a sink.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::context::{Context, Event};
use crate::error::Result;
use crate::image::{
    ImageReader, ImageTree, RawManifest, StoredBlob, StoredImage, TreeDocument, config_platform,
};
use crate::layer::{Blob, BytesBlob};
use crate::oci::{Descriptor, Reference, descriptor_digest};
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
    let layers: Vec<Descriptor> = image.layers.iter().map(|l| l.descriptor.clone()).collect();
    tell_planned(cx, &layers);
    for (layer, descriptor) in layers.iter().enumerate() {
        put_layer(cx, from, layer, descriptor, sink)?;
    }
    sink.put_blob(cx, &mut image.raw_config.clone())?;
    // An index tells the platform without a look at the config.
    let manifest = RawManifest {
        blob: image
            .raw_manifest
            .blob
            .clone()
            .with_platform(config_platform(&image.config)),
    };
    sink.put_manifest(cx, &manifest, names)?;
    sink.commit(cx)?;
    cx.observer.event(&Event::Committed {
        manifest: manifest.digest(),
    });
    Ok(())
}

/// A stored image to be copied, or an index with the images of several
/// platforms.
#[derive(Debug)]
pub struct ImageCopy<'a> {
    /// Where it is read from.
    pub from: &'a ImageReader,
    /// All that it consists of.
    pub tree: ImageTree,
    /// The names that it gets.
    pub names: Vec<Reference>,
}

/// Copies images into a sink, each under its own names, and keeps every digest.
///
/// A blob that several images share is copied once, and one that the sink has
/// already is not read. Memory does not grow with the images. The observer hears
/// of all blobs but the configs, each once, as layers that are sent.
///
/// # Errors
///
/// As those of [`copy`]; nothing has its final name then.
pub fn copy_all(cx: &Context, images: &[ImageCopy<'_>], sink: &mut dyn ImageSink) -> Result<()> {
    let mut blobs = Blobs::default();
    for image in images {
        blobs.add(&image.tree);
    }
    tell_planned(cx, &blobs.layers);
    for image in images {
        put_blobs(cx, image.from, &image.tree, &blobs, sink)?;
        put_documents(cx, image, sink)?;
    }
    sink.commit(cx)?;
    for image in images {
        if let Some(manifest) = descriptor_digest(&image.tree.root().descriptor) {
            cx.observer.event(&Event::Committed { manifest });
        }
    }
    Ok(())
}

/// Gives a sink the blobs of an image, but no manifest.
pub(super) fn put_tree_blobs(
    cx: &Context,
    from: &ImageReader,
    tree: &ImageTree,
    sink: &mut dyn ImageSink,
) -> Result<()> {
    let mut blobs = Blobs::default();
    blobs.add(tree);
    tell_planned(cx, &blobs.layers);
    put_blobs(cx, from, tree, &blobs, sink)
}

/// The blobs of images that the observer hears of, each once.
#[derive(Default)]
struct Blobs {
    layers: Vec<Descriptor>,
    numbers: BTreeMap<String, usize>,
}

impl Blobs {
    fn add(&mut self, tree: &ImageTree) {
        for blob in tree.layers() {
            let digest = blob.digest().to_string();
            if !self.numbers.contains_key(&digest) {
                self.numbers.insert(digest, self.layers.len());
                self.layers.push(blob.clone());
            }
        }
    }
}

fn put_blobs(
    cx: &Context,
    from: &ImageReader,
    tree: &ImageTree,
    blobs: &Blobs,
    sink: &mut dyn ImageSink,
) -> Result<()> {
    for blob in &tree.blobs {
        let layer = blobs.numbers.get(&blob.digest().to_string()).copied();
        let is_there = sink.missing(cx, std::slice::from_ref(blob))?.is_empty();
        match (layer, descriptor_digest(blob)) {
            (Some(layer), Some(digest)) if is_there => {
                cx.observer.event(&Event::LayerReused {
                    layer,
                    digest,
                    size: blob.size(),
                });
            }
            _ if is_there => {}
            (Some(layer), _) => put_layer(cx, from, layer, blob, sink)?,
            (None, _) => sink.put_blob(cx, &mut from.blob(blob.clone()))?,
        }
    }
    Ok(())
}

/// Gives a sink the manifests and indexes of an image, whose blobs it has.
fn put_documents(cx: &Context, image: &ImageCopy<'_>, sink: &mut dyn ImageSink) -> Result<()> {
    let raw = |document: &TreeDocument| {
        let media_type = document.descriptor.media_type().clone();
        let blob = BytesBlob::new(media_type, document.bytes.clone());
        RawManifest {
            blob: blob.described_as(&document.descriptor),
        }
    };
    let (root, inner) = match image.tree.documents.split_last() {
        Some((root, inner)) => (root, inner),
        None => return Ok(()),
    };
    let mut manifest = raw(root);
    // Its names and what else the entry said are those of another place.
    manifest.blob = manifest.blob.with_annotations(BTreeMap::new());
    if root.config.is_none() {
        let children: Vec<RawManifest> = inner.iter().map(raw).collect();
        return sink.put_index(cx, &manifest, &children, &image.names);
    }
    if let Some(platform) = image.from.platform_of(root)? {
        manifest.blob = manifest.blob.with_platform(platform);
    }
    sink.put_manifest(cx, &manifest, &image.names)
}

fn tell_planned(cx: &Context, layers: &[Descriptor]) {
    let sizes: Vec<u64> = layers.iter().map(Descriptor::size).collect();
    let labels: Vec<String> = layers.iter().map(label).collect();
    cx.observer.event(&Event::Planned {
        layers: &sizes,
        labels: &labels,
    });
}

fn put_layer(
    cx: &Context,
    from: &ImageReader,
    layer: usize,
    descriptor: &Descriptor,
    sink: &mut dyn ImageSink,
) -> Result<()> {
    let mut blob = WatchedBlob {
        blob: from.blob(descriptor.clone()),
        layer,
        cx,
    };
    sink.put_blob(cx, &mut blob)?;
    cx.observer.event(&Event::LayerWritten { layer });
    Ok(())
}

/// Returns as much of a layer's digest as tells it from others: nothing else is
/// known of every stored layer.
fn label(layer: &Descriptor) -> String {
    layer.digest().digest().chars().take(12).collect()
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
