//! Support for the tests: what stands in for a store, images made by hand, and
//! readers that share no code with the library.

pub mod command;
mod fixture_store;
pub mod handmade_closure;
pub mod handmade_image;
pub mod image_files;
mod isolated;
mod memory_store;
mod tree;

pub use fixture_store::FixtureStore;
pub use isolated::Isolated;
pub use memory_store::{MemoryStore, Node};
pub use tree::{Object, Tree};
