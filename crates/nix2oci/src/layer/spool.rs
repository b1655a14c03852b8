//! Where a layer's bytes wait until the sink takes them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::oci::Descriptor;

use super::Blob;

/// A layer's bytes while they are made.
#[derive(Debug)]
pub(crate) enum Spool {
    /// They are kept in a temporary file, removed when it is dropped.
    File(NamedTempFile),
    /// Only their digest is wanted.
    Discard,
}

impl Spool {
    /// Makes a temporary file in `dir`, readable as the umask says.
    pub(crate) fn in_dir(dir: &Path) -> Result<Self> {
        tempfile::Builder::new()
            .prefix(".nix2oci-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .map(Self::File)
            .map_err(Error::writing("create a temporary file in", dir))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(file) => file
                .as_file_mut()
                .write_all(bytes)
                .map_err(|e| Error::writing("write", file.path())(e)),
            Self::Discard => Ok(()),
        }
    }

    /// Ends writing; the bytes have this descriptor.
    pub(crate) fn finish(self, descriptor: Descriptor) -> Option<SpooledBlob> {
        match self {
            Self::File(file) => Some(SpooledBlob {
                file: Some(file),
                descriptor,
            }),
            Self::Discard => None,
        }
    }
}

/// A blob in a temporary file.
#[derive(Debug)]
pub(crate) struct SpooledBlob {
    /// `None` once it was moved.
    file: Option<NamedTempFile>,
    descriptor: Descriptor,
}

impl Blob for SpooledBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        let file = self
            .file
            .as_ref()
            .expect("a blob that was moved is read no more");
        Ok(Box::new(ReadAt {
            file: file.as_file(),
            at: 0,
        }))
    }

    fn verified_file(&self) -> Option<&File> {
        self.file.as_ref().map(NamedTempFile::as_file)
    }

    fn move_to(&mut self, path: &Path) -> Result<bool> {
        let Some(file) = self.file.take() else {
            return Ok(false);
        };
        match file.persist(path) {
            Ok(_) => Ok(true),
            Err(failed) if failed.error.kind() == io::ErrorKind::CrossesDevices => {
                self.file = Some(failed.file);
                Ok(false)
            }
            Err(failed) => Err(Error::writing("create", path)(failed.error)),
        }
    }
}

/// Reads a file without moving its cursor, so that many can.
struct ReadAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
