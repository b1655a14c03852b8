//! What a build needs of a place for images.

use std::collections::BTreeMap;
use std::path::Path;

use crate::context::Context;
use crate::error::Result;
use crate::image::RawManifest;
use crate::layer::{Blob, LayerKeyPrefix, LayerRecord};
use crate::oci::{Descriptor, Reference};

/// In which order a sink takes the blobs of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobOrder {
    /// In image order, bottom first, then the config: the sink's bytes depend
    /// on it.
    Image,
    /// As they are ready.
    Any,
}

/// Takes images: all blobs of one, then its manifest or index, then the next
/// image, and at the end `commit`.
///
/// What a caller may rely on: nothing has its final name before `commit`
/// returns; dropping a sink that was not committed removes what it wrote, as
/// far as that is possible. What an implementer must keep: a blob whose bytes
/// do not match its descriptor is refused, with
/// [`ErrorKind::DigestMismatch`](crate::ErrorKind::DigestMismatch) or
/// [`ErrorKind::SizeMismatch`](crate::ErrorKind::SizeMismatch); the same blob
/// twice is no error; `cx.cancel` is asked once per buffer.
pub trait ImageSink: Send {
    /// Returns where the image goes, as the user would name it.
    fn name(&self) -> String;

    /// Returns the order in which the layers must come.
    fn blob_order(&self) -> BlobOrder {
        BlobOrder::Any
    }

    /// Returns a directory on whose file system blobs may wait, if the sink has
    /// one: it needs room for them there in any case.
    fn spool_dir(&self) -> Option<&Path> {
        None
    }

    /// Returns whether [`Blob::move_to`] from the spool directory saves the
    /// sink a copy.
    fn moves_blobs(&self) -> bool {
        false
    }

    /// Returns those of `blobs` that the sink does not have yet, in their
    /// order.
    fn missing(&mut self, cx: &Context, blobs: &[Descriptor]) -> Result<Vec<Descriptor>> {
        let _ = cx;
        Ok(blobs.to_vec())
    }

    /// Returns what earlier images of these names say of their layers, by the
    /// beginnings of the layers' keys: [`layer_records`](crate::image::layer_records)
    /// of each. A blob need not be there: [`missing`](ImageSink::missing) tells.
    ///
    /// What an image says is believed, so images of other names say nothing: who
    /// copied one from elsewhere did not say that its layers are good for others.
    fn known_layers(
        &mut self,
        cx: &Context,
        names: &[Reference],
    ) -> Result<BTreeMap<LayerKeyPrefix, LayerRecord>> {
        let _ = (cx, names);
        Ok(BTreeMap::new())
    }

    /// Takes a layer or a config.
    fn put_blob(&mut self, cx: &Context, blob: &mut dyn Blob) -> Result<()>;

    /// Takes the manifest; its blobs were put before. `names` are the
    /// references that it gets at `commit`, perhaps none.
    fn put_manifest(
        &mut self,
        cx: &Context,
        manifest: &RawManifest,
        names: &[Reference],
    ) -> Result<()>;

    /// Takes an index and the manifests that it names; all their blobs were put
    /// before. `children` has indexes as well if there are some in the index,
    /// each after those that it names. `names` are the references that the
    /// index gets at `commit`, perhaps none; the children get none.
    fn put_index(
        &mut self,
        cx: &Context,
        index: &RawManifest,
        children: &[RawManifest],
        names: &[Reference],
    ) -> Result<()>;

    /// Gives everything its final name, durably.
    fn commit(&mut self, cx: &Context) -> Result<()>;
}
