//! What a registry answers.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::error::{ErrorKind, Result};
use crate::net::BodyStream;

/// An answer that the request accepts. Its body may still be on its way.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The address that answered in the end, to resolve `Location` against.
    /// Its query may be a secret.
    pub(crate) url: Url,
    /// The registry, as the user wrote it.
    pub(super) host: String,
    /// The request's.
    pub(super) action: String,
    pub(super) body: BodyStream,
}

impl Response {
    /// Returns a header's value, if it is there and text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads the body, which must not have more than `limit` bytes.
    pub(crate) async fn bytes(self, limit: u64) -> Result<Bytes> {
        let mut stream = self.body;
        let mut bytes = BytesMut::new();
        while let Some(piece) = poll_fn(|task| stream.as_mut().poll_next(task)).await {
            let piece = piece?;
            if bytes.len() as u64 + piece.len() as u64 > limit {
                return Err(ErrorKind::Answer {
                    host: self.host,
                    action: self.action,
                    status: Some(self.status),
                    problem: format!("the answer has more than {limit} bytes"),
                }
                .into());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Returns the body. A broken connection and one that stands still are
    /// errors in it; they are not repaired.
    pub(crate) fn stream(self) -> BodyStream {
        self.body
    }
}
