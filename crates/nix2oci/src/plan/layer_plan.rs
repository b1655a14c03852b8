//! The layers of an image, decided and checked.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;

use crate::closure::{Closure, PathId};
use crate::error::{Error, ErrorKind, Result};
use crate::store::StorePath;

use super::earlier::Lookup;
use super::{EarlierImage, Group, LayerOrigin, LayerRequest, LayerStrategy};

/// A layer that the user asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplicitLayer {
    /// Its name, for people.
    pub name: String,
    /// The store paths in it: these alone, not what they refer to.
    pub paths: Vec<StorePath>,
}

/// What a plan is to keep to.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions<'a> {
    /// How many layers there may be, the explicit ones included.
    pub budget: NonZeroUsize,
    /// Layers asked for by name.
    pub explicit: &'a [ExplicitLayer],
    /// The image that this one replaces: its layers are kept where that moves
    /// fewer bytes.
    pub keep: Option<&'a EarlierImage>,
    /// Other images whose layers the destination has.
    pub share: &'a [EarlierImage],
    /// Store paths that change with every release, such as the application's
    /// own.
    pub volatile: &'a [StorePath],
    /// Store paths of the closure that layers below these have already: they
    /// are in none of these.
    pub below: &'a [PathId],
}

impl PlanOptions<'_> {
    /// Makes some with a budget and nothing else.
    pub fn new(budget: NonZeroUsize) -> Self {
        Self {
            budget,
            explicit: &[],
            keep: None,
            share: &[],
            volatile: &[],
            below: &[],
        }
    }
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
    /// Whether an image of [`PlanOptions`] has such a layer.
    pub origin: LayerOrigin,
}

/// The layers of store paths in image order, bottom first.
///
/// Every path of the closure, but for those that layers below have, is in
/// exactly one of them, none is empty, and there are no more than the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlan {
    layers: Vec<PlannedLayer>,
}

impl LayerPlan {
    /// Asks `strategy` for layers of all paths that are not in an `explicit`
    /// one, and checks what it says. Explicit layers come on top, in their
    /// order, without what is below and without those that have nothing then.
    /// The budget is for both; a root tree's layer is not in it.
    ///
    /// Costs what the strategy does, and O(paths × log(paths)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if two explicit layers have one name, if one
    /// has no path, a path twice, a path that is not in the closure or one that
    /// is in another, if the budget is too small for them, or if a volatile
    /// path is not in the closure;
    /// [`ErrorKind::Plan`] if the strategy breaks its contract; what the
    /// strategy fails with.
    pub fn new(
        closure: &Closure,
        strategy: &dyn LayerStrategy,
        options: &PlanOptions<'_>,
    ) -> Result<Self> {
        let budget = options.budget;
        let mut places = vec![Place::Open; closure.len()];
        for id in options.below {
            places[id.index()] = Place::Below;
        }
        let mut named = place_named(closure, options.explicit, &mut places)?;
        let volatile = find_volatile(closure, options.volatile)?;
        let open: Vec<PathId> = closure
            .ids()
            .filter(|id| matches!(places[id.index()], Place::Open))
            .collect();
        if named.len() > budget.get() {
            return Err(too_small(budget, named.len(), ""));
        }
        let mut layers = Vec::new();
        if !open.is_empty() {
            let left = NonZeroUsize::new(budget.get() - named.len()).ok_or_else(|| {
                too_small(budget, named.len(), ", and not all store paths are in one")
            })?;
            layers = ask(
                closure,
                strategy,
                options,
                volatile,
                &open,
                &mut places,
                left,
            )?;
        }
        layers.append(&mut named);
        find_origins(closure, options, &mut layers);
        Ok(Self { layers })
    }

    /// Returns the layers, bottom first.
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }
}

fn too_small(budget: NonZeroUsize, named: usize, and: &str) -> Error {
    let named = match named {
        1 => "1 layer is".to_owned(),
        _ => format!("{named} layers are"),
    };
    Error::invalid(
        "the layer budget",
        format!("at most {budget}, but {named} asked for by name{and}"),
    )
}

/// Who has a path, or is to have it.
#[derive(Clone, Copy)]
enum Place {
    /// The strategy is to place it.
    Open,
    /// It is in the named layer at this index.
    Named(usize),
    /// The strategy has placed it.
    Placed,
    /// A layer below has it.
    Below,
}

fn place_named(
    closure: &Closure,
    named: &[ExplicitLayer],
    places: &mut [Place],
) -> Result<Vec<PlannedLayer>> {
    let mut names = BTreeSet::new();
    let mut layers = Vec::with_capacity(named.len());
    for (index, layer) in named.iter().enumerate() {
        let refuse = |problem: String| Error::invalid(format!("layer {:?}", layer.name), problem);
        if !names.insert(&layer.name) {
            return Err(refuse("two layers have this name".to_owned()));
        }
        if layer.paths.is_empty() {
            return Err(refuse("it has no store path".to_owned()));
        }
        let mut paths = Vec::with_capacity(layer.paths.len());
        for path in &layer.paths {
            let full = || closure.store_dir().join(path);
            let id = closure
                .find(path)
                .ok_or_else(|| refuse(format!("{} is not in the closure", full())))?;
            // What is below need not be there once more, also if it was asked for
            // by name.
            if let Place::Below = places[id.index()] {
                continue;
            }
            if let Place::Named(first) = places[id.index()] {
                let problem = if first == index {
                    format!("{} is in it twice", full())
                } else {
                    format!("{} is already in layer {:?}", full(), named[first].name)
                };
                return Err(refuse(problem));
            }
            places[id.index()] = Place::Named(index);
            paths.push(id);
        }
        layers.push(PlannedLayer {
            paths: in_order(closure, paths),
            strategy: "named".to_owned(),
            reason: layer.name.clone(),
            origin: LayerOrigin::New,
        });
    }
    layers.retain(|layer| !layer.paths.is_empty());
    Ok(layers)
}

/// Finds out which layers other images have, whatever the strategy knew of them.
fn find_origins(closure: &Closure, options: &PlanOptions<'_>, layers: &mut [PlannedLayer]) {
    let shared = options
        .share
        .iter()
        .map(|image| (image, LayerOrigin::Shared));
    let kept = options.keep.map(|image| (image, LayerOrigin::Kept));
    let images: Vec<_> = shared.chain(kept).collect();
    if images.is_empty() {
        return;
    }
    let lookup = Lookup::new(closure);
    let mut origins = HashMap::new();
    for (image, origin) in images {
        let there = lookup.layers(image, |_| true);
        origins.extend(there.into_iter().map(|paths| (paths, origin)));
    }
    for layer in layers {
        let mut paths = layer.paths.clone();
        paths.sort_unstable();
        layer.origin = origins.get(&paths).copied().unwrap_or_default();
    }
}

fn find_volatile(closure: &Closure, volatile: &[StorePath]) -> Result<Vec<PathId>> {
    let mut ids = Vec::with_capacity(volatile.len());
    for path in volatile {
        ids.push(closure.find(path).ok_or_else(|| {
            let full = closure.store_dir().join(path);
            Error::invalid(
                "the volatile paths",
                format!("{full} is not in the closure"),
            )
        })?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Asks the strategy to place all open paths, and checks what it says.
fn ask(
    closure: &Closure,
    strategy: &dyn LayerStrategy,
    options: &PlanOptions<'_>,
    mut volatile: Vec<PathId>,
    open: &[PathId],
    places: &mut [Place],
    budget: NonZeroUsize,
) -> Result<Vec<PlannedLayer>> {
    let is_open = |id: PathId| matches!(places[id.index()], Place::Open);
    volatile.retain(|id| is_open(*id));
    let (mut keep, mut share) = (Vec::new(), Vec::new());
    let mut earlier = None;
    if options.keep.is_some() || !options.share.is_empty() {
        let lookup = Lookup::new(closure);
        keep = options
            .keep
            .map_or_else(Vec::new, |image| lookup.layers(image, is_open));
        earlier = options.keep.map(|image| lookup.paths(image));
        let mut taken = vec![false; closure.len()];
        // An image that says two layers hold one path is not believed twice.
        keep.retain(|layer| {
            let is_free = layer.iter().all(|id| !taken[id.index()]);
            layer.iter().for_each(|id| taken[id.index()] = true);
            is_free
        });
        for image in options.share {
            share.extend(lookup.layers(image, is_open));
        }
    }
    let groups = strategy.group(LayerRequest {
        closure,
        paths: open,
        budget,
        keep: &keep,
        share: &share,
        earlier: earlier.as_deref(),
        volatile: &volatile,
    })?;
    check(closure, &groups, open, places, budget).map_err(|problem| ErrorKind::Plan {
        strategy: strategy.name(),
        problem,
    })?;
    Ok(groups
        .into_iter()
        .map(|group| PlannedLayer {
            paths: in_order(closure, group.paths),
            strategy: strategy.name(),
            reason: group.reason,
            origin: LayerOrigin::New,
        })
        .collect())
}

fn check(
    closure: &Closure,
    groups: &[Group],
    open: &[PathId],
    places: &mut [Place],
    budget: NonZeroUsize,
) -> Result<(), String> {
    if groups.len() > budget.get() {
        return Err(format!(
            "made {} layers, {budget} are allowed",
            groups.len()
        ));
    }
    for group in groups {
        if group.paths.is_empty() {
            return Err("made an empty layer".to_owned());
        }
        for id in &group.paths {
            match places.get_mut(id.index()) {
                Some(place @ Place::Open) => *place = Place::Placed,
                Some(Place::Placed) => {
                    return Err(format!("placed {} twice", closure.full_path(*id)));
                }
                Some(Place::Named(_)) => {
                    return Err(format!(
                        "placed {}, which is in a named layer",
                        closure.full_path(*id)
                    ));
                }
                Some(Place::Below) => {
                    return Err(format!(
                        "placed {}, which a layer below has",
                        closure.full_path(*id)
                    ));
                }
                None => return Err("placed a path of another closure".to_owned()),
            }
        }
    }
    match open
        .iter()
        .find(|id| matches!(places[id.index()], Place::Open))
    {
        Some(id) => Err(format!("did not place {}", closure.full_path(*id))),
        None => Ok(()),
    }
}

/// Sorts by (name, hash): a rebuilt path keeps its place in its layer.
fn in_order(closure: &Closure, mut paths: Vec<PathId>) -> Vec<PathId> {
    paths.sort_unstable_by_key(|id| name_key(closure, *id));
    paths
}

/// Returns what paths are ordered by where nothing else tells them apart: the
/// name first, since the hash changes with every rebuild.
pub(super) fn name_key(closure: &Closure, id: PathId) -> (&str, &str) {
    let path = closure.path(id);
    (path.name(), path.hash_part())
}
