//! A blob's bytes, read again from any place.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::repository::{check_size, sha256_of};
use super::upload::{Sent, SentFn};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{BodyStream, read_pieces};
use crate::oci::Descriptor;

/// A blob whose bytes can be had more than once.
#[derive(Clone)]
pub struct Replayable {
    /// Its digest and size.
    pub descriptor: Descriptor,
    /// Opens it at its first byte. It is called again after a failure, from
    /// any thread.
    pub open: OpenFn,
}

/// Opens a blob at its first byte.
pub type OpenFn = Arc<dyn Fn() -> Result<Box<dyn Read + Send>> + Send + Sync>;

impl fmt::Debug for Replayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replayable")
            .field(&self.descriptor.digest().to_string())
            .finish()
    }
}

/// The bytes of one blob while it is sent: read on from where they are, or
/// opened again and skipped.
pub(super) struct Source {
    pub(super) digest: Digest,
    pub(super) size: u64,
    open: OpenFn,
    sent: SentFn,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The blob from `position` on.
    reader: Option<Box<dyn Read + Send>>,
    position: u64,
    /// Which window may read; those before it belong to requests that ended.
    turn: u64,
    /// Bytes that were told to be sent.
    told: u64,
}

impl Source {
    pub(super) fn new(blob: &Replayable, sent: &SentFn) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            digest: sha256_of(&blob.descriptor)?,
            size: blob.descriptor.size(),
            open: Arc::clone(&blob.open),
            sent: Arc::clone(sent),
            state: Mutex::default(),
        }))
    }

    /// Returns the bytes from `start` on as the body of a request. Bodies that
    /// were made before end with an error.
    pub(super) fn body(self: &Arc<Self>, start: u64, length: u64) -> BodyStream {
        let mut state = self.state();
        state.turn += 1;
        if start == 0 && state.told > 0 {
            state.told = 0;
            (self.sent)(Sent::Again);
        }
        let window = Window {
            source: Arc::clone(self),
            turn: state.turn,
            at: start,
            end: start + length,
        };
        let source = Arc::clone(self);
        read_pieces(Box::new(window), move |error| source.lift(error))
    }

    /// Returns whether all bytes were read to be sent.
    pub(super) fn is_used_up(&self) -> bool {
        self.state().told == self.size
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads for the window of `turn`.
    ///
    /// The lock is not held while the reader works: it may wait for the network
    /// thread, which asks for the state when a request fails.
    fn read(&self, turn: u64, at: u64, buf: &mut [u8]) -> Result<usize> {
        let kept = {
            let mut state = self.state_in(turn)?;
            let reader = state.reader.take();
            reader.filter(|_| state.position == at)
        };
        // Put back only after success.
        let mut reader = match kept {
            Some(reader) => reader,
            None => self.open_at(at)?,
        };
        let read = reader.read(buf).map_err(|error| self.lift(error))?;
        let next = at + read as u64;
        if read == 0 {
            check_size(&self.what(), self.size, at)?;
        }
        if next == self.size {
            // A reader that checks what it reads does so at its end: the last
            // bytes wait for that, so that a wrong blob is never complete.
            let more = reader.read(&mut [0]).map_err(|error| self.lift(error))?;
            check_size(&self.what(), self.size, next + more as u64)?;
        }
        let mut state = self.state_in(turn)?;
        state.reader = Some(reader);
        state.position = next;
        if next > state.told {
            (self.sent)(Sent::Bytes(next - state.told));
            state.told = next;
        }
        Ok(read)
    }

    /// Returns the state, if it is still the turn of a window.
    fn state_in(&self, turn: u64) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.turn != turn {
            return Err(self.lift(io::Error::other("the request ended before its body")));
        }
        Ok(state)
    }

    fn open_at(&self, at: u64) -> Result<Box<dyn Read + Send>> {
        let mut reader = (self.open)()?;
        let skipped = io::copy(&mut reader.by_ref().take(at), &mut io::sink())
            .map_err(|error| self.lift(error))?;
        if skipped < at {
            check_size(&self.what(), self.size, skipped)?;
        }
        Ok(reader)
    }

    fn what(&self) -> String {
        format!("blob {} as it is read to be sent", self.digest)
    }

    /// Takes our error out of one of a reader.
    fn lift(&self, error: io::Error) -> Error {
        error.downcast::<Error>().unwrap_or_else(|source| {
            let path = format!("blob {} to send it", self.digest).into();
            ErrorKind::ReadInput { path, source }.into()
        })
    }
}

/// A part of a blob, read once.
struct Window {
    source: Arc<Source>,
    turn: u64,
    at: u64,
    end: u64,
}

impl Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self
            .source
            .read(self.turn, self.at, &mut buf[..wanted])
            .map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::oci::{MediaType, descriptor};

    struct Fixture {
        source: Arc<Source>,
        opened: Arc<AtomicUsize>,
        told: Arc<Mutex<Vec<Sent>>>,
    }

    /// A blob that says to have `size` bytes.
    fn fixture(bytes: &'static [u8], size: u64) -> Fixture {
        let opened = Arc::new(AtomicUsize::new(0));
        let told = Arc::new(Mutex::new(Vec::new()));
        let count = Arc::clone(&opened);
        let tell = Arc::clone(&told);
        let blob = Replayable {
            descriptor: descriptor(MediaType::ImageLayer, Digest::of(bytes), size),
            open: Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(Box::new(bytes))
            }),
        };
        let sent: SentFn = Arc::new(move |sent| tell.lock().unwrap().push(sent));
        Fixture {
            source: Source::new(&blob, &sent).unwrap(),
            opened,
            told,
        }
    }

    fn window(source: &Arc<Source>, start: u64, length: u64) -> Window {
        drop(source.body(start, length));
        let turn = source.state().turn;
        Window {
            source: Arc::clone(source),
            turn,
            at: start,
            end: start + length,
        }
    }

    fn text(mut window: Window) -> io::Result<String> {
        let mut text = String::new();
        window.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn windows_in_order_open_once() {
        let f = fixture(b"hello, world", 12);
        assert_eq!(text(window(&f.source, 0, 5)).unwrap(), "hello");
        assert_eq!(text(window(&f.source, 5, 7)).unwrap(), ", world");
        assert_eq!(f.opened.load(Ordering::Relaxed), 1);
        assert!(f.source.is_used_up());
        assert_eq!(*f.told.lock().unwrap(), [Sent::Bytes(5), Sent::Bytes(7)]);
    }

    #[test]
    fn going_back_opens_again_and_tells_nothing_twice() {
        let f = fixture(b"hello, world", 12);
        assert_eq!(text(window(&f.source, 0, 8)).unwrap(), "hello, w");
        assert_eq!(text(window(&f.source, 5, 7)).unwrap(), ", world");
        assert_eq!(f.opened.load(Ordering::Relaxed), 2);
        assert_eq!(*f.told.lock().unwrap(), [Sent::Bytes(8), Sent::Bytes(4)]);
        assert_eq!(text(window(&f.source, 0, 12)).unwrap(), "hello, world");
        assert_eq!(f.told.lock().unwrap()[2..], [Sent::Again, Sent::Bytes(12)]);
    }

    #[test]
    fn an_old_window_reads_nothing_more() {
        let f = fixture(b"hello, world", 12);
        let mut old = window(&f.source, 0, 12);
        old.read_exact(&mut [0; 3]).unwrap();
        let new = window(&f.source, 0, 12);
        assert!(old.read(&mut [0; 3]).is_err());
        assert_eq!(text(new).unwrap(), "hello, world");
    }

    /// The network thread asks for the state while a reader may wait for bytes
    /// that this thread has to bring.
    #[test]
    fn nobody_waits_for_a_reader_that_waits() {
        use std::sync::mpsc::{Receiver, Sender, channel};

        struct Waiting(Sender<()>, Receiver<()>);
        impl Read for Waiting {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.0.send(()).unwrap();
                self.1.recv().map_err(io::Error::other)?;
                Ok(1)
            }
        }
        let (begun, begins) = channel();
        let (release, released) = channel();
        let first = Mutex::new(Some(Waiting(begun, released)));
        let blob = Replayable {
            descriptor: descriptor(MediaType::ImageLayer, Digest::of(b"hello"), 5),
            open: Arc::new(move || {
                Ok(match first.lock().unwrap().take() {
                    Some(waiting) => Box::new(waiting),
                    None => Box::new(&b"hello"[..]),
                })
            }),
        };
        let source = Source::new(&blob, &(Arc::new(|_| {}) as SentFn)).unwrap();
        let mut old = window(&source, 0, 5);
        let old = std::thread::spawn(move || old.read(&mut [0; 5]).is_err());
        begins.recv().unwrap();

        let (done, is_done) = channel();
        let beside = Arc::clone(&source);
        std::thread::spawn(move || {
            assert!(!beside.is_used_up());
            done.send(text(window(&beside, 0, 5)).unwrap()).unwrap();
        });
        let limit = std::time::Duration::from_secs(10);
        assert_eq!(is_done.recv_timeout(limit).as_deref(), Ok("hello"));
        release.send(()).unwrap();
        assert!(old.join().unwrap(), "what comes late counts for nothing");
        assert!(source.is_used_up());
    }

    #[test]
    fn a_blob_of_another_size_is_never_complete() {
        for (size, expected) in [(11, 12), (13, 12)] {
            let f = fixture(b"hello, world", size);
            let mut all = window(&f.source, 0, size);
            let mut bytes = Vec::new();
            let failure = f.source.lift(all.read_to_end(&mut bytes).unwrap_err());
            assert!(bytes.len() < size as usize);
            let ErrorKind::SizeMismatch { found, .. } = failure.kind() else {
                panic!("{failure}");
            };
            assert_eq!(*found, expected);
        }
    }

    #[test]
    fn what_a_reader_finds_at_its_end_comes_before_the_last_bytes() {
        struct Checked(&'static [u8]);
        impl Read for Checked {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Err(io::Error::other(Error::image("x", "changed")));
                }
                self.0.read(buf)
            }
        }
        let blob = Replayable {
            descriptor: descriptor(MediaType::ImageLayer, Digest::of(b""), 5),
            open: Arc::new(|| Ok(Box::new(Checked(b"hello")))),
        };
        let sent: SentFn = Arc::new(|_| {});
        let source = Source::new(&blob, &sent).unwrap();
        let mut bytes = [0; 5];
        let failure = window(&source, 0, 5).read(&mut bytes).unwrap_err();
        assert_eq!(source.lift(failure).to_string(), "x: changed");
    }
}
