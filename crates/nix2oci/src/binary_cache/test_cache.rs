//! A cache in memory that does what a test wants.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::context::{Context, Event, Observer};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Answered;
use crate::store::{StoreDir, StorePath};

use super::files::{CacheFiles, Reply, Started, Wanted};
use super::{BinaryCaches, CacheOptions, NarInfo, Trust};

/// The key that signed most of `fixtures/cache`.
pub(crate) const TEST_KEY: &str = "test.example-1:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=";

/// Returns the folder of the cache that Nix 2.8.0 wrote.
pub(crate) fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cache")
}

/// Returns all store paths of that cache.
pub(crate) fn fixture_infos() -> Vec<NarInfo> {
    let cache = TestCache::new();
    let files = cache.files.lock().unwrap();
    let infos = files.iter().filter(|(name, _)| name.ends_with(".narinfo"));
    let parse = |bytes: &[u8]| NarInfo::parse(bytes, &StoreDir::default()).unwrap();
    infos.map(|(_, bytes)| parse(bytes)).collect()
}

/// Returns a store path of that cache by its name; of those that are there
/// twice the one that was built.
pub(crate) fn fixture_path(name: &str) -> StorePath {
    let infos = fixture_infos();
    let named = infos.into_iter().filter(|info| info.path.name() == name);
    let mut named: Vec<_> = named.collect();
    let is_made_again = |info: &NarInfo| {
        let address = info.content_address.as_ref().map(ToString::to_string);
        address.is_some_and(|address| address.starts_with("fixed:r:"))
    };
    named.sort_by_key(is_made_again);
    named.swap_remove(0).path
}

/// Options that believe the fixture's key.
pub(crate) fn options() -> CacheOptions {
    CacheOptions {
        trust: Trust::Keys(TEST_KEY.parse().unwrap()),
        ..CacheOptions::default()
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server answers with 500.
    Fails,
    /// The same, the first time that it is asked for the file.
    FailsOnce,
    /// The connection breaks after so many bytes.
    Breaks(usize),
}

/// A cache in memory: at first what is in the fixture.
#[derive(Default)]
pub(crate) struct TestCache {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<HashMap<String, Fault>>,
    /// All that was asked for, in order.
    asked: Mutex<Vec<String>>,
    /// Replies that wait to be released; None if they do not wait.
    held: Mutex<Option<Vec<Held>>>,
}

/// A reply that waits.
type Held = Box<dyn FnOnce() + Send>;

impl TestCache {
    pub(crate) fn new() -> Arc<Self> {
        let cache = Self::empty();
        let folders = ["", "nar/"];
        for folder in folders {
            for entry in fs::read_dir(fixture().join(folder)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_file() {
                    cache.put(&name, fs::read(entry.path()).unwrap());
                }
            }
        }
        cache
    }

    pub(crate) fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// Sets a file's bytes.
    pub(crate) fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.files
            .lock()
            .unwrap()
            .insert(name.to_owned(), bytes.into());
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        self.files.lock().unwrap()[name].clone()
    }

    /// Returns a file's bytes, if it is there.
    pub(crate) fn find_file(&self, name: &str) -> Option<Vec<u8>> {
        self.files.lock().unwrap().get(name).cloned()
    }

    pub(crate) fn remove(&self, name: &str) {
        self.files.lock().unwrap().remove(name).unwrap();
    }

    /// Replaces a text in a narinfo.
    pub(crate) fn edit(&self, path: &StorePath, from: &str, to: &str) {
        let name = narinfo(path);
        let text = String::from_utf8(self.get(&name)).unwrap();
        assert!(text.contains(from), "{text}");
        self.put(&name, text.replace(from, to));
    }

    pub(crate) fn break_file(&self, name: &str, fault: Fault) {
        self.faults.lock().unwrap().insert(name.to_owned(), fault);
    }

    /// Returns the name of a path's NAR.
    pub(crate) fn nar(&self, path: &StorePath) -> String {
        let bytes = self.get(&narinfo(path));
        NarInfo::parse(&bytes, &StoreDir::default()).unwrap().url
    }

    /// Takes the names of what was asked for since the last time.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Lets replies wait until they are released.
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// Returns how many replies wait.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// Gives all replies that wait.
    pub(crate) fn release(&self) {
        let held = self.held.lock().unwrap().replace(Vec::new());
        held.into_iter().flatten().for_each(|reply| reply());
    }

    fn find(&self, name: &str) -> Result<Option<(Vec<u8>, Option<usize>)>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.get(name).copied();
        if fault == Some(Fault::FailsOnce) {
            faults.remove(name);
        }
        drop(faults);
        if matches!(fault, Some(Fault::Fails | Fault::FailsOnce)) {
            return Err(ErrorKind::Answer {
                host: "test".to_owned(),
                action: format!("give {name}"),
                status: Some(500),
                problem: "500 Internal Server Error".to_owned(),
            }
            .into());
        }
        let bytes = self.files.lock().unwrap().get(name).cloned();
        Ok(bytes.map(|bytes| match fault {
            Some(Fault::Breaks(at)) => (bytes, Some(at)),
            _ => (bytes, None),
        }))
    }
}

/// Returns the name of a path's narinfo.
pub(crate) fn narinfo(path: &StorePath) -> String {
    format!("{}.narinfo", path.hash_part())
}

impl CacheFiles for Arc<TestCache> {
    fn ask(&self, _: &Context, wanted: Wanted, reply: Reply) {
        let found = self.find(&wanted.name);
        let found = found.map(|found| match found {
            Some((bytes, _)) => Answered::Given(Bytes::from(bytes)),
            None => Answered::Missing,
        });
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.push(Box::new(move || reply(found))),
            None => reply(found),
        }
    }

    fn start(&self, _: &Context, name: &str, _: &str, _: usize) -> Box<dyn Started> {
        Box::new(TestFile(self.find(name)))
    }

    fn is_remote(&self) -> bool {
        true
    }
}

struct TestFile(Result<Option<(Vec<u8>, Option<usize>)>>);

impl Started for TestFile {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        let found = self.0?;
        Ok(found.map(|(bytes, breaks)| -> Box<dyn Read + Send> {
            match breaks {
                None => Box::new(Cursor::new(bytes)),
                Some(at) => Box::new(Cursor::new(bytes[..at].to_vec()).chain(Broken)),
            }
        }))
    }
}

/// A connection that broke.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let error: Error = ErrorKind::Connection {
            host: "test".to_owned(),
            action: "give a NAR".to_owned(),
            source: "the connection broke".into(),
        }
        .into();
        Err(io::Error::other(error))
    }
}

/// Makes caches of addresses and what is there.
pub(crate) fn caches(
    caches: &[(&str, &Arc<TestCache>)],
    options: CacheOptions,
) -> Arc<BinaryCaches> {
    let urls = caches.iter().map(|(url, _)| url.parse().unwrap()).collect();
    let by_name: HashMap<String, Arc<TestCache>> = caches
        .iter()
        .map(|(url, cache)| {
            let url: super::CacheUrl = url.parse().unwrap();
            (url.to_string(), Arc::clone(cache))
        })
        .collect();
    BinaryCaches::connected_by(
        StoreDir::default(),
        urls,
        options,
        Box::new(move |url, _| Ok(Box::new(Arc::clone(&by_name[&url.to_string()])))),
    )
}

/// Hears all events, as texts.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    /// Returns a context that it listens to.
    pub(crate) fn context() -> (Arc<Self>, Context) {
        let heard = Arc::new(Self::default());
        let cx = Context {
            observer: Arc::clone(&heard) as Arc<dyn Observer>,
            ..Context::default()
        };
        (heard, cx)
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Takes the warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let warning = |text: String| text.strip_prefix("warning: ").map(str::to_owned);
        self.take().into_iter().filter_map(warning).collect()
    }
}

impl Observer for Heard {
    fn event(&self, event: &Event<'_>) {
        let text = match event {
            Event::Warning { message } => format!("warning: {message}"),
            Event::Downloaded { bytes } => format!("downloaded {bytes}"),
            Event::ClosureProgress { paths } => format!("known {paths}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}
