//! Many store paths at once, and what they refer to.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, mpsc};

use bytes::Bytes;

use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Answered;
use crate::store::StorePath;

use super::BinaryCaches;
use super::cache::{Cache, Known, wait};

/// Bytes of narinfos of one walk, those that were kept among them. A large system has 20 MiB; a cache that is
/// believed without signatures could go on forever.
const MAX_BYTES: u64 = 256 << 20;

/// So many paths further, progress is told again.
const TELL_EVERY: usize = 32;

/// Which paths are asked for besides those that are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// All that they refer to, and so on.
    References,
    /// None.
    Nothing,
}

/// Asks for paths as they become known, of each cache as many at once as it
/// has jobs.
///
/// A path is asked for in one cache after the other, and paths do not wait for
/// each other: while one waits for the second cache, its like are asked for in
/// the first.
pub(super) struct Walk<'a> {
    all: &'a BinaryCaches,
    caches: &'a [Cache],
    follow: Follow,
    /// Cancelled when the walk ends, so that requests do.
    cx: Context,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
    /// For each cache the paths to ask for, and how many are on their way.
    queues: Vec<Queue>,
    seen: HashSet<StorePath>,
    /// Known and not followed yet.
    fresh: Vec<Arc<Known>>,
    found: Vec<Arc<Known>>,
    bytes: u64,
    max_bytes: u64,
    told: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Asked>,
    running: usize,
}

/// A path that is asked for.
struct Asked {
    path: StorePath,
    /// What was wrong with a cache before.
    failure: Option<Error>,
}

struct Answer {
    cache: usize,
    asked: Asked,
    answer: Result<Answered<Bytes>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        cx: &Context,
        all: &'a BinaryCaches,
        caches: &'a [Cache],
        follow: Follow,
    ) -> Self {
        let (sender, answers) = mpsc::channel();
        Self {
            all,
            caches,
            follow,
            cx: cx.child(),
            sender,
            answers,
            queues: caches.iter().map(|_| Queue::default()).collect(),
            seen: HashSet::new(),
            fresh: Vec::new(),
            found: Vec::new(),
            bytes: 0,
            max_bytes: MAX_BYTES,
            told: 0,
        }
    }

    /// Asks for all, and returns those that a cache has.
    pub(super) fn run(mut self, paths: &[StorePath]) -> Result<Vec<Arc<Known>>> {
        for path in paths {
            self.want(path)?;
        }
        loop {
            while let Some(known) = self.fresh.pop() {
                if self.follow == Follow::References {
                    for reference in &known.info.references {
                        self.want(reference)?;
                    }
                }
                self.found.push(known);
            }
            self.tell(TELL_EVERY);
            self.send();
            if self.queues.iter().all(|queue| queue.running == 0) {
                break;
            }
            let answer = wait(&self.cx, &self.answers)?;
            self.take(answer)?;
        }
        self.tell(1);
        Ok(std::mem::take(&mut self.found))
    }

    /// Asks for a path, if nobody did.
    fn want(&mut self, path: &StorePath) -> Result<()> {
        if !self.seen.insert(path.clone()) {
            return Ok(());
        }
        match self.all.remembered(path) {
            Some(Some(known)) => self.fresh.push(known),
            // No cache had it a moment ago.
            Some(None) => {}
            None => {
                let path = path.clone();
                let failure = None;
                return self.ask_from(0, Asked { path, failure });
            }
        }
        Ok(())
    }

    /// Asks the first cache for a path that can have it, from this one on.
    fn ask_from(&mut self, first: usize, asked: Asked) -> Result<()> {
        let mut left_out = None;
        for (number, cache) in self.caches.iter().enumerate().skip(first) {
            match cache.kept(number, &asked.path) {
                Some(None) => {}
                Some(Some(known)) => {
                    self.count(cache, &asked.path, known.info_size)?;
                    self.know(known);
                    return Ok(());
                }
                None if cache.is_down() => left_out = left_out.or(Some(cache)),
                None => {
                    self.queues[number].waiting.push_back(asked);
                    return Ok(());
                }
            }
        }
        match (asked.failure, left_out) {
            (Some(failure), _) => Err(failure),
            // It may well have the path.
            (None, Some(cache)) => Err(ErrorKind::Answer {
                host: cache.name.clone(),
                action: cache.wanted(&asked.path).action,
                status: None,
                problem: "it failed before and is not asked any more".to_owned(),
            }
            .into()),
            (None, None) => {
                self.all.remember(&asked.path, None);
                Ok(())
            }
        }
    }

    /// Counts the bytes of a narinfo, of which there may not be too many.
    fn count(&mut self, cache: &Cache, path: &StorePath, size: u64) -> Result<()> {
        self.bytes += size;
        if self.bytes <= self.max_bytes {
            return Ok(());
        }
        Err(ErrorKind::NarInfo {
            from: cache.name.clone(),
            path: self.all.store_dir().join(path),
            problem: format!(
                "with it, the narinfos of the closure have more than {} bytes",
                self.max_bytes
            ),
        }
        .into())
    }

    fn know(&mut self, known: Known) {
        let known = Arc::new(known);
        self.all
            .remember(&known.info.path, Some(Arc::clone(&known)));
        self.fresh.push(known);
    }

    /// Sends as many requests as may run.
    fn send(&mut self) {
        let jobs = self.all.options().jobs.get();
        for (number, cache) in self.caches.iter().enumerate() {
            while self.queues[number].running < jobs {
                let Some(asked) = self.queues[number].waiting.pop_front() else {
                    break;
                };
                self.queues[number].running += 1;
                let wanted = cache.wanted(&asked.path);
                let sender = self.sender.clone();
                let reply = Box::new(move |answer| {
                    // Nobody takes it if the walk has ended.
                    let _ = sender.send(Answer {
                        cache: number,
                        asked,
                        answer,
                    });
                });
                cache.files.ask(&self.cx, wanted, reply);
            }
        }
    }

    /// Takes an answer, and asks the next cache if it is of no use.
    fn take(&mut self, answer: Answer) -> Result<()> {
        let Answer {
            cache: number,
            mut asked,
            answer,
        } = answer;
        let cache = &self.caches[number];
        self.queues[number].running -= 1;
        if let Ok(Answered::Given(bytes)) = &answer {
            self.count(cache, &asked.path, bytes.len() as u64)?;
        }
        let read = answer.and_then(|bytes| cache.take(&self.cx, number, &asked.path, bytes));
        match read {
            Ok(Some(known)) => {
                self.know(known);
                Ok(())
            }
            Ok(None) => self.ask_from(number + 1, asked),
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Cancelled) || number + 1 == self.caches.len() {
                    return Err(asked.failure.unwrap_or(error));
                }
                cache.failed(&self.cx, &error);
                asked.failure.get_or_insert(error);
                self.ask_from(number + 1, asked)
            }
        }
    }

    /// Tells how many paths are known, if they are so many more.
    fn tell(&mut self, more: usize) {
        let paths = self.found.len();
        if self.follow == Follow::References && paths >= self.told + more {
            self.told = paths;
            self.cx.observer.event(&Event::ClosureProgress { paths });
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.cx.cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::test_cache::{TestCache, caches, fixture_path, options};
    use super::super::{CacheOptions, NarInfoCache};
    use super::*;

    #[test]
    fn narinfos_have_a_bound_wherever_they_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let one = TestCache::new();
        let cx = Context::default();
        let walk = |max_bytes| {
            let options = CacheOptions {
                info_cache: Some(NarInfoCache::new(dir.path(), SystemTime::UNIX_EPOCH)),
                ..options()
            };
            let all = caches(&[("https://one.example", &one)], options);
            let ready = all.caches(&cx).unwrap();
            let mut walk = Walk::new(&cx, &all, &ready, Follow::References);
            walk.max_bytes = max_bytes;
            let found = walk.run(&[fixture_path("plain")])?;
            Ok::<u64, Error>(found.iter().map(|known| known.info_size).sum())
        };
        let size = walk(MAX_BYTES).unwrap();
        for is_kept in [true, false] {
            if !is_kept {
                let kept = NarInfoCache::new(dir.path(), SystemTime::UNIX_EPOCH);
                kept.clear().unwrap();
            }
            one.take_asked();
            let error = walk(size - 1).unwrap_err().to_string();
            assert_eq!(one.take_asked().is_empty(), is_kept);
            let expected = format!("have more than {} bytes", size - 1);
            assert!(error.ends_with(&expected), "{error}");
            assert_eq!(walk(size).unwrap(), size);
        }
    }
}
