//! A request's body on its way, watched so that a connection that stands still
//! is noticed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;

use super::BodyStream;
use crate::error::{Error, ErrorKind, Result};

/// Bytes given to the network at once: small enough that a slow network takes
/// one now and then.
const PIECE: usize = 64 * 1024;

/// How far a body is. Shared by the body and those who watch it.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<State>>);

struct State {
    phase: Phase,
    /// When the phase began or the network last took something.
    since: Instant,
    /// Why the body ended early.
    failed: Option<Error>,
    /// Set when nobody wants the rest.
    stopped: bool,
    waker: Option<std::task::Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The network has to take what there is.
    Giving,
    /// There is nothing yet to give.
    Making,
    /// All was given; the server has to answer.
    Given,
}

impl Progress {
    /// Begins with a body that is given already.
    pub(crate) fn given() -> Self {
        Self::new(Phase::Given)
    }

    fn new(phase: Phase) -> Self {
        Self(Arc::new(Mutex::new(State {
            phase,
            since: Instant::now(),
            failed: None,
            stopped: false,
            waker: None,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is wrong if the network or the server is too slow.
    pub(crate) fn overdue(&self, stall: Duration, answer: Duration) -> Option<String> {
        let state = self.state();
        let waited = state.since.elapsed();
        match state.phase {
            Phase::Giving if waited > stall => {
                Some(format!("no byte was taken for {} s", stall.as_secs()))
            }
            Phase::Given if waited > answer => {
                Some(format!("no answer within {} s", answer.as_secs()))
            }
            _ => None,
        }
    }

    /// Returns the error that the body ended with, once.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.state().failed.take()
    }

    /// Ends the body with an error, so that the connection is closed and not
    /// fed any longer.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn set(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        state.since = Instant::now();
    }
}

/// Watches a body. `length` is what it must have, if that is known; `what`
/// names it for errors.
pub(crate) fn watched(body: BodyStream, length: Option<u64>, what: String) -> (Watched, Progress) {
    let progress = Progress::new(Phase::Giving);
    let watched = Watched {
        body: Some(body),
        rest: Bytes::new(),
        given: 0,
        length,
        what,
        progress: progress.clone(),
    };
    (watched, progress)
}

/// A body that tells how far it is.
pub(crate) struct Watched {
    /// Until its end.
    body: Option<BodyStream>,
    /// Of the last piece.
    rest: Bytes,
    given: u64,
    length: Option<u64>,
    what: String,
    progress: Progress,
}

/// A body ended early; why is in its [`Progress`].
#[derive(Debug, thiserror::Error)]
#[error("the body of the request ended early")]
pub(crate) struct EndedEarly;

impl Stream for Watched {
    type Item = Result<Bytes, EndedEarly>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        {
            let mut state = self.progress.state();
            if state.stopped && state.phase != Phase::Given {
                return Poll::Ready(Some(Err(EndedEarly)));
            }
            state.waker = Some(task.waker().clone());
        }
        if self.rest.is_empty() {
            self.progress.set(Phase::Making);
            match std::task::ready!(self.poll_piece(task)) {
                Ok(Some(piece)) => self.rest = piece,
                Ok(None) => {
                    self.progress.set(Phase::Given);
                    return Poll::Ready(None);
                }
                Err(error) => {
                    self.body = None;
                    self.progress.state().failed = Some(error);
                    return Poll::Ready(Some(Err(EndedEarly)));
                }
            }
        }
        let size = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(size);
        self.given += size as u64;
        // With a known length nobody asks again after the last byte.
        let is_last = self.length == Some(self.given);
        let phase = if is_last { Phase::Given } else { Phase::Giving };
        self.progress.set(phase);
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Watched {
    /// Returns the next piece that is not empty.
    fn poll_piece(&mut self, task: &mut Task<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(None));
            };
            let piece = std::task::ready!(body.as_mut().poll_next(task)).transpose()?;
            let left = self.length.map(|length| length - self.given);
            let found = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            let is_wrong = match (&piece, left) {
                (_, None) => false,
                (Some(_), Some(left)) => found > left,
                (None, Some(left)) => left > 0,
            };
            if is_wrong {
                return Poll::Ready(Err(ErrorKind::SizeMismatch {
                    what: self.what.clone(),
                    expected: self.length.unwrap_or_default(),
                    found: self.given + found,
                }
                .into()));
            }
            match piece {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => return Poll::Ready(Ok(Some(piece))),
                None => {
                    self.body = None;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}
