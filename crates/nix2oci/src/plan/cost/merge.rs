//! Joins groups, two at a time, until they fit the budget.
//!
//! The pair whose union costs least more than both apart comes first, exactly:
//! the result is that of trying all pairs before every step. To try fewer:
//!
//! - Groups are in order of R, the number of paths whose change changes them.
//!   A pair belongs to its lower group, which knows its best partner above.
//! - When a group's partner is gone, what it knew is still a lower bound. It
//!   looks for another one when that bound comes first, not before. A new group
//!   is offered to all below it and looks for a partner above.
//! - A union has no smaller R than its upper group. What the pair would cost
//!   with that R grows with the upper group's R, so a search can end early.
//! - For each pair there is a largest R with which it would be better than the
//!   best so far. Most pairs are seen to have more before their R is counted:
//!   by [`Sets::folded`], then by [`Sets::least_joined_len`]. Counting stops
//!   there.
//!
//! Rounding is the same on every machine, since there is only `+ - * /` in a
//! fixed order. Bounds are calculated in another way than what they bound, and
//! have slack for the rounding.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::model::Model;
use super::sets::Sets;

/// Over how many releases the bytes of breaking up a layer that exists are
/// spread.
const HORIZON: f64 = 8.0;

/// What is to be grouped: a path, or a layer that exists.
pub(super) struct Item {
    /// The smallest index of its paths, by name and hash; no two items have
    /// the same.
    pub(super) lead: u32,
    /// Bytes of NAR.
    pub(super) size: u64,
    /// Whether it is a layer that exists.
    pub(super) is_kept: bool,
    /// The set of all that change it, by its number.
    pub(super) set: usize,
}

/// Items that share a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Union {
    /// The indices of the items, in the order in which they were joined.
    pub(super) items: Vec<usize>,
    /// The smallest lead of the items.
    pub(super) lead: u32,
    /// How many paths can change it.
    pub(super) changed_by: u32,
    /// Whether some are together only because there are too few layers.
    pub(super) is_forced: bool,
}

/// Joins items until there are no more than `budget`, which is not 0, and as
/// long as it makes them cheaper together. The sets of items that are joined
/// become one of both.
///
/// Costs at most O(items²) counts of two sets, far fewer in practice.
pub(super) fn merge(items: &[Item], sets: Sets, model: Model, budget: usize) -> Vec<Union> {
    let mut greedy = Greedy::new(items, sets, model);
    greedy.run(budget);
    greedy.into_unions()
}

/// Items that are joined so far. One that was joined stays as it was.
struct Group {
    size: f64,
    cost: f64,
    penalty: f64,
    changed_by: u32,
    chance: f64,
    lead: u32,
    set: usize,
    /// [`Sets::folded`] of the set, here because it is asked for most.
    folded: u64,
}

impl Group {
    /// Where it is in the order: no two groups that exist have the same.
    fn rank(&self) -> (u32, u32) {
        (self.changed_by, self.lead)
    }
}

/// A pair of groups, and what it costs to join them.
///
/// In order of that, then of the leads. That is an order of all pairs, since no
/// two groups that exist have the same lead.
#[derive(Debug, Clone, Copy)]
struct Pair {
    delta: f64,
    leads: (u32, u32),
    lower: u32,
    upper: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_delta = self.delta.total_cmp(&other.delta);
        by_delta.then_with(|| self.leads.cmp(&other.leads))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

struct Greedy {
    sets: Sets,
    /// Those that exist and those that were joined.
    groups: Vec<Group>,
    exists: Vec<bool>,
    items: Vec<Vec<usize>>,
    is_forced: Vec<bool>,
    /// The groups that exist, by rank.
    order: Vec<u32>,
    /// For each group its best pair with one above it. If one of the pair is
    /// gone, no pair that is left is better.
    best: Vec<Option<Pair>>,
    /// The best pairs, and pairs that were.
    queue: BinaryHeap<Reverse<Pair>>,
    model: Model,
    /// The chance by R.
    chances: Vec<f64>,
    /// More than all rounding can amount to, in bytes.
    slack: f64,
}

impl Greedy {
    fn new(items: &[Item], sets: Sets, model: Model) -> Self {
        let groups: Vec<Group> = items
            .iter()
            .map(|item| {
                let size = item.size as f64;
                let changed_by = sets.len(item.set);
                let chance = model.chance(changed_by);
                Group {
                    size,
                    cost: (size + model.overhead) * chance,
                    penalty: if item.is_kept { size / HORIZON } else { 0.0 },
                    changed_by,
                    chance,
                    lead: item.lead,
                    set: item.set,
                    folded: sets.folded(item.set),
                }
            })
            .collect();
        let total: f64 = groups.iter().map(|group| group.size + model.overhead).sum();
        let mut order: Vec<u32> = (0..groups.len() as u32).collect();
        order.sort_unstable_by_key(|group| groups[*group as usize].rank());
        Self {
            chances: (0..=sets.end() as u32).map(|r| model.chance(r)).collect(),
            model,
            sets,
            exists: vec![true; groups.len()],
            items: (0..groups.len()).map(|item| vec![item]).collect(),
            is_forced: vec![false; groups.len()],
            best: vec![None; groups.len()],
            queue: BinaryHeap::with_capacity(groups.len()),
            order,
            groups,
            slack: total * 1e-12,
        }
    }

    fn run(&mut self, budget: usize) {
        for place in 0..self.order.len() {
            self.search(place);
        }
        while let Some(Reverse(pair)) = self.queue.pop() {
            let lower = pair.lower as usize;
            if !self.exists[lower] || self.best[lower] != Some(pair) {
                continue;
            }
            let is_forced = pair.delta >= 0.0;
            if is_forced && self.order.len() <= budget {
                return;
            }
            if self.exists[pair.upper as usize] {
                self.join(pair, is_forced);
            } else {
                let place = self.place(self.groups[lower].rank());
                self.search(place);
            }
        }
    }

    /// Finds the best pair of the group at a place with one above it.
    fn search(&mut self, place: usize) {
        let lower = self.order[place];
        let group = &self.groups[lower as usize];
        let mut best = None;
        let mut limit = f64::INFINITY;
        for upper in &self.order[place + 1..] {
            let other = &self.groups[*upper as usize];
            // What it costs if nothing but the upper group's paths change both,
            // and there is no penalty for the upper group.
            let least = group.size * other.chance - group.cost + group.penalty;
            if least > limit + self.slack {
                break;
            }
            if let Some(pair) = self.better(lower, *upper, best.as_ref()) {
                limit = pair.delta;
                best = Some(pair);
            }
        }
        self.best[lower as usize] = best;
        self.queue.extend(best.map(Reverse));
    }

    /// Returns a pair if no other one is known, or if it is as good.
    fn better(&self, lower: u32, upper: u32, known: Option<&Pair>) -> Option<Pair> {
        let (a, b) = (&self.groups[lower as usize], &self.groups[upper as usize]);
        let limit = known.map_or(f64::INFINITY, |known| known.delta);
        // Where one folds to a bit and the other does not, it has a number that
        // the other has not.
        let least = b.changed_by + (a.folded & !b.folded).count_ones();
        if self.roughly(a, b, self.chances[least as usize]) > limit + self.slack {
            return None;
        }
        let least = self.sets.least_joined_len(a.set, b.set);
        if self.roughly(a, b, self.chances[least as usize]) > limit + self.slack {
            return None;
        }
        let changed_by = self.sets.joined_len(a.set, b.set, self.most(a, b, limit))?;
        let (first, second) = if a.lead < b.lead { (a, b) } else { (b, a) };
        let pair = Pair {
            delta: self.delta(a, b, self.chances[changed_by as usize]),
            leads: (first.lead, second.lead),
            lower,
            upper,
        };
        known.is_none_or(|known| pair <= *known).then_some(pair)
    }

    fn join(&mut self, pair: Pair, is_forced: bool) {
        let [lower, upper] = [pair.lower, pair.upper].map(|group| group as usize);
        for gone in [upper, lower] {
            let place = self.place(self.groups[gone].rank());
            self.order.remove(place);
            self.exists[gone] = false;
        }
        let (a, b) = (&self.groups[lower], &self.groups[upper]);
        self.sets.join(a.set, b.set);
        let changed_by = self.sets.len(a.set);
        let chance = self.chances[changed_by as usize];
        let size = a.size + b.size;
        let group = Group {
            size,
            cost: (size + self.model.overhead) * chance,
            penalty: 0.0,
            changed_by,
            chance,
            lead: pair.leads.0,
            set: a.set,
            folded: a.folded | b.folded,
        };
        let mut items = std::mem::take(&mut self.items[lower]);
        items.append(&mut self.items[upper]);
        let is_forced = is_forced || self.is_forced[lower] || self.is_forced[upper];

        let new = self.groups.len() as u32;
        let place = self.place(group.rank());
        self.order.insert(place, new);
        self.groups.push(group);
        self.exists.push(true);
        self.items.push(items);
        self.is_forced.push(is_forced);
        self.best.push(None);
        for at in 0..place {
            let below = self.order[at];
            let known = self.best[below as usize];
            if let Some(pair) = self.better(below, new, known.as_ref()) {
                self.best[below as usize] = Some(pair);
                self.queue.push(Reverse(pair));
            }
        }
        self.search(place);
        self.forget();
    }

    /// Drops pairs that are no group's best any more, once they are most of the
    /// queue. Where a new group is better for all below it, as among paths that
    /// need nothing, each step adds as many as there are groups.
    fn forget(&mut self) {
        if self.queue.len() > 4 * self.order.len() {
            let best = self.order.iter().filter_map(|g| self.best[*g as usize]);
            self.queue = best.map(Reverse).collect();
        }
    }

    /// Returns what it costs to join two groups, if that is the chance that the
    /// union has changed.
    ///
    /// Groups that are all part of another one's needs tie but for rounding, so it
    /// has a fixed order: that of the leads.
    fn delta(&self, a: &Group, b: &Group, chance: f64) -> f64 {
        let (a, b) = if a.lead < b.lead { (a, b) } else { (b, a) };
        (a.size + b.size + self.model.overhead) * chance - a.cost - b.cost + a.penalty + b.penalty
    }

    /// Returns the same, rounded in another way, without asking which is first.
    fn roughly(&self, a: &Group, b: &Group, chance: f64) -> f64 {
        (a.size + b.size + self.model.overhead) * chance - (a.cost + b.cost)
            + (a.penalty + b.penalty)
    }

    /// Returns an R that is no smaller than any with which it costs no more than
    /// `delta` to join two groups.
    fn most(&self, a: &Group, b: &Group, delta: f64) -> u32 {
        let cost = delta + a.cost + b.cost - a.penalty - b.penalty;
        // Rounding is less than a part in 10¹⁴, here and in what a pair costs.
        let chance = cost / (a.size + b.size + self.model.overhead) + 1e-12;
        self.model.most(chance)
    }

    /// Returns where a group is in the order, or would be.
    fn place(&self, rank: (u32, u32)) -> usize {
        self.order
            .partition_point(|group| self.groups[*group as usize].rank() < rank)
    }

    fn into_unions(mut self) -> Vec<Union> {
        let mut unions = Vec::with_capacity(self.order.len());
        for group in self.order {
            let group = group as usize;
            unions.push(Union {
                items: std::mem::take(&mut self.items[group]),
                lead: self.groups[group].lead,
                changed_by: self.groups[group].changed_by,
                is_forced: self.is_forced[group],
            });
        }
        unions
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
