//! The Nix daemon: what it knows of store paths, and what is in them.
//!
//! - [`Daemon`]: a daemon behind a socket, and connections to it
//! - [`Connection`]: one conversation, over any stream
//!
//! `wire` has the numbers and strings of the protocol, `messages` what a daemon
//! says before each answer, `socket` the stream that waits and can be
//! cancelled.
//!
//! The worker protocol has no document of its own; this is what the programs
//! do, in NixOS/nix (`src/libstore/daemon.cc`, `worker-protocol.cc` and
//! `worker-protocol-connection.cc`; before 2.4 `src/nix-daemon/nix-daemon.cc`)
//! from 2.3 to 2.35, and in Lix (`daemon.cc`, `worker-protocol.hh`) from 2.90
//! to 2.95:
//!
//! | version | of | what it changed, of what is used here |
//! | --- | --- | --- |
//! | 1.21 | Nix 2.3 | the oldest that is spoken |
//! | 1.26 | Nix 2.4 (1.32) | errors are records, no longer a text and a status |
//! | 1.33 | Nix 2.7 | the daemon says which Nix it is |
//! | 1.34 | Nix 2.8 to 2.14 | nothing |
//! | 1.35 | Nix 2.15 to 2.19, all of Lix | the daemon says whether it trusts us |
//! | 1.37 | Nix 2.20 to 2.23 | nothing |
//! | 1.38 | Nix 2.24 to 2.35 | both sides list the features that they have |
//!
//! Since 1.38 Nix adds features instead of versions; none of those up to 2.35
//! changes what is used here, and so none is asked for. Lix stays at 1.35, and
//! since 2.94 refuses clients below it: so the newest version is offered, and
//! the older of both sides' is spoken.
//!
//! Each request is a number and its arguments. Before it answers a daemon may
//! send log lines and what it is doing, then that it is done, or an error. The
//! requests are sent ahead of the answers, which come in order: a daemon takes
//! one after the other, but needs no round trip between them.

mod connection;
mod messages;
mod socket;
mod wire;

use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::store::{PathInfo, StoreDir, StorePath};

pub use connection::{Connection, DaemonInfo};

use socket::Socket;

/// Where the daemon's socket is, below the root.
///
/// Source: `nixDaemonSocketFile` in NixOS/nix, `src/libstore/globals.cc` (2.8).
const SOCKET: &str = "nix/var/nix/daemon-socket/socket";

/// How long a daemon may be silent. It sends what it has as soon as it has it;
/// what takes longest is waiting for a lock of its database or for a slow disk.
const SILENCE: Duration = Duration::from_secs(60);

/// Connections that are kept for later; each is a process of the daemon.
const MAX_IDLE: usize = 16;

/// A Nix daemon behind a socket on this machine.
///
/// Connects when it is asked something, as often as it is asked from threads at
/// the same time, and keeps the connections. All its questions end within 100
/// milliseconds of `cx.cancel`, and fail if the daemon says nothing for a
/// minute. Memory is bounded, whatever the daemon sends.
pub struct Daemon {
    socket: PathBuf,
    store_dir: StoreDir,
    silence: Duration,
    idle: Mutex<Vec<Connection<Socket>>>,
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon")
            .field("socket", &self.socket)
            .field("store_dir", &self.store_dir)
            .finish_non_exhaustive()
    }
}

impl Daemon {
    /// Takes the daemon at `socket`, whose store paths are in `store_dir`. Does
    /// not connect yet.
    pub fn new(socket: impl Into<PathBuf>, store_dir: StoreDir) -> Self {
        Self {
            socket: socket.into(),
            store_dir,
            silence: SILENCE,
            idle: Mutex::default(),
        }
    }

    /// Returns where the socket of a daemon is by default: in
    /// `/nix/var/nix/daemon-socket`, below the root of its store if it has one.
    pub fn default_socket(store_root: Option<&Path>) -> PathBuf {
        store_root.unwrap_or(Path::new("/")).join(SOCKET)
    }

    /// Lets it be silent for so long, instead of a minute.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Returns where its socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the directory of its store paths.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// Returns what errors call it: `the Nix daemon at …`.
    pub fn name(&self) -> String {
        format!("the Nix daemon at {}", self.socket.display())
    }

    /// Returns what it said of itself; connects if need be.
    ///
    /// # Errors
    ///
    /// As all questions: [`ErrorKind::Daemon`](crate::ErrorKind::Daemon) if it
    /// cannot be reached, refuses, fails or makes no sense,
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub fn info(&self, cx: &Context) -> Result<DaemonInfo> {
        self.ask(cx, |connection| Ok(connection.info().clone()))
    }

    /// Returns whether it has a store path.
    pub fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        self.ask(cx, |connection| connection.has(&self.store_dir, path))
    }

    /// Returns what it knows of a store path; `None` if it does not have it.
    pub fn path_info(&self, cx: &Context, path: &StorePath) -> Result<Option<PathInfo>> {
        self.ask(cx, |connection| connection.path_info(&self.store_dir, path))
    }

    /// Returns what it knows of those of some store paths that it has, each once
    /// and in their order. Costs few round trips for many of them.
    pub fn path_infos(&self, cx: &Context, paths: &[StorePath]) -> Result<Vec<PathInfo>> {
        self.ask(cx, |connection| {
            connection.path_infos(cx, &self.store_dir, paths)
        })
    }

    /// Returns those of `roots` that it has and everything reachable from them,
    /// each path once; without `roots`, all of its store.
    pub fn closure(&self, cx: &Context, roots: &[StorePath]) -> Result<Vec<PathInfo>> {
        self.ask(cx, |connection| {
            connection.closure(cx, &self.store_dir, roots)
        })
    }

    /// Calls `read` with the NAR of a store path, which it must read to its end
    /// and not further: nothing tells where that is but the NAR itself.
    ///
    /// # Errors
    ///
    /// What `read` fails with, too. Reading fails with an
    /// [`Error`](crate::Error) in the [`io::Error`](std::io::Error).
    pub fn read_nar<T>(
        &self,
        cx: &Context,
        path: &StorePath,
        read: impl FnOnce(&mut dyn BufRead) -> Result<T>,
    ) -> Result<T> {
        let mut read = Some(read);
        self.ask(cx, |connection| {
            connection.read_nar(&self.store_dir, path, |nar| {
                let read = read.take();
                read.expect("a question with an answer is not asked again")(nar)
            })
        })
    }

    /// Asks over a connection, and keeps it if that went well: after an error it
    /// may stand in the middle of an answer.
    ///
    /// Asks once more if the connection is one that was kept and the daemon
    /// closes it without a word: it may have done so a moment before. No
    /// question changes anything.
    fn ask<T>(
        &self,
        cx: &Context,
        mut question: impl FnMut(&mut Connection<Socket>) -> Result<T>,
    ) -> Result<T> {
        cx.cancel.check()?;
        if let Some(mut connection) = self.take_idle() {
            connection.stream_mut().begin(&cx.cancel);
            let answer = question(&mut connection);
            let was_closed = connection.stream_mut().was_closed_before_an_answer();
            if answer.is_ok() || !was_closed {
                return self.keep(connection, answer);
            }
        }
        let name = self.socket.display().to_string();
        let socket = Socket::connect(&self.socket, &cx.cancel, self.silence)
            .map_err(|error| connection::failed(&name, "take a connection", error.into()))?;
        let mut connection = Connection::open(socket, name)?;
        let answer = question(&mut connection);
        self.keep(connection, answer)
    }

    /// Keeps a connection for later if it gave an answer.
    fn keep<T>(&self, connection: Connection<Socket>, answer: Result<T>) -> Result<T> {
        let answer = answer?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
        Ok(answer)
    }

    /// Returns a connection that is open still: the daemon may have been
    /// started anew.
    fn take_idle(&self) -> Option<Connection<Socket>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.stream_mut().is_quiet() {
                return Some(connection);
            }
        }
        None
    }
}
