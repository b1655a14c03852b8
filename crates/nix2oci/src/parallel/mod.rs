//! The worker threads: the only place where they start.
//!
//! - [`pipeline`]: jobs that make streams of blocks, worked on side by side,
//!   out in order

pub(crate) mod pipeline;
