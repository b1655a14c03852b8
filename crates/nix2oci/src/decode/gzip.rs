//! gzip, RFC 1952.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::Trailing;

/// Reads member after member.
///
/// `flate2` has a reader of many members as well; it does not tell bytes after
/// the end from a broken member.
pub(crate) enum GzipReader<R> {
    Member(Box<GzDecoder<R>>),
    Between(R),
    /// Only while a state is replaced.
    Moving,
}

impl<R: BufRead> GzipReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self::Member(Box::new(GzDecoder::new(inner)))
    }

    pub(crate) fn into_inner(self) -> R {
        match self {
            Self::Member(member) => member.into_inner(),
            Self::Between(inner) => inner,
            Self::Moving => unreachable!("every state is replaced at once"),
        }
    }
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self {
                Self::Member(member) => match member.read(buf)? {
                    0 => {
                        if let Self::Member(member) = std::mem::replace(self, Self::Moving) {
                            *self = Self::Between(member.into_inner());
                        }
                    }
                    n => return Ok(n),
                },
                Self::Between(inner) => match inner.fill_buf()?.first() {
                    None => return Ok(0),
                    Some(0x1f) => {
                        if let Self::Between(inner) = std::mem::replace(self, Self::Moving) {
                            *self = Self::new(inner);
                        }
                    }
                    Some(_) => return Err(Trailing("gzip").into()),
                },
                Self::Moving => unreachable!("every state is replaced at once"),
            }
        }
    }
}
