//! Several sources, of which the first that has a store path gives it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::store::{StoreDir, StorePath};

use super::{ContentSource, Entry};

/// Sources that are asked in order for each store path.
///
/// A source that has the path gives it; what goes wrong then is an error, and
/// no other source is tried: half a path may have been seen. A source is asked
/// once whether it has a path. One source alone is not asked: its own error
/// says better why it cannot give the path.
///
/// # Errors
///
/// [`ErrorKind::UnknownPath`] with the names of all sources if none has the
/// path.
pub struct FirstOf {
    store_dir: StoreDir,
    sources: Vec<(String, Arc<dyn ContentSource>)>,
    /// Which source has a path, by its place.
    found: Mutex<HashMap<StorePath, usize>>,
}

impl FirstOf {
    /// Takes sources in the order in which they are asked, each with its name
    /// for errors; `store_dir` is that of all paths.
    pub fn new(store_dir: StoreDir, sources: Vec<(String, Arc<dyn ContentSource>)>) -> Self {
        Self {
            store_dir,
            sources,
            found: Mutex::default(),
        }
    }

    /// Returns the place of the source that has the path.
    fn find(&self, cx: &Context, path: &StorePath) -> Result<Option<usize>> {
        if self.sources.len() == 1 {
            return Ok(Some(0));
        }
        if let Some(known) = self.found().get(path) {
            return Ok(Some(*known));
        }
        // Not under the lock: a source far away takes a while. Who asks for many
        // has them looked up before.
        for (at, (_, source)) in self.sources.iter().enumerate() {
            if source.has(cx, path)? {
                self.found().insert(path.clone(), at);
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<StorePath, usize>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, cx: &Context, path: &StorePath) -> Result<&dyn ContentSource> {
        match self.find(cx, path)? {
            Some(at) => Ok(self.sources[at].1.as_ref()),
            None => Err(ErrorKind::UnknownPath {
                path: self.store_dir.join(path),
                from: self.names(),
            }
            .into()),
        }
    }

    /// Returns the names of all sources: `a, b or c`.
    fn names(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|(name, _)| name.as_str()).collect();
        match names.split_last() {
            None => "any source of contents".to_owned(),
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
        }
    }
}

impl fmt::Debug for FirstOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FirstOf").field(&self.names()).finish()
    }
}

impl ContentSource for FirstOf {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.source(cx, path)?.visit(cx, path, visitor)
    }

    /// Tells each source of the paths that it will give, in their order. Waits
    /// until it is known which source has which.
    fn expect(&self, cx: &Context, paths: &[StorePath]) {
        if let [(_, only)] = &self.sources[..] {
            return only.expect(cx, paths);
        }
        // What cannot be found now is an error when it is visited.
        let _ = self.look_up(cx, paths);
        let mut parts = vec![Vec::new(); self.sources.len()];
        {
            let found = self.found();
            for path in paths {
                if let Some(at) = found.get(path) {
                    parts[*at].push(path.clone());
                }
            }
        }
        for ((_, source), part) in self.sources.iter().zip(parts) {
            if !part.is_empty() {
                source.expect(cx, &part);
            }
        }
    }

    /// Lets each source look up what those before it do not have.
    fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        if let [(_, only)] = &self.sources[..] {
            return only.look_up(cx, paths);
        }
        let mut left: Vec<StorePath> = paths.to_vec();
        {
            let found = self.found();
            left.retain(|path| !found.contains_key(path));
        }
        for (at, (_, source)) in self.sources.iter().enumerate() {
            if left.is_empty() {
                break;
            }
            source.look_up(cx, &left)?;
            let mut missing = Vec::new();
            for path in left {
                if source.has(cx, &path)? {
                    self.found().insert(path, at);
                } else {
                    missing.push(path);
                }
            }
            left = missing;
        }
        Ok(())
    }

    fn nar_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        self.source(cx, path)?.nar_size(cx, path)
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        match &self.sources[..] {
            [(_, only)] => only.has(cx, path),
            _ => Ok(self.find(cx, path)?.is_some()),
        }
    }

    fn download_size(&self, cx: &Context, path: &StorePath) -> Result<u64> {
        self.source(cx, path)?.download_size(cx, path)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    /// Has some paths; keeps what it was told and counts how often it was
    /// asked.
    #[derive(Default)]
    struct Shelf {
        paths: Vec<StorePath>,
        asked: AtomicUsize,
        looked_up: Mutex<Vec<Vec<StorePath>>>,
        expected: Mutex<Vec<StorePath>>,
        is_broken: bool,
    }

    impl ContentSource for Shelf {
        fn visit(
            &self,
            _: &Context,
            path: &StorePath,
            visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
        ) -> Result<()> {
            if !self.paths.contains(path) {
                return Err(Error::invalid(path.as_str(), "not on this shelf"));
            }
            visitor(Entry::Directory { path: b"" })
        }

        fn expect(&self, _: &Context, paths: &[StorePath]) {
            self.expected.lock().unwrap().extend_from_slice(paths);
        }

        fn look_up(&self, _: &Context, paths: &[StorePath]) -> Result<()> {
            self.looked_up.lock().unwrap().push(paths.to_vec());
            Ok(())
        }

        fn nar_size(&self, _: &Context, _: &StorePath) -> Result<Option<u64>> {
            Ok(Some(10 * self.paths.len() as u64))
        }

        fn has(&self, _: &Context, path: &StorePath) -> Result<bool> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.is_broken {
                return Err(Error::invalid("the shelf", "it fell down"));
            }
            Ok(self.paths.contains(path))
        }

        fn download_size(&self, _: &Context, _: &StorePath) -> Result<u64> {
            Ok(self.paths.len() as u64)
        }
    }

    fn path(name: &str) -> StorePath {
        format!("0123456789abcdfghijklmnpqrsvwxyz-{name}")
            .parse()
            .unwrap()
    }

    fn shelf(names: &[&str]) -> Arc<Shelf> {
        Arc::new(Shelf {
            paths: names.iter().map(|name| path(name)).collect(),
            ..Shelf::default()
        })
    }

    fn first_of(shelves: &[&Arc<Shelf>]) -> FirstOf {
        let named = shelves.iter().enumerate().map(|(at, shelf)| {
            let shelf: Arc<dyn ContentSource> = Arc::clone(*shelf) as _;
            (format!("shelf {at}"), shelf)
        });
        FirstOf::new(StoreDir::default(), named.collect())
    }

    #[test]
    fn each_path_comes_from_the_first_that_has_it() {
        let cx = Context::default();
        let (upper, lower) = (shelf(&["a", "b"]), shelf(&["b", "c", "d"]));
        let both = first_of(&[&upper, &lower]);
        both.expect(&cx, &["c", "b", "x", "a", "d"].map(path));
        assert_eq!(*upper.expected.lock().unwrap(), ["b", "a"].map(path));
        assert_eq!(*lower.expected.lock().unwrap(), ["c", "d"].map(path));
        for (name, size) in [("a", 2), ("b", 2), ("c", 3), ("d", 3)] {
            let mut seen = 0;
            both.visit(&cx, &path(name), &mut |_| {
                seen += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, 1);
            assert!(both.has(&cx, &path(name)).unwrap());
            assert_eq!(both.download_size(&cx, &path(name)).unwrap(), size);
            let nar_size = both.nar_size(&cx, &path(name)).unwrap();
            assert_eq!(nar_size, Some(10 * size));
        }
        // Once for each path, and at once for all of them.
        assert_eq!(upper.asked.load(Ordering::Relaxed), 5);
        assert_eq!(lower.asked.load(Ordering::Relaxed), 3);
        both.look_up(&cx, &["b", "x", "d"].map(path)).unwrap();
        let looked_up = |shelf: &Shelf| shelf.looked_up.lock().unwrap().clone();
        let all = ["c", "b", "x", "a", "d"].map(path).to_vec();
        assert_eq!(looked_up(&upper), [all, vec![path("x")]]);
        let others = ["c", "x", "d"].map(path).to_vec();
        assert_eq!(looked_up(&lower), [others, vec![path("x")]]);
    }

    #[test]
    fn a_path_that_none_has_is_told_with_all_names() {
        let cx = Context::default();
        let empty = shelf(&[]);
        let all = first_of(&[&empty, &empty, &empty]);
        assert!(!all.has(&cx, &path("x")).unwrap());
        let error = all.visit(&cx, &path("x"), &mut |_| Ok(())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-x is not known to shelf 0, shelf 1 or \
             shelf 2"
        );
        let error = first_of(&[]).download_size(&cx, &path("x")).unwrap_err();
        assert!(
            error.to_string().ends_with("any source of contents"),
            "{error}"
        );
    }

    #[test]
    fn one_alone_says_itself_what_is_wrong() {
        let cx = Context::default();
        let shelf = shelf(&["a"]);
        let one = first_of(&[&shelf]);
        let error = one.visit(&cx, &path("x"), &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().ends_with("not on this shelf"), "{error}");
        assert!(!one.has(&cx, &path("x")).unwrap());
    }

    #[test]
    fn a_source_that_fails_is_not_passed_over() {
        let cx = Context::default();
        let broken = Arc::new(Shelf {
            is_broken: true,
            ..Shelf::default()
        });
        let whole = shelf(&["a"]);
        let both = first_of(&[&broken, &whole]);
        both.expect(&cx, &[path("a")]);
        let error = both.visit(&cx, &path("a"), &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().ends_with("it fell down"), "{error}");
        assert!(whole.expected.lock().unwrap().is_empty());
    }
}
