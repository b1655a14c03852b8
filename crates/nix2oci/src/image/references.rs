//! The references between the store paths of an image, which no image tells.
//!
//! They are found as Nix found them first: a store path refers to another if
//! the hash of the other is somewhere in it. Layers are read twice, once for
//! the store paths there are and once for the hashes in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::closure::{Closure, PathId};
use crate::context::{Context, Event};
use crate::error::Result;
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, read_entries};
use crate::oci::Platform;
use crate::parallel;
use crate::store::{PathInfo, StoreDir, StorePath};

use super::document::parse;
use super::listing::{StorePrefix, tar_paths};
use super::reference_scanner::{Hashes, ReferenceScanner};
use super::{ImageReader, StoredLayer};

/// The closure of an image's store paths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageClosure {
    /// All store paths of the image, with their references and their NAR sizes.
    /// A NAR size is missing if the path has hard links in it.
    pub closure: Closure,
    /// Why each root is one, in the closure's order.
    pub roots: BTreeMap<PathId, RootReason>,
}

/// Why a store path is a root of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RootReason {
    /// The config names it: its entrypoint, command or a variable.
    Config,
    /// A symlink outside the store leads to it.
    Symlink,
    /// No other path refers to it.
    Unreferenced,
}

impl RootReason {
    /// Returns a word for it, stable across versions: `config`, `symlink`,
    /// `unreferenced`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Symlink => "symlink",
            Self::Unreferenced => "unreferenced",
        }
    }
}

/// Finds the references between the store paths of an image.
///
/// The image is the one that `platform` and the tag choose, as in
/// [`ImageReader::image`]. All layers are read twice, on `cx.threads` workers;
/// the observer hears of the second time. Memory does not grow with files or
/// layers, only with store paths and references.
///
/// The roots are what the config and symlinks outside the store name, and of
/// what these do not need, all that nothing refers to. A file that is a hard
/// link to one of another store path counts for that one alone.
///
/// # Errors
///
/// As those of [`ImageReader::image`]; a layer that is not what its descriptor
/// says or no tar; [`ErrorKind::Cycle`](crate::ErrorKind::Cycle) if store paths
/// refer to each other in a ring, which no store has.
pub fn image_closure(
    cx: &Context,
    reader: &ImageReader,
    platform: Option<&Platform>,
    store_dir: &StoreDir,
) -> Result<ImageClosure> {
    let image = reader.image(cx, platform)?;
    let config: Value = parse(reader.name(), image.raw_config.bytes())?;
    let listed = parallel::for_each(cx, &image.layers, |layer| {
        tar_paths(cx, reader, store_dir, layer)
    })?;
    let mut known: BTreeMap<StorePath, Option<u64>> = BTreeMap::new();
    for listed in listed.into_iter().flatten() {
        let path = listed.path.whole().expect("a tar has whole names");
        let size = known.entry(path).or_default();
        *size = (*size).max(listed.nar_size);
    }
    let paths: Vec<StorePath> = known.keys().cloned().collect();
    let hashes = Hashes::new(&paths);
    let numbered: Vec<_> = image.layers.iter().enumerate().collect();
    let found = parallel::for_each(cx, &numbered, |(number, layer)| {
        let found = scan(cx, reader, store_dir, &paths, &hashes, layer)?;
        cx.observer.event(&Event::LayerScanned {
            layer: *number,
            layers: image.layers.len(),
        });
        Ok(found)
    })?;

    let mut references: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let mut linked = BTreeSet::new();
    for found in found {
        for (from, to) in found.references {
            references.entry(from).or_default().insert(to);
        }
        linked.extend(found.linked);
    }
    let infos: Vec<PathInfo> = known
        .into_iter()
        .zip(0..)
        .map(|((path, nar_size), from)| {
            let to = references.get(&from).into_iter().flatten();
            PathInfo {
                nar_size,
                ..PathInfo::new(path, to.map(|to| paths[*to as usize].clone()))
            }
        })
        .collect();
    let named = named_by(&config, &hashes);
    let named = named.into_iter().map(|at| (at, RootReason::Config));
    let linked = linked.into_iter().map(|at| (at, RootReason::Symlink));
    let mut roots = BTreeMap::new();
    for (at, reason) in named.chain(linked) {
        roots.entry(paths[at as usize].clone()).or_insert(reason);
    }
    rooted(reader.name(), store_dir, infos, roots)
}

impl ImageClosure {
    /// Makes the closure of an image whose references are known from elsewhere:
    /// the roots are chosen as [`image_closure`] does, without symlinks.
    ///
    /// # Errors
    ///
    /// Those of [`Closure::new`]; `name` names the image in them.
    pub fn of_known(
        name: &str,
        store_dir: &StoreDir,
        infos: Vec<PathInfo>,
        config: &Value,
    ) -> Result<Self> {
        let paths: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
        let named = named_by(config, &Hashes::new(&paths)).into_iter();
        let roots = named.map(|at| (paths[at as usize].clone(), RootReason::Config));
        rooted(name, store_dir, infos, roots.collect())
    }
}

/// Makes the closure of all paths, with more roots where some would be left
/// out.
fn rooted(
    name: &str,
    store_dir: &StoreDir,
    infos: Vec<PathInfo>,
    mut roots: BTreeMap<StorePath, RootReason>,
) -> Result<ImageClosure> {
    let everything: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    let whole = Closure::new(store_dir.clone(), infos, &everything, name)?;
    let mut is_reached = vec![false; whole.len()];
    // Referrers come after their references.
    for id in whole.ids().rev() {
        let mut referrers = whole.referrers(id).iter();
        let is_root = roots.contains_key(whole.path(id));
        is_reached[id.index()] = is_root || referrers.any(|r| is_reached[r.index()]);
        if !is_reached[id.index()] && whole.referrers(id).is_empty() {
            roots.insert(whole.path(id).clone(), RootReason::Unreferenced);
            is_reached[id.index()] = true;
        }
    }
    let names: Vec<StorePath> = roots.keys().cloned().collect();
    let closure = Closure::new(store_dir.clone(), whole.infos().to_vec(), &names, name)?;
    let roots = roots.into_iter().filter_map(|(path, reason)| {
        let id = closure.find(&path)?;
        Some((id, reason))
    });
    Ok(ImageClosure {
        roots: roots.collect(),
        closure,
    })
}

/// Returns the places of the paths that a config names as what is run and what
/// it finds in its environment.
fn named_by(config: &Value, hashes: &Hashes) -> BTreeSet<u32> {
    let mut named = BTreeSet::new();
    for list in ["Entrypoint", "Cmd", "Env"] {
        let words = config
            .pointer(&format!("/config/{list}"))
            .and_then(Value::as_array);
        for word in words.into_iter().flatten().filter_map(Value::as_str) {
            hashes.find(word.as_bytes(), |at| {
                named.insert(at);
            });
        }
    }
    named
}

/// What was found in a layer.
#[derive(Default)]
struct Found {
    /// Which path refers to which.
    references: BTreeSet<(u32, u32)>,
    /// Which paths symlinks outside the store lead to.
    linked: BTreeSet<u32>,
}

/// Looks for hashes in a layer.
fn scan(
    cx: &Context,
    reader: &ImageReader,
    store_dir: &StoreDir,
    paths: &[StorePath],
    hashes: &Hashes,
    layer: &StoredLayer,
) -> Result<Found> {
    let place = format!("{}: layer {}", reader.name(), layer.descriptor.digest());
    let mut scan = Scan {
        prefix: StorePrefix::new(store_dir),
        paths,
        hashes,
        scanner: ReferenceScanner::default(),
        current: None,
        found: Found::default(),
    };
    let blob = reader.open_blob(&layer.descriptor)?;
    read_entries(cx, &place, blob, &mut scan)?;
    Ok(scan.found)
}

/// Looks for hashes in the entries of a tar.
struct Scan<'a> {
    prefix: StorePrefix,
    /// Sorted.
    paths: &'a [StorePath],
    hashes: &'a Hashes,
    scanner: ReferenceScanner,
    /// The store path whose contents are shown.
    current: Option<u32>,
    found: Found,
}

impl Scan<'_> {
    fn take(&mut self, from: u32, bytes: &[u8]) {
        let references = &mut self.found.references;
        self.scanner.take(self.hashes, bytes, |to| {
            if to != from {
                references.insert((from, to));
            }
        });
    }
}

impl EntryVisitor for Scan<'_> {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        self.scanner.end();
        let Some((store_path, inside)) = self.prefix.split(path) else {
            if member.kind == MemberKind::Symlink {
                let linked = &mut self.found.linked;
                self.hashes.find(&member.link, |to| {
                    linked.insert(to);
                });
            }
            return false;
        };
        let place = self.paths.binary_search(&store_path).ok();
        self.current = place.and_then(|at| u32::try_from(at).ok());
        let Some(from) = self.current else {
            return false;
        };
        // A NAR has the names and the targets of links in it.
        self.take(from, inside);
        self.scanner.end();
        if member.kind == MemberKind::Symlink {
            self.take(from, &member.link);
            self.scanner.end();
        }
        member.kind == MemberKind::File
    }

    fn contents(&mut self, bytes: &[u8]) {
        if let Some(from) = self.current {
            self.take(from, bytes);
        }
    }
}
