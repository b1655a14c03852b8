//! nixpkgs' popularity contest.
//!
//! A *walk* to a path starts at a path that nobody refers to and follows
//! references. A path's popularity is the number of walks to it and to each
//! path that needs it, directly or not. So it grows with the number of paths
//! that need it and with the depth at which it lies: libc wins, the
//! application comes last.
//!
//! 1. Count the walks to each path, referrers first.
//! 2. Add them up over each path's referrers, their referrers, and so on.
//! 3. Sort, most popular first. The budget's first paths get a layer each, all
//!    that is left shares the last one.
//!
//! nixpkgs tells it otherwise: unfold the graph to a tree, give every child 1,
//! hand all counts up to the parent, each plus 1 for each level. Both count
//! the same: a level's plus 1 is the walk to that level's path.
//!
//! The order is nixpkgs' to the last path. Counts are exact numbers of any
//! size, since they are exponential in the depth (2¹⁰⁰⁰ for a thousand diamonds
//! on top of each other), and equal counts are ordered by the same text. One
//! case of nixpkgs cannot happen here: it appends what no walk reaches, and in
//! a closure, which has no cycles, everything is reached.
//!
//! Costs O(n × (n + references)) / 64 steps for the sets of referrers, 64 at a
//! time, and at most n² / 2 additions, in O(n) memory.
//!
//! Source: `popularity_contest.py` in NixOS/nixpkgs,
//! `pkgs/build-support/flatten-references-graph`, and `limit_layers` there;
//! the idea is told in <https://grahamc.com/blog/nix-and-layered-docker-images/>.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use crate::closure::{Closure, PathId};
use crate::error::Result;

use super::{Group, LayerRequest, LayerStrategy};

/// The most popular paths alone, the rest together: nixpkgs' popularity
/// contest, the default of dockerTools until 2025.
///
/// Popularity is counted in the whole closure, whatever is in named layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Popularity;

impl LayerStrategy for Popularity {
    fn name(&self) -> String {
        "popularity".to_owned()
    }

    fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>> {
        let counts = popularity(request.closure);
        let mut paths = request.paths.to_vec();
        paths.sort_by_cached_key(|id| {
            let count = counts[id.index()].clone();
            (Reverse(count), package_name(request.closure, *id))
        });
        let alone = if paths.len() > request.budget.get() {
            request.budget.get() - 1
        } else {
            paths.len()
        };
        let rest = paths.split_off(alone);
        let mut groups: Vec<Group> = (1..)
            .zip(paths)
            .map(|(place, id)| Group {
                paths: vec![id],
                reason: format!("place {place} by popularity"),
            })
            .collect();
        if !rest.is_empty() {
            groups.push(Group {
                paths: rest,
                reason: "less popular".to_owned(),
            });
        }
        Ok(groups)
    }
}

/// The text that nixpkgs orders equally popular paths by: `<name>-<store
/// dir>/<hash>`. It differs from (name, hash) where one name begins another:
/// `a+b` comes before `a`. What follows the dash is the same for all up to the
/// hash.
fn package_name(closure: &Closure, id: PathId) -> String {
    let path = closure.path(id);
    format!("{}-/{}", path.name(), path.hash_part())
}

/// Returns each path's popularity.
fn popularity(closure: &Closure) -> Vec<Count> {
    let walks = walks(closure);
    let mut counts = vec![Count::default(); closure.len()];
    let ids: Vec<PathId> = closure.ids().collect();
    let mut needed_by = vec![0u64; closure.len()];
    for block in ids.chunks(64) {
        let first = block[0].index();
        let end = first + block.len();
        // What needs a path has a larger id, so nothing after the block needs
        // or is needed by this pass.
        needed_by[first..end].fill(0);
        // Most paths are needed by the same few sets of a block.
        let mut sums: HashMap<u64, Count> = HashMap::new();
        for &id in ids[..end].iter().rev() {
            let mut set = id.index().checked_sub(first).map_or(0, |bit| 1 << bit);
            for referrer in closure.referrers(id) {
                if referrer.index() < end {
                    set |= needed_by[referrer.index()];
                }
            }
            needed_by[id.index()] = set;
            let sum = sums
                .entry(set)
                .or_insert_with(|| sum_of(set, &walks[first..end]));
            counts[id.index()].add(sum);
        }
    }
    counts
}

/// Adds up the counts whose bits are in the set.
fn sum_of(mut set: u64, counts: &[Count]) -> Count {
    let mut sum = Count::default();
    while set != 0 {
        sum.add(&counts[set.trailing_zeros() as usize]);
        set &= set - 1;
    }
    sum
}

/// Returns for each path the number of walks to it.
fn walks(closure: &Closure) -> Vec<Count> {
    let mut walks = vec![Count::default(); closure.len()];
    for id in closure.ids().rev() {
        let mut count = Count::default();
        if closure.referrers(id).is_empty() {
            count = Count::one();
        }
        for referrer in closure.referrers(id) {
            count.add(&walks[referrer.index()]);
        }
        walks[id.index()] = count;
    }
    walks
}

/// A number of any size: 64 bits in each word, the lowest first, the last not
/// 0; none for 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Count(Vec<u64>);

impl Count {
    fn one() -> Self {
        Self(vec![1])
    }

    fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let (low, high) = self.0.split_at_mut(other.0.len());
        let mut carry = false;
        for (word, more) in low.iter_mut().zip(&other.0) {
            (*word, carry) = word.carrying_add(*more, carry);
        }
        for word in high {
            if !carry {
                return;
            }
            (*word, carry) = word.overflowing_add(1);
        }
        if carry {
            self.0.push(1);
        }
    }
}

impl Ord for Count {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Count {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::test_closure::{closure, dags, names};

    fn count(n: u128) -> Count {
        let mut count = Count(vec![n as u64, (n >> 64) as u64]);
        while count.0.last() == Some(&0) {
            count.0.pop();
        }
        count
    }

    fn group(closure: &Closure, budget: usize) -> Vec<Vec<&str>> {
        let paths: Vec<_> = closure.ids().collect();
        let request = LayerRequest {
            closure,
            paths: &paths,
            budget: NonZeroUsize::new(budget).unwrap(),
            keep: &[],
            share: &[],
            earlier: None,
            volatile: &[],
        };
        let groups = Popularity.group(request).unwrap();
        groups.iter().map(|g| names(closure, &g.paths)).collect()
    }

    /// The graph in the head of nixpkgs' `popularity_contest.py`.
    fn example() -> Closure {
        closure(&[
            ("A", 1, &["B", "G"]),
            ("B", 1, &["C"]),
            ("C", 1, &["D", "E"]),
            ("D", 1, &["F"]),
            ("E", 1, &["F"]),
            ("F", 1, &[]),
            ("G", 1, &[]),
        ])
    }

    #[test]
    fn the_example_of_nixpkgs_comes_out_as_told_there() {
        // The picture there has a second edge from B to E; the counts tell so.
        let closure = closure(&[
            ("A", 1, &["B", "G"]),
            ("B", 1, &["C", "E"]),
            ("C", 1, &["D", "E"]),
            ("D", 1, &["F"]),
            ("E", 1, &["F"]),
            ("F", 1, &[]),
            ("G", 1, &[]),
        ]);
        let counts = popularity(&closure);
        let told: BTreeMap<&str, Count> = closure
            .ids()
            .map(|id| (closure.path(id).name(), counts[id.index()].clone()))
            .collect();
        let expected = [
            ("A", 1),
            ("B", 2),
            ("C", 3),
            ("D", 4),
            ("E", 5),
            ("F", 9),
            ("G", 2),
        ];
        assert_eq!(told, expected.map(|(name, n)| (name, count(n))).into());
        let alone = [["F"], ["E"], ["D"], ["C"], ["B"], ["G"], ["A"]];
        assert_eq!(group(&closure, 7), alone);
        assert_eq!(group(&closure, 100), alone);
    }

    #[test]
    fn what_is_over_the_budget_shares_the_last_layer() {
        let closure = example();
        assert_eq!(group(&closure, 1), [["F", "D", "E", "C", "B", "G", "A"]]);
        assert_eq!(
            group(&closure, 3),
            [vec!["F"], vec!["D"], vec!["E", "C", "B", "G", "A"]]
        );
        assert_eq!(group(&closure, 6).last().unwrap(), &["G", "A"]);
    }

    #[test]
    fn equal_counts_are_ordered_as_nixpkgs_does() {
        let closure = closure(&[
            ("top", 1, &["foo", "foo+x", "foo-bar", "foo.1", "fo"]),
            ("foo", 1, &[]),
            ("foo+x", 1, &[]),
            ("foo-bar", 1, &[]),
            ("foo.1", 1, &[]),
            ("fo", 1, &[]),
        ]);
        assert_eq!(
            group(&closure, 1),
            [["fo", "foo+x", "foo", "foo-bar", "foo.1", "top"]]
        );
    }

    #[test]
    fn counts_of_any_size_keep_their_order() {
        // Each level doubles the walks: 2³⁰⁰ to the last one.
        let levels: Vec<[String; 3]> = (0..=300)
            .map(|n| ["a", "b", "c"].map(|side| format!("{side}{n:03}")))
            .collect();
        let mut paths: Vec<(&str, u64, Vec<&str>)> = Vec::new();
        for pair in levels.windows(2) {
            let [top, left, right] = &pair[0];
            let below = pair[1][0].as_str();
            paths.push((top, 1, vec![left, right]));
            paths.push((left, 1, vec![below]));
            paths.push((right, 1, vec![below]));
        }
        paths.push((&levels[300][0], 1, vec![]));
        let borrowed: Vec<(&str, u64, &[&str])> = paths
            .iter()
            .map(|(n, s, r)| (*n, *s, r.as_slice()))
            .collect();
        let closure = closure(&borrowed);
        let last = &walks(&closure)[0];
        assert_eq!((last.0.len(), last.0[4]), (5, 1 << 44));
        let order: Vec<&str> = group(&closure, 1).remove(0);
        let mut expected: Vec<&str> = paths.iter().map(|(name, _, _)| *name).collect();
        expected.sort_by_key(|name| (Reverse(&name[1..]), &name[..1] != "a", &name[..1]));
        // The sides of a level are needed by all above, and their level's top
        // by less, so the sides come first.
        expected[1..]
            .chunks_mut(3)
            .for_each(|level| level.rotate_left(1));
        assert_eq!(order, expected);
    }

    #[test]
    fn counts_carry() {
        let mut max = count(u128::MAX);
        max.add(&count(1));
        assert_eq!(max, Count(vec![0, 0, 1]));
        let mut small = count(1);
        small.add(&count(u128::MAX));
        assert_eq!(small, max);
        assert!(count(u128::MAX) < max && count(0) < count(1));
    }

    /// The contest as nixpkgs tells it: counts are handed up through the tree.
    fn contest(closure: &Closure, children: &[PathId]) -> BTreeMap<PathId, u128> {
        let mut counts = BTreeMap::new();
        for &child in children {
            *counts.entry(child).or_default() += 1;
            for (id, n) in contest(closure, closure.references(child)) {
                *counts.entry(id).or_default() += n + 1;
            }
        }
        counts
    }

    proptest! {
        #[test]
        fn adding_is_adding(a: u128, b: u128, shift in 0u32..120) {
            let (a, b) = (a >> 1, (b >> 1) >> shift);
            let mut sum = count(a);
            sum.add(&count(b));
            prop_assert_eq!(sum, count(a + b));
            prop_assert_eq!(count(a).cmp(&count(b)), a.cmp(&b));
        }

        #[test]
        fn counting_walks_is_the_contest(closure in dags(14)) {
            let top: Vec<PathId> =
                closure.ids().filter(|id| closure.referrers(*id).is_empty()).collect();
            let expected: Vec<Count> =
                contest(&closure, &top).into_values().map(count).collect();
            prop_assert_eq!(popularity(&closure), expected);
        }
    }
}
