//! Which store paths share a layer.
//!
//! - [`LayerStrategy`]: proposes groups of store paths
//! - [`STRATEGIES`]: those that have a name; one file for each
//! - [`LayerPlan`]: the groups, checked, with named layers
//! - [`EarlierImage`]: the layers of an image that exists, to be kept
//! - [`Simulation`]: what a strategy would have moved over a history of releases
//! - [`RootTree`]: files outside the store, as data; they are the top layer
//! - [`RootDocument`]: the same as people write it
//! - [`Rule`]: modes, owners and extended attributes by path
//! - `nix_db`: the database with which Nix works in a container
//!
//! What the strategies cost, for n paths with m references in l layers. The
//! last columns are the time of [`LayerPlan::new`] in a release build on one
//! core of a busy 2-core cloud machine, in 100 layers: a closure of 1,123 paths
//! (Debian packages, 4.6 GB), and the random graphs of the benches.
//!
//! | strategy | steps | 1,123 paths | 5,000 | 20,000 |
//! | --- | --- | --- | --- | --- |
//! | [`Cost`] | n² × n / 64 at most, far fewer in practice | 10 ms | 0.3 s | 10 s |
//! | [`Largest`] | l × (n + m), and the sets of owners | 0.5 ms | 1.4 ms | 6 ms |
//! | [`Popularity`] | n × (n + m) / 64, and n² / 2 additions at most | 1 ms | 11 ms | 0.14 s |
//! | [`Single`] | n | 0.1 ms | 0.5 ms | 3 ms |

mod cost;
mod earlier;
mod largest;
mod layer_plan;
#[cfg(feature = "db")]
mod nix_db;
mod popularity;
mod root_document;
mod root_tree;
mod rule;
mod simulate;
mod single;
mod strategies;
mod strategy;
#[cfg(test)]
mod test_closure;

pub use cost::Cost;
pub use earlier::{EarlierImage, LayerOrigin};
pub use largest::Largest;
pub use layer_plan::{ExplicitLayer, LayerPlan, PlanOptions, PlannedLayer};
#[cfg(feature = "db")]
pub use nix_db::nix_db;
pub use popularity::Popularity;
pub use root_document::{AccountFiles, FileCapabilities, ParseCapabilitiesError, RootDocument};
pub(crate) use root_tree::Ground;
pub use root_tree::{Copies, Metadata, Rewrite, RootFile, RootNode, RootTree};
pub(crate) use rule::FileKind;
pub use rule::{Pattern, PatternKind, Rule};
pub use simulate::{HistoryCost, ReleaseCost, Simulation};
pub use single::Single;
pub use strategies::{DEFAULT_STRATEGY, STRATEGIES, StrategyEntry, strategy};
pub use strategy::{Group, LayerRequest, LayerStrategy};

/// The most layers that every loader takes. Docker's own store takes no more
/// (moby 24.0, `layer/layer_store.go`, `maxLayerDepth`).
pub const MAX_LAYERS: usize = 125;
