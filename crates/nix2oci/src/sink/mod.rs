//! Where images go.
//!
//! - [`ImageSink`]: takes blobs and manifests, gives names at the end
//! - [`Destination`]: where an image goes, as people write it; [`SINKS`] lists
//!   the forms
//! - [`OciLayout`]: a directory of blobs and an index
//! - [`Archive`]: one tar for every loader
//! - [`Discard`]: nothing, for benches

mod archive;
mod destination;
mod discard;
mod image_sink;
mod index_json;
mod index_parts;
mod oci_layout;
mod output;
mod staging;
mod tar_header;

pub use archive::Archive;
pub use destination::{Destination, ParseDestinationError, SINKS, SinkKind};
pub use discard::Discard;
pub use image_sink::{BlobOrder, ImageSink};
pub use oci_layout::OciLayout;
