//! Answers, and how they go wrong.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Stop;
use super::headers::Headers;

/// An answer to a request.
///
/// Fields of the head are sent as they are; `Content-Length` (or
/// `Transfer-Encoding`) and `Connection` are added where they are missing.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: AnswerBody,
    pub(crate) delivery: Delivery,
}

/// The body of an answer.
pub enum AnswerBody {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// What is read, with the length that is announced; chunked without one.
    Reader(Box<dyn Read + Send>, Option<u64>),
}

/// How an answer is sent.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Before the first byte.
    pub(crate) delay: Duration,
    /// Pieces of so many bytes of the body with so much time after each.
    pub(crate) pieces: Option<(usize, Duration)>,
    /// So many bytes of the body are sent.
    pub(crate) limit: Option<u64>,
    pub(crate) ending: Ending,
    /// These bytes go out instead of the answer.
    pub(crate) instead: Option<Vec<u8>>,
    pub(crate) is_chunked: bool,
}

/// What happens to the connection after an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    KeepAlive,
    /// It is closed, in the order that TCP foresees.
    Close,
    /// It is closed by a reset.
    Reset,
}

impl Answer {
    /// An answer with an empty body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Headers::default(),
            body: AnswerBody::Bytes(Arc::from([])),
            delivery: Delivery::default(),
        }
    }

    /// An answer with a document.
    pub fn json(status: u16, document: &Value) -> Self {
        Self::new(status)
            .header("Content-Type", "application/json")
            .body(document.to_string())
    }

    /// No answer: the connection is closed.
    pub fn none() -> Self {
        let mut answer = Self::new(0);
        answer.delivery.instead = Some(Vec::new());
        answer.closing()
    }

    /// No answer: the connection is reset.
    pub fn reset() -> Self {
        let mut answer = Self::none();
        answer.delivery.ending = Ending::Reset;
        answer
    }

    /// These bytes instead of an answer, then the end of the connection.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let mut answer = Self::none();
        answer.delivery.instead = Some(bytes.into());
        answer
    }

    /// Adds a header field.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Replaces the body.
    pub fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body = AnswerBody::Bytes(bytes.as_ref().into());
        self
    }

    /// Replaces the body by what is read. Without a length it is sent chunked.
    pub fn reader(mut self, body: impl Read + Send + 'static, length: Option<u64>) -> Self {
        self.body = AnswerBody::Reader(Box::new(body), length);
        self
    }

    /// Sends the first byte so much later.
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delivery.delay = delay;
        self
    }

    /// Sends the body in pieces of `size` bytes, with `pause` after each.
    pub fn trickled(mut self, size: usize, pause: Duration) -> Self {
        self.delivery.pieces = Some((size.max(1), pause));
        self
    }

    /// Closes the connection after `bytes` bytes of the body, though more were
    /// announced.
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.delivery.limit = Some(bytes);
        self.closing()
    }

    /// Resets the connection after `bytes` bytes of the body.
    pub fn reset_after(mut self, bytes: u64) -> Self {
        self = self.cut_after(bytes);
        self.delivery.ending = Ending::Reset;
        self
    }

    /// Sends the body in chunks, without its length.
    pub fn chunked(mut self) -> Self {
        self.delivery.is_chunked = true;
        self
    }

    /// Closes the connection afterwards.
    pub fn closing(mut self) -> Self {
        self.delivery.ending = Ending::Close;
        self
    }

    /// Returns the status that the client sees, if it sees one.
    pub(crate) fn sent_status(&self) -> Option<u16> {
        self.delivery.instead.is_none().then_some(self.status)
    }

    /// Writes it and returns what happens to the connection. `is_last` says
    /// that this will be the connection's last answer anyway.
    pub(crate) fn write(
        self,
        out: &mut dyn Write,
        method: &str,
        is_last: bool,
        stop: &Stop,
    ) -> io::Result<Ending> {
        let delivery = self.delivery;
        stop.sleep(delivery.delay);
        if let Some(bytes) = delivery.instead {
            out.write_all(&bytes)?;
            out.flush()?;
            return Ok(delivery.ending);
        }
        let mut ending = delivery.ending;
        if is_last && ending == Ending::KeepAlive {
            ending = Ending::Close;
        }

        let (mut body, length): (Box<dyn Read>, _) = match self.body {
            AnswerBody::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (Box::new(io::Cursor::new(bytes)), Some(length))
            }
            AnswerBody::Reader(reader, length) => (reader, length),
        };
        let length = length.filter(|_| !delivery.is_chunked);
        // RFC 9110 6.4.1: these have none.
        let has_body = method != "HEAD" && !matches!(self.status, 100..200 | 204 | 304);
        let mut head = self.headers;
        let mut is_chunked = false;
        if !head.has("Content-Length") && !head.has("Transfer-Encoding") {
            match length {
                Some(length) if has_body || method == "HEAD" => {
                    head.add("Content-Length", length.to_string());
                }
                None if has_body => {
                    head.add("Transfer-Encoding", "chunked");
                    is_chunked = true;
                }
                _ => {}
            }
        }
        if ending != Ending::KeepAlive && !head.has("Connection") {
            head.add("Connection", "close");
        }
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in head.iter() {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        out.write_all(text.as_bytes())?;
        if has_body {
            let mut sending = Sending {
                out,
                is_chunked,
                pieces: delivery.pieces,
                stop,
            };
            sending.send(&mut body, delivery.limit)?;
        }
        out.flush()?;
        Ok(ending)
    }
}

struct Sending<'a> {
    out: &'a mut dyn Write,
    is_chunked: bool,
    pieces: Option<(usize, Duration)>,
    stop: &'a Stop,
}

impl Sending<'_> {
    fn send(&mut self, body: &mut dyn Read, limit: Option<u64>) -> io::Result<()> {
        let (size, pause) = self.pieces.unwrap_or((64 * 1024, Duration::ZERO));
        let mut buffer = vec![0; size];
        let mut left = limit.unwrap_or(u64::MAX);
        while left > 0 {
            let most = usize::try_from(left).map_or(size, |left| left.min(size));
            let read = body.read(&mut buffer[..most])?;
            if read == 0 {
                if self.is_chunked {
                    self.out.write_all(b"0\r\n\r\n")?;
                }
                break;
            }
            left -= read as u64;
            if self.is_chunked {
                write!(self.out, "{read:x}\r\n")?;
            }
            self.out.write_all(&buffer[..read])?;
            if self.is_chunked {
                self.out.write_all(b"\r\n")?;
            }
            if self.pieces.is_some() {
                self.out.flush()?;
                self.stop.sleep(pause);
                if self.stop.is_set() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{:?}", bytes.escape_ascii().to_string()),
            Self::Reader(_, length) => write!(f, "a reader of {length:?} bytes"),
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // An empty reason is allowed (RFC 9112 4).
        _ => "",
    }
}
