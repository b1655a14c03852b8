//! The NAR of a store path, from whichever cache gives it.
//!
//! ```text
//! file ─ FileHash, FileSize ─ decoder ─ NarSize, NarHash, content address ─ reader
//! ```
//!
//! A cache that fails is left, and the next one that has the same NAR is read
//! up to the same place: whether the parts fit together is for the hash over
//! all of it to say.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::context::Context;
use crate::digest::Hasher;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ExpectedNar, NarHash, StorePath};

use super::address_check::AddressCheck;
use super::cache::{Cache, Known};
use super::checked_file::{CheckedFile, FileProblem};
use super::files::Started;
use super::trust::Voucher;
use super::{BinaryCaches, NarInfo};

/// Bytes that a decoder takes at once.
const BUFFER: usize = 64 << 10;

/// Bytes of an answer that may wait for who reads them, where nothing else is
/// said.
const AHEAD: usize = 1 << 20;

/// The bytes of a store path's NAR, which are checked on the way.
///
/// Its errors are of [`io::Error::other`] around an [`Error`]. Once it has
/// failed it fails again.
pub struct NarStream {
    all: Arc<BinaryCaches>,
    caches: Arc<[Cache]>,
    cx: Context,
    path: StorePath,
    nar_hash: NarHash,
    nar_size: u64,
    /// What the narinfo of the first part still wants to be checked.
    address: Option<AddressCheck>,
    /// What is read now.
    part: Option<Part>,
    /// Caches that are left, in the order in which they are tried.
    left: std::vec::IntoIter<usize>,
    /// What was wrong first.
    failure: Option<Error>,
    /// The caches that what was read came from.
    from: Vec<usize>,
    position: u64,
    hasher: Hasher,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// All of it was read and is right.
    Right,
    Failed,
}

/// A NAR as one cache gives it.
struct Part {
    cache: usize,
    /// Why the cache is believed.
    voucher: Voucher,
    decoder: Box<dyn Read + Send>,
    /// Set when all of the file was read and found to be right.
    file_is_right: Arc<AtomicBool>,
}

/// A NAR that a cache was asked for before somebody wants to read it.
pub(crate) struct Begun {
    known: Arc<Known>,
    started: Box<dyn Started>,
}

impl Begun {
    /// Asks for the NAR of a path if it is known who has it, and that it is
    /// the one that is expected, if any is. Does not wait for an answer; at most
    /// `ahead` bytes of it wait to be read. None if nothing can be gained.
    pub(crate) fn begin(
        cx: &Context,
        all: &BinaryCaches,
        path: &StorePath,
        expected: Option<ExpectedNar>,
        ahead: usize,
    ) -> Option<Self> {
        let known = all.remembered(path).flatten()?;
        let caches = all.caches(cx).ok()?;
        let cache = &caches[known.cache];
        let is_expected = expected.is_none_or(|nar| nar.nar_hash == known.info.nar_hash);
        if !is_expected || !cache.files.is_remote() || !cache.takes_ahead() {
            return None;
        }
        let started = start(cx, cache, &known.info, ahead)?;
        Some(Self { known, started })
    }

    /// Returns the number of the cache that was asked.
    pub(crate) fn number(&self) -> usize {
        self.known.cache
    }

    /// Waits for the cache at most so long, and returns whether it answered.
    pub(crate) fn is_answered_within(&self, limit: Duration) -> bool {
        self.started.is_answered_within(limit)
    }
}

impl NarStream {
    pub(super) fn open(
        cx: &Context,
        all: &Arc<BinaryCaches>,
        path: &StorePath,
        expected: Option<ExpectedNar>,
        begun: Option<Begun>,
    ) -> Result<Self> {
        let caches = all.caches(cx)?;
        let known = match &begun {
            Some(begun) => Arc::clone(&begun.known),
            None => all.known(cx, path)?.ok_or_else(|| ErrorKind::UnknownPath {
                path: all.store_dir().join(path),
                from: all.name(),
            })?,
        };
        let first = known.cache;
        let nar_hash = expected.map_or(known.info.nar_hash, |nar| nar.nar_hash);
        let nar_size = expected.and_then(|nar| nar.nar_size);
        let others = (0..caches.len()).filter(|number| *number != first);
        let left: Vec<usize> = std::iter::once(first).chain(others).collect();
        let mut stream = Self {
            all: Arc::clone(all),
            caches,
            cx: cx.clone(),
            path: path.clone(),
            nar_hash,
            nar_size: nar_size.unwrap_or(known.info.nar_size),
            address: None,
            part: None,
            left: left.into_iter(),
            failure: None,
            from: Vec::new(),
            position: 0,
            hasher: Hasher::new(),
            state: State::Reading,
        };
        stream.next_part(begun)?;
        Ok(stream)
    }

    /// Returns the bytes that the NAR has.
    pub fn nar_size(&self) -> u64 {
        self.nar_size
    }

    /// Returns the caches that what was read until now came from, as the user
    /// would name them.
    pub fn from(&self) -> String {
        let names: Vec<_> = self.from.iter().map(|n| &*self.caches[*n].name).collect();
        names.join(" and ")
    }

    /// Reads what is left, and says whether all of it is what it must be.
    ///
    /// # Errors
    ///
    /// Those of reading, [`ErrorKind::Nar`] above all.
    pub fn finish(mut self) -> Result<()> {
        let mut rest = vec![0; BUFFER];
        while self.pull(&mut rest)? > 0 {}
        Ok(())
    }

    /// Reads some of the NAR; 0 at its end, when it is known to be right.
    fn pull(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self.state {
            State::Right => return Ok(0),
            State::Failed => return Err(self.wrong("it failed before".to_owned())),
            State::Reading => {}
        }
        let pulled = self.pull_unchecked(buf);
        if let Err(error) = &pulled {
            self.state = State::Failed;
            self.part = None;
            // What is kept may be of another file of the same name.
            if matches!(error.kind(), ErrorKind::Nar { .. }) {
                for number in &self.from {
                    self.caches[*number].forget(&self.path);
                }
            }
        }
        pulled
    }

    fn pull_unchecked(&mut self, buf: &mut [u8]) -> Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            self.cx.cancel.check()?;
            let part = self
                .part
                .as_mut()
                .expect("a stream that did not fail has a part");
            let left = self.nar_size - self.position;
            // At the end one byte more, which must not be there.
            let mut beyond = [0];
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let target = if left == 0 {
                &mut beyond[..]
            } else {
                &mut buf[..wanted]
            };
            let failure = match part.decoder.read(target) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.explain(error),
                Ok(0) if left > 0 => self.wrong(format!(
                    "it ends after {} bytes, expected {}",
                    self.position, self.nar_size
                )),
                Ok(0) if part.file_is_right.load(Ordering::Acquire) => {
                    self.check()?;
                    self.state = State::Right;
                    self.part = None;
                    return Ok(0);
                }
                Ok(0) => self.wrong("more follows where its compression ends".to_owned()),
                Ok(_) if left == 0 => self.wrong(format!(
                    "it has more than the {} bytes it must have",
                    self.nar_size
                )),
                Ok(n) => {
                    self.hasher.update(&buf[..n]);
                    if let Some(address) = &mut self.address {
                        address.update(&buf[..n]);
                    }
                    self.position += n as u64;
                    return Ok(n);
                }
            };
            self.leave(failure)?;
        }
    }

    /// Leaves a cache that failed for the next one.
    fn leave(&mut self, failure: Error) -> Result<()> {
        if matches!(failure.kind(), ErrorKind::Cancelled) {
            return Err(failure);
        }
        let part = self.part.take();
        let cache = part.map(|part| part.cache);
        self.failure.get_or_insert(failure);
        self.next_part(None)?;
        if let (Some(number), Some(failure)) = (cache, &self.failure) {
            self.caches[number].broke_off(&self.cx, failure);
        }
        Ok(())
    }

    /// Opens the NAR at the next cache that has it, and skips what was read.
    fn next_part(&mut self, mut begun: Option<Begun>) -> Result<()> {
        while let Some(number) = self.left.next() {
            let failure = match self.part_of(number, begun.take()) {
                Ok(Some(part)) => {
                    // Nobody vouches for the hash but who gives the beginning:
                    // what is expected may be what another cache said of it.
                    if self.position == 0 {
                        self.address = match &part.voucher {
                            Voucher::NamedFrom(address) => Some(AddressCheck::new(address)),
                            Voucher::Signed | Voucher::Named => None,
                        };
                    }
                    self.part = Some(part);
                    if self.from.last() != Some(&number) {
                        self.from.push(number);
                    }
                    return Ok(());
                }
                Ok(None) => continue,
                Err(failure) => failure,
            };
            if matches!(failure.kind(), ErrorKind::Cancelled) {
                return Err(failure);
            }
            self.failure.get_or_insert(failure);
        }
        Err(match self.failure.take() {
            Some(failure) => failure,
            None => self.wrong("no cache gives it any more".to_owned()),
        })
    }

    /// Opens the NAR at one cache; None if the cache does not know the path.
    fn part_of(&self, number: usize, begun: Option<Begun>) -> Result<Option<Part>> {
        let cache = &self.caches[number];
        let (known, started) = match begun {
            Some(begun) => (begun.known, Some(begun.started)),
            None => match self.known_of(number, false)? {
                Some(known) => (known, None),
                None => return Ok(None),
            },
        };
        let opened = self.open_at(number, &known, started);
        // What was said a while ago may not hold any more.
        let is_old = |error: &Error| known.is_kept && matches!(error.kind(), ErrorKind::Nar { .. });
        match opened {
            Ok(Some(part)) => return Ok(Some(part)),
            Err(error) if !is_old(&error) => return Err(error),
            Ok(None) | Err(_) => {}
        }
        if known.is_kept {
            cache.forget(&self.path);
            if let Some(known) = self.known_of(number, true)?
                && let Some(part) = self.open_at(number, &known, None)?
            {
                self.all.correct(&self.path, &known);
                return Ok(Some(part));
            }
        }
        Err(ErrorKind::Answer {
            host: cache.name.clone(),
            action: self.action(),
            status: None,
            problem: format!(
                "it tells of the store path, but has no {}",
                known.info.url_without_query()
            ),
        }
        .into())
    }

    /// Returns what one cache says of the path, now or before.
    fn known_of(&self, number: usize, again: bool) -> Result<Option<Arc<Known>>> {
        let cache = &self.caches[number];
        if !again {
            let remembered = self.all.remembered(&self.path).flatten();
            if let Some(known) = remembered.filter(|known| known.cache == number) {
                return Ok(Some(known));
            }
            if let Some(kept) = cache.kept(number, &self.path) {
                return Ok(kept.map(Arc::new));
            }
            if cache.is_down() {
                return Ok(None);
            }
        }
        let answer = cache.get(&self.cx, cache.wanted(&self.path));
        let known = answer.and_then(|bytes| cache.take(&self.cx, number, &self.path, bytes));
        if let Err(error) = &known
            && !matches!(error.kind(), ErrorKind::Cancelled)
            && self.caches.len() > 1
        {
            cache.failed(&self.cx, error);
        }
        Ok(known?.map(Arc::new))
    }

    /// Opens the NAR at one cache and skips what was read; None if it is not
    /// there.
    fn open_at(
        &self,
        number: usize,
        known: &Known,
        started: Option<Box<dyn Started>>,
    ) -> Result<Option<Part>> {
        let cache = &self.caches[number];
        let info = &known.info;
        if info.nar_hash != self.nar_hash {
            return Err(self.wrong_at(
                number,
                format!(
                    "its hash is said to be {}, expected {}",
                    info.nar_hash, self.nar_hash
                ),
            ));
        }
        if info.nar_size != self.nar_size {
            return Err(self.wrong_at(
                number,
                format!(
                    "it is said to have {} bytes, expected {}",
                    info.nar_size, self.nar_size
                ),
            ));
        }
        let started = match started {
            Some(started) => started,
            None => start(&self.cx, cache, info, AHEAD).ok_or_else(|| {
                let url = info.url_without_query();
                let problem = format!("its address is {url}, expected one in the folder");
                self.wrong_at(number, problem)
            })?,
        };
        let Some(input) = started.open()? else {
            return Ok(None);
        };
        let file = CheckedFile::new(&self.cx, input, cache.files.is_remote(), info)
            .map_err(|problem| self.wrong_at(number, problem))?;
        let file_is_right = file.is_right();
        let file = BufReader::with_capacity(BUFFER, file);
        let mut decoder = info.compression.decoder(file)?;
        self.skip(number, &mut decoder)?;
        Ok(Some(Part {
            cache: number,
            voucher: known.voucher.clone(),
            decoder,
            file_is_right,
        }))
    }

    /// Skips what another cache gave.
    fn skip(&self, number: usize, decoder: &mut dyn Read) -> Result<()> {
        let mut left = self.position;
        let mut buffer = vec![0; if left == 0 { 0 } else { BUFFER }];
        while left > 0 {
            self.cx.cancel.check()?;
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            match decoder.read(&mut buffer[..wanted]) {
                Ok(0) => {
                    let read = self.position - left;
                    let problem = format!("it ends after {read} bytes, expected {}", self.nar_size);
                    return Err(self.wrong_at(number, problem));
                }
                Ok(n) => left -= n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain_at(number, error)),
            }
        }
        Ok(())
    }

    /// Says whether what was read is what it must be.
    fn check(&mut self) -> Result<()> {
        let found = std::mem::take(&mut self.hasher).finish();
        let found = NarHash::new(*found.as_bytes());
        if found != self.nar_hash {
            return Err(self.wrong(format!("its hash is {found}, expected {}", self.nar_hash)));
        }
        match self.address.take().map(AddressCheck::finish) {
            Some(Err(problem)) => Err(self.wrong(problem)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn action(&self) -> String {
        format!("give the NAR of {}", self.all.store_dir().join(&self.path))
    }

    /// Makes an error of what is wrong with what was read.
    fn wrong(&self, problem: String) -> Error {
        self.wrong_from(self.from(), problem)
    }

    fn wrong_at(&self, number: usize, problem: String) -> Error {
        self.wrong_from(self.caches[number].name.clone(), problem)
    }

    fn wrong_from(&self, from: String, problem: String) -> Error {
        ErrorKind::Nar {
            from,
            path: self.all.store_dir().join(&self.path),
            problem,
        }
        .into()
    }

    /// Makes an error of one of reading.
    fn explain(&self, error: io::Error) -> Error {
        let number = self.part.as_ref().map_or(0, |part| part.cache);
        self.explain_at(number, error)
    }

    fn explain_at(&self, number: usize, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => {
                let problem = match error
                    .get_ref()
                    .and_then(|e| e.downcast_ref::<FileProblem>())
                {
                    Some(FileProblem(problem)) => problem.clone(),
                    None => format!("it cannot be decompressed: {error}"),
                };
                self.wrong_at(number, problem)
            }
        }
    }
}

impl Read for NarStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.pull(buf).map_err(io::Error::other)
    }
}

/// Asks a cache for the file of a NAR; None if its address is not in the cache
/// and the cache is a folder.
fn start(cx: &Context, cache: &Cache, info: &NarInfo, ahead: usize) -> Option<Box<dyn Started>> {
    if info.url_is_absolute() && !cache.files.is_remote() {
        return None;
    }
    let action = format!("give the NAR of {}", cache.store_dir.join(&info.path));
    Some(cache.files.start(cx, &info.url, &action, ahead))
}

#[cfg(test)]
#[path = "nar_stream_tests.rs"]
mod tests;
