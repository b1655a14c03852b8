//! A layer before and after it is made.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use crate::digest::{DiffId, Digest, Hasher, ParseDigestError};
use crate::oci::{Descriptor, MediaType, Owner};
use crate::plan::{PatternKind, RootFile, RootNode, RootTree, Rule};
use crate::store::{NarHash, StoreDir, StorePath};

use super::{Codec, Packing, TarFile, UsedLayer};

/// The version of the rules by which a layer's bytes are made from its
/// content: tar headers, blocks and encoders. A change of any byte is a new
/// version.
const FORMAT_VERSION: u32 = 1;

/// What goes into a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSpec {
    /// The directory that the store paths are in, in the image.
    pub store_dir: StoreDir,
    /// What is in it.
    pub content: LayerContent,
    /// Modes, owners and extended attributes of the store paths' files and of
    /// the directories above them: those rules that may match any. A root tree
    /// has followed its rules already, but for those of the root itself.
    pub rules: Arc<[Rule]>,
}

/// What is in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerContent {
    /// Store paths with their NAR hashes as far as they are known, in the order
    /// in which they are packed.
    StorePaths(Vec<(StorePath, Option<NarHash>)>),
    /// Files outside the store.
    RootTree(RootTree),
    /// A tar that is there.
    Tar(TarFile),
    /// A layer that was made before, however this one is packed.
    Used(Box<UsedLayer>),
}

impl LayerContent {
    /// Returns the store paths with their NAR hashes as far as they are known, in
    /// the order in which they are packed.
    pub fn store_paths(&self) -> &[(StorePath, Option<NarHash>)] {
        match self {
            Self::StorePaths(paths) => paths,
            Self::Used(used) => used.spec.content.store_paths(),
            Self::RootTree(_) | Self::Tar(_) => &[],
        }
    }

    /// Returns the layer that was made before, if it is one.
    pub fn used(&self) -> Option<&UsedLayer> {
        match self {
            Self::Used(used) => Some(used),
            _ => None,
        }
    }
}

impl LayerSpec {
    /// Returns what it is made of, and how it is packed in an image whose layers
    /// are packed so.
    pub(crate) fn made_of(&self, packing: Packing) -> (&Self, Packing) {
        match &self.content {
            LayerContent::Used(used) => (&used.spec, used.packing),
            _ => (self, packing),
        }
    }

    /// Returns the key of this layer packed so, or `None` if a NAR hash is
    /// unknown: no hash, no key, no reuse.
    pub fn key(&self, packing: &Packing) -> Option<LayerKey> {
        if let LayerContent::Used(used) = &self.content {
            return used.spec.key(&used.packing);
        }
        let mut hasher = Hasher::new();
        let mut field = |name: &str, value: &[u8]| {
            hasher.update(name.as_bytes());
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        };
        field("nix2oci layer", &FORMAT_VERSION.to_le_bytes());
        field("compression", packing.compression.identity().as_bytes());
        field("mtime", &packing.mtime.to_le_bytes());
        field("uid", &packing.owner.uid.to_le_bytes());
        field("gid", &packing.owner.gid.to_le_bytes());
        field("store dir", self.store_dir.as_str().as_bytes());
        match &self.content {
            LayerContent::StorePaths(paths) => {
                field("content", b"store paths");
                for (path, nar_hash) in paths {
                    field("path", path.as_str().as_bytes());
                    field("nar hash", nar_hash.as_ref()?.as_bytes());
                }
            }
            LayerContent::RootTree(tree) => {
                field("content", b"root tree");
                for (path, node, metadata) in tree.nodes() {
                    field("root", path);
                    let mode = metadata.mode.unwrap_or(node.default_mode()).to_le_bytes();
                    match node {
                        RootNode::Directory => field("directory", &mode),
                        RootNode::Symlink { target } => field("symlink", target),
                        RootNode::File(RootFile::Inline { bytes, .. }) => {
                            field("file", &mode);
                            field("bytes", bytes);
                        }
                        RootNode::File(RootFile::Stored {
                            path,
                            inside,
                            nar_hash,
                            ..
                        }) => {
                            field("file", &mode);
                            field("from", path.as_str().as_bytes());
                            field("inside", inside);
                            field("nar hash", nar_hash.as_ref()?.as_bytes());
                        }
                    }
                    attributes(&mut field, metadata.owner, &metadata.xattrs);
                }
            }
            LayerContent::Used(_) => return None,
            LayerContent::Tar(tar) => {
                field("content", b"tar");
                field("diff id", tar.diff_id().digest().as_bytes());
            }
        }
        for rule in self.rules.iter() {
            let kind = match rule.pattern.kind() {
                PatternKind::Glob => "glob",
                PatternKind::Regex => "regex",
                PatternKind::Source => "source",
            };
            field(kind, rule.pattern.text().as_bytes());
            if let Some(within) = &rule.within {
                field("within", within.as_str().as_bytes());
            }
            if let Some(mode) = rule.file_mode {
                field("file mode", &mode.to_le_bytes());
            }
            if let Some(mode) = rule.directory_mode {
                field("directory mode", &mode.to_le_bytes());
            }
            if rule.added_mode != 0 {
                field("added mode", &rule.added_mode.to_le_bytes());
            }
            attributes(&mut field, rule.owner, &rule.xattrs);
        }
        Some(LayerKey(hasher.finish()))
    }
}

fn attributes(
    field: &mut dyn FnMut(&str, &[u8]),
    owner: Option<Owner>,
    xattrs: &BTreeMap<String, Vec<u8>>,
) {
    if let Some(owner) = owner {
        field("uid", &owner.uid.to_le_bytes());
        field("gid", &owner.gid.to_le_bytes());
    }
    for (name, value) in xattrs {
        field("xattr", name.as_bytes());
        field("value", value);
    }
}

/// The name of a layer's bytes before they are made: a digest over the store
/// paths, their NAR hashes, the root tree and the packing.
///
/// Two layers with one key have the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKey(Digest);

impl LayerKey {
    /// Returns the beginning of the key.
    pub fn prefix(&self) -> LayerKeyPrefix {
        let (prefix, _) = self.0.as_bytes().split_at(LayerKeyPrefix::BYTES);
        LayerKeyPrefix(prefix.try_into().expect("it was split after so many bytes"))
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LayerKey {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The beginning of a [`LayerKey`], as images tell it: 20 bytes, the 160 bits
/// that the hash of a Nix store path has. Two keys that begin so are one.
///
/// Shown as `sha256:<40 hexadecimal digits>…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerKeyPrefix([u8; Self::BYTES]);

impl LayerKeyPrefix {
    /// Bytes that it has.
    pub const BYTES: usize = 20;

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl From<[u8; LayerKeyPrefix::BYTES]> for LayerKeyPrefix {
    fn from(bytes: [u8; LayerKeyPrefix::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for LayerKeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for LayerKeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known of a layer once its bytes were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The bytes of the tar.
    pub uncompressed_size: u64,
    /// The digest of the blob: the tar, compressed.
    pub digest: Digest,
    /// The bytes of the blob.
    pub size: u64,
    /// The blob's media type.
    pub media_type: MediaType,
}

impl LayerRecord {
    /// Returns the blob's descriptor, without annotations.
    pub fn descriptor(&self) -> Descriptor {
        crate::oci::descriptor(self.media_type.clone(), self.digest, self.size)
    }
    /// Returns whether a layer that [`pack`](super::pack()) made could have
    /// this record: for those that were read somewhere.
    pub(crate) fn is_plausible(&self) -> bool {
        let same = self.digest == self.diff_id.digest();
        match Codec::of_media_type(&self.media_type) {
            // Other types stand for a codec as well; we write one for each.
            Some(codec) if codec.media_type() != self.media_type => false,
            Some(Codec::None) => same && self.size == self.uncompressed_size,
            Some(Codec::Gzip | Codec::Zstd) => !same && self.size > 0,
            None => false,
        }
    }
}
