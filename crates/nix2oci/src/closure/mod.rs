//! What depends on what.
//!
//! - [`Closure`]: store paths and their references, checked
//! - [`Dominators`]: what is there only because of what; why a path is in a
//!   closure is asked of [`Closure`] itself
//! - [`ClosureSource`]: where that knowledge comes from; [`read_closure`] asks
//!   several and joins what they know
//! - [`attrs_json`], [`reference_graph`], [`registration`],
//!   [`path_info_json`], `db` (feature `db`), `daemon`,
//!   `binary_cache` (feature `binary-cache`): one source each
//! - [`SOURCES`]: the kinds of sources that a user can name; [`open_source`]
//!   and [`automatic`] make one
//!
//! Every source of a document is a pure parser over bytes and a few lines that
//! open the file. Sources are tolerant where Nix's versions differ and strict
//! where it matters. A document must be whole: references that have no entry,
//! cycles and entries that differ are told with their line or key. What
//! sources return together is checked again by [`Closure::new`].
//!
//! The rest is shared: `document` checks what the entries of a document must
//! have in common, `records` is the grammar of the two text formats, `json` and
//! `path_object` that of the two JSON formats.

pub mod attrs_json;
#[cfg(feature = "db")]
pub mod db;
pub mod path_info_json;
pub mod reference_graph;
pub mod registration;

#[cfg(feature = "binary-cache")]
mod binary_cache;
mod daemon;
mod document;
mod dominators;
mod graph;
mod json;
mod kinds;
mod path_object;
mod queries;
mod records;
mod source;

pub use attrs_json::AttrsJson;
#[cfg(feature = "binary-cache")]
pub use binary_cache::BinaryCacheClosure;
#[cfg(feature = "db")]
pub(crate) use db::RegisteredPath;
#[cfg(feature = "db")]
pub use db::{Database, ValidPaths};
pub use dominators::Dominators;
pub use graph::{Closure, PathId};
pub use kinds::{
    OpenSource, OpenStdin, OpenedSources, SOURCES, SourceKind, SourceOptions, automatic,
    open_source, open_sources,
};
pub use path_info_json::PathInfoJson;
pub use queries::{ChainNode, NamedPath};
pub use reference_graph::ReferenceGraph;
pub use registration::Registration;
pub use source::{ClosureSource, PathInfos, read_closure};
