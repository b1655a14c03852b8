//! How much of an image's layers nobody sees.
//!
//! A file is wasted if a layer above has something else at its path, or
//! deletes it. Layers are read from the top down, so that of the layers above
//! it is enough to know which paths they have and which directories they hide;
//! both are kept by their hash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::iter;

use serde::Serialize;

use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, read_entries};
use crate::store::StoreDir;

use super::listing::StorePrefix;
use super::{ImageReader, StoredImage};

/// Wasted paths that are told by name.
const MAX_TOLD: usize = 10_000;

/// How much of an image's layers nobody sees. Serialized as
/// [`ImageSummary`](super::ImageSummary).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerEfficiency {
    /// Bytes of all files in all layers.
    pub file_bytes: u64,
    /// Bytes of those that a layer above replaces or deletes.
    pub wasted_bytes: u64,
    /// How many files these are.
    pub wasted_files: u64,
    /// What these files are of, those with the most bytes first: the 10,000
    /// that came first at most.
    pub wasted: Vec<WastedPath>,
}

/// A store path, or a file outside the store, that is wasted in some layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WastedPath {
    /// The path in the image, with what is no UTF-8 replaced.
    pub path: String,
    /// Wasted bytes of its files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// The layers in which they are wasted, counted from 0, bottom first.
    pub layers: Vec<usize>,
}

impl LayerEfficiency {
    /// Returns the part of the layers' bytes that is seen, in percent: 100 if
    /// there are no bytes. It is near to what dive calls the efficiency score,
    /// which takes the smallest of the files at a path for the seen one.
    pub fn percent(&self) -> f64 {
        if self.file_bytes == 0 {
            return 100.0;
        }
        let seen = self.file_bytes.saturating_sub(self.wasted_bytes);
        seen as f64 * 100.0 / self.file_bytes as f64
    }
}

/// Reads all layers of an image and finds what nobody sees.
///
/// One layer after the other, since each one's verdict needs those above.
/// Memory grows by about 30 bytes an entry.
///
/// # Errors
///
/// A layer that is not what its descriptor says, or no tar.
pub(super) fn efficiency(
    cx: &Context,
    reader: &ImageReader,
    image: &StoredImage,
    store_dir: &StoreDir,
) -> Result<LayerEfficiency> {
    let mut account = Account::new(store_dir);
    for (number, layer) in image.layers.iter().enumerate().rev() {
        let place = format!("{}: layer {}", reader.name(), layer.descriptor.digest());
        account.begin(number);
        let blob = reader.open_blob(&layer.descriptor)?;
        read_entries(cx, &place, blob, &mut account)?;
        account.end();
    }
    Ok(account.finish())
}

/// Sixteen bytes of a path's SHA-256.
type Key = [u8; 16];

fn key(path: &[u8]) -> Key {
    cut(Digest::of(path))
}

fn cut(digest: Digest) -> Key {
    *digest
        .as_bytes()
        .first_chunk()
        .expect("SHA-256 has 32 bytes")
}

/// Returns the keys of the directories that a path lies in, the root first.
/// Each byte is hashed once: a path may have a megabyte, and half of it slashes.
fn directories(path: &[u8]) -> impl Iterator<Item = Key> {
    let mut hasher = Hasher::new();
    let mut hashed = 0;
    let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
    iter::once(0)
        .chain(slashes.map(|(at, _)| at))
        .map(move |end| {
            hasher.update(&path[hashed..end]);
            hashed = end;
            cut(hasher.clone().finish())
        })
}

/// What layers have, and what those above hide of it.
#[derive(Default)]
struct Above {
    /// Paths of files and links.
    taken: HashSet<Key>,
    /// Paths of directories.
    directories: HashSet<Key>,
    /// Paths that are deleted, or are no directory any more: nothing below them
    /// is seen.
    hidden: HashSet<Key>,
    /// Directories of which nothing is seen but what is in the layer itself.
    opaque: HashSet<Key>,
}

impl Above {
    fn is_hidden(&self, path: &[u8]) -> bool {
        if !self.hidden.is_empty() && self.hidden.contains(&key(path)) {
            return true;
        }
        if self.hidden.is_empty() && self.opaque.is_empty() && self.taken.is_empty() {
            return false;
        }
        directories(path).any(|directory| {
            self.hidden.contains(&directory)
                || self.opaque.contains(&directory)
                || self.taken.contains(&directory)
        })
    }

    fn absorb(&mut self, layer: Self) {
        self.taken.extend(layer.taken);
        self.directories.extend(layer.directories);
        self.hidden.extend(layer.hidden);
        self.opaque.extend(layer.opaque);
    }
}

struct Account {
    prefix: StorePrefix,
    store_dir: StoreDir,
    above: Above,
    /// The layer that is read, and what it has.
    number: usize,
    layer: Above,
    /// The last directory and whether a layer above hides what is in it: most
    /// entries share it.
    last: Option<(Vec<u8>, bool)>,
    wasted: BTreeMap<String, WastedPath>,
    total: LayerEfficiency,
}

impl Account {
    fn new(store_dir: &StoreDir) -> Self {
        Self {
            prefix: StorePrefix::new(store_dir),
            store_dir: store_dir.clone(),
            above: Above::default(),
            number: 0,
            layer: Above::default(),
            last: None,
            wasted: BTreeMap::new(),
            total: LayerEfficiency::default(),
        }
    }

    fn begin(&mut self, number: usize) {
        self.number = number;
        self.last = None;
    }

    fn end(&mut self) {
        self.above.absorb(std::mem::take(&mut self.layer));
    }

    fn finish(mut self) -> LayerEfficiency {
        let mut wasted: Vec<_> = self.wasted.into_values().collect();
        for path in &mut wasted {
            path.layers.reverse();
        }
        wasted.sort_by_key(|path| Reverse(path.bytes));
        self.total.wasted = wasted;
        self.total
    }

    /// Returns whether a layer above replaces or deletes what is here.
    fn is_wasted(&mut self, path: &[u8], own: &Key) -> bool {
        let above = &self.above;
        if [&above.taken, &above.directories, &above.hidden]
            .iter()
            .any(|keys| keys.contains(own))
        {
            return true;
        }
        let end = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let directory = &path[..end];
        if let Some((last, is_hidden)) = &self.last
            && last == directory
        {
            return *is_hidden;
        }
        let is_hidden = above.is_hidden(path);
        self.last = Some((directory.to_vec(), is_hidden));
        is_hidden
    }

    fn waste(&mut self, path: &[u8], bytes: u64) {
        self.total.wasted_bytes = self.total.wasted_bytes.saturating_add(bytes);
        self.total.wasted_files += 1;
        let name = match self.prefix.split(path) {
            Some((store_path, _)) => self.store_dir.join(&store_path),
            None => format!("/{}", String::from_utf8_lossy(path)),
        };
        if self.wasted.len() >= MAX_TOLD && !self.wasted.contains_key(&name) {
            return;
        }
        let wasted = self
            .wasted
            .entry(name)
            .or_insert_with_key(|name| WastedPath {
                path: name.clone(),
                bytes: 0,
                files: 0,
                layers: Vec::new(),
            });
        wasted.bytes = wasted.bytes.saturating_add(bytes);
        wasted.files += 1;
        if wasted.layers.last() != Some(&self.number) {
            wasted.layers.push(self.number);
        }
    }
}

impl EntryVisitor for Account {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        let (directory, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if name == b".wh..wh..opq" {
            self.layer.opaque.insert(key(directory));
        } else if let Some(deleted) = name.strip_prefix(b".wh.") {
            let deleted = match directory {
                b"" => deleted.to_vec(),
                directory => [directory, b"/", deleted].concat(),
            };
            self.layer.hidden.insert(key(&deleted));
        } else if member.kind == MemberKind::Directory {
            self.layer.directories.insert(key(path));
        } else {
            let own = key(path);
            let bytes = match member.kind {
                MemberKind::File => member.size,
                _ => 0,
            };
            self.total.file_bytes = self.total.file_bytes.saturating_add(bytes);
            if self.is_wasted(path, &own) {
                self.waste(path, bytes);
            }
            self.layer.taken.insert(own);
        }
        false
    }

    fn contents(&mut self, _: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done in a layer.
    enum Do {
        File(&'static str, u64),
        Dir(&'static str),
        Link(&'static str),
    }
    use Do::{Dir, File, Link};

    const A: &str = "nix/store/00000000000000000000000000000000-a";

    fn member(path: &str, kind: MemberKind, size: u64) -> Member {
        Member {
            path: path.as_bytes().to_vec(),
            link: Vec::new(),
            kind,
            size,
            mode: 0o444,
            is_executable: false,
            owner: (0, 0),
            offset: 0,
        }
    }

    fn report(layers: &[&[Do]]) -> LayerEfficiency {
        let mut account = Account::new(&StoreDir::default());
        for (number, layer) in layers.iter().enumerate().rev() {
            account.begin(number);
            for entry in *layer {
                let (path, kind, size) = match entry {
                    File(path, size) => (path, MemberKind::File, *size),
                    Dir(path) => (path, MemberKind::Directory, 0),
                    Link(path) => (path, MemberKind::Symlink, 0),
                };
                account.entry(&member(path, kind, size), path.as_bytes());
            }
            account.end();
        }
        account.finish()
    }

    /// Wasted paths as `path: bytes in layers`.
    fn wasted(layers: &[&[Do]]) -> Vec<String> {
        let report = report(layers);
        let text = |w: &WastedPath| format!("{}: {} in {:?}", w.path, w.bytes, w.layers);
        report.wasted.iter().map(text).collect()
    }

    #[test]
    fn layers_of_different_paths_waste_nothing() {
        let found = report(&[
            &[Dir("nix"), Dir("nix/store"), File("nix/store/x", 10)],
            &[Dir("nix"), Dir("nix/store"), File("nix/store/y", 20)],
        ]);
        assert_eq!((found.file_bytes, found.wasted_bytes), (30, 0));
        assert_eq!(found.wasted, []);
        assert_eq!(format!("{:.1}", found.percent()), "100.0");
        assert_eq!(report(&[]).percent(), 100.0);
    }

    #[test]
    fn a_store_path_in_several_layers_counts_once() {
        let files = || [format!("{A}/bin/a"), format!("{A}/lib/b")].map(|path| &*path.leak());
        let layer = || {
            let [a, b] = files();
            [Dir(A), File(a, 10), File(b, 5)]
        };
        let found = report(&[&layer(), &layer(), &layer()]);
        assert_eq!((found.file_bytes, found.wasted_bytes), (45, 30));
        assert_eq!(found.wasted_files, 4);
        assert_eq!(
            wasted(&[&layer(), &layer(), &layer()]),
            [format!("/{A}: 30 in [0, 1]")]
        );
        assert_eq!(format!("{:.1}", found.percent()), "33.3");
    }

    #[test]
    fn what_is_replaced_or_deleted_is_wasted() {
        // A file by a file, by a link, by a directory.
        assert_eq!(
            wasted(&[&[File("a", 1)], &[File("a", 2)]]),
            ["/a: 1 in [0]"]
        );
        assert_eq!(wasted(&[&[File("a", 1)], &[Link("a")]]), ["/a: 1 in [0]"]);
        assert_eq!(wasted(&[&[File("a", 1)], &[Dir("a")]]), ["/a: 1 in [0]"]);
        // A directory by a file, or deleted.
        let below = || {
            [
                Dir("d"),
                File("d/a", 1),
                Dir("d/e"),
                File("d/e/b", 2),
                File("c", 4),
            ]
        };
        let both = ["/d/e/b: 2 in [0]", "/d/a: 1 in [0]"];
        for above in [File("d", 8), File(".wh.d", 0)] {
            assert_eq!(wasted(&[&below(), &[above]]), both);
        }
        // Whiteouts of a file, and of all there was in a directory.
        assert_eq!(
            wasted(&[&below(), &[File("d/.wh.a", 0)]]),
            ["/d/a: 1 in [0]"]
        );
        let opaque = [Dir("d"), File("d/.wh..wh..opq", 0), File("d/new", 1)];
        assert_eq!(wasted(&[&below(), &opaque]), both);
        let everything = [File(".wh..wh..opq", 0), File("new", 1)];
        assert_eq!(
            wasted(&[&below(), &everything]),
            ["/c: 4 in [0]", "/d/e/b: 2 in [0]", "/d/a: 1 in [0]"]
        );
    }

    #[test]
    fn a_path_of_many_directories_costs_no_more_than_its_bytes() {
        let mut account = Account::new(&StoreDir::default());
        account.entry(&member("a", MemberKind::File, 1), b"a");
        account.end();
        account.begin(0);
        // As long as a header of a tar may say.
        let deep = "d/".repeat(1 << 19) + "a";
        account.entry(&member(&deep, MemberKind::File, 1), deep.as_bytes());
        account.end();
        assert_eq!(account.finish().wasted_bytes, 0);
    }

    #[test]
    fn what_a_layer_deletes_is_deleted_from_those_below_only() {
        let replace = [File(".wh.a", 0), File("a", 2)];
        assert_eq!(wasted(&[&[File("a", 1)], &replace]), ["/a: 1 in [0]"]);
        let again: [&[Do]; 3] = [&[File("a", 1)], &[File(".wh.a", 0)], &[File("a", 4)]];
        assert_eq!(wasted(&again), ["/a: 1 in [0]"]);
    }
}
