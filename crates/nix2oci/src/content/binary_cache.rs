//! What is in store paths as binary caches give it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::binary_cache::{Begun, BinaryCaches};
use crate::closure::Closure;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ExpectedNar, StorePath};

use super::nar_read::{NarOrigin, NarReader};
use super::{ContentSource, Entry};

/// NARs that are fetched ahead of who reads them, and the bytes of each that
/// wait: 32 MiB together.
const AHEAD: usize = 8;
const AHEAD_BYTES: usize = 4 << 20;

/// How long a NAR that is read now may wait for its answer while others are on
/// their way that nobody reads yet. A server with few workers answers one after
/// the other, and the one before ends only when somebody reads it.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Store paths whose NARs come from binary caches, decompressed and checked
/// while they are read, and never on disk.
///
/// What a visitor got before the end turned out wrong is wrong too: the error
/// comes at the end of the store path at the latest. Of the paths that it is
/// told to expect, up to 8 NARs are begun before they are visited, of each at
/// most 4 MiB; of a cache that keeps a visitor waiting for that, none any more.
#[derive(Debug)]
pub struct BinaryCacheContent {
    caches: Arc<BinaryCaches>,
    expected: HashMap<StorePath, ExpectedNar>,
    coming: Mutex<Coming>,
    /// Whether all that is expected was looked up, as far as it is known.
    is_looked_up: AtomicBool,
    answer_wait: Duration,
}

/// What will be visited soon.
#[derive(Default)]
struct Coming {
    /// For each layer that is packed the paths that were not begun.
    queues: VecDeque<VecDeque<StorePath>>,
    begun: HashMap<StorePath, Begun>,
}

impl std::fmt::Debug for Coming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coming")
            .field("queues", &self.queues)
            .field("begun", &self.begun.len())
            .finish()
    }
}

impl BinaryCacheContent {
    /// Reads store paths from caches. The NARs of those that are in `expected`
    /// must have these hashes and sizes; those of others the ones that the
    /// caches tell and are believed to tell.
    pub fn new(caches: Arc<BinaryCaches>, expected: HashMap<StorePath, ExpectedNar>) -> Self {
        Self {
            caches,
            expected,
            coming: Mutex::default(),
            is_looked_up: AtomicBool::new(false),
            answer_wait: ANSWER_WAIT,
        }
    }

    /// Reads the store paths of a closure, whose NAR hashes count as far as they
    /// are known.
    pub fn for_closure(caches: Arc<BinaryCaches>, closure: &Closure) -> Self {
        let expected = closure.expected_nars();
        let expected = expected.map(|(path, nar)| (path.clone(), nar));
        Self::new(caches, expected.collect())
    }

    fn coming(&self) -> MutexGuard<'_, Coming> {
        // Every change is one step, so that no panic breaks it.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to fetch what comes next, as much as may be.
    fn begin(&self, cx: &Context, coming: &mut Coming) {
        let mut idle = 0;
        while coming.begun.len() < AHEAD && idle < coming.queues.len() {
            let Some(mut queue) = coming.queues.pop_front() else {
                break;
            };
            // Whoever visits one that nobody asked for asks for all of them.
            let next = queue.front().filter(|path| self.caches.is_known(path));
            if let Some(path) = next.cloned() {
                queue.pop_front();
                idle = 0;
                if let Some(expected) = self.expected.get(&path) {
                    let begun = Begun::begin(cx, &self.caches, &path, Some(*expected), AHEAD_BYTES);
                    coming.begun.extend(begun.map(|begun| (path, begun)));
                }
            } else {
                idle += 1;
            }
            if !queue.is_empty() {
                coming.queues.push_back(queue);
            }
        }
    }

    /// Ends all that is on its way ahead from the cache that has a path, and
    /// begins nothing there any more, if that may be why it does not give the
    /// path: then it is worth to ask again. Some servers have few connections at
    /// a time, and refuse others or let them wait.
    fn stand_alone(&self, path: &StorePath, was_begun: bool) -> bool {
        let Some(number) = self.caches.number_of(path) else {
            return false;
        };
        let mut coming = self.coming();
        let all = coming.begun.len();
        coming.begun.retain(|_, begun| begun.number() != number);
        let is_reason = was_begun || coming.begun.len() < all;
        if is_reason {
            self.caches.begin_no_more(number);
        }
        is_reason
    }

    /// Waits for the answer to what was begun; false if it is worth to ask again
    /// in its place.
    fn is_answered(&self, path: &StorePath, begun: &Begun, was_ahead: bool) -> bool {
        while !begun.is_answered_within(self.answer_wait) {
            if self.stand_alone(path, was_ahead) {
                return false;
            }
        }
        true
    }

    /// Asks for what is visited now and for all that comes, if nobody did.
    fn learn(&self, cx: &Context, path: &StorePath) -> Result<()> {
        if self.caches.is_known(path) {
            return Ok(());
        }
        let mut paths = vec![path.clone()];
        paths.extend(self.coming().queues.iter().flatten().cloned());
        self.caches.look_up(cx, &paths)
    }
}

/// Returns whether a server refused or said nothing, as one does that is asked
/// for too much at once.
fn is_of_the_server(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Connection { .. }
            | ErrorKind::Answer {
                status: Some(_),
                ..
            }
    )
}

impl ContentSource for BinaryCacheContent {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let begun = {
            let mut coming = self.coming();
            for queue in &mut coming.queues {
                queue.retain(|other| other != path);
            }
            coming.begun.remove(path)
        };
        self.learn(cx, path)?;
        let expected = self.expected.get(path).copied();
        let was_ahead = begun.is_some();
        let begun = begun.or_else(|| Begun::begin(cx, &self.caches, path, expected, AHEAD_BYTES));
        let begun = begun.filter(|begun| self.is_answered(path, begun, was_ahead));
        let stream = match self.caches.open_begun(cx, path, expected, begun) {
            Err(error) if is_of_the_server(&error) && self.stand_alone(path, was_ahead) => {
                self.caches.open_nar(cx, path, expected)?
            }
            opened => opened?,
        };
        self.begin(cx, &mut self.coming());
        let origin = NarOrigin {
            from: stream.from(),
            path: self.caches.store_dir().join(path),
        };
        let nar_size = stream.nar_size();
        let mut reader = NarReader::new(stream, origin).with_nar_size(nar_size);
        reader.visit(cx, visitor)?;
        reader.into_inner().into_inner().finish()
    }

    fn expect(&self, cx: &Context, paths: &[StorePath]) {
        let mut coming = self.coming();
        let known: HashSet<&StorePath> = coming
            .queues
            .iter()
            .flatten()
            .chain(coming.begun.keys())
            .collect();
        let queue: VecDeque<_> = paths
            .iter()
            .filter(|path| !known.contains(path))
            .cloned()
            .collect();
        coming.queues.push_back(queue);
        self.begin(cx, &mut coming);
    }

    fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        self.caches.look_up(cx, paths)
    }

    /// Tells what a cache says that is believed; a NAR that has another size is
    /// an error when it is visited.
    fn nar_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        Ok(self.caches.info(cx, path)?.map(|info| info.nar_size))
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        Ok(self.caches.info(cx, path)?.is_some())
    }

    /// Looks all paths up that are expected, the first time that one is not
    /// known: who asks for one asks for others.
    fn download_size(&self, cx: &Context, path: &StorePath) -> Result<u64> {
        if !self.caches.is_known(path) && !self.is_looked_up.swap(true, Ordering::Relaxed) {
            let mut paths: Vec<_> = self.expected.keys().cloned().collect();
            paths.sort_unstable();
            self.caches.look_up(cx, &paths)?;
        }
        let size = self.caches.download_size(cx, path)?;
        size.ok_or_else(|| {
            ErrorKind::UnknownPath {
                path: self.caches.store_dir().join(path),
                from: self.caches.name(),
            }
            .into()
        })
    }
}

#[cfg(test)]
#[path = "binary_cache_tests.rs"]
mod tests;
