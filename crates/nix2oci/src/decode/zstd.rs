//! zstd, RFC 8878.

use std::io::{self, BufRead, Read};

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::error::{ErrorKind, Result};

use super::Trailing;

/// The largest window that is accepted: 128 MiB, what `zstd -d` takes.
const WINDOW_LOG_MAX: u32 = 27;

/// Reads frame after frame.
pub(crate) struct ZstdReader<R> {
    inner: R,
    decoder: DCtx<'static>,
    frame: Frame,
}

/// Where in the frames the decoder stands.
enum Frame {
    /// Before the first one.
    First,
    /// In one.
    Inside,
    /// After a whole one.
    Between,
}

impl<R: BufRead> ZstdReader<R> {
    pub(crate) fn new(inner: R) -> Result<Self> {
        let refuse = |problem: String| ErrorKind::Codec {
            codec: "zstd",
            problem,
        };
        let mut decoder =
            DCtx::try_create().ok_or_else(|| refuse("there is no memory".to_owned()))?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(|code| refuse(get_error_name(code).to_owned()))?;
        Ok(Self {
            inner,
            decoder,
            frame: Frame::First,
        })
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let bytes = self.inner.fill_buf()?;
            let at_end = bytes.is_empty();
            if at_end && matches!(self.frame, Frame::Between) {
                return Ok(0);
            }
            let between = matches!(self.frame, Frame::Between);
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut *buf);
            let result = self.decoder.decompress_stream(&mut output, &mut input);
            let (consumed, written) = (input.pos(), output.pos());
            match result {
                Ok(hint) => {
                    self.inner.consume(consumed);
                    // A call that took nothing and gave nothing began no frame.
                    let is_idle = between && consumed == 0 && written == 0;
                    self.frame = if hint == 0 || is_idle {
                        Frame::Between
                    } else {
                        Frame::Inside
                    };
                }
                Err(code) => {
                    let name = get_error_name(code);
                    // libzstd sees at once that these four bytes begin no
                    // frame.
                    return Err(if between && name == "Unknown frame descriptor" {
                        Trailing("zstd").into()
                    } else {
                        io::Error::new(io::ErrorKind::InvalidData, name)
                    });
                }
            }
            if written > 0 {
                return Ok(written);
            }
            if at_end && !matches!(self.frame, Frame::Between) {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the zstd stream ends inside a frame",
                ));
            }
        }
    }
}
