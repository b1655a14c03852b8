//! What can be at one path of a root tree.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::oci::Owner;
use crate::store::{NarHash, StorePath};

/// Bytes that a name of an extended attribute has at most: Linux's
/// `XATTR_NAME_MAX`.
const MAX_XATTR_NAME: usize = 255;
/// Bytes that one file's extended attributes have at most: Linux's
/// `XATTR_SIZE_MAX` for a value. Go's archive/tar, which most loaders are made
/// with, reads pax headers of up to 1 MiB.
const MAX_XATTRS: usize = 65536;
/// The namespaces that Linux has. Source: xattr(7).
const XATTR_NAMESPACES: [&str; 4] = ["security.", "system.", "trusted.", "user."];

/// What is at one path of a root tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootNode {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it holds: not empty, no NUL.
        target: Vec<u8>,
    },
    /// A regular file.
    File(RootFile),
}

/// A regular file outside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootFile {
    /// Its bytes are here.
    Inline {
        /// The bytes.
        bytes: Arc<[u8]>,
        /// Whether it may be executed if it is given no mode.
        executable: bool,
    },
    /// A copy of a file in a store path; its bytes are read when the layer is
    /// packed.
    Stored {
        /// The store path.
        path: StorePath,
        /// Where in it; empty for a store path that is a file.
        inside: Vec<u8>,
        /// The store path's NAR hash: without it the layer has no key.
        nar_hash: Option<NarHash>,
        /// Whether the file may be executed.
        executable: bool,
        /// Its bytes.
        size: u64,
    },
}

impl RootNode {
    /// Returns the permission bits of a node that is given none: those of the
    /// Nix store for what is copied from there, those that a program with the
    /// usual umask makes for the rest.
    pub fn default_mode(&self) -> u32 {
        match self {
            Self::Symlink { .. } => 0o777,
            Self::Directory
            | Self::File(RootFile::Inline {
                executable: true, ..
            }) => 0o755,
            Self::File(RootFile::Inline { .. }) => 0o644,
            Self::File(RootFile::Stored {
                executable: true, ..
            }) => 0o555,
            Self::File(RootFile::Stored { .. }) => 0o444,
        }
    }

    pub(super) fn check(&self, metadata: &Metadata) -> Result<(), String> {
        if let Self::Symlink { target } = self {
            if target.is_empty() || target.contains(&0) {
                return Err("a symbolic link cannot be empty or have a NUL byte".to_owned());
            }
            if metadata.mode.is_some() || !metadata.xattrs.is_empty() {
                return Err(
                    "a symbolic link has no mode and no extended attributes of its own".to_owned(),
                );
            }
        }
        metadata.check()
    }
}

impl RootFile {
    /// Returns the bytes it has.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline { bytes, .. } => bytes.len() as u64,
            Self::Stored { size, .. } => *size,
        }
    }

    /// Returns whether it may be executed if it is given no mode.
    pub fn is_executable(&self) -> bool {
        match self {
            Self::Inline { executable, .. } | Self::Stored { executable, .. } => *executable,
        }
    }

    /// Compares where the bytes come from, those that are here first: of equal
    /// files the same one stays, whichever was added first.
    pub(super) fn compare_source(&self, other: &Self) -> Ordering {
        let source = |file: &Self| match file {
            Self::Inline { .. } => None,
            Self::Stored { path, inside, .. } => Some((path.clone(), inside.clone())),
        };
        source(self).cmp(&source(other))
    }
}

/// What a node has besides its kind and contents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The permission bits, `0o7777` at most; else
    /// [`RootNode::default_mode`]. A symbolic link has none.
    pub mode: Option<u32>,
    /// The owner; else that of [`Packing`](crate::Packing).
    pub owner: Option<Owner>,
    /// Extended attributes by name, such as `security.capability`; 64 KiB at
    /// most. A symbolic link has none.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Metadata {
    /// Only permission bits.
    pub fn mode(mode: u32) -> Self {
        Self {
            mode: Some(mode),
            ..Self::default()
        }
    }

    /// Takes from another what is not said here.
    pub(super) fn complete(&mut self, other: Self) {
        self.mode = self.mode.or(other.mode);
        self.owner = self.owner.or(other.owner);
        for (name, value) in other.xattrs {
            self.xattrs.entry(name).or_insert(value);
        }
    }

    /// Returns whether another says something else of what is said here.
    pub(in crate::plan) fn contradicts(&self, other: &Self) -> bool {
        let mode = self.mode.zip(other.mode).is_some_and(|(a, b)| a != b);
        let owner = self.owner.zip(other.owner).is_some_and(|(a, b)| a != b);
        let differs = |(name, value): (&String, &Vec<u8>)| {
            other.xattrs.get(name).is_some_and(|other| other != value)
        };
        mode || owner || self.xattrs.iter().any(differs)
    }

    /// Finds out what no file can have.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(mode) = self.mode.filter(|mode| *mode > 0o7777) {
            return Err(format!("mode {mode:o} is more than permission bits"));
        }
        if let Some(owner) = self.owner {
            owner.check()?;
        }
        let mut size = 0;
        for (name, value) in &self.xattrs {
            let is_known = XATTR_NAMESPACES
                .iter()
                .any(|space| name.len() > space.len() && name.starts_with(space));
            if !is_known || name.len() > MAX_XATTR_NAME || name.contains(['=', '\0', '\n']) {
                return Err(format!(
                    "{name:?} is no extended attribute: expected a name that begins with {}, of \
                     {MAX_XATTR_NAME} bytes at most, without =",
                    XATTR_NAMESPACES.join(", ")
                ));
            }
            size += name.len() + value.len();
        }
        if size > MAX_XATTRS {
            return Err(format!(
                "its extended attributes have {size} bytes, and {MAX_XATTRS} is the most"
            ));
        }
        Ok(())
    }
}
