//! What the Nix daemon sends.

use std::collections::HashMap;
use std::sync::Arc;

use crate::closure::Closure;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::digest::DigestReader;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ExpectedNar, NarHash, StorePath};

use super::{ContentSource, Entry, NarOrigin, NarReader};

/// The store of a Nix daemon, for those who may not read its files.
///
/// Each store path comes as a NAR, and nothing of it is kept. Every NAR is
/// checked against its hash: the protocol has no other way to tell a daemon's
/// error in the middle of one from a file's contents. What a visitor got before
/// the hash turned out wrong is wrong too: the error comes at the end of the
/// store path.
#[derive(Debug)]
pub struct DaemonContent {
    daemon: Arc<Daemon>,
    expected: HashMap<StorePath, ExpectedNar>,
}

impl DaemonContent {
    /// Reads from `daemon`, which tells the hashes itself.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self {
            daemon,
            expected: HashMap::new(),
        }
    }

    /// Expects the NAR hashes and sizes of a closure, as far as it tells them:
    /// those that another source told, perhaps.
    #[must_use]
    pub fn for_closure(mut self, closure: &Closure) -> Self {
        let told = closure.expected_nars();
        let told = told.map(|(path, nar)| (path.clone(), nar));
        self.expected.extend(told);
        self
    }

    /// Expects these NAR hashes and sizes.
    #[must_use]
    pub fn expecting(mut self, nars: &HashMap<StorePath, ExpectedNar>) -> Self {
        let nars = nars.iter().map(|(path, nar)| (path.clone(), *nar));
        self.expected.extend(nars);
        self
    }

    /// Returns what the NAR must be, as the closure or the daemon tells it.
    fn expected(&self, cx: &Context, path: &StorePath) -> Result<ExpectedNar> {
        if let Some(expected) = self.expected.get(path) {
            return Ok(*expected);
        }
        let missing = |problem: &str| -> Error {
            ErrorKind::Daemon {
                socket: self.daemon.socket().display().to_string(),
                action: format!("send the content of {}", self.daemon.store_dir().join(path)),
                problem: problem.to_owned(),
                source: None,
            }
            .into()
        };
        let info = self.daemon.path_info(cx, path)?;
        let info = info.ok_or_else(|| missing("it does not have it"))?;
        let expected = info.expected_nar();
        expected.ok_or_else(|| missing("its NAR hash is not known"))
    }
}

impl ContentSource for DaemonContent {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let expected = self.expected(cx, path)?;
        let origin = NarOrigin {
            from: self.daemon.name(),
            path: self.daemon.store_dir().join(path),
        };
        self.daemon.read_nar(cx, path, |nar| {
            let mut reader = NarReader::buffered(DigestReader::new(nar), origin.clone());
            if let Some(nar_size) = expected.nar_size {
                reader = reader.with_nar_size(nar_size);
            }
            reader.visit_one(cx, visitor)?;
            let (_, digest, _) = reader.into_inner().finish();
            let found = NarHash::new(*digest.as_bytes());
            if found == expected.nar_hash {
                return Ok(());
            }
            let NarOrigin { from, path } = origin;
            let problem = format!("it has NAR hash {found}, expected {}", expected.nar_hash);
            Err(ErrorKind::Nar {
                from,
                path,
                problem,
            }
            .into())
        })
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        self.daemon.has(cx, path)
    }
}
