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

use super::place::{self, Found, Place, follow, join, shown};
use super::{Metadata, RootNode, RootTree};

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
        let what = format!("contents {origin}");
        let start = Place {
            path: path.clone(),
            inside: Vec::new(),
        };
        let (place, found) = follow(&what, "a directory", store_dir, start, |place| {
            place::visit(cx, content, place, &mut |name, entry| match name {
                b"" => Ok(()),
                name => self.link(name, &entry, &origin),
            })
        })?;
        if matches!(found, Found::File) {
            let problem = format!(
                "{} is a file, expected a directory",
                shown(store_dir, &place)
            );
            return Err(Error::invalid(what, problem));
        }
        Ok(())
    }

    fn link(&mut self, name: &[u8], entry: &Entry<'_>, origin: &str) -> Result<()> {
        let node = match entry {
            Entry::Directory { .. } => RootNode::Directory,
            Entry::File { .. } => RootNode::Symlink {
                target: join(origin.as_bytes(), name),
            },
            Entry::Symlink { target, .. } => RootNode::Symlink {
                target: target.to_vec(),
            },
        };
        if is_bookkeeping(name) && self.contains(name) {
            return Ok(());
        }
        self.insert(name, node, Metadata::default(), origin)
    }
}

/// Returns whether many packages have a file of this name, each its own, that
/// nobody looks for at the root: the first one stays, without a word.
///
/// Source: the files that nixpkgs' `buildEnv` passes over when they collide,
/// `pkgs/build-support/buildenv/builder.pl`.
pub(super) fn is_bookkeeping(path: &[u8]) -> bool {
    path.starts_with(b"nix-support/")
        || path.ends_with(b"/info/dir")
        || path.ends_with(b"/perllocal.pod")
}
