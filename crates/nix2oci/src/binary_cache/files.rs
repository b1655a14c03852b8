//! The files of a binary cache, wherever they are.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::OFlags;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Location, Result};
use crate::net::Answered;

/// Takes a file's bytes.
pub(super) type Reply = Box<dyn FnOnce(Result<Answered<Bytes>>) + Send>;

/// A small file that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name, relative to the cache.
    pub(super) name: String,
    /// What is being done, for errors: `tell of /nix/store/…`.
    pub(super) action: String,
    /// Its bytes at most; more are an error.
    pub(super) limit: u64,
}

/// Gives the files of a cache.
pub(super) trait CacheFiles: Send + Sync {
    /// Asks for a small file. `reply` is called once, here or on another
    /// thread, unless the context is cancelled: then it may be dropped.
    fn ask(&self, cx: &Context, wanted: Wanted, reply: Reply);

    /// Begins to fetch a large file, of which so many bytes may wait for who
    /// reads them. Does not wait for an answer.
    fn start(&self, cx: &Context, name: &str, action: &str, ahead: usize) -> Box<dyn Started>;

    /// Returns whether the files come over a network.
    fn is_remote(&self) -> bool;
}

/// A large file that is on its way.
pub(super) trait Started: Send {
    /// Waits for the beginning at most so long, and returns whether
    /// [`Started::open`] waits no longer.
    fn is_answered_within(&self, _limit: Duration) -> bool {
        true
    }

    /// Waits for the beginning; None if there is no such file. Errors of the
    /// reader are of [`io::Error::other`], around an [`Error`].
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>>;
}

/// The files in a folder of this machine.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Returns where a file is; None if its name leads out of the folder. What
    /// is a query on a server is a part of the name here, and may have any
    /// slashes and dots in it.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let is_inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        is_inside.then(|| self.0.join(name))
    }

    fn read(&self, wanted: &Wanted) -> Result<Option<Bytes>> {
        let Some(path) = self.path(&wanted.name) else {
            return Ok(None);
        };
        let Some(file) = open(&path)? else {
            // Of a folder that is not there nothing is known.
            std::fs::metadata(&self.0).map_err(Error::reading(&self.0))?;
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(wanted.limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(Error::reading(&path))?;
        if bytes.len() as u64 > wanted.limit {
            let problem = format!("has more than {} bytes", wanted.limit);
            let document = path.display().to_string();
            return Err(Error::document(document, Location::Whole, problem));
        }
        Ok(Some(bytes.into()))
    }
}

impl CacheFiles for Folder {
    fn ask(&self, _: &Context, wanted: Wanted, reply: Reply) {
        let found = self.read(&wanted);
        reply(found.map(|found| found.map_or(Answered::Missing, Answered::Given)));
    }

    fn start(&self, _: &Context, name: &str, _: &str, _: usize) -> Box<dyn Started> {
        Box::new(InFolder(self.path(name)))
    }

    fn is_remote(&self) -> bool {
        false
    }
}

/// A file in a folder, which is opened when somebody reads it.
struct InFolder(Option<PathBuf>);

impl Started for InFolder {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        let Some(path) = self.0 else {
            return Ok(None);
        };
        let file = open(&path)?;
        Ok(file.map(|file| -> Box<dyn Read + Send> { Box::new(NamedFile { file, path }) }))
    }
}

/// A file whose errors name it.
struct NamedFile {
    file: File,
    path: PathBuf,
}

impl Read for NamedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buf) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(io::Error::other(Error::reading(&self.path)(error)))
            }
            other => other,
        }
    }
}

/// Opens a file; None if it is not there. Does not wait for the other end of a
/// pipe.
fn open(path: &Path) -> Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path);
    match opened {
        Ok(file) => {
            let metadata = file.metadata().map_err(Error::reading(path))?;
            if metadata.is_file() {
                Ok(Some(file))
            } else {
                Err(ErrorKind::ReadInput {
                    path: path.to_owned(),
                    source: io::Error::other("not a regular file"),
                }
                .into())
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::reading(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("cache");
        std::fs::create_dir_all(inside.join("nar/x?y")).unwrap();
        std::fs::write(dir.path().join("secret"), "text").unwrap();
        std::fs::write(inside.join("nar/x?y/z"), "text").unwrap();
        let folder = Folder::new(&inside);
        let read = |name: &str| {
            let started = folder.start(&Context::default(), name, "give it", 0);
            let text = started.open().unwrap().map(io::read_to_string);
            let wanted = Wanted {
                name: name.to_owned(),
                action: "give it".to_owned(),
                limit: 10,
            };
            assert_eq!(folder.read(&wanted).unwrap().is_some(), text.is_some());
            text.map(Result::unwrap)
        };
        assert_eq!(read("nar/x?y/z").as_deref(), Some("text"));
        let absolute = dir.path().join("secret");
        for name in [
            "../secret",
            "nar/x?y/../../../secret",
            absolute.to_str().unwrap(),
        ] {
            assert_eq!(read(name), None, "{name}");
        }
    }
}
