//! Which store paths share a layer.
//!
//! - [`LayerStrategy`]: proposes groups of store paths; see [`STRATEGIES`]
//! - [`LayerPlan`]: the groups, checked, with named layers and the root tree
//! - [`RootTree`]: files outside the store, as data

mod layer_plan;
mod root_tree;
mod strategy;

pub use layer_plan::{ExplicitLayer, LayerPlan, PlannedLayer};
pub use root_tree::{RootNode, RootTree};
pub use strategy::{Group, LayerRequest, LayerStrategy};
