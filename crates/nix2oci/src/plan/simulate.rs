//! What a strategy would have moved over a history of releases.
//!
//! A node that runs one release has its layers. For the next one it pulls every
//! layer that it does not have, whole. What a layer is, is said by the store
//! paths in it: two releases share a layer if both have one of the same paths.
//!
//! No grouping of whole paths moves less than the paths themselves that are
//! new, each as a layer of its own: that is the lower bound that figures are
//! compared to.
//!
//! Bytes are those of the NAR serialisation, before compression. Ratios of them
//! are close to those of compressed layers, since every strategy moves the same
//! kinds of files.

use std::collections::HashMap;
use std::sync::Arc;

use crate::closure::Closure;
use crate::error::Result;
use crate::store::StorePath;

use super::{EarlierImage, LayerPlan, LayerStrategy, PlanOptions};

/// A strategy that goes through a history, release by release, the oldest
/// first.
///
/// Holds the layers of the last release, and a few numbers of each.
#[derive(Clone)]
pub struct Simulation {
    strategy: Arc<dyn LayerStrategy>,
    keeps_layers: bool,
    last: Option<Layers>,
    releases: Vec<ReleaseCost>,
}

/// What one release costs somebody who has the one before.
///
/// Sizes are NAR sizes in bytes; one that is not known counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReleaseCost {
    /// The layers of store paths.
    pub layers: usize,
    /// The size of all of them.
    pub nar_size: u64,
    /// The layers that the release before did not have.
    pub moved_layers: usize,
    /// The size of those: what is pulled.
    pub moved_size: u64,
    /// The store paths that the release before did not have.
    pub new_paths: usize,
    /// The size of those: the least that any layers could move.
    pub new_size: u64,
}

/// Sums over the releases that have one before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryCost {
    /// How many those are.
    pub releases: usize,
    /// The sizes of their images, in bytes.
    pub nar_size: u64,
    /// See [`ReleaseCost::moved_layers`].
    pub moved_layers: usize,
    /// See [`ReleaseCost::moved_size`].
    pub moved_size: u64,
    /// See [`ReleaseCost::new_size`].
    pub new_size: u64,
}

impl HistoryCost {
    /// Returns what was moved as a multiple of the lower bound, at least 1;
    /// `None` if nothing was new.
    pub fn ratio(&self) -> Option<f64> {
        (self.new_size > 0).then(|| self.moved_size as f64 / self.new_size as f64)
    }
}

/// The layers of a release.
#[derive(Clone)]
struct Layers {
    /// The layer of each store path.
    places: HashMap<StorePath, usize>,
    /// How many store paths each layer has.
    sizes: Vec<usize>,
    /// The same for who plans the next release, if that one keeps layers.
    image: Option<EarlierImage>,
}

impl Simulation {
    /// Begins a history of no release. With `keeps_layers`, each release is
    /// planned with the layers of the one before it, as a push does that
    /// replaces an image.
    pub fn new(strategy: Arc<dyn LayerStrategy>, keeps_layers: bool) -> Self {
        Self {
            strategy,
            keeps_layers,
            last: None,
            releases: Vec::new(),
        }
    }

    /// Plans the next release and returns what it costs. For the first one that
    /// is the whole image.
    ///
    /// Of the options, [`keep`](PlanOptions::keep) is not looked at: whether
    /// the release before is kept was said in the beginning.
    ///
    /// Costs what [`LayerPlan::new`] does, and O(paths).
    ///
    /// # Errors
    ///
    /// Those of [`LayerPlan::new`]; the release is not taken then.
    pub fn release(&mut self, closure: &Closure, options: &PlanOptions<'_>) -> Result<ReleaseCost> {
        let last = self.last.as_ref();
        let options = PlanOptions {
            keep: last.and_then(|last| last.image.as_ref()),
            ..*options
        };
        let plan = LayerPlan::new(closure, &*self.strategy, &options)?;
        let cost = cost(closure, &plan, last);
        self.last = Some(Layers::new(closure, &plan, self.keeps_layers));
        self.releases.push(cost);
        Ok(cost)
    }

    /// Returns the name of the strategy.
    pub fn strategy(&self) -> String {
        self.strategy.name()
    }

    /// Returns whether each release is planned with the layers of the one
    /// before.
    pub fn keeps_layers(&self) -> bool {
        self.keeps_layers
    }

    /// Returns what each release costs, the oldest first.
    pub fn releases(&self) -> &[ReleaseCost] {
        &self.releases
    }

    /// Returns the sums over all releases but the first, which no node has
    /// anything of, whatever the layers.
    pub fn total(&self) -> HistoryCost {
        let updates = self.releases.iter().skip(1);
        updates.fold(HistoryCost::default(), |sum, release| HistoryCost {
            releases: sum.releases + 1,
            nar_size: sum.nar_size.saturating_add(release.nar_size),
            moved_layers: sum.moved_layers + release.moved_layers,
            moved_size: sum.moved_size.saturating_add(release.moved_size),
            new_size: sum.new_size.saturating_add(release.new_size),
        })
    }
}

impl Layers {
    fn new(closure: &Closure, plan: &LayerPlan, is_kept: bool) -> Self {
        let mut places = HashMap::with_capacity(closure.len());
        for (index, layer) in plan.layers().iter().enumerate() {
            for id in &layer.paths {
                places.insert(closure.path(*id).clone(), index);
            }
        }
        let layers = plan.layers().iter();
        let paths = layers.map(|layer| layer.paths.iter().map(|id| closure.path(*id)));
        Self {
            places,
            sizes: plan.layers().iter().map(|l| l.paths.len()).collect(),
            image: is_kept.then(|| EarlierImage::of_paths(paths)),
        }
    }

    /// Returns whether there is a layer of just these paths.
    fn has<'a>(&self, mut paths: impl ExactSizeIterator<Item = &'a StorePath>) -> bool {
        let count = paths.len();
        let Some(place) = paths.next().and_then(|path| self.places.get(path)) else {
            return false;
        };
        self.sizes[*place] == count && paths.all(|path| self.places.get(path) == Some(place))
    }
}

/// Counts what of a plan the last release did not have.
fn cost(closure: &Closure, plan: &LayerPlan, last: Option<&Layers>) -> ReleaseCost {
    let mut cost = ReleaseCost {
        layers: plan.layers().len(),
        nar_size: closure.total_nar_size(),
        ..ReleaseCost::default()
    };
    for layer in plan.layers() {
        let paths = layer.paths.iter().map(|id| closure.path(*id));
        if !last.is_some_and(|last| last.has(paths)) {
            cost.moved_layers += 1;
            let sizes = layer.paths.iter().map(|id| closure.nar_size(*id));
            cost.moved_size = sizes.fold(cost.moved_size, u64::saturating_add);
        }
    }
    for id in closure.ids() {
        if !last.is_some_and(|last| last.places.contains_key(closure.path(id))) {
            cost.new_paths += 1;
            cost.new_size = cost.new_size.saturating_add(closure.nar_size(id));
        }
    }
    cost
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
