//! Bytes that are fetched before somebody reads them: a pipe from the network's
//! thread to one that may block.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};

/// Makes a pipe that holds at most so many bytes, which fill it as long as
/// nobody reads. Before the bytes a head goes through it.
pub(super) fn pipe<H>(ahead: usize) -> (Filler<H>, Drain<H>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            head: None,
            bytes: VecDeque::new(),
            is_full: false,
            end: None,
        }),
        arrived: Condvar::new(),
        taken: Notify::new(),
        ahead: ahead.max(1),
    });
    let drain = Drain(Arc::clone(&shared));
    (Filler(shared), drain)
}

/// The end that is filled.
pub(super) struct Filler<H>(Arc<Shared<H>>);

/// The end that is read.
pub(super) struct Drain<H>(Arc<Shared<H>>);

struct Shared<H> {
    state: Mutex<State<H>>,
    /// Something for the reader.
    arrived: Condvar,
    /// Room for the filler.
    taken: Notify,
    ahead: usize,
}

struct State<H> {
    head: Option<H>,
    bytes: VecDeque<u8>,
    /// Whether the filler waits for room.
    is_full: bool,
    /// Set once; an error is taken out of it by the reader.
    end: Option<Result<(), Option<Error>>>,
}

impl<H> Shared<H> {
    fn lock(&self) -> MutexGuard<'_, State<H>> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something for the reader.
    fn wait(&self, is_there: impl Fn(&State<H>) -> bool) -> MutexGuard<'_, State<H>> {
        let mut state = self.lock();
        while state.end.is_none() && !is_there(&state) {
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn end(&self, result: Result<()>) {
        self.lock().end.get_or_insert(result.map_err(Some));
        self.arrived.notify_all();
    }
}

impl<H> Filler<H> {
    /// Gives the head.
    pub(super) fn begin(&self, head: H) {
        self.0.lock().head = Some(head);
        self.0.arrived.notify_all();
    }

    /// Gives bytes; waits for room.
    pub(super) async fn fill(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            {
                let mut state = self.0.lock();
                let room = self.0.ahead - state.bytes.len();
                let taken = bytes.len().min(room);
                state.bytes.extend(&bytes[..taken]);
                bytes = &bytes[taken..];
                state.is_full = !bytes.is_empty();
            }
            self.0.arrived.notify_all();
            if !bytes.is_empty() {
                self.0.taken.notified().await;
            }
        }
    }

    /// Returns what ends the pipe, whatever becomes of this filler.
    pub(super) fn ending(&self) -> Ending<H> {
        Ending(Arc::clone(&self.0))
    }
}

/// Ends a pipe; dropped before, with an error.
pub(super) struct Ending<H>(Arc<Shared<H>>);

impl<H> Ending<H> {
    /// Says that nothing follows.
    pub(super) fn end(&self, result: Result<()>) {
        self.0.end(result);
    }
}

impl<H> Drop for Ending<H> {
    fn drop(&mut self) {
        // What ended well has an end already.
        self.0.end(Err(ErrorKind::Cancelled.into()));
    }
}

impl<H> Drain<H> {
    /// Waits for the head or the end at most so long, and returns whether one is
    /// there. Takes neither.
    pub(super) fn is_begun_within(&self, limit: Duration) -> bool {
        let waited = self
            .0
            .arrived
            .wait_timeout_while(self.0.lock(), limit, |state| {
                state.head.is_none() && state.end.is_none()
            });
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits for the head; an end without one is `None`.
    pub(super) fn head(&self) -> Result<Option<H>> {
        let mut state = self.0.wait(|state| state.head.is_some());
        match state.head.take() {
            Some(head) => Ok(Some(head)),
            None => take_end(&mut state).map(|()| None),
        }
    }

    /// Waits for bytes and takes some; 0 at the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.0.wait(|state| !state.bytes.is_empty());
        let (front, _) = state.bytes.as_slices();
        let taken = front.len().min(buffer.len());
        if taken == 0 {
            return take_end(&mut state).map(|()| 0);
        }
        buffer[..taken].copy_from_slice(&front[..taken]);
        state.bytes.drain(..taken);
        // Not for each byte: the network's thread would be woken as often.
        if state.is_full && state.bytes.len() <= self.0.ahead / 2 {
            state.is_full = false;
            drop(state);
            self.0.taken.notify_one();
        }
        Ok(taken)
    }
}

/// Returns the end, the error once; whoever reads on after it is told that it
/// is over.
fn take_end<H>(state: &mut State<H>) -> Result<()> {
    match &mut state.end {
        Some(Err(error)) => Err(error.take().unwrap_or_else(|| ErrorKind::Cancelled.into())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::thread;

    use super::*;
    use crate::context::Context as Call;
    use crate::net::Runtime;

    #[test]
    fn no_more_is_held_than_allowed() {
        let (filler, drain) = pipe::<()>(1000);
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        let mut filling = pin!(filler.fill(&bytes));
        let mut task = Context::from_waker(Waker::noop());
        let mut read: Vec<u8> = Vec::new();
        let mut buffer = [0; 300];
        while filling.as_mut().poll(&mut task).is_pending() {
            assert_eq!(drain.0.lock().bytes.len(), 1000);
            assert!(drain.0.lock().bytes.capacity() <= 2048);
            // Until there is room for much.
            while drain.0.lock().is_full {
                let count = drain.read(&mut buffer).unwrap();
                read.extend(&buffer[..count]);
            }
        }
        filler.ending().end(Ok(()));
        loop {
            match drain.read(&mut buffer).unwrap() {
                0 => break,
                count => read.extend(&buffer[..count]),
            }
        }
        assert_eq!(read, bytes);
    }

    #[test]
    fn bytes_come_through_in_order() {
        let runtime = Runtime::start().unwrap();
        let (filler, drain) = pipe(7);
        let ending = filler.ending();
        let cancel = Call::default().cancel;
        runtime.run(
            &cancel,
            async move {
                filler.begin("head");
                for n in 0..10_000_u32 {
                    filler.fill(&n.to_le_bytes()).await;
                }
                Ok(())
            },
            move |result| ending.end(result),
        );
        assert_eq!(drain.head().unwrap(), Some("head"));
        for n in 0..10_000_u32 {
            let mut bytes = [0; 4];
            let mut count = 0;
            while count < 4 {
                count += drain.read(&mut bytes[count..]).unwrap();
            }
            assert_eq!(u32::from_le_bytes(bytes), n);
        }
        assert_eq!(drain.read(&mut [0]).unwrap(), 0);
        assert_eq!(drain.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_head_is_waited_for_as_long_as_one_likes() {
        let (filler, drain) = pipe(10);
        assert!(!drain.is_begun_within(Duration::from_millis(1)));
        filler.begin("head");
        assert!(drain.is_begun_within(Duration::ZERO));
        assert_eq!(drain.head().unwrap(), Some("head"));
        let (filler, drain) = pipe::<()>(10);
        let ending = filler.ending();
        let thread = thread::spawn(move || drain.is_begun_within(Duration::from_secs(600)));
        drop(ending);
        assert!(thread.join().unwrap());
    }

    #[test]
    fn an_end_that_nobody_said_is_an_error() {
        let (filler, drain) = pipe::<()>(10);
        let ending = filler.ending();
        let thread = thread::spawn(move || drain.head().map(|_| ()));
        drop((filler, ending));
        thread.join().unwrap().unwrap_err();
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        let (filler, drain) = pipe::<()>(10);
        let filled = pin!(filler.fill(b"abc")).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(filled, Poll::Ready(()));
        filler.ending().end(Err(Error::invalid("x", "y")));
        let mut buffer = [0; 10];
        assert_eq!(drain.read(&mut buffer).unwrap(), 3);
        assert_eq!(drain.read(&mut buffer).unwrap_err().to_string(), "x: y");
        drain.read(&mut buffer).unwrap_err();
    }
}
