//! Stored images into a sink.

use std::collections::{BTreeMap, BTreeSet};

use crate::context::{Context, Event};
use crate::error::Result;
use crate::image::{
    DOWNLOADS, ImageReader, ImageTree, RawManifest, StoredImage, TreeDocument, config_platform,
};
use crate::layer::{BytesBlob, SpoolPlace, SpooledBlob};
use crate::oci::{Descriptor, Reference, descriptor_digest};
use crate::parallel::{Lead, ahead};
use crate::sink::ImageSink;

use super::watched::{WatchedBlob, WatchedReader};

/// Bytes of a blob above which it is not downloaded into a file ahead of its
/// turn.
const LARGEST_AHEAD: u64 = 512 << 20;

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
    let numbered = layers.into_iter().enumerate();
    let blobs: Vec<_> = numbered.map(|(layer, blob)| (Some(layer), blob)).collect();
    put_all(cx, from, &blobs, sink)?;
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
    let missing = sink.missing(cx, &tree.blobs)?;
    let missing: BTreeSet<String> = missing.iter().map(|b| b.digest().to_string()).collect();
    let mut to_put = Vec::new();
    for blob in &tree.blobs {
        let digest = blob.digest().to_string();
        let layer = blobs.numbers.get(&digest).copied();
        if missing.contains(&digest) {
            to_put.push((layer, blob.clone()));
        } else if let (Some(layer), Some(digest)) = (layer, descriptor_digest(blob)) {
            cx.observer.event(&Event::LayerReused {
                layer,
                digest,
                size: blob.size(),
            });
        }
    }
    put_all(cx, from, &to_put, sink)
}

/// Gives a sink blobs in their order; those with a number are the layers that
/// the observer hears of.
///
/// Blobs of a registry are downloaded ahead into files, so that a few are on
/// their way at once. Large ones are not, unless the sink takes such a file
/// for its own: the room that the files need has a bound, as memory has.
fn put_all(
    cx: &Context,
    from: &ImageReader,
    blobs: &[(Option<usize>, Descriptor)],
    sink: &mut dyn ImageSink,
) -> Result<()> {
    let dir = sink.spool_dir().unwrap_or(&cx.spool_dir).to_owned();
    let (place, most) = if sink.moves_blobs() {
        (SpoolPlace::Named(dir), u64::MAX)
    } else {
        (SpoolPlace::Unnamed(dir), LARGEST_AHEAD)
    };
    let mut remote = Vec::new();
    let mut is_ahead = Vec::with_capacity(blobs.len());
    for (layer, blob) in blobs {
        let is_remote = blob.size() <= most && !from.is_local(blob)?;
        is_ahead.push(is_remote);
        if is_remote {
            remote.push((*layer, blob));
        }
    }
    let download = |cx: &Context, (layer, blob): &(Option<usize>, &Descriptor)| {
        let mut reader = from.open_blob(blob)?;
        if let Some(layer) = *layer {
            reader = Box::new(WatchedReader::new(reader, layer, cx));
        }
        SpooledBlob::read_from(cx, &place, (*blob).clone(), reader)
    };
    let lead = Lead {
        threads: DOWNLOADS,
        items: DOWNLOADS,
    };
    ahead(cx, &remote, lead, download, |downloads| {
        for ((layer, blob), is_ahead) in blobs.iter().zip(is_ahead) {
            let downloaded = is_ahead.then(|| downloads.next()).flatten().transpose()?;
            match (downloaded, layer) {
                (Some(mut blob), _) => sink.put_blob(cx, &mut blob)?,
                (None, Some(layer)) => {
                    let blob = Box::new(from.blob(blob.clone()));
                    sink.put_blob(cx, &mut WatchedBlob::new(blob, *layer, cx))?;
                }
                (None, None) => sink.put_blob(cx, &mut from.blob(blob.clone()))?,
            }
            if let Some(layer) = *layer {
                cx.observer.event(&Event::LayerWritten { layer });
            }
        }
        Ok(())
    })
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

/// Returns as much of a layer's digest as tells it from others: nothing else is
/// known of every stored layer.
fn label(layer: &Descriptor) -> String {
    layer.digest().digest().chars().take(12).collect()
}
