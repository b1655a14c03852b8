//! Records of layers that were made before, by their keys.
//!
//! A cache has no layer's bytes. It says which blob a key stands for, and in which
//! repositories it was seen, so that a registry can be asked whether it has the
//! blob or can mount it, and nothing need be packed if so.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::content::ForeignPrograms;
use crate::error::{Error, Result, without_temporary};
use crate::oci::{MediaType, canonical_json};

use super::{LayerKey, LayerRecord};

/// The version of an entry's file, and the name of the directory of all of
/// them: programs of several versions can share one cache.
const VERSION: u64 = 1;
const VERSION_DIR: &str = "v1";

/// No entry is near this long.
const MAX_ENTRY_BYTES: u64 = 16 << 10;

/// How many repositories of a layer are remembered: those that were seen last.
const MAX_PLACES: usize = 4;

/// How exactly the last use of an entry is known. A cache that is used often
/// is not written to each time.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How temporary files are named, before six random letters and digits.
const TEMPORARY: &str = ".nix2oci-";
const RANDOM: usize = 6;

/// Remembers the records of layers.
///
/// Callers may rely on this: what comes out for a key was put in for it. They
/// must not rely on a blob being anywhere, and should go on without a cache
/// that fails.
///
/// Implementations are called from several threads at once, and what others
/// put in meanwhile, perhaps on other machines, must not hurt them. They forget
/// what they like.
pub trait LayerCache: Send + Sync {
    /// Returns the record of the layer with this key, or `None` if it is not
    /// known.
    fn get(&self, key: &LayerKey) -> Result<Option<LayerRecord>>;

    /// Keeps a layer's record, in place of one that may be there.
    fn put(&self, key: &LayerKey, record: &LayerRecord) -> Result<()>;

    /// Returns what was found in the layer's programs when `question` was asked
    /// of them, or `None` if that is not known. Nothing is known where this is
    /// not implemented.
    fn programs(&self, _key: &LayerKey, _question: &str) -> Result<Option<Vec<ForeignPrograms>>> {
        Ok(None)
    }

    /// Keeps what was found in the programs of a layer whose record is kept.
    fn put_programs(
        &self,
        _key: &LayerKey,
        _question: &str,
        _found: &[ForeignPrograms],
    ) -> Result<()> {
        Ok(())
    }

    /// Returns repositories, `registry/repository`, in which this layer was
    /// seen, the last one first. It may be gone from there.
    fn seen_in(&self, key: &LayerKey, record: &LayerRecord) -> Result<Vec<String>> {
        let _ = (key, record);
        Ok(Vec::new())
    }

    /// Keeps that a repository, `registry/repository`, has this layer, if it is
    /// one that was put in.
    fn see_in(&self, key: &LayerKey, record: &LayerRecord, repository: &str) -> Result<()> {
        let _ = (key, record, repository);
        Ok(())
    }
}

/// A [`LayerCache`] in a directory: a small JSON file for each key, below
/// `v1/`, in 256 directories.
///
/// There is no lock. An entry is written whole under a name of its own and then
/// renamed, so a reader finds the entry before, the new one or none; and
/// writers of one key write the same, since a key is a layer's name. After a
/// loss of power a file may be empty: like all that is no entry of ours, it is
/// a key that is not known.
///
/// Whoever can write to the directory decides what is taken for a layer. So it
/// is made for its user alone; one that is there keeps its mode.
#[derive(Debug, Clone)]
pub struct DirCache {
    dir: PathBuf,
    now: SystemTime,
}

/// What is in a [`DirCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheInfo {
    /// Entries: layers that are known.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// When the entry that was not used for the longest time was used, to a
    /// day.
    pub oldest_use: Option<SystemTime>,
    /// When the entry that was used last was used, to a day.
    pub newest_use: Option<SystemTime>,
}

/// Which entries [`DirCache::prune`] leaves. The default leaves all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheLimits {
    /// Those that were used at this time or later.
    pub used_since: Option<SystemTime>,
    /// As many of them, those that were used last.
    pub max_entries: Option<u64>,
}

/// What was removed from a [`DirCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheRemoval {
    /// Entries.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl DirCache {
    /// Makes the cache in a directory, which is created when the first entry
    /// is put in.
    ///
    /// Entries that are used get the time `now`; the library reads no clock.
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
    pub fn info(&self) -> Result<CacheInfo> {
        let mut info = CacheInfo::default();
        for file in self.files()?.iter().filter(|file| file.is_entry) {
            info.entries += 1;
            info.bytes += file.bytes;
            let used = Some(file.used);
            info.oldest_use = info
                .oldest_use
                .map_or(used, |oldest| used.min(Some(oldest)));
            info.newest_use = info.newest_use.max(used);
        }
        Ok(info)
    }

    /// Removes entries that were not used for long.
    ///
    /// The time of an entry's last use is known to a day: one that was used
    /// twice on a day has the time of the first.
    pub fn prune(&self, limits: &CacheLimits) -> Result<CacheRemoval> {
        let files = self.files()?;
        let (mut entries, leftovers): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.is_entry);
        entries.sort_unstable_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        let of_age = limits.used_since.map_or(entries.len(), |since| {
            entries.partition_point(|entry| entry.used >= since)
        });
        let left = limits.max_entries.map_or(of_age, |max| {
            of_age.min(usize::try_from(max).unwrap_or(usize::MAX))
        });
        self.remove(entries.drain(left..).chain(leftovers))
    }

    /// Removes all entries.
    ///
    /// Only files that this cache made are removed; symbolic links and other
    /// files stay, and so do the directories.
    pub fn clear(&self) -> Result<CacheRemoval> {
        self.remove(self.files()?)
    }

    fn remove(&self, files: impl IntoIterator<Item = CacheFile>) -> Result<CacheRemoval> {
        let mut removal = CacheRemoval::default();
        for file in files {
            // What was being written a moment ago may get its name yet.
            if !file.is_entry && self.is_recent(file.used) {
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
        let mut files = Vec::new();
        for shard in list(&root)? {
            let is_ours = is_hex(&shard.name, 2);
            if is_ours && shard.entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let found = list(&shard.entry.path())?;
                files.extend(found.into_iter().filter_map(|n| n.file_of(&shard.name)));
            }
        }
        Ok(files)
    }

    fn path(&self, key: &LayerKey) -> PathBuf {
        let name = key.to_string();
        let hex = name.strip_prefix("sha256:").unwrap_or(&name);
        self.dir
            .join(VERSION_DIR)
            .join(&hex[..2])
            .join(format!("{hex}.json"))
    }

    fn is_recent(&self, time: SystemTime) -> bool {
        // A time after now is an error that counts as recent.
        !self.now.duration_since(time).is_ok_and(|age| age >= DAY)
    }

    /// Marks an entry as used, if that is not known yet.
    fn touch(&self, file: &File) {
        let used = file.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| !self.is_recent(used)) {
            // A cache that cannot be written, or is somebody else's, can be read.
            let _ = file.set_modified(self.now);
        }
    }
}

impl LayerCache for DirCache {
    /// What is there under the key's name and is no entry of it is a key that
    /// is not known.
    fn get(&self, key: &LayerKey) -> Result<Option<LayerRecord>> {
        Ok(self.read(key)?.map(|(record, _)| record))
    }

    fn put(&self, key: &LayerKey, record: &LayerRecord) -> Result<()> {
        // An error of this is told by what follows.
        if self
            .get(key)
            .is_ok_and(|known| known.as_ref() == Some(record))
        {
            return Ok(());
        }
        self.write(key, &document(key, record, Notes::default()))
    }

    fn programs(&self, key: &LayerKey, question: &str) -> Result<Option<Vec<ForeignPrograms>>> {
        let found = self.read(key)?;
        let found = found.and_then(|(_, mut notes)| notes.programs.remove(question));
        Ok(found.map(|found| found.into_iter().map(Into::into).collect()))
    }

    /// What an entry has no room for is not kept.
    fn put_programs(
        &self,
        key: &LayerKey,
        question: &str,
        found: &[ForeignPrograms],
    ) -> Result<()> {
        let Some((record, mut notes)) = self.read(key)? else {
            return Ok(());
        };
        let found: Vec<EntryPrograms> = found.iter().map(Into::into).collect();
        if notes.programs.get(question) == Some(&found) {
            return Ok(());
        }
        notes.programs.insert(question.to_owned(), found);
        self.note(key, &record, notes)
    }

    fn seen_in(&self, key: &LayerKey, record: &LayerRecord) -> Result<Vec<String>> {
        Ok(match self.read(key)? {
            Some((known, notes)) if known == *record => notes.seen_in,
            _ => Vec::new(),
        })
    }

    fn see_in(&self, key: &LayerKey, record: &LayerRecord, repository: &str) -> Result<()> {
        match self.read(key)? {
            Some((known, mut notes))
                if known == *record && !notes.seen_in.iter().any(|place| place == repository) =>
            {
                notes.seen_in.insert(0, repository.to_owned());
                notes.seen_in.truncate(MAX_PLACES);
                self.note(key, record, notes)
            }
            _ => Ok(()),
        }
    }
}

impl DirCache {
    /// Reads an entry, if there is one of this key.
    fn read(&self, key: &LayerKey) -> Result<Option<(LayerRecord, Notes)>> {
        let path = self.path(key);
        let Some(file) = open(&path).map_err(Error::reading(&path))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        (&file)
            .take(MAX_ENTRY_BYTES)
            .read_to_end(&mut bytes)
            .map_err(Error::reading(&path))?;
        let entry = parse(key, &bytes);
        if entry.is_some() {
            self.touch(&file);
        }
        Ok(entry)
    }

    fn write(&self, key: &LayerKey, document: &[u8]) -> Result<()> {
        let path = self.path(key);
        let shard = path.parent().expect("an entry is in a directory");
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private
            .create(&self.dir)
            .and_then(|()| fs::create_dir_all(shard))
            .map_err(Error::writing("create", shard))?;
        let failed = |error| Error::writing("write", &path)(error);
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .rand_bytes(RANDOM)
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(shard)
            .map_err(|error| failed(without_temporary(error)))?;
        file.write_all(document).map_err(failed)?;
        file.as_file().set_modified(self.now).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Writes what is noted beside a record; what an entry has no room for is not
    /// kept.
    fn note(&self, key: &LayerKey, record: &LayerRecord, notes: Notes) -> Result<()> {
        let document = document(key, record, notes);
        match document.len() as u64 > MAX_ENTRY_BYTES {
            true => Ok(()),
            false => self.write(key, &document),
        }
    }
}

/// What an entry says of a layer beside its record. Older programs know none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notes {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    programs: Programs,
    /// Repositories that had it, the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seen_in: Vec<String>,
}

/// What was found in a layer's programs, by what was asked.
type Programs = BTreeMap<String, Vec<EntryPrograms>>;

/// [`ForeignPrograms`] in an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EntryPrograms {
    file: String,
    found: String,
    expected: String,
    more: usize,
}

impl From<&ForeignPrograms> for EntryPrograms {
    fn from(programs: &ForeignPrograms) -> Self {
        Self {
            file: programs.file.clone(),
            found: programs.found.clone(),
            expected: programs.expected.clone(),
            more: programs.more,
        }
    }
}

impl From<EntryPrograms> for ForeignPrograms {
    fn from(programs: EntryPrograms) -> Self {
        Self {
            file: programs.file,
            found: programs.found,
            expected: programs.expected,
            more: programs.more,
        }
    }
}

/// An entry's file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    version: u64,
    key: String,
    diff_id: String,
    uncompressed_size: u64,
    digest: String,
    size: u64,
    media_type: String,
    #[serde(flatten)]
    notes: Notes,
}

fn document(key: &LayerKey, record: &LayerRecord, notes: Notes) -> Vec<u8> {
    let mut bytes = canonical_json(&Entry {
        version: VERSION,
        key: key.to_string(),
        diff_id: record.diff_id.to_string(),
        uncompressed_size: record.uncompressed_size,
        digest: record.digest.to_string(),
        size: record.size,
        media_type: record.media_type.to_string(),
        notes,
    });
    bytes.push(b'\n');
    bytes
}

/// Reads a file's bytes, if it is the entry of this key.
fn parse(key: &LayerKey, bytes: &[u8]) -> Option<(LayerRecord, Notes)> {
    let mut entry: Entry = serde_json::from_slice(bytes).ok()?;
    entry.notes.seen_in.truncate(MAX_PLACES);
    let record = LayerRecord {
        diff_id: entry.diff_id.parse().ok()?,
        uncompressed_size: entry.uncompressed_size,
        digest: entry.digest.parse().ok()?,
        size: entry.size,
        media_type: MediaType::from(entry.media_type.as_str()),
    };
    let is_ours = entry.version == VERSION && entry.key == key.to_string();
    (is_ours && record.is_plausible()).then_some((record, entry.notes))
}

/// Opens a file, or returns `None` if there is none: nothing, a symbolic link,
/// a directory, a pipe. Does not wait for the other end of a pipe.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            let errno = Errno::from_io_error(&error);
            // The last is that of a socket.
            return match errno {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(None),
                _ => Err(error),
            };
        }
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

/// A file of a cache.
struct CacheFile {
    path: PathBuf,
    /// Or a temporary file.
    is_entry: bool,
    /// The time of its last modification, which is that of its last use.
    used: SystemTime,
    bytes: u64,
}

/// A name in a directory that is text, as all of ours are.
struct Listed {
    name: String,
    entry: fs::DirEntry,
}

impl Listed {
    /// Returns the file if it is one of ours, in the directory of entries
    /// that begin with `shard`.
    fn file_of(&self, shard: &str) -> Option<CacheFile> {
        let is_entry = self.name.starts_with(shard)
            && self
                .name
                .strip_suffix(".json")
                .is_some_and(|hex| is_hex(hex, 64));
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
            used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
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

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
