//! What a request carries.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use futures_core::Stream;
use reqwest::Method;
use reqwest::header::CONTENT_LENGTH;

use super::{BodyStream, Progress, watched};
use crate::error::Result;

/// Bodies up to this size go over the connection that small requests share.
const SMALL_BODY: usize = 64 * 1024;

/// What a request carries.
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    /// Made anew whenever the request is sent; the number of bytes.
    Replay(Arc<dyn Fn() -> Result<BodyStream> + Send + Sync>, u64),
    /// Sent once; the number of bytes, if it is known. The lock is there to
    /// share the request between threads, and never taken.
    Stream(Mutex<BodyStream>, Option<u64>),
}

impl Body {
    /// Makes a body that can be sent once, of so many bytes if that is known.
    pub(crate) fn stream(stream: BodyStream, length: Option<u64>) -> Self {
        Self::Stream(Mutex::new(stream), length)
    }
}

/// A request's body, as often as it may be sent.
pub(crate) struct Outgoing {
    body: Body,
    is_spent: bool,
}

impl Outgoing {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            is_spent: false,
        }
    }

    /// Returns whether it can be sent again, or at all.
    pub(crate) fn can_be_sent(&self) -> bool {
        !self.is_spent
    }

    pub(super) fn is_large(&self) -> bool {
        match &self.body {
            Body::Empty => false,
            Body::Bytes(bytes) => bytes.len() > SMALL_BODY,
            Body::Replay(..) | Body::Stream(..) => true,
        }
    }

    /// Gives the body to a request.
    pub(super) fn fill(
        &mut self,
        request: &mut reqwest::Request,
        action: &str,
    ) -> Result<Progress> {
        let (stream, length): (BodyStream, _) = match &mut self.body {
            Body::Empty => {
                // Without it a server may wait for a body.
                if matches!(
                    *request.method(),
                    Method::POST | Method::PUT | Method::PATCH
                ) {
                    request.headers_mut().insert(CONTENT_LENGTH, 0.into());
                }
                return Ok(Progress::given());
            }
            Body::Bytes(bytes) if bytes.len() <= SMALL_BODY => {
                *request.body_mut() = Some(bytes.clone().into());
                return Ok(Progress::given());
            }
            Body::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (Box::pin(Whole(Some(bytes.clone()))), Some(length))
            }
            Body::Replay(open, length) => (open()?, Some(*length)),
            Body::Stream(stream, length) => {
                self.is_spent = true;
                let nothing: BodyStream = Box::pin(Whole(None));
                let stream = stream.get_mut().unwrap_or_else(PoisonError::into_inner);
                (std::mem::replace(stream, nothing), *length)
            }
        };
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let (stream, progress) = watched(stream, length, format!("the body of {action}"));
        *request.body_mut() = Some(reqwest::Body::wrap_stream(stream));
        Ok(progress)
    }
}

/// Bytes as a body.
struct Whole(Option<Bytes>);

impl Stream for Whole {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}
