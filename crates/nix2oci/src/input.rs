//! Documents that the caller names: read whole, and only so far.
//!
//! A document is parsed in memory, so what is no document by mistake, a device
//! or a disk image, must end in an error and not take all memory. Each
//! [`InputKind`] has its limit: many times what was met, and small for a
//! machine that builds images.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, ErrorKind, Location, Result};

const MIB: u64 = 1 << 20;

/// What a document is for, which says how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InputKind {
    /// Store paths and their references, in any format.
    Closure,
    /// The config of an image.
    Config,
    /// What lies at an image's root.
    RootDocument,
    /// A recipe.
    Recipe,
    /// A plan of an image, or what a build reported of one.
    Plan,
    /// Layers that were made by themselves.
    LayerFile,
    /// An image as another tool's build describes it.
    ForeignImage,
    /// Images of registries, pinned.
    Lock,
    /// `index.json` or `oci-layout` of a layout that an image is added to.
    Layout,
    /// Certificates and keys in PEM.
    Certificates,
    /// Names and passwords.
    Credentials,
}

impl InputKind {
    /// Every kind, in the order of the type.
    pub const ALL: &[Self] = &[
        Self::Closure,
        Self::Config,
        Self::RootDocument,
        Self::Recipe,
        Self::Plan,
        Self::LayerFile,
        Self::ForeignImage,
        Self::Lock,
        Self::Layout,
        Self::Certificates,
        Self::Credentials,
    ];

    /// Returns how many bytes such a document may have.
    pub const fn limit(self) -> u64 {
        match self {
            // A store of a million paths; the Nix daemon's answers have the
            // same limit.
            Self::Closure => 1024 * MIB,
            // As that of a config in an image.
            Self::Config => 8 * MIB,
            // With texts of files in it; larger files come from store paths.
            Self::RootDocument => 64 * MIB,
            // A hundred thousand store paths have 20 MB.
            Self::Recipe | Self::Plan | Self::LayerFile => 256 * MIB,
            // 20,000 store paths have 2 MB.
            Self::ForeignImage => 64 * MIB,
            // Four times the documents that are pinned: quotes are escaped in
            // it, and the layers are listed.
            Self::Lock => 256 * MIB,
            // As that of an index in an image.
            Self::Layout => 4 * MIB,
            // The authorities of a distribution have 0.3 MB.
            Self::Certificates => 16 * MIB,
            Self::Credentials => 16 * MIB,
        }
    }
}

/// Says it with its article: `a recipe`.
impl fmt::Display for InputKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closure => "a description of a closure",
            Self::Config => "the config of an image",
            Self::RootDocument => "a document of the root tree",
            Self::Recipe => "a recipe",
            Self::Plan => "a plan",
            Self::LayerFile => "a layer's document",
            Self::ForeignImage => "a description of an image",
            Self::Lock => "a lock",
            Self::Layout => "a document of an image layout",
            Self::Certificates => "a file of certificates",
            Self::Credentials => "a file of credentials",
        })
    }
}

/// Reads a file, which may be a pipe.
///
/// # Errors
///
/// [`ErrorKind::ReadInput`] if it cannot be read; [`ErrorKind::Document`] if it
/// has more bytes than its kind may have, of which no more are read.
pub fn read_file(path: &Path, kind: InputKind) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::reading(path))?;
    read_open(&file, path, kind)
}

/// Reads what is left of an open file; `path` names it in errors.
///
/// # Errors
///
/// As [`read_file`].
pub fn read_open(file: &File, path: &Path, kind: InputKind) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let metadata = file.metadata().map_err(Error::reading(path))?;
    if metadata.is_file() && metadata.len() > kind.limit() {
        let found = format!("{} bytes", metadata.len());
        return Err(too_large(&name, &found, kind));
    }
    read_stream(file, &name, kind)
}

/// Reads a stream to its end; `name` names it in errors.
///
/// # Errors
///
/// As [`read_file`].
pub fn read_stream(stream: impl Read, name: &str, kind: InputKind) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = stream.take(kind.limit() + 1).read_to_end(&mut bytes);
    read.map_err(|source| ErrorKind::ReadInput {
        path: name.into(),
        source,
    })?;
    if bytes.len() as u64 > kind.limit() {
        return Err(too_large(name, "more", kind));
    }
    Ok(bytes)
}

fn too_large(name: &str, found: &str, kind: InputKind) -> Error {
    let problem = format!(
        "found {found}, expected at most {} bytes of {kind}",
        kind.limit()
    );
    Error::document(name, Location::Whole, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_document_has_its_limit_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("document");
        for &kind in InputKind::ALL {
            // Nothing of it is on the disk.
            let sparse = File::create(&file).unwrap();
            sparse.set_len(kind.limit() + 1).unwrap();
            let error = read_file(&file, kind).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Document { .. }));
            assert_eq!(
                error.to_string(),
                format!(
                    "{}: found {} bytes, expected at most {} bytes of {kind}",
                    file.display(),
                    kind.limit() + 1,
                    kind.limit()
                )
            );
        }
        let limit = InputKind::Layout.limit();
        File::create(&file).unwrap().set_len(limit).unwrap();
        let read = read_file(&file, InputKind::Layout).unwrap();
        assert_eq!(read.len() as u64, limit);
    }

    #[test]
    fn a_stream_without_an_end_is_refused() {
        for (error, name) in [
            (
                read_stream(io::repeat(b' '), "standard input", InputKind::Config),
                "standard input",
            ),
            (
                read_file(Path::new("/dev/zero"), InputKind::Config),
                "/dev/zero",
            ),
        ] {
            assert_eq!(
                error.unwrap_err().to_string(),
                format!(
                    "{name}: found more, expected at most 8388608 bytes of the config of an image"
                )
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_as_the_system_says_it() {
        for path in ["/", "/proc/self/gone"] {
            let error = read_file(Path::new(path), InputKind::Recipe).unwrap_err();
            assert_eq!(error.to_string(), format!("failed to read {path}"));
        }
    }
}
