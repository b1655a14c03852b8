//! zstd (RFC 8878) by libzstd, a frame a block.
//!
//! libzstd's own threads make other bytes than one thread does, so they are
//! not used. Frames carry their content size and no checksum: a layer's digest
//! says more.

use zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use crate::error::Result;

use super::{Encoder, failed};

/// From this level on, libzstd's own tables would take up to 64 MiB a thread.
const LARGE_TABLES: u8 = 12;
/// Entries of the hash and chain tables from [`LARGE_TABLES`] on, as powers of
/// two: 8 and 16 MiB. These constants shape layers.
const HASH_LOG: u32 = 21;
const CHAIN_LOG: u32 = 22;

pub(super) struct Zstd(CCtx<'static>);

impl Zstd {
    pub(super) fn new(level: u8) -> Result<Self> {
        let mut cctx =
            CCtx::try_create().ok_or_else(|| failed("libzstd", "it is out of memory"))?;
        let mut set = |parameter| {
            cctx.set_parameter(parameter)
                .map_err(|code| failed("libzstd", get_error_name(code)))
        };
        set(CParameter::CompressionLevel(i32::from(level)))?;
        if level >= LARGE_TABLES {
            set(CParameter::HashLog(HASH_LOG))?;
            set(CParameter::ChainLog(CHAIN_LOG))?;
        }
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
