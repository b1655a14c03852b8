//! How many requests run at once.
//!
//! A server says by 429 and 503 that it is asked too much, and nowhere how
//! much it takes; so the number is found as TCP finds its window: it is halved
//! when the server complains, and grows by one after a while without
//! complaints.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many requests in a row must succeed before one more runs at once.
const SUCCESSES: u32 = 20;

/// Complaints that come within this time are one: they answer requests that
/// ran at once.
const SAME_COMPLAINT: Duration = Duration::from_secs(1);

/// The right to talk to a server. While it is held, it is one of a limited
/// number.
#[derive(Debug)]
pub(crate) struct Permit {
    held: Option<OwnedSemaphorePermit>,
    gate: Arc<Mutex<Gate>>,
}

/// Gives permits.
#[derive(Debug)]
pub(crate) struct Throttle {
    permits: Arc<Semaphore>,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Debug)]
struct Gate {
    /// How many permits there are to be.
    limit: usize,
    most: usize,
    /// Permits that are still held and will not be given again.
    owed: usize,
    successes: u32,
    complained: Option<Instant>,
    /// Nothing is sent before this time.
    closed_until: Option<Instant>,
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    // Nothing panics while it holds the lock.
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Throttle {
    /// Begins with the most that there may be.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            gate: Arc::new(Mutex::new(Gate {
                limit: most,
                most,
                owed: 0,
                successes: 0,
                complained: None,
                closed_until: None,
            })),
        }
    }

    /// Waits for a permit; who comes first is served first.
    pub(crate) async fn permit(&self) -> Permit {
        let held = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        Permit {
            held: Some(held),
            gate: Arc::clone(&self.gate),
        }
    }

    /// Waits until requests may be sent.
    pub(crate) async fn open(&self) {
        loop {
            let until = lock(&self.gate).closed_until;
            match until {
                Some(until) if until > Instant::now() => {
                    tokio::time::sleep_until(until.into()).await;
                }
                _ => return,
            }
        }
    }

    /// Returns how long nothing will be sent.
    pub(crate) fn closed_for(&self) -> Duration {
        let until = lock(&self.gate).closed_until;
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Sends nothing for a while: no request of this server, whoever makes
    /// it.
    pub(crate) fn close_for(&self, wait: Duration) {
        let mut gate = lock(&self.gate);
        let until = Instant::now() + wait;
        gate.closed_until = gate.closed_until.max(Some(until));
    }

    /// Hears that a request was answered.
    pub(crate) fn succeeded(&self) {
        let mut gate = lock(&self.gate);
        gate.successes += 1;
        if gate.successes < SUCCESSES {
            return;
        }
        gate.successes = 0;
        if gate.limit < gate.most {
            gate.limit += 1;
            if gate.owed > 0 {
                gate.owed -= 1;
            } else {
                self.permits.add_permits(1);
            }
        }
    }

    /// Hears that the server was asked too much.
    pub(crate) fn complained(&self) {
        let mut gate = lock(&self.gate);
        gate.successes = 0;
        if gate
            .complained
            .is_some_and(|at| at.elapsed() < SAME_COMPLAINT)
        {
            return;
        }
        gate.complained = Some(Instant::now());
        let fewer = gate.limit - (gate.limit / 2).max(1);
        gate.limit -= fewer;
        gate.owed += fewer - self.permits.forget_permits(fewer);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut gate = lock(&self.gate);
        if gate.owed > 0
            && let Some(held) = self.held.take()
        {
            gate.owed -= 1;
            held.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_permit(throttle: &Throttle) -> Option<Permit> {
        let held = Arc::clone(&throttle.permits).try_acquire_owned().ok()?;
        Some(Permit {
            held: Some(held),
            gate: Arc::clone(&throttle.gate),
        })
    }

    fn take_all(throttle: &Throttle) -> Vec<Permit> {
        std::iter::from_fn(|| try_permit(throttle)).collect()
    }

    fn forget_complaint(throttle: &Throttle) {
        lock(&throttle.gate).complained = None;
    }

    #[test]
    fn complaints_halve_and_successes_add() {
        let throttle = Throttle::new(8);
        assert_eq!(take_all(&throttle).len(), 8);
        for left in [4, 2, 1, 1] {
            throttle.complained();
            forget_complaint(&throttle);
            assert_eq!(take_all(&throttle).len(), left);
        }
        for _ in 0..SUCCESSES {
            throttle.succeeded();
        }
        assert_eq!(take_all(&throttle).len(), 2);
        for _ in 0..SUCCESSES * 20 {
            throttle.succeeded();
        }
        assert_eq!(take_all(&throttle).len(), 8);
    }

    #[test]
    fn complaints_at_once_are_one() {
        let throttle = Throttle::new(8);
        for _ in 0..8 {
            throttle.complained();
        }
        assert_eq!(take_all(&throttle).len(), 4);
    }

    #[test]
    fn permits_that_are_held_are_taken_back_when_they_end() {
        let throttle = Throttle::new(8);
        let mut held = take_all(&throttle);
        throttle.complained();
        assert_eq!(held.len(), 8);
        held.truncate(4);
        assert!(try_permit(&throttle).is_none());
        held.truncate(3);
        assert_eq!(take_all(&throttle).len(), 1);
        drop(held);
        assert_eq!(take_all(&throttle).len(), 4);
    }

    #[test]
    fn a_success_pays_a_debt_first() {
        let throttle = Throttle::new(4);
        let held = take_all(&throttle);
        throttle.complained();
        for _ in 0..SUCCESSES {
            throttle.succeeded();
        }
        assert!(try_permit(&throttle).is_none());
        drop(held);
        assert_eq!(take_all(&throttle).len(), 3);
    }
}
