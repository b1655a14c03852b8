//! Tar, digests, compression: a layer's bytes.
//!
//! - [`Packing`]: all that shapes those bytes besides the paths
//! - [`LayerSpec`]: what goes into a layer; [`LayerKey`]: its name before it
//!   is made
//! - [`LayerRecord`]: what is known of it afterwards
//! - [`Blob`]: bytes that match a descriptor and can be read again

mod blob;
mod packing;
mod record;

pub use blob::{Blob, BytesBlob};
pub use packing::{Compression, Owner, Packing, ParseCompressionError, ParseOwnerError};
pub use record::{LayerKey, LayerRecord, LayerSpec};
