//! One conversation with a daemon.

use std::collections::{HashSet, VecDeque};
use std::fmt::Display;
use std::io::{self, BufRead, Read, Write};

use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{PathInfo, StoreDir, StorePath};

use super::messages::{self, wait_for_answer};
use super::wire::{Fault, Wire, brief, nonsense};

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;

/// The only major version there ever was.
const MAJOR: u64 = 1;
/// The oldest minor version that is spoken: Nix 2.3.
const OLDEST: u8 = 21;
/// The newest one, which we offer.
const NEWEST: u8 = 38;
const TELLS_NIX_VERSION: u8 = 33;
const TELLS_TRUST: u8 = 35;
const HAS_FEATURES: u8 = 38;

const IS_VALID_PATH: u64 = 1;
const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;
const NAR_FROM_PATH: u64 = 38;

/// The most bytes of an answer, with what is said before it. References are
/// what is long in one: this is room for more than 200,000 of them.
const MAX_ANSWER: u64 = 16 << 20;
/// The most bytes of the list of all paths: more than two million of them.
const MAX_ALL_PATHS: u64 = 256 << 20;

/// The most bytes of all answers of a closure: about a million store paths.
const MAX_CLOSURE: u64 = 1 << 30;

/// Requests that are sent ahead of their answers. So many fit into what the
/// system buffers for a socket, even with the longest names: a daemon that
/// cannot send before it is read never keeps us from sending.
const MAX_AHEAD: usize = 128;

/// Bytes at the end of a NAR in which a daemon's error is looked for; it may be
/// there twice.
const TAIL: usize = 4 << 10;

/// How many paths are reported at once.
const PROGRESS: usize = 256;

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaemonInfo {
    /// The minor version of the protocol that both sides speak; the major one
    /// is 1.
    pub protocol_minor: u8,
    /// Its version of Nix, if it tells it (since Nix 2.7).
    pub nix_version: Option<String>,
}

/// A conversation with a Nix daemon, over any stream.
///
/// After an error it may stand in the middle of an answer: it is of no more use
/// then.
pub struct Connection<S> {
    wire: Wire<S>,
    name: String,
    info: DaemonInfo,
}

impl<S: Read + Write> Connection<S> {
    /// Greets the daemon that `stream` leads to; errors call its socket `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Daemon`] if it is none, is too old, or refuses. An
    /// [`Error`] in an [`io::Error`] of the stream comes out as it is, here and
    /// everywhere else.
    pub fn open(stream: S, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let mut wire = Wire::new(stream);
        match greet(&mut wire) {
            Ok(info) => Ok(Self { wire, name, info }),
            Err(fault) => Err(failed(&name, "answer the greeting", fault)),
        }
    }

    /// Returns what it said of itself.
    pub fn info(&self) -> &DaemonInfo {
        &self.info
    }

    /// Returns whether it has a store path.
    pub fn has(&mut self, store_dir: &StoreDir, path: &StorePath) -> Result<bool> {
        let full = store_dir.join(path);
        self.ask(IS_VALID_PATH, &full)
            .and_then(|()| self.truth(MAX_ANSWER))
            .map_err(|fault| self.failed(format!("say whether it has {full}"), fault))
    }

    /// Returns what it knows of a store path; `None` if it does not have it.
    pub fn path_info(
        &mut self,
        store_dir: &StoreDir,
        path: &StorePath,
    ) -> Result<Option<PathInfo>> {
        self.ask(QUERY_PATH_INFO, &store_dir.join(path))
            .and_then(|()| self.path_info_answer(store_dir, path, MAX_ANSWER))
            .map_err(|fault| self.failed(describing(store_dir, path), fault))
    }

    /// Returns those of `roots` that it has and everything reachable from them,
    /// each path once; without `roots`, all of its store.
    ///
    /// Asks ahead: as many questions as are known are under way at a time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Daemon`]; also if it does not have a path that another one
    /// refers to.
    pub fn closure(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        roots: &[StorePath],
    ) -> Result<Vec<PathInfo>> {
        let roots = if roots.is_empty() {
            self.all_paths(store_dir)?
        } else {
            roots.to_vec()
        };
        self.walk(cx, store_dir, roots, Follow::References)
    }

    /// Returns what it knows of those of some store paths that it has, each once
    /// and in their order. Asks ahead as for a closure.
    pub fn path_infos(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        paths: &[StorePath],
    ) -> Result<Vec<PathInfo>> {
        self.walk(cx, store_dir, paths.to_vec(), Follow::Nothing)
    }

    fn walk(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        roots: Vec<StorePath>,
        follow: Follow,
    ) -> Result<Vec<PathInfo>> {
        let mut walk = Walk::default();
        for root in roots {
            walk.add(root, None);
        }
        let mut infos: Vec<PathInfo> = Vec::new();
        let mut left = MAX_CLOSURE;
        loop {
            cx.cancel.check()?;
            self.ask_ahead(store_dir, &mut walk)?;
            let Some((path, referrer)) = walk.asked.pop_front() else {
                break;
            };
            let most = left.min(MAX_ANSWER);
            let found = self.path_info_answer(store_dir, &path, most);
            left -= most - self.wire.left();
            let fail = |fault| self.failed(describing(store_dir, &path), fault);
            match (found.map_err(fail)?, referrer) {
                (Some(info), _) => {
                    if follow == Follow::References {
                        for reference in &info.references {
                            walk.add(reference.clone(), Some(infos.len()));
                        }
                    }
                    infos.push(info);
                    if follow == Follow::References && infos.len().is_multiple_of(PROGRESS) {
                        let paths = infos.len();
                        cx.observer.event(&Event::ClosureProgress { paths });
                    }
                }
                (None, Some(referrer)) => {
                    let referrer = store_dir.join(&infos[referrer].path);
                    let problem = format!("it does not have it, though {referrer} refers to it");
                    let fault = Fault::Nonsense(problem);
                    return Err(self.failed(describing(store_dir, &path), fault));
                }
                // A root that another source may know, or a path that was
                // deleted since all were listed.
                (None, None) => {}
            }
        }
        Ok(infos)
    }

    /// Calls `read` with the NAR of a store path, which it must read to its end
    /// and not further: nothing tells where that is but the NAR itself.
    ///
    /// A daemon that fails puts its error into the middle of the NAR, even if it
    /// does not have the path at all, and closes the connection. Nothing tells
    /// it from the NAR, and in a file's contents `read` may well take it for
    /// them: the NAR hash must be checked. If `read` fails over it, or over the
    /// end after it, the daemon's error is told instead.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Daemon`], and what `read` fails with. Reading fails with an
    /// [`Error`] in the [`io::Error`].
    pub fn read_nar<T>(
        &mut self,
        store_dir: &StoreDir,
        path: &StorePath,
        read: impl FnOnce(&mut dyn BufRead) -> Result<T>,
    ) -> Result<T> {
        let full = store_dir.join(path);
        let action = format!("send the content of {full}");
        self.wire.allow(MAX_ANSWER);
        self.ask(NAR_FROM_PATH, &full)
            .and_then(|()| wait_for_answer(&mut self.wire, self.info.protocol_minor))
            .map_err(|fault| self.failed(&action, fault))?;
        let mut nar = Nar {
            stream: self.wire.stream_mut(),
            name: &self.name,
            action: &action,
            tail: Vec::new(),
            has_ended: false,
        };
        let result = read(&mut nar);
        let (tail, has_ended) = (nar.tail, nar.has_ended);
        let Err(error) = result else {
            return result;
        };
        let minor = self.info.protocol_minor;
        let told = if has_ended {
            messages::error_in(&tail, minor)
        } else if tail.ends_with(&messages::ERROR.to_le_bytes()) {
            let (Ok(fault) | Err(fault)) = messages::error(&mut self.wire, minor);
            Some(fault)
        } else {
            None
        };
        Err(match told {
            Some(fault) => self.failed(action, fault),
            None => error,
        })
    }

    /// Returns the stream, for its owner.
    pub(super) fn stream_mut(&mut self) -> &mut S {
        self.wire.stream_mut().get_mut()
    }

    fn all_paths(&mut self, store_dir: &StoreDir) -> Result<Vec<StorePath>> {
        self.all_paths_answer(store_dir)
            .map_err(|fault| self.failed("list its store paths", fault))
    }

    fn all_paths_answer(
        &mut self,
        store_dir: &StoreDir,
    ) -> std::result::Result<Vec<StorePath>, Fault> {
        self.wire.put_number(QUERY_ALL_VALID_PATHS);
        self.wire.send()?;
        self.wire.allow(MAX_ALL_PATHS);
        wait_for_answer(&mut self.wire, self.info.protocol_minor)?;
        self.paths(store_dir, "one of its paths")
    }

    /// Asks for paths that are known, until enough are under way.
    fn ask_ahead(&mut self, store_dir: &StoreDir, walk: &mut Walk) -> Result<()> {
        // Few long writes instead of one for each answer.
        if walk.asked.len() > MAX_AHEAD / 2 || walk.known.is_empty() {
            return Ok(());
        }
        while walk.asked.len() < MAX_AHEAD
            && let Some((path, referrer)) = walk.known.pop_front()
        {
            self.wire.put_number(QUERY_PATH_INFO);
            self.wire.put_string(&store_dir.join(&path));
            walk.asked.push_back((path, referrer));
        }
        self.wire
            .send()
            .map_err(|fault| self.failed("tell of store paths", fault))
    }

    fn ask(&mut self, request: u64, full_path: &str) -> std::result::Result<(), Fault> {
        self.wire.put_number(request);
        self.wire.put_string(full_path);
        self.wire.send()
    }

    fn truth(&mut self, most: u64) -> std::result::Result<bool, Fault> {
        self.wire.allow(most);
        wait_for_answer(&mut self.wire, self.info.protocol_minor)?;
        Ok(self.wire.number()? != 0)
    }

    /// Reads the answer to [`QUERY_PATH_INFO`], of `most` bytes.
    fn path_info_answer(
        &mut self,
        store_dir: &StoreDir,
        path: &StorePath,
        most: u64,
    ) -> std::result::Result<Option<PathInfo>, Fault> {
        if !self.truth(most)? {
            return Ok(None);
        }
        let deriver = self.wire.text()?;
        let nar_hash = self.wire.text()?;
        let nar_hash = parse("the NAR hash", nar_hash.parse())?;
        let references = self.paths(store_dir, "a reference")?;
        let mut info = PathInfo::new(path.clone(), references);
        info.nar_hash = Some(nar_hash);
        if !deriver.is_empty() {
            info.deriver = Some(parse("the deriver", store_dir.parse_path(&deriver))?);
        }
        // When it was registered.
        self.wire.number()?;
        // No NAR is empty; 0 stands for a size that is not known.
        info.nar_size = Some(self.wire.number()?).filter(|size| *size != 0);
        // Whether it was built here, signatures, and whether it is
        // content-addressed.
        self.wire.number()?;
        for _ in 0..self.wire.number()? {
            self.wire.bytes()?;
        }
        self.wire.bytes()?;
        Ok(Some(info))
    }

    fn paths(
        &mut self,
        store_dir: &StoreDir,
        what: &str,
    ) -> std::result::Result<Vec<StorePath>, Fault> {
        let mut paths = Vec::new();
        for _ in 0..self.wire.number()? {
            let text = self.wire.text()?;
            paths.push(parse(what, store_dir.parse_path(&text))?);
        }
        Ok(paths)
    }

    fn failed(&self, action: impl Into<String>, fault: Fault) -> Error {
        failed(&self.name, action, fault)
    }
}

/// Says hello and learns who is there.
fn greet<S: Read + Write>(wire: &mut Wire<S>) -> std::result::Result<DaemonInfo, Fault> {
    wire.allow(MAX_ANSWER);
    wire.put_number(CLIENT_MAGIC);
    wire.send()?;
    let magic = wire.number()?;
    if magic != DAEMON_MAGIC {
        return nonsense(format!("it says {magic:#x}, and so is no Nix daemon"));
    }
    let version = wire.number()?;
    let theirs = match (version >> 8, version & 0xff) {
        (MAJOR, minor) if minor >= u64::from(OLDEST) => minor,
        (major, minor) => {
            return nonsense(format!(
                "it speaks version {major}.{minor} of the protocol, expected {MAJOR}.{OLDEST} \
                 (Nix 2.3) or a newer {MAJOR}"
            ));
        }
    };
    let minor = u8::try_from(theirs).map_or(NEWEST, |theirs| theirs.min(NEWEST));
    wire.put_number(MAJOR << 8 | u64::from(NEWEST));
    if minor >= HAS_FEATURES {
        // We have none.
        wire.put_number(0);
        wire.send()?;
        for _ in 0..wire.number()? {
            wire.bytes()?;
        }
    }
    // The processor to run on, and whether to reserve space: both obsolete.
    wire.put_number(0);
    wire.put_number(0);
    wire.send()?;
    let nix_version = if minor >= TELLS_NIX_VERSION {
        Some(brief(&wire.text()?))
    } else {
        None
    };
    if minor >= TELLS_TRUST {
        let trust = wire.number()?;
        if trust > 2 {
            return nonsense(format!("its trust is {trust}, expected 0, 1 or 2"));
        }
    }
    wait_for_answer(wire, minor)?;
    Ok(DaemonInfo {
        protocol_minor: minor,
        nix_version,
    })
}

/// Which paths are asked for besides those that are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// All that they refer to, and so on.
    References,
    /// None.
    Nothing,
}

/// The way through a closure.
#[derive(Default)]
struct Walk {
    seen: HashSet<StorePath>,
    /// To be asked for, with the number of the first referrer.
    known: VecDeque<(StorePath, Option<usize>)>,
    /// Asked for, and not answered yet.
    asked: VecDeque<(StorePath, Option<usize>)>,
}

impl Walk {
    fn add(&mut self, path: StorePath, referrer: Option<usize>) {
        if self.seen.insert(path.clone()) {
            self.known.push_back((path, referrer));
        }
    }
}

/// A NAR, and perhaps an error in it.
struct Nar<'a, R> {
    stream: &'a mut R,
    name: &'a str,
    action: &'a str,
    /// The last [`TAIL`] bytes that were read, or some more.
    tail: Vec<u8>,
    /// Whether the daemon closed the connection.
    has_ended: bool,
}

/// Keeps the end of what was read.
fn keep(tail: &mut Vec<u8>, read: &[u8]) {
    if tail.len() >= 2 * TAIL {
        tail.drain(..tail.len() - TAIL);
    }
    tail.extend_from_slice(&read[read.len().saturating_sub(TAIL)..]);
}

impl<R> Nar<'_, R> {
    fn failed(&self, error: io::Error) -> io::Error {
        match error.kind() {
            // Whoever reads tries again.
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(failed(self.name, self.action, Fault::Stream(error))),
        }
    }
}

impl<R: BufRead> Read for Nar<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match self.stream.read(buf) {
            Ok(n) => n,
            Err(error) => return Err(self.failed(error)),
        };
        self.has_ended |= n == 0 && !buf.is_empty();
        keep(&mut self.tail, &buf[..n]);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Nar<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Twice, because what the first one returns would keep the error from
        // being looked at.
        match self.stream.fill_buf() {
            Ok(shown) => self.has_ended |= shown.is_empty(),
            Err(error) => return Err(self.failed(error)),
        }
        self.stream.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What was shown is there still: nothing is read for it again.
        if let (1.., Ok(shown)) = (amount, self.stream.fill_buf()) {
            keep(&mut self.tail, &shown[..amount]);
        }
        self.stream.consume(amount);
    }
}

fn describing(store_dir: &StoreDir, path: &StorePath) -> String {
    format!("tell of {}", store_dir.join(path))
}

fn parse<T, E: Display>(
    what: &str,
    parsed: std::result::Result<T, E>,
) -> std::result::Result<T, Fault> {
    parsed.or_else(|error| nonsense(format!("{what}: {error}")))
}

/// Makes the error of a fault.
pub(super) fn failed(name: &str, action: impl Into<String>, fault: Fault) -> Error {
    let (problem, source) = match fault {
        Fault::Stream(error) => match error.downcast::<Error>() {
            Ok(error) => return error,
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe => ("it closed the connection".to_owned(), None),
                io::ErrorKind::TimedOut => (error.to_string(), None),
                _ => ("its socket cannot be used".to_owned(), Some(error)),
            },
        },
        Fault::Nonsense(problem) => (problem, None),
        Fault::Told(reason) => (format!("it says: {reason}"), None),
    };
    ErrorKind::Daemon {
        socket: name.to_owned(),
        action: action.into(),
        problem,
        source,
    }
    .into()
}
