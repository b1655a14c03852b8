//! lz4: frames in a row, skippable ones included.
//!
//! Source: "LZ4 Frame Format Description" 1.6. The legacy frames of lz4 before
//! 1.4 are refused: nothing that writes to a cache makes them.

use std::io::{self, BufRead, ErrorKind, Read};

use lz4_flex::frame::{Error as FrameError, FrameDecoder};

use super::Trailing;

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// Reads frame after frame. A block has at most 4 MiB.
pub(crate) enum Lz4Reader<R: BufRead> {
    /// In a frame. Each has a decoder of its own, because one is made for the
    /// block size of one frame.
    Frame(Box<FrameDecoder<Watched<R>>>),
    /// Before a frame or at the end, and whether there was one before.
    Between(R, bool),
    /// Only while a state is replaced.
    Moving,
}

impl<R: BufRead> Lz4Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self::Between(inner, false)
    }

    /// Returns the state after what is between frames.
    fn next_frame(mut inner: R, had_frame: bool) -> io::Result<Self> {
        loop {
            if inner.fill_buf()?.is_empty() {
                return if had_frame {
                    Ok(Self::Between(inner, had_frame))
                } else {
                    Err(ends_early())
                };
            }
            let mut magic = [0; 4];
            match inner.read_exact(&mut magic) {
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error),
                Err(_) if had_frame => return Err(Trailing("lz4").into()),
                Err(_) => return Err(ends_early()),
                Ok(()) => {}
            }
            match u32::from_le_bytes(magic) {
                MAGIC => {
                    let watched = Watched {
                        magic,
                        given: 0,
                        inner,
                        at_end: false,
                    };
                    return Ok(Self::Frame(Box::new(FrameDecoder::new(watched))));
                }
                number if SKIPPABLE.contains(&number) => skip_frame(&mut inner)?,
                _ if had_frame => return Err(Trailing("lz4").into()),
                _ => {
                    let problem = "it does not begin as an lz4 stream does";
                    return Err(io::Error::new(ErrorKind::InvalidData, problem));
                }
            }
        }
    }
}

impl<R: BufRead> Read for Lz4Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self {
                Self::Frame(decoder) => match decoder.read(buf) {
                    // The decoder takes the end of the input for that of a
                    // frame, between blocks.
                    Ok(0) if decoder.get_ref().at_end => return Err(ends_early()),
                    Ok(0) => {
                        if let Self::Frame(decoder) = std::mem::replace(self, Self::Moving) {
                            *self = Self::Between(decoder.into_inner().inner, true);
                        }
                    }
                    Ok(n) => return Ok(n),
                    Err(_) if decoder.get_ref().at_end => return Err(ends_early()),
                    Err(error) => return Err(in_frame(error)),
                },
                Self::Between(inner, had_frame) => {
                    if *had_frame && inner.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    if let Self::Between(inner, had_frame) = std::mem::replace(self, Self::Moving) {
                        *self = Self::next_frame(inner, had_frame)?;
                    }
                }
                // After an error between frames.
                Self::Moving => return Err(ends_early()),
            }
        }
    }
}

/// Passes over a skippable frame, whose magic number was read.
fn skip_frame(inner: &mut impl BufRead) -> io::Result<()> {
    let mut len = [0; 4];
    inner.read_exact(&mut len)?;
    let len = u64::from(u32::from_le_bytes(len));
    if io::copy(&mut inner.take(len), &mut io::sink())? < len {
        return Err(ends_early());
    }
    Ok(())
}

fn ends_early() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the lz4 stream ends too early")
}

/// Says what the decoder says, unless it comes from below.
fn in_frame(error: io::Error) -> io::Error {
    match error.get_ref() {
        Some(cause) if cause.is::<FrameError>() => {
            let problem = format!("the lz4 stream is damaged: {cause}");
            io::Error::new(ErrorKind::InvalidData, problem)
        }
        _ => error,
    }
}

/// Gives a frame from its magic number on, and sees whether the input ended.
pub(crate) struct Watched<R> {
    magic: [u8; 4],
    /// Bytes of the magic number that were given.
    given: usize,
    inner: R,
    at_end: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut magic = &self.magic[self.given..];
        let n = if magic.is_empty() {
            self.inner.read(buf)?
        } else {
            let n = magic.read(buf)?;
            self.given += n;
            n
        };
        self.at_end |= n == 0 && !buf.is_empty();
        Ok(n)
    }
}
