//! What goes wrong when.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http_server::{Answer, Request, lock};
use crate::request_log::fits;

use super::auth::Tokens;

/// Something that goes wrong: with which requests, when in them, and what.
///
/// `Fault::on("PUT", "/blobs/uploads/").nth(2).after_bytes(1000).reset()` resets
/// the connection of the second such request that sends more than 1000 bytes,
/// after these have been stored. Without a word on when, it takes effect at
/// every request that fits, before anything of the body was read.
#[derive(Clone)]
pub struct Fault {
    method: String,
    target: String,
    occurrences: std::ops::RangeInclusive<u64>,
    moment: Moment,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Start,
    /// After so many bytes of the body, or `u64::MAX`: after all.
    Bytes(u64),
}

#[derive(Clone)]
enum Action {
    /// Says this instead.
    Answer(Arc<dyn Fn() -> Answer + Send + Sync>),
    /// Waits and goes on.
    Stall(Duration),
    /// Makes all tokens invalid; in a body, also refuses the request for that.
    Revoke,
    /// Changes what is said, in the end: the moment does not matter.
    Change(Arc<dyn Fn(Answer) -> Answer + Send + Sync>),
}

impl Fault {
    /// A fault of requests with this method (or `*`) and this text in path or
    /// query, which changes nothing yet.
    pub fn on(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            occurrences: 1..=u64::MAX,
            moment: Moment::Start,
            action: Action::Stall(Duration::ZERO),
        }
    }

    /// Only at the `n`th time, from 1.
    pub fn nth(mut self, n: u64) -> Self {
        self.occurrences = n..=n;
        self
    }

    /// Only at the first `n` times.
    pub fn first(mut self, n: u64) -> Self {
        self.occurrences = 1..=n;
        self
    }

    /// After `bytes` bytes of the body have been stored. Requests with fewer
    /// don't count.
    pub fn after_bytes(mut self, bytes: u64) -> Self {
        self.moment = Moment::Bytes(bytes);
        self
    }

    /// After the whole body, before the registry does anything with it but
    /// append it to the upload.
    pub fn after_body(self) -> Self {
        self.after_bytes(u64::MAX)
    }

    /// Answers with this instead.
    pub fn answer(mut self, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        self.action = Action::Answer(Arc::new(answer));
        self
    }

    /// Answers with this status, these header fields, and no body.
    pub fn status(self, status: u16, headers: &[(&'static str, &str)]) -> Self {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        self.answer(move || {
            let answer = Answer::new(status);
            headers
                .iter()
                .fold(answer, |answer, (name, value)| answer.header(name, value))
        })
    }

    /// Leads elsewhere.
    pub fn redirect(self, status: u16, url: &str) -> Self {
        self.status(status, &[("Location", url)])
    }

    /// Resets the connection.
    pub fn reset(self) -> Self {
        self.answer(Answer::reset)
    }

    /// Closes the connection without an answer.
    pub fn hang_up(self) -> Self {
        self.answer(Answer::none)
    }

    /// Does nothing for so long, then goes on.
    pub fn stall(mut self, duration: Duration) -> Self {
        self.action = Action::Stall(duration);
        self
    }

    /// Makes all tokens invalid that were given out, and refuses the request as
    /// one without a valid token.
    pub fn revoke_tokens(mut self) -> Self {
        self.action = Action::Revoke;
        self
    }

    /// Changes the answer that the registry gives, or breaks it, when the registry
    /// has done what it was asked for.
    pub fn change(mut self, change: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> Self {
        self.action = Action::Change(Arc::new(change));
        self
    }

    /// Does what was asked for and resets the connection instead of saying so.
    pub fn lose_answer(self) -> Self {
        self.change(|_| Answer::reset())
    }

    /// Closes the connection after so many bytes of the answer's body.
    pub fn cut(self, bytes: u64) -> Self {
        self.change(move |answer| answer.cut_after(bytes))
    }

    fn fits(&self, request: &Request<'_>) -> bool {
        fits(
            &self.method,
            &self.target,
            &request.method,
            &request.target(),
        )
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("occurrences", &self.occurrences)
            .field("moment", &self.moment)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Arc<Armed>>>);

/// A fault and how often it could have taken effect.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: AtomicU64,
}

impl Armed {
    /// Whether it waits for the answer.
    fn is_late(&self) -> bool {
        matches!(self.fault.action, Action::Change(_))
    }

    /// Counts a time and returns whether the fault takes effect.
    fn strikes(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        self.fault.occurrences.contains(&seen)
    }
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        lock(&self.0).push(Arc::new(Armed {
            fault,
            seen: AtomicU64::new(0),
        }));
    }

    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    fn fitting(&self, request: &Request<'_>) -> Vec<Arc<Armed>> {
        let all = lock(&self.0);
        let fitting = all.iter().filter(|armed| armed.fault.fits(request));
        fitting.cloned().collect()
    }
}

/// A request on which faults wait; its body is read from it.
pub(crate) struct Incoming<'a, 'r> {
    pub(crate) request: &'a mut Request<'r>,
    faults: Vec<Arc<Armed>>,
    /// None if the server has no tokens.
    tokens: Option<&'a Mutex<Tokens>>,
    /// Why a fault ended the body.
    end: Option<End>,
}

/// What a fault says in the middle of a body.
pub(super) enum End {
    Answer(Answer),
    /// What the registry says without a valid token.
    Refusal,
}

impl<'a, 'r> Incoming<'a, 'r> {
    pub(crate) fn new(
        request: &'a mut Request<'r>,
        faults: &Faults,
        tokens: Option<&'a Mutex<Tokens>>,
    ) -> Self {
        let faults = faults.fitting(request);
        Self {
            request,
            faults,
            tokens,
            end: None,
        }
    }

    /// What a fault says before the request is looked at.
    pub(crate) fn early(&mut self) -> Option<Answer> {
        for armed in &self.faults {
            let is_now = armed.fault.moment == Moment::Start && !armed.is_late();
            if !is_now || !armed.strikes() {
                continue;
            }
            match &armed.fault.action {
                Action::Stall(duration) => self.request.wait(*duration),
                Action::Answer(answer) => return Some(answer()),
                Action::Revoke => self.revoke(),
                Action::Change(_) => {}
            }
        }
        None
    }

    fn revoke(&self) {
        if let Some(tokens) = self.tokens {
            lock(tokens).revoke();
        }
    }

    /// Takes what a fault said in the middle of the body.
    pub(super) fn take_end(&mut self) -> Option<End> {
        self.end.take()
    }

    /// What is said in the end.
    pub(crate) fn late(&self, mut answer: Answer) -> Answer {
        for armed in &self.faults {
            if let Action::Change(change) = &armed.fault.action
                && armed.strikes()
            {
                answer = change(answer);
            }
        }
        answer
    }

    /// Lets the faults strike that wait for this place in the body; returns
    /// where the next one waits.
    fn strike(&mut self, is_over: bool) -> io::Result<u64> {
        let received = self.request.received();
        let mut next = u64::MAX;
        let mut at = 0;
        while let Some(armed) = self.faults.get(at) {
            at += 1;
            let Moment::Bytes(bytes) = armed.fault.moment else {
                continue;
            };
            if armed.is_late() {
                continue;
            }
            let is_here = if bytes == u64::MAX {
                is_over
            } else {
                received >= bytes
            };
            if !is_here {
                next = next.min(bytes);
                continue;
            }
            at -= 1;
            let armed = self.faults.remove(at);
            if !armed.strikes() {
                continue;
            }
            match &armed.fault.action {
                Action::Stall(duration) => self.request.wait(*duration),
                Action::Answer(answer) => self.end = Some(End::Answer(answer())),
                Action::Revoke => {
                    self.revoke();
                    self.end = Some(End::Refusal);
                }
                Action::Change(_) => {}
            }
            if self.end.is_some() {
                return Err(io::Error::other("a fault"));
            }
        }
        Ok(next - received)
    }
}

impl Read for Incoming<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.strike(false)?;
        let most = usize::try_from(most).map_or(buffer.len(), |most| most.min(buffer.len()));
        let read = self.request.read(&mut buffer[..most])?;
        if read == 0 && !buffer.is_empty() {
            self.strike(true)?;
        }
        Ok(read)
    }
}
