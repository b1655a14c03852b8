//! The verbs: read [`build()`] first, it is the whole line.

mod build;
mod report;
mod spec;

pub use build::{build, resolve};
pub use report::{BuildReport, LayerReport, LayerState};
pub use spec::ImageSpec;
