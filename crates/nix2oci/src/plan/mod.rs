//! Which store paths share a layer.
//!
//! - [`LayerStrategy`]: proposes groups of store paths
//! - [`STRATEGIES`]: those that have a name; one file for each
//! - [`LayerPlan`]: the groups, checked, with named layers
//! - [`RootTree`]: files outside the store, as data; they are the top layer
//!
//! What the strategies cost, for n paths with m references in l layers. The
//! last columns are one core of a 2-core cloud machine, a release build: a
//! closure of 1,123 paths (Debian packages, 4.6 GB) and a random graph of
//! 20,000 paths and 160,000 references, in 100 layers.
//!
//! | strategy | steps | 1,123 paths | 20,000 paths |
//! | --- | --- | --- | --- |
//! | [`Largest`] | l × (n + m) | 1 ms | 0.10 s |
//! | [`Popularity`] | n × (n + m) / 64, and n² / 2 additions at most | 2 ms | POP_20K |
//! | [`Single`] | n | under 0.1 ms | under 0.1 ms |

mod contents;
mod largest;
mod layer_plan;
mod popularity;
mod root_tree;
mod single;
mod strategies;
mod strategy;
#[cfg(test)]
mod test_closure;

pub use largest::Largest;
pub use layer_plan::{ExplicitLayer, LayerPlan, PlannedLayer};
pub use popularity::Popularity;
pub use root_tree::{RootNode, RootTree};
pub use single::Single;
pub use strategies::{DEFAULT_STRATEGY, STRATEGIES, StrategyEntry, strategy};
pub use strategy::{Group, LayerRequest, LayerStrategy};
