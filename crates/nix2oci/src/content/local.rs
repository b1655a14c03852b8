//! A store on this machine's disk.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::store::{StoreDir, StorePath};

use super::{ContentSource, Contents, Entry};

/// What Nix appends to a name that differs from another one by case only, on
/// file systems that ignore case.
///
/// Source: `caseHackSuffix` in NixOS/nix, `src/libutil/archive.cc` (2.8).
const CASE_HACK_SUFFIX: &[u8] = b"~nix~case~hack~";

/// A store on this machine's disk, perhaps below another root than it will
/// have in the image.
///
/// Files are read, never mapped: a mapped file shows what a debugger or a
/// profiler wrote into the mapping, and shrinking it kills the process. Modes,
/// owners, times and link counts on disk are ignored, except for the owner's
/// right to execute.
#[derive(Debug, Clone)]
pub struct LocalStore {
    dir: PathBuf,
    case_hack: bool,
}

impl LocalStore {
    /// Reads the store directory itself: `/nix/store`.
    pub fn new(store_dir: &StoreDir) -> Self {
        Self::at(store_dir.as_path().to_owned())
    }

    /// Reads a store that lies below `root`, as Nix's chroot stores do:
    /// `root/nix/store`.
    pub fn below(root: &Path, store_dir: &StoreDir) -> Self {
        Self::at(root.join(&store_dir.as_str()[1..]))
    }

    fn at(dir: PathBuf) -> Self {
        Self {
            dir,
            case_hack: cfg!(target_os = "macos"),
        }
    }

    /// Says whether names carry Nix's case-hack suffix, which is not part of
    /// them; by default they do on macOS only, as in Nix.
    #[must_use]
    pub fn with_case_hack(mut self, case_hack: bool) -> Self {
        self.case_hack = case_hack;
        self
    }

    /// Returns where a store path lies.
    pub fn locate(&self, path: &StorePath) -> PathBuf {
        self.dir.join(path.as_str())
    }
}

impl ContentSource for LocalStore {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let real = self.locate(path);
        let name = real.as_os_str().as_bytes().to_vec();
        Walk {
            cx,
            root: real,
            relative: Vec::new(),
            case_hack: self.case_hack,
            visitor,
        }
        .object(CWD, &name, None)
    }

    /// Returns whether the path is there. A store that may not be looked into
    /// has nothing to give.
    fn has(&self, _: &Context, path: &StorePath) -> Result<bool> {
        let real = self.locate(path);
        match rustix::fs::lstat(&real) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(false),
            Err(error) => Err(ErrorKind::ReadStore {
                action: "read",
                path: real,
                source: io::Error::from(error),
            }
            .into()),
        }
    }
}

/// The way through one store path.
struct Walk<'a> {
    cx: &'a Context,
    /// Where the store path lies.
    root: PathBuf,
    /// The current object in it, with the names of the NAR.
    relative: Vec<u8>,
    case_hack: bool,
    visitor: &'a mut dyn FnMut(Entry<'_>) -> Result<()>,
}

/// A name in a directory.
struct Child {
    /// As the NAR has it.
    name: Vec<u8>,
    /// As the disk has it, if that differs.
    on_disk: Option<Vec<u8>>,
    /// What the directory says it is, if it does.
    file_type: Option<FileType>,
}

impl Walk<'_> {
    /// Visits the object `name` of directory `at`, and what is in it.
    fn object(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        file_type: Option<FileType>,
    ) -> Result<()> {
        self.cx.cancel.check()?;
        let file_type = match file_type {
            Some(known) => known,
            None => {
                let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| self.failed("read", name, e))?;
                FileType::from_raw_mode(stat.st_mode as RawMode)
            }
        };
        match file_type {
            FileType::Directory => self.directory(at, name),
            FileType::RegularFile => self.file(at, name),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(at, name, Vec::new())
                    .map_err(|e| self.failed("read the symbolic link", name, e))?;
                (self.visitor)(Entry::Symlink {
                    path: &self.relative,
                    target: target.as_bytes(),
                })
            }
            other => Err(self.unsupported(name, other)),
        }
    }

    fn directory(&mut self, at: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let fd = self.open(at, name, OFlags::DIRECTORY)?;
        (self.visitor)(Entry::Directory {
            path: &self.relative,
        })?;
        let parent = self.relative.len();
        for child in self.children(&fd, name)? {
            if parent > 0 {
                self.relative.push(b'/');
            }
            self.relative.extend_from_slice(&child.name);
            let on_disk = child.on_disk.as_ref().unwrap_or(&child.name);
            self.object(fd.as_fd(), on_disk, child.file_type)?;
            self.relative.truncate(parent);
        }
        Ok(())
    }

    /// Returns the names in a directory in NAR's order: by their bytes.
    fn children(&self, fd: &OwnedFd, dir_name: &[u8]) -> Result<Vec<Child>> {
        let failed = |e| self.failed("list", dir_name, e);
        let mut children = Vec::new();
        for entry in Dir::read_from(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let file_type = match entry.file_type() {
                FileType::Unknown => None,
                known => Some(known),
            };
            let hacked = self
                .case_hack
                .then(|| find(name, CASE_HACK_SUFFIX))
                .flatten();
            children.push(Child {
                name: name[..hacked.unwrap_or(name.len())].to_vec(),
                on_disk: hacked.map(|_| name.to_vec()),
                file_type,
            });
        }
        children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = children
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name)
        {
            let on_disk = pair[0].on_disk.as_ref().unwrap_or(&pair[0].name);
            return Err(ErrorKind::UnsupportedName {
                path: self.path(dir_name).join(OsStr::from_bytes(on_disk)),
                problem: "another file of the directory has the same name without Nix's \
                          case-hack suffix"
                    .to_owned(),
            }
            .into());
        }
        Ok(children)
    }

    fn file(&mut self, at: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        // Something else may have taken the name since it was listed: opening a
        // named pipe must not wait for a writer.
        let fd = self.open(at, name, OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.failed("read", name, e))?;
        let file_type = FileType::from_raw_mode(stat.st_mode as RawMode);
        if file_type != FileType::RegularFile {
            return Err(self.unsupported(name, file_type));
        }
        let size = stat.st_size as u64;
        let path = self.path(name);
        let mut contents = FileContents {
            fd,
            path,
            size,
            read: 0,
        };
        (self.visitor)(Entry::File {
            path: &self.relative,
            executable: stat.st_mode as RawMode & Mode::XUSR.as_raw_mode() != 0,
            size,
            contents: &mut contents,
        })
    }

    fn open(&self, at: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|e| self.failed("open", name, e))
    }

    fn failed(&self, action: &'static str, name: &[u8], error: Errno) -> crate::error::Error {
        ErrorKind::ReadStore {
            action,
            path: self.path(name),
            source: io::Error::from(error),
        }
        .into()
    }

    fn unsupported(&self, name: &[u8], file_type: FileType) -> crate::error::Error {
        ErrorKind::UnsupportedFile {
            path: self.path(name),
            found: match file_type {
                FileType::Socket => "a socket",
                FileType::Fifo => "a named pipe",
                FileType::CharacterDevice => "a character device",
                FileType::BlockDevice => "a block device",
                FileType::Directory => "a directory that was listed as a file",
                _ => "of an unknown type",
            },
        }
        .into()
    }

    /// Returns where the current object lies, whose name on disk is `name`.
    fn path(&self, name: &[u8]) -> PathBuf {
        if self.relative.is_empty() {
            return self.root.clone();
        }
        let mut path = self.root.join(OsStr::from_bytes(&self.relative));
        path.set_file_name(OsStr::from_bytes(name));
        path
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// An open file that must keep its size.
struct FileContents {
    fd: OwnedFd,
    path: PathBuf,
    size: u64,
    read: u64,
}

impl Contents for FileContents {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let left = self.size - self.read;
        let wanted = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let n = loop {
            match rustix::io::read(&self.fd, &mut buf[..wanted]) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        }
        .map_err(|e| ErrorKind::ReadStore {
            action: "read",
            path: self.path.clone(),
            source: io::Error::from(e),
        })?;
        if n == 0 {
            return Err(ErrorKind::FileChanged {
                path: self.path.clone(),
                expected: self.size,
                found: self.read,
            }
            .into());
        }
        self.read += n as u64;
        Ok(n)
    }
}
