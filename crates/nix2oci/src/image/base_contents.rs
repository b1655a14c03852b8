//! What the layers of a base have that an image on it must know of: store paths
//! that need not be added again, symlinks and directories that its own files
//! must not replace, and the files that tell of its users.
//!
//! Layers are read bottom first, one after the other, since each can take away
//! what those below it have: a whiteout deletes one path, an opaque directory
//! all that is in it below, and whatever has a path replaces what had it.
//! Source: OCI image specification 1.1, "Representing Changes".

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, read_entries};
use crate::plan::{AccountFiles, Ground};
use crate::store::{StoreDir, StorePath, StorePathPrefix};

use super::base_blobs::BaseBlobs;
use super::base_files::{AccountCandidates, BaseFiles, Keeping, SpooledFiles, metadata};
use super::listing::{StorePrefix, TarPaths};
use super::{StoredLayer, TablePath};

/// How the name of an entry begins that deletes the rest of the name.
const WHITEOUT: &[u8] = b".wh.";

/// Bytes of the names of symlinks and directories that are kept: a large
/// distribution has one hundredth of them.
const MAX_BYTES: usize = 256 << 20;

/// The name of an entry that hides what lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the layers of a base have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BaseContents {
    /// For each layer, bottom first, the store paths in it that are still there
    /// with all layers on it.
    pub(crate) paths: Vec<Vec<TablePath>>,
    /// The symlinks and directories that are there.
    pub(crate) ground: Ground,
    /// The files that may tell of users.
    accounts: AccountCandidates,
}

impl BaseContents {
    /// Returns what a plan needs that knows of store paths only.
    pub(super) fn of_paths(paths: Vec<Vec<TablePath>>) -> Self {
        Self {
            paths,
            ..Self::default()
        }
    }

    /// Returns the files that tell of the users, of a base of this name. Links to
    /// them are followed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) for one that is too large.
    pub(super) fn account_files(&self, name: &str) -> Result<AccountFiles> {
        let follow = |path: &str| self.ground.follow(path);
        self.accounts.files(name, follow)
    }
}

/// Reads the layers, and keeps the files of the paths `keep` in `cx.spool_dir`.
///
/// Memory grows with store paths, symlinks and directories, of which the names
/// may have 256 MiB.
///
/// # Errors
///
/// A layer that is not what its descriptor says, or no tar; more names; a full
/// disk.
pub(super) fn base_contents(
    cx: &Context,
    blobs: &BaseBlobs,
    layers: &[StoredLayer],
    store_dir: &StoreDir,
    keep: &[&'static str],
) -> Result<(BaseContents, SpooledFiles)> {
    let mut below = Below {
        store_dir: store_dir.as_str().as_bytes()[1..].to_vec(),
        paths: BTreeMap::new(),
        ground: Ground::default(),
        files: BaseFiles::default(),
        room: MAX_BYTES,
    };
    let descriptors: Vec<_> = layers.iter().map(|l| l.descriptor.clone()).collect();
    blobs.look_at(cx, &descriptors, |number, blob| {
        let (image, digest) = (blobs.reader().name(), descriptors[number].digest());
        let place = format!("{image}: layer {digest}");
        let mut visit = Visit {
            prefix: StorePrefix::new(store_dir),
            below: &mut below,
            paths: TarPaths::new(store_dir),
            ground: Ground::default(),
            keeping: Keeping::new(keep, &cx.spool_dir, &place),
        };
        read_entries(cx, &place, blob, &mut visit)?;
        let Visit {
            paths,
            ground,
            keeping,
            ..
        } = visit;
        let files = keeping.finish()?;
        below.files.put_on(files);
        if below.room == 0 {
            let problem = format!(
                "has symlinks and directories with names of more than {MAX_BYTES} bytes, so \
                 nothing can be built on it"
            );
            return Err(Error::image(place, problem));
        }
        for (path, nar_size) in paths.whole() {
            below.paths.insert(path, (number, nar_size));
        }
        below.ground.links.extend(ground.links);
        below.ground.directories.extend(ground.directories);
        Ok(())
    })?;
    let mut paths = vec![Vec::new(); layers.len()];
    for (path, (layer, nar_size)) in below.paths {
        paths[layer].push(TablePath {
            path: StorePathPrefix::from(&path),
            nar_size,
        });
    }
    let contents = BaseContents {
        paths,
        ground: below.ground,
        accounts: below.files.accounts,
    };
    Ok((contents, below.files.spooled))
}

/// What the layers that were read have, without what was deleted.
struct Below {
    /// Without `/` at the beginning.
    store_dir: Vec<u8>,
    /// The layer of each store path and its NAR size, if it is known.
    paths: BTreeMap<StorePath, (usize, Option<u64>)>,
    ground: Ground,
    files: BaseFiles,
    /// Bytes of names that may still come; 0 if more came.
    room: usize,
}

impl Below {
    /// Takes away all that is in a directory.
    fn empty(&mut self, directory: &[u8]) {
        if directory.is_empty() {
            self.paths.clear();
            self.ground = Ground::default();
            self.files = BaseFiles::default();
            return;
        }
        if is_in(&self.store_dir, directory) || self.store_dir == directory {
            self.paths.clear();
        }
        let mut inside = directory.to_vec();
        inside.push(b'/');
        remove_all(&mut self.ground.links, &inside);
        remove_all(&mut self.ground.directories, &inside);
        self.files.delete(|path| path.starts_with(&inside));
    }

    /// Takes away a path and what is in it.
    fn delete(&mut self, path: &[u8]) {
        self.ground.links.remove(path);
        self.ground.directories.remove(path);
        self.files.delete(|kept| kept == path);
        self.empty(path);
    }
}

/// Removes what begins so.
fn remove_all<T>(map: &mut BTreeMap<Vec<u8>, T>, prefix: &[u8]) {
    let range = (Bound::Included(prefix), Bound::Unbounded);
    let paths = map.range::<[u8], _>(range).map(|(path, _)| path);
    let paths = paths.take_while(|path| path.starts_with(prefix));
    for path in paths.cloned().collect::<Vec<_>>() {
        map.remove(&path);
    }
}

/// Returns whether a path is somewhere in a directory.
fn is_in(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with(b"/"))
}

/// Looks at the entries of one layer.
struct Visit<'a> {
    prefix: StorePrefix,
    below: &'a mut Below,
    /// What this layer has.
    paths: TarPaths,
    ground: Ground,
    keeping: Keeping<'a>,
}

impl Visit<'_> {
    /// Deletes from the layers below. A store path of which something is
    /// deleted is none any more.
    fn delete(&mut self, path: &[u8]) {
        if let Some((store_path, _)) = self.prefix.split(path) {
            self.below.paths.remove(&store_path);
        }
        self.below.delete(path);
    }
}

impl EntryVisitor for Visit<'_> {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        let at = path.iter().rposition(|&b| b == b'/');
        let (directory, name) = match at {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if name == OPAQUE {
            if let Some((store_path, _)) = self.prefix.split(directory) {
                self.below.paths.remove(&store_path);
            }
            self.below.empty(directory);
            return false;
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT) {
            let mut path = directory.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(deleted);
            self.delete(&path);
            return false;
        }
        self.ground.links.remove(path);
        self.ground.directories.remove(path);
        if matches!(member.kind, MemberKind::Directory | MemberKind::Symlink) {
            let bytes = path.len() + member.link.len();
            self.below.room = self.below.room.saturating_sub(bytes);
            if self.below.room == 0 {
                return false;
            }
        }
        match member.kind {
            MemberKind::Directory => {
                // It replaces a link or a file, and leaves what is in another
                // directory.
                self.below.ground.links.remove(path);
                self.below.files.delete(|kept| kept == path);
                let metadata = metadata(member);
                self.ground.directories.insert(path.to_vec(), metadata);
            }
            MemberKind::Symlink => {
                self.below.delete(path);
                let target = member.link.clone();
                self.ground.links.insert(path.to_vec(), target);
            }
            _ => self.below.delete(path),
        }
        self.paths.entry(member, path);
        self.keeping.entry(member, path, &self.below.files)
    }

    fn contents(&mut self, bytes: &[u8]) {
        self.keeping.contents(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_kept_only_while_there_is_room() {
        let store_dir = StoreDir::default();
        let mut below = Below {
            store_dir: b"nix/store".to_vec(),
            paths: BTreeMap::new(),
            ground: Ground::default(),
            files: BaseFiles::default(),
            room: 10,
        };
        let mut visit = Visit {
            prefix: StorePrefix::new(&store_dir),
            below: &mut below,
            paths: TarPaths::new(&store_dir),
            ground: Ground::default(),
            keeping: Keeping::new(&[], Path::new(""), ""),
        };
        let mut entry = |path: &str, link: &str, kind| {
            let member = Member {
                path: path.into(),
                link: link.into(),
                kind,
                size: 0,
                mode: 0o755,
                is_executable: false,
                owner: (0, 0),
                offset: 0,
            };
            visit.entry(&member, path.as_bytes());
        };
        entry("a", "bcd", MemberKind::Symlink);
        entry("a/file/of/any/length", "", MemberKind::File);
        entry("e", "", MemberKind::Directory);
        entry("f", "of more", MemberKind::Symlink);
        entry("g", "", MemberKind::Directory);
        assert_eq!(visit.ground.links.len(), 1);
        assert_eq!(visit.ground.directories.len(), 1);
        assert_eq!(below.room, 0);
    }
}
