//! An image's store paths and those of a store, file by file.
//!
//! Each layer is compared by itself, as one that this program made has all of
//! each store path in it. Of what differs the entries are kept, and put
//! together with those of the other layers at the end: a store path may be in
//! several, and layers above may delete of it. So memory grows with the entries
//! of one layer for each thread, and with the entries of what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::content::{ContentSource as _, Entry, LocalStore};
use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, normal, read_entries, show};
use crate::parallel;
use crate::store::{StoreDir, StorePath};

use super::listing::StorePrefix;
use super::{ImageReader, Place, Problem, ProblemKind, StoredImage, StoredLayer};

/// Files of one store path that are told by name.
const MAX_FILES: usize = 20;

/// Bytes of a file that are hashed at once.
const BUFFER: usize = 64 << 10;

/// What an image has otherwise than the store, at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreDifference {
    /// The store does not have the store path.
    NotInStore,
    /// The store has it and the image has not.
    Missing,
    /// The image has it and the store has not.
    Extra,
    /// They are of different kinds.
    Kind {
        /// What the image has: `a directory`.
        image: &'static str,
        /// What the store has.
        store: &'static str,
    },
    /// Files with other bytes.
    Content {
        /// Bytes in the image.
        image: u64,
        /// Bytes in the store.
        store: u64,
    },
    /// Files of which one may be executed and the other not.
    Mode {
        /// Whether that in the image may be.
        is_executable: bool,
    },
    /// Symbolic links that hold something else.
    Target {
        /// What that in the image holds.
        image: String,
        /// What that in the store holds.
        store: String,
    },
    /// More files of the store path differ than are named.
    More {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for StoreDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInStore => f.write_str("is not in the store"),
            Self::Missing => f.write_str("is in the store and not in the image"),
            Self::Extra => f.write_str("is in the image and not in the store"),
            Self::Kind { image, store } => {
                write!(f, "is {image} in the image and {store} in the store")
            }
            Self::Content { image, store } if image == store => {
                write!(f, "has other bytes than in the store, {store} of them")
            }
            Self::Content { image, store } => {
                write!(f, "has {image} bytes in the image and {store} in the store")
            }
            Self::Mode {
                is_executable: true,
            } => f.write_str("may be executed, and not in the store"),
            Self::Mode {
                is_executable: false,
            } => f.write_str("may not be executed, but in the store it may"),
            Self::Target { image, store } => {
                write!(
                    f,
                    "leads to {image} in the image and to {store} in the store"
                )
            }
            Self::More { count: 1 } => f.write_str("has one more file that differs"),
            Self::More { count } => write!(f, "has {count} more files that differ"),
        }
    }
}

/// Compares each file of an image's store paths with that of a store: kind,
/// bytes, whether it may be executed, and what links hold. Returns what
/// differs, in the order of the store paths; of each the first 20 files.
///
/// Reads all layers and all of these store paths. The store's directory is
/// `store_dir` in the image.
///
/// # Errors
///
/// A layer that is not what its descriptor says, or no tar; a store that cannot
/// be read.
pub fn check_against_store(
    cx: &Context,
    reader: &ImageReader,
    image: &StoredImage,
    store_dir: &StoreDir,
    store: &LocalStore,
) -> Result<Vec<Problem>> {
    let layers = parallel::for_each(cx, &image.layers, |layer| {
        compare_layer(cx, reader, layer, store_dir, store)
    })?;
    let paths: BTreeSet<&StorePath> = layers.iter().flat_map(BTreeMap::keys).collect();
    let mut problems = Vec::new();
    for path in paths {
        let parts: Vec<&Part> = layers.iter().filter_map(|layer| layer.get(path)).collect();
        if let [Part::Same] = parts.as_slice() {
            continue;
        }
        let full = store_dir.join(path);
        let mut report = |file: String, difference| {
            problems.push(Problem {
                place: Place::File { path: file },
                kind: ProblemKind::DiffersFromStore { difference },
            });
        };
        if store
            .locate(path)
            .symlink_metadata()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            report(full, StoreDifference::NotInStore);
            continue;
        }
        let in_store = nodes_of_store(cx, store, path)?;
        let in_image = merged(&parts, &in_store);
        // What layers above delete whole is in no container.
        if in_image.is_empty() {
            continue;
        }
        let mut more = 0;
        for (count, (inside, difference)) in
            differences(&in_image, &in_store).into_iter().enumerate()
        {
            if count >= MAX_FILES {
                more += 1;
                continue;
            }
            let slash: &[u8] = if inside.is_empty() { b"" } else { b"/" };
            report(show(&[full.as_bytes(), slash, inside].concat()), difference);
        }
        if more > 0 {
            report(full, StoreDifference::More { count: more });
        }
    }
    Ok(problems)
}

/// What one layer has of a store path.
enum Part {
    /// All that the store has, and nothing else.
    Same,
    /// These entries.
    Nodes(Nodes),
}

/// What is at each path in a store path, empty for itself.
type Nodes = BTreeMap<Vec<u8>, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory {
        /// Whether nothing of the layers below is seen in it.
        is_opaque: bool,
    },
    File {
        is_executable: bool,
        size: u64,
        digest: Digest,
    },
    Symlink(Vec<u8>),
    /// Layers above delete it.
    Removed,
    /// Something that no store path has.
    Other,
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "a directory",
            Self::File { .. } => "a file",
            Self::Symlink(_) => "a symbolic link",
            Self::Removed | Self::Other => "something else",
        }
    }
}

fn compare_layer(
    cx: &Context,
    reader: &ImageReader,
    layer: &StoredLayer,
    store_dir: &StoreDir,
    store: &LocalStore,
) -> Result<BTreeMap<StorePath, Part>> {
    let place = format!("{}: layer {}", reader.name(), layer.descriptor.digest());
    let mut collect = Collect {
        prefix: StorePrefix::new(store_dir),
        found: BTreeMap::new(),
        open: None,
    };
    let blob = reader.open_blob(&layer.descriptor)?;
    read_entries(cx, &place, blob, &mut collect)?;
    collect.settle();
    let mut parts = BTreeMap::new();
    for (path, nodes) in collect.found {
        let is_there = store.locate(&path).symlink_metadata().is_ok();
        let is_same = is_there && nodes_of_store(cx, store, &path)? == nodes;
        let part = if is_same {
            Part::Same
        } else {
            Part::Nodes(nodes)
        };
        parts.insert(path, part);
    }
    Ok(parts)
}

/// Collects the store paths of a layer.
struct Collect {
    prefix: StorePrefix,
    found: BTreeMap<StorePath, Nodes>,
    /// The file that is being read, and its hash up to now.
    open: Option<(StorePath, Vec<u8>, bool, u64, Hasher)>,
}

impl Collect {
    fn settle(&mut self) {
        if let Some((path, inside, is_executable, size, hasher)) = self.open.take() {
            let node = Node::File {
                is_executable,
                size,
                digest: hasher.finish(),
            };
            self.insert(path, inside, node);
        }
    }

    fn insert(&mut self, path: StorePath, inside: Vec<u8>, node: Node) {
        self.found.entry(path).or_default().insert(inside, node);
    }

    /// Takes a mark that deletes; `parent` is its directory.
    fn mark(&mut self, parent: &[u8], name: &[u8]) {
        if name == b".wh..wh..opq" {
            if let Some((path, inside)) = self.prefix.split(parent) {
                self.insert(path, inside.to_vec(), Node::Directory { is_opaque: true });
            }
            return;
        }
        let removed = [parent, b"/", &name[b".wh.".len()..]].concat();
        if let Some((path, inside)) = self.prefix.split(&removed) {
            self.insert(path, inside.to_vec(), Node::Removed);
        }
    }
}

impl EntryVisitor for Collect {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        self.settle();
        let slash = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let name = path[slash..].strip_prefix(b"/").unwrap_or(path);
        if name.starts_with(b".wh.") {
            self.mark(&path[..slash], name);
            return false;
        }
        let Some((store_path, inside)) = self.prefix.split(path) else {
            return false;
        };
        let inside = inside.to_vec();
        let node = match member.kind {
            MemberKind::File => {
                let hasher = Hasher::new();
                self.open = Some((
                    store_path,
                    inside,
                    member.is_executable,
                    member.size,
                    hasher,
                ));
                return true;
            }
            // A mark may have come before the directory.
            MemberKind::Directory => {
                let nodes = self.found.entry(store_path).or_default();
                nodes
                    .entry(inside)
                    .or_insert(Node::Directory { is_opaque: false });
                return false;
            }
            MemberKind::Symlink => Node::Symlink(member.link.clone()),
            MemberKind::HardLink => {
                let target = normal(&member.link).unwrap_or_default();
                let target = self.prefix.split(&target);
                let target = target.and_then(|(path, inside)| self.found.get(&path)?.get(inside));
                target.cloned().unwrap_or(Node::Other)
            }
            MemberKind::Other(_) => Node::Other,
        };
        self.insert(store_path, inside, node);
        false
    }

    fn contents(&mut self, bytes: &[u8]) {
        if let Some((.., hasher)) = &mut self.open {
            hasher.update(bytes);
        }
    }
}

/// Returns what the store has of a store path.
fn nodes_of_store(cx: &Context, store: &LocalStore, path: &StorePath) -> Result<Nodes> {
    let mut nodes = Nodes::new();
    let mut buffer = vec![0; BUFFER];
    store.visit(cx, path, &mut |entry| {
        let inside = entry.path().to_vec();
        let node = match entry {
            Entry::Directory { .. } => Node::Directory { is_opaque: false },
            Entry::Symlink { target, .. } => Node::Symlink(target.to_vec()),
            Entry::File {
                executable,
                size,
                contents,
                ..
            } => {
                let mut hasher = Hasher::new();
                loop {
                    cx.cancel.check()?;
                    match contents.read(&mut buffer)? {
                        0 => break,
                        n => hasher.update(&buffer[..n]),
                    }
                }
                Node::File {
                    is_executable: executable,
                    size,
                    digest: hasher.finish(),
                }
            }
        };
        nodes.insert(inside, node);
        Ok(())
    })?;
    Ok(nodes)
}

/// Puts the parts of several layers together, bottom first, as a container sees
/// them.
fn merged(parts: &[&Part], in_store: &Nodes) -> Nodes {
    let mut all = Nodes::new();
    for part in parts {
        let nodes = match part {
            Part::Same => in_store,
            Part::Nodes(nodes) => nodes,
        };
        let is_below = |path: &[u8], above: &[u8]| {
            above.is_empty() && !path.is_empty()
                || path
                    .strip_prefix(above)
                    .is_some_and(|rest| rest.starts_with(b"/"))
        };
        let hiding = nodes
            .iter()
            .filter(|(_, node)| !matches!(node, Node::Directory { is_opaque: false }));
        for (path, _) in hiding {
            let hidden: Vec<Vec<u8>> = all
                .range(path.clone()..)
                .map(|(known, _)| known)
                .take_while(|known| known.starts_with(path))
                .filter(|known| is_below(known, path))
                .cloned()
                .collect();
            for hidden in hidden {
                all.remove(&hidden);
            }
        }
        for (path, node) in nodes {
            match node {
                Node::Removed => all.remove(path),
                Node::Directory { .. } => {
                    all.insert(path.clone(), Node::Directory { is_opaque: false })
                }
                node => all.insert(path.clone(), node.clone()),
            };
        }
    }
    all
}

/// Returns what differs, in the order of the paths.
fn differences<'a>(image: &'a Nodes, store: &'a Nodes) -> BTreeMap<&'a [u8], StoreDifference> {
    let mut differences = BTreeMap::new();
    for (path, node) in image {
        let difference = match store.get(path) {
            Some(other) => difference(node, other),
            None => Some(StoreDifference::Extra),
        };
        differences.extend(difference.map(|d| (path.as_slice(), d)));
    }
    for path in store.keys().filter(|path| !image.contains_key(*path)) {
        differences.insert(path, StoreDifference::Missing);
    }
    differences
}

fn difference(image: &Node, store: &Node) -> Option<StoreDifference> {
    Some(match (image, store) {
        (a, b) if a == b => return None,
        (
            Node::File {
                is_executable,
                size,
                digest,
            },
            Node::File {
                size: in_store,
                digest: other,
                ..
            },
        ) => {
            if digest == other {
                StoreDifference::Mode {
                    is_executable: *is_executable,
                }
            } else {
                StoreDifference::Content {
                    image: *size,
                    store: *in_store,
                }
            }
        }
        (Node::Symlink(a), Node::Symlink(b)) => StoreDifference::Target {
            image: show(a),
            store: show(b),
        },
        (a, b) => StoreDifference::Kind {
            image: a.kind(),
            store: b.kind(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(entries: &[(&str, Node)]) -> Nodes {
        let nodes = entries.iter().cloned();
        nodes
            .map(|(path, node)| (path.as_bytes().to_vec(), node))
            .collect()
    }

    const DIR: Node = Node::Directory { is_opaque: false };
    const OPAQUE: Node = Node::Directory { is_opaque: true };

    fn file(text: &str) -> Node {
        Node::File {
            is_executable: false,
            size: text.len() as u64,
            digest: Digest::of(text.as_bytes()),
        }
    }

    #[test]
    fn layers_are_put_together_as_a_container_sees_them() {
        let store = nodes(&[
            ("", DIR),
            ("a", DIR),
            ("a/x", file("x")),
            ("a/y", file("y")),
            ("a.txt", file("text")),
        ]);
        for (above, expected) in [
            (&[][..], vec!["", "a", "a.txt", "a/x", "a/y"]),
            (&[("a/x", Node::Removed)], vec!["", "a", "a.txt", "a/y"]),
            (&[("a", Node::Removed)], vec!["", "a.txt"]),
            (
                &[("a", OPAQUE), ("a/z", file("z"))],
                vec!["", "a", "a.txt", "a/z"],
            ),
            (&[("a", file("no directory"))], vec!["", "a", "a.txt"]),
            (&[("", Node::Removed)], vec![]),
            (
                &[("b", file("b"))],
                vec!["", "a", "a.txt", "a/x", "a/y", "b"],
            ),
        ] {
            let above = Part::Nodes(nodes(above));
            let all = merged(&[&Part::Same, &above], &store);
            let names: Vec<_> = all
                .keys()
                .map(|path| String::from_utf8_lossy(path))
                .collect();
            assert_eq!(names, expected);
        }
        let same = Part::Nodes(nodes(&[("a/x", file("x"))]));
        let all = merged(&[&Part::Same, &same], &store);
        assert_eq!(differences(&all, &store).len(), 0);
        assert_eq!(differences(&merged(&[&same], &store), &store).len(), 4);
    }
}
