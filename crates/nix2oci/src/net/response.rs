//! What a server answers.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::time::Sleep;

use super::pace::Pace;
use super::wire::Answer;
use super::{BodyStream, HttpError, Limits, Progress, explain};
use crate::context::CancelFlag;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of an error answer that are read.
const MAX_ERROR_BODY: u64 = 64 * 1024;

/// How long the body of an error answer may take: what is there by then is
/// enough to say what is wrong.
const ERROR_BODY_TIME: Duration = Duration::from_secs(10);

/// How long a whole answer in memory may take, so that a server that sends a
/// byte a minute comes to an end.
const WHOLE_BODY_TIME: Duration = Duration::from_secs(300);

/// How often the cancel flag and the clock are looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// An answer that the request accepts. Its body may still be on its way.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The address that answered in the end, to resolve `Location` against.
    /// Its query may be a secret.
    pub(crate) url: Url,
    /// The server, as the user would name it.
    pub(crate) host: String,
    /// The request's.
    pub(crate) action: String,
    pub(crate) body: BodyStream,
}

impl Response {
    /// Takes an answer.
    pub(crate) fn new(
        answer: Answer,
        host: String,
        action: &str,
        limits: &Limits,
        cancel: &CancelFlag,
    ) -> Self {
        let Answer {
            answer,
            url,
            progress,
        } = answer;
        let is_refusal = !answer.status().is_success();
        Self {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            url,
            host: host.clone(),
            action: action.to_owned(),
            body: Box::pin(AnswerBody {
                pieces: Box::pin(answer.bytes_stream()),
                host,
                action: action.to_owned(),
                stall: limits.stall,
                pace: Pace::new(limits.slowest),
                heard: Instant::now(),
                tick: Box::pin(tokio::time::sleep(INTERVAL)),
                cancel: cancel.clone(),
                unsent: is_refusal.then_some(progress),
            }),
        }
    }

    /// Returns a header's value, if it is there and text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads the body, which must not have more than `limit` bytes, within
    /// five minutes.
    pub(crate) async fn bytes(mut self, limit: u64) -> Result<Bytes> {
        let reading = read_up_to(&mut self.body, limit + 1);
        let bytes = match tokio::time::timeout(WHOLE_BODY_TIME, reading).await {
            Ok((bytes, None)) => bytes,
            Ok((_, Some(error))) => return Err(error),
            Err(_) => {
                let seconds = WHOLE_BODY_TIME.as_secs();
                return Err(connection_error(
                    &self.host,
                    &self.action,
                    HttpError::passing(format!("the answer took more than {seconds} s")),
                ));
            }
        };
        if bytes.len() as u64 > limit {
            return Err(ErrorKind::Answer {
                host: self.host,
                action: self.action,
                status: Some(self.status),
                problem: format!("the answer has more than {limit} bytes"),
            }
            .into());
        }
        Ok(bytes)
    }

    /// Reads what an error answer says, or the beginning of it.
    pub(crate) async fn error_body(&mut self) -> Bytes {
        let reading = read_up_to(&mut self.body, MAX_ERROR_BODY);
        match tokio::time::timeout(ERROR_BODY_TIME, reading).await {
            Ok((bytes, _)) => bytes,
            Err(_) => Bytes::new(),
        }
    }

    /// Returns the body. A connection that breaks or stands still is an error
    /// in it and is not repaired.
    pub(crate) fn stream(self) -> BodyStream {
        self.body
    }
}

/// Reads at most so many bytes; with an error, what came before it.
async fn read_up_to(body: &mut BodyStream, limit: u64) -> (Bytes, Option<Error>) {
    let mut bytes = BytesMut::new();
    while let Some(piece) = poll_fn(|task| body.as_mut().poll_next(task)).await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return (bytes.freeze(), Some(error)),
        };
        let left = limit.saturating_sub(bytes.len() as u64);
        let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        bytes.extend_from_slice(&piece[..taken]);
        if bytes.len() as u64 == limit {
            break;
        }
    }
    (bytes.freeze(), None)
}

/// Makes the error of a connection that failed.
pub(crate) fn connection_error(host: &str, action: &str, source: HttpError) -> Error {
    ErrorKind::Connection {
        host: host.to_owned(),
        action: action.to_owned(),
        source: source.into(),
    }
    .into()
}

/// The body of an answer, watched.
struct AnswerBody {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    host: String,
    action: String,
    stall: Duration,
    pace: Pace,
    /// When the last piece came, or was asked for.
    heard: Instant,
    tick: Pin<Box<Sleep>>,
    cancel: CancelFlag,
    /// The body of a request that was refused, perhaps before its end. The rest
    /// is for nobody once the answer is read; before, the end of the one would
    /// be the end of the other.
    unsent: Option<Progress>,
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(progress) = &self.unsent {
            progress.stop();
        }
    }
}

impl Stream for AnswerBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(piece) = self.pieces.as_mut().poll_next(task) {
            self.heard = Instant::now();
            if let Some(Ok(piece)) = &piece {
                self.pace.came(piece.len());
            }
            return Poll::Ready(piece.map(|piece| {
                piece.map_err(|error| connection_error(&self.host, &self.action, explain(&error)))
            }));
        }
        while self.tick.as_mut().poll(task).is_ready() {
            // A reader that comes back late has not waited for the server.
            let now = tokio::time::Instant::now();
            let late = now - self.tick.deadline();
            self.heard = (self.heard + late).min(Instant::now());
            self.tick.as_mut().reset(now + INTERVAL);
            if let Err(error) = self.cancel.check() {
                return Poll::Ready(Some(Err(error)));
            }
            let too_slow = self.pace.waited(INTERVAL).map(HttpError::slow);
            let is_still = self.heard.elapsed() > self.stall;
            let still = is_still.then(|| {
                let problem = format!("no byte came for {} s", self.stall.as_secs());
                HttpError::passing(problem)
            });
            if let Some(error) = still.or(too_slow) {
                return Poll::Ready(Some(Err(connection_error(&self.host, &self.action, error))));
            }
        }
        Poll::Pending
    }
}
