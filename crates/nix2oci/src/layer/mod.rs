//! Tar, digests, compression: a layer's bytes.
//!
//! - [`Packing`]: all that shapes those bytes besides the paths
//! - [`LayerSpec`]: what goes into a layer; [`LayerKey`]: its name before it
//!   is made
//! - [`TarFile`]: a tar that is there, to be a layer as it is
//! - [`LayerRecord`]: what is known of it afterwards
//! - [`LayerCache`]: records by key, kept in a [`DirCache`]
//! - [`Blob`]: bytes that match a descriptor and can be read again
//! - [`Codec`] and [`Decoder`]: a tar out of a blob
//! - [`survey()`]: what is in a layer and what is wrong with its bytes

mod blob;
mod cache;
mod compress;
mod decompress;
mod entries;
mod mode_rules;
mod pack;
mod packing;
mod record;
mod root_tree;
mod rules;
mod spool;
mod survey;
mod tar;
mod tar_file;
mod tar_header;
pub(crate) mod tar_read;
mod tar_rules;
mod used;

pub use crate::oci::{Owner, ParseOwnerError};
pub use blob::{Blob, BytesBlob};
pub use cache::{CacheInfo, CacheLimits, CacheRemoval, DirCache, LayerCache};
pub use decompress::{Codec, Decoder, TrailingBytes};
pub(crate) use entries::{EntryVisitor, MAX_PATH, read_entries};
#[cfg(feature = "registry")]
pub(crate) use pack::LayerStore;
pub(crate) use pack::{PackRequest, PackedLayer, pack};
pub use packing::{Compression, Packing, ParseCompressionError};
pub use record::{LayerContent, LayerKey, LayerKeyPrefix, LayerRecord, LayerSpec};
#[cfg(feature = "registry")]
pub(crate) use spool::Spool;
pub(crate) use spool::{SpoolPlace, SpooledBlob};
pub(crate) use survey::survey_with;
pub use survey::{EntryCounts, LayerSurvey, survey};
pub use tar_file::TarFile;
pub use tar_rules::LayerProblem;
pub(crate) use tar_rules::{normal, show};
#[cfg(feature = "registry")]
pub(crate) use used::FileBlob;
pub use used::{LayerHistory, UsedLayer};
