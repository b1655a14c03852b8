//! The NAR serialisation of what is visited: its hash and its size.
//!
//! Source: the grammar in the Nix manual, "Nix Archive (NAR) format". Strings
//! are their length in 8 bytes, little end first, their bytes, and zeroes up
//! to a multiple of 8.

use crate::closure::Closure;
use crate::context::Context;
use crate::digest::Hasher;
use crate::error::Result;
use crate::store::{NarHash, StorePath};

use super::{ContentSource, Entry};

/// Makes the NAR of objects given in NAR's order, and keeps its hash and size.
#[derive(Debug)]
pub(super) struct NarHasher {
    /// None to count only.
    hasher: Option<Hasher>,
    size: u64,
    /// Directories that are open, the store path itself included.
    open: usize,
}

impl NarHasher {
    /// Hashes and counts.
    pub(super) fn new() -> Self {
        Self::start(Some(Hasher::new()))
    }

    fn start(hasher: Option<Hasher>) -> Self {
        let mut nar = Self {
            hasher,
            size: 0,
            open: 0,
        };
        nar.string(b"nix-archive-1");
        nar
    }

    /// Takes an object but for a file's contents, which follow through
    /// [`NarHasher::contents`], and [`NarHasher::end_file`].
    pub(super) fn entry(&mut self, entry: &Entry<'_>) {
        let path = entry.path();
        if !path.is_empty() {
            // A path of n names is in n directories: close those it is not in.
            let depth = path.iter().filter(|b| **b == b'/').count() + 1;
            self.close_directories(depth);
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            self.strings(&[b"entry", b"(", b"name", name, b"node"]);
        }
        self.strings(&[b"(", b"type"]);
        match entry {
            Entry::Directory { .. } => {
                self.string(b"directory");
                self.open += 1;
            }
            Entry::Symlink { target, .. } => {
                self.strings(&[b"symlink", b"target", target, b")"]);
                self.end_entry();
            }
            Entry::File {
                executable, size, ..
            } => {
                self.string(b"regular");
                if *executable {
                    self.strings(&[b"executable", b""]);
                }
                self.string(b"contents");
                self.raw(&size.to_le_bytes());
            }
        }
    }

    /// Takes a part of a file's contents.
    pub(super) fn contents(&mut self, bytes: &[u8]) {
        self.raw(bytes);
    }

    /// Ends a file of `size` bytes.
    pub(super) fn end_file(&mut self, size: u64) {
        self.pad(size);
        self.string(b")");
        self.end_entry();
    }

    /// Returns the hash, if there is one, and the size.
    fn finish(mut self) -> (Option<Hasher>, u64) {
        self.close_directories(0);
        (self.hasher, self.size)
    }

    /// Returns the NAR hash of all that was taken.
    pub(super) fn finish_hash(self) -> NarHash {
        let (hasher, _) = self.finish();
        let digest = hasher.unwrap_or_default().finish();
        NarHash::new(*digest.as_bytes())
    }

    fn close_directories(&mut self, depth: usize) {
        while self.open > depth {
            self.string(b")");
            self.open -= 1;
            self.end_entry();
        }
    }

    /// Ends the object's entry in its directory, if it is in one.
    fn end_entry(&mut self) {
        if self.open > 0 {
            self.string(b")");
        }
    }

    fn strings(&mut self, strings: &[&[u8]]) {
        for string in strings {
            self.string(string);
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        self.raw(&(bytes.len() as u64).to_le_bytes());
        self.raw(bytes);
        self.pad(bytes.len() as u64);
    }

    fn pad(&mut self, len: u64) {
        self.raw(&[0; 8][..(len.wrapping_neg() % 8) as usize]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }
}

/// Bytes of a file that are hashed at once.
const BUFFER: usize = 64 << 10;

/// Returns the NAR hash of what a store path is now. Reads all of it.
pub(crate) fn nar_hash(
    cx: &Context,
    source: &dyn ContentSource,
    path: &StorePath,
) -> Result<NarHash> {
    let mut nar = NarHasher::new();
    let mut buffer = vec![0; BUFFER];
    source.visit(cx, path, &mut |entry| {
        nar.entry(&entry);
        if let Entry::File { size, contents, .. } = entry {
            loop {
                cx.cancel.check()?;
                match contents.read(&mut buffer)? {
                    0 => break,
                    n => nar.contents(&buffer[..n]),
                }
            }
            nar.end_file(size);
        }
        Ok(())
    })?;
    Ok(nar.finish_hash())
}

/// Bytes of a NAR, added up from its objects in any order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NarSize(u64);

/// What an object of a store path is, as far as its NAR's size cares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NarObject<'a> {
    /// A directory, without what is in it.
    Directory,
    /// A file with so many bytes.
    File { executable: bool, size: u64 },
    /// A symlink to this.
    Symlink { target: &'a [u8] },
}

impl NarSize {
    /// Begins with nothing in it.
    pub(crate) fn new() -> Self {
        Self(string_size(b"nix-archive-1".len() as u64))
    }

    /// Adds an object; `name` is that in its directory, and empty for the store
    /// path itself.
    pub(crate) fn add(&mut self, name: &[u8], object: NarObject<'_>) {
        let texts = |texts: &[&str]| -> u64 {
            let sizes = texts.iter().map(|text| string_size(text.len() as u64));
            sizes.sum()
        };
        let mut size = texts(&["(", "type", ")"]);
        if !name.is_empty() {
            size += texts(&["entry", "(", "name", "node", ")"]) + string_size(name.len() as u64);
        }
        size = size.saturating_add(match object {
            NarObject::Directory => texts(&["directory"]),
            NarObject::Symlink { target } => {
                texts(&["symlink", "target"]) + string_size(target.len() as u64)
            }
            NarObject::File { executable, size } => {
                let mode = if executable {
                    texts(&["executable", ""])
                } else {
                    0
                };
                string_size(size).saturating_add(texts(&["regular", "contents"]) + mode)
            }
        });
        self.0 = self.0.saturating_add(size);
    }

    /// Returns the bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

/// Returns the bytes of a string of so many bytes in a NAR.
fn string_size(len: u64) -> u64 {
    len.checked_next_multiple_of(8)
        .and_then(|padded| padded.checked_add(8))
        .unwrap_or(u64::MAX)
}

/// Gives a closure the NAR sizes that it lacks: those that the source knows of
/// all of them at once, and measures the others.
///
/// # Errors
///
/// Those of the source.
pub fn set_nar_sizes(
    cx: &Context,
    source: &dyn ContentSource,
    closure: &mut Closure,
) -> Result<()> {
    let infos = closure.infos().iter();
    let unknown = infos.filter(|info| info.nar_size.is_none());
    let unknown: Vec<_> = unknown.map(|info| info.path.clone()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    source.look_up(cx, &unknown)?;
    closure.set_nar_sizes(|path| match source.nar_size(cx, path)? {
        Some(nar_size) => Ok(nar_size),
        None => nar_size(cx, source, path),
    })
}

/// Returns the bytes of a store path's NAR serialisation. Opens every file and
/// reads no contents.
pub fn nar_size(cx: &Context, source: &dyn ContentSource, path: &StorePath) -> Result<u64> {
    let mut nar = NarHasher::start(None);
    source.visit(cx, path, &mut |entry| {
        nar.entry(&entry);
        if let Entry::File { size, .. } = entry {
            nar.size += size;
            nar.end_file(size);
        }
        Ok(())
    })?;
    Ok(nar.finish().1)
}
