//! Many blobs on their way to one repository, for code that packs them on
//! threads of its own.
//!
//! **No deadlock.** A stream that is fed by the packing threads gets its permit
//! before its layer begins, and needs no other one to its end. So a thread that
//! waits for a stream to take bytes waits for the network alone, and one that
//! waits for a permit holds no block that another stream needs.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::context::{Context, Event};
use crate::error::{Error, ErrorClass, ErrorKind, Result};
use crate::net::until_cancelled;
use crate::oci::{Descriptor, descriptor_digest};
use crate::parallel::panicked;

use super::stream::StreamedBody;
use super::{Mounted, Registries, Replayable, Repository, Sent, SentFn, UploadSession};

/// Bytes of a piece that a stream carries.
const PIECE: usize = 256 << 10;

/// Pieces that wait in a stream.
const PIECES: usize = 8;

/// Streams that break one after the other before blobs are sent as what can be
/// repeated at once, with a pause that grows.
const MAX_BROKEN: u32 = 3;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// The registry took it.
    Sent,
    /// The registry had it.
    Exists,
    /// It broke on its way and has to be made again.
    Broken,
}

/// Many blobs on their way to one repository.
pub(crate) struct Uploads<'a> {
    cx: &'a Context,
    registries: &'a Registries,
    repository: Repository,
    running: Mutex<Vec<(usize, JoinHandle<Upload>)>>,
    state: Arc<State>,
}

/// What the uploads tell each other.
#[derive(Default)]
struct State {
    /// The first error that nothing can be done about.
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
    /// Told of once there is one.
    failed: Notify,
    /// Streams that broke since the last one that did not.
    broken: AtomicU32,
}

impl<'a> Uploads<'a> {
    /// `cx` is that of the call: its observer hears of layers, and its flag ends
    /// all of them.
    pub(crate) fn new(cx: &'a Context, registries: &'a Registries, repository: Repository) -> Self {
        Self {
            cx,
            registries,
            repository,
            running: Mutex::default(),
            state: Arc::default(),
        }
    }

    /// Asks for all of `blobs` at once and returns, in their order, which the
    /// registry has.
    pub(crate) fn present(&self, blobs: &[Descriptor]) -> Result<Vec<bool>> {
        let blobs = blobs.to_vec();
        let repository = self.repository.clone();
        self.registries.block_on(self.cx, async move {
            let ask = |blob: Descriptor| {
                let repository = repository.clone();
                async move { has(&repository, &blob).await }
            };
            all(blobs.into_iter().map(ask)).await
        })
    }

    /// Tries to mount each blob from the repositories beside it, in their
    /// order, and returns what came of it.
    pub(crate) fn mount(&self, blobs: Vec<(Descriptor, Vec<String>)>) -> Result<Vec<Mounted>> {
        let repository = self.repository.clone();
        self.registries.block_on(self.cx, async move {
            let mount = |(blob, from): (Descriptor, Vec<String>)| {
                let repository = repository.clone();
                async move {
                    let mut result = Mounted::Refused("it was not asked".to_owned());
                    for from in from {
                        let before =
                            std::mem::replace(&mut result, repository.mount(&blob, &from).await?);
                        match (&result, before) {
                            (Mounted::Done, _) => break,
                            // One session is enough for a blob.
                            (_, session @ Mounted::Session(_)) => result = session,
                            _ => {}
                        }
                    }
                    Ok(result)
                }
            };
            all(blobs.into_iter().map(mount)).await
        })
    }

    /// Returns whether layers should be sent while they are made: not when one
    /// after the other broke.
    pub(crate) fn takes_streams(&self) -> bool {
        self.state.broken.load(Ordering::Relaxed) < MAX_BROKEN
    }

    /// Begins to send a layer that is not made yet; `known` is what it has to
    /// become, if that is known. Waits until the registry may be talked to.
    pub(crate) fn stream(&self, layer: usize, known: Option<Descriptor>) -> Result<LayerStream> {
        self.state.check()?;
        let (chunks, receiver) = mpsc::channel(PIECES);
        let (end, ended) = oneshot::channel();
        let repository = self.repository.clone();
        let permit = {
            let repository = repository.clone();
            let permit = async move { Ok(repository.permit().await) };
            self.registries.block_on(self.cx, permit)?
        };
        let body = StreamedBody {
            chunks: receiver,
            end: ended,
        };
        let sent = self.sent(layer);
        let cx = self.cx.clone();
        let state = Arc::clone(&self.state);
        let task = self.registries.runtime().spawn(async move {
            let work = repository.put_stream(known.as_ref(), body, &permit, sent);
            match until_cancelled(&cx.cancel, work).await {
                Ok(()) => {
                    state.broken.store(0, Ordering::Relaxed);
                    cx.observer.event(&Event::LayerWritten { layer });
                    Upload::Sent
                }
                Err(error) => {
                    cx.observer.event(&Event::LayerResent { layer });
                    state.take_broken(error)
                }
            }
        });
        self.lock().push((layer, task));
        Ok(LayerStream {
            chunks,
            end,
            state: Arc::clone(&self.state),
            rest: Vec::new(),
            is_broken: false,
        })
    }

    /// Sends a blob that can be opened again. With `ask` only if the registry
    /// does not have it.
    pub(crate) fn send(
        &self,
        layer: usize,
        blob: Replayable,
        session: Option<UploadSession>,
        ask: bool,
    ) -> Result<()> {
        self.state.check()?;
        let repository = self.repository.clone();
        let sent = self.sent(layer);
        let cx = self.cx.clone();
        let state = Arc::clone(&self.state);
        let task = self.registries.runtime().spawn(async move {
            let work = async {
                let digest = descriptor_digest(&blob.descriptor);
                if let Some(digest) = digest
                    && ask
                    && repository.blob_size(digest).await?.is_some()
                {
                    let size = blob.descriptor.size();
                    cx.observer.event(&Event::LayerReused {
                        layer,
                        digest,
                        size,
                    });
                    return Ok(Upload::Exists);
                }
                repository.put_blob(&blob, session, &sent).await?;
                cx.observer.event(&Event::LayerWritten { layer });
                Ok(Upload::Sent)
            };
            let work = until_cancelled(&cx.cancel, work);
            work.await.unwrap_or_else(|error| {
                state.fail(error);
                Upload::Broken
            })
        });
        self.lock().push((layer, task));
        Ok(())
    }

    /// Waits for all that was begun and returns what became of each, in the
    /// order in which it was begun.
    ///
    /// # Errors
    ///
    /// The first one after which nothing could be done, as soon as it is there;
    /// what is still on its way ends then.
    pub(crate) fn settle(&self) -> Result<Vec<(usize, Upload)>> {
        let running = Running(std::mem::take(&mut *self.lock()));
        let state = Arc::clone(&self.state);
        let settled = self.registries.block_on(self.cx, async move {
            let mut failed = pin!(state.failed.notified());
            let mut all = pin!(running.join());
            poll_fn(|task| match failed.as_mut().poll(task) {
                Poll::Ready(()) => Poll::Ready(Err(ErrorKind::Cancelled.into())),
                Poll::Pending => all.as_mut().poll(task),
            })
            .await
        });
        settled.map_err(|error| self.reason(error))
    }

    /// Returns why something ended with `error`: if others only stopped it,
    /// what stopped them.
    pub(crate) fn reason(&self, error: Error) -> Error {
        if error.class() != ErrorClass::Cancelled {
            return error;
        }
        self.state.failure().take().unwrap_or(error)
    }

    /// Returns what tells the observer of the bytes of a layer.
    fn sent(&self, layer: usize) -> SentFn {
        let cx = self.cx.clone();
        Arc::new(move |sent| {
            cx.observer.event(&match sent {
                Sent::Bytes(bytes) => Event::LayerSent { layer, bytes },
                Sent::Again => Event::LayerResent { layer },
            });
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, JoinHandle<Upload>)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Uploads<'_> {
    fn drop(&mut self) {
        drop(Running(std::mem::take(&mut *self.lock())));
    }
}

/// Uploads that end when nobody waits for them any more.
struct Running(Vec<(usize, JoinHandle<Upload>)>);

impl Running {
    async fn join(mut self) -> Result<Vec<(usize, Upload)>> {
        let mut settled = Vec::with_capacity(self.0.len());
        for (layer, task) in &mut self.0 {
            settled.push((*layer, task.await.map_err(unfinished)?));
        }
        Ok(settled)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, task) in &self.0 {
            task.abort();
        }
    }
}

/// Makes the error of a task that did not come to its end.
fn unfinished(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(payload) => panicked(payload.as_ref()),
        Err(_) => ErrorKind::Cancelled.into(),
    }
}

impl State {
    /// Fails if there was an error that nothing can be done about. Which it was
    /// is for [`Uploads::reason`] to tell: of several threads that stop for it,
    /// any may be heard first.
    fn check(&self) -> Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(ErrorKind::Cancelled.into());
        }
        Ok(())
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: Error) {
        let mut failure = self.failure();
        if !self.has_failed.swap(true, Ordering::AcqRel) {
            *failure = Some(error);
            self.failed.notify_one();
        }
    }

    /// Takes the error of a stream. The layer can be made again, unless that
    /// changes nothing. Bytes that are not what they have to be are told of when
    /// all of them are made, or sent again if it was the registry's fault.
    fn take_broken(&self, error: Error) -> Upload {
        self.broken.fetch_add(1, Ordering::Relaxed);
        if !matches!(error.class(), ErrorClass::Remote | ErrorClass::Integrity) {
            self.fail(error);
        }
        Upload::Broken
    }
}

/// A layer that is sent while it is made. Dropped before its end, it breaks the
/// request off.
pub(crate) struct LayerStream {
    chunks: mpsc::Sender<Bytes>,
    end: oneshot::Sender<Descriptor>,
    state: Arc<State>,
    /// Bytes that are too few for a piece.
    rest: Vec<u8>,
    /// Nobody takes the bytes any more.
    is_broken: bool,
}

impl LayerStream {
    /// Sends the next bytes. Waits while the network is slower than they come;
    /// takes them for nothing when the upload broke.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() && !self.is_broken {
            let room = PIECE - self.rest.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == PIECE {
                self.flush();
            }
        }
        if self.is_broken {
            self.state.check()?;
        }
        Ok(())
    }

    /// Says that all bytes were written and what they are.
    pub(crate) fn finish(mut self, descriptor: &Descriptor) {
        if !self.rest.is_empty() && !self.is_broken {
            self.flush();
        }
        let Self { chunks, end, .. } = self;
        // If nobody hears it, the upload broke, which its task knows.
        let _ = end.send(descriptor.clone());
        drop(chunks);
    }

    fn flush(&mut self) {
        let piece = std::mem::replace(&mut self.rest, Vec::with_capacity(PIECE));
        self.is_broken = self.chunks.blocking_send(piece.into()).is_err();
    }
}

/// Returns whether a repository has a blob.
async fn has(repository: &Repository, blob: &Descriptor) -> Result<bool> {
    match descriptor_digest(blob) {
        Some(digest) => Ok(repository.blob_size(digest).await?.is_some()),
        None => Ok(false),
    }
}

/// Runs all futures at once and returns what they return, in their order; the
/// first error ends the others.
async fn all<T: Send + 'static, F>(futures: impl Iterator<Item = F>) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut results = Vec::new();
    for (at, future) in futures.enumerate() {
        tasks.spawn(async move { (at, future.await) });
        results.push(None);
    }
    while let Some(joined) = tasks.join_next().await {
        let (at, result) = joined.map_err(unfinished)?;
        results[at] = Some(result?);
    }
    Ok(results.into_iter().flatten().collect())
}
