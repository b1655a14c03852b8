//! Questions about a closure: why a path is in it, and which one is meant.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use crate::store::{PackageName, StorePath, nix32};

use super::{Closure, PathId};

/// A line of the tree of all chains from the roots to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainNode {
    /// How deep it is; roots are 0.
    pub depth: usize,
    /// The path here.
    pub path: PathId,
    /// Whether what is below it was shown before, so that it is not shown
    /// again.
    pub is_repeated: bool,
}

/// What a name means in a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedPath {
    /// Nothing.
    None,
    /// This path.
    One(PathId),
    /// One of these, which are more than one; sorted by name and hash.
    Several(Vec<PathId>),
}

/// Digits of a hash that are taken for one: less are more likely a name.
const MIN_HASH_PREFIX: usize = 3;

impl Closure {
    /// Returns a shortest chain of references from a root to a path, both
    /// included; of several always the same one.
    ///
    /// Costs O(paths + references).
    pub fn shortest_chain(&self, to: PathId) -> Vec<PathId> {
        let mut is_root = vec![false; self.len()];
        for root in self.roots() {
            is_root[root.index()] = true;
        }
        // From the path upwards: what was met first is nearest.
        let mut next: Vec<Option<PathId>> = vec![None; self.len()];
        let mut todo = VecDeque::from([to]);
        let mut top = None;
        while let Some(id) = todo.pop_front() {
            if is_root[id.index()] {
                top = Some(id);
                break;
            }
            for referrer in self.referrers(id) {
                if *referrer != to && next[referrer.index()].is_none() {
                    next[referrer.index()] = Some(id);
                    todo.push_back(*referrer);
                }
            }
        }
        let top = top.expect("every path of a closure is reachable from a root");
        std::iter::successors(Some(top), |id| next[id.index()]).collect()
    }

    /// Returns how many chains of references lead from roots to a path, or
    /// `u64::MAX` if there are more.
    ///
    /// Costs O(paths + references).
    pub fn count_chains(&self, to: PathId) -> u64 {
        let mut is_root = vec![false; self.len()];
        for root in self.roots() {
            is_root[root.index()] = true;
        }
        let mut chains = vec![0u64; self.len()];
        for id in self.ids().rev() {
            let above = self.referrers(id).iter().map(|r| chains[r.index()]);
            chains[id.index()] = above.fold(u64::from(is_root[id.index()]), u64::saturating_add);
        }
        chains[to.index()]
    }

    /// Returns all chains from the roots to a path as a tree, line by line from
    /// the top.
    ///
    /// What is below a path is shown once, so that there are at most as many
    /// lines as references and roots, however many chains there are.
    pub fn chain_tree(&self, to: PathId) -> Vec<ChainNode> {
        let leads_there = self.referring(to);
        let mut is_shown = vec![false; self.len()];
        let roots = self.roots().iter().rev();
        let mut todo: Vec<(usize, PathId)> = roots
            .filter(|root| leads_there[root.index()])
            .map(|root| (0, *root))
            .collect();
        let mut tree = Vec::new();
        while let Some((depth, path)) = todo.pop() {
            let has_children = path != to;
            let is_repeated = has_children && std::mem::replace(&mut is_shown[path.index()], true);
            tree.push(ChainNode {
                depth,
                path,
                is_repeated,
            });
            if has_children && !is_repeated {
                let references = self.references(path).iter().rev();
                let below = references.filter(|id| leads_there[id.index()]);
                todo.extend(below.map(|id| (depth + 1, *id)));
            }
        }
        tree
    }

    /// Returns the path that a user names. The first of these that fits any
    /// path decides:
    ///
    /// - the full path, or one inside of it
    /// - the base name
    /// - the name without the hash: `openssl-3.0.13`
    /// - the package's name: `openssl`
    /// - the beginning of the hash, three digits at least
    /// - a part of the base name
    pub fn find_named(&self, name: &str) -> NamedPath {
        if let Ok((path, _)) = self.store_dir().split(name) {
            return self.find(&path).map_or(NamedPath::None, NamedPath::One);
        }
        if name.is_empty() {
            return NamedPath::None;
        }
        let is_hash = name.len() >= MIN_HASH_PREFIX && name.bytes().all(nix32::is_digit);
        let rules: [&dyn Fn(&StorePath) -> bool; 5] = [
            &|path| path.as_str() == name,
            &|path| path.name() == name,
            &|path| PackageName::of(path.name()).name == name,
            &|path| is_hash && path.hash_part().starts_with(name),
            &|path| path.as_str().contains(name),
        ];
        for rule in rules {
            let mut fitting: Vec<PathId> = self.ids().filter(|id| rule(self.path(*id))).collect();
            match fitting.as_slice() {
                [] => {}
                [one] => return NamedPath::One(*one),
                _ => {
                    fitting.sort_by_key(|id| (self.path(*id).name(), self.path(*id).hash_part()));
                    return NamedPath::Several(fitting);
                }
            }
        }
        NamedPath::None
    }

    /// Returns whose names are most like one that nothing has: those that share
    /// the longest beginning with it, at most `most` of them.
    pub fn similar_names(&self, name: &str, most: usize) -> Vec<&str> {
        let common = |other: &str| {
            let pairs = name.bytes().zip(other.bytes());
            pairs.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
        };
        let names: BTreeSet<&str> = self
            .infos()
            .iter()
            .map(|info| PackageName::of(info.path.name()).name)
            .collect();
        let mut names: Vec<&str> = names.into_iter().filter(|n| common(n) >= 2).collect();
        names.sort_by_key(|other| Reverse(common(other)));
        names.truncate(most);
        names
    }

    /// Returns for each path whether it is this one or refers to it, directly
    /// or not.
    fn referring(&self, to: PathId) -> Vec<bool> {
        let mut leads_there = vec![false; self.len()];
        leads_there[to.index()] = true;
        // References come before their referrers.
        for id in self.ids() {
            let references = self.references(id);
            leads_there[id.index()] |= references.iter().any(|r| leads_there[r.index()]);
        }
        leads_there
    }
}

#[cfg(test)]
#[path = "queries_tests.rs"]
mod tests;
