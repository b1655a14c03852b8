//! xz: streams in a row, with padding between them.
//!
//! Source: "The .xz File Format" 1.2.

use std::io::{self, ErrorKind, Read};

use crate::error::Error;

/// The largest dictionary that is accepted, in bytes: that of `xz -9`. Nix
/// takes `xz -6` (8 MiB) if nobody says otherwise.
const DICTIONARY_MAX: u32 = 64 << 20;

/// What the decoder adds to a dictionary when it looks at the bound, in KiB.
const OVERHEAD: u32 = 40 + 64;

/// Reads stream after stream. The dictionary grows with what was decoded, up
/// to what the stream asks for.
pub(crate) struct XzReader<R: Read>(lzma_rust2::XzReader<R>);

impl<R: Read> XzReader<R> {
    /// Reads `inner`, from which small pieces are taken.
    pub(crate) fn new(inner: R) -> Self {
        let limit = DICTIONARY_MAX / 1024 + OVERHEAD;
        Self(lzma_rust2::XzReader::new_mem_limit(inner, true, limit))
    }
}

impl<R: Read> Read for XzReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The reader below takes a read of nothing for the end of a block.
        if buf.is_empty() {
            return Ok(0);
        }
        self.0.read(buf).map_err(|error| match error.kind() {
            _ if matches!(error.get_ref(), Some(cause) if cause.is::<Error>()) => error,
            ErrorKind::OutOfMemory => io::Error::new(
                ErrorKind::InvalidData,
                format!(
                    "the xz stream needs a dictionary of more than {} MiB",
                    DICTIONARY_MAX >> 20
                ),
            ),
            ErrorKind::Unsupported | ErrorKind::Other => {
                io::Error::new(ErrorKind::InvalidData, error)
            }
            _ => error,
        })
    }
}
