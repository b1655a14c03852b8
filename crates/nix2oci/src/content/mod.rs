//! What is inside a store path.
//!
//! - [`ContentSource`]: visits a store path as its NAR serialisation sees it
//! - [`LocalStore`]: a store on this machine's disk
//! - [`CONTENTS`]: the kinds of sources that a user can name; [`open_content`]
//!   makes one
//! - [`BinaryCacheContent`]: binary caches (feature `binary-cache`)
//! - [`FirstOf`]: several sources, each for what it has
//! - [`DaemonContent`]: what the Nix daemon sends
//! - [`VerifiedContent`]: another source, checked against NAR hashes
//! - [`PlatformCheck`]: another source, whose programs are looked at on the way
//! - [`Program`]: what a file's first bytes tell of where it runs
//! - [`NarReader`]: visits what a NAR holds
//! - [`nar_size`]: the size of a NAR, measured; [`set_nar_sizes`]: those that a
//!   closure lacks

#[cfg(feature = "binary-cache")]
mod binary_cache;
mod daemon;
mod entry;
mod first_of;
mod kinds;
mod local;
mod nar;
mod nar_read;
mod platform_check;
mod program;
#[cfg(test)]
mod tests;
mod verified;

#[cfg(feature = "binary-cache")]
pub use binary_cache::BinaryCacheContent;
pub use daemon::DaemonContent;
pub use entry::{ContentSource, Contents, Entry};
pub use first_of::FirstOf;
pub use kinds::{
    CONTENTS, ContentKind, ContentOptions, OpenContent, content_kind, open_content, open_contents,
};
pub use local::LocalStore;
pub(crate) use nar::nar_hash;
pub(crate) use nar::{NarObject, NarSize};
pub use nar::{nar_size, set_nar_sizes};
pub use nar_read::{NarOrigin, NarReader};
pub use platform_check::{ForeignPrograms, PlatformCheck};
pub use program::{Architecture, Program, ProgramFormat};
pub use verified::VerifiedContent;
