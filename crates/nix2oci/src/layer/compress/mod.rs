//! Compression, a block at a time.
//!
//! An encoder sees blocks of a fixed size and makes of each a unit of its
//! format that stands alone (a gzip member, a zstd frame); the units one after
//! the other are the layer. So blocks can be compressed side by side and the
//! bytes do not depend on how many threads did it.
//!
//! To add a codec: a file here, a variant of [`Compression`], a line in
//! [`encoder`].

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "zstd")]
mod zstd;

use crate::error::{ErrorKind, Result};

use super::Compression;

/// Bytes of a block that is not compressed. They do not shape the layer.
const PLAIN_BLOCK: usize = 256 << 10;
/// Bytes of tar in a gzip member. This constant shapes layers.
const GZIP_BLOCK: usize = 1 << 20;
/// Bytes of tar in a zstd frame; also keeps the window that a reader needs at
/// 4 MiB. This constant shapes layers.
const ZSTD_BLOCK: usize = 4 << 20;

/// Compresses blocks.
pub(crate) trait Encoder {
    /// Returns the most bytes that a block of `size` bytes can become.
    fn bound(&mut self, size: usize) -> usize;

    /// Compresses `block` into `out`, which has room for the bound, and returns
    /// how many bytes it became.
    fn encode(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize>;
}

impl Compression {
    /// Returns the bytes of tar that are compressed at a time.
    pub(crate) fn block_size(self) -> usize {
        match self {
            Self::None => PLAIN_BLOCK,
            Self::Gzip { .. } => GZIP_BLOCK,
            Self::Zstd { .. } => ZSTD_BLOCK,
        }
    }
}

impl Compression {
    /// Returns what names the bytes that this compression makes: codec, level,
    /// encoder with its version, block size. It is part of layer keys.
    pub(crate) fn identity(self) -> String {
        let encoder = match self {
            Self::None => return self.to_string(),
            Self::Gzip { .. } => "libdeflate 1.26",
            Self::Zstd { .. } => "libzstd 1.5.7",
        };
        format!("{self}, {encoder}, blocks of {}", self.block_size())
    }
}

/// Makes an encoder; `None` if there is nothing to encode.
///
/// # Errors
///
/// [`ErrorKind::FeatureMissing`] if this build lacks the codec.
pub(crate) fn encoder(compression: Compression) -> Result<Option<Box<dyn Encoder>>> {
    match compression {
        Compression::None => Ok(None),
        #[cfg(feature = "gzip")]
        Compression::Gzip { level } => Ok(Some(Box::new(gzip::Gzip::new(level)?))),
        #[cfg(feature = "zstd")]
        Compression::Zstd { level } => Ok(Some(Box::new(zstd::Zstd::new(level)?))),
        #[cfg(not(all(feature = "gzip", feature = "zstd")))]
        other => Err(ErrorKind::FeatureMissing {
            what: format!("compression {other}"),
            feature: if matches!(other, Compression::Gzip { .. }) {
                "gzip"
            } else {
                "zstd"
            },
        }
        .into()),
    }
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn failed(codec: &'static str, problem: impl std::fmt::Display) -> crate::error::Error {
    ErrorKind::Codec {
        codec,
        problem: problem.to_string(),
    }
    .into()
}
