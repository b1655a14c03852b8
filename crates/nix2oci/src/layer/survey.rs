//! What is in a layer, found by reading all of it once.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use crate::context::Context;
use crate::digest::{DiffId, Digest, DigestReader};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{StoreDir, StorePath};

use super::decompress::{Codec, Decoder, TrailingBytes};
use super::entries::EntryVisitor;
use super::mode_rules::ModeRules;
use super::tar_read::{Member, MemberKind, Reading, Skip, TarError, TarReader};
use super::tar_rules::{LayerProblem, TarRules};

/// How the name of a file begins that deletes the one of the rest of its name.
const WHITEOUT: &[u8] = b".wh.";
/// The name of a file that deletes all that lower layers have in its directory.
const WHITEOUT_OF_ALL: &[u8] = b".wh..wh..opq";

/// What was found in a layer's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSurvey {
    /// The digest of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// How it is compressed, by its first bytes.
    pub codec: Codec,
    /// The digest and the bytes of the tar, unless it cannot be decompressed.
    pub tar: Option<(DiffId, u64)>,
    /// What its entries are.
    pub entries: EntryCounts,
    /// The store paths that have entries in it.
    pub store_paths: BTreeSet<StorePath>,
    /// The first path that takes all store paths of the layers below away: it
    /// is where the store directory is or above it and no directory, or a
    /// whiteout of that.
    pub hides_store: Option<String>,
    /// What is wrong with its bytes, in the order of the tar as far as
    /// possible.
    pub problems: Vec<LayerProblem>,
}

/// How many entries of each kind a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryCounts {
    /// Regular files, without whiteouts.
    pub files: u64,
    /// Bytes of their content.
    pub file_bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Hard links.
    pub hard_links: u64,
    /// Whiteouts: marks that delete what lower layers have.
    pub whiteouts: u64,
}

/// Reads a layer's blob to its end, whatever is wrong with it.
///
/// Costs one pass over the blob with two hashes. Memory does not grow with the
/// bytes, only by about 30 bytes an entry.
///
/// # Errors
///
/// Fails if `blob` does, and not because of what its bytes say, which is in
/// [`LayerSurvey::problems`]. An error of `blob` should carry an [`Error`].
pub fn survey(cx: &Context, store_dir: &StoreDir, blob: impl Read) -> Result<LayerSurvey> {
    survey_with(cx, store_dir, blob, &mut Nobody)
}

/// Sees nothing.
struct Nobody;

impl EntryVisitor for Nobody {
    fn entry(&mut self, _: &Member, _: &[u8]) -> bool {
        false
    }

    fn contents(&mut self, _: &[u8]) {}
}

/// The same, and shows `visitor` every entry that is counted. What it is shown
/// of a layer that turns out to be broken is the part that could be read.
pub(crate) fn survey_with(
    cx: &Context,
    store_dir: &StoreDir,
    blob: impl Read,
    visitor: &mut dyn EntryVisitor,
) -> Result<LayerSurvey> {
    let (codec, whole) = sniffed(blob)?;
    let whole = DigestReader::new(whole);
    let raw = BufReader::with_capacity(128 << 10, whole);
    let stream = DigestReader::new(Tolerant::new(Decoder::new(codec, raw)?, cx));
    let mut tar = TarReader::new(Reading(stream));
    let mut rules = TarRules::default();
    let store_prefix = &store_dir.as_str()[1..];
    let mut modes = ModeRules::new(store_prefix);
    let mut contents = Vec::new();
    let mut found = Found {
        store_prefix,
        entries: EntryCounts::default(),
        store_paths: BTreeSet::new(),
        hides_store: None,
        last_name: Vec::new(),
    };
    let mut broken = None;
    let mut undecodable = None;
    loop {
        let stop = match tar.next_member() {
            Ok(Some(member)) => {
                let Some(path) = rules.entry(&member) else {
                    continue;
                };
                found.take(&member, &path);
                modes.entry(&member, &path);
                if !visitor.entry(&member, &path) {
                    continue;
                }
                contents.resize(CONTENTS, 0);
                match show_contents(&mut tar, &mut contents, visitor) {
                    Ok(()) => continue,
                    Err(error) => error,
                }
            }
            Ok(None) => break,
            Err(error) => error,
        };
        match stop {
            TarError::Io(error) => undecodable = Some(decoding(error)?),
            TarError::Broken { offset, problem } => {
                broken = Some(LayerProblem::BrokenTar { offset, problem });
            }
        }
        break;
    }
    // The digests are of all bytes, whatever they are.
    let mut end = None;
    if undecodable.is_none() {
        match tar.finish() {
            Ok(found) => end = Some(found),
            Err(error) => undecodable = Some(decoding(error)?),
        }
    }
    let (tolerant, diff_id, uncompressed_size) = tar.into_inner().0.finish();
    let mut raw = tolerant.inner.into_inner();
    drain(cx, &mut raw)?;
    let (_, digest, size) = raw.into_inner().finish();

    let judged_end = end.filter(|_| broken.is_none());
    let mut problems = rules.finish(judged_end);
    problems.extend(modes.finish());
    problems.extend(broken);
    problems.extend(
        tolerant
            .has_trailing_bytes
            .then_some(LayerProblem::TrailingBytes { codec }),
    );
    let is_whole = undecodable.is_none();
    problems.extend(undecodable.map(|problem| LayerProblem::Undecodable { codec, problem }));
    Ok(LayerSurvey {
        digest,
        size,
        codec,
        tar: is_whole.then_some((DiffId::new(diff_id), uncompressed_size)),
        entries: found.entries,
        store_paths: found.store_paths,
        hides_store: found.hides_store,
        problems,
    })
}

/// Bytes of a file that are shown at once.
const CONTENTS: usize = 64 << 10;

/// Shows the contents of the last entry.
fn show_contents<R: Skip>(
    tar: &mut TarReader<R>,
    buffer: &mut [u8],
    visitor: &mut dyn EntryVisitor,
) -> Result<(), TarError> {
    loop {
        match tar.read_content(buffer)? {
            0 => return Ok(()),
            n => visitor.contents(&buffer[..n]),
        }
    }
}

/// Reads a stream to its end.
pub(super) fn drain(cx: &Context, raw: &mut impl BufRead) -> Result<()> {
    loop {
        cx.cancel.check()?;
        let n = raw.fill_buf().map_err(below)?.len();
        if n == 0 {
            return Ok(());
        }
        raw.consume(n);
    }
}

/// Finds out by its first bytes how a blob is compressed; returns all of it.
pub(super) fn sniffed(mut blob: impl Read) -> Result<(Codec, impl Read)> {
    let mut head = Vec::with_capacity(Codec::MAGIC_LEN);
    blob.by_ref()
        .take(Codec::MAGIC_LEN as u64)
        .read_to_end(&mut head)
        .map_err(below)?;
    Ok((Codec::sniff(&head), io::Cursor::new(head).chain(blob)))
}

/// Takes the error of the stream below.
pub(super) fn below(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => ErrorKind::ReadInput {
            path: "a layer".into(),
            source,
        }
        .into(),
    }
}

/// Returns what a decoder said, or the error of the stream below it.
pub(super) fn decoding(error: io::Error) -> Result<String> {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};

    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof if !carries::<Error>(&error) => {
            Ok(error.to_string())
        }
        _ => Err(below(error)),
    }
}

/// Returns whether an I/O error was made of an `E`.
fn carries<E: std::error::Error + 'static>(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else {
        return false;
    };
    inner.is::<E>()
}

/// A decoder that can be cancelled, and for which bytes after the end are no
/// failure.
pub(super) struct Tolerant<'a, R: BufRead> {
    inner: Decoder<R>,
    cx: &'a Context,
    has_trailing_bytes: bool,
}

impl<'a, R: BufRead> Tolerant<'a, R> {
    pub(super) fn new(inner: Decoder<R>, cx: &'a Context) -> Self {
        Self {
            inner,
            cx,
            has_trailing_bytes: false,
        }
    }

    /// Returns the compressed bytes that were not read.
    pub(super) fn into_inner(self) -> R {
        self.inner.into_inner()
    }
}

impl<R: BufRead> Read for Tolerant<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.cx.cancel.check().map_err(io::Error::other)?;
        match self.inner.read(buf) {
            Err(error) if carries::<TrailingBytes>(&error) => {
                self.has_trailing_bytes = true;
                Ok(0)
            }
            result => result,
        }
    }
}

/// What the entries add up to.
struct Found<'a> {
    /// The store directory without its first slash.
    store_prefix: &'a str,
    entries: EntryCounts,
    store_paths: BTreeSet<StorePath>,
    hides_store: Option<String>,
    /// The last name in the store directory: most entries share it.
    last_name: Vec<u8>,
}

impl Found<'_> {
    /// Takes an entry with its normal path.
    fn take(&mut self, member: &Member, path: &[u8]) {
        let entries = &mut self.entries;
        match member.kind {
            MemberKind::File => {
                let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
                if name.starts_with(WHITEOUT) {
                    entries.whiteouts += 1;
                } else {
                    entries.files += 1;
                    entries.file_bytes = entries.file_bytes.saturating_add(member.size);
                }
            }
            MemberKind::Directory => entries.directories += 1,
            MemberKind::Symlink => entries.symlinks += 1,
            MemberKind::HardLink => entries.hard_links += 1,
            MemberKind::Other(_) => {}
        }
        // The whiteout of a path is at most so much longer.
        let longest = self.store_prefix.len() + WHITEOUT_OF_ALL.len() + 1;
        if member.kind != MemberKind::Directory
            && path.len() <= longest
            && self.hides_store.is_none()
            && is_at_or_above(&covered(path), self.store_prefix.as_bytes())
        {
            self.hides_store = Some(String::from_utf8_lossy(path).into_owned());
        }
        if let Some(name) = path
            .strip_prefix(self.store_prefix.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"))
            .and_then(|rest| rest.split(|&b| b == b'/').next())
            && name != self.last_name
        {
            self.last_name = name.to_vec();
            let parsed = std::str::from_utf8(name).ok().map(str::parse);
            self.store_paths
                .extend(parsed.and_then(std::result::Result::ok));
        }
    }
}

/// Returns the path of the lower layers that an entry which is no directory
/// takes away: its own, or what it deletes as a whiteout.
fn covered(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let (directory, name) = path.split_at(at);
    match name.strip_prefix(WHITEOUT) {
        _ if name == WHITEOUT_OF_ALL => directory.strip_suffix(b"/").unwrap_or(directory).to_vec(),
        Some(name) => [directory, name].concat(),
        None => path.to_vec(),
    }
}

/// Returns whether `path` is `other` or a directory above it; the empty path is
/// the root.
fn is_at_or_above(path: &[u8], other: &[u8]) -> bool {
    other
        .strip_prefix(path)
        .is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}
