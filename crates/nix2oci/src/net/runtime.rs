//! The thread that all of the network runs on.

use std::future::Future;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::until_cancelled;
use crate::context::{CancelFlag, Context};
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::panicked;

/// One background thread that futures run on. Dropped, it drops them and ends.
///
/// One thread is enough: it moves bytes and encrypts them, and servers take
/// and give them slower than one processor encrypts.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: tokio::runtime::Handle,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Runtime {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self> {
        let failed = |source: std::io::Error| -> Error {
            ErrorKind::Connection {
                host: "this machine".to_owned(),
                action: "start the network thread".to_owned(),
                source: source.into(),
            }
            .into()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("nix2oci-read")
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("nix2oci-net".to_owned())
            .spawn(move || {
                // Ends when the sender is dropped.
                let _ = runtime.block_on(stopped);
                // A name server or a file that does not answer holds a thread
                // of the pool: nobody waits for it.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Runs a future on the thread and waits for it. After the context's
    /// cancel flag is set, the future is dropped and this fails within 100 ms.
    ///
    /// Must not be called on the thread itself.
    pub(crate) fn block_on<T: Send + 'static>(
        &self,
        cx: &Context,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.run(&cx.cancel, future, move |result| {
            // The receiver waits below.
            let _ = sender.send(result);
        });
        // The sender is dropped unused only if the thread ends.
        receiver
            .recv()
            .unwrap_or_else(|_| Err(ErrorKind::Cancelled.into()))
    }

    /// Runs a future on the thread until the flag is set, and gives its result
    /// to `done` there. A future that panics ends with an error. Only if the
    /// runtime is dropped first, `done` is dropped as well.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        cancel: &CancelFlag,
        future: impl Future<Output = Result<T>> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let cancel = cancel.clone();
        let task = self
            .handle
            .spawn(async move { until_cancelled(&cancel, future).await });
        self.handle.spawn(async move {
            done(task.await.unwrap_or_else(|error| {
                Err(match error.try_into_panic() {
                    Ok(payload) => panicked(payload.as_ref()),
                    Err(_) => ErrorKind::Cancelled.into(),
                })
            }));
        });
    }

    /// Starts a future on the thread. It is dropped with the runtime at the
    /// latest.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // It panics only if a future's destructor does, which was reported.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn futures_run_on_one_thread() {
        let runtime = Runtime::start().unwrap();
        let cx = Context::default();
        let name = || async { Ok(thread::current().name().map(str::to_owned)) };
        for _ in 0..2 {
            let found = runtime.block_on(&cx, name()).unwrap();
            assert_eq!(found.as_deref(), Some("nix2oci-net"));
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let runtime = Runtime::start().unwrap();
        let cx = Context::default();
        let error = runtime
            .block_on::<()>(&cx, async { panic!("as this test wants") })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "a worker thread panicked: as this test wants"
        );
        runtime.block_on(&cx, async { Ok(()) }).unwrap();
    }

    #[test]
    fn a_cancelled_future_is_dropped() {
        let runtime = Runtime::start().unwrap();
        let cx = Context::default();
        let (held, cancel) = (Arc::new(()), cx.cancel.clone());
        let inside = Arc::clone(&held);
        let error = runtime
            .block_on(&cx, async move {
                cancel.cancel();
                std::future::pending::<()>().await;
                drop(inside);
                Ok(())
            })
            .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_runtime_that_is_dropped_takes_its_futures_along() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let runtime = Runtime::start().unwrap();
        runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(inside);
        });
        // A thread that reads from something slow is not waited for.
        runtime.spawn(async {
            let slow = tokio::task::spawn_blocking(|| thread::sleep(Duration::from_secs(60)));
            let _ = slow.await;
        });
        runtime
            .block_on(&Context::default(), async { Ok(()) })
            .unwrap();
        let begin = Instant::now();
        drop(runtime);
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
