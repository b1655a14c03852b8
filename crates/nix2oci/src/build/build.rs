//! From a spec to an image in a sink.

use crate::context::Context;
use crate::error::Result;
use crate::sink::ImageSink;

use super::{BuildReport, ImageSpec};

/// Builds an image and gives it to a sink.
pub fn build(cx: &Context, spec: &ImageSpec, sink: &mut dyn ImageSink) -> Result<BuildReport> {
    let _ = (cx, spec, sink);
    unimplemented!("build::build")
}

/// Finds out every digest of an image and stores nothing.
pub fn resolve(cx: &Context, spec: &ImageSpec) -> Result<BuildReport> {
    let _ = (cx, spec);
    unimplemented!("build::resolve")
}
