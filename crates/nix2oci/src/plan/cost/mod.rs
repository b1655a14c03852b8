//! Layers by what they are expected to cost.
//!
//! A path changes when anything in its closure does, and a layer is sent whole
//! when any path in it changes. So a layer with the paths *g* changes when one
//! of *R(g)* paths does, all that its paths need. With changes of equal rate it
//! has changed by the next release with the chance f(R) = R / (R + 30), and
//! *costs* (bytes + 64 KiB) × f(R); in a closure of 512 paths and more the
//! constants are 100 and 512 KiB. The sum over the layers is made small:
//!
//! 1. The application has layers of its own, on top: the paths that the user
//!    said change with every release, or else those that need nine of ten paths
//!    of the closure, as the application, its environment and its
//!    configuration do: see `application`. There may be none.
//! 2. Layers that exist and of which every path is wanted are kept: first those
//!    of the image that is replaced, then other images' by size, the largest
//!    first. No path is taken twice, and none of the application.
//! 3. Each other path is a group of its own.
//! 4. Of all pairs of groups, join the one that costs least more as one than as
//!    two. To break up a layer that exists costs an eighth of its bytes more:
//!    it has to be sent now, and pays over about eight releases. Ties go to the
//!    pair with the smallest first path, by name and hash, then to the one
//!    whose other group has the smallest.
//! 5. Again, until they fit the budget and joining does not pay.
//! 6. If an image is replaced, move single paths between the groups that are new
//!    while that lowers the sum: see `improve`.
//! 7. Layers that were kept go to the bottom, in the order of their image, so
//!    that runtimes find the longest common prefix. Then those that change
//!    least, by R and by the first path. The application comes last.
//!
//! Sets are of the whole closure: what is in named layers changes others as
//! ever, and it does not depend on named layers which paths are the
//! application.
//!
//! The image that is replaced also tells what changed of itself: a path that is
//! new on references that are not. It counts as three in R, since what changed
//! lately is likelier to change again.
//!
//! Joining step by step is not the optimum of the model. Without an earlier
//! image it is left at that, though, because what comes a few percent closer to
//! the optimum moves more bytes in practice: a plan that is made by nesting is
//! steadier when the graph changes. With one, the layers that are kept are what
//! is steady. decisions/0009 has the figures.
//!
//! Costs O(paths²) counts of two sets at most, `merge` says how they are
//! avoided, and paths² / 8 bytes of memory; if an image is replaced twice that,
//! and six times if all paths changed by themselves. Paths without sizes tie
//! everywhere, which costs O(paths³) counts.

mod application;
mod improve;
mod merge;
mod model;
mod sets;

use std::cmp::Reverse;

use crate::closure::{Closure, PathId};
use crate::error::Result;

use self::application::application;
use self::improve::improve;
use self::merge::{Item, Union, merge};
use self::model::Model;
use self::sets::Sets;
use super::layer_plan::name_key;
use super::{Group, LayerRequest, LayerStrategy};

/// As how many paths more one counts that changed by itself since the image that
/// is replaced: what changed lately is likelier to change again.
const RECENT: usize = 2;

/// The layers with the least bytes to send in the next releases, as far as the
/// closure and the images that exist can tell.
///
/// A NAR size that is not known counts as 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost;

impl LayerStrategy for Cost {
    fn name(&self) -> String {
        "cost".to_owned()
    }

    fn keeps_layers(&self) -> bool {
        true
    }

    fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>> {
        let closure = request.closure;
        let changed = changed_by_itself(&request);
        let mut sets = needed(closure, changed.len());
        if request.paths.is_empty() {
            return Ok(Vec::new());
        }
        let top = application(&request, &sets);
        let volatile: Vec<PathId> = top.iter().flat_map(|g| g.paths.iter().copied()).collect();
        let has_rest = volatile.len() < request.paths.len();
        if has_rest && request.budget.get() == 1 {
            return Ok(vec![Group {
                paths: request.paths.to_vec(),
                reason: "everything".to_owned(),
            }]);
        }
        let mut groups = Vec::new();
        if has_rest {
            let budget = request.budget.get() - top.len();
            let parts = parts(&request, &volatile);
            weigh(closure, &changed, &mut sets);
            let items = items(closure, &parts, &request, &mut sets);
            let model = Model::of_closure(closure.len());
            let unions = if request.earlier.is_some() {
                let mut unions = merge(&items, sets.clone(), model, budget);
                improve(&items, &sets, model, &mut unions);
                unions
            } else {
                merge(&items, sets, model, budget)
            };
            groups = in_order(closure, &parts, unions);
        }
        groups.extend(top);
        Ok(groups)
    }
}

/// Returns the paths that the replaced image does not have, though it has all
/// that they refer to: nothing carried their change to them. None if no image is
/// replaced.
fn changed_by_itself(request: &LayerRequest<'_>) -> Vec<PathId> {
    let Some(earlier) = request.earlier else {
        return Vec::new();
    };
    let closure = request.closure;
    let mut is_new = vec![true; closure.len()];
    for id in earlier {
        is_new[id.index()] = false;
    }
    let carries = |id: &PathId| is_new[id.index()];
    let by_itself = |id: &PathId| carries(id) && !closure.references(*id).iter().any(carries);
    closure.ids().filter(by_itself).collect()
}

/// Returns for each path the set of all that it needs, with itself; there is
/// room to [`weigh`] as many as `changed` of them.
fn needed(closure: &Closure, changed: usize) -> Sets {
    let mut sets = Sets::new(closure.len(), closure.len() + RECENT * changed);
    for id in closure.ids() {
        sets.insert(id.index(), id.index());
        for reference in closure.references(id) {
            sets.join(id.index(), reference.index());
        }
    }
    sets
}

/// Lets paths that changed by themselves count as more than one, in the sets of
/// all that need them.
fn weigh(closure: &Closure, changed: &[PathId], sets: &mut Sets) {
    if changed.is_empty() {
        return;
    }
    for (n, id) in changed.iter().enumerate() {
        for more in 0..RECENT {
            sets.insert(id.index(), closure.len() + RECENT * n + more);
        }
    }
    for id in closure.ids() {
        for reference in closure.references(id) {
            sets.join(id.index(), reference.index());
        }
    }
}

/// Paths that are not parted, unless it is to join others.
struct Part {
    paths: Vec<PathId>,
    origin: Origin,
}

enum Origin {
    /// A layer of the image that is replaced.
    Kept,
    /// A layer of another image.
    Shared,
    /// A path that is in no layer that could be kept.
    New,
}

/// Returns the layers that are kept, those of the replaced image first and in
/// its order, and each other path that is not the application's.
fn parts(request: &LayerRequest<'_>, application: &[PathId]) -> Vec<Part> {
    let closure = request.closure;
    let mut taken = vec![true; closure.len()];
    for id in request.paths {
        taken[id.index()] = false;
    }
    for id in application {
        taken[id.index()] = true;
    }
    let mut share: Vec<&Vec<PathId>> = request.share.iter().collect();
    share.sort_by_cached_key(|layer| (Reverse(bytes(closure, layer)), *layer));
    let kept = request.keep.iter().map(|layer| (layer, Origin::Kept));
    let shared = share.into_iter().map(|layer| (layer, Origin::Shared));
    let mut parts = Vec::new();
    for (layer, origin) in kept.chain(shared) {
        if layer.is_empty() || layer.iter().any(|id| taken[id.index()]) {
            continue;
        }
        for id in layer {
            taken[id.index()] = true;
        }
        parts.push(Part {
            paths: layer.clone(),
            origin,
        });
    }
    for id in request.paths {
        if !taken[id.index()] {
            parts.push(Part {
                paths: vec![*id],
                origin: Origin::New,
            });
        }
    }
    parts
}

/// Returns an item for each part. A part's set becomes that of its first path.
fn items(
    closure: &Closure,
    parts: &[Part],
    request: &LayerRequest<'_>,
    sets: &mut Sets,
) -> Vec<Item> {
    let mut by_name = request.paths.to_vec();
    by_name.sort_unstable_by_key(|id| name_key(closure, *id));
    let mut leads = vec![u32::MAX; closure.len()];
    for (lead, id) in (0..).zip(by_name) {
        leads[id.index()] = lead;
    }
    let item = |part: &Part| {
        let set = part.paths[0].index();
        for other in &part.paths[1..] {
            sets.join(set, other.index());
        }
        let leads = part.paths.iter().map(|id| leads[id.index()]);
        Item {
            lead: leads.min().expect("no part is empty"),
            size: bytes(closure, &part.paths),
            is_kept: !matches!(part.origin, Origin::New),
            set,
        }
    };
    parts.iter().map(item).collect()
}

/// Makes groups of unions, in the order of the image.
fn in_order(closure: &Closure, parts: &[Part], mut unions: Vec<Union>) -> Vec<Group> {
    unions.sort_unstable_by_key(|union| match union.items[..] {
        [part] if matches!(parts[part].origin, Origin::Kept) => (0, part as u32, 0),
        _ => (1, union.changed_by, union.lead),
    });
    unions
        .iter()
        .map(|union| group(closure, parts, union))
        .collect()
}

fn group(closure: &Closure, parts: &[Part], union: &Union) -> Group {
    let paths: Vec<PathId> = union
        .items
        .iter()
        .flat_map(|part| parts[*part].paths.iter().copied())
        .collect();
    let largest = paths
        .iter()
        .min_by_key(|id| (Reverse(closure.nar_size(**id)), name_key(closure, **id)))
        .map_or("", |id| closure.path(*id).name());
    let others = paths.len() - 1;
    let reason = match union.items[..] {
        [part] => match parts[part].origin {
            Origin::Kept => "kept from the earlier image".to_owned(),
            Origin::Shared => "shared with another image".to_owned(),
            Origin::New => format!("{largest} alone"),
        },
        _ if union.is_forced => format!("{largest} and {others} more to fit the budget"),
        _ => format!("{largest} and {others} more, cheaper together"),
    };
    Group { paths, reason }
}

fn bytes(closure: &Closure, paths: &[PathId]) -> u64 {
    let sizes = paths.iter().map(|id| closure.nar_size(*id));
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
