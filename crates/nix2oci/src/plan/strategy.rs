//! How a strategy proposes layers.

use std::num::NonZeroUsize;

use crate::closure::{Closure, PathId};
use crate::error::Result;

/// What a strategy is asked.
#[derive(Debug, Clone, Copy)]
pub struct LayerRequest<'a> {
    /// The whole closure, with NAR sizes.
    pub closure: &'a Closure,
    /// The paths to place, sorted, each once: the closure's, but for those that
    /// are already in a named layer or in one below all of these.
    pub paths: &'a [PathId],
    /// How many groups there may be.
    pub budget: NonZeroUsize,
    /// Layers of the image that this one replaces, bottom first, that could be
    /// kept: all their paths are among `paths`. Each sorted; no path is in two.
    pub keep: &'a [Vec<PathId>],
    /// The same of other images whose layers the destination has, one image
    /// after the other. Here a path may be in several.
    pub share: &'a [Vec<PathId>],
    /// The closure's paths that the image that this one replaces has in a layer,
    /// whether that one could be kept or not; sorted. `None` if no image is
    /// replaced.
    pub earlier: Option<&'a [PathId]>,
    /// Those of `paths` that the user said change with every release; sorted.
    pub volatile: &'a [PathId],
}

/// Store paths that share a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The paths, in any order.
    pub paths: Vec<PathId>,
    /// Why they are together, in a few words for people.
    pub reason: String,
}

/// Proposes groups of store paths.
///
/// An implementer is deterministic: the same request gives the same groups in
/// the same order, bottom layer first. The order should put what changes least
/// at the bottom, since runtimes reuse a common prefix of layers. What it
/// returns is checked by [`LayerPlan`](super::LayerPlan), so a strategy can be
/// bad, not wrong.
pub trait LayerStrategy: Send + Sync {
    /// Returns the strategy's name and argument, as in `--layers`.
    fn name(&self) -> String;

    /// Returns whether it looks at the layers of other images and at what is
    /// volatile. One that does not makes the same groups with and without.
    fn keeps_layers(&self) -> bool {
        false
    }

    /// Returns each of the request's paths in one group, in no more groups
    /// than the budget; no group is empty.
    fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>>;
}
