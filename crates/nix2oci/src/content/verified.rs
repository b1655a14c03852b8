//! Content that is checked against its NAR hash while it is read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::closure::Closure;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{NarHash, StoreDir, StorePath};

use super::nar::NarHasher;
use super::{ContentSource, Contents, Entry};

/// Contents that a visitor leaves unread are read in pieces of this size.
const DRAIN_SIZE: usize = 16 << 10;

/// Another source whose store paths must have the NAR hashes of a closure.
///
/// Costs one more SHA-256 over every file; reads nothing twice. What a visitor
/// got before the hash turned out wrong is wrong too: the error comes at the
/// end of the store path.
pub struct VerifiedContent {
    inner: Arc<dyn ContentSource>,
    expected: HashMap<StorePath, (String, NarHash)>,
    /// Whether store paths that nothing is known of are given as they are.
    lets_others_pass: bool,
}

impl VerifiedContent {
    /// Checks what `inner` gives.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a NAR hash is not known: then there is
    /// nothing to check against.
    pub fn new(inner: Arc<dyn ContentSource>, closure: &Closure) -> Result<Self> {
        let mut expected = HashMap::with_capacity(closure.len());
        for id in closure.ids() {
            let full = closure.full_path(id);
            let Some(nar_hash) = closure.info(id).nar_hash else {
                return Err(unknown(full));
            };
            expected.insert(closure.path(id).clone(), (full, nar_hash));
        }
        Ok(Self {
            inner,
            expected,
            lets_others_pass: false,
        })
    }
}

impl VerifiedContent {
    /// Checks of what `inner` gives the store paths whose NAR hashes are known,
    /// and gives others as they are; `store_dir` is the directory of all.
    pub(super) fn of_known<'a>(
        inner: Arc<dyn ContentSource>,
        store_dir: &StoreDir,
        known: impl IntoIterator<Item = (&'a StorePath, NarHash)>,
    ) -> Self {
        let known = known.into_iter();
        let expected = known.map(|(path, hash)| (path.clone(), (store_dir.join(path), hash)));
        Self {
            inner,
            expected: expected.collect(),
            lets_others_pass: true,
        }
    }

    /// Checks other paths as well, which are not in the closure; `store_dir` is
    /// their directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a NAR hash is not known.
    pub fn and_paths<'a>(
        mut self,
        store_dir: &StoreDir,
        paths: impl IntoIterator<Item = (&'a StorePath, Option<NarHash>)>,
    ) -> Result<Self> {
        for (path, nar_hash) in paths {
            let full = store_dir.join(path);
            let Some(nar_hash) = nar_hash else {
                return Err(unknown(full));
            };
            self.expected.insert(path.clone(), (full, nar_hash));
        }
        Ok(self)
    }
}

fn unknown(full: String) -> Error {
    let problem = "its NAR hash is not known, so its content cannot be verified";
    Error::invalid(full, problem)
}

impl ContentSource for VerifiedContent {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.lets_others_pass && !self.expected.contains_key(path) {
            return self.inner.visit(cx, path, visitor);
        }
        let mut nar = NarHasher::new();
        self.inner.visit(cx, path, &mut |entry| {
            nar.entry(&entry);
            match entry {
                Entry::File {
                    path,
                    executable,
                    size,
                    contents,
                } => {
                    let mut tee = Tee {
                        inner: contents,
                        nar: &mut nar,
                    };
                    visitor(Entry::File {
                        path,
                        executable,
                        size,
                        contents: &mut tee,
                    })?;
                    tee.drain()?;
                    nar.end_file(size);
                    Ok(())
                }
                other => visitor(other),
            }
        })?;
        let found = nar.finish_hash();
        match self.expected.get(path) {
            Some((_, expected)) if *expected == found => Ok(()),
            Some((full, expected)) => Err(ErrorKind::NarHashMismatch {
                path: full.clone(),
                expected: *expected,
                found,
                also: Vec::new(),
            }
            .into()),
            None => Err(Error::invalid(
                path.as_str(),
                "it is not in the closure that is verified",
            )),
        }
    }

    fn expect(&self, cx: &Context, paths: &[StorePath]) {
        self.inner.expect(cx, paths);
    }

    fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        self.inner.look_up(cx, paths)
    }

    fn nar_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        self.inner.nar_size(cx, path)
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        self.inner.has(cx, path)
    }

    fn download_size(&self, cx: &Context, path: &StorePath) -> Result<u64> {
        self.inner.download_size(cx, path)
    }
}

/// Hashes what is read.
struct Tee<'a> {
    inner: &'a mut dyn Contents,
    nar: &'a mut NarHasher,
}

impl Tee<'_> {
    fn drain(&mut self) -> Result<()> {
        let mut buf = [0; DRAIN_SIZE];
        while self.read(&mut buf)? > 0 {}
        Ok(())
    }
}

impl Contents for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(buf)?;
        self.nar.contents(&buf[..n]);
        Ok(n)
    }
}
