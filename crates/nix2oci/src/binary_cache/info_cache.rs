//! Narinfos that were asked for before.
//!
//! What a cache said is kept as it said it: signatures are checked again each
//! time, so whoever can write to the directory cannot make anything believed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Result, without_temporary};
use crate::store::nix32;

use super::MAX_NARINFO_SIZE;

/// The version of an entry's file, and the name of the directory of all of
/// them.
const VERSION_DIR: &str = "v1";

/// What an entry begins with, before the bytes of the cache or the end.
const FOUND: &[u8] = b"nix2oci 1 found\n";
const MISSING: &[u8] = b"nix2oci 1 missing\n";

/// How long what a cache said counts. Store paths do not change, but their NARs
/// may be collected.
///
/// Source: `narinfo-cache-positive-ttl`, `narinfo-cache-negative-ttl` in the Nix
/// manual; `cacheInfoTtl` in NixOS/nix, `src/libstore/nar-info-disk-cache.cc`
/// (2.8).
const FOUND_LASTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MISSING_LASTS: Duration = Duration::from_secs(60 * 60);
const CACHE_INFO_LASTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far in the future the time of an entry may be, for clocks that are not
/// right.
const AHEAD: Duration = Duration::from_secs(60 * 60);

/// What [`super::NixCacheInfo`] is kept as.
const CACHE_INFO: &str = "nix-cache-info";

/// The digits of a store path's hash.
const HASH_LEN: usize = 32;

/// How temporary files are named, before six random letters and digits.
const TEMPORARY: &str = ".nix2oci-";
const RANDOM: usize = 6;

/// Keeps what binary caches said of store paths, in a directory: a small file
/// for each path, below `v1/`, by cache and by path.
///
/// As long as Nix keeps them: what is there for 30 days, what is not there for
/// an hour. There is no lock: an entry is written whole under another name and
/// then renamed. What is there and is no entry is as good as nothing.
///
/// It tells whoever reads it which store paths were asked for, so it is made
/// for its user alone; a directory that is there keeps its mode.
#[derive(Debug, Clone)]
pub struct NarInfoCache {
    dir: PathBuf,
    now: SystemTime,
}

/// What is in a [`NarInfoCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NarInfoCacheInfo {
    /// Entries: store paths that are known of a cache, or known to be missing
    /// there, and what caches say of themselves.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// When the oldest was asked for.
    pub oldest: Option<SystemTime>,
    /// When the newest was asked for.
    pub newest: Option<SystemTime>,
}

/// What was removed from a [`NarInfoCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NarInfoCacheRemoval {
    /// Entries.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// What is kept of a file of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// The cache had it, with these bytes.
    Found(Vec<u8>),
    /// The cache did not have it.
    Missing,
}

impl NarInfoCache {
    /// Makes the cache in a directory, which is created when the first entry
    /// is put in.
    ///
    /// Ages are counted to `now`; the library reads no clock.
    pub fn new(dir: impl Into<PathBuf>, now: SystemTime) -> Self {
        Self {
            dir: dir.into(),
            now,
        }
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns what is in the cache. Looks at every entry's file and opens
    /// none.
    pub fn info(&self) -> Result<NarInfoCacheInfo> {
        let mut info = NarInfoCacheInfo::default();
        for file in self.files()?.iter().filter(|file| file.is_entry) {
            info.entries += 1;
            info.bytes += file.bytes;
            let put = Some(file.put);
            info.oldest = info.oldest.map_or(put, |oldest| put.min(Some(oldest)));
            info.newest = info.newest.max(put);
        }
        Ok(info)
    }

    /// Removes entries that do not count any more, and with `since` those that
    /// were asked for before.
    pub fn prune(&self, since: Option<SystemTime>) -> Result<NarInfoCacheRemoval> {
        let is_old = |file: &CacheFile| {
            // No narinfo is so short that an entry of one has this size.
            let is_missing = file.bytes == MISSING.len() as u64;
            let lasts = if is_missing {
                MISSING_LASTS
            } else {
                FOUND_LASTS
            };
            !self.counts(file.put, lasts) || since.is_some_and(|since| file.put < since)
        };
        let files = self.files()?.into_iter();
        self.remove(files.filter(|file| !file.is_entry || is_old(file)))
    }

    /// Removes all entries. Only files that this cache made are removed.
    pub fn clear(&self) -> Result<NarInfoCacheRemoval> {
        self.remove(self.files()?)
    }

    /// Returns what a cache said of the path with this hash, if it still
    /// counts.
    pub(super) fn narinfo(&self, cache: &str, hash_part: &str) -> Option<Kept> {
        let kept = self.read(&self.narinfo_path(cache, hash_part))?;
        let lasts = match kept.0 {
            Kept::Found(_) => FOUND_LASTS,
            Kept::Missing => MISSING_LASTS,
        };
        self.counts(kept.1, lasts).then_some(kept.0)
    }

    /// Keeps what a cache said of a path.
    pub(super) fn keep_narinfo(&self, cache: &str, hash_part: &str, kept: &Kept) -> Result<()> {
        self.write(&self.narinfo_path(cache, hash_part), kept)
    }

    /// Forgets what a cache said of a path. What cannot be removed is written
    /// again soon.
    pub(super) fn forget_narinfo(&self, cache: &str, hash_part: &str) {
        let _ = fs::remove_file(self.narinfo_path(cache, hash_part));
    }

    /// Returns what a cache said of itself, if it still counts.
    pub(super) fn cache_info(&self, cache: &str) -> Option<Vec<u8>> {
        match self.read(&self.cache_dir(cache).join(CACHE_INFO))? {
            (Kept::Found(bytes), put) if self.counts(put, CACHE_INFO_LASTS) => Some(bytes),
            _ => None,
        }
    }

    /// Keeps what a cache said of itself.
    pub(super) fn keep_cache_info(&self, cache: &str, bytes: &[u8]) -> Result<()> {
        let path = self.cache_dir(cache).join(CACHE_INFO);
        self.write(&path, &Kept::Found(bytes.to_vec()))
    }

    fn counts(&self, put: SystemTime, lasts: Duration) -> bool {
        match self.now.duration_since(put) {
            Ok(age) => age < lasts,
            Err(error) => error.duration() < AHEAD,
        }
    }

    /// Returns the directory of a cache: a digest, since an address has
    /// characters that names have not.
    fn cache_dir(&self, cache: &str) -> PathBuf {
        let name = Digest::of(cache.as_bytes()).hex();
        self.dir.join(VERSION_DIR).join(&name[..HASH_LEN])
    }

    fn narinfo_path(&self, cache: &str, hash_part: &str) -> PathBuf {
        self.cache_dir(cache).join(&hash_part[..2]).join(hash_part)
    }

    /// Returns an entry and when it was put in; None for what is no entry, and
    /// for what cannot be read: the cache is asked then.
    fn read(&self, path: &Path) -> Option<(Kept, SystemTime)> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let limit = MAX_NARINFO_SIZE + FOUND.len() as u64;
        if metadata.len() > limit {
            return None;
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.take(limit).read_to_end(&mut bytes).ok()?;
        let kept = if bytes == MISSING {
            Kept::Missing
        } else if bytes.starts_with(FOUND) {
            Kept::Found(bytes.split_off(FOUND.len()))
        } else {
            return None;
        };
        Some((kept, metadata.modified().ok()?))
    }

    fn write(&self, path: &Path, kept: &Kept) -> Result<()> {
        let folder = path.parent().expect("an entry is in a directory");
        let failed = |error| Error::writing("write", path)(error);
        let temporary = || {
            tempfile::Builder::new()
                .prefix(TEMPORARY)
                .rand_bytes(RANDOM)
                .tempfile_in(folder)
        };
        let mut file = match temporary() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut private = DirBuilder::new();
                private.recursive(true).mode(0o700);
                private
                    .create(folder)
                    .map_err(Error::writing("create", folder))?;
                temporary()
            }
            other => other,
        }
        .map_err(|error| failed(without_temporary(error)))?;
        let parts = match kept {
            Kept::Found(bytes) => [FOUND, bytes],
            Kept::Missing => [MISSING, &[]],
        };
        file.write_all(&parts.concat()).map_err(failed)?;
        file.as_file().set_modified(self.now).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn remove(&self, files: impl IntoIterator<Item = CacheFile>) -> Result<NarInfoCacheRemoval> {
        let mut removal = NarInfoCacheRemoval::default();
        for file in files {
            // What was being written a moment ago may get its name yet.
            if !file.is_entry && self.counts(file.put, MISSING_LASTS) {
                continue;
            }
            match fs::remove_file(&file.path) {
                Ok(()) if file.is_entry => {
                    removal.entries += 1;
                    removal.bytes += file.bytes;
                }
                Ok(()) => {}
                // Somebody else removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::writing("remove", &file.path)(error)),
            }
        }
        Ok(removal)
    }

    /// Returns all files that are ours: entries and what writers that were
    /// killed left. Follows no symbolic link below the cache's directory.
    fn files(&self) -> Result<Vec<CacheFile>> {
        let root = self.dir.join(VERSION_DIR);
        match fs::symlink_metadata(&root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error::reading(&root)(Errno::NOTDIR.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::reading(&root)(error)),
        }
        let is_hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_nix32 =
            |text: &str, digits| text.len() == digits && text.bytes().all(nix32::is_digit);
        let mut files = Vec::new();
        for cache in list(&root)?
            .iter()
            .filter(|listed| is_hex(&listed.name, HASH_LEN))
        {
            if !cache.is_dir() {
                continue;
            }
            for listed in list(&cache.entry.path())? {
                if is_nix32(&listed.name, 2) && listed.is_dir() {
                    let found = list(&listed.entry.path())?;
                    files.extend(found.iter().filter_map(|file| {
                        let is_ours = file.name.starts_with(&listed.name);
                        file.file(is_ours && is_nix32(&file.name, HASH_LEN))
                    }));
                } else {
                    files.extend(listed.file(listed.name == CACHE_INFO));
                }
            }
        }
        Ok(files)
    }
}

/// A file of the cache.
struct CacheFile {
    path: PathBuf,
    /// Or a temporary file.
    is_entry: bool,
    /// When it was written.
    put: SystemTime,
    bytes: u64,
}

/// A name in a directory that is text, as all of ours are.
struct Listed {
    name: String,
    entry: fs::DirEntry,
}

impl Listed {
    fn is_dir(&self) -> bool {
        self.entry.file_type().is_ok_and(|kind| kind.is_dir())
    }

    /// Returns the file if it is an entry, or a temporary file.
    fn file(&self, is_entry: bool) -> Option<CacheFile> {
        let is_temporary = self.name.strip_prefix(TEMPORARY).is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        if !is_entry && !is_temporary {
            return None;
        }
        // It may be gone by now.
        let metadata = self.entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(CacheFile {
            path: self.entry.path(),
            is_entry,
            put: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            bytes: metadata.len(),
        })
    }
}

fn list(dir: &Path) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::reading(dir))? {
        let entry = entry.map_err(Error::reading(dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            listed.push(Listed { name, entry });
        }
    }
    Ok(listed)
}

#[cfg(test)]
#[path = "info_cache_tests.rs"]
mod tests;
