//! The immutable graph of store paths.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::error::{ErrorKind, Result};
use crate::store::{ExpectedNar, PathInfo, StoreDir, StorePath};

/// A store path's place in a [`Closure`]: dense, from 0, references before
/// referrers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u32);

impl PathId {
    /// Returns the place as an index, for tables that run parallel to the
    /// closure.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Store paths with all that they refer to.
///
/// Closed under references, without cycles and without references of a path
/// to itself. Ordered so that references come before their referrers; among
/// those that may come next, the one with the smaller (name, hash) does. The
/// order is a function of the graph, not of the order of the input.
#[derive(Debug, Clone)]
pub struct Closure {
    store_dir: StoreDir,
    infos: Vec<PathInfo>,
    references: Vec<Vec<PathId>>,
    referrers: Vec<Vec<PathId>>,
    roots: Vec<PathId>,
    ids: HashMap<StorePath, PathId>,
}

impl Closure {
    /// Makes the closure of `roots` from `infos`, which may hold more; what is
    /// not reachable from the roots is left out. `from` names the source in
    /// errors.
    ///
    /// Costs O(paths × log(paths) + references).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownPath`] for a root that is not in `infos`,
    /// [`ErrorKind::MissingReference`], [`ErrorKind::ConflictingPathInfo`] if
    /// two entries of one path differ in what both tell,
    /// [`ErrorKind::Cycle`].
    pub fn new(
        store_dir: StoreDir,
        infos: impl IntoIterator<Item = PathInfo>,
        roots: &[StorePath],
        from: &str,
    ) -> Result<Self> {
        let known = merge(infos)?;
        let reachable = reach(&store_dir, &known, roots, from)?;
        let order = sort(&reachable)?;

        let ids: HashMap<StorePath, PathId> = order
            .iter()
            .zip(0..)
            .map(|(info, id)| (info.path.clone(), PathId(id)))
            .collect();
        let references: Vec<Vec<PathId>> = order
            .iter()
            .map(|info| {
                let mut ids: Vec<_> = info.references.iter().map(|r| ids[r]).collect();
                ids.sort_unstable();
                ids
            })
            .collect();
        let mut referrers = vec![Vec::new(); order.len()];
        for (id, references) in (0..).map(PathId).zip(&references) {
            for reference in references {
                referrers[reference.index()].push(id);
            }
        }
        let mut roots: Vec<_> = roots.iter().map(|root| ids[root]).collect();
        roots.sort_unstable();
        roots.dedup();
        Ok(Self {
            store_dir,
            infos: order.into_iter().cloned().collect(),
            references,
            referrers,
            roots,
            ids,
        })
    }

    /// Returns the directory that the store paths are in.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// Returns the number of store paths.
    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// Returns all places, references before referrers.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = PathId> + ExactSizeIterator + use<> {
        (0..self.infos.len() as u32).map(PathId)
    }

    /// Returns what is known of all paths, in order.
    pub fn infos(&self) -> &[PathInfo] {
        &self.infos
    }

    /// Returns what is known of a path.
    pub fn info(&self, id: PathId) -> &PathInfo {
        &self.infos[id.index()]
    }

    /// Returns the store path at a place.
    pub fn path(&self, id: PathId) -> &StorePath {
        &self.info(id).path
    }

    /// Returns the full path at a place, such as `/nix/store/…-hello`.
    pub fn full_path(&self, id: PathId) -> String {
        self.store_dir.join(self.path(id))
    }

    /// Returns a path's NAR size in bytes; 0 if it is not known (see
    /// [`Closure::set_nar_sizes`]).
    pub fn nar_size(&self, id: PathId) -> u64 {
        self.info(id).nar_size.unwrap_or(0)
    }

    /// Returns what the NARs of the paths must be, in order, of those whose NAR
    /// hashes are known.
    pub fn expected_nars(&self) -> impl Iterator<Item = (&StorePath, ExpectedNar)> {
        let infos = self.infos.iter();
        infos.filter_map(|info| Some((&info.path, info.expected_nar()?)))
    }

    /// Returns the sum of the NAR sizes that are known, in bytes; `u64::MAX` if
    /// it is more.
    pub fn total_nar_size(&self) -> u64 {
        self.ids()
            .map(|id| self.nar_size(id))
            .fold(0, u64::saturating_add)
    }

    /// Leaves out a path that nothing refers to, such as a config file that is
    /// a root only so that what it mentions is in the closure: its references
    /// become roots in its place. Returns whether it was left out; a path that
    /// is not in the closure, or that another one refers to, is not.
    pub fn leave_out(&mut self, path: &StorePath) -> bool {
        let Some(id) = self.find(path).filter(|id| self.referrers(*id).is_empty()) else {
            return false;
        };
        let roots: Vec<StorePath> = self
            .roots
            .iter()
            .filter(|root| **root != id)
            .chain(self.references(id))
            .map(|id| self.path(*id).clone())
            .collect();
        let infos = std::mem::take(&mut self.infos);
        *self = Self::new(self.store_dir.clone(), infos, &roots, "the closure")
            .expect("a part of a closure that holds what its roots need is one");
        true
    }

    /// Leaves out those of some paths whose files are copied elsewhere: what
    /// nothing refers to, themselves included. What they refer to becomes roots
    /// in their place, since the copies refer to it. Returns those that were
    /// left out.
    pub fn leave_out_copied(&mut self, paths: &[StorePath]) -> Vec<StorePath> {
        let is_unneeded = |path: &&StorePath| {
            self.find(path)
                .is_some_and(|id| self.referrers(id).is_empty() && !self.info(id).refers_to_itself)
        };
        let mut unneeded: Vec<_> = paths.iter().filter(is_unneeded).cloned().collect();
        unneeded.retain(|path| self.leave_out(path));
        unneeded
    }

    /// Asks `measure` for each NAR size that is not known.
    pub fn set_nar_sizes(
        &mut self,
        mut measure: impl FnMut(&StorePath) -> Result<u64>,
    ) -> Result<()> {
        for info in self.infos.iter_mut().filter(|i| i.nar_size.is_none()) {
            info.nar_size = Some(measure(&info.path)?);
        }
        Ok(())
    }

    /// Returns what a path refers to, sorted, without itself.
    pub fn references(&self, id: PathId) -> &[PathId] {
        &self.references[id.index()]
    }

    /// Returns what refers to a path, sorted, without itself.
    pub fn referrers(&self, id: PathId) -> &[PathId] {
        &self.referrers[id.index()]
    }

    /// Returns the paths that were asked for, sorted.
    pub fn roots(&self) -> &[PathId] {
        &self.roots
    }

    /// Returns a store path's place.
    pub fn find(&self, path: &StorePath) -> Option<PathId> {
        self.ids.get(path).copied()
    }
}

/// Joins the entries of each path; what one does not tell another may.
fn merge(infos: impl IntoIterator<Item = PathInfo>) -> Result<HashMap<StorePath, PathInfo>> {
    let mut known: HashMap<StorePath, PathInfo> = HashMap::new();
    for mut info in infos {
        let path = &info.path;
        let all = info.references.len();
        info.references.retain(|reference| reference != path);
        info.refers_to_itself |= info.references.len() < all;
        info.references.sort_unstable();
        info.references.dedup();
        let Some(old) = known.get_mut(&info.path) else {
            known.insert(info.path.clone(), info);
            continue;
        };
        join(old, info)?;
    }
    Ok(known)
}

/// Adds to what `old` tells what another entry of the same path tells; both
/// have their references sorted and each once.
pub(super) fn join(old: &mut PathInfo, info: PathInfo) -> Result<()> {
    let difference = if old.references != info.references {
        Some("their references are not the same".to_owned())
    } else {
        differ("NAR hash", old.nar_hash, info.nar_hash)
            .or_else(|| differ("NAR size", old.nar_size, info.nar_size))
    };
    if let Some(difference) = difference {
        return Err(ErrorKind::ConflictingPathInfo {
            path: info.path,
            difference,
        }
        .into());
    }
    old.refers_to_itself |= info.refers_to_itself;
    old.nar_hash = old.nar_hash.or(info.nar_hash);
    old.nar_size = old.nar_size.or(info.nar_size);
    old.deriver = old.deriver.take().or(info.deriver);
    Ok(())
}

fn differ<T: PartialEq + std::fmt::Display>(
    what: &str,
    a: Option<T>,
    b: Option<T>,
) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Some(format!("{what} {a} and {b}")),
        _ => None,
    }
}

fn reach<'a>(
    store_dir: &StoreDir,
    known: &'a HashMap<StorePath, PathInfo>,
    roots: &[StorePath],
    from: &str,
) -> Result<HashMap<&'a StorePath, &'a PathInfo>> {
    let mut reached = HashMap::new();
    let mut todo = Vec::new();
    for root in roots {
        let info = known.get(root).ok_or_else(|| ErrorKind::UnknownPath {
            path: store_dir.join(root),
            from: from.to_owned(),
        })?;
        if reached.insert(&info.path, info).is_none() {
            todo.push(info);
        }
    }
    while let Some(info) = todo.pop() {
        for reference in &info.references {
            let next = known
                .get(reference)
                .ok_or_else(|| ErrorKind::MissingReference {
                    path: store_dir.join(&info.path),
                    reference: store_dir.join(reference),
                    from: from.to_owned(),
                })?;
            if reached.insert(&next.path, next).is_none() {
                todo.push(next);
            }
        }
    }
    Ok(reached)
}

/// Orders references before referrers, smaller (name, hash) first. Every
/// reference must be in `infos`.
pub(super) fn sort<'a>(infos: &HashMap<&'a StorePath, &'a PathInfo>) -> Result<Vec<&'a PathInfo>> {
    let mut missing: HashMap<&StorePath, usize> = HashMap::with_capacity(infos.len());
    let mut referrers: HashMap<&StorePath, Vec<&'a PathInfo>> = HashMap::new();
    let key = |info: &'a PathInfo| Reverse((info.path.name(), info.path.hash_part()));
    let mut ready = BinaryHeap::new();
    for &info in infos.values() {
        for reference in &info.references {
            referrers.entry(reference).or_default().push(info);
        }
        missing.insert(&info.path, info.references.len());
        if info.references.is_empty() {
            ready.push((key(info), &info.path));
        }
    }
    let mut order = Vec::with_capacity(infos.len());
    while let Some((_, path)) = ready.pop() {
        order.push(infos[path]);
        for referrer in referrers.remove(path).unwrap_or_default() {
            let left = missing
                .get_mut(&referrer.path)
                .expect("every referrer was counted above");
            *left -= 1;
            if *left == 0 {
                ready.push((key(referrer), &referrer.path));
            }
        }
    }
    if order.len() == infos.len() {
        Ok(order)
    } else {
        missing.retain(|_, left| *left > 0);
        Err(ErrorKind::Cycle {
            cycle: find_cycle(infos, &missing),
        }
        .into())
    }
}

/// Finds a ring among paths that each wait for another of them.
fn find_cycle(
    infos: &HashMap<&StorePath, &PathInfo>,
    waiting: &HashMap<&StorePath, usize>,
) -> Vec<StorePath> {
    let mut path = *waiting
        .keys()
        .min()
        .expect("a graph that cannot be sorted has waiting paths");
    let mut seen: Vec<&StorePath> = Vec::new();
    loop {
        if let Some(start) = seen.iter().position(|p| *p == path) {
            return seen[start..].iter().map(|p| (*p).clone()).collect();
        }
        seen.push(path);
        path = infos[path]
            .references
            .iter()
            .find(|r| waiting.contains_key(r))
            .expect("a waiting path waits for another waiting one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn info(name: &str, references: &[&str]) -> PathInfo {
        PathInfo {
            path: path(name),
            references: references.iter().map(|r| path(r)).collect(),
            refers_to_itself: false,
            nar_hash: None,
            nar_size: Some(1),
            deriver: None,
        }
    }

    fn closure(infos: Vec<PathInfo>, roots: &[&str]) -> Result<Closure> {
        let roots: Vec<_> = roots.iter().map(|r| path(r)).collect();
        Closure::new(StoreDir::default(), infos, &roots, "the test")
    }

    fn names(closure: &Closure) -> Vec<&str> {
        closure.ids().map(|id| closure.path(id).name()).collect()
    }

    #[test]
    fn references_come_first_whatever_the_order_of_the_input() {
        let mut infos = vec![
            info("app", &["app", "lib", "data"]),
            info("lib", &["libc"]),
            info("data", &[]),
            info("libc", &["libc"]),
            info("unused", &["libc"]),
        ];
        for _ in 0..infos.len() {
            infos.rotate_left(1);
            let closure = closure(infos.clone(), &["app"]).unwrap();
            assert_eq!(names(&closure), ["data", "libc", "lib", "app"]);
            let [data, libc, lib, app] = closure.ids().collect::<Vec<_>>()[..] else {
                panic!("four paths")
            };
            assert_eq!(closure.references(app), [data, lib]);
            assert_eq!(closure.referrers(libc), [lib]);
            assert_eq!(closure.roots(), [app]);
            assert_eq!(closure.find(&path("lib")), Some(lib));
            assert_eq!(closure.total_nar_size(), 4);
        }
    }

    #[test]
    fn a_root_can_be_left_out_and_its_references_stay() {
        let infos = vec![
            info("config", &["app", "data"]),
            info("app", &["lib"]),
            info("lib", &[]),
            info("data", &[]),
        ];
        let mut closure = closure(infos, &["config"]).unwrap();
        assert!(!closure.leave_out(&path("lib")), "app needs it");
        assert!(!closure.leave_out(&path("other")));
        assert_eq!(closure.len(), 4);
        assert!(closure.leave_out(&path("config")));
        assert_eq!(names(&closure), ["data", "lib", "app"]);
        let roots = closure.roots().iter().map(|id| closure.path(*id).name());
        assert_eq!(roots.collect::<Vec<_>>(), ["data", "app"]);
    }

    #[test]
    fn what_is_copied_is_left_out_unless_it_is_referred_to() {
        let infos = vec![
            info("app", &["site"]),
            info("site", &[]),
            info("env", &["lib"]),
            info("lib", &[]),
            info("self", &["self"]),
        ];
        let roots = ["app", "env", "self"];
        let mut closure = closure(infos, &roots).unwrap();
        let copied = ["site", "env", "lib", "self", "other"].map(path);
        // The copy of env refers to lib all the same.
        assert_eq!(closure.leave_out_copied(&copied), [path("env")]);
        assert_eq!(names(&closure).len(), 4);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = closure(vec![info("app", &["lib"])], &["app"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nix/store/00000000000000000000000000000000-app refers to \
             /nix/store/00000000000000000000000000000000-lib, which is not in the test"
        );
        let error = closure(vec![], &["app"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nix/store/00000000000000000000000000000000-app is not known to the test"
        );
    }

    #[test]
    fn a_cycle_is_told_ring_by_ring() {
        let infos = vec![
            info("app", &["a"]),
            info("a", &["b", "leaf"]),
            info("b", &["c"]),
            info("c", &["a"]),
            info("leaf", &[]),
        ];
        let error = closure(infos, &["app"]).unwrap_err();
        let ErrorKind::Cycle { cycle } = error.kind() else {
            panic!("{error}")
        };
        let names: Vec<_> = cycle.iter().map(StorePath::name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn entries_of_one_path_are_joined_or_refused() {
        let mut told = info("a", &[]);
        told.nar_size = None;
        let joined = closure(vec![told, info("a", &[])], &["a"]).unwrap();
        assert_eq!(joined.total_nar_size(), 1);

        let mut other = info("a", &[]);
        other.nar_size = Some(2);
        let error = closure(vec![info("a", &[]), other], &["a"]).unwrap_err();
        assert!(error.to_string().contains("NAR size 1 and 2"), "{error}");
    }
}
