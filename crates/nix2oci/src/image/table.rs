//! What an image says of its layers, in one annotation of its manifest.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::layer::LayerKeyPrefix;
use crate::oci::{Descriptor, ImageManifest, annotation};
use crate::plan::EarlierImage;
use crate::store::StorePathPrefix;

use super::BaseLayer;
use super::assemble::ImageLayer;
use super::table_bytes::{self, Cut};

/// What is in each layer of an image, as the image itself tells it
/// ([`annotation::LAYERS`]), so that nobody need fetch a layer to know.
///
/// Who wrote the image decides what it says; nothing was compared with a
/// layer's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageTable {
    /// How many of the layers, from the bottom, are those of the base that the
    /// image was built on; 0 if it was built on none.
    pub base_layers: usize,
    /// The layers, bottom first.
    pub layers: Vec<TableLayer>,
}

/// What is in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLayer {
    /// The beginning of its key, if its NAR hashes were known.
    pub key: Option<LayerKeyPrefix>,
    /// Bytes of its tar; 0 if they are not known, as of a base that another
    /// program made.
    pub uncompressed_size: u64,
    /// The store paths in it, in the order in which they are packed. None in a
    /// layer of files outside the store.
    pub paths: Vec<TablePath>,
}

/// A store path in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePath {
    /// The name and the hash: all of its digits in an image of at most 512 store
    /// paths, or else the first eight.
    pub path: StorePathPrefix,
    /// The NAR size in bytes, if it is known. No NAR has none, and 0 is read
    /// back as unknown.
    pub nar_size: Option<u64>,
}

impl ImageTable {
    /// Reads the table of an image.
    ///
    /// `None` if the image has none, or one that is not well-formed, of a
    /// version that is not known, or of other layers: somebody changed the
    /// image and kept the annotation, and then nothing of it is believed.
    /// Memory is bounded by the annotation's length, whatever it says.
    pub fn read(manifest: &ImageManifest) -> Option<Self> {
        let text = manifest.annotations().as_ref()?.get(annotation::LAYERS)?;
        let table = table_bytes::decode(text, manifest.layers())?;
        table.paths_differ(Cut::WHOLE).then_some(table)
    }

    /// Returns the layers for the plan of the image that comes next.
    pub fn earlier_image(&self) -> EarlierImage {
        let paths = |layer: &TableLayer| layer.paths.iter().map(|p| p.path.clone()).collect();
        EarlierImage {
            layers: self.layers.iter().map(paths).collect(),
        }
    }

    /// Returns what is to be said of these layers, and of those of a base below
    /// them. A size of 0 is one that is not known: no tar has none.
    pub(super) fn of(below: &[BaseLayer], layers: &[ImageLayer<'_>]) -> Self {
        let base_layer = |layer: &BaseLayer| TableLayer {
            key: layer.key,
            uncompressed_size: layer.uncompressed_size.unwrap_or(0),
            paths: layer.paths.clone(),
        };
        let layer = |layer: &ImageLayer<'_>| TableLayer {
            key: layer.key.map(|key| key.prefix()),
            uncompressed_size: layer.record.uncompressed_size,
            paths: layer
                .paths
                .iter()
                .map(|(path, nar_size)| TablePath {
                    path: path.into(),
                    nar_size: *nar_size,
                })
                .collect(),
        };
        Self {
            base_layers: below.len(),
            layers: below
                .iter()
                .map(base_layer)
                .chain(layers.iter().map(layer))
                .collect(),
        }
    }

    /// Returns the annotation of an image with these layers, or `None` if it
    /// were too long. An image tells all of its paths or none: half of them
    /// would look like an image with fewer paths.
    pub(super) fn to_annotation(&self, layers: &[Descriptor]) -> Option<String> {
        let digits = |cut: Cut| move |p: &TablePath| p.path.hash_prefix().len() >= cut.digits();
        let is_told = |cut: Cut| self.paths().all(digits(cut)) && self.paths_differ(cut);
        let is_long = self.paths().count() > Cut::MAX_WHOLE;
        // A base that has many paths tells only the beginnings of their hashes.
        let cut = match is_long && is_told(Cut::SHORT) || !is_told(Cut::WHOLE) {
            true => Cut::SHORT,
            false => Cut::WHOLE,
        };
        is_told(cut)
            .then(|| table_bytes::encode(self, cut, layers))
            .flatten()
    }

    /// Returns the store paths of all layers.
    fn paths(&self) -> impl Iterator<Item = &TablePath> {
        self.layers.iter().flat_map(|layer| &layer.paths)
    }

    /// Returns whether no store path is there twice, going by so many digits.
    fn paths_differ(&self, cut: Cut) -> bool {
        let mut seen = HashSet::new();
        self.paths().all(|TablePath { path, .. }| {
            let hash = path.hash_prefix();
            seen.insert((path.name(), hash.get(..cut.digits()).unwrap_or(hash)))
        })
    }
}

impl TableLayer {
    /// Returns its largest path by NAR size; of several the first by name.
    pub fn largest(&self) -> Option<&TablePath> {
        let rank = |path: &&TablePath| (path.nar_size, Reverse(path.path.clone()));
        self.paths.iter().max_by_key(rank)
    }
}
