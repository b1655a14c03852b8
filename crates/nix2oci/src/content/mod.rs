//! What is inside a store path.
//!
//! - [`ContentSource`]: visits a store path as its NAR serialisation sees it
//! - [`LocalStore`]: a store on this machine's disk
//! - [`VerifiedContent`]: another source, checked against NAR hashes
//! - [`nar_size`]: the size of a NAR, for sources that do not tell it

mod entry;
mod local;
mod nar;
#[cfg(test)]
mod tests;
mod verified;

pub use entry::{ContentSource, Contents, Entry};
pub use local::LocalStore;
#[cfg(feature = "registry")]
pub(crate) use nar::nar_hash;
pub use nar::nar_size;
pub(crate) use nar::{NarObject, NarSize};
pub use verified::VerifiedContent;
