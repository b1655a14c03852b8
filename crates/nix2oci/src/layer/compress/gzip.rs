//! gzip (RFC 1952) by libdeflate, a member a block.
//!
//! libdeflate makes smaller members faster than zlib does and has no state
//! between them; it writes no time and no name into their headers. Every gzip
//! reader takes members one after the other.

use libdeflater::{CompressionLvl, Compressor};

use crate::error::Result;

use super::{Encoder, failed};

pub(super) struct Gzip(Compressor);

impl Gzip {
    pub(super) fn new(level: u8) -> Result<Self> {
        let level = CompressionLvl::new(i32::from(level))
            .map_err(|_| failed("libdeflate", format!("it has no level {level}")))?;
        Ok(Self(Compressor::new(level)))
    }
}

impl Encoder for Gzip {
    fn bound(&mut self, size: usize) -> usize {
        self.0.gzip_compress_bound(size)
    }

    fn encode(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize> {
        self.0
            .gzip_compress(block, out)
            .map_err(|e| failed("libdeflate", e))
    }
}
