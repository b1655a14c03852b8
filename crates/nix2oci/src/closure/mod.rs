//! What depends on what.
//!
//! - [`Closure`]: store paths and their references, checked
//! - [`ClosureSource`]: where that knowledge comes from
//! - one file for each source: see [`SOURCES`]
//!
//! Every source is a pure parser over bytes and a few lines that open the
//! file. Sources are tolerant where Nix's versions differ and strict where it
//! matters: what they return is checked again by [`Closure::new`].

mod graph;
mod source;

pub use graph::{Closure, PathId};
pub use source::{ClosureSource, PathInfos, read_closure};
