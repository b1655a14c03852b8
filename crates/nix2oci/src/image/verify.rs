//! Bytes that are only believed when their digest is right.

use std::fmt;
use std::io::{self, Read};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind};

/// A reader that fails unless the bytes are those of a descriptor.
///
/// The last bytes are handed out only if the digest of all of them is right,
/// so that a caller who reads exactly as many bytes as the descriptor says is
/// safe as well. A stream that goes on after them fails at the next read.
///
/// The failure is an [`io::Error`] that carries an [`Error`] of kind
/// [`ErrorKind::DigestMismatch`] or [`ErrorKind::SizeMismatch`].
pub struct VerifyingReader<R> {
    inner: R,
    what: String,
    expected: Digest,
    size: u64,
    read: u64,
    hasher: Option<Hasher>,
}

impl<R: Read> VerifyingReader<R> {
    /// Starts to read `inner`, which must have `size` bytes of digest
    /// `expected`. `what` is how errors name it.
    pub fn new(inner: R, what: impl Into<String>, expected: Digest, size: u64) -> Self {
        Self {
            inner,
            what: what.into(),
            expected,
            size,
            read: 0,
            hasher: Some(Hasher::new()),
        }
    }

    fn wrong_size(&self, found: u64) -> io::Error {
        invalid(ErrorKind::SizeMismatch {
            what: self.what.clone(),
            expected: self.size,
            found,
        })
    }

    /// Checks the digest when all bytes passed.
    fn check(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let found = hasher.finish();
        if found == self.expected {
            return Ok(());
        }
        Err(invalid(ErrorKind::DigestMismatch {
            what: self.what.clone(),
            expected: self.expected,
            found,
        }))
    }
}

fn invalid(kind: ErrorKind) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Error::from(kind))
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.read == self.size {
            self.check()?;
            // Only the size can still be wrong.
            return match self.inner.read(&mut buf[..1])? {
                0 => Ok(0),
                n => Err(self.wrong_size(self.size + n as u64)),
            };
        }
        let left = usize::try_from(self.size - self.read).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let n = self.inner.read(&mut buf[..want])?;
        if n == 0 {
            return Err(self.wrong_size(self.read));
        }
        self.read += n as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        if self.read == self.size {
            self.check()?;
        }
        Ok(n)
    }
}

impl<R> fmt::Debug for VerifyingReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingReader")
            .field("what", &self.what)
            .field("expected", &self.expected)
            .field("size", &self.size)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], digest: Digest, size: u64) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        VerifyingReader::new(bytes, "the layer", digest, size)
            .read_to_end(&mut out)
            .map_err(|error| error.downcast::<Error>().unwrap())?;
        Ok(out)
    }

    #[test]
    fn right_bytes_pass() {
        for bytes in [&b""[..], b"x", &[7; 100_000]] {
            let digest = Digest::of(bytes);
            assert_eq!(read(bytes, digest, bytes.len() as u64).unwrap(), bytes);
        }
    }

    #[test]
    fn wrong_bytes_fail() {
        let digest = Digest::of(b"right");
        for (bytes, size, expected) in [
            (&b"wrong"[..], 5, "the layer has digest sha256:"),
            (b"righ", 5, "the layer has 4 bytes, expected 5"),
            (b"right!", 5, "the layer has 6 bytes, expected 5"),
            (b"", 5, "the layer has 0 bytes, expected 5"),
            (b"", 0, "the layer has digest sha256:"),
        ] {
            let error = read(bytes, digest, size).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_last_wrong_byte_is_not_handed_out() {
        let mut reader = VerifyingReader::new(&b"wrong"[..], "it", Digest::of(b"right"), 5);
        let mut buffer = [0; 5];
        assert!(reader.read_exact(&mut buffer[..4]).is_ok());
        assert!(reader.read_exact(&mut buffer[4..]).is_err());
    }
}
