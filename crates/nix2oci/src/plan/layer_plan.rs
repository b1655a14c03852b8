//! The layers of an image, decided and checked.

use std::num::NonZeroUsize;

use crate::closure::{Closure, PathId};
use crate::error::{Error, ErrorKind, Result};
use crate::store::StorePath;

use super::{LayerRequest, LayerStrategy};

/// A layer that the user asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplicitLayer {
    /// Its name, for people.
    pub name: String,
    /// The store paths in it: these alone, not what they refer to.
    pub paths: Vec<StorePath>,
}

/// One layer of store paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// The store paths, sorted by name and hash, each once.
    pub paths: Vec<PathId>,
    /// The strategy that made it, or `named`.
    pub strategy: String,
    /// Why these paths are together, in a few words for people.
    pub reason: String,
}

/// The layers of store paths in image order, bottom first.
///
/// Every path of the closure is in exactly one of them, none is empty, and
/// there are no more than the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    layers: Vec<PlannedLayer>,
}

impl LayerPlan {
    /// Asks `strategy` for layers of all paths that are not in an `explicit`
    /// one, and checks what it says. Explicit layers come on top, in their
    /// order. `budget` is for both.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if an explicit layer names a path that is
    /// not in the closure or is in another one, or if the budget is too small
    /// for them; [`ErrorKind::Plan`] if the strategy breaks its contract.
    pub fn new(
        closure: &Closure,
        strategy: &dyn LayerStrategy,
        explicit: &[ExplicitLayer],
        budget: NonZeroUsize,
    ) -> Result<Self> {
        let mut placed = vec![false; closure.len()];
        let mut named = Vec::with_capacity(explicit.len());
        for layer in explicit {
            named.push(place_explicit(closure, layer, &mut placed)?);
        }
        let rest: Vec<PathId> = closure.ids().filter(|id| !placed[id.index()]).collect();
        let mut layers = Vec::new();
        if !rest.is_empty() {
            let left = NonZeroUsize::new(budget.get().saturating_sub(named.len()))
                .ok_or_else(|| too_many(named.len() + 1, budget))?;
            layers = ask(closure, strategy, &rest, left)?;
        } else if named.len() > budget.get() {
            return Err(too_many(named.len(), budget));
        }
        layers.append(&mut named);
        Ok(Self { layers })
    }

    /// Returns the layers, bottom first.
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }
}

fn too_many(layers: usize, budget: NonZeroUsize) -> Error {
    Error::invalid(
        "the layer budget",
        format!("{budget} layers are allowed, and the named layers need {layers}"),
    )
}

fn place_explicit(
    closure: &Closure,
    layer: &ExplicitLayer,
    placed: &mut [bool],
) -> Result<PlannedLayer> {
    let refuse = |problem| Error::invalid(format!("layer {}", layer.name), problem);
    if layer.paths.is_empty() {
        return Err(refuse("it has no store path".to_owned()));
    }
    let mut paths = Vec::with_capacity(layer.paths.len());
    for path in &layer.paths {
        let full = || closure.store_dir().join(path);
        let id = closure
            .find(path)
            .ok_or_else(|| refuse(format!("{} is not in the closure", full())))?;
        if std::mem::replace(&mut placed[id.index()], true) {
            return Err(refuse(format!("{} is already in a named layer", full())));
        }
        paths.push(id);
    }
    Ok(PlannedLayer {
        paths: in_order(closure, paths),
        strategy: "named".to_owned(),
        reason: layer.name.clone(),
    })
}

fn ask(
    closure: &Closure,
    strategy: &dyn LayerStrategy,
    paths: &[PathId],
    budget: NonZeroUsize,
) -> Result<Vec<PlannedLayer>> {
    let refuse = |problem: String| ErrorKind::Plan {
        strategy: strategy.name(),
        problem,
    };
    let groups = strategy.group(LayerRequest {
        closure,
        paths,
        budget,
    })?;
    if groups.len() > budget.get() {
        let problem = format!("made {} layers, {budget} are allowed", groups.len());
        return Err(refuse(problem).into());
    }
    let mut waiting = vec![false; closure.len()];
    for id in paths {
        waiting[id.index()] = true;
    }
    for group in &groups {
        if group.paths.is_empty() {
            return Err(refuse("made an empty layer".to_owned()).into());
        }
        for id in &group.paths {
            if !std::mem::replace(&mut waiting[id.index()], false) {
                let problem = format!(
                    "placed {} twice, or was not asked to place it",
                    closure.full_path(*id)
                );
                return Err(refuse(problem).into());
            }
        }
    }
    if let Some(id) = paths.iter().find(|id| waiting[id.index()]) {
        let problem = format!("did not place {}", closure.full_path(*id));
        return Err(refuse(problem).into());
    }
    Ok(groups
        .into_iter()
        .map(|group| PlannedLayer {
            paths: in_order(closure, group.paths),
            strategy: strategy.name(),
            reason: group.reason,
        })
        .collect())
}

/// Sorts by (name, hash): a rebuilt path keeps its place in its layer.
fn in_order(closure: &Closure, mut paths: Vec<PathId>) -> Vec<PathId> {
    paths.sort_unstable_by_key(|id| {
        let path = closure.path(*id);
        (path.name(), path.hash_part())
    });
    paths
}
