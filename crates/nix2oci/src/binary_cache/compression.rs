//! How the NARs of a binary cache are compressed.

use std::fmt;
use std::io::{BufRead, Read};
use std::str::FromStr;

use crate::decode::{BrotliReader, Bzip2Reader, GzipReader, Lz4Reader, XzReader, ZstdReader};
use crate::error::Result;

/// How a NAR is compressed, in the words of a narinfo's line `Compression`.
///
/// These are the ones that caches are filled with. Nix can write others as well
/// (`lzip`, `lzma`, `compress`, …), through libarchive; nothing is known to do
/// so.
///
/// Source: `makeCompressionSink` and `makeDecompressionSink` in NixOS/nix,
/// `src/libutil/compression.cc`, and `nar-info.cc` for the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NarCompression {
    /// Not at all.
    None,
    /// xz, which Nix writes if nobody says otherwise.
    Xz,
    /// bzip2, which a narinfo without the line stands for.
    #[default]
    Bzip2,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// Brotli; the narinfo says `br`.
    Brotli,
    /// lz4, in frames.
    Lz4,
}

impl NarCompression {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Xz,
        Self::Bzip2,
        Self::Gzip,
        Self::Zstd,
        Self::Brotli,
        Self::Lz4,
    ];

    /// Returns the narinfo's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Lz4 => "lz4",
        }
    }

    /// Returns a reader of what `input` holds, decompressed.
    ///
    /// Reads all parts of a stream that the format's own tool reads as one, and
    /// fails if it is cut short or if bytes follow. Memory depends on the
    /// format, not on the size: a few MiB, for zstd up to the 128 MiB of the
    /// largest window that is accepted, for xz up to the 64 MiB of the largest
    /// dictionary, both only if the stream asks for so much and has as much in
    /// it. It gives small pieces; read it through a buffer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`](crate::error::ErrorKind::Codec) if there is no
    /// memory for a decoder.
    pub fn decoder<'a>(self, input: impl BufRead + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Xz => Box::new(XzReader::new(input)?),
            Self::Bzip2 => Box::new(Bzip2Reader::new(input)),
            Self::Gzip => Box::new(GzipReader::new(input)),
            Self::Zstd => Box::new(ZstdReader::new(input)?),
            Self::Brotli => Box::new(BrotliReader::new(input)),
            Self::Lz4 => Box::new(Lz4Reader::new(input)),
        })
    }
}

impl fmt::Display for NarCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is not a compression that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression {text:?} cannot be read: expected none, xz, bzip2, gzip, zstd, br or lz4")]
pub struct ParseNarCompressionError {
    text: String,
}

impl FromStr for NarCompression {
    type Err = ParseNarCompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
        known.ok_or_else(|| ParseNarCompressionError {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
#[path = "compression_tests.rs"]
mod tests;
