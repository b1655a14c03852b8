//! Nix's words, without I/O.
//!
//! - [`StorePath`] and [`StoreDir`]: names of store objects and where they live
//! - [`NarHash`]: the hash of a store object's content
//! - [`PathInfo`]: what Nix knows of a store path
//! - [`nix32`]: Nix's base-32

pub mod nix32;

mod nar_hash;
mod path;
mod path_info;
mod quoted;

pub use nar_hash::{NarHash, ParseNarHashError};
pub use path::{ParseStoreDirError, ParseStorePathError, StoreDir, StorePath};
pub use path_info::PathInfo;
pub(crate) use quoted::Quoted;
