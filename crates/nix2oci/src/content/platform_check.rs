//! Content whose programs are looked at while it is read.

use std::collections::BTreeMap;
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
        let Some(found) = found else { return Ok(()) };
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
