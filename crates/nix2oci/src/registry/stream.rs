//! A blob that is sent while it is made.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use reqwest::Method;
use tokio::sync::{mpsc, oneshot};

use super::location::closing;
use super::repository::{Repository, check_size, sha256_of};
use super::upload::{CLOSED, Opened, Sent, SentFn, TAKEN, UploadSession, is_no_such_way, octets};
use super::way::{Trouble, trouble};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Body, Permit};
use crate::oci::Descriptor;

/// The bytes of a blob that is being made.
pub(crate) struct StreamedBody {
    /// The bytes, in order. Its bound is what is made ahead of the network.
    pub(crate) chunks: mpsc::Receiver<Bytes>,
    /// What they were, after the last. Dropped without a value, the request is
    /// broken off, so that the registry does not take the blob for complete.
    pub(crate) end: oneshot::Receiver<Descriptor>,
}

impl Repository {
    /// Returns whether the registry takes a blob before its digest is known,
    /// as far as anybody knows.
    pub(crate) fn takes_streams(&self) -> bool {
        self.takes_whole_blobs()
            && self.registry.quirks.streams
            && !self.registry.seen.refuses_streams()
    }

    /// Returns whether a blob may be one request, whatever its size.
    pub(crate) fn takes_whole_blobs(&self) -> bool {
        self.registry.chunk_size.is_none()
    }

    /// Takes a blob to the registry while it is made: in one `PUT` if it is
    /// known what it will be, else in one `PATCH` and the `PUT` that names it.
    ///
    /// It never waits for a permit, because those who make the bytes may hold
    /// up others until it takes them. Nothing is sent twice: after an error the
    /// blob has to come again, to [`put_blob`](Self::put_blob). Whatever
    /// happens, the receivers are dropped on return, so that nobody makes bytes
    /// for nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Cancelled`] if the bytes ended without their digest;
    /// [`ErrorKind::SizeMismatch`] if there were fewer than said, or more that
    /// the registry did not refuse first; else what the registry said.
    pub(crate) async fn put_stream(
        &self,
        known: Option<&Descriptor>,
        body: StreamedBody,
        permit: &Permit,
        sent: SentFn,
    ) -> Result<()> {
        let known = match known {
            Some(descriptor) => Some((sha256_of(descriptor)?, descriptor.size())),
            None => None,
        };
        let action = match known {
            Some((digest, _)) => self.taking(digest),
            None => self.action(format_args!("take a layer")),
        };
        let feed = Feed::new(body, known.map(|(_, size)| size), sent);
        let session = match self.open_session(permit, &action).await? {
            Opened::Session(session) => session,
            Opened::Exists if known.is_some() => return Ok(()),
            Opened::Exists => {
                let problem = "it calls a blob complete whose digest it does not know";
                return Err(self.answered(action, Some(201), problem));
            }
        };
        let result = match known {
            Some((digest, size)) => {
                self.put_known(&session, digest, size, &feed, permit, &action)
                    .await
            }
            None => self.patch(&session, &feed, permit, &action).await,
        };
        // Nobody makes bytes while the session is cleared up.
        drop(feed);
        let Err(error) = result else {
            return Ok(());
        };
        let trouble = trouble(&error);
        match (trouble, known) {
            (Trouble::TooLarge, Some((_, size))) => self.registry.seen.refused_size(size),
            // The next may be no smaller, and nobody knows before.
            (Trouble::TooLarge, None) => self.registry.seen.refused_stream(),
            (_, None) if is_no_such_way(&error) => self.registry.seen.refused_stream(),
            _ => {}
        }
        if trouble != Trouble::Broken {
            self.cancel_session(&session.url, permit).await;
        }
        Err(error)
    }

    async fn put_known(
        &self,
        session: &UploadSession,
        digest: Digest,
        size: u64,
        feed: &Feed,
        permit: &Permit,
        action: &str,
    ) -> Result<()> {
        let url = closing(&session.url, digest);
        let mut request = self.session_request(Method::PUT, url, action);
        request.headers = octets();
        request.accept = CLOSED;
        request.body = Body::stream(Box::pin(feed.body()), Some(size));
        match self.transport().send(request, Some(permit)).await {
            Ok(response) => self.check_closed(&response, digest),
            Err(error)
                if feed.passed() == size
                    && may_be_there(&error)
                    && self.has(digest, size, permit).await =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn patch(
        &self,
        session: &UploadSession,
        feed: &Feed,
        permit: &Permit,
        action: &str,
    ) -> Result<()> {
        let mut request = self.session_request(Method::PATCH, session.url.clone(), action);
        request.headers = octets();
        request.accept = TAKEN;
        request.body = Body::stream(Box::pin(feed.body()), None);
        let response = self.transport().send(request, Some(permit)).await?;
        let answered =
            |problem: &str| self.answered(action.to_owned(), Some(response.status), problem);
        let Some(made) = feed.made() else {
            return Err(answered("it took a layer before the layer's end"));
        };
        let url = self
            .next_url(&response, Some(&session.url))
            .map_err(answered)?;
        let (digest, size) = (sha256_of(&made)?, made.size());
        // From here on there is a name for it.
        let action = self.taking(digest);
        match self.close_session(&url, digest, permit, &action).await {
            Err(error) if may_be_there(&error) && self.has(digest, size, permit).await => Ok(()),
            result => result,
        }
    }
}

/// Returns whether the registry may have closed a session all the same.
fn may_be_there(error: &Error) -> bool {
    matches!(
        trouble(error),
        Trouble::Broken | Trouble::Failed | Trouble::Lost
    )
}

/// Feeds a request. Dropped, it takes the bytes' receivers with it, whoever
/// still holds the request's body.
struct Feed {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Until its end.
    body: Option<StreamedBody>,
    /// Bytes that there must be, if that is known.
    size: Option<u64>,
    passed: u64,
    sent: SentFn,
    made: Option<Descriptor>,
}

impl Feed {
    fn new(body: StreamedBody, size: Option<u64>, sent: SentFn) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                body: Some(body),
                size,
                passed: 0,
                sent,
                made: None,
            })),
        }
    }

    fn body(&self) -> Fed {
        Fed {
            state: Arc::clone(&self.state),
        }
    }

    /// Returns what the bytes were, once they are all sent.
    fn made(&self) -> Option<Descriptor> {
        lock(&self.state).made.take()
    }

    /// Returns how many bytes were given to the request.
    fn passed(&self) -> u64 {
        lock(&self.state).passed
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        lock(&self.state).body = None;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of a request that is fed.
struct Fed {
    state: Arc<Mutex<State>>,
}

impl Stream for Fed {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let Some(body) = &mut state.body else {
            // The end, or nobody waits for the answer any more.
            let broken = state.made.is_none();
            return Poll::Ready(broken.then(|| Err(ErrorKind::Cancelled.into())));
        };
        if let Some(piece) = ready!(body.chunks.poll_recv(task)) {
            let bytes = piece.len() as u64;
            state.passed += bytes;
            if let Some(size) = state.size.filter(|size| *size < state.passed) {
                state.body = None;
                return Poll::Ready(Some(Err(wrong_size(size, state.passed))));
            }
            (state.sent)(Sent::Bytes(bytes));
            return Poll::Ready(Some(Ok(piece)));
        }
        let made = ready!(Pin::new(&mut body.end).poll(task));
        state.body = None;
        let Ok(made) = made else {
            return Poll::Ready(Some(Err(ErrorKind::Cancelled.into())));
        };
        let expected = state.size.unwrap_or(made.size());
        if expected != state.passed {
            return Poll::Ready(Some(Err(wrong_size(expected, state.passed))));
        }
        state.made = Some(made);
        Poll::Ready(None)
    }
}

fn wrong_size(expected: u64, found: u64) -> Error {
    check_size("a blob as it is made", expected, found)
        .expect_err("it is called with sizes that differ")
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
