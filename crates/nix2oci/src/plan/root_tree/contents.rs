//! What store paths give to the image's root: dockerTools' `contents`.
//!
//! As nixpkgs' `symlinkJoin`, which calls X.Org's `lndir` for each path: the
//! path's directories are made anew, its files become links into the store,
//! and its symbolic links are copied with the target they have.
//!
//! Where the two leave the outcome to chance or to a message nobody reads, this
//! is stricter:
//!
//! - A symbolic link to a directory is copied like any other. `lndir` takes it
//!   for a directory, or a directory for a file, depending on the order and the
//!   link count in the file system.
//! - Two files at one path are an error, but for those that every package
//!   brings (`nix-support/*`, `info/dir`, `perllocal.pod`). `lndir` keeps the
//!   first.
//! - Every name is taken. `lndir` leaves out names that end in `~` or begin
//!   with `.#`, `.gitignore`, `.cvsignore`, `.DS_Store`, and the folders of
//!   some version controls.
//!
//! Directories that are empty or mean nothing in an image, such as
//! `nix-support`, are kept, as there.
//!
//! Source: `symlinkJoin` in NixOS/nixpkgs, `pkgs/build-support/trivial-builders`;
//! `lndir.c` in <https://gitlab.freedesktop.org/xorg/util/lndir>.

use crate::content::{ContentSource, Entry};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::{StoreDir, StorePath};

use super::{Metadata, RootNode, RootTree};

/// How many links in a row are followed: Linux's own limit.
const MAX_LINKS: usize = 40;

impl RootTree {
    /// Adds links to all that is in a store path, as `contents` of nixpkgs'
    /// dockerTools does: directories are made (0755), a file becomes a link to
    /// `<store dir>/<path>/<file>`, a symbolic link is copied. Directories of
    /// several store paths become one.
    ///
    /// If `path` is a symbolic link into the store, what it leads to is added,
    /// through links that start at `path`.
    ///
    /// Costs one visit of the store path, whose files are not read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`](crate::ErrorKind::RootTreeConflict) if
    /// something else is at one of the places already;
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if `path` is
    /// a file, or a link that leads to none or out of the store; what the
    /// content source fails with. Some of it may have been added then.
    pub fn add_contents(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        content: &dyn ContentSource,
        path: &StorePath,
    ) -> Result<()> {
        let origin = store_dir.join(path);
        let refuse = |problem| Error::invalid(format!("contents {origin}"), problem);
        let mut place = Place {
            path: path.clone(),
            inside: Vec::new(),
        };
        for _ in 0..=MAX_LINKS {
            let expected = |what| {
                let place = shown(store_dir, &place);
                Err(refuse(format!("{place} {what}, expected a directory")))
            };
            match self.link(cx, content, &place, &origin)? {
                Found::Directory => return Ok(()),
                Found::File => return expected("is a file"),
                Found::Nothing => return expected("does not exist"),
                Found::Link { at, target } => {
                    place = resolve(store_dir, &place.path, &at, &target).ok_or_else(|| {
                        let target = String::from_utf8_lossy(&target);
                        refuse(format!(
                            "it leads to {target}, expected a directory in {store_dir}"
                        ))
                    })?;
                }
            }
        }
        Err(refuse(format!("it leads over more than {MAX_LINKS} links")))
    }

    /// Links what is in the directory at `place`, if it is one.
    fn link(
        &mut self,
        cx: &Context,
        content: &dyn ContentSource,
        place: &Place,
        origin: &str,
    ) -> Result<Found> {
        let mut found = Found::Nothing;
        content.visit(cx, &place.path, &mut |entry| {
            if let Some(rest) = below(&place.inside, entry.path()) {
                // The entry is the place itself or on the way to it.
                match entry {
                    Entry::Symlink { path, target } => {
                        let target = join(target, rest);
                        let at = path.to_owned();
                        found = Found::Link { at, target };
                    }
                    Entry::Directory { .. } if rest.is_empty() => found = Found::Directory,
                    Entry::File { .. } if rest.is_empty() => found = Found::File,
                    Entry::Directory { .. } | Entry::File { .. } => {}
                }
                return Ok(());
            }
            let Some(name) = below(entry.path(), &place.inside).map(<[u8]>::to_owned) else {
                return Ok(());
            };
            let node = match entry {
                Entry::Directory { .. } => RootNode::Directory,
                Entry::File { .. } => RootNode::Symlink {
                    target: join(origin.as_bytes(), &name),
                },
                Entry::Symlink { target, .. } => RootNode::Symlink {
                    target: target.to_owned(),
                },
            };
            if is_bookkeeping(&name) && self.contains(&name) {
                return Ok(());
            }
            self.insert(&name, node, Metadata::default(), origin)
        })?;
        Ok(found)
    }
}

/// Returns whether many packages have a file of this name, each its own, that
/// nobody looks for at the root: the first one stays, without a word.
///
/// Source: the files that nixpkgs' `buildEnv` passes over when they collide,
/// `pkgs/build-support/buildenv/builder.pl`.
fn is_bookkeeping(path: &[u8]) -> bool {
    path.starts_with(b"nix-support/")
        || path.ends_with(b"/info/dir")
        || path.ends_with(b"/perllocal.pod")
}

/// A place in a store path.
struct Place {
    path: StorePath,
    /// Relative to the store path, empty for itself.
    inside: Vec<u8>,
}

/// What is at a [`Place`].
enum Found {
    Directory,
    File,
    Nothing,
    /// A symbolic link, or the place lies behind one.
    Link {
        /// Where the link is, relative to the store path.
        at: Vec<u8>,
        /// What it holds, with what is left of the place behind it.
        target: Vec<u8>,
    },
}

/// Returns where in the store a link leads to that is in a store path. Takes
/// `..` for the directory above by name.
fn resolve(store_dir: &StoreDir, path: &StorePath, at: &[u8], target: &[u8]) -> Option<Place> {
    let mut names: Vec<&[u8]> = Vec::new();
    let full = join(store_dir.join(path).as_bytes(), at);
    if !target.starts_with(b"/") {
        names.extend(full.split(|b| *b == b'/').filter(|name| !name.is_empty()));
        names.pop();
    }
    for name in target.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    let mut names = names.into_iter();
    let in_store = store_dir
        .components()
        .all(|expected| names.next() == Some(expected.as_bytes()));
    let path = names.next().filter(|_| in_store)?;
    Some(Place {
        path: std::str::from_utf8(path).ok()?.parse().ok()?,
        inside: names.collect::<Vec<_>>().join(&b'/'),
    })
}

fn shown(store_dir: &StoreDir, place: &Place) -> String {
    let full = join(store_dir.join(&place.path).as_bytes(), &place.inside);
    String::from_utf8_lossy(&full).into_owned()
}

/// Returns `path` seen from `dir` if it is the same or below.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    if dir.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(dir)? {
        b"" => Some(b""),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn join(dir: &[u8], rest: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if rest.is_empty() { b"" } else { b"/" };
    [dir, slash, rest].concat()
}
