//! Moves single items from one union to another while that makes them cheaper.
//!
//! Joining step by step never parts what it has joined, so a path can end up
//! beside others that a later step took elsewhere. Here each item of each union
//! is tried in every other one, and goes where the sum of both costs falls
//! most, sweep after sweep.
//!
//! This is for an image that replaces another one. There the layers that stay
//! are kept as they are, and only what is packed anyway is looked at. Without
//! an earlier image it would do harm: the sum is smaller, but a small change of
//! the graph leads to another plan, and more is moved.
//!
//! What can change a union without one of its items is counted without making
//! the set anew: of each union it is known which numbers are in just one of its
//! items' sets. Costs at most 10 × items × unions counts of two sets, and two
//! sets for each union, and no more than a fixed number of steps in all.

use super::merge::{Item, Union};
use super::model::Model;
use super::sets::Sets;

/// How many times all items are tried. Two or three are the rule.
const SWEEPS: usize = 10;

/// The most words of sets that are looked at, about a tenth of a second. Reached
/// by some 2,000 items that are all new in 100 unions; with 5,000 all are tried
/// once, and with 10,000 it is left at what joining has made.
const WORDS: usize = 1 << 26;

/// Moves items between unions; one that is a layer that exists, and nothing
/// else, is left alone. No union becomes empty. The sets are those of the items
/// before they were joined.
///
/// Each move lowers the sum of the costs by more than rounding could.
pub(super) fn improve(items: &[Item], sets: &Sets, model: Model, unions: &mut [Union]) {
    let open: Vec<usize> = (0..unions.len())
        .filter(|union| !is_layer(items, &unions[*union]))
        .collect();
    let mut loads: Vec<Load> = open
        .iter()
        .map(|union| Load::of(items, sets, model, &unions[*union].items))
        .collect();
    let total: f64 = items
        .iter()
        .map(|item| item.size as f64 + model.overhead)
        .sum();
    let slack = total * 1e-12;
    let width = items.first().map_or(0, |item| sets.words(item.set).len());
    let sweep = items.len() * open.len() * width;
    let mut left = WORDS;
    'sweeps: for _ in 0..SWEEPS {
        let Some(after) = left.checked_sub(sweep) else {
            break;
        };
        left = after;
        let mut has_moved = false;
        for from in 0..open.len() {
            for item in unions[open[from]].items.clone() {
                if unions[open[from]].items.len() < 2 {
                    break;
                }
                let Some(to) = better(&items[item], sets, &loads, from, slack) else {
                    continue;
                };
                unions[open[from]].items.retain(|other| *other != item);
                unions[open[to]].items.push(item);
                for changed in [from, to] {
                    let members = &unions[open[changed]].items;
                    loads[changed] = Load::of(items, sets, model, members);
                    left = left.saturating_sub(members.len() * width);
                }
                has_moved = true;
                if left == 0 {
                    break 'sweeps;
                }
            }
        }
        if !has_moved {
            break;
        }
    }
    for (union, load) in open.iter().zip(&loads) {
        let union = &mut unions[*union];
        let leads = union.items.iter().map(|item| items[*item].lead);
        union.lead = leads.min().expect("no union is empty");
        union.changed_by = load.changed_by;
    }
}

fn is_layer(items: &[Item], union: &Union) -> bool {
    matches!(union.items[..], [item] if items[item].is_kept)
}

/// Returns where an item should go, if not stay.
fn better(item: &Item, sets: &Sets, loads: &[Load], from: usize, slack: f64) -> Option<usize> {
    let saved = loads[from].cost - loads[from].cost_without(item, sets);
    let mut best = None;
    let mut least = -slack;
    for (to, load) in loads.iter().enumerate() {
        if to == from {
            continue;
        }
        let delta = load.cost_with(item, sets) - load.cost - saved;
        if delta < least {
            least = delta;
            best = Some(to);
        }
    }
    best
}

/// What is known of a union.
struct Load {
    model: Model,
    size: u64,
    cost: f64,
    changed_by: u32,
    /// The numbers that are in a set of its items.
    any: Vec<u64>,
    /// Those that are in more than one.
    many: Vec<u64>,
}

impl Load {
    fn of(items: &[Item], sets: &Sets, model: Model, members: &[usize]) -> Self {
        let width = sets.words(items[members[0]].set).len();
        let (mut any, mut many) = (vec![0; width], vec![0; width]);
        for member in members {
            let words = sets.words(items[*member].set);
            for ((any, many), word) in any.iter_mut().zip(&mut many).zip(words) {
                *many |= *any & word;
                *any |= word;
            }
        }
        let sizes = members.iter().map(|member| items[*member].size);
        let size = sizes.fold(0, u64::saturating_add);
        let changed_by = any.iter().map(|word: &u64| word.count_ones()).sum();
        Self {
            size,
            cost: model.cost(size, changed_by),
            model,
            changed_by,
            any,
            many,
        }
    }

    /// Returns what the union would cost without one of its items.
    fn cost_without(&self, item: &Item, sets: &Sets) -> f64 {
        let alone = self.many.iter().zip(sets.words(item.set));
        let alone: u32 = alone.map(|(many, word)| (word & !many).count_ones()).sum();
        self.model
            .cost(self.size - item.size, self.changed_by - alone)
    }

    /// Returns what the union would cost with one item more.
    fn cost_with(&self, item: &Item, sets: &Sets) -> f64 {
        let more = self.any.iter().zip(sets.words(item.set));
        let more: u32 = more.map(|(any, word)| (word & !any).count_ones()).sum();
        self.model
            .cost(self.size.saturating_add(item.size), self.changed_by + more)
    }
}

#[cfg(test)]
#[path = "improve_tests.rs"]
mod tests;
