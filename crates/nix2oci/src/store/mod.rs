//! Nix's words, without I/O.
//!
//! - [`StorePath`] and [`StoreDir`]: names of store objects and where they live
//! - [`StorePathPrefix`]: a store path whose hash is cut
//! - [`NarHash`]: the hash of a store object's content
//! - [`ExpectedNar`]: what a store object's NAR must be
//! - [`PathInfo`]: what Nix knows of a store path
//! - [`PackageName`]: the package and the version in a store path's name
//! - [`nix32`]: Nix's base-32

pub mod nix32;

mod expected_nar;
mod nar_hash;
mod package_name;
mod path;
mod path_info;
mod path_prefix;
mod quoted;

pub use expected_nar::ExpectedNar;
pub use nar_hash::{NarHash, ParseNarHashError};
pub use package_name::PackageName;
pub(crate) use path::MAX_NAME_LEN;
pub use path::{ParseStoreDirError, ParseStorePathError, StoreDir, StorePath};
pub use path_info::PathInfo;
pub use path_prefix::StorePathPrefix;
pub(crate) use quoted::Quoted;
