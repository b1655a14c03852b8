//! Hidden files and directories in which an output grows until it is complete.
//!
//! A kill leaves them behind, and the next build at the same place removes
//! them. A lock (`flock(2)`) tells which: whoever makes one holds its lock
//! while it is used, and the system drops the lock with the process. Between
//! making and locking, another build may take a new one for abandoned; so its
//! maker looks, once it has the lock, whether it is still there, and if not
//! makes another. Where locks do not work the name says so, and what has such
//! a name is left alone.
//!
//! Some network file systems keep locks within one machine. A build on another
//! machine can then take one that is in use; its build fails for want of its
//! files, but never names a part of an image, since a directory is moved away
//! before it is emptied.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// How names begin, behind the dot and the name of the output.
const MARK: &str = "nix2oci-";
/// What follows in names of those without a lock.
const UNLOCKED: &str = "unlocked-";
/// Random letters and digits at the end of names.
const RANDOM: usize = 6;
/// How often to try to make one that another build does not take.
const ATTEMPTS: usize = 8;

/// A staging directory, removed when it is dropped.
pub(super) struct StagingDir {
    path: PathBuf,
    is_kept: bool,
    _lock: File,
}

impl StagingDir {
    /// Makes one in `dir` for an output of this name there, or for `dir` itself
    /// if `name` is empty. Its mode is that of a new directory.
    pub(super) fn create(dir: &Path, name: &OsStr) -> io::Result<Self> {
        let (lock, path) = create(dir, name, make_dir, |path| fs::remove_dir(path))?;
        Ok(Self {
            path,
            is_kept: false,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory, which has another name by now.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a staging file in `dir` for an output of this name there. `mode` is
/// less what the umask takes. It is locked until the file is closed.
pub(super) fn create_file(dir: &Path, name: &OsStr, mode: u32) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    create(
        dir,
        name,
        |path| options.open(path),
        |path| fs::remove_file(path),
    )
}

/// Removes staging directories that nobody uses, through the empty directory
/// `trash` on the same file system. What cannot be removed is left.
pub(super) fn remove_abandoned_dirs(dir: &Path, name: &OsStr, trash: &Path) {
    remove_abandoned(dir, name, FileType::is_dir, |path| {
        let taken = trash.join("abandoned");
        fs::rename(path, &taken)?;
        fs::remove_dir_all(&taken)
    });
}

/// Removes staging files that nobody uses. What cannot be removed is left.
pub(super) fn remove_abandoned_files(dir: &Path, name: &OsStr) {
    remove_abandoned(dir, name, FileType::is_file, |path| fs::remove_file(path));
}

/// Returns whether a file in a directory may be what
/// [`StagingDir::create`] makes there without a name.
pub(super) fn is_staging_inside(name: &OsStr) -> bool {
    name.as_bytes()
        .starts_with(prefix(OsStr::new("")).as_bytes())
}

fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    if !name.is_empty() {
        prefix.push(name);
        prefix.push(".");
    }
    prefix.push(MARK);
    prefix
}

/// Makes a directory and opens it for its lock.
fn make_dir(path: &Path) -> io::Result<File> {
    fs::create_dir(path)?;
    File::open(path).inspect_err(|_| {
        let _ = fs::remove_dir(path);
    })
}

fn create(
    dir: &Path,
    name: &OsStr,
    make: impl Fn(&Path) -> io::Result<File>,
    remove: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<(File, PathBuf)> {
    let make_named = |prefix: &OsStr| {
        let made = tempfile::Builder::new()
            .prefix(prefix)
            .rand_bytes(RANDOM)
            .disable_cleanup(true)
            .make_in(dir, &make)?;
        let (file, path) = made.into_parts();
        Ok::<_, io::Error>((file, path.to_path_buf()))
    };
    let mut prefix = prefix(name);
    for _ in 0..ATTEMPTS {
        let (file, path) = match make_named(&prefix) {
            // Another build took a directory before it was opened for its lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => continue,
            made => made?,
        };
        match claim(&file, &path) {
            Claim::Held => return Ok((file, path)),
            Claim::Lost => {}
            Claim::NoLocks => {
                let _ = remove(&path);
                break;
            }
        }
    }
    prefix.push(UNLOCKED);
    make_named(&prefix)
}

/// What came of asking for a lock.
enum Claim {
    /// We have it, and nobody else removes the file.
    Held,
    /// Another build has it, or removed the file.
    Lost,
    /// The file system has none.
    NoLocks,
}

fn claim(file: &File, path: &Path) -> Claim {
    match file.try_lock() {
        Ok(()) if is_at(file, path) => Claim::Held,
        Ok(()) | Err(TryLockError::WouldBlock) => Claim::Lost,
        Err(TryLockError::Error(_)) => Claim::NoLocks,
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn remove_abandoned(
    dir: &Path,
    name: &OsStr,
    is_kind: fn(&FileType) -> bool,
    remove: impl Fn(&Path) -> io::Result<()>,
) {
    let prefix = prefix(name);
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.map_while(Result::ok) {
        if !is_locked_name(&entry.file_name(), &prefix)
            || !entry.file_type().is_ok_and(|kind| is_kind(&kind))
        {
            continue;
        }
        let path = entry.path();
        // A link or a pipe may have come to its place: neither follow nor wait.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(&path);
        if let Ok(file) = file
            && let Claim::Held = claim(&file, &path)
        {
            let _ = remove(&path);
        }
    }
}

/// Returns whether a name is one of those that [`create`] locks.
fn is_locked_name(name: &OsStr, prefix: &OsStr) -> bool {
    name.as_bytes()
        .strip_prefix(prefix.as_bytes())
        .is_some_and(|random| {
            random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn one_that_is_taken_before_it_is_locked_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::cell::Cell::new(0);
        // The first is removed by a build that is done with it when the maker
        // asks for the lock, the second by one that still has the lock.
        let holder = std::cell::RefCell::new(None);
        let make = |path: &Path| {
            let file = make_dir(path)?;
            made.set(made.get() + 1);
            if made.get() <= 2 {
                let other = File::open(path)?;
                assert!(matches!(claim(&other, path), Claim::Held));
                fs::remove_dir(path)?;
                holder.replace((made.get() == 2).then_some(other));
            }
            Ok(file)
        };
        let name = OsStr::new("out");
        let (_lock, path) = create(dir.path(), name, make, |_| unreachable!()).unwrap();
        assert_eq!(made.get(), 3);
        assert!(path.is_dir());
        assert!(is_locked_name(path.file_name().unwrap(), &prefix(name)));
    }

    /// A file opened for its path alone cannot be locked.
    #[cfg(target_os = "linux")]
    #[test]
    fn one_without_a_lock_has_a_name_that_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let name = OsStr::new("out");
        let make = |path: &Path| {
            fs::create_dir(path)?;
            let flags = OFlags::PATH.bits() as i32;
            OpenOptions::new().read(true).custom_flags(flags).open(path)
        };
        let (lock, path) = create(dir.path(), name, make, |path| fs::remove_dir(path)).unwrap();
        assert_eq!(names(dir.path()), 1);
        drop(lock);
        remove_abandoned_dirs(dir.path(), name, dir.path());
        assert!(path.is_dir());
        assert!(!is_locked_name(path.file_name().unwrap(), &prefix(name)));
    }

    #[test]
    fn one_in_use_is_left_and_an_abandoned_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let trash = tempfile::tempdir_in(dir.path()).unwrap();
        let name = OsStr::new("out");
        let (lock, path) = create(dir.path(), name, make_dir, |_| unreachable!()).unwrap();
        fs::create_dir(path.join("blobs")).unwrap();
        remove_abandoned_dirs(dir.path(), name, trash.path());
        assert!(path.join("blobs").is_dir());
        drop(lock);
        remove_abandoned_files(dir.path(), name);
        remove_abandoned_dirs(dir.path(), OsStr::new(""), trash.path());
        assert!(path.join("blobs").is_dir());
        remove_abandoned_dirs(dir.path(), name, trash.path());
        assert_eq!((names(dir.path()), names(trash.path())), (1, 0));

        let (file, path) = create_file(dir.path(), name, 0o600).unwrap();
        remove_abandoned_files(dir.path(), name);
        assert!(path.is_file());
        drop(file);
        remove_abandoned_files(dir.path(), name);
        assert_eq!(names(dir.path()), 1);
    }
}
