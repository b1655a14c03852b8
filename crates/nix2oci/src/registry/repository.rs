//! A repository: blobs, and what all of its requests have in common.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::client::Shared;
use super::request::{Request, Scope, Target};
use super::transport::Transport;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{BodyStream, Permit, Response};
use crate::oci::{Descriptor, descriptor_digest};

/// A repository of a registry: every request there is. Clones are cheap.
///
/// Every method asks again after a failure that may pass, as often as
/// [`RegistryOptions::retries`](super::RegistryOptions::retries) says, and
/// stops within 100 ms when the context is cancelled.
#[derive(Clone)]
pub struct Repository {
    pub(super) registry: Arc<Shared>,
    name: String,
    /// Whether the token is to allow writing from the first request on.
    is_for_push: bool,
}

impl Repository {
    pub(super) fn new(registry: Arc<Shared>, name: &str) -> Self {
        Self {
            registry,
            name: name.to_owned(),
            is_for_push: false,
        }
    }

    /// Returns the same repository for somebody who is going to write to it:
    /// reading, too, asks for a token to read and write, so that one serves
    /// for both.
    #[must_use]
    pub fn for_push(&self) -> Self {
        Self {
            is_for_push: true,
            ..self.clone()
        }
    }

    /// Returns the registry's host as it was given.
    pub fn host(&self) -> &str {
        self.transport().host()
    }

    /// Returns the name: `library/app`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the size of a blob, or `None` if the registry is not known to
    /// have it: it says so, it names another digest, or it tells no size. One
    /// request.
    pub async fn blob_size(&self, digest: Digest) -> Result<Option<u64>> {
        let head = self.ask_for_blob(Method::HEAD, digest)?;
        let response = match self.transport().send(head, None).await {
            // An answer to HEAD has no words; the one to GET says why.
            Err(refused) if is_denied(&refused) => {
                let get = self.ask_for_blob(Method::GET, digest)?;
                self.transport().send(get, None).await?
            }
            answer => answer?,
        };
        Ok(said_size(&response, digest))
    }

    pub(super) fn ask_for_blob(&self, method: Method, digest: Digest) -> Result<Request> {
        let action = self.action(format_args!("say whether it has blob {digest}"));
        let mut request = self.request(method, &format!("blobs/{digest}"), action)?;
        request.accept = &[200, 404];
        Ok(request)
    }

    /// Reads a small blob and checks it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DigestMismatch`] and [`ErrorKind::SizeMismatch`] if it is
    /// not what the descriptor says; [`ErrorKind::Answer`] if it has more than
    /// `limit` bytes or is not there.
    pub async fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        let digest = sha256_of(descriptor)?;
        let what = format!("blob {digest} of {}", self.place());
        if descriptor.size() > limit {
            let problem = format!(
                "it has {} bytes, expected at most {limit}",
                descriptor.size()
            );
            return Err(self.answered(self.giving(digest), None, problem));
        }
        // One byte more shows that it is longer than it should be.
        let limit = descriptor.size() + 1;
        let read = self.read(|| self.get_blob(digest), limit).await?;
        check_size(&what, descriptor.size(), read.bytes.len() as u64)?;
        check_digest(&what, digest, Digest::of(&read.bytes))?;
        Ok(read.bytes.into())
    }

    /// Opens a blob to be read once. Its stream ends with an error if it is
    /// not what the descriptor says; nothing is repeated once it has begun.
    pub(crate) async fn open_blob(&self, descriptor: &Descriptor) -> Result<BodyStream> {
        let digest = sha256_of(descriptor)?;
        let response = self.transport().send(self.get_blob(digest)?, None).await?;
        Ok(Box::pin(Verified {
            what: format!("blob {digest} of {}", self.place()),
            body: response.stream(),
            digest,
            size: descriptor.size(),
            passed: 0,
            hasher: Some(Hasher::new()),
        }))
    }

    fn get_blob(&self, digest: Digest) -> Result<Request> {
        self.request(Method::GET, &format!("blobs/{digest}"), self.giving(digest))
    }

    fn giving(&self, digest: Digest) -> String {
        self.action(format_args!("give blob {digest}"))
    }

    /// Waits for the right to send requests, to be held over all requests of
    /// one blob.
    pub(crate) async fn permit(&self) -> Permit {
        self.transport().permit().await
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.registry.transport
    }

    /// Returns the repository's name for errors: `example.org/app`.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.host(), self.name)
    }

    /// Returns what a request asks for, for errors.
    pub(super) fn action(&self, what: fmt::Arguments<'_>) -> String {
        format!("{what} of repository {}", self.name)
    }

    /// Makes a request to a path below the repository's: `blobs/uploads/`.
    pub(super) fn request(&self, method: Method, path: &str, action: String) -> Result<Request> {
        check_name(&self.name)?;
        Ok(Request::new(
            method,
            Target::Api(format!("/v2/{}/{path}", self.name)),
            self.scope(self.is_for_push),
            action,
        ))
    }

    /// Makes a request that writes.
    pub(super) fn write_request(
        &self,
        method: Method,
        path: &str,
        action: String,
    ) -> Result<Request> {
        let mut request = self.request(method, path, action)?;
        request.scope = self.scope(true);
        Ok(request)
    }

    pub(super) fn scope(&self, push: bool) -> Scope {
        Scope {
            repository: self.name.clone(),
            push,
            mount_from: None,
        }
    }

    /// Makes the error of an answer that makes no sense.
    pub(super) fn answered(
        &self,
        action: String,
        status: Option<u16>,
        problem: impl Into<String>,
    ) -> Error {
        ErrorKind::Answer {
            host: self.host().to_owned(),
            action,
            status,
            problem: problem.into(),
        }
        .into()
    }

    /// Sends a request and reads the whole answer, again if that breaks.
    pub(super) async fn read(
        &self,
        request: impl Fn() -> Result<Request>,
        limit: u64,
    ) -> Result<Read> {
        let mut attempt = 0;
        loop {
            let response = self.transport().send(request()?, None).await?;
            match Read::all(response, limit).await {
                Err(error) if is_broken(&error) && attempt < self.transport().retries() => {
                    attempt += 1;
                    self.transport()
                        .pause_before_retry(&error, attempt, None)
                        .await;
                }
                result => return result,
            }
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Repository").field(&self.place()).finish()
    }
}

/// An answer that was read to its end.
pub(super) struct Read {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) bytes: Bytes,
}

impl Read {
    pub(super) async fn all(response: Response, limit: u64) -> Result<Self> {
        Ok(Self {
            status: response.status,
            headers: response.headers.clone(),
            url: response.url.clone(),
            bytes: response.bytes(limit).await?,
        })
    }

    /// Returns a header's value, if it is there and text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Returns the size of a blob by the answer to one who asks for it.
pub(super) fn said_size(response: &Response, digest: Digest) -> Option<u64> {
    let says_other = response
        .header("docker-content-digest")
        .and_then(|said| said.trim().parse::<Digest>().ok())
        .is_some_and(|said| said != digest);
    if response.status == 404 || says_other {
        return None;
    }
    response.header("content-length")?.trim().parse().ok()
}

/// A body that must be what a descriptor says.
struct Verified {
    what: String,
    body: BodyStream,
    digest: Digest,
    size: u64,
    passed: u64,
    /// Until the end.
    hasher: Option<Hasher>,
}

impl Stream for Verified {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if self.hasher.is_none() {
            return Poll::Ready(None);
        }
        let piece = ready!(self.body.as_mut().poll_next(task));
        let Some(mut hasher) = self.hasher.take() else {
            return Poll::Ready(None);
        };
        match piece {
            Some(Ok(piece)) => {
                self.passed += piece.len() as u64;
                if self.passed > self.size {
                    let wrong = check_size(&self.what, self.size, self.passed);
                    return Poll::Ready(wrong.err().map(Err));
                }
                hasher.update(&piece);
                self.hasher = Some(hasher);
                Poll::Ready(Some(Ok(piece)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                let checked = check_size(&self.what, self.size, self.passed)
                    .and_then(|()| check_digest(&self.what, self.digest, hasher.finish()));
                Poll::Ready(checked.err().map(Err))
            }
        }
    }
}

/// Returns the digest that a descriptor names.
pub(super) fn sha256_of(descriptor: &Descriptor) -> Result<Digest> {
    descriptor_digest(descriptor).ok_or_else(|| {
        Error::invalid(
            format!("digest {}", descriptor.digest()),
            "it is none of SHA-256, which is the only one that is spoken here",
        )
    })
}

pub(super) fn check_digest(what: &str, expected: Digest, found: Digest) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(ErrorKind::DigestMismatch {
        what: what.to_owned(),
        expected,
        found,
    }
    .into())
}

pub(super) fn check_size(what: &str, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(ErrorKind::SizeMismatch {
        what: what.to_owned(),
        expected,
        found,
    }
    .into())
}

/// Fails unless a name can stand in an address as it is. Which names a registry
/// takes beyond that is its own matter.
pub(super) fn check_name(name: &str) -> Result<()> {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if name.split('/').all(is_part) {
        return Ok(());
    }
    Err(Error::invalid(
        format!("repository {name:?}"),
        "expected names of letters, digits, '.', '_' and '-', with '/' between them",
    ))
}

/// Returns whether somebody was refused.
pub(super) fn is_denied(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied { .. })
}

/// Returns whether a connection failed or broke.
pub(super) fn is_broken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Connection { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for name in ["app", "library/app", "a/b__c/d--e.f", "App"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "", "/app", "app/", "a//b", "..", "a/../b", ".", "a?b", "a b", "a%2fb", "ä",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
