//! A layer that was made before.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Location, Result};
use crate::oci::Descriptor;

use super::{Blob, LayerRecord, LayerSpec, Packing};

/// A layer that was made before and becomes part of an image as it is: its
/// digest is known, and its blob is at hand or can be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsedLayer {
    /// Where it comes from, for people.
    pub name: String,
    /// What it is made of; not a used layer itself.
    pub spec: LayerSpec,
    /// How it is packed, which may be otherwise than the image's own layers.
    pub packing: Packing,
    /// What it became.
    pub record: LayerRecord,
    /// The NAR size of each of its store paths, in bytes; empty if they are not
    /// known.
    pub nar_sizes: Vec<u64>,
    /// The file of its blob, if there is one.
    pub blob: Option<PathBuf>,
    /// What the image's history says of it.
    pub history: LayerHistory,
}

/// What an image's history says of a layer, as far as whoever made it said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LayerHistory {
    /// What made it; `None`: the history says what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl LayerHistory {
    /// Returns whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl UsedLayer {
    /// Takes a layer of a name that was made of this and became that.
    pub fn new(
        name: impl Into<String>,
        spec: LayerSpec,
        packing: Packing,
        record: LayerRecord,
    ) -> Self {
        Self {
            name: name.into(),
            spec,
            packing,
            record,
            nar_sizes: Vec::new(),
            blob: None,
            history: LayerHistory::default(),
        }
    }

    /// Makes the error for one that was made again as these bytes, which are
    /// those of its digest, though it says something else of them.
    pub(crate) fn misdescribed(&self, record: &LayerRecord) -> Error {
        let what = format!("the tar of {}, a layer of {},", record.digest, self.name);
        if self.record.diff_id != record.diff_id {
            return Error::from(ErrorKind::DigestMismatch {
                what,
                expected: self.record.diff_id.digest(),
                found: record.diff_id.digest(),
            });
        }
        let (what, expected, found) = match self.record.size == record.size {
            true => (
                what,
                self.record.uncompressed_size,
                record.uncompressed_size,
            ),
            false => (
                format!("{}, a layer of {},", record.digest, self.name),
                self.record.size,
                record.size,
            ),
        };
        Error::from(ErrorKind::SizeMismatch {
            what,
            expected,
            found,
        })
    }

    /// Returns its blob, if there is a file of it. Nothing is checked: a sink
    /// does so.
    pub(crate) fn blob(&self) -> Option<FileBlob> {
        Some(FileBlob {
            path: self.blob.clone()?,
            descriptor: self.record.descriptor(),
        })
    }
}

/// A blob in a file that anybody may have written.
#[derive(Debug, Clone)]
pub(crate) struct FileBlob {
    path: PathBuf,
    descriptor: Descriptor,
}

impl FileBlob {
    /// Returns a reader that needs the blob no more.
    pub(crate) fn reader(&self) -> Result<Box<dyn Read + Send>> {
        let path = &self.path;
        // To open a pipe may take for ever.
        let metadata = fs::metadata(path).map_err(Error::reading(path))?;
        if !metadata.is_file() {
            let problem = "it is no regular file, expected a layer's blob";
            let name = path.display().to_string();
            return Err(Error::document(name, Location::Whole, problem));
        }
        let file = File::open(path).map_err(Error::reading(path))?;
        Ok(Box::new(file))
    }
}

impl Blob for FileBlob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        self.reader()
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
