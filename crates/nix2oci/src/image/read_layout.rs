//! The files of a layout directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

use super::reader::{Files, Found, FoundFile};

/// A directory with an OCI image layout.
///
/// Symlinks are followed: a layout in the Nix store may hold its blobs as
/// links. Names that come from a document may only go down, so that it takes
/// such a link, which whoever made the directory put there, to get out of it.
pub(super) struct LayoutFiles {
    dir: PathBuf,
}

impl LayoutFiles {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }
}

impl Files for LayoutFiles {
    fn find(&self, name: &str) -> Result<Found> {
        let name = Path::new(name);
        if !name
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Ok(Found::Nothing);
        }
        let path = self.dir.join(name);
        let unusable = |problem: &str| {
            let error = Error::image(path.display().to_string(), problem);
            Ok(Found::Unusable(error))
        };
        // A FIFO would block when it is opened.
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_no_name(&error) => return Ok(Found::Nothing),
            Err(error) if is_loop(&error) => return unusable("is behind a loop of links"),
            Err(error) => return Err(Error::reading(&path)(error)),
        };
        if !metadata.is_file() {
            return unusable("is not a regular file");
        }
        let file = File::open(&path).map_err(Error::reading(&path))?;
        Ok(Found::File(FoundFile {
            size: metadata.len(),
            reader: Box::new(NamedFile { file, path }),
        }))
    }

    fn duplicates(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Returns whether there is no file of a name, or cannot be one.
fn is_no_name(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
    )
}

fn is_loop(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP)
}

/// A file whose errors carry an [`Error`] with its name.
struct NamedFile {
    file: File,
    path: PathBuf,
}

impl Read for NamedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                error
            } else {
                io::Error::other(Error::reading(&self.path)(error))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_only_go_down() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        for file in [dir.path().join("secret"), inner.join("file")] {
            std::fs::write(file, "text").unwrap();
        }
        let files = LayoutFiles::new(&inner);
        assert_eq!(files.open("file").unwrap().unwrap().size, 4);
        let absolute = dir.path().join("secret");
        for name in ["../secret", absolute.to_str().unwrap(), "gone"] {
            assert!(files.open(name).unwrap().is_none(), "{name}");
        }
        assert!(LayoutFiles::new(dir.path()).open("inner").is_err());
    }

    #[test]
    fn what_is_no_file_is_told_from_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "text").unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        let files = LayoutFiles::new(dir.path());
        for name in ["dir", "loop"] {
            assert!(
                matches!(files.find(name).unwrap(), Found::Unusable(_)),
                "{name}"
            );
        }
        for name in ["file/below", "a\0b", &"long".repeat(100)] {
            assert!(
                matches!(files.find(name).unwrap(), Found::Nothing),
                "{name}"
            );
        }
    }
}
