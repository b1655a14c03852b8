//! A file of a cache, whose size and hash are checked while it is read.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha512};

use crate::context::{Context, Event};
use crate::digest::Hasher;

use super::NarInfo;
use super::content_address::{HashAlgorithm, TypedHash};

/// So many bytes further, what came over the network is told again.
const TELL_EVERY: u64 = 256 << 10;

/// What is wrong with a file, on its way through a decoder.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct FileProblem(pub(super) String);

/// A file as the cache has it, whose size and hash are checked.
pub(super) struct CheckedFile {
    input: Box<dyn Read + Send>,
    cx: Context,
    is_remote: bool,
    /// Bytes that came over the network and were not told yet.
    untold: u64,
    size: u64,
    expected_size: Option<u64>,
    hash: Option<FileHasher>,
    expected_hash: Option<TypedHash>,
    is_right: Arc<AtomicBool>,
}

impl CheckedFile {
    /// Reads the file of a NAR. Fails with what is wrong if its hash is of a
    /// kind that is of no use.
    pub(super) fn new(
        cx: &Context,
        input: Box<dyn Read + Send>,
        is_remote: bool,
        info: &NarInfo,
    ) -> Result<Self, String> {
        Ok(Self {
            input,
            cx: cx.clone(),
            is_remote,
            untold: 0,
            size: 0,
            expected_size: info.file_size,
            hash: info.file_hash.as_ref().map(FileHasher::new).transpose()?,
            expected_hash: info.file_hash.clone(),
            is_right: Arc::default(),
        })
    }

    /// Returns what is set when all of the file was read and found to be right.
    pub(super) fn is_right(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_right)
    }

    fn tell(&mut self) {
        let bytes = std::mem::take(&mut self.untold);
        if bytes > 0 {
            self.cx.observer.event(&Event::Downloaded { bytes });
        }
    }

    /// Checks the file at its end.
    fn check(&mut self) -> Result<(), String> {
        if let Some(expected) = self.expected_size.filter(|size| *size != self.size) {
            return Err(format!(
                "its file ends after {} bytes, expected {expected}",
                self.size
            ));
        }
        if let (Some(hash), Some(expected)) = (self.hash.take(), &self.expected_hash) {
            let found = hash.finish();
            if *expected.as_bytes() != *found {
                let found = expected.with_bytes(&found);
                return Err(format!("its file has hash {found}, expected {expected}"));
            }
        }
        self.is_right.store(true, Ordering::Release);
        Ok(())
    }
}

impl Read for CheckedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.is_right.load(Ordering::Acquire) {
            return Ok(0);
        }
        let n = self.input.read(buf)?;
        let failed = |problem| io::Error::other(FileProblem(problem));
        if n == 0 {
            self.tell();
            self.check().map_err(failed)?;
            return Ok(0);
        }
        self.size += n as u64;
        if let Some(expected) = self.expected_size.filter(|size| *size < self.size) {
            return Err(failed(format!("its file has more than {expected} bytes")));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buf[..n]);
        }
        if self.is_remote {
            self.untold += n as u64;
            if self.untold >= TELL_EVERY {
                self.tell();
            }
        }
        Ok(n)
    }
}

impl Drop for CheckedFile {
    fn drop(&mut self) {
        self.tell();
    }
}

/// A hash of a file, which caches tell in one of these kinds.
enum FileHasher {
    Sha256(Hasher),
    Sha512(Box<Sha512>),
}

impl FileHasher {
    fn new(expected: &TypedHash) -> Result<Self, String> {
        match expected.algorithm() {
            HashAlgorithm::Sha256 => Ok(Self::Sha256(Hasher::new())),
            HashAlgorithm::Sha512 => Ok(Self::Sha512(Box::default())),
            HashAlgorithm::Md5 | HashAlgorithm::Sha1 => Err(format!(
                "its file has hash {expected}, expected one by SHA-256 or SHA-512"
            )),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.finish().as_bytes().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}
