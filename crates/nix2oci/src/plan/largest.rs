//! nixpkgs' auto-layer: split at the largest paths.
//!
//! The largest paths become *primary*, one after the other. A path's *owners*
//! are the primary paths that need it, directly or not, save those that need
//! another of them; a primary path's owner is itself.
//! Paths with the same owners share a layer, so a library that only one large
//! program needs rides with it, and what two large programs need is a layer
//! below both.
//!
//! 1. No path is primary: all have the same owners, none, and share a layer.
//! 2. Make the largest path primary that is not. Of everything it needs, take
//!    from the owners those that need the new one; it becomes an owner unless
//!    one of the owners that are left lies in between.
//! 3. Again, until that would make more layers than the budget has.
//! 4. Layers that need less, in bytes, go to the bottom.
//!
//! A large path keeps its layer as long as it is among the largest, whatever
//! else changes, and the application's own small paths stay out of it. Known
//! weaknesses: a new large path can cut others' layers, and one step may make
//! several layers, so some of the budget may be left.
//!
//! The layers are those of nixpkgs, save that ties are broken: of two paths of
//! one size the first by (name, hash) is primary first, and of two layers that
//! need the same bytes the one with the first member goes to the bottom.
//! nixpkgs takes the order of the input, which is that of the hashes and
//! changes with every rebuild, and the order of a Python set.
//!
//! Named layers do not exist there. Here their paths pass on who needs what,
//! but are not primary and do not count as a layer.
//!
//! Costs O(layers × (paths + references)) steps, and for each layer one lookup
//! of each distinct set of owners below it, which has as many owners as there
//! are layers at most. A budget for all paths costs O(paths).
//!
//! Source: `auto-layer.py` in NixOS/nixpkgs, `pkgs/build-support/docker`
//! (<https://github.com/NixOS/nixpkgs/pull/355189>, version 2ff66c6).

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::closure::{Closure, PathId};
use crate::error::Result;

use super::layer_plan::name_key;
use super::{Group, LayerRequest, LayerStrategy};

/// The largest paths apart, with what only they need: nixpkgs' auto-layer, the
/// default of dockerTools since 2025.
///
/// A NAR size that is not known counts as 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Largest;

impl LayerStrategy for Largest {
    fn name(&self) -> String {
        "largest".to_owned()
    }

    fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>> {
        let closure = request.closure;
        let mut by_size = request.paths.to_vec();
        by_size.sort_unstable_by_key(|id| (Reverse(closure.nar_size(*id)), name_key(closure, *id)));
        let mut split = Split::new(closure, request.paths);
        if by_size.len() <= request.budget.get() {
            // All would become primary, step by step.
            split.part();
            by_size.clear();
        }
        for primary in by_size {
            if !split.at(primary, request.budget.get()) {
                break;
            }
        }
        Ok(split.into_groups(request.paths))
    }
}

/// The layers so far.
struct Split<'a> {
    closure: &'a Closure,
    /// For each path its set of owners, as an index into `sets`.
    owners: Vec<usize>,
    /// The distinct sets; each sorted.
    sets: Vec<Vec<PathId>>,
    known: HashMap<Vec<PathId>, usize>,
    /// For each set, how many of the paths to place have these owners.
    members: Vec<usize>,
    /// How many sets have members.
    layers: usize,
    /// Whether a path is to be placed.
    counted: Vec<bool>,
}

impl<'a> Split<'a> {
    fn new(closure: &'a Closure, paths: &[PathId]) -> Self {
        let mut counted = vec![false; closure.len()];
        for id in paths {
            counted[id.index()] = true;
        }
        Self {
            closure,
            owners: vec![0; closure.len()],
            sets: vec![Vec::new()],
            known: HashMap::from([(Vec::new(), 0)]),
            members: vec![paths.len()],
            layers: usize::from(!paths.is_empty()),
            counted,
        }
    }

    /// Makes a path primary. Returns false and changes nothing if there would
    /// be more layers than `budget`.
    fn at(&mut self, primary: PathId, budget: usize) -> bool {
        let closure = self.closure;
        let (needs, needed) = reach(closure, [primary], |id| closure.references(id));
        let (_, needing) = reach(closure, [primary], |id| closure.referrers(id));
        let mut undo = Vec::with_capacity(needs.len());
        // What becomes of a path's owners depends on them alone.
        let mut becomes = HashMap::new();
        for id in needs {
            let old = self.owners[id.index()];
            let new = if id == primary {
                self.set(vec![primary])
            } else {
                *becomes.entry(old).or_insert_with(|| {
                    let mut owners = self.sets[old].clone();
                    owners.retain(|owner| !needing[owner.index()]);
                    if !owners.iter().any(|owner| needed[owner.index()]) {
                        owners.push(primary);
                        owners.sort_unstable();
                    }
                    self.set(owners)
                })
            };
            undo.push((id, old));
            self.give(id, new);
        }
        if self.layers <= budget {
            return true;
        }
        for (id, old) in undo {
            self.give(id, old);
        }
        false
    }

    /// Makes all paths primary at once.
    fn part(&mut self) {
        for id in self.closure.ids() {
            if self.counted[id.index()] {
                let own = self.set(vec![id]);
                self.give(id, own);
            }
        }
    }

    /// Returns the index of a set of owners.
    fn set(&mut self, owners: Vec<PathId>) -> usize {
        *self.known.entry(owners).or_insert_with_key(|owners| {
            self.sets.push(owners.clone());
            self.members.push(0);
            self.sets.len() - 1
        })
    }

    fn give(&mut self, id: PathId, new: usize) {
        let old = std::mem::replace(&mut self.owners[id.index()], new);
        if !self.counted[id.index()] {
            return;
        }
        self.members[old] -= 1;
        self.layers -= usize::from(self.members[old] == 0);
        self.layers += usize::from(self.members[new] == 0);
        self.members[new] += 1;
    }

    fn into_groups(self, paths: &[PathId]) -> Vec<Group> {
        let mut layers = vec![Vec::new(); self.sets.len()];
        for id in paths {
            layers[self.owners[id.index()]].push(*id);
        }
        let closure = self.closure;
        let mut groups: Vec<_> = layers
            .into_iter()
            .enumerate()
            .filter(|(_, paths)| !paths.is_empty())
            .map(|(set, paths)| {
                let (needs, _) = reach(closure, paths.iter().copied(), |id| closure.references(id));
                let size: u128 = needs
                    .iter()
                    .map(|id| u128::from(closure.nar_size(*id)))
                    .sum();
                let first = paths.iter().map(|id| name_key(closure, *id)).min();
                let reason = reason(closure, &self.sets[set], &paths);
                ((size, first), Group { paths, reason })
            })
            .collect();
        groups.sort_unstable_by_key(|(key, _)| *key);
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

/// Returns everything that `next` leads to from `start`, itself included, as a
/// list and as a table.
fn reach<'a>(
    closure: &Closure,
    start: impl IntoIterator<Item = PathId>,
    next: impl Fn(PathId) -> &'a [PathId],
) -> (Vec<PathId>, Vec<bool>) {
    let mut seen = vec![false; closure.len()];
    let mut list: Vec<PathId> = start.into_iter().collect();
    for id in &list {
        seen[id.index()] = true;
    }
    let mut done = 0;
    while let Some(&id) = list.get(done) {
        done += 1;
        for &id in next(id) {
            if !std::mem::replace(&mut seen[id.index()], true) {
                list.push(id);
            }
        }
    }
    (list, seen)
}

fn reason(closure: &Closure, owners: &[PathId], paths: &[PathId]) -> String {
    let mut names: Vec<&str> = owners.iter().map(|id| closure.path(*id).name()).collect();
    names.sort_unstable();
    match names[..] {
        [] => "all the rest".to_owned(),
        [name] if paths.len() == 1 => format!("{name} alone"),
        [name] => format!("{name} and what it needs"),
        [a, b] => format!("needed by {a} and {b}"),
        [a, b, c] => format!("needed by {a}, {b} and {c}"),
        [a, b, ..] => format!("needed by {a}, {b} and {} more", names.len() - 2),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::test_closure::{closure, dags, names};

    fn ask<'a>(
        closure: &'a Closure,
        paths: &[PathId],
        budget: usize,
    ) -> Vec<(Vec<&'a str>, String)> {
        let request = LayerRequest {
            closure,
            paths,
            budget: NonZeroUsize::new(budget).unwrap(),
            keep: &[],
            share: &[],
            earlier: None,
            volatile: &[],
        };
        let groups = Largest.group(request).unwrap();
        groups
            .into_iter()
            .map(|mut group| {
                group
                    .paths
                    .sort_unstable_by_key(|id| name_key(closure, *id));
                (names(closure, &group.paths), group.reason)
            })
            .collect()
    }

    fn group(closure: &Closure, budget: usize) -> Vec<Vec<&str>> {
        let paths: Vec<_> = closure.ids().collect();
        let groups = ask(closure, &paths, budget);
        groups.into_iter().map(|(paths, _)| paths).collect()
    }

    fn server() -> Closure {
        closure(&[
            ("app", 1, &["jdk", "db", "script"]),
            ("script", 2, &["libc"]),
            ("jdk", 900, &["fonts", "libz"]),
            ("db", 500, &["icu", "libz"]),
            ("fonts", 10, &["libc"]),
            ("icu", 30, &["libc"]),
            ("libz", 5, &["libc"]),
            ("libc", 40, &[]),
        ])
    }

    #[test]
    fn large_paths_take_along_what_only_they_need() {
        let closure = server();
        assert_eq!(group(&closure, 1).len(), 1);
        assert_eq!(
            group(&closure, 2),
            [
                vec!["fonts", "jdk", "libc", "libz"],
                vec!["app", "db", "icu", "script"]
            ]
        );
        let paths: Vec<_> = closure.ids().collect();
        assert_eq!(
            ask(&closure, &paths, 4),
            [
                (vec!["libc", "libz"], "needed by db and jdk".to_owned()),
                (vec!["db", "icu"], "db and what it needs".to_owned()),
                (vec!["fonts", "jdk"], "jdk and what it needs".to_owned()),
                (vec!["app", "script"], "all the rest".to_owned()),
            ]
        );
    }

    #[test]
    fn a_step_over_the_budget_is_taken_back() {
        // The second primary path makes two layers more: its own and what it
        // shares with the first.
        let closure = server();
        assert_eq!(group(&closure, 3), group(&closure, 2));
    }

    #[test]
    fn a_budget_for_all_paths_parts_them_all() {
        let closure = server();
        let alone = group(&closure, 8);
        assert_eq!(alone.len(), 8);
        assert_eq!(alone, group(&closure, 1000));
        // The same as when the steps are walked to the end.
        let paths: Vec<_> = closure.ids().collect();
        let mut split = Split::new(&closure, &paths);
        for id in &paths {
            assert!(split.at(*id, 8));
        }
        let stepwise = split.into_groups(&paths);
        let stepwise: Vec<_> = stepwise.iter().map(|g| names(&closure, &g.paths)).collect();
        assert_eq!(alone, stepwise);
    }

    #[test]
    fn equal_sizes_are_taken_by_name_not_by_hash() {
        let closure = closure(&[("z", 7, &[]), ("a", 7, &[]), ("m", 7, &[])]);
        assert_eq!(group(&closure, 2), [vec!["a"], vec!["m", "z"]]);
        assert_eq!(group(&closure, 3), [["a"], ["m"], ["z"]]);
    }

    #[test]
    fn paths_in_named_layers_only_pass_on_who_needs_what() {
        let closure = server();
        let paths: Vec<_> = closure
            .ids()
            .filter(|id| !["jdk", "script"].contains(&closure.path(*id).name()))
            .collect();
        assert_eq!(
            ask(&closure, &paths, 2),
            [
                (
                    vec!["icu", "libc", "libz", "db"],
                    "db and what it needs".to_owned()
                ),
                (vec!["app", "fonts"], "all the rest".to_owned()),
            ]
            .map(|(mut paths, reason)| {
                paths.sort_unstable();
                (paths, reason)
            })
        );
    }

    #[test]
    fn sizes_beyond_64_bits_do_not_overflow() {
        let closure = closure(&[("b", u64::MAX, &["a"]), ("a", u64::MAX, &[])]);
        assert_eq!(group(&closure, 2), [["a"], ["b"]]);
    }

    /// The owners as they are defined, without steps.
    fn owners(closure: &Closure, primary: &[PathId], id: PathId) -> Vec<PathId> {
        if primary.contains(&id) {
            return vec![id];
        }
        let (_, needing) = reach(closure, [id], |id| closure.referrers(id));
        let candidates = primary.iter().filter(|p| needing[p.index()]);
        let mut owners: Vec<PathId> = candidates
            .clone()
            .filter(|owner| {
                let (_, needed) = reach(closure, [**owner], |id| closure.references(id));
                !candidates.clone().any(|p| p != *owner && needed[p.index()])
            })
            .copied()
            .collect();
        owners.sort_unstable();
        owners
    }

    proptest! {
        #[test]
        fn the_steps_lead_to_the_owners_as_defined(closure in dags(20), count in 0usize..20) {
            let paths: Vec<PathId> = closure.ids().collect();
            let mut primary = paths.clone();
            primary.sort_unstable_by_key(|id| name_key(&closure, *id));
            primary.truncate(count);
            let mut split = Split::new(&closure, &paths);
            for id in &primary {
                prop_assert!(split.at(*id, usize::MAX));
            }
            for id in paths {
                let found = &split.sets[split.owners[id.index()]];
                prop_assert_eq!(found, &owners(&closure, &primary, id));
            }
        }
    }
}
