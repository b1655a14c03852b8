//! The paths that change with every release, and the layers that they get.
//!
//! The user names them, or they are those that need nine of ten paths of the
//! closure, as an application, its environment and its configuration do. That
//! rule cannot tell what the next release really changes, so they are parted
//! where there is a reason to:
//!
//! - The image that is replaced shows it: what it has already did not change,
//!   and stays in the layers that it has there.
//! - What has none there gets a layer of its own if there is room for one: no two
//!   others must be joined for it, which would move more than it saves.
//! - Without such an image the same holds for what nothing refers to: a release
//!   of the application alone changes that, and perhaps not what is around it.

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
    if old.is_empty() {
        let is_needed = |id: &PathId| !closure.referrers(*id).is_empty();
        let (around, last): (Vec<PathId>, _) = new.iter().partition(|id| is_needed(id));
        return match has_room(request, top, 2) {
            true => vec![around, last],
            false => vec![new],
        };
    }
    let mut layers = as_they_were(closure, request.keep, &old);
    let mut new = new;
    if !new.is_empty() && !has_room(request, top, layers.len() + 1) {
        new.append(&mut layers[0]);
    }
    layers.push(new);
    layers
}

/// Returns whether nothing else has to be joined or broken up for so many layers
/// of the application.
fn has_room(request: &LayerRequest<'_>, top: &[PathId], layers: usize) -> bool {
    let mut is_open = vec![false; request.closure.len()];
    request
        .paths
        .iter()
        .for_each(|id| is_open[id.index()] = true);
    top.iter().for_each(|id| is_open[id.index()] = false);
    let mut others = request.paths.len() - top.len();
    for layer in request.keep.iter().chain(request.share) {
        if !layer.is_empty() && layer.iter().all(|id| is_open[id.index()]) {
            layer.iter().for_each(|id| is_open[id.index()] = false);
            others -= layer.len() - 1;
        }
    }
    others + layers <= request.budget.get()
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
