//! All that a Nix database says of its store paths, for another database that
//! is to say it as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rusqlite::{OpenFlags, Row};

use crate::context::Context;
use crate::error::{Error, Location, Result};
use crate::store::{NarHash, StoreDir, StorePath};

use super::{LOGS, Opened, with_suffix};

/// The tables that are read. A view of one of these names could be made to take
/// for ever.
const TABLES: [&str; 3] = ["DerivationOutputs", "Refs", "ValidPaths"];

const PATHS: &str = "SELECT id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, \
                     ca FROM ValidPaths ORDER BY id";
const REFERENCES: &str = "SELECT referrer, reference FROM Refs";
const OUTPUTS: &str = "SELECT drv, id, path FROM DerivationOutputs";

/// The store paths of a Nix database, with all that it says of them but for what
/// is experimental in Nix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPaths {
    name: String,
    paths: BTreeMap<StorePath, ValidPath>,
    logs: Vec<&'static str>,
}

/// What is said of a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValidPath {
    pub(crate) nar_hash: NarHash,
    /// Bytes; Nix does without.
    pub(crate) nar_size: Option<i64>,
    /// Seconds since 1970.
    pub(crate) registration_time: i64,
    pub(crate) deriver: Option<String>,
    /// Whether it was built here, 1 if so.
    pub(crate) ultimate: Option<i64>,
    pub(crate) signatures: Option<String>,
    pub(crate) content_address: Option<String>,
    /// The path itself included, if it refers to itself.
    pub(crate) references: BTreeSet<StorePath>,
    /// The paths of a derivation's outputs, by their names.
    pub(crate) outputs: BTreeMap<String, String>,
}

impl ValidPaths {
    /// Returns how errors name the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the store paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &StorePath> {
        self.paths.keys()
    }

    /// Returns how the names of the files go on that SQLite kept beside the
    /// database: it would take them for those of a database in its place.
    pub(crate) fn logs(&self) -> &[&'static str] {
        &self.logs
    }

    /// Returns what is said of each, in the order of the store paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&StorePath, &ValidPath)> {
        self.paths.iter()
    }

    /// Reads a database file that nobody else uses: SQLite writes to it what is
    /// in the logs beside it. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`](crate::ErrorKind::Document) if it is no database
    /// of Nix for this store directory, or says of a path what cannot be.
    pub(crate) fn read_own(
        cx: &Context,
        file: &Path,
        name: &str,
        store_dir: &StoreDir,
    ) -> Result<Self> {
        let logs = LOGS.into_iter();
        let logs = logs.filter(|suffix| with_suffix(file, suffix).exists());
        let logs = logs.collect();
        let reading = Reading { name, store_dir };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let opened = Opened::connect(file, flags, None).map_err(|error| reading.broken(&error))?;
        Ok(Self {
            name: name.to_owned(),
            paths: reading.read(cx, &opened)?,
            logs,
        })
    }
}

/// A database while it is read.
struct Reading<'a> {
    name: &'a str,
    store_dir: &'a StoreDir,
}

impl Reading<'_> {
    fn read(&self, cx: &Context, opened: &Opened) -> Result<BTreeMap<StorePath, ValidPath>> {
        let (connection, broken) = (&opened.connection, |error| self.broken(&error));
        connection
            .execute_batch("PRAGMA trusted_schema = OFF")
            .map_err(broken)?;
        for table in TABLES {
            let kind: String = connection
                .query_row(
                    "SELECT type FROM sqlite_master WHERE name = ?1",
                    [table],
                    |row| row.get(0),
                )
                .map_err(broken)?;
            if kind != "table" {
                return Err(self.problem(Location::Whole, format!("{table} is a {kind}")));
            }
        }
        let mut paths = BTreeMap::new();
        let mut names = HashMap::new();
        let mut rows = connection.prepare(PATHS).map_err(broken)?;
        let mut rows = rows.query([]).map_err(broken)?;
        while let Some(row) = rows.next().map_err(broken)? {
            cx.cancel.check()?;
            let (id, path, valid) = self.row(row)?;
            names.insert(id, path.clone());
            paths.insert(path, valid);
        }
        let mut rows = connection.prepare(REFERENCES).map_err(broken)?;
        let mut rows = rows.query([]).map_err(broken)?;
        while let Some(row) = rows.next().map_err(broken)? {
            cx.cancel.check()?;
            let pair: (i64, i64) = row.try_into().map_err(broken)?;
            // Of a referrer that is not there nothing is kept.
            let Some(referrer) = names.get(&pair.0).and_then(|path| paths.get_mut(path)) else {
                continue;
            };
            let reference = names.get(&pair.1).ok_or_else(|| {
                let problem = "something refers to this row, which is not there";
                self.problem(row_at(pair.1), problem)
            })?;
            referrer.references.insert(reference.clone());
        }
        let mut rows = connection.prepare(OUTPUTS).map_err(broken)?;
        let mut rows = rows.query([]).map_err(broken)?;
        while let Some(row) = rows.next().map_err(broken)? {
            cx.cancel.check()?;
            let (derivation, output, path): (i64, String, String) =
                row.try_into().map_err(broken)?;
            if let Some(valid) = names.get(&derivation).and_then(|path| paths.get_mut(path)) {
                valid.outputs.insert(output, path);
            }
        }
        Ok(paths)
    }

    fn row(&self, row: &Row<'_>) -> Result<(i64, StorePath, ValidPath)> {
        let broken = |error| self.broken(&error);
        let id: i64 = row.get("id").map_err(broken)?;
        let problem = |problem: String| self.problem(row_at(id), problem);
        let full_path: String = row.get("path").map_err(broken)?;
        let path = self.store_dir.parse_path(&full_path);
        let path = path.map_err(|error| problem(format!("path: {error}")))?;
        let hash: String = row.get("hash").map_err(broken)?;
        let nar_hash = hash
            .parse()
            .map_err(|error| problem(format!("NAR hash of {full_path}: {error}")))?;
        let nar_size: Option<i64> = row.get("narSize").map_err(broken)?;
        let valid = ValidPath {
            nar_hash,
            nar_size: nar_size.filter(|size| *size > 0),
            registration_time: row.get("registrationTime").map_err(broken)?,
            deriver: row.get("deriver").map_err(broken)?,
            ultimate: row.get("ultimate").map_err(broken)?,
            signatures: row.get("sigs").map_err(broken)?,
            content_address: row.get("ca").map_err(broken)?,
            references: BTreeSet::new(),
            outputs: BTreeMap::new(),
        };
        Ok((id, path, valid))
    }

    fn problem(&self, location: Location, problem: impl Into<String>) -> Error {
        Error::document(self.name, location, problem)
    }

    fn broken(&self, error: &rusqlite::Error) -> Error {
        let problem = format!("it is not read as a database of Nix: {error}");
        self.problem(Location::Whole, problem)
    }
}

fn row_at(id: i64) -> Location {
    Location::Row(format!("ValidPaths row {id}"))
}

#[cfg(test)]
#[path = "valid_paths_tests.rs"]
mod tests;
