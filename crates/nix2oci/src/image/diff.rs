//! What changed from one image to another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::digest::{DiffId, Digest};
use crate::store::StorePathPrefix;

use super::diff_config::config_changes;
use super::diff_packages::package_changes;
use super::{ConfigChange, ImageListing, ListedLayer, PackageChange, TablePath};

/// The version of [`ImageDiff`] as JSON. A field that changes its meaning or
/// goes is a new version; a new field is not.
const VERSION: u32 = 1;

/// What changed from one image to another. A function of the two listings,
/// also in its order.
///
/// Serialized with the field names in camel case; digests are texts such as
/// `sha256:…`, sizes are bytes, what is not known is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageDiff {
    /// The version of this document: 1.
    pub version: u32,
    /// Whether both are the same image: they have one digest, or where one is
    /// only planned, nothing that is known differs.
    pub is_same: bool,
    /// The first image.
    pub from: DiffSide,
    /// The second one.
    pub to: DiffSide,
    /// How many layers, from the bottom, are the same in both: what a
    /// snapshotter reuses unpacked.
    pub common_prefix: usize,
    /// How many of the layers that only the second image has are the same as
    /// one of the first but for their compression.
    pub recompressed: usize,
    /// What a node that has the first image pulls for the second.
    pub pull: Transfer,
    /// What a node that has the second image pulls for the first.
    pub pull_back: Transfer,
    /// The layers of the second image, bottom first, and then those of the
    /// first that it does not have.
    pub layers: Vec<LayerChange>,
    /// What changed of the store paths, unless those of a layer are not known.
    pub store_paths: Option<StorePathChanges>,
    /// The packages that changed, by name, unless the store paths of a layer
    /// are not known.
    pub packages: Option<Vec<PackageChange>>,
    /// What changed of the config, unless one image is only planned.
    pub config: Option<Vec<ConfigChange>>,
}

/// One of the two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DiffSide {
    /// The image as it was named.
    pub image: String,
    /// The digest of the manifest; none if the image is only planned.
    #[serde(serialize_with = "text")]
    pub digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// How many layers there are.
    pub layers: usize,
    /// Bytes of all layers' blobs, each once.
    pub size: Option<u64>,
    /// How many store paths there are.
    pub store_paths: Option<usize>,
    /// The sum of their NAR sizes.
    pub nar_size: Option<u64>,
}

/// What has to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Transfer {
    /// How many layers.
    pub layers: usize,
    /// Bytes of their blobs, each once; none if one was not made yet.
    pub size: Option<u64>,
    /// The sum of the NAR sizes of their store paths, if all are known.
    pub nar_size: Option<u64>,
}

/// A layer of one image or of both.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerChange {
    /// Whether it is kept, new or gone.
    pub state: LayerDifference,
    /// Its place in the first image, counted from 0.
    pub from: Option<usize>,
    /// Its place in the second image, counted from 0.
    pub to: Option<usize>,
    /// The digest of the blob.
    #[serde(serialize_with = "text")]
    pub digest: Option<Digest>,
    /// The digest of the tar.
    #[serde(serialize_with = "text")]
    pub diff_id: Option<DiffId>,
    /// Bytes of the blob.
    pub size: Option<u64>,
    /// The sum of its paths' NAR sizes.
    pub nar_size: Option<u64>,
    /// The store paths in it.
    pub store_paths: Option<Vec<SizedPath>>,
    /// Whether it is of the base that the image is on, the second one if both
    /// have the layer; none if the image does not tell it.
    #[serde(rename = "base")]
    pub is_base: Option<bool>,
}

/// Which of two images has a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerDifference {
    /// Both have it.
    Kept,
    /// Only the second has it.
    New,
    /// Only the first has it.
    Gone,
}

/// What changed of the store paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StorePathChanges {
    /// How many both have.
    pub kept: usize,
    /// Those that only the second image has, by name and hash.
    pub added: Vec<SizedPath>,
    /// Those that only the first image has, by name and hash.
    pub removed: Vec<SizedPath>,
}

/// A store path and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SizedPath {
    /// The base name; `01ab…-name` if only the beginning of the hash is known.
    #[serde(serialize_with = "prefix_text")]
    pub path: StorePathPrefix,
    /// Its NAR size.
    pub nar_size: Option<u64>,
}

impl From<&TablePath> for SizedPath {
    fn from(listed: &TablePath) -> Self {
        Self {
            path: listed.path.clone(),
            nar_size: listed.nar_size,
        }
    }
}

fn text<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn prefix_text<S: Serializer>(path: &StorePathPrefix, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

/// Tells what changed from one image to another.
///
/// Layers are the same if their blobs have one digest. Where one of two layers
/// was not made yet, they are the same if they hold the same store paths.
pub fn diff(from: &ImageListing, to: &ImageListing) -> ImageDiff {
    let layers = layer_changes(from, to);
    let paths = (from.is_complete() && to.is_complete()).then(|| PathPairs::new(from, to));
    let config = match (&from.config, &to.config) {
        (Some(from), Some(to)) => Some(config_changes(from, to)),
        _ => None,
    };
    let common_prefix = common_prefix(from, to);
    let is_same = match (from.digest, to.digest) {
        (Some(from), Some(to)) => from == to,
        _ => {
            let is_known_to_differ = |a: &Option<String>, b: &Option<String>| {
                a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a != b)
            };
            common_prefix == from.layers.len()
                && common_prefix == to.layers.len()
                && !is_known_to_differ(&from.platform, &to.platform)
        }
    };
    ImageDiff {
        version: VERSION,
        is_same,
        from: side(from),
        to: side(to),
        common_prefix,
        recompressed: recompressed(from, &layers),
        pull: transfer(&layers, LayerDifference::New),
        pull_back: transfer(&layers, LayerDifference::Gone),
        layers,
        packages: paths.as_ref().map(package_changes),
        store_paths: paths.as_ref().map(PathPairs::changes),
        config,
    }
}

fn side(image: &ImageListing) -> DiffSide {
    let paths: BTreeMap<&StorePathPrefix, Option<u64>> = image
        .paths()
        .map(|listed| (&listed.path, listed.nar_size))
        .collect();
    DiffSide {
        image: image.name.clone(),
        digest: image.digest,
        platform: image.platform.clone(),
        layers: image.layers.len(),
        size: blob_sizes(image.layers.iter().map(|layer| (layer.digest, layer.size))),
        store_paths: image.is_complete().then_some(paths.len()),
        nar_size: sum(paths.values().copied()).filter(|_| image.is_complete()),
    }
}

/// Adds up sizes, which anybody may have written; none if one is not known.
pub(super) fn sum(sizes: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    let mut sizes = sizes.into_iter();
    sizes.try_fold(0, |sum: u64, size| Some(sum.saturating_add(size?)))
}

/// Adds up the sizes of blobs, each once; none if one is not known.
fn blob_sizes(blobs: impl Iterator<Item = (Option<Digest>, Option<u64>)>) -> Option<u64> {
    let mut counted = BTreeSet::new();
    let blobs = blobs.filter(|(digest, _)| digest.is_none_or(|digest| counted.insert(digest)));
    sum(blobs.map(|(_, size)| size))
}

fn transfer(layers: &[LayerChange], state: LayerDifference) -> Transfer {
    let moved = || layers.iter().filter(|layer| layer.state == state);
    Transfer {
        layers: moved().count(),
        size: blob_sizes(moved().map(|layer| (layer.digest, layer.size))),
        nar_size: sum(moved().map(|layer| layer.nar_size)),
    }
}

/// Returns how many layers are the same from the bottom on. A snapshotter goes
/// by diff IDs, so these decide where both are known.
fn common_prefix(from: &ImageListing, to: &ImageListing) -> usize {
    let pairs = from.layers.iter().zip(&to.layers);
    pairs
        .take_while(|(a, b)| match (a.diff_id, b.diff_id) {
            (Some(a), Some(b)) => a == b,
            _ => is_same_layer(a, b),
        })
        .count()
}

fn recompressed(from: &ImageListing, layers: &[LayerChange]) -> usize {
    let tars: BTreeSet<DiffId> = from.layers.iter().filter_map(|l| l.diff_id).collect();
    let is_known = |layer: &&LayerChange| layer.diff_id.is_some_and(|id| tars.contains(&id));
    let new = layers.iter().filter(|l| l.state == LayerDifference::New);
    new.filter(is_known).count()
}

fn is_same_layer(a: &ListedLayer, b: &ListedLayer) -> bool {
    match (a.digest, b.digest) {
        (Some(a), Some(b)) => a == b,
        _ => has_same_paths(a, b),
    }
}

fn has_same_paths(a: &ListedLayer, b: &ListedLayer) -> bool {
    let sorted = |layer: &ListedLayer| {
        let paths = layer.paths.as_ref().filter(|paths| !paths.is_empty())?;
        let mut paths: Vec<_> = paths.iter().map(|listed| listed.path.clone()).collect();
        paths.sort_unstable();
        Some(paths)
    };
    let (Some(a), Some(b)) = (sorted(a), sorted(b)) else {
        return false;
    };
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.agrees_with(b))
}

fn layer_changes(from: &ImageListing, to: &ImageListing) -> Vec<LayerChange> {
    let mut by_digest: BTreeMap<Digest, usize> = BTreeMap::new();
    for (at, layer) in from.layers.iter().enumerate().rev() {
        if let Some(digest) = layer.digest {
            by_digest.insert(digest, at);
        }
    }
    let mut is_met = vec![false; from.layers.len()];
    let mut changes = Vec::with_capacity(to.layers.len());
    for (at, layer) in to.layers.iter().enumerate() {
        let known = layer.digest.and_then(|digest| by_digest.get(&digest));
        let earlier = known.copied().or_else(|| {
            let unmade = |other: &ListedLayer| other.digest.is_none() || layer.digest.is_none();
            from.layers
                .iter()
                .position(|other| unmade(other) && has_same_paths(layer, other))
        });
        let state = match earlier {
            Some(earlier) => {
                is_met[earlier] = true;
                LayerDifference::Kept
            }
            None => LayerDifference::New,
        };
        // Of two that are the same, the made one knows its digest.
        let told = match earlier.map(|earlier| &from.layers[earlier]) {
            Some(earlier) if layer.digest.is_none() => earlier,
            _ => layer,
        };
        let mut change = change(state, earlier, Some(at), told);
        change.is_base = layer.is_base.or(told.is_base);
        changes.push(change);
    }
    for (at, layer) in from.layers.iter().enumerate() {
        let is_in_both = layer
            .digest
            .is_some_and(|digest| is_met[by_digest[&digest]]);
        if !is_met[at] && !is_in_both {
            changes.push(change(LayerDifference::Gone, Some(at), None, layer));
        }
    }
    changes
}

fn change(
    state: LayerDifference,
    from: Option<usize>,
    to: Option<usize>,
    layer: &ListedLayer,
) -> LayerChange {
    let paths = layer.paths.as_ref();
    LayerChange {
        state,
        from,
        to,
        digest: layer.digest,
        diff_id: layer.diff_id,
        size: layer.size,
        nar_size: paths
            .and_then(|paths| sum(paths.iter().map(|path| path.nar_size)))
            .or(layer.nar_size),
        store_paths: paths.map(|paths| paths.iter().map(SizedPath::from).collect()),
        is_base: layer.is_base,
    }
}

/// The store paths of two images, each once, by name.
pub(super) struct PathPairs<'a> {
    pub(super) by_name: BTreeMap<&'a str, PathPair<'a>>,
}

/// The store paths of one name.
#[derive(Default)]
pub(super) struct PathPair<'a> {
    /// What both have, as the second tells it.
    pub(super) kept: Vec<&'a TablePath>,
    /// What only the first has.
    pub(super) removed: Vec<&'a TablePath>,
    /// What only the second has.
    pub(super) added: Vec<&'a TablePath>,
}

impl<'a> PathPairs<'a> {
    fn new(from: &'a ImageListing, to: &'a ImageListing) -> Self {
        let mut by_name: BTreeMap<&str, PathPair<'a>> = BTreeMap::new();
        let different = |image: &'a ImageListing| {
            let paths: BTreeMap<_, _> = image.paths().map(|path| (&path.path, path)).collect();
            paths.into_values()
        };
        for path in different(from) {
            let pair = by_name.entry(path.path.name()).or_default();
            pair.removed.push(path);
        }
        for path in different(to) {
            let pair = by_name.entry(path.path.name()).or_default();
            pair.added.push(path);
        }
        for pair in by_name.values_mut() {
            pair.match_up();
        }
        Self { by_name }
    }

    fn changes(&self) -> StorePathChanges {
        let pairs = || self.by_name.values();
        let sized = |path: &&TablePath| SizedPath::from(*path);
        StorePathChanges {
            kept: pairs().map(|pair| pair.kept.len()).sum(),
            added: pairs().flat_map(|p| p.added.iter().map(sized)).collect(),
            removed: pairs().flat_map(|p| p.removed.iter().map(sized)).collect(),
        }
    }
}

impl PathPair<'_> {
    /// Finds what both have among what was told of each, sorted. What agrees is
    /// equal or begins alike, and so are all between: one pass finds it, however
    /// many paths have one name.
    fn match_up(&mut self) {
        let before = std::mem::take(&mut self.removed);
        let mut before = before.into_iter().peekable();
        for path in std::mem::take(&mut self.added) {
            let is_earlier =
                |other: &&TablePath| other.path < path.path && !other.path.agrees_with(&path.path);
            while let Some(gone) = before.next_if(is_earlier) {
                self.removed.push(gone);
            }
            match before.next_if(|other| other.path.agrees_with(&path.path)) {
                Some(_) => self.kept.push(path),
                None => self.added.push(path),
            }
        }
        self.removed.extend(before);
    }
}

/// Returns the value of a JSON field that says nothing as none.
pub(super) fn meaningful(value: &Value) -> Option<&Value> {
    let says_nothing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    (!says_nothing).then_some(value)
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
