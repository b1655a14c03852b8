//! A large answer, fetched ahead of its reader and to its end.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE,
};

use super::ahead::{Drain, Filler, pipe};
use super::fetch::{Asked, Fetch, encoding};
use super::refusal::Failure;
use super::response::{Response, connection_error};
use super::wire::header;
use super::{Fetcher, HttpError};
use crate::context::{CancelFlag, Context};
use crate::error::{Error, ErrorKind, Result};

/// A large answer whose head may be on its way. Dropped, it ends.
pub(crate) struct Pending {
    bytes: Bytes,
    fetch: Arc<Fetch>,
    action: String,
}

/// The bytes of a large answer. An error is an [`io::Error`] that holds an
/// [`Error`](crate::Error). Dropped, it ends within 100 ms.
pub(crate) struct FetchReader {
    bytes: Box<dyn Read + Send>,
}

/// What is known of an answer by its head.
struct Head {
    host: String,
    encoding: Option<String>,
}

/// The bytes as they come.
struct Bytes {
    drain: Drain<Head>,
    cancel: CancelFlag,
    /// Runs what fills the pipe.
    _fetcher: Fetcher,
}

impl Pending {
    pub(super) fn start(
        cx: &Context,
        fetcher: &Fetcher,
        target: &str,
        action: &str,
        ahead: usize,
    ) -> Self {
        let (filler, drain) = pipe(ahead);
        let ending = filler.ending();
        let cx = cx.child();
        let cancel = cx.cancel.clone();
        let download = Download {
            fetch: fetcher.shared(),
            cx,
            target: target.to_owned(),
            action: action.to_owned(),
            filler,
            given: 0,
            length: None,
            seen: None,
            has_ranges: true,
        };
        fetcher
            .runtime()
            .run(&cancel, download.run(), move |result| ending.end(result));
        Self {
            bytes: Bytes {
                drain,
                cancel,
                _fetcher: fetcher.clone(),
            },
            fetch: fetcher.shared(),
            action: action.to_owned(),
        }
    }

    /// Waits for an answer at most so long, and returns whether there is one, or
    /// an error.
    pub(crate) fn is_answered_within(&self, limit: Duration) -> bool {
        self.bytes.drain.is_begun_within(limit)
    }

    /// Waits for the head; `None` if it is not there.
    pub(crate) fn open(self) -> Result<Option<FetchReader>> {
        let Some(Head { host, encoding }) = self.bytes.drain.head()? else {
            return Ok(None);
        };
        let bytes: Box<dyn Read + Send> = Box::new(self.bytes);
        let bytes = match encoding {
            None => bytes,
            Some(encoding) => {
                self.fetch
                    .decoded(&encoding, bytes)
                    .map_err(|problem| ErrorKind::Answer {
                        host,
                        action: self.action,
                        status: None,
                        problem,
                    })?
            }
        };
        Ok(Some(FetchReader { bytes }))
    }
}

impl Read for FetchReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.drain.read(buffer).map_err(io::Error::other)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What an answer says of the bytes in it.
struct Seen {
    /// What names these very bytes.
    etag: Option<HeaderValue>,
    encoding: Option<String>,
}

/// Fills the pipe.
struct Download {
    fetch: Arc<Fetch>,
    cx: Context,
    target: String,
    action: String,
    filler: Filler<Head>,
    /// Bytes that went into the pipe.
    given: u64,
    /// Bytes in all, once an answer said so.
    length: Option<u64>,
    /// What the first answer said of itself.
    seen: Option<Seen>,
    /// Whether the rest can be asked for.
    has_ranges: bool,
}

impl Download {
    /// Fetches to the end. It is given up after as many failures in a row
    /// without a byte, or that are of being too slow, as a request is repeated.
    async fn run(mut self) -> Result<()> {
        let fetch = Arc::clone(&self.fetch);
        let mut tries = fetch.patience.tries();
        loop {
            tries.begin().await;
            let before = self.given;
            let Err(failure) = self.go_on().await else {
                return Ok(());
            };
            if self.given > before && !is_slow(&failure.error) {
                tries.progressed();
            }
            tries.failed(&self.cx, failure, true).await?;
        }
    }

    /// Asks for what is missing, and takes it as far as it comes.
    async fn go_on(&mut self) -> Result<(), Failure> {
        let is_rest = self.given > 0 && self.has_ranges;
        let mut headers = HeaderMap::new();
        if is_rest {
            let range = format!("bytes={}-", self.given);
            let range = HeaderValue::try_from(range).expect("digits are text");
            headers.insert(RANGE, range);
            if let Some(etag) = self.seen.as_ref().and_then(|seen| seen.etag.as_ref()) {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        let asked = Asked {
            target: &self.target,
            action: &self.action,
            headers: &headers,
            accept: if is_rest { &[200, 206, 416] } else { &[200] },
            is_large: true,
        };
        let found = {
            // Not held over the body, whose reader may be waiting for others.
            let _permit = self.fetch.patience.permit().await;
            self.fetch.ask(&self.cx, asked).await?.given()
        };
        let Some(response) = found else {
            if self.seen.is_none() {
                return Ok(());
            }
            return Err(self.refuse("it is there no longer").into());
        };
        let seen = Seen {
            etag: strong_etag(&response.headers),
            encoding: encoding(&response.headers),
        };
        let begin = match response.status {
            206 => self.begin_of_rest(&response.headers, &seen)?,
            416 => return self.no_rest(&response.headers),
            _ => {
                self.learn_length(said_length(&response.headers))?;
                0
            }
        };
        match &self.seen {
            None => {
                self.filler.begin(Head {
                    host: response.host.clone(),
                    encoding: seen.encoding.clone(),
                });
                self.seen = Some(seen);
            }
            Some(first) if first.encoding != seen.encoding => {
                return Err(self.refuse("it is encoded otherwise than it was").into());
            }
            Some(_) => {}
        }
        self.take(response, begin).await
    }

    /// Takes a body that begins at byte `at` of the whole.
    async fn take(&mut self, response: Response, mut at: u64) -> Result<(), Failure> {
        let mut body = response.stream();
        while let Some(piece) = std::future::poll_fn(|task| body.as_mut().poll_next(task)).await {
            let mut piece = piece?;
            let known = self.given.saturating_sub(at).min(piece.len() as u64);
            at += known;
            // Not more than the length of the piece.
            let _ = piece.split_to(known as usize);
            at += piece.len() as u64;
            if self.length.is_some_and(|length| at > length) {
                return Err(self.changed(at).into());
            }
            self.filler.fill(&piece).await;
            self.given = self.given.max(at);
        }
        match self.length {
            Some(length) if self.given < length => Err(self.broke("the answer ended early").into()),
            // All that there is is less than what there was.
            _ if at < self.given => Err(self.changed(at).into()),
            _ => Ok(()),
        }
    }

    /// Returns where the rest begins that a server gives.
    fn begin_of_rest(&mut self, headers: &HeaderMap, seen: &Seen) -> Result<u64, Failure> {
        let found = header(headers, CONTENT_RANGE).and_then(parse_content_range);
        let problem = match found {
            Some((Some(begin), length)) if begin <= self.given => {
                let first = self.seen.as_ref().and_then(|first| first.etag.as_ref());
                if first.is_none() || seen.etag.is_none() || first == seen.etag.as_ref() {
                    self.learn_length(length)?;
                    return Ok(begin);
                }
                // It did not look at If-Range.
                "the rest is of another file".to_owned()
            }
            Some((Some(begin), _)) => {
                format!("the rest begins at byte {begin}, expected {}", self.given)
            }
            _ => "the rest begins nobody knows where".to_owned(),
        };
        self.has_ranges = false;
        Err(self.broke(problem).into())
    }

    /// Takes an answer that there is no rest: true if there are as many bytes
    /// as were given.
    fn no_rest(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        let found = header(headers, CONTENT_RANGE).and_then(parse_content_range);
        if let Some((None, Some(length))) = found
            && length == self.given
            && self.length.is_none()
        {
            return Ok(());
        }
        self.has_ranges = false;
        Err(self.broke("there is no rest").into())
    }

    /// Takes the length of the whole that an answer says; all must say the same.
    fn learn_length(&mut self, length: Option<u64>) -> Result<()> {
        let Some(length) = length else { return Ok(()) };
        match self.length {
            Some(known) if known != length => Err(self.changed(length)),
            _ => {
                self.length = Some(length);
                Ok(())
            }
        }
    }

    fn changed(&self, length: u64) -> Error {
        let known = self.length.unwrap_or(self.given);
        self.refuse(&format!(
            "it changed on the way: it has {length} bytes, expected {known}"
        ))
    }

    /// Makes an error that stays.
    fn refuse(&self, problem: &str) -> Error {
        ErrorKind::Answer {
            host: self.fetch.shown().to_owned(),
            action: self.action.clone(),
            status: None,
            problem: problem.to_owned(),
        }
        .into()
    }

    /// Makes an error that may be gone at the next try.
    fn broke(&self, problem: impl Into<String>) -> Error {
        let error = HttpError::passing(problem);
        connection_error(self.fetch.shown(), &self.action, error)
    }
}

/// Returns whether an answer came too slowly.
fn is_slow(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connection { source, .. } => source
            .downcast_ref::<HttpError>()
            .is_some_and(HttpError::is_slow),
        _ => false,
    }
}

/// Returns the length that an answer of all bytes says.
fn said_length(headers: &HeaderMap) -> Option<u64> {
    header(headers, CONTENT_LENGTH)?.trim().parse().ok()
}

/// Returns an ETag that names bytes and not only what they mean (RFC 9110,
/// 8.8.1): only such a one may be in `If-Range`.
fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(ETAG)?;
    value.as_bytes().starts_with(b"\"").then(|| value.clone())
}

/// Parses `Content-Range`: the first byte, `None` for `*`, and the length of
/// the whole, `None` likewise (RFC 9110, 14.4).
fn parse_content_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, value) = value.trim().split_once([' ', '='])?;
    let (range, length) = value.split_once('/')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let length = match length.trim() {
        "*" => None,
        length => Some(number(length)?),
    };
    if range.trim() == "*" {
        return Some((None, length));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let is_sound = first <= last && length.is_none_or(|length| last < length);
    is_sound.then_some((Some(first), length))
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
