//! A socket that waits and can be cancelled.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType};

use crate::context::CancelFlag;

/// How often the cancel flag is asked while nothing comes.
const TICK: Duration = Duration::from_millis(50);

/// How long to wait before a daemon that has its hands full is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// A connection to a socket in the file system.
pub(super) struct Socket {
    stream: UnixStream,
    cancel: CancelFlag,
    silence: Duration,
    heard: Heard,
}

/// What came since a question was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    /// The end, and nothing before it.
    TheEnd,
}

impl Socket {
    /// Connects. The system takes connections before the daemon does, so this
    /// says nothing of whether it answers.
    pub(super) fn connect(path: &Path, cancel: &CancelFlag, silence: Duration) -> io::Result<Self> {
        // Fails if the path has more than some 100 bytes, as Nix's own does.
        let address = SocketAddrUnix::new(path)?;
        let start = Instant::now();
        let fd = loop {
            cancel.check().map_err(io::Error::other)?;
            let fd = new_socket()?;
            match rustix::net::connect(&fd, &address) {
                Ok(()) => break fd,
                Err(Errno::INTR) => {}
                // As many connections wait as the daemon lets wait. A socket of
                // this family that does not block says so, and does not go on
                // connecting.
                Err(Errno::AGAIN) if start.elapsed() < silence => std::thread::sleep(AGAIN),
                Err(Errno::AGAIN) => return Err(silent(silence)),
                Err(errno) => return Err(errno.into()),
            }
        };
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
        Ok(Self {
            stream,
            cancel: cancel.clone(),
            silence,
            heard: Heard::Nothing,
        })
    }

    /// Begins another question, which ends when this flag is set.
    pub(super) fn begin(&mut self, cancel: &CancelFlag) {
        self.cancel = cancel.clone();
        self.heard = Heard::Nothing;
    }

    /// Returns whether the other side closed the connection before it answered
    /// anything to the question.
    pub(super) fn was_closed_before_an_answer(&self) -> bool {
        self.heard == Heard::TheEnd
    }

    /// Takes note of what a call for bytes gave.
    fn hear(&mut self, result: &io::Result<usize>) {
        let is_end = match result {
            Ok(count) => *count == 0,
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
        };
        match (self.heard, is_end) {
            (Heard::Nothing, true) => self.heard = Heard::TheEnd,
            (Heard::Nothing, false) if result.is_ok() => self.heard = Heard::Something,
            _ => {}
        }
    }

    /// Returns whether it is open and nothing waits to be read.
    pub(super) fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let waits = rustix::net::recv(&self.stream, &mut [0_u8; 1][..], flags);
        matches!(waits, Err(Errno::AGAIN))
    }

    /// Tries until it succeeds, fails, is cancelled, or has been silent for too
    /// long.
    fn patiently(
        &mut self,
        mut attempt: impl FnMut(&mut UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut start = None;
        loop {
            self.cancel.check().map_err(io::Error::other)?;
            match attempt(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Both are what a timeout looks like, by system.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    // The attempt waited already.
                    let start = start.get_or_insert_with(|| Instant::now() - TICK);
                    if start.elapsed() >= self.silence {
                        return Err(silent(self.silence));
                    }
                }
                result => return result,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.patiently(|stream| stream.read(buf));
        if !buf.is_empty() {
            self.hear(&result);
        }
        result
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let result = self.patiently(|stream| stream.write(buf));
        if result.is_err() {
            self.hear(&result);
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn silent(silence: Duration) -> io::Error {
    let text = format!("it has been silent for {} seconds", silence.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Makes a socket that does not block and that no program inherits.
#[cfg(target_os = "linux")]
fn new_socket() -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(fd)
}

/// Makes a socket that does not block and that no program inherits but one that
/// is started right now: not every system can do both at once.
#[cfg(not(target_os = "linux"))]
fn new_socket() -> io::Result<OwnedFd> {
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}
