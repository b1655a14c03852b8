//! The thread that all of the network runs on.

use std::future::Future;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::until_cancelled;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::panicked;

/// One background thread that futures run on. Dropped, it drops them and ends.
///
/// One thread is enough: it moves bytes and encrypts them, and a registry takes
/// them slower than one processor encrypts.
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
        let cancel = cx.cancel.clone();
        let task = self
            .handle
            .spawn(async move { until_cancelled(&cancel, future).await });
        self.handle.spawn(async move {
            let result = task.await.unwrap_or_else(|error| {
                Err(match error.try_into_panic() {
                    Ok(payload) => panicked(payload.as_ref()),
                    Err(_) => ErrorKind::Cancelled.into(),
                })
            });
            // The receiver waits below.
            let _ = sender.send(result);
        });
        // The sender is dropped unused only if the thread ends.
        receiver
            .recv()
            .unwrap_or_else(|_| Err(ErrorKind::Cancelled.into()))
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
