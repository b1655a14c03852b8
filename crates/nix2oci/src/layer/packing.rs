//! What shapes a layer's bytes besides its paths.

use std::fmt;
use std::str::FromStr;

use crate::oci::MediaType;

/// The options that shape a layer's bytes. All of them are part of the
/// [`LayerKey`](super::LayerKey).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// How the tar is compressed.
    pub compression: Compression,
    /// The modification time of every entry, in seconds since 1970.
    pub mtime: u64,
    /// The owner of every entry.
    pub owner: Owner,
}

impl Default for Packing {
    /// The default compression, one second past 1970 as in the Nix store,
    /// owned by 0:0.
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            mtime: 1,
            owner: Owner::default(),
        }
    }
}

impl Packing {
    /// Returns whether the time fits a tar header: it does up to the year 2242.
    pub fn is_valid(&self) -> bool {
        super::tar::mtime_fits(self.mtime)
    }
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A text is not `UID:GID`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an owner: expected UID:GID in numbers, such as 1000:100")]
pub struct ParseOwnerError {
    text: String,
}

impl FromStr for Owner {
    type Err = ParseOwnerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once(':')
            .and_then(|(uid, gid)| {
                Some(Self {
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                })
            })
            .ok_or_else(|| ParseOwnerError {
                text: text.to_owned(),
            })
    }
}

/// How a layer is compressed.
///
/// The bytes are a function of the input and this value only: encoders run
/// over blocks of a fixed size, and their versions are pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, in members of 1 MiB of tar; every loader reads it.
    Gzip {
        /// 1 to 9.
        level: u8,
    },
    /// zstd, in frames of 4 MiB of tar; faster and smaller than gzip, but
    /// older loaders (Docker 20.10, umoci before 0.5) do not read it.
    Zstd {
        /// 1 to 19.
        level: u8,
    },
}

impl Default for Compression {
    /// gzip at level 6.
    fn default() -> Self {
        Self::Gzip { level: 6 }
    }
}

impl Compression {
    /// Returns the media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip { .. } => MediaType::ImageLayerGzip,
            Self::Zstd { .. } => MediaType::ImageLayerZstd,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Gzip { level } => write!(f, "gzip:{level}"),
            Self::Zstd { level } => write!(f, "zstd:{level}"),
        }
    }
}

/// A text is not a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a compression: expected none, gzip[:1-9] or zstd[:1-19]")]
pub struct ParseCompressionError {
    text: String,
}

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseCompressionError {
            text: text.to_owned(),
        };
        let (codec, level) = match text.split_once(':') {
            Some((codec, level)) => (codec, Some(level.parse::<u8>().map_err(|_| refuse())?)),
            None => (text, None),
        };
        match (codec, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", level @ (None | Some(1..=9))) => Ok(Self::Gzip {
                level: level.unwrap_or(6),
            }),
            ("zstd", level @ (None | Some(1..=19))) => Ok(Self::Zstd {
                level: level.unwrap_or(3),
            }),
            _ => Err(refuse()),
        }
    }
}
