//! The layers of an image that exists, for the plan of the next one.

use std::collections::HashMap;

use crate::closure::{Closure, PathId};
use crate::store::{StorePath, StorePathPrefix};

/// The layers of an image that exists, as far as a plan for another one cares:
/// which store paths are together. A layer that still holds what it held, and
/// nothing else, need not be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EarlierImage {
    /// The layers, bottom first: the store paths in each, in any order. One
    /// without store paths, as a root tree's, is never kept.
    pub layers: Vec<Vec<StorePathPrefix>>,
}

/// Whether an image that exists has a layer of the same store paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LayerOrigin {
    /// None that was named has one.
    #[default]
    New,
    /// The image that is replaced has one.
    Kept,
    /// Another image has one.
    Shared,
}

impl LayerOrigin {
    /// Returns its name, as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Kept => "kept",
            Self::Shared => "shared",
        }
    }
}

impl EarlierImage {
    /// Takes the layers of an image of which every store path is known.
    pub fn of_paths<'a, L>(layers: impl IntoIterator<Item = L>) -> Self
    where
        L: IntoIterator<Item = &'a StorePath>,
    {
        let layer = |paths: L| paths.into_iter().map(StorePathPrefix::from).collect();
        Self {
            layers: layers.into_iter().map(layer).collect(),
        }
    }
}

impl EarlierImage {
    /// Returns whether there is a layer of these store paths and no others.
    /// Costs O(layers), and a comparison with each that has as many paths.
    pub fn has_layer(&self, paths: &[StorePath]) -> bool {
        let mut by_name: Vec<&StorePath> = paths.iter().collect();
        by_name.sort_by_key(|path| (path.name(), path.hash_part()));
        let mut as_large = self.layers.iter().filter(|l| l.len() == paths.len());
        as_large.any(|layer| {
            let mut layer: Vec<&StorePathPrefix> = layer.iter().collect();
            layer.sort_unstable();
            layer
                .iter()
                .zip(&by_name)
                .all(|(prefix, path)| prefix.matches(path))
        })
    }
}

/// The store paths of a closure by name.
pub(super) struct Lookup<'a> {
    closure: &'a Closure,
    /// Those of one name are sorted by hash.
    by_name: HashMap<&'a str, Vec<PathId>>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(closure: &'a Closure) -> Self {
        let mut by_name: HashMap<&str, Vec<PathId>> = HashMap::with_capacity(closure.len());
        for id in closure.ids() {
            by_name.entry(closure.path(id).name()).or_default().push(id);
        }
        for named in by_name.values_mut() {
            named.sort_unstable_by_key(|id| closure.path(*id).hash_part());
        }
        Self { closure, by_name }
    }

    /// Returns the layers of which every store path is in the closure and fits
    /// `is_open`, in the image's order; each sorted.
    ///
    /// A layer with a prefix that two paths match is left out.
    pub(super) fn layers(
        &self,
        image: &EarlierImage,
        is_open: impl Fn(PathId) -> bool,
    ) -> Vec<Vec<PathId>> {
        let layer = |prefixes: &Vec<StorePathPrefix>| -> Option<Vec<PathId>> {
            let mut ids: Vec<PathId> = prefixes
                .iter()
                .map(|prefix| self.find(prefix).filter(|id| is_open(*id)))
                .collect::<Option<_>>()?;
            ids.sort_unstable();
            ids.dedup();
            (!ids.is_empty() && ids.len() == prefixes.len()).then_some(ids)
        };
        image.layers.iter().filter_map(layer).collect()
    }

    /// Returns the store paths that are in a layer and in the closure; sorted.
    pub(super) fn paths(&self, image: &EarlierImage) -> Vec<PathId> {
        let prefixes = image.layers.iter().flatten();
        let mut ids: Vec<PathId> = prefixes.filter_map(|prefix| self.find(prefix)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn find(&self, prefix: &StorePathPrefix) -> Option<PathId> {
        let named = self.by_name.get(prefix.name())?;
        let is_below = |id: &PathId| self.closure.path(*id).hash_part() < prefix.hash_prefix();
        let (_, rest) = named.split_at(named.partition_point(is_below));
        let mut fitting = rest
            .iter()
            .take_while(|id| prefix.matches(self.closure.path(**id)));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(*first)
    }
}
