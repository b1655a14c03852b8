//! Where images go.
//!
//! - [`ImageSink`]: takes blobs and manifests, gives names at the end

mod image_sink;

pub use image_sink::{BlobOrder, ImageSink};
