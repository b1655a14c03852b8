//! A tar that is there and becomes a layer as it is.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::{Error, ErrorKind, Location, Result};
use crate::store::StoreDir;

use super::LayerProblem;
use super::decompress::Decoder;
use super::survey::{decoding, sniffed, survey};
use super::tar::TarOutput;

/// A tar in a file, compressed or not, whose bytes become those of a layer.
///
/// The file was read once and is read again when the layer is packed: it must
/// not change in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarFile {
    path: PathBuf,
    diff_id: DiffId,
    size: u64,
    problems: Vec<LayerProblem>,
    hides_store: Option<String>,
}

impl TarFile {
    /// Reads a tar once, uncompressed or compressed with gzip or zstd, and
    /// judges whether loaders agree on what it is.
    ///
    /// Costs one pass over the file with two hashes; memory does not grow with
    /// its bytes, only by about 30 bytes an entry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReadInput`] if the file cannot be read;
    /// [`ErrorKind::Document`] if it is no tar, is truncated, or has what some
    /// loader refuses: a path that comes twice or leads upwards, a file in what
    /// is no directory, a hard link to what is not in it before.
    pub fn open(cx: &Context, path: &Path, store_dir: &StoreDir) -> Result<Self> {
        Self::open_digested(cx, path, store_dir).map(|(tar, _)| tar)
    }

    /// The same, with the digest of the file as it is, compressed or not.
    pub(crate) fn open_digested(
        cx: &Context,
        path: &Path,
        store_dir: &StoreDir,
    ) -> Result<(Self, Digest)> {
        let refuse =
            |problem: String| Error::document(path.display().to_string(), Location::Whole, problem);
        let found = survey(cx, store_dir, Named::open(path)?)?;
        if found.size == 0 {
            return Err(refuse("it is empty, expected a tar".to_owned()));
        }
        let (refused, problems): (Vec<_>, Vec<_>) =
            found.problems.into_iter().partition(is_refused);
        if let Some(first) = refused.first() {
            let hint = match first {
                LayerProblem::BrokenTar { offset: 0, .. } => magic(path).unwrap_or_default(),
                LayerProblem::NoEnd => ": is it truncated?",
                _ => "",
            };
            let more = match refused.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more of the kind"),
            };
            return Err(refuse(format!("{first}{hint}{more}")));
        }
        let (diff_id, size) = found.tar.expect("what cannot be decompressed was refused");
        let tar = Self {
            path: path.to_owned(),
            diff_id,
            size,
            problems,
            hides_store: found.hides_store,
        };
        Ok((tar, found.digest))
    }

    /// Makes one of a file that was read before.
    pub(crate) fn known(path: PathBuf, diff_id: DiffId, size: u64) -> Self {
        Self {
            path,
            diff_id,
            size,
            problems: Vec::new(),
            hides_store: None,
        }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the digest of the tar, without a compression.
    pub fn diff_id(&self) -> DiffId {
        self.diff_id
    }

    /// Returns the bytes of the tar, without a compression.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns what is odd in it, and loaders do alike or users want: devices,
    /// modes, directories without an entry, paths that begin with a slash.
    pub fn problems(&self) -> &[LayerProblem] {
        &self.problems
    }

    /// Returns the first path that hides or deletes the whole store.
    pub(crate) fn hides_store(&self) -> Option<&str> {
        self.hides_store.as_deref()
    }

    /// Writes the tar.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SizeMismatch`] or [`ErrorKind::DigestMismatch`] if it is
    /// not the one that was read before.
    pub(super) fn write(&self, cx: &Context, out: &mut impl TarOutput) -> Result<()> {
        let name = self.path.display().to_string();
        let (codec, whole) = sniffed(Named::open(&self.path)?)?;
        let mut tar = Decoder::new(codec, BufReader::with_capacity(128 << 10, whole))?;
        let mut hasher = Hasher::new();
        let mut size = 0;
        // What has more bytes is another one: it may have far more, and a recipe
        // that names it may be anybody's.
        while size <= self.size {
            cx.cancel.check()?;
            let room = out.room()?;
            let n = match tar.read(room) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let problem = decoding(error)?;
                    let problem = format!("the {codec} stream is broken: {problem}");
                    return Err(Error::document(name, Location::Whole, problem));
                }
            };
            hasher.update(&room[..n]);
            out.advance(n)?;
            size += n as u64;
        }
        let what = || format!("{name}, which was read before,");
        if size != self.size {
            return Err(ErrorKind::SizeMismatch {
                what: what(),
                expected: self.size,
                found: size,
            }
            .into());
        }
        let found = hasher.finish();
        if found != self.diff_id.digest() {
            return Err(ErrorKind::DigestMismatch {
                what: what(),
                expected: self.diff_id.digest(),
                found,
            }
            .into());
        }
        Ok(())
    }
}

/// Returns whether a tar cannot be a layer because of this. The other problems
/// are of tars that people load every day.
fn is_refused(problem: &LayerProblem) -> bool {
    !matches!(
        problem,
        LayerProblem::Absolute { .. }
            | LayerProblem::MissingParent { .. }
            | LayerProblem::LateParent { .. }
            | LayerProblem::UnsupportedKind { .. }
            | LayerProblem::NotPadded { .. }
            | LayerProblem::StoreMode { .. }
            | LayerProblem::WritableDirectory { .. }
            | LayerProblem::More { .. }
    )
}

/// Returns what a file is that is no tar, by its first bytes.
fn magic(path: &Path) -> Option<&'static str> {
    let mut head = [0; 6];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    match &head {
        b"\xfd7zXZ\0" => Some(": it is compressed with xz, expected gzip, zstd or nothing"),
        [b'B', b'Z', b'h', ..] => {
            Some(": it is compressed with bzip2, expected gzip, zstd or nothing")
        }
        [b'P', b'K', 3, 4, ..] => Some(": it is a zip archive"),
        _ => None,
    }
}

/// A file whose errors name it.
struct Named<'a> {
    file: File,
    path: &'a Path,
}

impl<'a> Named<'a> {
    /// Opens a regular file: a pipe would be empty when the layer is packed.
    fn open(path: &'a Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(Error::reading(path))?;
        if !metadata.is_file() {
            let problem = "it is no regular file, and a layer's tar is read twice";
            let name = path.display().to_string();
            return Err(Error::document(name, Location::Whole, problem));
        }
        let file = File::open(path).map_err(Error::reading(path))?;
        Ok(Self { file, path })
    }
}

impl Read for Named<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(Error::reading(self.path)(error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    /// Counts what it is given.
    struct Counted {
        room: [u8; 512],
        taken: usize,
    }

    impl TarOutput for Counted {
        fn room(&mut self) -> Result<&mut [u8]> {
            Ok(&mut self.room)
        }

        fn advance(&mut self, n: usize) -> Result<()> {
            self.taken += n;
            Ok(())
        }
    }

    fn written(path: &Path, size: u64) -> (Result<()>, usize) {
        let tar = TarFile::known(path.to_owned(), DiffId::new(Digest::of(b"")), size);
        let mut out = Counted {
            room: [0; 512],
            taken: 0,
        };
        (tar.write(&Context::default(), &mut out), out.taken)
    }

    #[test]
    fn what_is_larger_than_it_was_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("layer.tar");
        fs::write(&file, vec![0; 1 << 20]).unwrap();
        let (result, taken) = written(&file, 1024);
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SizeMismatch { .. }));
        assert!(taken <= 1024 + 512, "{taken}");
    }

    #[test]
    fn what_is_no_file_is_not_read_at_all() {
        for path in ["/dev/zero", "/dev"] {
            let (result, taken) = written(Path::new(path), u64::MAX);
            let message = result.unwrap_err().to_string();
            assert!(message.contains("it is no regular file"), "{message}");
            assert_eq!(taken, 0);
        }
    }
}
