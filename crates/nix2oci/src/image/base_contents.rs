//! What the layers of a base have that an image on it must know of: store paths
//! that need not be added again, symlinks and directories that its own files
//! must not replace, and the files that tell of its users.
//!
//! Layers are read bottom first, one after the other, since each can take away
//! what those below it have: a whiteout deletes one path, an opaque directory
//! all that is in it below, and whatever has a path replaces what had it.
//! Source: OCI image specification 1.1, "Representing Changes".

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Bound;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, read_entries};
use crate::oci::Owner;
use crate::plan::{AccountFiles, Ground, Metadata};
use crate::store::{StoreDir, StorePath, StorePathPrefix};

use super::base_blobs::BaseBlobs;
use super::listing::{StorePrefix, TarPaths};
use super::{StoredLayer, TablePath};

/// How the name of an entry begins that deletes the rest of the name.
const WHITEOUT: &[u8] = b".wh.";

/// Bytes of the names of symlinks and directories that are kept: a large
/// distribution has one hundredth of them.
const MAX_BYTES: usize = 256 << 20;

/// Bytes of one file that tells of users, and of all of them. Only large ones are
/// left out: one of 1 MiB tells of some 20,000 users.
const MAX_ACCOUNT_FILE: u64 = 1 << 20;
const MAX_ACCOUNT_FILES: u64 = 16 << 20;

/// Bytes of a file that is kept: of a Nix database of a million paths.
const MAX_FILE: u64 = 512 << 20;

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
    /// The files that are called as those are that tell of users, wherever they
    /// are: a link may lead there.
    account_files: Files,
}

/// Files and what is in them; none for one that was too large to be kept.
type Files = BTreeMap<Vec<u8>, (Option<Vec<u8>>, Metadata)>;

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
        let mut found = AccountFiles::new(format!("the base image {name}"));
        for path in AccountFiles::PATHS {
            let Some((bytes, metadata)) = self.account_files.get(&self.ground.follow(path)) else {
                continue;
            };
            let bytes = bytes.clone().ok_or_else(|| {
                let problem = format!(
                    "is larger than {MAX_ACCOUNT_FILE} bytes, so no users can be added to it"
                );
                Error::image(format!("the base image {name}: /{path}"), problem)
            })?;
            found.insert(path, bytes, metadata.clone());
        }
        Ok(found)
    }
}

/// Files of a base by their paths, without `/` at the beginning, as they are with
/// all layers on each other. They go when they are dropped.
pub(super) type KeptFiles = BTreeMap<&'static str, NamedTempFile>;

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
) -> Result<(BaseContents, KeptFiles)> {
    let mut below = Below {
        store_dir: store_dir.as_str().as_bytes()[1..].to_vec(),
        paths: BTreeMap::new(),
        ground: Ground::default(),
        files: KeptFiles::new(),
        room: MAX_BYTES,
        account_files: Files::new(),
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
            account_files: Files::new(),
            reading: None,
            keeping: Keeping::new(keep, &cx.spool_dir, &place),
        };
        read_entries(cx, &place, blob, &mut visit)?;
        let Visit {
            paths,
            ground,
            account_files,
            keeping,
            ..
        } = visit;
        let files = keeping.finish()?;
        below.files.extend(files);
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
        below.account_files.extend(account_files);
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
        account_files: below.account_files,
    };
    Ok((contents, below.files))
}

/// What the layers that were read have, without what was deleted.
struct Below {
    /// Without `/` at the beginning.
    store_dir: Vec<u8>,
    /// The layer of each store path and its NAR size, if it is known.
    paths: BTreeMap<StorePath, (usize, Option<u64>)>,
    ground: Ground,
    files: KeptFiles,
    /// Bytes of names that may still come; 0 if more came.
    room: usize,
    account_files: Files,
}

impl Below {
    /// Takes away all that is in a directory.
    fn empty(&mut self, directory: &[u8]) {
        if directory.is_empty() {
            self.paths.clear();
            self.ground = Ground::default();
            self.account_files.clear();
            self.files.clear();
            return;
        }
        if is_in(&self.store_dir, directory) || self.store_dir == directory {
            self.paths.clear();
        }
        let mut inside = directory.to_vec();
        inside.push(b'/');
        remove_all(&mut self.ground.links, &inside);
        remove_all(&mut self.ground.directories, &inside);
        remove_all(&mut self.account_files, &inside);
        self.files
            .retain(|path, _| !path.as_bytes().starts_with(&inside));
    }

    /// Takes away a path and what is in it.
    fn delete(&mut self, path: &[u8]) {
        self.ground.links.remove(path);
        self.ground.directories.remove(path);
        self.account_files.remove(path);
        self.files.retain(|kept, _| kept.as_bytes() != path);
        self.empty(path);
    }

    /// Returns whether one more file is kept with what is in it.
    fn has_room_for(&self, more: &Files, size: u64) -> bool {
        let files = self.account_files.values().chain(more.values());
        let sizes = files.map(|(bytes, _)| bytes.as_ref().map_or(0, Vec::len) as u64);
        size <= MAX_ACCOUNT_FILE && sizes.sum::<u64>() + size <= MAX_ACCOUNT_FILES
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
    account_files: Files,
    /// The file whose contents come now.
    reading: Option<Vec<u8>>,
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
        self.account_files.remove(path);
        self.reading = None;
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
                self.below.account_files.remove(path);
                self.below.files.retain(|kept, _| kept.as_bytes() != path);
                let metadata = metadata(member);
                self.ground.directories.insert(path.to_vec(), metadata);
            }
            MemberKind::Symlink => {
                self.below.delete(path);
                let target = member.link.clone();
                self.ground.links.insert(path.to_vec(), target);
            }
            MemberKind::File if tells_of_accounts(path) => {
                self.below.delete(path);
                let is_kept = self.below.has_room_for(&self.account_files, member.size);
                let file = (is_kept.then(Vec::new), metadata(member));
                self.account_files.insert(path.to_vec(), file);
                self.reading = is_kept.then(|| path.to_vec());
            }
            _ => self.below.delete(path),
        }
        self.paths.entry(member, path);
        self.keeping.entry(member, path) || self.reading.is_some()
    }

    fn contents(&mut self, bytes: &[u8]) {
        let reading = self.reading.as_ref();
        let file = reading.and_then(|path| self.account_files.get_mut(path));
        if let Some((Some(kept), _)) = file {
            kept.extend_from_slice(bytes);
        }
        self.keeping.contents(bytes);
    }
}

fn metadata(member: &Member) -> Metadata {
    let (uid, gid) = member.owner;
    Metadata {
        owner: Some(Owner { uid, gid }),
        ..Metadata::mode(member.mode)
    }
}

/// Returns whether a file is called as one is that tells of users.
fn tells_of_accounts(path: &[u8]) -> bool {
    AccountFiles::PATHS.iter().any(|known| {
        path.strip_suffix(known.as_bytes())
            .is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
    })
}

/// Keeps some files of one layer.
struct Keeping<'a> {
    wanted: &'a [&'static str],
    dir: &'a Path,
    /// What errors call the layer.
    place: &'a str,
    kept: KeptFiles,
    /// The path of the last entry, if it is kept.
    current: Option<&'static str>,
    /// Why a file could not be kept.
    failure: Option<Error>,
}

impl<'a> Keeping<'a> {
    fn new(wanted: &'a [&'static str], dir: &'a Path, place: &'a str) -> Self {
        Self {
            wanted,
            dir,
            place,
            kept: KeptFiles::new(),
            current: None,
            failure: None,
        }
    }

    /// Returns whether the contents are wanted.
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        let mut wanted = self.wanted.iter();
        self.current = wanted.find(|at| at.as_bytes() == path).copied();
        let Some(path) = self.current else {
            return false;
        };
        self.kept.remove(path);
        if member.kind != MemberKind::File || self.failure.is_some() {
            self.current = None;
            return false;
        }
        if member.size > MAX_FILE {
            let problem = format!("has {} bytes, and at most {MAX_FILE} are read", member.size);
            self.failure = Some(Error::image(format!("{}: /{path}", self.place), problem));
            self.current = None;
            return false;
        }
        match NamedTempFile::new_in(self.dir) {
            Ok(file) => {
                self.kept.insert(path, file);
            }
            Err(error) => {
                self.failure = Some(Error::writing("create a file in", self.dir)(error));
                self.current = None;
            }
        }
        self.current.is_some()
    }

    fn contents(&mut self, bytes: &[u8]) {
        let Some(file) = self.current.and_then(|path| self.kept.get_mut(path)) else {
            return;
        };
        if let Err(error) = file.write_all(bytes) {
            self.failure = Some(Error::writing("write a file in", self.dir)(error));
            self.current = None;
        }
    }

    fn finish(self) -> Result<KeptFiles> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_only_while_there_is_room() {
        let store_dir = StoreDir::default();
        let mut below = Below {
            store_dir: b"nix/store".to_vec(),
            paths: BTreeMap::new(),
            ground: Ground::default(),
            files: KeptFiles::new(),
            room: 10,
            account_files: Files::new(),
        };
        let mut visit = Visit {
            prefix: StorePrefix::new(&store_dir),
            below: &mut below,
            paths: TarPaths::new(&store_dir),
            ground: Ground::default(),
            account_files: Files::new(),
            reading: None,
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
