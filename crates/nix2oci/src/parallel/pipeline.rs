//! Jobs that make streams of blocks, blocks that are worked on side by side,
//! and streams that come out in order.
//!
//! Each job (a layer) is *produced* by one thread, which fills blocks of a
//! fixed size. A full block is *transformed* (compressed) by any thread, and
//! the transformed blocks of a job are *consumed* (hashed, written) in their
//! order, by whichever thread finishes the one that is due. So many jobs run
//! at once while there are many, and all threads work on one job when few
//! remain; what comes out does not depend on who did what.
//!
//! **Bound.** At most `2 × threads + 2` blocks exist, before or after the
//! transform, and `3 × threads + 2` buffers, since a block has two while it is
//! transformed. A producer that finds no free block transforms a waiting one itself;
//! if none waits it sleeps. It holds no block then, and the earliest block of
//! every job is in the queue or in the hands of a thread that is awake, so
//! somebody always goes on.
//!
//! **Errors.** The first error stops all threads by a cancel flag that their
//! context carries, and is returned. The outputs of all jobs are dropped as
//! soon as nobody works on them, so that a task may wait for that when it
//! begins another one.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::context::Context;
use crate::error::{Error, Result};

use super::panicked;

/// Room for the bytes of a block.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// The room; the bytes beyond `len` are rubbish.
    pub(crate) bytes: Vec<u8>,
    /// How much of it is used.
    pub(crate) len: usize,
}

impl Buffer {
    /// Returns the bytes in use.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Empties it and gives it room for `size` bytes, no more and no less.
    pub(crate) fn reset(&mut self, size: usize) {
        self.len = 0;
        self.bytes
            .reserve_exact(size.saturating_sub(self.bytes.len()));
        self.bytes.resize(size, 0);
    }
}

/// What a pipeline does. Jobs are numbers from 0.
pub(crate) trait Task: Sync {
    /// What a thread keeps between blocks: an encoder.
    type Worker;
    /// What a job's blocks are given to, in order.
    type Output: Send;
    /// What a producer knows at the end.
    type Produced: Send;
    /// What is left of a job.
    type Done: Send;

    /// Bytes of a block.
    fn block_size(&self) -> usize;

    /// Begins a thread.
    fn worker(&self) -> Result<Self::Worker>;

    /// Begins a job.
    fn output(&self, job: usize) -> Result<Self::Output>;

    /// Writes a job's bytes into `blocks`. `cx` is cancelled when another
    /// thread fails.
    fn produce(&self, cx: &Context, job: usize, blocks: &mut dyn Blocks) -> Result<Self::Produced>;

    /// Makes `to` from the block `from`, which may be changed.
    fn transform(
        &self,
        worker: &mut Self::Worker,
        from: &mut Buffer,
        to: &mut Buffer,
    ) -> Result<()>;

    /// Takes the next transformed block of a job.
    fn consume(&self, output: &mut Self::Output, bytes: &[u8]) -> Result<()>;

    /// Ends a job.
    fn finish(
        &self,
        job: usize,
        produced: Self::Produced,
        output: Self::Output,
    ) -> Result<Self::Done>;
}

/// Where a producer writes.
pub(crate) trait Blocks {
    /// Returns the block that is being filled; there is room in it.
    fn current(&mut self) -> Result<&mut Buffer>;

    /// Hands the current block on if it is full.
    fn hand_on(&mut self) -> Result<()>;
}

/// Runs the jobs in the order of `jobs` with `cx.threads` threads, and calls
/// `deliver` on this thread for each as it is done.
pub(crate) fn run<T: Task>(
    cx: &Context,
    task: &T,
    jobs: Vec<usize>,
    mut deliver: impl FnMut(usize, T::Done) -> Result<()>,
) -> Result<()> {
    let threads = cx.threads.get();
    let pipeline = Pipeline {
        cx: cx.child(),
        task,
        max_blocks: 2 * threads + 2,
        state: Mutex::new(State {
            jobs: jobs.into(),
            unfinished: 0,
            queue: VecDeque::new(),
            blocks: 0,
            free: Vec::new(),
            sleeping: 0,
            error: None,
        }),
        changed: Condvar::new(),
    };
    // Holds what is done and not delivered: at most all jobs.
    let (done, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let done = done.clone();
            let pipeline = &pipeline;
            scope.spawn(move || pipeline.guard(|| pipeline.work(&done)));
        }
        drop(done);
        // The channel closes when the last worker ends. A panic in `deliver`
        // stops the workers, who would otherwise do all jobs first.
        pipeline.guard(|| {
            for (job, result) in finished {
                pipeline.cx.cancel.check()?;
                deliver(job, result)?;
            }
            Ok(())
        });
    });
    match pipeline.lock().error.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct Pipeline<'a, T: Task> {
    cx: Context,
    task: &'a T,
    max_blocks: usize,
    state: Mutex<State<T>>,
    /// Something in `state` changed that a sleeping thread may wait for.
    changed: Condvar,
}

struct State<T: Task> {
    /// Jobs that nobody began.
    jobs: VecDeque<usize>,
    /// Jobs that were begun and are not done.
    unfinished: usize,
    /// Full blocks that nobody transforms yet; bounded by `max_blocks`.
    queue: VecDeque<Block<T>>,
    /// Blocks in the hands of producers, in the queue, or not yet consumed.
    blocks: usize,
    /// Buffers that hold nothing; for blocks before and after the transform,
    /// since memory counts more than that one may have to grow a little.
    free: Vec<Buffer>,
    /// Threads that wait for a change.
    sleeping: usize,
    /// The first error.
    error: Option<Error>,
}

impl<T: Task> State<T> {
    /// Takes a waiting block, of `job` if there is one: a thread that works on
    /// its own job's blocks leaves the others' to them. Where consuming is all
    /// the work, threads that consume one job's blocks would wait for each
    /// other.
    fn take_block(&mut self, job: Option<usize>) -> Option<Block<T>> {
        let own = job.and_then(|id| self.queue.iter().position(|block| block.job.id == id));
        self.queue.remove(own.unwrap_or(0))
    }
}

struct Block<T: Task> {
    job: Arc<Job<T>>,
    number: u64,
    buffer: Buffer,
}

struct Job<T: Task> {
    id: usize,
    stream: Mutex<Stream<T>>,
}

/// The ordered side of a job.
struct Stream<T: Task> {
    /// The block that is due.
    next: u64,
    /// Transformed blocks that came before their turn; bounded by
    /// `max_blocks`.
    ready: BTreeMap<u64, Buffer>,
    /// `None` while a thread consumes, and at the end.
    output: Option<T::Output>,
    /// What the producer said, and how many blocks it made.
    produced: Option<(T::Produced, u64)>,
}

impl<T: Task> Pipeline<'_, T> {
    /// Runs a thread's work; its error, or its panic, stops the others.
    fn guard(&self, work: impl FnOnce() -> Result<()>) {
        let result = catch_unwind(AssertUnwindSafe(work));
        if let Err(error) = result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
            self.fail(error);
        }
    }

    fn fail(&self, error: Error) {
        // All under the lock, or a thread that saw no flag and is about to
        // sleep would miss both the flag and the call.
        let mut state = self.lock();
        state.error.get_or_insert(error);
        self.cx.cancel.cancel();
        // A block that waits keeps its job's output, and other threads may wait
        // until that is dropped.
        let unwanted = std::mem::take(&mut state.queue);
        self.wake(&state);
        drop(state);
        drop(unwanted);
    }

    /// A poisoned lock means that another thread panicked; its error is kept
    /// and this thread will see the flag.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        state.sleeping += 1;
        let mut state = self
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.sleeping -= 1;
        state
    }

    /// Wakes whoever waits for what changed in `state`.
    fn wake(&self, state: &State<T>) {
        if state.sleeping > 0 {
            self.changed.notify_all();
        }
    }

    /// The life of a thread.
    fn work(&self, done: &Sender<(usize, T::Done)>) -> Result<()> {
        let mut worker = self.task.worker()?;
        loop {
            let mut state = self.lock();
            let job = loop {
                self.cx.cancel.check()?;
                if let Some(block) = state.take_block(None) {
                    drop(state);
                    self.transform(&mut worker, block, done)?;
                    state = self.lock();
                } else if let Some(job) = state.jobs.pop_front() {
                    state.unfinished += 1;
                    break job;
                } else if state.unfinished == 0 {
                    return Ok(());
                } else {
                    state = self.wait(state);
                }
            };
            drop(state);
            self.produce(&mut worker, job, done)?;
        }
    }

    fn produce(
        &self,
        worker: &mut T::Worker,
        id: usize,
        done: &Sender<(usize, T::Done)>,
    ) -> Result<()> {
        let job = Arc::new(Job {
            id,
            stream: Mutex::new(Stream {
                next: 0,
                ready: BTreeMap::new(),
                output: Some(self.task.output(id)?),
                produced: None,
            }),
        });
        let mut producer = Producer {
            pipeline: self,
            worker,
            done,
            job: &job,
            current: None,
            made: 0,
        };
        let produced = self.task.produce(&self.cx, id, &mut producer)?;
        if producer.current.as_ref().is_some_and(|b| b.len > 0) {
            producer.submit();
        } else if let Some(unused) = producer.current.take() {
            let mut state = self.lock();
            state.blocks -= 1;
            state.free.push(unused);
            self.wake(&state);
        }
        let made = producer.made;
        let mut stream = lock_stream(&job);
        stream.produced = Some((produced, made));
        self.finish_if_complete(&job, stream, done)
    }

    /// Transforms a block and consumes what is due.
    fn transform(
        &self,
        worker: &mut T::Worker,
        mut block: Block<T>,
        done: &Sender<(usize, T::Done)>,
    ) -> Result<()> {
        let mut to = self.lock().free.pop().unwrap_or_default();
        self.task.transform(worker, &mut block.buffer, &mut to)?;
        self.lock().free.push(block.buffer);

        let job = &block.job;
        let mut stream = lock_stream(job);
        stream.ready.insert(block.number, to);
        let Some(mut output) = stream.output.take() else {
            // Another thread consumes and will find this block.
            return Ok(());
        };
        let mut due = stream.next;
        while let Some(buffer) = stream.ready.remove(&due) {
            drop(stream);
            self.task.consume(&mut output, buffer.filled())?;
            let mut state = self.lock();
            state.blocks -= 1;
            state.free.push(buffer);
            self.wake(&state);
            drop(state);
            due += 1;
            stream = lock_stream(job);
            stream.next = due;
        }
        stream.output = Some(output);
        self.finish_if_complete(job, stream, done)
    }

    fn finish_if_complete(
        &self,
        job: &Job<T>,
        mut stream: MutexGuard<'_, Stream<T>>,
        done: &Sender<(usize, T::Done)>,
    ) -> Result<()> {
        let complete = stream
            .produced
            .as_ref()
            .is_some_and(|(_, made)| *made == stream.next);
        if !complete || stream.output.is_none() {
            return Ok(());
        }
        let (Some((produced, _)), Some(output)) = (stream.produced.take(), stream.output.take())
        else {
            return Ok(());
        };
        drop(stream);
        let result = self.task.finish(job.id, produced, output)?;
        // Nobody listens any more only if delivering failed.
        let _ = done.send((job.id, result));
        let mut state = self.lock();
        state.unfinished -= 1;
        self.wake(&state);
        Ok(())
    }
}

fn lock_stream<T: Task>(job: &Job<T>) -> MutexGuard<'_, Stream<T>> {
    job.stream.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Producer<'a, T: Task> {
    pipeline: &'a Pipeline<'a, T>,
    worker: &'a mut T::Worker,
    done: &'a Sender<(usize, T::Done)>,
    job: &'a Arc<Job<T>>,
    current: Option<Buffer>,
    made: u64,
}

impl<T: Task> Producer<'_, T> {
    /// Puts the current block into the queue.
    fn submit(&mut self) {
        if let Some(buffer) = self.current.take() {
            let block = Block {
                job: Arc::clone(self.job),
                number: self.made,
                buffer,
            };
            self.made += 1;
            let mut state = self.pipeline.lock();
            if state.error.is_some() {
                return;
            }
            state.queue.push_back(block);
            self.pipeline.wake(&state);
        }
    }

    /// Gets an empty block; works on others while there is none.
    fn obtain(&mut self) -> Result<Buffer> {
        let pipeline = self.pipeline;
        let mut state = pipeline.lock();
        loop {
            pipeline.cx.cancel.check()?;
            if state.blocks < pipeline.max_blocks {
                state.blocks += 1;
                let mut buffer = state.free.pop().unwrap_or_default();
                drop(state);
                buffer.reset(pipeline.task.block_size());
                return Ok(buffer);
            }
            if let Some(block) = state.take_block(Some(self.job.id)) {
                drop(state);
                pipeline.transform(self.worker, block, self.done)?;
                state = pipeline.lock();
            } else {
                state = pipeline.wait(state);
            }
        }
    }
}

impl<T: Task> Blocks for Producer<'_, T> {
    fn current(&mut self) -> Result<&mut Buffer> {
        if self.current.is_none() {
            self.current = Some(self.obtain()?);
        }
        Ok(self
            .current
            .as_mut()
            .expect("a block was obtained just above"))
    }

    fn hand_on(&mut self) -> Result<()> {
        let size = self.pipeline.task.block_size();
        if self.current.as_ref().is_some_and(|b| b.len == size) {
            self.submit();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
