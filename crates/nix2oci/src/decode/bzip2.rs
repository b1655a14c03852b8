//! bzip2: streams in a row.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;

use super::Trailing;

/// Reads stream after stream. A block has at most 900 kB, and memory is four
/// times that.
pub(crate) enum Bzip2Reader<R: BufRead> {
    Stream(Box<BzDecoder<R>>),
    Between(R),
    /// Only while a state is replaced.
    Moving,
}

impl<R: BufRead> Bzip2Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self::Stream(Box::new(BzDecoder::new(inner)))
    }
}

impl<R: BufRead> Read for Bzip2Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self {
                Self::Stream(stream) => match stream.read(buf)? {
                    0 => {
                        if let Self::Stream(stream) = std::mem::replace(self, Self::Moving) {
                            *self = Self::Between(stream.into_inner());
                        }
                    }
                    n => return Ok(n),
                },
                Self::Between(inner) => match inner.fill_buf()?.first() {
                    None => return Ok(0),
                    Some(b'B') => {
                        if let Self::Between(inner) = std::mem::replace(self, Self::Moving) {
                            *self = Self::new(inner);
                        }
                    }
                    Some(_) => return Err(Trailing("bzip2").into()),
                },
                Self::Moving => unreachable!("every state is replaced at once"),
            }
        }
    }
}
