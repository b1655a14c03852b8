//! Tar, digests, compression: a layer's bytes.
//!
//! - [`Packing`]: all that shapes those bytes besides the paths
//! - [`LayerSpec`]: what goes into a layer; [`LayerKey`]: its name before it
//!   is made
//! - [`LayerRecord`]: what is known of it afterwards
//! - [`Blob`]: bytes that match a descriptor and can be read again

mod blob;
mod compress;
mod pack;
mod packing;
mod record;
mod spool;
mod tar;

pub use blob::{Blob, BytesBlob};
pub(crate) use pack::{PackRequest, PackedLayer, pack};
pub use packing::{Compression, Owner, Packing, ParseCompressionError, ParseOwnerError};
pub use record::{LayerContent, LayerKey, LayerRecord, LayerSpec};
