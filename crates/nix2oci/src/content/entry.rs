//! A store path as NAR sees it.

use crate::context::Context;
use crate::error::Result;
use crate::store::StorePath;

/// One file system object of a store path.
///
/// `path` is relative to the store path, empty for the store path itself, with
/// `/` between names; names are bytes, not text.
pub enum Entry<'a> {
    /// A directory. What is in it follows.
    Directory {
        /// Where.
        path: &'a [u8],
    },
    /// A regular file.
    File {
        /// Where.
        path: &'a [u8],
        /// Whether its owner may execute it.
        executable: bool,
        /// Its bytes.
        size: u64,
        /// Gives exactly `size` bytes, or fails.
        contents: &'a mut dyn Contents,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        path: &'a [u8],
        /// What it holds.
        target: &'a [u8],
    },
}

impl Entry<'_> {
    /// Returns where the object is, relative to the store path.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Directory { path } | Self::File { path, .. } | Self::Symlink { path, .. } => path,
        }
    }
}

/// A file's bytes; its errors name the file.
pub trait Contents {
    /// Reads into `buf` and returns the bytes read: 0 only if `buf` is empty
    /// or all bytes were read.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize>;
}

impl Contents for &[u8] {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = self.len().min(buf.len());
        buf[..n].copy_from_slice(&self[..n]);
        *self = &self[n..];
        Ok(n)
    }
}

/// Visits store paths.
///
/// An implementer gives each object once, a directory before what is in it,
/// the names of a directory in the order of their bytes (NAR's order), and
/// nothing but directories, regular files and symbolic links; it fails for
/// anything else. What it gives depends on the NAR serialisation of the store
/// path only. It asks `cx.cancel` once per object. It may be called from many
/// threads at a time.
pub trait ContentSource: Send + Sync {
    /// Calls `visitor` for `path` and everything in it; stops at the first
    /// error and returns it. The visitor need not read a file's contents.
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()>;

    /// Hears of store paths that will be visited soon, in this order: a source
    /// far away begins to fetch them. Returns at once, and promises nothing;
    /// each visit says what is wrong by itself. Wrappers hand it on.
    fn expect(&self, _cx: &Context, _paths: &[StorePath]) {}

    /// Hears of store paths that the questions below will be asked of: a source
    /// far away learns the answers of all of them at once, so that nobody waits
    /// for each. Wrappers hand it on.
    fn look_up(&self, _cx: &Context, _paths: &[StorePath]) -> Result<()> {
        Ok(())
    }

    /// Returns whether the source has a store path at all. Most only know when
    /// they visit it, and say that they have.
    fn has(&self, _cx: &Context, _path: &StorePath) -> Result<bool> {
        Ok(true)
    }

    /// Returns the bytes of a store path's NAR serialisation if it is known
    /// without a visit.
    fn nar_size(&self, _cx: &Context, _path: &StorePath) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Returns the bytes that a visit of a store path brings over the network;
    /// 0 for a source on this machine.
    fn download_size(&self, _cx: &Context, _path: &StorePath) -> Result<u64> {
        Ok(0)
    }
}
