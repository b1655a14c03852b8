//! The Nix database: `db/db.sqlite` in Nix's state directory.
//!
//! It is read while Nix may be writing to it, and never written. The ways to
//! open it, in turn:
//!
//! 1. Read-only. SQLite then shares Nix's write-ahead log, and one transaction
//!    sees one state. It needs the log's index `db.sqlite-shm`, or leave to
//!    make it.
//! 2. `immutable`, if that is not to be had and there is no log, or an empty
//!    one: a store on a read-only medium, or a user who may only read. Nothing
//!    is locked, and nothing hides in a log.
//! 3. A copy in the spool directory, if the log has bytes: reading the main
//!    file alone would miss the newest paths.
//!
//! The closure is read by row id with prepared statements, a few times faster
//! than by path as Nix itself does. Tables: NixOS/nix,
//! `src/libstore/schema.sql` (2.8; unchanged since schema 10 of 2016 but for
//! tables that are not used here).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};

use crate::context::Context;
use crate::error::{Cause, Error, ErrorKind, Location, Result};
use crate::store::{PathInfo, StoreDir, StorePath};

use super::document;
use super::source::{ClosureSource, PathInfos};

mod valid_paths;

pub(crate) use valid_paths::ValidPath as RegisteredPath;
pub use valid_paths::ValidPaths;

/// How long to wait for a writer that keeps readers out, which Nix does only
/// for moments and only without a write-ahead log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to try for a copy that nobody wrote to meanwhile.
const COPY_ATTEMPTS: u32 = 3;
/// What SQLite keeps beside a database that was not closed.
const LOGS: [&str; 2] = ["-wal", "-journal"];

const BY_PATH: &str = "SELECT id, path, hash, narSize, deriver FROM ValidPaths WHERE path = ?1";
const BY_ID: &str = "SELECT id, path, hash, narSize, deriver FROM ValidPaths WHERE id = ?1";
const ALL_PATHS: &str = "SELECT id, path, hash, narSize, deriver FROM ValidPaths ORDER BY id";
const REFERENCES_OF: &str = "SELECT reference FROM Refs WHERE referrer = ?1";
const ALL_REFERENCES: &str = "SELECT referrer, reference FROM Refs";

/// The Nix database.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
    store_dir: StoreDir,
}

impl Database {
    /// Makes the source that reads a database file.
    ///
    /// `store_dir` is what the paths in it begin with, wherever the store and
    /// the file really lie.
    pub fn new(file: impl Into<PathBuf>, store_dir: StoreDir) -> Self {
        Self {
            path: file.into(),
            store_dir,
        }
    }

    /// Makes the source that reads the database in Nix's state directory, such
    /// as `/nix/var/nix`.
    pub fn in_state_dir(dir: &Path, store_dir: StoreDir) -> Self {
        Self::new(dir.join("db/db.sqlite"), store_dir)
    }

    /// Checks that the database can be opened and has Nix's tables.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Database`] with the file and the cause.
    pub fn check(&self, cx: &Context) -> Result<()> {
        self.open(cx).map(|_| ())
    }

    fn open(&self, cx: &Context) -> Result<Opened> {
        // Asked of the system first: SQLite would not say why. Not by opening
        // the file: closing it would drop the locks that other connections of
        // this process hold on it.
        rustix::fs::access(&self.path, rustix::fs::Access::READ_OK)
            .map_err(|errno| self.failed("open", io::Error::from(errno)))?;

        let shared = match Opened::read_only(&self.path) {
            Ok(opened) => return Ok(opened),
            Err(error) if is_refused(&error) => error,
            Err(error) => return Err(self.failed("open", error)),
        };
        let before = self.stamps();
        let mut logs = LOGS.iter().map(|log| with_suffix(&self.path, log));
        if !logs.any(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0)) {
            return Opened::immutable(&self.path, before).map_err(|_| self.failed("open", shared));
        }
        self.open_copy(cx)
    }

    fn open_copy(&self, cx: &Context) -> Result<Opened> {
        let dir = tempfile::Builder::new()
            .prefix("nix2oci-db-")
            .tempdir_in(&cx.spool_dir)
            .map_err(Error::writing("create a folder in", &cx.spool_dir))?;
        let copy = dir.path().join("db.sqlite");
        for _ in 0..COPY_ATTEMPTS {
            cx.cancel.check()?;
            let before = self.stamps();
            for suffix in [""].iter().chain(&LOGS) {
                let from = with_suffix(&self.path, suffix);
                match fs::copy(&from, with_suffix(&copy, suffix)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.failed("copy", error));
                    }
                    _ => {}
                }
            }
            if self.stamps() == before {
                return Opened::private_copy(&copy, dir)
                    .map_err(|error| self.failed("open a copy of", error));
            }
        }
        Err(self.failed("copy", "it was written to each time it was copied"))
    }

    /// Returns what tells that somebody wrote: the size and the time of each
    /// file that is there.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let stamp = |file: fs::Metadata| (file.len(), file.modified().ok());
        [""].iter()
            .chain(&LOGS)
            .map(|suffix| fs::metadata(with_suffix(&self.path, suffix)))
            .map(|found| found.ok().map(stamp))
            .collect()
    }

    /// Reads the paths that can be reached from those of `roots` that are
    /// there.
    fn read_closure(
        &self,
        cx: &Context,
        connection: &Connection,
        roots: &[StorePath],
    ) -> Result<Rows> {
        let failed = |error| self.failed("read", error);
        let mut by_path = connection.prepare(BY_PATH).map_err(failed)?;
        let mut by_id = connection.prepare(BY_ID).map_err(failed)?;
        let mut references_of = connection.prepare(REFERENCES_OF).map_err(failed)?;

        let mut rows = Rows::default();
        for root in roots {
            let found = by_path
                .query_row([self.store_dir.join(root)], ValidPath::read)
                .optional()
                .map_err(failed)?;
            if let Some(row) = found {
                rows.add(row.id, self.info(row)?);
            }
        }
        let mut next = 0;
        while let Some(&id) = rows.ids.get(next) {
            cx.cancel.check()?;
            let references = references_of
                .query_map([id], |row| row.get(0))
                .and_then(Iterator::collect::<rusqlite::Result<Vec<i64>>>)
                .map_err(failed)?;
            for reference in references {
                rows.references.push((id, reference));
                if !rows.index.contains_key(&reference) {
                    let row = by_id
                        .query_row(params![reference], ValidPath::read)
                        .optional()
                        .map_err(failed)?
                        .ok_or_else(|| self.dangling(reference, &rows.infos[next]))?;
                    rows.add(row.id, self.info(row)?);
                }
            }
            next += 1;
        }
        Ok(rows)
    }

    fn read_all(&self, cx: &Context, connection: &Connection) -> Result<Rows> {
        let failed = |error| self.failed("read", error);
        let mut rows = Rows::default();
        let mut paths = connection.prepare(ALL_PATHS).map_err(failed)?;
        for row in paths.query_map([], ValidPath::read).map_err(failed)? {
            cx.cancel.check()?;
            let row = row.map_err(failed)?;
            rows.add(row.id, self.info(row)?);
        }
        let mut references = connection.prepare(ALL_REFERENCES).map_err(failed)?;
        let pairs = references
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed)?;
        for pair in pairs {
            rows.references.push(pair.map_err(failed)?);
        }
        Ok(rows)
    }

    fn info(&self, row: ValidPath) -> Result<PathInfo> {
        let problem = |problem: String| {
            Error::document(
                self.path.display().to_string(),
                Location::Row(format!("ValidPaths row {}", row.id)),
                problem,
            )
        };
        let parse_path = |what: &str, text: &str| {
            let parsed = self.store_dir.parse_path(text);
            parsed.map_err(|error| problem(format!("{what}: {error}")))
        };
        let full_path = &row.path;
        let mut info = PathInfo::new(parse_path("path", full_path)?, []);
        let nar_hash = row
            .hash
            .parse()
            .map_err(|error| problem(format!("NAR hash of {full_path}: {error}")))?;
        info.nar_hash = Some(nar_hash);
        if let Some(size) = row.nar_size {
            let size = u64::try_from(size)
                .map_err(|_| problem(format!("NAR size of {full_path}: {size} is not a size")))?;
            info.nar_size = document::known_size(size);
        }
        if let Some(deriver) = row.deriver.as_deref().filter(|text| !text.is_empty()) {
            info.deriver = Some(parse_path(&format!("deriver of {full_path}"), deriver)?);
        }
        Ok(info)
    }

    /// Makes the error for a reference to a row that is not there.
    fn dangling(&self, reference: i64, referrer: &PathInfo) -> Error {
        Error::document(
            self.path.display().to_string(),
            Location::Row(format!("ValidPaths row {reference}")),
            format!(
                "{} refers to this row, which is not there",
                self.store_dir.join(&referrer.path)
            ),
        )
    }

    fn failed(&self, action: &'static str, source: impl Into<Cause>) -> Error {
        ErrorKind::Database {
            action,
            path: self.path.clone(),
            source: source.into(),
        }
        .into()
    }
}

impl ClosureSource for Database {
    fn name(&self) -> String {
        format!("the Nix database {}", self.path.display())
    }

    /// Reads the closure of `roots`, or everything without roots.
    fn path_infos(&self, cx: &Context, roots: &[StorePath]) -> Result<PathInfos> {
        self.read(cx, self.open(cx)?, roots)
    }
}

impl Database {
    /// Reads from an open database; again from a copy if it was taken for
    /// immutable and somebody wrote to it, since then pages of two states may
    /// have been read.
    fn read(&self, cx: &Context, mut opened: Opened, roots: &[StorePath]) -> Result<PathInfos> {
        let result = self.read_once(cx, &mut opened, roots);
        match &opened.immutable_at {
            Some(before) if *before != self.stamps() => {
                self.read_once(cx, &mut self.open_copy(cx)?, roots)
            }
            _ => result,
        }
    }

    fn read_once(
        &self,
        cx: &Context,
        opened: &mut Opened,
        roots: &[StorePath],
    ) -> Result<PathInfos> {
        // One transaction, so that all statements see one state.
        let transaction = opened
            .connection
            .transaction()
            .map_err(|error| self.failed("read", error))?;
        let rows = if roots.is_empty() {
            self.read_all(cx, &transaction)?
        } else {
            self.read_closure(cx, &transaction, roots)?
        };
        drop(transaction);
        Ok(PathInfos {
            infos: rows.joined(|referrer, reference| self.dangling(reference, referrer))?,
            roots: Vec::new(),
        })
    }
}

/// A file's size in bytes and when it was last written to.
type Stamp = (u64, Option<SystemTime>);

/// A row of the table `ValidPaths`.
struct ValidPath {
    id: i64,
    path: String,
    hash: String,
    nar_size: Option<i64>,
    deriver: Option<String>,
}

impl ValidPath {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            path: row.get(1)?,
            hash: row.get(2)?,
            nar_size: row.get(3)?,
            deriver: row.get(4)?,
        })
    }
}

/// Paths by row id, and the references between them.
#[derive(Default)]
struct Rows {
    ids: Vec<i64>,
    /// Parallel to `ids`; without references until they are joined.
    infos: Vec<PathInfo>,
    index: HashMap<i64, usize>,
    /// Referrer and reference.
    references: Vec<(i64, i64)>,
}

impl Rows {
    fn add(&mut self, id: i64, info: PathInfo) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.index.entry(id) {
            place.insert(self.infos.len());
            self.ids.push(id);
            self.infos.push(info);
        }
    }

    /// Returns the paths with their references. `dangling` makes the error for
    /// a reference to a row that is not there. A referrer that is not there
    /// does not matter.
    fn joined(self, dangling: impl Fn(&PathInfo, i64) -> Error) -> Result<Vec<PathInfo>> {
        let mut infos = self.infos;
        for (referrer, reference) in self.references {
            let Some(&referrer) = self.index.get(&referrer) else {
                continue;
            };
            let Some(&reference_index) = self.index.get(&reference) else {
                return Err(dangling(&infos[referrer], reference));
            };
            if referrer == reference_index {
                infos[referrer].refers_to_itself = true;
            } else {
                let path = infos[reference_index].path.clone();
                infos[referrer].references.push(path);
            }
        }
        for info in &mut infos {
            info.references.sort_unstable();
            info.references.dedup();
        }
        Ok(infos)
    }
}

/// An open database, and the folder of its copy if it is one, which goes when
/// the connection is closed.
struct Opened {
    connection: Connection,
    /// The stamps of files that were taken for immutable.
    immutable_at: Option<Vec<Option<Stamp>>>,
    _copy: Option<tempfile::TempDir>,
}

impl Opened {
    fn read_only(path: &Path) -> rusqlite::Result<Self> {
        // A name that begins with `file:` or `:memory:` must stay a file name.
        let path = Path::new(".").join(path);
        Self::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None)
    }

    fn immutable(path: &Path, stamps: Vec<Option<Stamp>>) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let mut opened = Self::connect(Path::new(&immutable_uri(path)), flags, None)?;
        opened.immutable_at = Some(stamps);
        Ok(opened)
    }

    /// Opens a copy that nobody else has; SQLite writes to it what is in the
    /// logs.
    fn private_copy(path: &Path, dir: tempfile::TempDir) -> rusqlite::Result<Self> {
        Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, Some(dir))
    }

    fn connect(
        path: &Path,
        flags: OpenFlags,
        copy: Option<tempfile::TempDir>,
    ) -> rusqlite::Result<Self> {
        let connection =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // SQLite reads nothing until it must, so most reasons not to open a
        // database show up only here.
        connection.prepare(ALL_REFERENCES)?;
        connection.prepare(ALL_PATHS)?.query([])?.next()?;
        Ok(Self {
            connection,
            immutable_at: None,
            _copy: copy,
        })
    }
}

/// Returns whether SQLite was refused what it needs to share the database:
/// files beside it that it may neither open nor make, or may not lock or map.
fn is_refused(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::SystemIoFailure
        )
    )
}

/// Returns the URI of a database that nobody writes to. Every byte that is not
/// plain is percent-encoded, slashes as well, so no part of the path can be
/// taken for a host, a query or a fragment.
fn immutable_uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str("?immutable=1");
    uri
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;
