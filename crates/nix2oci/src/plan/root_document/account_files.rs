//! The users and groups that a base image has already, and lines of files that
//! are joined with what documents say.
//!
//! What is there stays: lines keep their bytes and their order, also those that
//! nobody understands, and a file keeps its mode and owner. Source of the
//! formats: passwd(5), group(5), shadow(5), gshadow(5).

use std::collections::BTreeMap;

use crate::plan::Metadata;

pub(super) const PASSWD: &str = "etc/passwd";
pub(super) const GROUP: &str = "etc/group";
pub(super) const SHADOW: &str = "etc/shadow";
pub(super) const GSHADOW: &str = "etc/gshadow";
pub(super) const NSSWITCH: &str = "etc/nsswitch.conf";
pub(super) const PAM_OTHER: &str = "etc/pam.d/other";
pub(super) const LOGIN_DEFS: &str = "etc/login.defs";

/// The files of a base image that tell of its users and groups, as far as it has
/// them; none by default.
///
/// Documents on such a base name its users and groups as owners, and add to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountFiles {
    /// What errors call the base.
    name: String,
    files: BTreeMap<&'static str, AccountFile>,
}

/// A file, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountFile {
    pub(super) path: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) metadata: Metadata,
}

impl AccountFiles {
    /// The files that may be there, relative to the root.
    pub const PATHS: [&'static str; 7] = [
        PASSWD, GROUP, SHADOW, GSHADOW, NSSWITCH, PAM_OTHER, LOGIN_DEFS,
    ];

    /// Returns those of a base of which nothing is known yet; `name` is what
    /// errors call it.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            files: BTreeMap::new(),
        }
    }

    /// Adds a file; one of another path than [`PATHS`](Self::PATHS) is passed
    /// over.
    pub fn insert(&mut self, path: &str, bytes: Vec<u8>, metadata: Metadata) {
        if let Some(path) = Self::PATHS.into_iter().find(|known| *known == path) {
            let file = AccountFile {
                path,
                bytes,
                metadata,
            };
            self.files.insert(path, file);
        }
    }

    /// Returns what is in one of the files, if it is there.
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        self.get(path).map(|file| file.bytes.as_slice())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn get(&self, path: &str) -> Option<&AccountFile> {
        self.files.get(path)
    }

    /// Returns a user's number and that of its group.
    pub(super) fn user(&self, name: &str) -> Option<(u32, u32)> {
        let line = self.line(PASSWD, name)?;
        Some((number(line, 2)?, number(line, 3)?))
    }

    /// Returns a group's number.
    pub(super) fn group(&self, name: &str) -> Option<u32> {
        number(self.line(GROUP, name)?, 2)
    }

    pub(super) fn has_uid(&self, uid: u32) -> bool {
        self.lines(PASSWD).any(|line| number(line, 2) == Some(uid))
    }

    pub(super) fn has_gid(&self, gid: u32) -> bool {
        self.lines(GROUP).any(|line| number(line, 2) == Some(gid))
    }

    /// Returns a file with further lines: each takes the place of that of the same
    /// name, for which `join` gets both, or comes after all others. None if that
    /// changes nothing.
    pub(super) fn joined(
        &self,
        path: &'static str,
        mode: u32,
        more: Vec<String>,
        join: fn(&[u8], &str) -> Vec<u8>,
    ) -> Option<AccountFile> {
        let mut more: Vec<Option<String>> = more.into_iter().map(Some).collect();
        let mut bytes = Vec::new();
        for line in self.lines(path) {
            let same = more.iter_mut().find(|new| {
                new.as_ref()
                    .is_some_and(|new| field(new.as_bytes(), 0) == field(line, 0))
            });
            match same.and_then(Option::take) {
                Some(new) => bytes.extend(join(line, &new)),
                None => bytes.extend_from_slice(line),
            }
            bytes.push(b'\n');
        }
        for new in more.into_iter().flatten() {
            bytes.extend_from_slice(new.as_bytes());
            bytes.push(b'\n');
        }
        let there = self.get(path);
        if there.is_some_and(|there| there.bytes == bytes) {
            return None;
        }
        Some(AccountFile {
            path,
            bytes,
            metadata: there.map_or_else(|| Metadata::mode(mode), |there| there.metadata.clone()),
        })
    }

    /// Returns the line of a user or a group in a file.
    pub(super) fn line(&self, path: &str, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines(path);
        lines.find(|line| field(line, 0) == Some(name.as_bytes()))
    }

    /// Returns the lines of a file without the empty ones at its end.
    fn lines(&self, path: &str) -> impl Iterator<Item = &[u8]> {
        let bytes = self.get(path).map_or(&[][..], |file| &file.bytes);
        let end = bytes
            .iter()
            .rposition(|b| *b != b'\n')
            .map_or(0, |at| at + 1);
        let lines = bytes[..end].split(|b| *b == b'\n');
        lines.filter(move |_| end > 0)
    }
}

/// Takes the new line of a user or a group.
pub(super) fn replaced(_: &[u8], new: &str) -> Vec<u8> {
    new.into()
}

/// Takes the members of both lines of a group, in the last field.
pub(super) fn with_members(old: &[u8], new: &str) -> Vec<u8> {
    let last = |line: &[u8]| line.iter().rposition(|b| *b == b':').map_or(0, |at| at + 1);
    let (old, more) = (old.to_vec(), &new.as_bytes()[last(new.as_bytes())..]);
    let start = last(&old);
    let mut joined = old.clone();
    for member in more.split(|b| *b == b',').filter(|m| !m.is_empty()) {
        if old[start..]
            .split(|b| *b == b',')
            .any(|there| there == member)
        {
            continue;
        }
        if joined.len() > start {
            joined.push(b',');
        }
        joined.extend_from_slice(member);
    }
    joined
}

/// Takes the password of the new line, and the rest of the old one.
pub(super) fn with_password(old: &[u8], new: &str) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = old.split(|b| *b == b':').collect();
    match (fields.get_mut(1), field(new.as_bytes(), 1)) {
        (Some(password), Some(new)) => *password = new,
        _ => return new.into(),
    }
    fields.join(&b':')
}

/// Returns one of the fields between colons.
fn field(line: &[u8], number: usize) -> Option<&[u8]> {
    line.split(|b| *b == b':').nth(number)
}

fn number(line: &[u8], at: usize) -> Option<u32> {
    std::str::from_utf8(field(line, at)?).ok()?.parse().ok()
}
