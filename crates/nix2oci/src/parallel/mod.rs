//! The worker threads: the only place where they start.
//!
//! - [`pipeline`]: jobs that make streams of blocks, worked on side by side,
//!   out in order
//! - [`for_each`]: one call for each of many independent things

mod for_each;
pub(crate) mod pipeline;

pub(crate) use for_each::for_each;
