//! Copies of what store paths hold, as nix2container's `copyToRoot` and
//! dockerTools' `buildImage` make them.
//!
//! - Directories are made anew (0755), so that those of several store paths
//!   become one; files keep the modes of the store, symbolic links what they
//!   hold.
//! - Two files at one path are fine if their bytes and modes are equal; else
//!   they are an error, but for those that every package brings.
//!
//! Source of the rewrites: nlewo/nix2container, `nix/tar.go`: the expression is
//! looked for in the full path in the store, and what it matches is replaced.

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder};

use crate::content::{ContentSource, Entry};
use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::oci::Owner;
use crate::plan::rule::MOST_COMPILED;
use crate::store::{NarHash, StoreDir, StorePath};

use super::contents::is_bookkeeping;
use super::directory_links::DirectoryLinks;
use super::place::{self, Found, Place, follow, join, shown};
use super::{Added, Metadata, RootFile, RootNode, RootTree, full_path};

/// Bytes of a file that are read at once to compare it.
const BUFFER: usize = 64 << 10;

/// What is copied into the root, and to where.
#[derive(Debug, Clone)]
pub struct Copies {
    /// The store path.
    pub path: StorePath,
    /// Where in it, empty for all of it. What a symbolic link here leads to
    /// is copied, not the link.
    pub inside: Vec<u8>,
    /// Where it goes, relative to the root; empty for the root itself.
    pub target: Vec<u8>,
    /// Where each file goes instead, if one of these matches: of the full path
    /// in the store.
    pub rewrites: Vec<Rewrite>,
    /// Whether a link to a directory in the store becomes a copy of that
    /// directory, as with rsync's `--copy-dirlinks`. Otherwise, and where that
    /// would have no end, it stays a link.
    pub follow_directory_links: bool,
    /// The permission bits of files, if not those of the store.
    pub file_mode: Option<u32>,
    /// The permission bits of directories, if not 0755.
    pub directory_mode: Option<u32>,
    /// The owner, if not that of all files.
    pub owner: Option<Owner>,
}

impl Copies {
    /// Copies all of a store path to the root.
    pub fn new(path: StorePath) -> Self {
        Self {
            path,
            inside: Vec::new(),
            target: Vec::new(),
            rewrites: Vec::new(),
            follow_directory_links: false,
            file_mode: None,
            directory_mode: None,
            owner: None,
        }
    }

    /// Returns where something goes whose full path in the store and path below
    /// what is copied these are; relative to the root.
    fn target_of(&self, full: &[u8], name: &[u8]) -> Vec<u8> {
        match self.rewrites.iter().find_map(|rewrite| rewrite.apply(full)) {
            Some(rewritten) => {
                let start = rewritten.iter().take_while(|b| **b == b'/').count();
                let end = rewritten.iter().rev().take_while(|b| **b == b'/').count();
                rewritten[start..rewritten.len().max(start + end) - end].to_vec()
            }
            None => join(&self.target, name),
        }
    }

    fn metadata(&self, node: &RootNode) -> Metadata {
        Metadata {
            mode: match node {
                RootNode::Directory => self.directory_mode,
                RootNode::File(_) => self.file_mode,
                RootNode::Symlink { .. } => None,
            },
            owner: self.owner,
            ..Metadata::default()
        }
    }
}

/// Another place for files, by their full path in the store.
#[derive(Debug, Clone)]
pub struct Rewrite {
    regex: Regex,
    replacement: Vec<u8>,
}

impl Rewrite {
    /// Takes an expression and what replaces each of its matches; `$1` and
    /// `${1}` stand for groups, `$$` for `$`. See
    /// [`PatternKind::Regex`](crate::plan::PatternKind::Regex) for the syntax.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an
    /// expression that is not well-formed or too large.
    pub fn new(regex: &str, replacement: &str) -> Result<Self> {
        let compiled = RegexBuilder::new(regex)
            .unicode(false)
            .size_limit(MOST_COMPILED)
            .build();
        let regex = compiled.map_err(|e| {
            let problem = e.to_string();
            let line = problem.lines().last().unwrap_or_default();
            let problem = line.trim_start_matches("error: ");
            Error::invalid(format!("the expression {regex:?}"), problem)
        })?;
        Ok(Self {
            regex,
            replacement: replacement.as_bytes().to_vec(),
        })
    }

    fn apply(&self, full: &[u8]) -> Option<Vec<u8>> {
        let replaced = self.regex.replace_all(full, self.replacement.as_slice());
        match replaced {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(path) => Some(path),
        }
    }
}

impl RootTree {
    /// Adds copies of what is in a store path: directories, links, and files
    /// whose bytes are read when the layer is packed. `nar_hash` knows the NAR
    /// hashes of store paths.
    ///
    /// If what is copied is a symbolic link into the store, what it leads to is
    /// copied.
    ///
    /// Costs one visit of the store path, whose files are not read; a file that
    /// is at a place where another store path's file of the same size is already
    /// is read, and the other as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`](crate::ErrorKind::RootTreeConflict) if
    /// something else is at one of the places already;
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a place
    /// that cannot be, a file that would be the root itself, or a link that
    /// leads to nothing or out of the store; what the content source fails
    /// with. Some of it may have been added then.
    pub fn add_copies(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        content: &dyn ContentSource,
        nar_hash: &dyn Fn(&StorePath) -> Option<NarHash>,
        copies: &Copies,
    ) -> Result<()> {
        let metadata = |node: &RootNode| copies.metadata(node);
        let source = Source {
            cx,
            store_dir,
            content,
            nar_hash,
            metadata: &metadata,
        };
        let mut behind = DirectoryLinks::new(cx, store_dir, content);
        self.add_all(&source, copies, &mut behind)
    }

    /// Adds the copy of one file, with metadata of its own.
    pub(in crate::plan) fn add_copied_file(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        content: &dyn ContentSource,
        nar_hash: &dyn Fn(&StorePath) -> Option<NarHash>,
        copies: &Copies,
        metadata: Metadata,
    ) -> Result<()> {
        let mut file = Self::default();
        let own = |_: &RootNode| metadata.clone();
        let source = Source {
            cx,
            store_dir,
            content,
            nar_hash,
            metadata: &own,
        };
        let mut behind = DirectoryLinks::new(cx, store_dir, content);
        file.add_all(&source, copies, &mut behind)?;
        let Some(added) = file.nodes.remove(&copies.target) else {
            return Ok(());
        };
        if !matches!(added.node, RootNode::File(_)) {
            let problem = "it is a directory, expected a file: copies take directories";
            return Err(Error::invalid(added.origin, problem));
        }
        self.add_compared(cx, content, &copies.target, added)
    }

    /// Adds a node, and reads files to compare them.
    pub(in crate::plan) fn add_compared(
        &mut self,
        cx: &Context,
        content: &dyn ContentSource,
        path: &[u8],
        added: Added,
    ) -> Result<()> {
        self.add(path, added, &mut |a, b| has_same_bytes(cx, content, a, b))
    }

    fn add_all(
        &mut self,
        source: &Source<'_>,
        copies: &Copies,
        behind: &mut DirectoryLinks<'_>,
    ) -> Result<()> {
        let &Source {
            cx,
            store_dir,
            content,
            nar_hash,
            metadata,
        } = source;
        let mut links = Vec::new();
        let start = Place {
            path: copies.path.clone(),
            inside: copies.inside.clone(),
        };
        let origin = shown(store_dir, &start);
        let what = format!("the copy of {origin}");
        let (place, found) = follow(&what, "a file or a directory", store_dir, start, |place| {
            place::visit(cx, content, place, &mut |name, entry| {
                let inside = join(&place.inside, name);
                let full = full_path(store_dir, &place.path, &inside);
                let target = copies.target_of(&full, name);
                if target.is_empty() {
                    return match entry {
                        Entry::Directory { .. } => Ok(()),
                        Entry::File { .. } | Entry::Symlink { .. } => {
                            let problem = format!(
                                "{} would be the root itself: say where it goes",
                                String::from_utf8_lossy(&full)
                            );
                            Err(Error::invalid(&*what, problem))
                        }
                    };
                }
                if is_bookkeeping(&target) && self.contains(&target) {
                    return Ok(());
                }
                let path = &place.path;
                if copies.follow_directory_links && matches!(entry, Entry::Symlink { .. }) {
                    let path = path.clone();
                    let node = copy(&path, inside.clone(), None, &entry);
                    links.push((Place { path, inside }, target, node));
                    return Ok(());
                }
                let sources = BTreeSet::from([(path.clone(), inside.clone())]);
                let node = copy(path, inside, nar_hash(path), &entry);
                let added = Added {
                    metadata: metadata(&node),
                    node,
                    origin: origin.clone(),
                    sources,
                };
                self.add(&target, added, &mut |a, b| {
                    has_same_bytes(cx, content, a, b)
                })
            })
        })?;
        // A directory that is empty is there as well.
        if matches!(found, Found::Directory) {
            let full = full_path(store_dir, &place.path, &place.inside);
            let target = copies.target_of(&full, b"");
            if !target.is_empty() {
                let added = Added {
                    metadata: metadata(&RootNode::Directory),
                    node: RootNode::Directory,
                    origin: origin.clone(),
                    sources: BTreeSet::from([(place.path.clone(), place.inside.clone())]),
                };
                self.add(&target, added, &mut |_, _| Ok(false))?;
            }
        }
        behind.enter(place);
        for (link, target, node) in links {
            cx.cancel.check()?;
            if let Some(directory) = behind.of(&link)? {
                let copies = Copies {
                    path: directory.path,
                    inside: directory.inside,
                    target,
                    rewrites: Vec::new(),
                    ..copies.clone()
                };
                self.add_all(source, &copies, behind)?;
                continue;
            }
            let added = Added {
                metadata: metadata(&node),
                node,
                origin: origin.clone(),
                sources: BTreeSet::from([(link.path, link.inside)]),
            };
            self.add(&target, added, &mut |_, _| Ok(false))?;
        }
        behind.leave();
        Ok(())
    }
}

/// Where copies come from, and what they get.
struct Source<'a> {
    cx: &'a Context,
    store_dir: &'a StoreDir,
    content: &'a dyn ContentSource,
    nar_hash: &'a dyn Fn(&StorePath) -> Option<NarHash>,
    metadata: &'a dyn Fn(&RootNode) -> Metadata,
}

/// Returns the copy of something in a store path.
fn copy(
    path: &StorePath,
    inside: Vec<u8>,
    nar_hash: Option<NarHash>,
    entry: &Entry<'_>,
) -> RootNode {
    match entry {
        Entry::Directory { .. } => RootNode::Directory,
        Entry::Symlink { target, .. } => RootNode::Symlink {
            target: target.to_vec(),
        },
        Entry::File {
            executable, size, ..
        } => RootNode::File(RootFile::Stored {
            path: path.clone(),
            inside,
            nar_hash,
            executable: *executable,
            size: *size,
        }),
    }
}

/// Reads two files to compare them.
fn has_same_bytes(
    cx: &Context,
    content: &dyn ContentSource,
    a: &RootFile,
    b: &RootFile,
) -> Result<bool> {
    let a = digest(cx, content, a)?;
    Ok(a.is_some() && a == digest(cx, content, b)?)
}

/// Reads a file, if it is there.
fn digest(cx: &Context, content: &dyn ContentSource, file: &RootFile) -> Result<Option<Digest>> {
    let (path, inside) = match file {
        RootFile::Inline { bytes, .. } => return Ok(Some(Digest::of(bytes))),
        RootFile::Stored { path, inside, .. } => (path, inside),
    };
    let mut found = None;
    content.visit(cx, path, &mut |entry| {
        if let Entry::File { path, contents, .. } = entry
            && path == inside
        {
            let mut hasher = Hasher::new();
            let mut buffer = vec![0; BUFFER];
            loop {
                cx.cancel.check()?;
                match contents.read(&mut buffer)? {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
            found = Some(hasher.finish());
        }
        Ok(())
    })?;
    Ok(found)
}
