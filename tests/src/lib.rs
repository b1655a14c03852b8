//! Support for the tests: what stands in for a store, and readers that share no
//! code with the library.

mod memory_store;

pub use memory_store::{MemoryStore, Node};
//! Support for the tests.

pub mod handmade_image;
