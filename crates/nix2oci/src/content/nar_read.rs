//! Reading a NAR, as it comes from a binary cache or from the daemon.
//!
//! Source: the grammar in the Nix manual, "Nix Archive (NAR) format", and what
//! `parseDump` of NixOS/nix, `src/libutil/archive.cc`, refuses beyond it (names
//! that are no names, directories that are not sorted). Nix's reader before
//! 2.24 took the parts of an object in any order; no writer ever used that,
//! and so there is one NAR for one tree here: what is read has the same bytes
//! when it is written again.
//!
//! Whoever makes the NAR chooses all lengths in it. Nothing is read into memory
//! but a name or a target at a time, whose lengths are bounded, and directories
//! are on a stack of ours, not on the thread's.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};

use super::{Contents, Entry};

/// The most bytes of a path in a store path, and of what a symbolic link
/// holds: what Linux takes (`PATH_MAX` counts the zero at the end), and what a
/// member of a layer may have.
///
/// Names have no bound of their own, because file systems differ in theirs:
/// 255 bytes on most of Linux, 255 characters on APFS, 1,023 bytes on ZFS.
const MAX_PATH: usize = 4095;

/// The longest of the strings that the grammar names, `nix-archive-1`.
const MAX_WORD: usize = 13;

/// Bytes that are read at once, and in which unread contents are skipped.
const BUFFER: usize = 64 << 10;

const ENDS_EARLY: &str = "it ends here, in the middle";

/// Where a NAR comes from, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarOrigin {
    /// Who gave it: a cache, the daemon; never with a secret.
    pub from: String,
    /// The store path, in full.
    pub path: String,
}

/// Visits the objects of a NAR while it is read.
///
/// Strict: what it accepts is the NAR of exactly one tree. Memory is 64 KiB and
/// some, whatever the NAR claims. It does not hash what it reads; a reader
/// below it does, so that the objects that a visitor saw count only after the
/// end was reached and the hash was found to be right.
///
/// # Errors
///
/// [`ErrorKind::Nar`] with the place in bytes if it is not a NAR, ends early,
/// or cannot be decompressed. An [`Error`] that the reader below wraps in an
/// [`io::Error`] comes out as it is.
pub struct NarReader<R> {
    input: R,
    origin: NarOrigin,
    /// Bytes that were read.
    position: u64,
    /// Bytes that the NAR has, if that is known.
    nar_size: Option<u64>,
}

impl<R: Read> NarReader<BufReader<R>> {
    /// Reads a NAR from `input`, through a buffer of 64 KiB, which may take
    /// bytes that follow the NAR.
    pub fn new(input: R, origin: NarOrigin) -> Self {
        Self::buffered(BufReader::with_capacity(BUFFER, input), origin)
    }
}

impl<R: BufRead> NarReader<R> {
    /// Reads a NAR from `input`, which keeps all that follows the NAR.
    pub fn buffered(input: R, origin: NarOrigin) -> Self {
        Self {
            input,
            origin,
            position: 0,
            nar_size: None,
        }
    }

    /// Says how many bytes the NAR must have: a length that does not fit into
    /// them is refused as soon as it is read.
    #[must_use]
    pub fn with_nar_size(mut self, nar_size: u64) -> Self {
        self.nar_size = Some(nar_size);
        self
    }

    /// Returns the reader below, wherever it stands.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Calls `visitor` for each object, a directory before what is in it; stops
    /// at the first error and returns it. What the visitor leaves unread of a
    /// file is skipped. Nothing may follow the NAR.
    ///
    /// Asks `cx.cancel` once an object, and once a buffer that is skipped.
    pub fn visit(
        &mut self,
        cx: &Context,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.visit_one(cx, visitor)?;
        if self.ready()? > 0 {
            return Err(self.problem("there are bytes after the end"));
        }
        Ok(())
    }

    /// Does what [`NarReader::visit`] does, and leaves what follows the NAR
    /// where it is: in the daemon's protocol nothing else tells where it ends.
    pub fn visit_one(
        &mut self,
        cx: &Context,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let nar_size = self.nar_size;
        self.position = 0;
        self.expect(b"nix-archive-1")?;
        let mut tree = Tree::default();
        loop {
            cx.cancel.check()?;
            if self.object(cx, &tree.path, visitor)? {
                tree.enter();
            } else if tree.is_inside() {
                self.expect(b")")?;
            }
            if !self.next_entry(&mut tree)? {
                break;
            }
        }
        match nar_size {
            Some(nar_size) if nar_size != self.position => {
                Err(self.problem(&format!("it ends here, and was to have {nar_size} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// Reads an object, but of a directory only its beginning; returns whether
    /// it is one.
    fn object(
        &mut self,
        cx: &Context,
        path: &[u8],
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<bool> {
        self.expect(b"(")?;
        self.expect(b"type")?;
        let file_type = self.word()?;
        match file_type.as_bytes() {
            b"directory" => visitor(Entry::Directory { path })?,
            b"symlink" => {
                self.expect(b"target")?;
                let mut target = Vec::new();
                self.string(&mut target, "the target of a symbolic link")?;
                if target.is_empty() || target.contains(&0) {
                    let what = "the target of a symbolic link is empty or has a zero in it";
                    return Err(self.problem(what));
                }
                visitor(Entry::Symlink {
                    path,
                    target: &target,
                })?;
                self.expect(b")")?;
            }
            b"regular" => {
                self.file(cx, path, visitor)?;
                self.expect(b")")?;
            }
            _ => {
                let expected = "directory, regular or symlink";
                return Err(self.unexpected(&file_type, expected));
            }
        }
        Ok(file_type.as_bytes() == b"directory")
    }

    fn file(
        &mut self,
        cx: &Context,
        path: &[u8],
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut word = self.word()?;
        let executable = word.as_bytes() == b"executable";
        if executable {
            let marker = self.word()?;
            if !marker.as_bytes().is_empty() {
                return Err(self.unexpected(&marker, "an empty string"));
            }
            word = self.word()?;
        }
        if word.as_bytes() != b"contents" {
            let expected = if executable {
                "contents"
            } else {
                "executable or contents"
            };
            return Err(self.unexpected(&word, expected));
        }
        let size = self.length()?;
        // Files have signed sizes everywhere.
        if i64::try_from(size).is_err() {
            return Err(self.problem(&format!("no file has {size} bytes")));
        }
        let mut contents = FileContents {
            nar: self,
            left: size,
        };
        visitor(Entry::File {
            path,
            executable,
            size,
            contents: &mut contents,
        })?;
        contents.skip(cx)?;
        self.padding(size)
    }

    /// Reads what is after an object, up to the next one; returns whether there
    /// is one. Ends directories that are over.
    fn next_entry(&mut self, tree: &mut Tree) -> Result<bool> {
        while tree.is_inside() {
            let word = self.word()?;
            match word.as_bytes() {
                b"entry" => {
                    self.expect(b"(")?;
                    self.expect(b"name")?;
                    let mut name = std::mem::take(&mut tree.name);
                    self.string(&mut name, "a name")?;
                    tree.name = name;
                    tree.advance().map_err(|problem| self.problem(&problem))?;
                    self.expect(b"node")?;
                    return Ok(true);
                }
                b")" => {
                    tree.leave();
                    if tree.is_inside() {
                        self.expect(b")")?;
                    }
                }
                _ => return Err(self.unexpected(&word, "entry or )")),
            }
        }
        Ok(false)
    }

    fn expect(&mut self, expected: &'static [u8]) -> Result<()> {
        let word = self.word()?;
        if word.as_bytes() == expected {
            Ok(())
        } else {
            Err(self.unexpected(&word, &expected.escape_ascii().to_string()))
        }
    }

    /// Reads one of the grammar's words, or what is in its place.
    fn word(&mut self) -> Result<Word> {
        let start = self.position;
        let len = self.length()?;
        let mut bytes = [0; MAX_WORD];
        let Some(into) = usize::try_from(len)
            .ok()
            .and_then(|len| bytes.get_mut(..len))
        else {
            self.position = start;
            return Err(self.problem(&format!(
                "a string of {len} bytes, expected one of the format's words"
            )));
        };
        self.read_exact(into)?;
        self.padding(len)?;
        Ok(Word {
            bytes,
            len: len as usize,
            start,
        })
    }

    /// Reads a string of at most [`MAX_PATH`] bytes into `string`.
    fn string(&mut self, string: &mut Vec<u8>, what: &str) -> Result<()> {
        let len = self.length()?;
        if len > MAX_PATH as u64 {
            return Err(self.problem(&format!(
                "{what} has {len} bytes, expected at most {MAX_PATH}"
            )));
        }
        string.clear();
        string.resize(len as usize, 0);
        self.read_exact(string)?;
        self.padding(len)
    }

    /// Reads the length of a string.
    fn length(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        let len = u64::from_le_bytes(bytes);
        let left = self.nar_size.map(|size| size.saturating_sub(self.position));
        match left {
            Some(left) if left < len => {
                Err(self.problem(&format!("a string of {len} bytes, where {left} are left")))
            }
            _ => Ok(len),
        }
    }

    /// Reads the zeroes after a string of `len` bytes.
    fn padding(&mut self, len: u64) -> Result<()> {
        let mut bytes = [0; 8];
        let padding = &mut bytes[..(len.wrapping_neg() % 8) as usize];
        self.read_exact(padding)?;
        if padding.iter().any(|b| *b != 0) {
            return Err(self.problem("a string is not followed by zeroes"));
        }
        Ok(())
    }

    fn read_exact(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let n = self.read(into)?;
            into = &mut into[n..];
        }
        Ok(())
    }

    /// Reads at least a byte if `into` has room for it.
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match self.input.read(into) {
                Ok(0) => return Err(self.problem(ENDS_EARLY)),
                Ok(n) => {
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Returns how many bytes are there at once; 0 only at the end.
    fn ready(&mut self) -> Result<usize> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        error
            .downcast::<Error>()
            .unwrap_or_else(|error| self.problem(&error.to_string()))
    }

    fn unexpected(&mut self, word: &Word, expected: &str) -> Error {
        self.position = word.start;
        self.problem(&format!(
            "\"{}\", expected {expected}",
            word.as_bytes().escape_ascii()
        ))
    }

    fn problem(&self, problem: &str) -> Error {
        ErrorKind::Nar {
            from: self.origin.from.clone(),
            path: self.origin.path.clone(),
            problem: format!("at byte {}: {problem}", self.position),
        }
        .into()
    }
}

impl<R> fmt::Debug for NarReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NarReader")
            .field("origin", &self.origin)
            .field("position", &self.position)
            .field("nar_size", &self.nar_size)
            .finish_non_exhaustive()
    }
}

/// A string where the grammar has a word.
struct Word {
    bytes: [u8; MAX_WORD],
    len: usize,
    /// Where it is.
    start: u64,
}

impl Word {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where in the tree the reader is.
#[derive(Default)]
struct Tree {
    /// The path of the current object, or of the last one in the directory.
    path: Vec<u8>,
    /// The open directories, from the store path itself down.
    directories: Vec<Directory>,
    /// The name that was read last.
    name: Vec<u8>,
}

struct Directory {
    /// How long its path is.
    len: usize,
    /// Whether [`Tree::path`] goes on with the name of an object in it.
    has_entry: bool,
}

impl Tree {
    fn is_inside(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Goes into the current object, which is a directory.
    fn enter(&mut self) {
        self.directories.push(Directory {
            len: self.path.len(),
            has_entry: false,
        });
    }

    /// Goes back to the directory that holds the current one.
    fn leave(&mut self) {
        if let Some(directory) = self.directories.pop() {
            self.path.truncate(directory.len);
        }
    }

    /// Makes the object of this name in the current directory the current one;
    /// the error says what is wrong with the name.
    fn advance(&mut self) -> Result<(), String> {
        let Some(directory) = self.directories.last_mut() else {
            return Ok(());
        };
        let name = self.name.as_slice();
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(format!("\"{}\" is not a name", name.escape_ascii()));
        }
        let slash = usize::from(directory.len > 0);
        let start = directory.len + slash;
        if start + name.len() > MAX_PATH {
            return Err(format!("a path is longer than {MAX_PATH} bytes"));
        }
        if directory.has_entry {
            let last = &self.path[start..];
            if name <= last {
                return Err(format!(
                    "\"{}\" comes after \"{}\", expected names in the order of their bytes, each \
                     once",
                    name.escape_ascii(),
                    last.escape_ascii()
                ));
            }
        }
        directory.has_entry = true;
        self.path.truncate(directory.len);
        if slash > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        Ok(())
    }
}

/// What is not read yet of a file.
struct FileContents<'a, R> {
    nar: &'a mut NarReader<R>,
    left: u64,
}

impl<R: BufRead> FileContents<'_, R> {
    fn skip(&mut self, cx: &Context) -> Result<()> {
        while self.left > 0 {
            cx.cancel.check()?;
            let ready = self.nar.ready()? as u64;
            if ready == 0 {
                return Err(self.nar.problem(ENDS_EARLY));
            }
            let n = ready.min(self.left);
            self.nar.input.consume(n as usize);
            self.nar.position += n;
            self.left -= n;
        }
        Ok(())
    }
}

impl<R: BufRead> Contents for FileContents<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let wanted = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.nar.read(&mut buf[..wanted])?;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[path = "nar_read_tests.rs"]
mod tests;
