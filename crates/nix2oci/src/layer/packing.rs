//! What shapes a layer's bytes besides its paths.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::oci::{MediaType, Owner};

use super::{Codec, tar};

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
    /// Checks that a layer can be packed so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::error::ErrorKind::InvalidInput) for a
    /// level that the codec does not have, a time after the year 2242, which no
    /// tar header holds, or an owner that no file has.
    pub fn check(&self) -> Result<()> {
        let compression = self.compression;
        if !compression.is_valid() {
            let what = format!("compression {compression}");
            return Err(Error::invalid(what, "its level is not one of the codec's"));
        }
        if !tar::mtime_fits(self.mtime) {
            let problem = "it is after the year 2242, more than a tar header holds";
            return Err(Error::invalid("the modification time", problem));
        }
        let owner = self.owner.check();
        owner.map_err(|problem| Error::invalid("the owner of all files", problem))
    }
}

/// Reads a number that is nothing but digits, without a zero in front.
fn parse_level(text: &str) -> Option<u8> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
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
    /// Returns the codec, without the level.
    pub fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip { .. } => Codec::Gzip,
            Self::Zstd { .. } => Codec::Zstd,
        }
    }

    /// Returns the media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        self.codec().media_type()
    }

    /// Returns whether the level is one that [`FromStr`] reads.
    fn is_valid(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip { level } => (1..=9).contains(&level),
            Self::Zstd { level } => (1..=19).contains(&level),
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
#[error("{text:?} is not a compression: {problem}expected none, gzip[:1-9] or zstd[:1-19]")]
pub struct ParseCompressionError {
    text: String,
    problem: &'static str,
}

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |problem| ParseCompressionError {
            text: text.to_owned(),
            problem,
        };
        let (codec, level) = match text.split_once(':') {
            Some((codec, level)) => (codec, Some(level)),
            None => (text, None),
        };
        // 0 is no level of any codec.
        let level = level.map(|level| parse_level(level).unwrap_or(0));
        match (codec, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", level @ (None | Some(1..=9))) => Ok(Self::Gzip {
                level: level.unwrap_or(6),
            }),
            ("zstd", level @ (None | Some(1..=19))) => Ok(Self::Zstd {
                level: level.unwrap_or(3),
            }),
            ("gz", _) => Err(refuse("is gzip meant? ")),
            ("none", Some(_)) => Err(refuse("it has no levels; ")),
            ("gzip" | "zstd", Some(_)) => Err(refuse("it has no such level; ")),
            _ => Err(refuse("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_read_as_they_are_shown() {
        for text in ["none", "gzip:1", "gzip:9", "zstd:1", "zstd:19"] {
            let compression: Compression = text.parse().unwrap();
            assert_eq!(compression.to_string(), text);
        }
        assert_eq!("gzip".parse(), Ok(Compression::Gzip { level: 6 }));
        assert_eq!("zstd".parse(), Ok(Compression::Zstd { level: 3 }));
        for text in [
            "", "none:1", "gzip:", "gzip:0", "gzip:10", "gzip:+6", "gzip:06", "gzip:6:6", "zstd:0",
            "zstd:20", "zstd:-1", "zstd:300", "GZIP", "xz",
        ] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
        for (text, told) in [
            ("gz", "is gzip meant?"),
            ("none:1", "it has no levels"),
            ("zstd:20", "it has no such level"),
            ("gzip:best", "it has no such level"),
        ] {
            let error = text.parse::<Compression>().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_no_codec_and_no_header_has_is_refused() {
        let plain = Packing::default();
        assert!(plain.check().is_ok());
        for compression in [
            Compression::Gzip { level: 0 },
            Compression::Gzip { level: 10 },
            Compression::Zstd { level: 20 },
        ] {
            assert!(
                Packing {
                    compression,
                    ..plain
                }
                .check()
                .is_err()
            );
        }
        let last = Packing {
            mtime: (1 << 33) - 1,
            ..plain
        };
        assert!(last.check().is_ok());
        assert!(
            Packing {
                mtime: 1 << 33,
                ..plain
            }
            .check()
            .is_err()
        );
    }
}
