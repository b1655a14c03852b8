//! Support for the tests: what stands in for a store, images made by hand, and
//! readers that share no code with the library.

pub mod handmade_image;
mod memory_store;

pub use memory_store::{MemoryStore, Node};
