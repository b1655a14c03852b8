//! One file for each verb: parse, call the library, tell.

mod build;
mod cache;
mod check;
mod completions;
mod copy;
mod diff;
mod explain;
mod index;
mod inspect;
mod inspect_index;
mod layer;
mod load;
mod lock;
mod man;
mod plan;
mod push;
mod resolve;
mod several;
mod simulate;

pub(crate) use build::build;
pub(crate) use cache::cache;
pub(crate) use check::check;
pub(crate) use completions::completions;
pub(crate) use copy::copy;
pub(crate) use diff::diff;
pub(crate) use explain::explain;
pub(crate) use index::index;
pub(crate) use inspect::inspect;
pub(crate) use layer::layer;
pub(crate) use load::load;
pub(crate) use lock::lock;
pub(crate) use man::man;
pub(crate) use plan::plan;
pub(crate) use push::push;
pub(crate) use resolve::resolve;
pub(crate) use simulate::simulate;
