//! Config, manifest and index bytes; reading images back.
//!
//! - [`ImageConfig`]: what an image's config says besides its layers
//! - [`assemble`]: config and manifest from layer records; no I/O
//! - [`assemble_index`]: an index of images for several platforms; no I/O
//! - [`BaseImage`]: an image that another one is built on
//! - [`ImageTable`], [`layer_records`]: what a manifest says of its layers
//! - [`ImageSource`] and [`recognise`]: where an image is read from
//! - [`ImageReader`]: reads a layout or an archive back, a [`StoredImage`] of
//!   it, and its blobs through a [`VerifyingReader`]
//! - [`ImageLock`]: images of registries, pinned; [`BlobFiles`]: where their
//!   layers lie
//! - [`ImageTree`]: all that an image consists of, for whoever copies it
//! - [`ImageListing`]: which store paths are in which layer; [`diff()`]: what
//!   changed from one to another
//! - [`image_closure`]: the references between an image's store paths
//! - [`check()`]: every [`Problem`] of an image; [`check_against_store`]: what
//!   its store paths have otherwise than a store
//! - [`inspect`]: an [`ImageSummary`]

mod against_store;
mod assemble;
mod assemble_index;
mod base;
mod base_blobs;
mod base_contents;
mod base_files;
#[cfg(feature = "db")]
mod base_nix_db;
mod census;
mod check;
mod check_layers;
mod check_links;
mod config;
mod config_document;
mod diff;
mod diff_config;
mod diff_packages;
mod docker_archive;
mod document;
mod efficiency;
mod inherit;
mod inspect;
mod listing;
mod lock;
mod problem;
mod read_archive;
mod read_layout;
mod read_lock;
mod reader;
mod records;
mod reference_scanner;
mod references;
mod select;
mod source;
mod table;
mod table_bytes;
mod tree;
mod verify;
mod walk;

pub use against_store::{StoreDifference, check_against_store};
pub use assemble::{AssembledImage, ImageLayer, RawManifest, assemble, assemble_on};
pub use assemble_index::assemble_index;
pub use base::{BaseImage, BaseLayer};
pub(crate) use base_blobs::DOWNLOADS;
pub use check::check;
pub use config::ImageConfig;
pub use config_document::UnknownKey;
pub use diff::{
    DiffSide, ImageDiff, LayerChange, LayerDifference, SizedPath, StorePathChanges, Transfer, diff,
};
pub use diff_config::ConfigChange;
pub use diff_packages::{PackageChange, PackageDifference};
pub use efficiency::{LayerEfficiency, WastedPath};
pub(crate) use inspect::summary;
pub use inspect::{ImageSummary, InspectOptions, LayerContents, LayerSummary, inspect};
pub use listing::{ImageListing, ListedLayer, ListingOptions};
pub use lock::{ImageLock, LOCK_VERSION, LockedBlob, LockedDocument, LockedImage};
pub use problem::{Place, Problem, ProblemKind, Severity};
pub use read_lock::BlobFiles;
#[cfg(feature = "registry")]
pub(crate) use read_lock::RemoteBlobs;
#[cfg(feature = "registry")]
pub(crate) use reader::{Files, Found, FoundFile};
pub use reader::{ImageReader, StoredBlob, StoredImage, StoredLayer, StoredManifest};
pub use records::layer_records;
pub use references::{ImageClosure, RootReason, image_closure};
pub(crate) use select::{Content, config_platform, content, is_attached, is_index, is_manifest};
pub use source::{ImageForm, ImageSource, ParseImageSourceError, recognise};
pub use table::{ImageTable, TableLayer, TablePath};
pub(crate) use tree::is_elsewhere;
pub use tree::{ImageTree, TreeDocument};
pub use verify::VerifyingReader;
