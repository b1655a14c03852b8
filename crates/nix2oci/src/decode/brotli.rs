//! Brotli, RFC 7932.

use std::io::{self, BufRead, ErrorKind, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::Trailing;

/// Reads a stream. Windows are at most 16 MiB, as the format has it: the
/// extension for larger ones, which the reference decoder takes when told to
/// only, is refused.
pub(crate) struct BrotliReader<R> {
    inner: R,
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    /// Whether the stream is over.
    is_done: bool,
}

impl<R: BufRead> BrotliReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        let allocator = StandardAlloc::default;
        let state = BrotliState::new_strict(allocator(), allocator(), allocator());
        Self {
            inner,
            state: Box::new(state),
            is_done: false,
        }
    }
}

impl<R: BufRead> Read for BrotliReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.inner.fill_buf()?;
            let at_end = input.is_empty();
            if self.is_done {
                return if at_end {
                    Ok(0)
                } else {
                    Err(Trailing("brotli").into())
                };
            }
            let (mut left, mut taken) = (input.len(), 0);
            let (mut room, mut given) = (buf.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut taken,
                input,
                &mut room,
                &mut given,
                buf,
                &mut 0,
                &mut self.state,
            );
            self.inner.consume(taken);
            match result {
                BrotliResult::ResultSuccess => self.is_done = true,
                BrotliResult::NeedsMoreInput if at_end && given == 0 => {
                    let problem = "the brotli stream ends too early";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, problem));
                }
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => {
                    let problem = "the brotli stream is damaged";
                    return Err(io::Error::new(ErrorKind::InvalidData, problem));
                }
            }
            if given > 0 {
                return Ok(given);
            }
        }
    }
}
