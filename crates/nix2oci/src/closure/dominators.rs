//! What every chain of references goes through.
//!
//! A path *dominates* another if every chain of references from a root to the
//! other goes through it: without it, the other would not be there. The
//! nearest one that does is the *immediate* dominator, and these make a tree
//! under a root of roots. In a graph without cycles the immediate dominator of
//! a path is where the ways up that tree of all its referrers meet; since
//! referrers come after their references in a closure, one pass from the back
//! finds all of them.
//!
//! Chosen over cutting paths out one at a time, which costs a walk over the
//! closure for each.

use super::{Closure, PathId};

/// Which paths are in a closure only because of which others.
#[derive(Debug, Clone)]
pub struct Dominators {
    /// The immediate dominator of each path; none if it is a root or chains
    /// from roots to it have nothing in common.
    parents: Vec<Option<PathId>>,
    /// How far each path is from the root of roots in the tree.
    depths: Vec<u32>,
}

impl Dominators {
    /// Finds the dominators of all paths.
    ///
    /// Costs O(references × depth of the tree); the tree of a real closure is
    /// about ten deep.
    pub fn new(closure: &Closure) -> Self {
        let mut found = Self {
            parents: vec![None; closure.len()],
            depths: vec![0; closure.len()],
        };
        let mut is_root = vec![false; closure.len()];
        for root in closure.roots() {
            is_root[root.index()] = true;
        }
        for id in closure.ids().rev() {
            let mut referrers = closure.referrers(id).iter().copied();
            let parent = match referrers.next() {
                Some(first) if !is_root[id.index()] => {
                    referrers.try_fold(first, |met, referrer| found.meet(met, referrer))
                }
                _ => None,
            };
            found.parents[id.index()] = parent;
            found.depths[id.index()] = parent.map_or(0, |p| found.depths[p.index()] + 1);
        }
        found
    }

    /// Returns the nearest path that dominates this one, if there is one.
    pub fn parent(&self, id: PathId) -> Option<PathId> {
        self.parents[id.index()]
    }

    /// Returns all paths that dominate this one, the nearest first.
    pub fn of(&self, id: PathId) -> impl Iterator<Item = PathId> + '_ {
        std::iter::successors(self.parent(id), |id| self.parent(*id))
    }

    /// Returns whether the first path is the second one or dominates it.
    pub fn dominates(&self, upper: PathId, lower: PathId) -> bool {
        std::iter::once(lower)
            .chain(self.of(lower))
            .any(|id| id == upper)
    }

    /// Returns what would not be in the closure without this path: the path
    /// and all that it dominates, in the closure's order.
    ///
    /// Costs O(paths).
    pub fn dominated(&self, id: PathId, closure: &Closure) -> Vec<PathId> {
        let mut is_dominated = vec![false; self.parents.len()];
        is_dominated[id.index()] = true;
        // A dominator comes after what it dominates.
        for lower in closure.ids().rev() {
            if let Some(parent) = self.parent(lower) {
                is_dominated[lower.index()] |= is_dominated[parent.index()];
            }
        }
        closure
            .ids()
            .filter(|lower| is_dominated[lower.index()])
            .collect()
    }

    /// Returns the nearest path on the ways up from both, if there is one.
    fn meet(&self, mut a: PathId, mut b: PathId) -> Option<PathId> {
        while a != b {
            let is_a_deeper = self.depths[a.index()] >= self.depths[b.index()];
            let deeper = if is_a_deeper { &mut a } else { &mut b };
            *deeper = self.parent(*deeper)?;
        }
        Some(a)
    }
}
