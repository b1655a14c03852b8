//! Config, manifest and index bytes; reading images back.
//!
//! - [`ImageConfig`]: what an image's config says besides its layers
//! - [`assemble`]: config and manifest from layer records; no I/O
//! - [`layer_records`], [`layer_store_paths`]: what a manifest says of layers
//! - [`ImageSource`] and [`recognise`]: where an image is read from
//! - [`ImageReader`]: reads a layout or an archive back, a [`StoredImage`] of
//!   it, and its blobs through a [`VerifyingReader`]
//! - [`ImageTree`]: all that an image consists of, for whoever copies it
//! - [`check()`]: every [`Problem`] of an image
//! - [`inspect`]: an [`ImageSummary`]

mod assemble;
mod check;
mod check_layers;
mod config;
mod config_document;
mod docker_archive;
mod document;
mod inspect;
mod problem;
mod read_archive;
mod read_layout;
mod reader;
mod records;
mod select;
mod source;
mod tree;
mod verify;
mod walk;

pub use assemble::{AssembledImage, ImageLayer, RawManifest, assemble};
pub use check::check;
pub use config::ImageConfig;
pub use config_document::UnknownKey;
pub use inspect::{ImageSummary, InspectOptions, LayerContents, LayerSummary, inspect};
pub use problem::{Place, Problem, ProblemKind, Severity};
#[cfg(feature = "registry")]
pub(crate) use reader::{Files, Found, FoundFile};
pub use reader::{ImageReader, StoredBlob, StoredImage, StoredLayer, StoredManifest};
pub use records::{layer_records, layer_store_paths};
pub(crate) use select::is_manifest;
pub use source::{ImageForm, ImageSource, ParseImageSourceError, recognise};
pub use tree::{ImageTree, TreeDocument};
pub use verify::VerifyingReader;
