//! How many requests run at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to talk to a registry. Held, it is one of a limited number.
#[derive(Debug)]
pub(crate) struct Permit {
    _held: OwnedSemaphorePermit,
}

/// Gives permits.
#[derive(Debug)]
pub(super) struct Throttle {
    permits: Arc<Semaphore>,
}

impl Throttle {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(jobs)),
        }
    }

    pub(super) async fn permit(&self) -> Permit {
        let held = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        Permit { _held: held }
    }
}
