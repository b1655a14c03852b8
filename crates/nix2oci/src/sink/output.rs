//! Where bytes go, and copying checked blobs to it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Blob;
use crate::oci::{Descriptor, descriptor_digest};

/// Bytes between two looks at the cancel flag when the kernel copies.
const KERNEL_COPY: u64 = 8 << 20;
/// Bytes between two looks at the cancel flag when we copy or read.
pub(super) const BUFFER: usize = 256 << 10;

/// A file or a writer, with the name that errors use.
pub(super) struct Output {
    to: Target,
    path: PathBuf,
}

enum Target {
    File(File),
    Writer(Box<dyn Write + Send>),
}

impl Output {
    pub(super) fn file(file: File, path: &Path) -> Self {
        Self {
            to: Target::File(file),
            path: path.to_owned(),
        }
    }

    pub(super) fn writer(writer: Box<dyn Write + Send>, path: &Path) -> Self {
        Self {
            to: Target::Writer(writer),
            path: path.to_owned(),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.to {
            Target::File(file) => file.write_all(bytes),
            Target::Writer(writer) => writer.write_all(bytes),
        }
        .map_err(Error::writing("write", &self.path))
    }

    /// Copies a blob and checks its bytes against its descriptor, or only
    /// their number if it lends a verified file.
    pub(super) fn copy_blob(&mut self, cx: &Context, blob: &dyn Blob) -> Result<()> {
        match blob.verified_file() {
            Some(file) => self.copy_file(cx, blob.descriptor(), file),
            None => self.copy_checked(cx, blob),
        }
    }

    fn copy_file(&mut self, cx: &Context, descriptor: &Descriptor, mut file: &File) -> Result<()> {
        let size = descriptor.size();
        let length = file
            .metadata()
            .and_then(|metadata| file.rewind().map(|()| metadata.len()))
            .map_err(|e| read_error(descriptor, e))?;
        if length != size {
            return Err(wrong_size(descriptor, length));
        }
        let mut copied = 0;
        while copied < size {
            cx.cancel.check()?;
            let mut chunk = file.take(KERNEL_COPY.min(size - copied));
            let n = match &mut self.to {
                Target::File(out) => io::copy(&mut chunk, out),
                Target::Writer(out) => io::copy(&mut chunk, out),
            }
            .map_err(Error::writing("write", &self.path))?;
            if n == 0 {
                return Err(wrong_size(descriptor, copied));
            }
            copied += n;
        }
        Ok(())
    }

    fn copy_checked(&mut self, cx: &Context, blob: &dyn Blob) -> Result<()> {
        let descriptor = blob.descriptor();
        let expected = sha256(descriptor)?;
        let wrong_size = |found| match blob.file() {
            None => wrong_size(descriptor, found),
            Some(file) => Error::from(ErrorKind::SizeMismatch {
                what: file.display().to_string(),
                expected: descriptor.size(),
                found,
            }),
        };
        let mut reader = blob.open()?;
        let mut hasher = Hasher::new();
        let mut copied = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            cx.cancel.check()?;
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(read_error(descriptor, e)),
            };
            copied += n as u64;
            // A longer blob would run into what follows it in a tar.
            if copied > descriptor.size() {
                return Err(wrong_size(copied));
            }
            hasher.update(&buffer[..n]);
            self.write_all(&buffer[..n])?;
        }
        if copied != descriptor.size() {
            return Err(wrong_size(copied));
        }
        let found = hasher.finish();
        if found != expected {
            return Err(ErrorKind::DigestMismatch {
                what: blob
                    .file()
                    .map_or_else(|| "a blob".to_owned(), |file| file.display().to_string()),
                expected,
                found,
            }
            .into());
        }
        Ok(())
    }

    /// Waits until a file's bytes are on disk; hands a writer's on.
    pub(super) fn sync(&mut self) -> Result<()> {
        match &mut self.to {
            Target::File(file) => sync_file(file),
            Target::Writer(writer) => writer.flush(),
        }
        .map_err(Error::writing("write", &self.path))
    }
}

/// Returns the digest that a descriptor names.
///
/// # Errors
///
/// If it is not a SHA-256, which is the only one that we can check.
pub(super) fn sha256(descriptor: &Descriptor) -> Result<Digest> {
    descriptor_digest(descriptor).ok_or_else(|| {
        Error::invalid(
            format!("blob {}", descriptor.digest()),
            "expected a sha256 digest",
        )
    })
}

pub(super) fn wrong_size(descriptor: &Descriptor, found: u64) -> Error {
    ErrorKind::SizeMismatch {
        what: format!("blob {}", descriptor.digest()),
        expected: descriptor.size(),
        found,
    }
    .into()
}

/// A blob that makes its bytes on demand puts its own error into the reader's.
fn read_error(descriptor: &Descriptor, error: io::Error) -> Error {
    let path = PathBuf::from(format!("blob {}", descriptor.digest()));
    error
        .downcast::<Error>()
        .unwrap_or_else(Error::writing("read back", &path))
}

/// Waits until a file is on disk. Pipes, devices and some network file systems
/// cannot do that and say so; that is no failure.
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Waits until files below a directory are on disk.
///
/// On Linux with one `syncfs` of their file system: for 100 files of 5 MiB it
/// took 0.16 s where an `fsync` for each took 0.40 s (ext4), since every
/// `fsync` waits for the journal. The price is that it waits for what others
/// write there, too. It reports write errors since Linux 5.8.
pub(super) fn sync_files(
    cx: &Context,
    dir: &Path,
    files: impl Iterator<Item = PathBuf>,
) -> Result<()> {
    #[cfg(target_os = "linux")]
    if File::open(dir).is_ok_and(|dir| rustix::fs::syncfs(dir).is_ok()) {
        return Ok(());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = dir;
    for path in files {
        cx.cancel.check()?;
        File::open(&path)
            .and_then(|file| sync_file(&file))
            .map_err(Error::writing("write", &path))?;
    }
    Ok(())
}

/// Waits until the names in a directory are on disk. One that may be written
/// but not read cannot be opened and is left to the system.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    match File::open(dir) {
        Ok(dir_file) => sync_file(&dir_file).map_err(Error::writing("write", dir)),
        Err(_) => Ok(()),
    }
}

/// Returns the directory that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// Returns whether a neighbour of the output may not be made although the
/// output itself perhaps may: Nix's sandbox on Darwin allows `$out` alone.
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
