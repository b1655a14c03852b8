//! Decoders of what is compressed: layers, and NARs of binary caches.
//!
//! All are readers over a [`BufRead`](std::io::BufRead), and all keep to this:
//!
//! - every part of a stream is read, as the format's own tool does: members of
//!   gzip, frames of zstd and lz4, streams of xz and bzip2;
//! - a stream that is cut short is an error, and so are bytes after its end
//!   ([`Trailing`]);
//! - memory is bounded, whatever the stream claims to need;
//! - an error of the reader below comes out as it is; all others are of the
//!   kinds [`InvalidData`](std::io::ErrorKind::InvalidData),
//!   [`InvalidInput`](std::io::ErrorKind::InvalidInput) or
//!   [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof).

#[cfg(feature = "binary-cache")]
mod brotli;
#[cfg(feature = "binary-cache")]
mod bzip2;
mod gzip;
#[cfg(feature = "binary-cache")]
mod lz4;
#[cfg(feature = "binary-cache")]
mod xz;
#[cfg(feature = "zstd")]
mod zstd;

use std::io;

#[cfg(feature = "binary-cache")]
pub(crate) use brotli::BrotliReader;
#[cfg(feature = "binary-cache")]
pub(crate) use bzip2::Bzip2Reader;
pub(crate) use gzip::GzipReader;
#[cfg(feature = "binary-cache")]
pub(crate) use lz4::Lz4Reader;
#[cfg(feature = "binary-cache")]
pub(crate) use xz::XzReader;
#[cfg(feature = "zstd")]
pub(crate) use zstd::ZstdReader;

/// A stream in this format is whole, and something that is not part of it
/// follows. All bytes of the stream were handed out.
#[derive(Debug, thiserror::Error)]
#[error("there are bytes after the end of the {0} stream")]
pub(crate) struct Trailing(&'static str);

impl From<Trailing> for io::Error {
    fn from(trailing: Trailing) -> Self {
        Self::new(io::ErrorKind::InvalidData, trailing)
    }
}
