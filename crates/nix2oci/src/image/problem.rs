//! What can be wrong with an image.

use std::fmt;

use crate::digest::{DiffId, Digest};
use crate::layer::{Codec, LayerProblem};
use crate::plan::MAX_LAYERS;

use super::StoreDifference;

/// One thing that is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: ProblemKind,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Some program may not find or show the image as the user expects.
    Warning,
    /// Some loader refuses the image, or unpacks something else.
    Error,
}

/// Where in an image something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The layout or the archive as a whole.
    Whole,
    /// The outermost index, `index.json`.
    Index,
    /// An entry of the outermost index.
    IndexEntry {
        /// Which, counted from 0.
        entry: usize,
    },
    /// An index inside of another one.
    NestedIndex {
        /// The digest that its descriptor says.
        digest: String,
    },
    /// A manifest.
    Manifest {
        /// The digest that its descriptor says.
        digest: String,
    },
    /// A config.
    Config {
        /// The digest that its descriptor says.
        digest: String,
    },
    /// A layer.
    Layer {
        /// Its place in the manifest, counted from 0, bottom first.
        index: usize,
        /// The digest that its descriptor says.
        digest: String,
    },
    /// A file of a store path.
    File {
        /// Where the image has it.
        path: String,
    },
    /// An image in Docker's `manifest.json`.
    DockerImage {
        /// Which, counted from 0.
        image: usize,
    },
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A file or a blob is not there.
    #[error("it is not there")]
    Missing,
    /// A manifest is not there that a nested index names beside others that
    /// are: what containerd and nerdctl export for some platforms only.
    #[error("it is not there, but others of its index are")]
    MissingSibling,
    /// A digest is of an algorithm that is not SHA-256. OCI has others, but
    /// Docker and most registries take none of them, and what was not checked
    /// cannot be called right.
    #[error("its digest is not a SHA-256, and was not checked")]
    UnknownDigest,
    /// Bytes do not have the digest of their descriptor.
    #[error("its digest is {found}, expected {expected}")]
    Digest {
        /// The descriptor's digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// Bytes do not have the size of their descriptor.
    #[error("it has {found} bytes, expected {expected}")]
    Size {
        /// The descriptor's size.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A document has more bytes than are read.
    #[error("it has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Bytes of the document.
        size: u64,
        /// Bytes that are read.
        limit: u64,
    },
    /// A document is not what its format asks for.
    #[error("{problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// `oci-layout` does not name the version that all programs know.
    #[error("oci-layout names version {version:?}, expected 1.0.0")]
    LayoutVersion {
        /// What it names, or nothing.
        version: String,
    },
    /// Two files of an archive have one name: some programs read the first,
    /// others the last.
    #[error("it holds the file {name} more than once")]
    DuplicateMember {
        /// The name.
        name: String,
    },
    /// An index has no image.
    #[error("it names no manifest")]
    NoManifest,
    /// Indexes are too deep in each other to be read.
    #[error("indexes are over {limit} deep in each other")]
    TooDeep {
        /// How deep they may be.
        limit: usize,
    },
    /// There are too many manifests to look at.
    #[error("there are more than {limit} manifests and indexes; the others were not looked at")]
    TooManyManifests {
        /// How many were looked at.
        limit: usize,
    },
    /// Nested indexes are too large together to look at them all.
    #[error("indexes have more than {limit} bytes; the others were not looked at")]
    TooManyIndexBytes {
        /// Bytes that were looked at.
        limit: u64,
    },
    /// A manifest is of no image, and does not say that it is an artifact.
    #[error("it is not of an image: its config has media type {media_type}")]
    NoImage {
        /// The config's media type.
        media_type: String,
    },
    /// An annotation that loaders take the image's name from is not there.
    #[error("it has no annotation {annotation}")]
    NoName {
        /// The annotation.
        annotation: &'static str,
    },
    /// An image in `manifest.json` has no name.
    #[error("it has no RepoTags")]
    NoRepoTags,
    /// A media type is not one that belongs there.
    #[error("its media type {media_type} is none of {expected}")]
    UnknownMediaType {
        /// The descriptor's media type.
        media_type: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A document says another media type than its descriptor.
    #[error("it says that it has media type {found}, expected {expected}")]
    MediaTypeDiffers {
        /// The descriptor's media type.
        expected: String,
        /// The document's.
        found: String,
    },
    /// A layer is compressed in another way than its media type says.
    #[error("its media type is {media_type}, and its compression is {codec}")]
    Compression {
        /// The descriptor's media type.
        media_type: String,
        /// How its bytes are compressed.
        codec: Codec,
    },
    /// The platform differs between index and config.
    #[error("its platform is {config}, and the index says {index}")]
    Platform {
        /// The platform in the index.
        index: String,
        /// The platform in the config.
        config: String,
    },
    /// There are not as many diff IDs as layers.
    #[error("it has {diff_ids} diff IDs for {layers} layers")]
    DiffIdCount {
        /// Diff IDs in the config.
        diff_ids: usize,
        /// Layers in the manifest.
        layers: usize,
    },
    /// A diff ID in the config is not the digest of the layer's tar.
    #[error("its diff ID is {found}, and the config says {expected}")]
    DiffId {
        /// What the config says.
        expected: String,
        /// The digest of the tar.
        found: DiffId,
    },
    /// There are not as many history entries with a layer as layers.
    #[error("its history has {entries} entries with a layer for {layers} layers")]
    HistoryCount {
        /// Entries of the history that are not of empty layers.
        entries: usize,
        /// Layers in the manifest.
        layers: usize,
    },
    /// There are more layers than some runtime can mount.
    #[error(
        "it has {layers} layers; Docker mounts {MAX_LAYERS} at most and podman before 5 has 128"
    )]
    TooManyLayers {
        /// Layers in the manifest.
        layers: usize,
    },
    /// `manifest.json` and the OCI index of one archive are of different
    /// images.
    #[error("no OCI manifest of this archive has {what}")]
    DockerDiffers {
        /// What `manifest.json` has: `the config …`, `its layers`.
        what: String,
    },
    /// Programs that the image's platform cannot run.
    #[error("{file} is for {found}, and the image for {expected}{}", besides(*others, "program"))]
    ForeignPrograms {
        /// The first such program.
        file: String,
        /// What it is for.
        found: String,
        /// The image's platform.
        expected: String,
        /// Such programs of the layer besides.
        others: u64,
    },
    /// A symbolic link leads into a store path that no layer has.
    #[error("{link} leads into {path}, which is not in the image{}", besides(*others, "link"))]
    MissingStorePath {
        /// The store path, in full.
        path: String,
        /// The first such link.
        link: String,
        /// Links of the layer that lead there besides.
        others: u64,
    },
    /// A symbolic link leads to something that the store path does not have.
    #[error("{link} leads to {target}, which is not there{}", besides(*others, "such link"))]
    DanglingLink {
        /// The first such link.
        link: String,
        /// What it holds.
        target: String,
        /// Links of the layer that lead to nothing besides.
        others: u64,
    },
    /// A store has something else.
    #[error("{difference}")]
    DiffersFromStore {
        /// In what.
        difference: StoreDifference,
    },
    /// A layer's own bytes are wrong.
    #[error(transparent)]
    Layer(#[from] LayerProblem),
}

/// Tells how many more there are of what was named.
fn besides(count: u64, what: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(", and one more {what} of the layer"),
        n => format!(", and {n} more {what}s of the layer"),
    }
}

impl Problem {
    /// Returns how bad it is.
    pub fn severity(&self) -> Severity {
        let is_warning = match &self.kind {
            // umoci's --no-history leaves out an entry; no loader counts them.
            ProblemKind::NoName { .. }
            | ProblemKind::NoRepoTags
            | ProblemKind::MissingSibling
            | ProblemKind::NoImage { .. }
            | ProblemKind::ForeignPrograms { .. }
            | ProblemKind::MissingStorePath { .. }
            | ProblemKind::DanglingLink { .. }
            | ProblemKind::HistoryCount { .. } => true,
            ProblemKind::TooManyLayers { layers } => *layers <= 127,
            ProblemKind::Layer(problem) => problem.is_harmless(),
            _ => false,
        };
        if is_warning {
            Severity::Warning
        } else {
            Severity::Error
        }
    }
}

impl ProblemKind {
    /// Returns the rule's name: words with hyphens, stable across versions.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::MissingSibling => "missing-sibling",
            Self::UnknownDigest => "unknown-digest",
            Self::Digest { .. } => "digest",
            Self::Size { .. } => "size",
            Self::TooLarge { .. } => "too-large",
            Self::Malformed { .. } => "malformed",
            Self::LayoutVersion { .. } => "layout-version",
            Self::DuplicateMember { .. } => "duplicate-member",
            Self::NoManifest => "no-manifest",
            Self::TooDeep { .. } => "too-deep",
            Self::TooManyManifests { .. } => "too-many-manifests",
            Self::TooManyIndexBytes { .. } => "too-many-index-bytes",
            Self::NoImage { .. } => "no-image",
            Self::NoName { .. } => "no-name",
            Self::NoRepoTags => "no-repo-tags",
            Self::UnknownMediaType { .. } => "unknown-media-type",
            Self::MediaTypeDiffers { .. } => "media-type-differs",
            Self::Compression { .. } => "compression",
            Self::Platform { .. } => "platform",
            Self::DiffIdCount { .. } => "diff-id-count",
            Self::DiffId { .. } => "diff-id",
            Self::HistoryCount { .. } => "history-count",
            Self::TooManyLayers { .. } => "too-many-layers",
            Self::DockerDiffers { .. } => "docker-differs",
            Self::ForeignPrograms { .. } => "foreign-programs",
            Self::MissingStorePath { .. } => "missing-store-path",
            Self::DanglingLink { .. } => "dangling-link",
            Self::DiffersFromStore { .. } => "differs-from-store",
            Self::Layer(problem) => problem.rule(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity(), self.place, self.kind)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the image"),
            Self::Index => f.write_str("index.json"),
            Self::IndexEntry { entry } => write!(f, "entry {entry} of index.json"),
            Self::NestedIndex { digest } => write!(f, "index {digest}"),
            Self::Manifest { digest } => write!(f, "manifest {digest}"),
            Self::Config { digest } => write!(f, "config {digest}"),
            Self::Layer { index, digest } => write!(f, "layer {index} {digest}"),
            Self::File { path } => f.write_str(path),
            Self::DockerImage { image } => write!(f, "image {image} of manifest.json"),
        }
    }
}
