//! Tests.

mod plan;
mod root_tree;
mod closure;
mod schemas;
mod sinks;
