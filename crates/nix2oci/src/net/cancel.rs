//! Waiting that a cancel flag ends.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

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
    cancel.check()?;
    let mut future = pin!(future);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::error::Error;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_result_comes_through() {
        let flag = CancelFlag::default();
        assert_eq!(run(until_cancelled(&flag, async { Ok(1) })).unwrap(), 1);
        let failed = async { Err::<(), _>(Error::invalid("x", "y")) };
        let error = run(until_cancelled(&flag, failed)).unwrap_err();
        assert_eq!(error.to_string(), "x: y");
    }

    #[test]
    fn a_flag_that_is_set_before_runs_nothing() {
        let flag = CancelFlag::default();
        flag.cancel();
        let never = async { panic!("it was run") };
        let error = run(until_cancelled::<()>(&flag, never)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled));
    }

    #[test]
    fn a_flag_that_is_set_by_a_thread_ends_the_wait() {
        let flag = CancelFlag::default();
        let setter = flag.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            setter.cancel();
            Instant::now()
        });
        run(until_cancelled(&flag, std::future::pending::<Result<()>>())).unwrap_err();
        let late = thread.join().unwrap().elapsed();
        // A machine that does much else may be late itself.
        assert!(late < Duration::from_secs(5), "{late:?}");
    }
}
