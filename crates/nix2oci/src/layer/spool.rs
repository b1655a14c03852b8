//! Where a layer's bytes wait until the sink takes them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::context::Context;
use crate::error::{Error, Result, without_temporary};
use crate::oci::Descriptor;

use super::Blob;
use super::survey::below;

/// Bytes that are copied at once.
const BUFFER: usize = 128 << 10;

/// Where spooled bytes go.
#[derive(Debug, Clone)]
pub(crate) enum SpoolPlace {
    /// Into files with names in a directory, which a sink can move.
    Named(PathBuf),
    /// Into files without names on a directory's file system: a killed build
    /// leaves none of them.
    Unnamed(PathBuf),
    /// Nowhere: only digests are wanted.
    Nowhere,
}

/// A layer's bytes while they are made.
#[derive(Debug)]
pub(crate) struct Spool(SpoolFile);

#[derive(Debug)]
enum SpoolFile {
    Named(NamedTempFile),
    /// With the directory, for errors.
    Unnamed(File, PathBuf),
    /// Nothing is kept, or it was moved away.
    None,
}

impl SpoolFile {
    fn file(&self) -> Option<&File> {
        match self {
            Self::Named(file) => Some(file.as_file()),
            Self::Unnamed(file, _) => Some(file),
            Self::None => None,
        }
    }
}

impl Spool {
    /// Begins one. Files with names are readable as the umask says.
    pub(crate) fn begin(place: &SpoolPlace) -> Result<Self> {
        let failed = |dir| Error::writing("create a temporary file in", dir);
        Ok(Self(match place {
            SpoolPlace::Named(dir) => SpoolFile::Named(
                tempfile::Builder::new()
                    .prefix(".nix2oci-")
                    .permissions(fs::Permissions::from_mode(0o666))
                    .tempfile_in(dir)
                    .map_err(|e| failed(dir)(without_temporary(e)))?,
            ),
            SpoolPlace::Unnamed(dir) => {
                let file =
                    tempfile::tempfile_in(dir).map_err(|e| failed(dir)(without_temporary(e)))?;
                SpoolFile::Unnamed(file, dir.clone())
            }
            SpoolPlace::Nowhere => SpoolFile::None,
        }))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.0 {
            SpoolFile::Named(file) => file.as_file_mut().write_all(bytes).map_err(|e| {
                let dir = file.path().parent().unwrap_or(Path::new("/"));
                Error::writing("write a temporary file in", dir)(e)
            }),
            SpoolFile::Unnamed(file, dir) => file
                .write_all(bytes)
                .map_err(|e| Error::writing("write a temporary file in", dir)(e)),
            SpoolFile::None => Ok(()),
        }
    }

    /// Ends writing; the bytes have this descriptor. Returns nothing if they
    /// were not kept.
    pub(crate) fn finish(self, descriptor: Descriptor) -> Option<SpooledBlob> {
        match self.0 {
            SpoolFile::None => None,
            file => Some(SpooledBlob { file, descriptor }),
        }
    }
}

/// A blob in a temporary file.
#[derive(Debug)]
pub(crate) struct SpooledBlob {
    file: SpoolFile,
    descriptor: Descriptor,
}

impl Blob for SpooledBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        let file = self
            .file
            .file()
            .expect("a blob that was moved is read no more");
        Ok(Box::new(ReadAt { file, at: 0 }))
    }

    fn verified_file(&self) -> Option<&File> {
        self.file.file()
    }

    fn move_to(&mut self, path: &Path) -> Result<bool> {
        match std::mem::replace(&mut self.file, SpoolFile::None) {
            SpoolFile::Named(file) => match file.persist(path) {
                Ok(_) => Ok(true),
                Err(failed) if failed.error.kind() == io::ErrorKind::CrossesDevices => {
                    self.file = SpoolFile::Named(failed.file);
                    Ok(false)
                }
                Err(failed) => Err(Error::writing("create", path)(failed.error)),
            },
            file => {
                self.file = file;
                Ok(false)
            }
        }
    }
}

impl SpooledBlob {
    /// Copies what a reader has into a file; the reader fails unless it is what
    /// the descriptor says.
    pub(crate) fn read_from(
        cx: &Context,
        place: &SpoolPlace,
        descriptor: Descriptor,
        mut verified: impl Read,
    ) -> Result<Self> {
        let mut spool = Spool::begin(place)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            cx.cancel.check()?;
            match verified.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => spool.write(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(below(error)),
            }
        }
        Ok(Self {
            file: spool.0,
            descriptor,
        })
    }

    /// Returns a reader of all bytes that keeps them while it lives.
    pub(crate) fn reader(self: &Arc<Self>) -> impl Read + Send + use<> {
        ReadAt {
            file: SharedFile(Arc::clone(self)),
            at: 0,
        }
    }
}

/// The file of a blob that was not moved away.
struct SharedFile(Arc<SpooledBlob>);

impl std::ops::Deref for SharedFile {
    type Target = File;

    fn deref(&self) -> &File {
        let file = self.0.file.file();
        file.expect("a blob that is shared is not moved")
    }
}

/// Reads a file without moving its cursor, so that many can.
struct ReadAt<F> {
    file: F,
    at: u64,
}

impl<F: std::ops::Deref<Target = File>> Read for ReadAt<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
