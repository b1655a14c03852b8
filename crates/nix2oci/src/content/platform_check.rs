//! Content whose programs are looked at while it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::oci::{Platform, display_platform};
use crate::store::{StoreDir, StorePath};

use super::{ContentSource, Contents, Entry, Program};

/// Directories of a store path that hold what people and services start.
const PROGRAM_DIRS: [&[u8]; 3] = [b"bin/", b"sbin/", b"libexec/"];

/// A store path with a program that the image's platform cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignPrograms {
    /// The first such program, as the image has it.
    pub file: String,
    /// What it is for: `darwin/arm64 (Mach-O)`.
    pub found: String,
    /// The image's platform.
    pub expected: String,
    /// Such programs in the same store path besides the first.
    pub more: usize,
}

impl fmt::Display for ForeignPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            found,
            expected,
            more,
        } = self;
        write!(f, "{file} is for {found}, and the image for {expected}")?;
        match more {
            0 => Ok(()),
            1 => f.write_str("; and one more program of that store path"),
            more => write!(f, "; and {more} more programs of that store path"),
        }
    }
}

/// Another source, of whose programs is kept which are not for a platform.
///
/// Looked at are executable files in `bin`, `sbin` and `libexec` of a store
/// path, and those that are named besides. Reads nothing itself: a file that a
/// visitor leaves unread is not judged, nor is a store path that nobody visits.
pub struct PlatformCheck {
    inner: Arc<dyn ContentSource>,
    store_dir: StoreDir,
    platform: Platform,
    programs: Vec<(StorePath, Vec<u8>)>,
    is_strict: bool,
    found: Mutex<BTreeMap<StorePath, ForeignPrograms>>,
}

impl PlatformCheck {
    /// Looks at what `inner` gives, for an image of this platform.
    pub fn new(inner: Arc<dyn ContentSource>, store_dir: StoreDir, platform: Platform) -> Self {
        Self {
            inner,
            store_dir,
            platform,
            programs: Vec::new(),
            is_strict: false,
            found: Mutex::default(),
        }
    }

    /// Looks at this file of a store path as well, wherever it is in it.
    #[must_use]
    pub fn with_program(mut self, path: StorePath, inside: Vec<u8>) -> Self {
        self.programs.push((path, inside));
        self
    }

    /// Says whether a visit fails with [`ErrorKind::ForeignProgram`] at the end
    /// of a store path that has one.
    #[must_use]
    pub fn with_strictness(mut self, is_strict: bool) -> Self {
        self.is_strict = is_strict;
        self
    }

    /// Returns what was found up to now, in the order of the store paths.
    pub fn findings(&self) -> Vec<ForeignPrograms> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.values().cloned().collect()
    }

    /// Returns what was found in these store paths up to now, in their order.
    pub(crate) fn findings_in(&self, paths: &[StorePath]) -> Vec<ForeignPrograms> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let paths: BTreeSet<&StorePath> = paths.iter().collect();
        let found = found.iter().filter(|(path, _)| paths.contains(path));
        found.map(|(_, programs)| programs.clone()).collect()
    }

    /// Returns what is asked of these store paths: the platform, and the files
    /// that are looked at besides those of their `bin`. The same question has the
    /// same answer.
    pub(crate) fn question(&self, paths: &[StorePath]) -> String {
        let mut question = display_platform(&self.platform);
        let files = self.programs.iter().filter(|(of, _)| paths.contains(of));
        let files: BTreeSet<String> = files
            .filter(|(_, file)| !PROGRAM_DIRS.iter().any(|dir| file.starts_with(dir)))
            .map(|(of, file)| format!("{of}/{}", String::from_utf8_lossy(file)))
            .collect();
        for file in files {
            question.push(' ');
            question.push_str(&file);
        }
        question
    }

    /// Takes what was found before, as if its store paths were visited now.
    ///
    /// # Errors
    ///
    /// As those of a visit.
    pub(crate) fn recall(&self, findings: Vec<ForeignPrograms>) -> Result<()> {
        for found in findings {
            let path = match self.store_dir.split(&found.file) {
                Ok((path, _)) => path,
                Err(_) => continue,
            };
            self.keep(&path, found)?;
        }
        Ok(())
    }

    /// Looks at the programs of a store path and reads no more of it; `content`
    /// is what gives it, unchecked.
    ///
    /// # Errors
    ///
    /// As those of a visit.
    pub(crate) fn look(
        &self,
        cx: &Context,
        content: &dyn ContentSource,
        path: &StorePath,
    ) -> Result<()> {
        let mut head = vec![0; Program::HEAD];
        let mut found = None;
        content.visit(cx, path, &mut |entry| {
            let Entry::File {
                path: inside,
                executable: true,
                contents,
                ..
            } = entry
            else {
                return Ok(());
            };
            if !self.is_program(path, inside) {
                return Ok(());
            }
            let mut filled = 0;
            while filled < head.len() {
                match contents.read(&mut head[filled..])? {
                    0 => break,
                    n => filled += n,
                }
            }
            self.judge(path, inside, &head[..filled], &mut found);
            Ok(())
        })?;
        match found {
            Some(found) => self.keep(path, found),
            None => Ok(()),
        }
    }

    /// Fails, or keeps what was found.
    fn keep(&self, path: &StorePath, found: ForeignPrograms) -> Result<()> {
        if self.is_strict {
            return Err(ErrorKind::ForeignProgram {
                file: found.file,
                found: found.found,
                expected: found.expected,
            }
            .into());
        }
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(path.clone(), found);
        Ok(())
    }

    /// Returns whether a file is one to look at.
    fn is_program(&self, path: &StorePath, inside: &[u8]) -> bool {
        PROGRAM_DIRS.iter().any(|dir| inside.starts_with(dir))
            || self
                .programs
                .iter()
                .any(|(of, file)| of == path && file == inside)
    }

    fn judge(
        &self,
        path: &StorePath,
        inside: &[u8],
        head: &[u8],
        found: &mut Option<ForeignPrograms>,
    ) {
        let Some(program) = Program::parse(head).filter(|p| !p.runs_on(&self.platform)) else {
            return;
        };
        if let Some(found) = found {
            found.more += 1;
            return;
        }
        let slash = if inside.is_empty() { "" } else { "/" };
        *found = Some(ForeignPrograms {
            file: format!(
                "{}{slash}{}",
                self.store_dir.join(path),
                String::from_utf8_lossy(inside)
            ),
            found: program.to_string(),
            expected: display_platform(&self.platform),
            more: 0,
        });
    }
}

impl ContentSource for PlatformCheck {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut head = Vec::new();
        let mut found = None;
        self.inner.visit(cx, path, &mut |entry| match entry {
            Entry::File {
                path: inside,
                executable: true,
                size,
                contents,
            } if self.is_program(path, inside) => {
                head.clear();
                let mut tee = Tee {
                    inner: contents,
                    head: &mut head,
                };
                visitor(Entry::File {
                    path: inside,
                    executable: true,
                    size,
                    contents: &mut tee,
                })?;
                self.judge(path, inside, &head, &mut found);
                Ok(())
            }
            other => visitor(other),
        })?;
        match found {
            Some(found) => self.keep(path, found),
            None => Ok(()),
        }
    }

    fn expect(&self, cx: &Context, paths: &[StorePath]) {
        self.inner.expect(cx, paths);
    }

    fn look_up(&self, cx: &Context, paths: &[StorePath]) -> Result<()> {
        self.inner.look_up(cx, paths)
    }

    fn nar_size(&self, cx: &Context, path: &StorePath) -> Result<Option<u64>> {
        self.inner.nar_size(cx, path)
    }

    fn has(&self, cx: &Context, path: &StorePath) -> Result<bool> {
        self.inner.has(cx, path)
    }

    fn download_size(&self, cx: &Context, path: &StorePath) -> Result<u64> {
        self.inner.download_size(cx, path)
    }
}

/// Keeps the first bytes of what is read.
struct Tee<'a> {
    inner: &'a mut dyn Contents,
    head: &'a mut Vec<u8>,
}

impl Contents for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(buf)?;
        let missing = Program::HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&buf[..n.min(missing)]);
        Ok(n)
    }
}
