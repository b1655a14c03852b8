//! Several caches, asked in turn.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use bytes::Bytes;

use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Answered;
use crate::store::{ExpectedNar, StoreDir, StorePath};

use super::cache::{Cache, Known, Told, wait};
use super::cache_info::{DEFAULT_PRIORITY, MAX_CACHE_INFO_SIZE, NixCacheInfo};
use super::files::{CacheFiles, Folder, Wanted};
use super::nar_stream::{Begun, NarStream};
use super::server::{Network, Server};
use super::url::Place;
use super::walk::{Follow, Walk};
use super::{CacheOptions, CacheUrl, NarInfo, Trust};

/// The file in which a cache says what it is.
const CACHE_INFO: &str = "nix-cache-info";

/// Binary caches that are asked in turn: those of smaller priority first, and
/// as they were given among those of the same.
///
/// The first one that has a store path counts. One that fails, or says what is
/// not believed, is passed over with a warning; only if no other one has the
/// path, what was wrong is an error. What was found is remembered, so a path is
/// asked for once.
pub struct BinaryCaches {
    store_dir: StoreDir,
    options: CacheOptions,
    urls: Vec<CacheUrl>,
    /// Set when they were asked what they are. Held while they are asked, once:
    /// whoever waits for it would have to ask the same. Later it is held for as
    /// long as a count takes, however many layers are read side by side.
    ready: Mutex<Option<Arc<[Cache]>>>,
    known: Mutex<HashMap<StorePath, Option<Arc<Known>>>>,
    connect: Connect,
}

/// Makes what gives the files of a cache.
pub(super) type Connect =
    Box<dyn Fn(&CacheUrl, &CacheOptions) -> Result<Box<dyn CacheFiles>> + Send + Sync>;

impl fmt::Debug for BinaryCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinaryCaches")
            .field("store_dir", &self.store_dir)
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

impl BinaryCaches {
    /// Prepares to ask caches for the store paths of a directory. Asks nobody
    /// yet.
    pub fn new(store_dir: StoreDir, urls: Vec<CacheUrl>, options: CacheOptions) -> Arc<Self> {
        Self::connected_by(store_dir, urls, options, connect())
    }

    pub(super) fn connected_by(
        store_dir: StoreDir,
        urls: Vec<CacheUrl>,
        options: CacheOptions,
        connect: Connect,
    ) -> Arc<Self> {
        Arc::new(Self {
            store_dir,
            options,
            urls,
            ready: Mutex::default(),
            known: Mutex::default(),
            connect,
        })
    }

    /// Returns what they are called in errors: their addresses, as they were
    /// given.
    pub fn name(&self) -> String {
        let names: Vec<_> = self.urls.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    /// Returns where they are, as they were given.
    pub fn urls(&self) -> &[CacheUrl] {
        &self.urls
    }

    /// Returns the directory of the store paths.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// Returns what the first cache that has a store path says of it; None if
    /// none has it.
    ///
    /// # Errors
    ///
    /// What was wrong with a cache if none has the path and one failed:
    /// [`ErrorKind::Untrusted`], [`ErrorKind::NarInfo`], or those of the
    /// network. Always if no cache can be asked, or if one is of another store
    /// directory ([`ErrorKind::InvalidInput`]).
    pub fn info(&self, cx: &Context, path: &StorePath) -> Result<Option<Arc<NarInfo>>> {
        let known = self.known(cx, path)?;
        Ok(known.map(|known| Arc::clone(&known.info)))
    }

    /// Returns what the caches say of store paths and of all that these refer
    /// to, in any order. Asks for many at once. What no cache has is left out.
    ///
    /// # Errors
    ///
    /// Those of [`BinaryCaches::info`].
    pub fn closure(&self, cx: &Context, roots: &[StorePath]) -> Result<Vec<Arc<NarInfo>>> {
        let caches = self.caches(cx)?;
        let found = Walk::new(cx, self, &caches, Follow::References).run(roots)?;
        Ok(found
            .into_iter()
            .map(|known| Arc::clone(&known.info))
            .collect())
    }

    /// Asks for many store paths at once that are not known yet, so that
    /// [`BinaryCaches::info`] knows them.
    ///
    /// # Errors
    ///
    /// Those of [`BinaryCaches::info`].
    pub fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        let caches = self.caches(cx)?;
        Walk::new(cx, self, &caches, Follow::Nothing).run(paths)?;
        Ok(())
    }

    /// Opens the NAR of a store path, decompressed. `expected` is what it
    /// must be; without it, what the first cache says.
    ///
    /// What is read is right only if [`NarStream::finish`] says so.
    ///
    /// # Errors
    ///
    /// Those of [`BinaryCaches::info`], [`ErrorKind::UnknownPath`] if no cache
    /// has the path, [`ErrorKind::Nar`] if the caches say that the NAR is
    /// another one, [`ErrorKind::Answer`] if no cache has the NAR itself.
    pub fn open_nar(
        self: &Arc<Self>,
        cx: &Context,
        path: &StorePath,
        expected: Option<ExpectedNar>,
    ) -> Result<NarStream> {
        NarStream::open(cx, self, path, expected, None)
    }

    /// Opens a NAR that was begun before, perhaps; see
    /// [`BinaryCaches::open_nar`].
    pub(crate) fn open_begun(
        self: &Arc<Self>,
        cx: &Context,
        path: &StorePath,
        expected: Option<ExpectedNar>,
        begun: Option<Begun>,
    ) -> Result<NarStream> {
        NarStream::open(cx, self, path, expected, begun)
    }

    /// Returns the cache that is known to have a path, by its number.
    pub(crate) fn number_of(&self, path: &StorePath) -> Option<usize> {
        Some(self.remembered(path)??.cache)
    }

    /// Begins no NAR of a cache any more before somebody reads it.
    pub(crate) fn begin_no_more(&self, number: usize) {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = ready.as_ref().and_then(|caches| caches.get(number)) {
            cache.is_without_ahead.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether it is known already whether a cache has a path.
    pub(crate) fn is_known(&self, path: &StorePath) -> bool {
        self.remembered(path).is_some()
    }

    /// Returns the bytes that a path's NAR brings over the network: 0 from a
    /// folder; None if no cache has it.
    ///
    /// # Errors
    ///
    /// Those of [`BinaryCaches::info`].
    pub fn download_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        let Some(known) = self.known(cx, path)? else {
            return Ok(None);
        };
        let is_remote = self.caches(cx)?[known.cache].files.is_remote();
        Ok(Some(if is_remote {
            known.info.download_size()
        } else {
            0
        }))
    }

    /// Returns what is known of a path, and asks if nothing is.
    pub(super) fn known(&self, cx: &Context, path: &StorePath) -> Result<Option<Arc<Known>>> {
        if let Some(known) = self.remembered(path) {
            return Ok(known);
        }
        self.look_up(cx, std::slice::from_ref(path))?;
        Ok(self.remembered(path).flatten())
    }

    /// Returns what is known of a path already.
    pub(super) fn remembered(&self, path: &StorePath) -> Option<Option<Arc<Known>>> {
        self.memory().get(path).cloned()
    }

    /// Remembers what was found. What is known already stays: who used it goes
    /// on with it.
    pub(super) fn remember(&self, path: &StorePath, known: Option<Arc<Known>>) {
        match self.memory().entry(path.clone()) {
            Entry::Occupied(mut entry) if entry.get().is_none() => {
                entry.insert(known);
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(entry) => {
                entry.insert(known);
            }
        }
    }

    /// Remembers something else in place of what was wrong.
    pub(super) fn correct(&self, path: &StorePath, known: &Arc<Known>) {
        self.memory().insert(path.clone(), Some(Arc::clone(known)));
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<StorePath, Option<Arc<Known>>>> {
        // Every change is one step, so that no panic breaks it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// Returns the caches in their order; the first time it asks them what they
    /// are.
    pub(super) fn caches(&self, cx: &Context) -> Result<Arc<[Cache]>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caches) = &*ready {
            return Ok(Arc::clone(caches));
        }
        let caches: Arc<[Cache]> = self.prepare(cx)?.into();
        *ready = Some(Arc::clone(&caches));
        Ok(caches)
    }

    /// Asks all caches at once what they are.
    fn prepare(&self, cx: &Context) -> Result<Vec<Cache>> {
        let mut caches = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            tell_settings(cx, url);
            let files = (self.connect)(url, &self.options)?;
            // What is in a folder is as near as what would be kept of it.
            let kept = self.options.info_cache.clone();
            let kept = kept.filter(|_| files.is_remote());
            caches.push(Cache {
                name: url.to_string(),
                files,
                trust: if url.is_trusted() {
                    Trust::Everything
                } else {
                    self.options.trust.clone()
                },
                store_dir: self.store_dir.clone(),
                kept,
                is_down: AtomicBool::new(false),
                is_without_ahead: AtomicBool::new(false),
                told: Told::default(),
            });
        }
        let child = cx.child();
        let answers: Vec<_> = caches.iter().map(|cache| begin(&child, cache)).collect();
        let mut ordered = Vec::with_capacity(caches.len());
        let mut first_failure = None;
        for ((cache, url), answer) in caches.into_iter().zip(&self.urls).zip(answers) {
            let (answer, is_new) = match answer {
                Asked::Kept(bytes) => (Ok(Some(bytes)), false),
                Asked::Now(receiver) => (wait(cx, &receiver)?.map(Answered::given), true),
            };
            let said = answer.as_ref().ok().cloned().flatten();
            match self.understand(&cache, url, answer) {
                Ok(priority) => {
                    if let Some(bytes) = said.filter(|_| is_new) {
                        cache.keep_info(&bytes);
                    }
                    ordered.push((url.priority().unwrap_or(priority), cache));
                }
                Err(error) if is_users_mistake(&error) => return Err(error),
                Err(error) => {
                    if self.urls.len() > 1 {
                        cache.failed(cx, &error);
                    }
                    first_failure.get_or_insert(error);
                }
            }
        }
        match first_failure {
            Some(error) if ordered.is_empty() => return Err(error),
            _ => {}
        }
        ordered.sort_by_key(|(priority, _)| *priority);
        Ok(ordered.into_iter().map(|(_, cache)| cache).collect())
    }

    /// Reads what a cache says of itself, and returns its priority.
    fn understand(
        &self,
        cache: &Cache,
        url: &CacheUrl,
        answer: Result<Option<Bytes>>,
    ) -> Result<u64> {
        let Some(bytes) = answer? else {
            return Err(Error::invalid(
                cache.name.clone(),
                format!("it has no {CACHE_INFO}, which every binary cache has"),
            ));
        };
        let info = NixCacheInfo::parse(&bytes).map_err(|problem| {
            Error::from(ErrorKind::Answer {
                host: cache.name.clone(),
                action: format!("give {CACHE_INFO}"),
                status: None,
                problem: format!("{CACHE_INFO}: {problem}"),
            })
        })?;
        let store_dir = url.store_dir().or(info.store_dir.as_ref());
        if let Some(store_dir) = store_dir.filter(|dir| **dir != self.store_dir) {
            let problem = format!(
                "it has store paths of {store_dir}, expected those of {}",
                self.store_dir
            );
            return Err(Error::invalid(cache.name.clone(), problem));
        }
        Ok(info.priority.unwrap_or(DEFAULT_PRIORITY))
    }
}

/// What a cache says of itself, now or a while ago.
enum Asked {
    Kept(Bytes),
    Now(mpsc::Receiver<Result<Answered<Bytes>>>),
}

fn begin(cx: &Context, cache: &Cache) -> Asked {
    let kept = cache.kept.as_ref();
    let kept = kept.and_then(|kept| kept.cache_info(&cache.name));
    // Whatever else is in its place: the cache knows better.
    if let Some(bytes) = kept.filter(|bytes| NixCacheInfo::parse(bytes).is_ok()) {
        return Asked::Kept(bytes.into());
    }
    let (sender, receiver) = mpsc::channel();
    let wanted = Wanted {
        name: CACHE_INFO.to_owned(),
        action: format!("give {CACHE_INFO}"),
        limit: MAX_CACHE_INFO_SIZE,
    };
    let reply = Box::new(move |answer| {
        // Whoever was cancelled does not wait any more.
        let _ = sender.send(answer);
    });
    cache.files.ask(cx, wanted, reply);
    Asked::Now(receiver)
}

/// Returns whether an error of a cache is one even if others do: what the user
/// wrote is wrong, or who asks is refused.
fn is_users_mistake(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput { .. }
            | ErrorKind::Denied { .. }
            | ErrorKind::Credentials { .. }
            | ErrorKind::Cancelled
    )
}

/// Tells what an address sets that the user should know of.
fn tell_settings(cx: &Context, url: &CacheUrl) {
    let tell = |message: &str| cx.observer.event(&Event::Warning { message });
    for setting in url.unknown_settings() {
        tell(&format!("the setting {setting:?} of {url} is not known"));
    }
    if url.is_trusted() {
        tell(&format!(
            "{url} is believed without signatures, since its address says trusted"
        ));
    }
}

/// Returns what gives the files of caches; servers share a thread.
fn connect() -> Connect {
    let network = Network::default();
    Box::new(move |url, options| match url.place() {
        Place::Folder(folder) => Ok(Box::new(Folder::new(folder))),
        Place::Http(base) => Ok(Box::new(Server::new(&network, url, base, options)?)),
    })
}

#[cfg(test)]
#[path = "caches_tests.rs"]
mod tests;
