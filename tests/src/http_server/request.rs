//! Requests and their bodies.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use super::Stop;
use super::headers::Headers;
use super::query::query_values;

/// A request; its body is read from it.
///
/// Reading fails with [`io::ErrorKind::UnexpectedEof`] if the client goes away
/// before the end of the body, and with `InvalidData` if a chunk is malformed.
pub struct Request<'a> {
    /// The method, in capital letters.
    pub method: String,
    /// The path as it was sent, without the query.
    pub path: String,
    /// What follows the `?`, or nothing.
    pub query: String,
    /// The header fields.
    pub headers: Headers,
    /// Which request of the server this is, from 0.
    pub number: u64,
    pub(crate) body: Body<'a>,
    pub(crate) stop: &'a Stop,
}

impl Request<'_> {
    /// Returns path and query as they were sent.
    pub fn target(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.query)
        }
    }

    /// Returns the first value of a name in the query, decoded.
    pub fn query_value(&self, name: &str) -> Option<String> {
        query_values(&self.query, name).into_iter().next()
    }

    /// Returns how many bytes of the body were read so far, without what
    /// chunking adds.
    pub fn received(&self) -> u64 {
        self.body.received
    }

    /// Returns the length of the body, if the client announced it.
    pub fn length(&self) -> Option<u64> {
        self.body.length
    }

    /// Returns whether the body was read to its end.
    pub fn is_read(&self) -> bool {
        self.body.framing == Framing::Done
    }

    /// Reads the rest of the body, which must not be longer than `limit` bytes.
    pub fn read_all(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// Reads and forgets the rest of the body.
    pub fn discard(&mut self) -> io::Result<u64> {
        io::copy(self, &mut io::sink())
    }

    /// Sleeps, less long if the server is dropped.
    pub fn wait(&self, duration: Duration) {
        self.stop.sleep(duration);
    }
}

impl Read for Request<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

/// What the connection of a request can do.
pub(crate) trait Wire: BufRead {
    /// Returns what answers are written to.
    fn out(&mut self) -> &mut dyn Write;
}

pub(crate) struct Body<'a> {
    pub(crate) wire: &'a mut dyn Wire,
    pub(crate) framing: Framing,
    pub(crate) length: Option<u64>,
    pub(crate) received: u64,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) is_awaited: bool,
}

/// Where in a body we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes are left; more than none.
    Length(u64),
    /// So many bytes are left of this chunk; none: the next line is a size.
    /// `true`: the line end of the chunk before is still to come.
    Chunk(u64, bool),
    /// Everything up to the end of the connection.
    Close,
    Done,
}

impl Framing {
    /// Returns what the head of a message says of its body, and its length.
    /// `otherwise` is for a head that says nothing.
    pub(crate) fn of(headers: &Headers, otherwise: Self) -> io::Result<(Self, Option<u64>)> {
        if headers.lists("Transfer-Encoding", "chunked") {
            return Ok((Self::Chunk(0, false), None));
        }
        let Some(length) = headers.get("Content-Length") else {
            return Ok((otherwise, None));
        };
        let length: u64 = length.trim().parse().map_err(|_| invalid())?;
        Ok(match length {
            0 => (Self::Done, Some(0)),
            n => (Self::Length(n), Some(n)),
        })
    }

    /// Reads the next bytes of the body; none at its end.
    pub(crate) fn read(
        &mut self,
        wire: &mut (impl BufRead + ?Sized),
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Self::Chunk(left, is_after) = self
            && *left == 0
        {
            if *is_after && !line(wire)?.is_empty() {
                return Err(invalid());
            }
            let size = line(wire)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            *left = u64::from_str_radix(size, 16).map_err(|_| invalid())?;
            *is_after = true;
            if *left == 0 {
                while !line(wire)?.is_empty() {}
                *self = Self::Done;
            }
        }
        let most = match *self {
            Self::Done => return Ok(0),
            Self::Length(left) | Self::Chunk(left, _) => {
                usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()))
            }
            Self::Close => buffer.len(),
        };
        let read = wire.read(&mut buffer[..most])?;
        let n = read as u64;
        match self {
            Self::Close if read == 0 => *self = Self::Done,
            Self::Close | Self::Done => {}
            _ if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Self::Length(left) if *left == n => *self = Self::Done,
            Self::Length(left) | Self::Chunk(left, _) => *left -= n,
        }
        Ok(read)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_awaited && self.framing != Framing::Done {
            self.is_awaited = false;
            let out = self.wire.out();
            out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            out.flush()?;
        }
        let read = self.framing.read(self.wire, buffer)?;
        self.received += read as u64;
        Ok(read)
    }
}

/// Reads a line of at most 16 KiB and returns it without its end.
pub(crate) fn line(wire: &mut (impl BufRead + ?Sized)) -> io::Result<String> {
    let mut bytes = Vec::new();
    wire.take(16 * 1024).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

pub(crate) fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
