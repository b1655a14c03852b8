//! File system trees to compare: what a store is, and what a tool made of an
//! image.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What there is at a path.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// `d`, `f` or `l`, or another letter for what a store cannot hold.
    pub kind: char,
    /// The mode's twelve bits; 0o777 for a symbolic link.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Seconds since 1970.
    pub mtime: i64,
    /// A file's bytes or a link's target.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (user, group) = self.owner;
        let start = &self.content[..self.content.len().min(80)];
        let (kind, mode, mtime, length) = (self.kind, self.mode, self.mtime, self.content.len());
        let start = start.escape_ascii();
        write!(
            f,
            "{kind} {mode:04o} {user}:{group} @{mtime} {length} \"{start}\""
        )
    }
}

/// Everything below a folder, by path; the folder itself has the empty path.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Vec<u8>, Object>);

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (path, object) in &self.0 {
            writeln!(f, "{}: {object:?}", path.escape_ascii())?;
        }
        Ok(())
    }
}

impl Tree {
    /// Reads what is on disk.
    pub fn on_disk(folder: &Path) -> Self {
        let mut tree = Self::default();
        tree.add(folder, Vec::new());
        tree
    }

    fn add(&mut self, path: &Path, name: Vec<u8>) {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_dir() {
            for entry in fs::read_dir(path).expect("the directory can be read") {
                let entry = entry.expect("the directory can be read");
                let mut name = name.clone();
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend_from_slice(entry.file_name().as_bytes());
                self.add(&entry.path(), name);
            }
            ('d', Vec::new())
        } else if kind.is_symlink() {
            let target = fs::read_link(path).expect("the link can be read");
            ('l', target.as_os_str().as_bytes().to_vec())
        } else if kind.is_file() {
            ('f', fs::read(path).expect("the file can be read"))
        } else {
            ('?', Vec::new())
        };
        let object = Object {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid().into(), metadata.gid().into()),
            mtime: metadata.mtime(),
            content,
        };
        self.0.insert(name, object);
    }

    /// Returns the root file system that an image of these store paths must
    /// have: what is on disk below `root`, with the modes that a store gives,
    /// owner 0:0 and time 1.
    pub fn of_store<'a>(root: &Path, paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tree = Self::default();
        for folder in ["", "nix", "nix/store"] {
            tree.0.insert(folder.into(), directory(0o755));
        }
        for path in paths {
            let path = path.trim_start_matches('/');
            tree.add(&root.join(path), path.into());
        }
        for (path, object) in &mut tree.0 {
            object.owner = (0, 0);
            object.mtime = 1;
            object.mode = match object.kind {
                'l' => 0o777,
                'd' if path.starts_with(b"nix/store/") => 0o555,
                'd' => 0o755,
                _ if object.mode & 0o100 != 0 => 0o555,
                _ => 0o444,
            };
        }
        tree
    }

    /// Reads a tar with the `tar` crate; later entries replace earlier ones.
    pub fn of_tar(tar: impl Read) -> Self {
        let mut tree = Self::default();
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().expect("it is a tar") {
            let mut entry = entry.expect("it is a tar");
            let header = entry.header();
            let number = |number: std::io::Result<u64>| number.expect("the header is right");
            let (kind, mode) = match header.entry_type() {
                tar::EntryType::Directory => ('d', None),
                tar::EntryType::Regular => ('f', None),
                tar::EntryType::Symlink => ('l', Some(0o777)),
                _ => ('?', None),
            };
            let mode = mode.unwrap_or(header.mode().expect("the header is right") & 0o7777);
            let owner = (number(header.uid()), number(header.gid()));
            let mtime = number(header.mtime()).cast_signed();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("the tar is whole");
            if let Some(target) = entry.link_name_bytes() {
                content = target.into_owned();
            }
            let path = entry.path_bytes();
            let path = path.strip_prefix(b"./").unwrap_or(&path);
            let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
            let object = Object {
                kind,
                mode,
                owner,
                mtime,
                content,
            };
            tree.0.insert(path, object);
        }
        tree
    }

    /// Keeps this folder and what is below it.
    #[must_use]
    pub fn below(mut self, folder: &str) -> Self {
        let below = format!("{folder}/");
        self.0
            .retain(|path, _| path == folder.as_bytes() || path.starts_with(below.as_bytes()));
        self
    }

    /// Asserts that two trees are the same, and names what is not.
    ///
    /// # Panics
    ///
    /// If they are not.
    #[track_caller]
    pub fn assert_is(&self, expected: &Self, what: &str) {
        let mut differences = Vec::new();
        for path in self.0.keys().chain(expected.0.keys()) {
            let (found, expected) = (self.0.get(path), expected.0.get(path));
            if found != expected {
                differences.push(format!(
                    "{}: {found:?}, expected {expected:?}",
                    path.escape_ascii()
                ));
            }
        }
        differences.sort();
        differences.dedup();
        assert!(differences.is_empty(), "{what}: {differences:#?}");
    }
}

fn directory(mode: u32) -> Object {
    Object {
        kind: 'd',
        mode,
        owner: (0, 0),
        mtime: 1,
        content: Vec::new(),
    }
}
