//! What is inside a store path.
//!
//! - [`ContentSource`]: visits a store path as its NAR serialisation sees it
//! - [`LocalStore`]: a store on this machine's disk
//! - [`NarHasher`]: the NAR hash of what is visited

mod entry;
mod local;
mod nar_hash;

pub use entry::{ContentSource, Contents, Entry};
pub use local::LocalStore;
pub use nar_hash::{NarHasher, nar_size};
