//! The paths that change with every release, and the layers that they get.
//!
//! The user names them, or they are those that need nine of ten paths of the
//! closure, as an application, its environment and its configuration do. That
//! rule cannot tell what the next release really changes, so they are parted
//! where there is a reason to:
//!
//! - The image that is replaced shows it: what it has already did not change,
//!   and stays in the layers that it has there.
//! - Else, if every path can have a layer of its own, what nothing refers to
//!   comes last: a release of the application alone changes that, and perhaps not
//!   the environment below it. Where layers are scarce, this one would be missing
//!   elsewhere: over the histories of decisions/0009, in which all of the
//!   application changes with every release, 3 kB in 100 are moved more.

use crate::closure::{Closure, PathId};
use crate::plan::{Group, LayerRequest};

use super::sets::Sets;

/// Returns the layers of the application, the lowest first. Perhaps none; no
/// more than leaves one layer for the rest, if there is a rest and the budget is
/// not 1.
pub(super) fn application(request: &LayerRequest<'_>, needed: &Sets) -> Vec<Group> {
    if !request.volatile.is_empty() {
        return vec![Group {
            paths: request.volatile.to_vec(),
            reason: "changes with every release".to_owned(),
        }];
    }
    let all = request.closure.len() as u64;
    let needs_most = |id: &PathId| u64::from(needed.len(id.index())) * 10 >= all * 9;
    let top: Vec<PathId> = request.paths.iter().copied().filter(needs_most).collect();
    let mut layers = parted(request, &top);
    layers.retain(|layer| !layer.is_empty());
    let rest = usize::from(top.len() < request.paths.len());
    if layers.len() + rest > request.budget.get() {
        layers = vec![top];
    }
    let last = layers.len().saturating_sub(1);
    let groups = layers.into_iter().enumerate();
    groups
        .filter(|(_, paths)| !paths.is_empty())
        .map(|(at, paths)| Group {
            paths,
            reason: match at == last {
                true => "the application",
                false => "around the application",
            }
            .to_owned(),
        })
        .collect()
}

fn parted(request: &LayerRequest<'_>, top: &[PathId]) -> Vec<Vec<PathId>> {
    let closure = request.closure;
    let (old, new): (Vec<PathId>, Vec<PathId>) = match request.earlier {
        Some(earlier) => {
            let mut is_old = vec![false; closure.len()];
            earlier.iter().for_each(|id| is_old[id.index()] = true);
            top.iter().partition(|id| is_old[id.index()])
        }
        None => (Vec::new(), top.to_vec()),
    };
    if !old.is_empty() {
        let mut layers = as_they_were(closure, request.keep, &old);
        layers.push(new);
        return layers;
    }
    if request.budget.get() < request.paths.len() {
        return vec![new];
    }
    let is_needed = |id: &PathId| !closure.referrers(*id).is_empty();
    let (around, last) = new.iter().partition(|id| is_needed(id));
    vec![around, last]
}

/// Parts paths as the layers of the replaced image do that have no others; what
/// is in none of these comes first.
fn as_they_were(closure: &Closure, keep: &[Vec<PathId>], paths: &[PathId]) -> Vec<Vec<PathId>> {
    let mut is_open = vec![false; closure.len()];
    paths.iter().for_each(|id| is_open[id.index()] = true);
    let mut layers = vec![Vec::new()];
    for layer in keep {
        if layer.iter().all(|id| is_open[id.index()]) {
            layer.iter().for_each(|id| is_open[id.index()] = false);
            layers.push(layer.clone());
        }
    }
    layers[0].extend(paths.iter().filter(|id| is_open[id.index()]));
    layers
}
