//! Tests.

mod plan;
mod root_tree;
mod closure;
mod schemas;
mod sinks;
//! Tests of the whole: laws over every implementation of a seam, and runs of
//! the command with the real tools.

mod floors;
mod nix;
