//! What a layer's tar must be so that every loader unpacks it alike.
//!
//! The rules are those that loaders were seen to differ on: podman refuses a
//! path that comes twice, podman and containerd fail on a hard link to a file
//! of another layer, and a directory without an entry gets whatever mode the
//! loader likes.

use std::collections::HashMap;

use crate::digest::{Digest, Hasher};

use super::decompress::Codec;
use super::entries::MAX_PATH;
use super::tar_read::{Member, MemberKind, TarEnd};

/// Problems of one layer that are kept; the others are counted.
const MAX_PROBLEMS: usize = 1000;

/// Entries of one layer that are looked at. Above all, a bound of memory:
/// 170,000 files are a large layer.
const MAX_ENTRIES: usize = 1 << 22;

/// Characters of a name that are shown.
const MAX_SHOWN: usize = 300;

/// What is wrong with a layer's bytes, whatever its descriptor says.
///
/// Names are shown as text, with what is not UTF-8 replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerProblem {
    /// The blob cannot be decompressed.
    #[error("the {codec} stream is broken: {problem}")]
    Undecodable {
        /// How it is compressed.
        codec: Codec,
        /// What the decoder said.
        problem: String,
    },
    /// Bytes follow the compressed stream.
    #[error("there are bytes after the end of the {codec} stream")]
    TrailingBytes {
        /// How it is compressed.
        codec: Codec,
    },
    /// The tar cannot be read on.
    #[error("the tar is broken: {problem} at byte {offset}")]
    BrokenTar {
        /// Where in the tar.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The tar does not end in two blocks of zeros.
    #[error("the tar does not end in two blocks of zeros")]
    NoEnd,
    /// Something follows the two blocks of zeros.
    #[error("there are bytes after the end of the tar")]
    GarbageAfterEnd,
    /// The tar's size is no multiple of 512 bytes.
    #[error("the tar has {size} bytes, which is no multiple of 512")]
    NotPadded {
        /// Bytes of the tar.
        size: u64,
    },
    /// Two entries have one path.
    #[error("{path} has more than one entry")]
    DuplicateEntry {
        /// The path.
        path: String,
    },
    /// A directory has no entry.
    #[error("{directory} has no entry, and {path} is in it")]
    MissingParent {
        /// The directory.
        directory: String,
        /// The first path in it.
        path: String,
    },
    /// A directory's entry comes after one of a path in it.
    #[error("the entry of the directory {directory} comes after that of {path}")]
    LateParent {
        /// The directory.
        directory: String,
        /// The first path in it.
        path: String,
    },
    /// A path is in something that is no directory.
    #[error("{path} is in {parent}, which is no directory")]
    ParentNotDirectory {
        /// What is no directory.
        parent: String,
        /// The path in it.
        path: String,
    },
    /// A path leads upwards.
    #[error("{path} has .. in it")]
    DotDot {
        /// The path.
        path: String,
    },
    /// A path or what it links to is longer than Linux can have it.
    #[error("{path} or what it links to has {bytes} bytes, expected at most {MAX_PATH}")]
    LongPath {
        /// The path, shortened.
        path: String,
        /// Bytes of the longer of the two.
        bytes: usize,
    },
    /// Paths begin with a slash: loaders remove it, other programs do not.
    #[error("{path} begins with a slash{}", others(*count))]
    Absolute {
        /// The first such path.
        path: String,
        /// How many there are.
        count: u64,
    },
    /// A hard link's target does not come before it in its layer.
    #[error("{path} is a hard link to {target}, which does not come before it in this layer")]
    HardLinkTarget {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// An entry is of a kind that layers here do not have.
    #[error("{path} is {kind}; a layer holds only directories, files and links")]
    UnsupportedKind {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Entries of store paths have other permissions than Nix gives them: 0444,
    /// or 0555 for what is executable and for directories.
    #[error("{path} has mode {mode:04o}, and Nix gives 0444 or 0555{}", others(*count))]
    StoreMode {
        /// The first such path.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// How many there are.
        count: u64,
    },
    /// Directories that more than their owner may write to, without the sticky
    /// bit: whoever may write can replace what others put there.
    #[error(
        "the directory {path} has mode {mode:04o}: not only its owner may replace what is in it{}",
        others(*count)
    )]
    WritableDirectory {
        /// The first such path.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// How many there are.
        count: u64,
    },
    /// There are too many entries to look at.
    #[error("there are more than {limit} entries, and the others were not looked at")]
    TooManyEntries {
        /// How many were looked at.
        limit: usize,
    },
    /// More problems than are kept.
    #[error("there are {count} problems more")]
    More {
        /// How many.
        count: u64,
    },
}

fn others(count: u64) -> String {
    match count {
        0 | 1 => String::new(),
        2 => ", and one more path".to_owned(),
        n => format!(", and {} more paths", n - 1),
    }
}

impl LayerProblem {
    /// Returns whether loaders agree on what to do, so that the image works.
    pub fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::Absolute { .. } | Self::StoreMode { .. } | Self::WritableDirectory { .. }
        )
    }

    /// Returns whether what is in the layer is not known because of it.
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            Self::Undecodable { .. } | Self::BrokenTar { .. } | Self::TooManyEntries { .. }
        )
    }

    /// Returns the rule's name: words with hyphens, stable across versions.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Undecodable { .. } => "layer-undecodable",
            Self::TrailingBytes { .. } => "layer-trailing-bytes",
            Self::BrokenTar { .. } => "tar-broken",
            Self::NoEnd => "tar-no-end",
            Self::GarbageAfterEnd => "tar-garbage-after-end",
            Self::NotPadded { .. } => "tar-not-padded",
            Self::DuplicateEntry { .. } => "tar-duplicate-entry",
            Self::MissingParent { .. } => "tar-missing-parent",
            Self::LateParent { .. } => "tar-late-parent",
            Self::ParentNotDirectory { .. } => "tar-parent-not-directory",
            Self::DotDot { .. } => "tar-dot-dot",
            Self::LongPath { .. } => "tar-long-path",
            Self::Absolute { .. } => "tar-absolute-path",
            Self::HardLinkTarget { .. } => "tar-hard-link-target",
            Self::UnsupportedKind { .. } => "tar-unsupported-kind",
            Self::StoreMode { .. } => "store-mode",
            Self::WritableDirectory { .. } => "writable-directory",
            Self::TooManyEntries { .. } => "tar-too-many-entries",
            Self::More { .. } => "more-problems",
        }
    }
}

/// Problems, as many as are worth to be kept.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<LayerProblem>,
    more: u64,
}

impl Problems {
    pub(super) fn push(&mut self, problem: LayerProblem) {
        if self.kept.len() < MAX_PROBLEMS {
            self.kept.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<LayerProblem> {
        if self.more > 0 {
            self.kept.push(LayerProblem::More { count: self.more });
        }
        self.kept
    }
}

/// Judges a layer's entries one by one.
///
/// Memory is about 30 bytes an entry: paths are kept by their hash.
#[derive(Debug, Default)]
pub(super) struct TarRules {
    seen: HashMap<[u8; 16], Seen>,
    /// The parent of the last entry, all of whose parents were judged.
    last_parent: Option<Vec<u8>>,
    /// Directories that paths were in before they had an entry, with the
    /// first of these paths.
    awaited: Vec<Option<(Vec<u8>, Vec<u8>)>>,
    absolute: Option<(Vec<u8>, u64)>,
    is_full: bool,
    pub(super) problems: Problems,
}

/// What was at a path.
#[derive(Debug, Clone, Copy)]
enum Seen {
    Directory,
    /// No entry yet; the index in `awaited`.
    Awaited(u32),
    Other,
}

impl TarRules {
    /// Judges an entry, and returns its path without `/`, `.` and empty parts,
    /// or `None` if it leads upwards or is one entry too many.
    pub(super) fn entry(&mut self, member: &Member) -> Option<Vec<u8>> {
        if self.seen.len() >= MAX_ENTRIES {
            if !std::mem::replace(&mut self.is_full, true) {
                self.problems
                    .push(LayerProblem::TooManyEntries { limit: MAX_ENTRIES });
            }
            return None;
        }
        if member.path.starts_with(b"/") {
            let absolute = self
                .absolute
                .get_or_insert_with(|| (member.path.clone(), 0));
            absolute.1 += 1;
        }
        let longest = member.path.len().max(member.link.len());
        if longest > MAX_PATH {
            self.problems.push(LayerProblem::LongPath {
                path: show(&member.path),
                bytes: longest,
            });
            return None;
        }
        let Some(path) = normal(&member.path) else {
            self.problems.push(LayerProblem::DotDot {
                path: show(&member.path),
            });
            return None;
        };
        self.judge_parents(&path);
        match member.kind {
            MemberKind::HardLink => self.judge_hard_link(member, &path),
            MemberKind::Other(flag) => self.problems.push(LayerProblem::UnsupportedKind {
                path: show(&path),
                kind: name_of_kind(flag),
            }),
            MemberKind::File | MemberKind::Directory | MemberKind::Symlink => {}
        }
        let now = match member.kind {
            MemberKind::Directory => Seen::Directory,
            _ => Seen::Other,
        };
        match self.seen.insert(key(&path), now) {
            None => {}
            Some(Seen::Awaited(index)) => self.judge_awaited(index, member.kind),
            Some(Seen::Directory | Seen::Other) => {
                self.problems
                    .push(LayerProblem::DuplicateEntry { path: show(&path) });
            }
        }
        // A path that comes twice may have been a directory before.
        if member.kind != MemberKind::Directory
            && self
                .last_parent
                .as_ref()
                .is_some_and(|last| last.starts_with(&path))
        {
            self.last_parent = None;
        }
        Some(path)
    }

    /// Judges the end, and returns all problems.
    pub(super) fn finish(mut self, end: Option<TarEnd>) -> Vec<LayerProblem> {
        for (directory, path) in self.awaited.into_iter().flatten() {
            self.problems.push(LayerProblem::MissingParent {
                directory: show(&directory),
                path: show(&path),
            });
        }
        if let Some((path, count)) = self.absolute {
            self.problems.push(LayerProblem::Absolute {
                path: show(&path),
                count,
            });
        }
        if let Some(end) = end {
            if end.zero_blocks < 2 {
                self.problems.push(LayerProblem::NoEnd);
            }
            if end.has_garbage {
                self.problems.push(LayerProblem::GarbageAfterEnd);
            }
            if end.size % 512 != 0 {
                self.problems
                    .push(LayerProblem::NotPadded { size: end.size });
            }
        }
        self.problems.finish()
    }

    fn judge_parents(&mut self, path: &[u8]) {
        let Some(nearest) = parent(path) else { return };
        if self.last_parent.as_deref() == Some(nearest) {
            return;
        }
        // What is above a directory is hashed once, however deep it is.
        let mut hasher = Hasher::new();
        let mut hashed = 0;
        for (slash, _) in path.iter().enumerate().filter(|&(_, &b)| b == b'/') {
            let directory = &path[..slash];
            hasher.update(&path[hashed..slash]);
            hashed = slash;
            let key = key_of(hasher.clone().finish());
            match self.seen.get(&key) {
                Some(Seen::Directory | Seen::Awaited(_)) => {}
                Some(Seen::Other) => {
                    self.problems.push(LayerProblem::ParentNotDirectory {
                        parent: show(directory),
                        path: show(path),
                    });
                    return;
                }
                None => self.await_directory(key, directory, path),
            }
        }
        self.last_parent = Some(nearest.to_vec());
    }

    fn await_directory(&mut self, key: [u8; 16], directory: &[u8], path: &[u8]) {
        let seen = if self.awaited.len() < MAX_PROBLEMS {
            self.awaited
                .push(Some((clip(directory).to_vec(), clip(path).to_vec())));
            Seen::Awaited(u32::try_from(self.awaited.len() - 1).expect("it is at most 1000"))
        } else {
            self.problems.more += 1;
            Seen::Directory
        };
        self.seen.insert(key, seen);
    }

    /// An entry came for a directory that was already assumed.
    fn judge_awaited(&mut self, index: u32, kind: MemberKind) {
        let slot = self.awaited.get_mut(index as usize);
        let Some((directory, path)) = slot.and_then(Option::take) else {
            return;
        };
        self.problems.push(if kind == MemberKind::Directory {
            LayerProblem::LateParent {
                directory: show(&directory),
                path: show(&path),
            }
        } else {
            LayerProblem::ParentNotDirectory {
                parent: show(&directory),
                path: show(&path),
            }
        });
    }

    fn judge_hard_link(&mut self, member: &Member, path: &[u8]) {
        let target = normal(&member.link);
        let is_before = target
            .as_ref()
            .is_some_and(|target| matches!(self.seen.get(&key(target)), Some(Seen::Other)));
        if !is_before {
            self.problems.push(LayerProblem::HardLinkTarget {
                path: show(path),
                target: show(&member.link),
            });
        }
    }
}

/// Sixteen bytes of a SHA-256: nobody makes two paths collide by accident or
/// with less than 2^64 hashes.
fn key(path: &[u8]) -> [u8; 16] {
    key_of(Digest::of(path))
}

fn key_of(digest: Digest) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&digest.as_bytes()[..16]);
    key
}

/// Removes `/`, `.` and empty parts; `None` if there is a `..`.
pub(crate) fn normal(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Some(out)
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|&b| b == b'/')?;
    Some(&path[..slash])
}

fn clip(path: &[u8]) -> &[u8] {
    &path[..path.len().min(4 * MAX_SHOWN)]
}

/// Shows a path as text that is safe on a terminal.
pub(crate) fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(clip(path));
    if text.is_empty() {
        return ".".to_owned();
    }
    let mut out = String::new();
    for c in text.chars().take(MAX_SHOWN) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() {
        out.push('…');
    }
    out
}

fn name_of_kind(flag: u8) -> &'static str {
    match flag {
        b'3' => "a character device",
        b'4' => "a block device",
        b'6' => "a FIFO",
        b'S' => "a sparse file",
        _ => "an entry of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, kind: MemberKind, link: &str) -> Member {
        Member {
            path: path.as_bytes().to_vec(),
            link: link.as_bytes().to_vec(),
            kind,
            size: 0,
            mode: 0o644,
            is_executable: false,
            owner: (0, 0),
            offset: 0,
        }
    }

    /// A name of 1 MiB packs to nothing, and to look at each directory above it
    /// took minutes.
    #[test]
    fn a_path_that_no_file_can_have_is_told_and_not_followed() {
        let deep = |bytes: usize| format!("{}x", "x/".repeat(bytes / 2));
        let (longest, longer) = (deep(MAX_PATH), deep(1 << 20));
        let mut rules = TarRules::default();
        for (path, link, is_taken) in [
            (&*longest, "", true),
            (&*longer, "", false),
            ("link", &*longest, true),
            ("other", &*longer, false),
        ] {
            let found = rules.entry(&member(path, MemberKind::Symlink, link));
            assert_eq!(found.is_some(), is_taken, "{}", path.len());
        }
        let long: Vec<usize> = rules.finish(None).iter().filter_map(bytes).collect();
        assert_eq!(long, [longer.len(); 2]);
    }

    fn bytes(problem: &LayerProblem) -> Option<usize> {
        match problem {
            LayerProblem::LongPath { bytes, .. } => Some(*bytes),
            _ => None,
        }
    }
}
