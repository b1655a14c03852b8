//! Tests.

mod plan;
mod root_tree;
mod closure;
