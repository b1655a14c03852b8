//! Waiting that a cancel flag ends.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::context::CancelFlag;
use crate::error::{ErrorKind, Result};

/// How often the flag is looked at. Setting it wakes nobody, because a signal
/// handler must be able to set it.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits for a future; drops it and fails with [`ErrorKind::Cancelled`] within
/// 100 ms after the flag is set.
pub(crate) async fn until_cancelled<T>(
    cancel: &CancelFlag,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut future = pin!(future);
    let mut ticks = tokio::time::interval(INTERVAL);
    std::future::poll_fn(|task| {
        while ticks.poll_tick(task).is_ready() {
            if cancel.is_cancelled() {
                return Poll::Ready(Err(ErrorKind::Cancelled.into()));
            }
        }
        future.as_mut().poll(task)
    })
    .await
}
