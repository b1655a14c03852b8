//! Repetition of what failed, with one server's patience in mind.

use std::error::Error as _;
use std::time::{Duration, Instant};

use super::refusal::Failure;
use super::retry::{backoff, gave_up, may_pass};
use super::throttle::{Permit, Throttle};
use super::until_cancelled;
use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};

/// How often one server is asked again, and how much at once.
#[derive(Debug)]
pub(crate) struct Patience {
    retries: u32,
    throttle: Throttle,
    /// How long the waits that the server asks for may be in sum, for one
    /// request.
    waits: Duration,
}

impl Patience {
    /// Begins with as many requests at once as there may be.
    pub(crate) fn new(retries: u32, jobs: usize, waits: Duration) -> Self {
        Self {
            retries,
            throttle: Throttle::new(jobs),
            waits,
        }
    }

    /// Returns how often a request is repeated at most.
    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    /// Waits for the right to send requests.
    pub(crate) async fn permit(&self) -> Permit {
        self.throttle.permit().await
    }

    /// Hears that a request was answered.
    pub(crate) fn succeeded(&self) {
        self.throttle.succeeded();
    }

    /// Tells the observer that something is repeated, as repetition `attempt`
    /// counted from 1, and waits: as long as `told`, else longer each time; in
    /// any case until requests may be sent again. Returns early if the call is
    /// cancelled.
    pub(crate) async fn pause_before_retry(
        &self,
        cx: &Context,
        error: &Error,
        attempt: u32,
        told: Option<Duration>,
    ) {
        let wait = told.unwrap_or_else(|| backoff(attempt));
        let wait = wait.max(self.throttle.closed_for());
        let message = match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        cx.observer.event(&Event::Retry {
            message: &message,
            wait,
            attempt,
            attempts: self.retries,
        });
        // Who comes back cancelled finds out at the next request.
        let _ = until_cancelled(&cx.cancel, async {
            tokio::time::sleep(wait).await;
            Ok(())
        })
        .await;
    }

    /// Begins to try something.
    pub(crate) fn tries(&self) -> Tries<'_> {
        Tries {
            patience: self,
            count: 0,
            waited: Duration::ZERO,
        }
    }
}

/// How often something was tried.
pub(crate) struct Tries<'a> {
    patience: &'a Patience,
    /// Since there was progress.
    count: u32,
    /// How long the server had us wait.
    waited: Duration,
}

impl Tries<'_> {
    /// Waits until it may be tried.
    pub(crate) async fn begin(&mut self) {
        let begin = Instant::now();
        self.patience.throttle.open().await;
        self.waited += begin.elapsed();
        self.count += 1;
    }

    /// Forgets the tries before the last one: there was progress.
    #[cfg(feature = "binary-cache")]
    pub(crate) fn progressed(&mut self) {
        self.count = 1;
    }

    /// Takes a failure. Returns after a wait if it is worth to try again, else
    /// fails with it. `is_repeatable` says whether it can be tried at all.
    pub(crate) async fn failed(
        &mut self,
        cx: &Context,
        failure: Failure,
        is_repeatable: bool,
    ) -> Result<()> {
        let throttle = &self.patience.throttle;
        if matches!(failure.status, Some(429 | 503)) {
            throttle.complained();
            if let Some(told) = failure.told {
                throttle.close_for(told);
            }
        }
        let is_repeated =
            is_repeatable && self.count <= self.patience.retries && may_pass(&failure.error);
        if !is_repeated {
            return Err(gave_up(failure.error, self.count));
        }
        let asked = failure.told.unwrap_or_default().max(throttle.closed_for());
        if self.waited + asked > self.patience.waits {
            return Err(too_patient(failure.error, self.patience.waits, self.count));
        }
        let begin = Instant::now();
        self.patience
            .pause_before_retry(cx, &failure.error, self.count, failure.told)
            .await;
        self.waited += begin.elapsed().min(asked);
        Ok(())
    }
}

/// Says in an error that the server asks to wait again and again.
fn too_patient(error: Error, waits: Duration, tries: u32) -> Error {
    let waits = waits.as_secs();
    match error.into_kind() {
        ErrorKind::Answer {
            host,
            action,
            problem,
            ..
        } => ErrorKind::Answer {
            host,
            action,
            // It is not to be repeated as others of this status are.
            status: None,
            problem: format!(
                "it asks to wait again and again, longer than {waits} s in sum: {problem} (tried {tries} times)"
            ),
        }
        .into(),
        kind => gave_up(kind.into(), tries),
    }
}
