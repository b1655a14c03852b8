//! zstd (RFC 8878) by libzstd, a frame a block.
//!
//! libzstd's own threads make other bytes than one thread does, so they are
//! not used. Frames carry their content size and no checksum: a layer's digest
//! says more.

use zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use crate::error::Result;

use super::{Encoder, failed};

pub(super) struct Zstd(CCtx<'static>);

impl Zstd {
    pub(super) fn new(level: u8) -> Result<Self> {
        let mut cctx =
            CCtx::try_create().ok_or_else(|| failed("libzstd", "it is out of memory"))?;
        cctx.set_parameter(CParameter::CompressionLevel(i32::from(level)))
            .map_err(|code| failed("libzstd", get_error_name(code)))?;
        Ok(Self(cctx))
    }
}

impl Encoder for Zstd {
    fn bound(&mut self, size: usize) -> usize {
        compress_bound(size)
    }

    fn encode(&mut self, block: &[u8], out: &mut [u8]) -> Result<usize> {
        self.0
            .compress2(out, block)
            .map_err(|code| failed("libzstd", get_error_name(code)))
    }
}
