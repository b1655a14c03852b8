//! What the Nix daemon sends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// What it told of paths that were looked up; None of those that it does not
    /// have.
    told: Mutex<HashMap<StorePath, Option<ExpectedNar>>>,
}

impl DaemonContent {
    /// Reads from `daemon`, which tells the hashes itself.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self {
            daemon,
            expected: HashMap::new(),
            told: Mutex::default(),
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

    fn told(&self) -> MutexGuard<'_, HashMap<StorePath, Option<ExpectedNar>>> {
        // Every change is one step, so that no panic breaks it.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the NAR must be, as the closure or the daemon tells it.
    fn expected(&self, cx: &Context, path: &StorePath) -> Result<ExpectedNar> {
        if let Some(expected) = self.expected.get(path) {
            return Ok(*expected);
        }
        if let Some(Some(told)) = self.told().get(path) {
            return Ok(*told);
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

    fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        let mut unknown = paths.to_vec();
        {
            let told = self.told();
            unknown.retain(|path| !told.contains_key(path));
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let infos = self.daemon.path_infos(cx, &unknown)?;
        let mut told = self.told();
        told.extend(unknown.into_iter().map(|path| (path, None)));
        let known = infos.into_iter().map(|info| {
            let expected = info.expected_nar();
            (info.path, expected)
        });
        told.extend(known);
        Ok(())
    }

    fn nar_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        if let Some(told) = self.told().get(path) {
            return Ok(told.and_then(|nar| nar.nar_size));
        }
        let info = self.daemon.path_info(cx, path)?;
        Ok(info.and_then(|info| info.nar_size))
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        if let Some(told) = self.told().get(path) {
            return Ok(told.is_some());
        }
        self.daemon.has(cx, path)
    }
}
