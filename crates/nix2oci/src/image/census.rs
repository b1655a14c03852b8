//! What `check` keeps of a layer to judge the image as a whole.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::content::{Program, ProgramFormat};
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, MAX_PATH, show};
use crate::store::{StoreDir, StorePath};

use super::listing::StorePrefix;

/// Kinds of programs of one layer that are kept: a right layer has one or two.
const MAX_PROGRAMS: usize = 16;

/// Bytes that are kept of all layers together: ten million files and a million
/// links take half of it.
const MAX_BYTES: usize = 512 << 20;

/// Bytes that a path's hash takes in a set.
const HASH_BYTES: usize = 16;

/// The room for what is kept of all layers. A tar of names packs to nearly
/// nothing, so a small image of many layers could take all memory.
#[derive(Debug)]
pub(super) struct Room(AtomicUsize);

impl Default for Room {
    fn default() -> Self {
        Self(AtomicUsize::new(MAX_BYTES))
    }
}

impl Room {
    /// Takes so many bytes, or all that is left and returns `false`.
    fn take(&self, bytes: usize) -> bool {
        let rest = |left: usize| Some(left.saturating_sub(bytes));
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        before.is_ok_and(|left| left > bytes)
    }

    /// Returns whether something found no room: what is kept is not all there
    /// is.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// Directories outside the store that hold what people and services start.
const PROGRAM_DIRS: [&[u8]; 6] = [
    b"bin/",
    b"sbin/",
    b"usr/bin/",
    b"usr/sbin/",
    b"usr/libexec/",
    b"usr/local/bin/",
];

/// The same in a store path.
const STORE_PROGRAM_DIRS: [&[u8]; 3] = [b"bin/", b"sbin/", b"libexec/"];

/// What is kept of a layer: 8 bytes for each path, the links, and the paths that
/// it deletes.
pub(super) struct Census {
    prefix: StorePrefix,
    /// The store paths that have entries.
    pub(super) store_paths: BTreeSet<StorePath>,
    /// The hashes of all paths, those of directories without an entry too.
    names: HashSet<PathHash>,
    room: Arc<Room>,
    /// The directory of the last entry, whose parents are in `names`.
    last_parent: Vec<u8>,
    /// Symbolic links and what they hold.
    pub(super) links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Paths that are deleted from the layers below.
    removed: HashSet<Vec<u8>>,
    /// Directories of which nothing of the layers below is seen.
    opaque: HashSet<Vec<u8>>,
    /// Each kind of program, the first of it, and how many there are.
    pub(super) programs: Vec<(Program, String, u64)>,
    /// The program whose first bytes are being read.
    candidate: Option<(String, Vec<u8>)>,
}

impl Census {
    pub(super) fn new(store_dir: &StoreDir, room: &Arc<Room>) -> Self {
        Self {
            prefix: StorePrefix::new(store_dir),
            store_paths: BTreeSet::new(),
            names: HashSet::new(),
            room: Arc::clone(room),
            last_parent: Vec::new(),
            links: BTreeMap::new(),
            removed: HashSet::new(),
            opaque: HashSet::new(),
            programs: Vec::new(),
            candidate: None,
        }
    }

    /// Ends the layer.
    pub(super) fn finish(mut self) -> Self {
        self.settle();
        self.last_parent = Vec::new();
        self
    }

    /// Returns whether the layer has something at a path.
    pub(super) fn has(&self, path: PathHash) -> bool {
        self.names.contains(&path)
    }

    /// Returns whether nothing at a path of the layers below is seen.
    pub(super) fn hides(&self, path: &[u8]) -> bool {
        if self.removed.is_empty() && self.opaque.is_empty() {
            return false;
        }
        self.removed.contains(path)
            || parents(path)
                .any(|parent| self.removed.contains(parent) || self.opaque.contains(parent))
            || self.opaque.contains(&b""[..])
    }

    /// Returns about how many bytes are hashed to find out whether nothing at a
    /// path is seen below.
    pub(super) fn cost_to_hide(&self, path: &[u8]) -> u64 {
        if self.removed.is_empty() && self.opaque.is_empty() {
            return 0;
        }
        (parents(path).count() * path.len()) as u64
    }

    fn take_names(&mut self, path: &[u8]) {
        self.take_name(path);
        let parent = parents(path).next().unwrap_or_default();
        if parent != self.last_parent {
            for parent in parents(path) {
                if !self.take_name(parent) {
                    break;
                }
            }
            self.last_parent = parent.to_vec();
        }
    }

    /// Takes a name, and returns whether it is new and there was room for it.
    fn take_name(&mut self, path: &[u8]) -> bool {
        !self.room.is_spent() && self.names.insert(PathHash::of(path)) && self.room.take(HASH_BYTES)
    }

    fn is_program(&mut self, path: &[u8]) -> bool {
        match self.prefix.split(path) {
            Some((_, inside)) => STORE_PROGRAM_DIRS.iter().any(|dir| inside.starts_with(dir)),
            None => PROGRAM_DIRS.iter().any(|dir| path.starts_with(dir)),
        }
    }

    /// Judges the program whose first bytes were read.
    fn settle(&mut self) {
        let Some((path, head)) = self.candidate.take() else {
            return;
        };
        let Some(mut program) = Program::parse(&head) else {
            return;
        };
        if program.format == ProgramFormat::Script {
            return;
        }
        program.interpreter = None;
        if let Some((.., count)) = self.programs.iter_mut().find(|(kind, ..)| *kind == program) {
            *count += 1;
        } else if self.programs.len() < MAX_PROGRAMS {
            self.programs.push((program, path, 1));
        }
    }
}

impl EntryVisitor for Census {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        self.settle();
        let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        if name.starts_with(b".wh.") && !self.room.take(path.len()) {
            return false;
        }
        if name == b".wh..wh..opq" {
            self.opaque.insert(parent.to_vec());
            return false;
        }
        if let Some(name) = name.strip_prefix(b".wh.") {
            let slash = if parent.is_empty() { &b""[..] } else { b"/" };
            self.removed.insert([parent, slash, name].concat());
            return false;
        }
        self.take_names(path);
        if let Some((store_path, _)) = self.prefix.split(path) {
            self.store_paths.insert(store_path);
        }
        match member.kind {
            MemberKind::Symlink => {
                // Linux makes no longer ones, and to follow them takes long.
                let is_possible = path.len().max(member.link.len()) <= MAX_PATH;
                if is_possible && self.room.take(path.len() + member.link.len()) {
                    self.links.insert(path.to_vec(), member.link.clone());
                }
                false
            }
            MemberKind::File if member.is_executable && self.is_program(path) => {
                self.candidate = Some((format!("/{}", show(path)), Vec::new()));
                true
            }
            _ => false,
        }
    }

    fn contents(&mut self, bytes: &[u8]) {
        if let Some((_, head)) = &mut self.candidate {
            let missing = Program::HEAD.saturating_sub(head.len());
            head.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        }
    }
}

/// Returns the directories above a path, the nearest first, without the root.
pub(super) fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().rev().filter(|(_, b)| **b == b'/');
    slashes.map(|(at, _)| &path[..at])
}

/// A path as it is kept. Two paths of one hash hide a finding, and nothing
/// worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PathHash(u64);

impl PathHash {
    pub(super) fn of(path: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(path);
        Self(hasher.finish())
    }
}
