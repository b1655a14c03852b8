//! A sink that keeps nothing.

use std::io;
use std::path::Path;

use crate::context::Context;
use crate::error::Result;
use crate::image::RawManifest;
use crate::layer::Blob;
use crate::oci::Reference;

use super::ImageSink;
use super::index_json::parse_manifest;
use super::index_parts::IndexParts;
use super::output::Output;

/// Checks blobs and drops them: for benches, and to see what a build costs
/// without its output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl ImageSink for Discard {
    fn name(&self) -> String {
        "none:".into()
    }

    fn put_blob(&mut self, cx: &Context, blob: &mut dyn Blob) -> Result<()> {
        cx.cancel.check()?;
        if blob.verified_file().is_some() {
            return Ok(());
        }
        Output::writer(Box::new(io::sink()), Path::new("nothing")).copy_blob(cx, blob)
    }

    fn put_manifest(
        &mut self,
        cx: &Context,
        manifest: &RawManifest,
        _: &[Reference],
    ) -> Result<()> {
        parse_manifest(&self.name(), manifest)?;
        self.put_blob(cx, &mut manifest.blob.clone())
    }

    fn put_index(
        &mut self,
        cx: &Context,
        index: &RawManifest,
        children: &[RawManifest],
        _: &[Reference],
    ) -> Result<()> {
        IndexParts::new(&self.name(), index, children)?;
        for document in children.iter().chain([index]) {
            self.put_blob(cx, &mut document.blob.clone())?;
        }
        Ok(())
    }

    fn commit(&mut self, cx: &Context) -> Result<()> {
        cx.cancel.check()
    }
}
