//! A Nix database for the image, so that Nix works in a container.
//!
//! The same database comes out whatever knew the closure and whichever machine
//! makes it: it says of a store path what every source that has NAR hashes
//! says, and so neither the deriver nor signatures nor content addresses, as
//! nixpkgs' `closureInfo` leaves them out too. Of the paths that the database of
//! a base has it says what that one says, all of it. SQLite's own traces, which differ
//! between its versions, are replaced.
//!
//! Sources: NixOS/nix 2.8, `src/libstore/schema.sql` and `local-store.cc`
//! (database version 10 since 2016); SQLite, "Database File Format", 1.3.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Transaction, params};

use crate::closure::{Closure, RegisteredPath, ValidPaths};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{NarHash, StorePath};

use super::{Metadata, RootFile, RootNode, RootTree};

/// Nix's state directory, relative to the root: the same for every store
/// directory, because a Nix that was compiled for another one names it so too.
const STATE_DIR: &str = "nix/var/nix";
/// The version of the tables, which Nix looks for before it opens the database.
const SCHEMA_VERSION: &str = "10";
/// The folder of garbage collector roots that dockerTools makes.
const GC_ROOTS: &str = "nix/var/nix/gcroots/docker";
/// Where the database comes from, in errors.
const ORIGIN: &str = "the Nix database";

/// Nix's tables. What they say of deletions is what Nix relies on: a path that
/// another one refers to cannot go.
const TABLES: &str = "
CREATE TABLE ValidPaths (
    id integer primary key autoincrement not null,
    path text unique not null,
    hash text not null,
    registrationTime integer not null,
    deriver text,
    narSize integer,
    ultimate integer,
    sigs text,
    ca text
);
CREATE TABLE Refs (
    referrer integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
CREATE INDEX IndexReferrer ON Refs(referrer);
CREATE INDEX IndexReference ON Refs(reference);
CREATE TRIGGER DeleteSelfRefs BEFORE DELETE ON ValidPaths BEGIN
    DELETE FROM Refs WHERE referrer = old.id AND reference = old.id;
END;
CREATE TABLE DerivationOutputs (
    drv integer not null,
    id text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
CREATE INDEX IndexDerivationOutputs ON DerivationOutputs(path);
";

/// What shapes the file and has other defaults in some builds of SQLite. What
/// pages hold beside their contents is zeros. Only a transaction checks foreign
/// keys, and what a closure holds was checked. `VACUUM` would write what is over
/// 2 MB to a directory that the environment names.
const FORM: &str = "
PRAGMA page_size = 4096;
PRAGMA encoding = 'UTF-8';
PRAGMA auto_vacuum = NONE;
PRAGMA secure_delete = ON;
PRAGMA foreign_keys = OFF;
PRAGMA temp_store = MEMORY;
";

/// The fields of SQLite's header that tell who wrote the file last and how
/// often it was written: the change counter, the counter when the version after
/// it was written, and that version: the first one that keeps the file's size,
/// which counts if both counters are the same.
const TRACES: [(usize, u32); 3] = [(24, 1), (92, 1), (96, 3_007_000)];

impl RootTree {
    /// Adds what Nix keeps beside the store: the database `db/db.sqlite` in
    /// `/nix/var/nix`, in which all paths of the closure are valid since
    /// `registration_time`, and a garbage collector root in `gcroots/docker` for
    /// each root of the closure. `base` is what the database of the base says,
    /// which this one replaces and says as well.
    ///
    /// # Errors
    ///
    /// Those of [`nix_db`]; [`ErrorKind::RootTreeConflict`] if something else is
    /// there already.
    pub fn add_nix_db(
        &mut self,
        closure: &Closure,
        registration_time: u64,
        base: Option<&ValidPaths>,
    ) -> Result<()> {
        let database = nix_db(closure, registration_time, base)?;
        let mut add = |path: String, node: RootNode| {
            self.insert(path.as_bytes(), node, Metadata::default(), ORIGIN)
        };
        let file = |bytes: Vec<u8>| {
            RootNode::File(RootFile::Inline {
                bytes: bytes.into(),
                executable: false,
            })
        };
        add(format!("{STATE_DIR}/db/db.sqlite"), file(database))?;
        add(
            format!("{STATE_DIR}/db/schema"),
            file(SCHEMA_VERSION.into()),
        )?;
        for log in base.iter().flat_map(|base| base.logs()) {
            add(format!("{STATE_DIR}/db/db.sqlite{log}"), file(Vec::new()))?;
        }
        add(GC_ROOTS.to_owned(), RootNode::Directory)?;
        for root in closure.roots() {
            let target = closure.full_path(*root).into_bytes();
            let link = format!("{GC_ROOTS}/{}", closure.path(*root));
            add(link, RootNode::Symlink { target })?;
        }
        Ok(())
    }
}

/// Makes the bytes of a Nix database in which all paths of the closure are
/// valid since `registration_time`, in seconds since 1970, and all of `base`
/// as they are there.
///
/// Memory is some 500 bytes a path.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for a path without NAR hash or NAR size, and for
/// one that has another NAR hash in `base`.
pub fn nix_db(
    closure: &Closure,
    registration_time: u64,
    base: Option<&ValidPaths>,
) -> Result<Vec<u8>> {
    let time = i64::try_from(registration_time)
        .map_err(|_| Error::invalid("the registration time", "it is out of range"))?;
    let mut paths = of_closure(closure, time)?;
    if let Some(base) = base {
        add_base(&mut paths, base, closure)?;
    }
    let mut bytes = write(&rows(closure, paths)).map_err(|error| ErrorKind::Codec {
        codec: "SQLite",
        problem: error.to_string(),
    })?;
    for (at, value) in TRACES {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    Ok(bytes)
}

/// Returns what is registered of the closure's paths.
fn of_closure(closure: &Closure, time: i64) -> Result<BTreeMap<StorePath, RegisteredPath>> {
    let paths = closure.ids().map(|id| {
        let info = closure.info(id);
        let missing = |what: &str| {
            let problem =
                format!("its NAR {what} is not known, and a Nix database has that of every path");
            Error::invalid(closure.full_path(id), problem)
        };
        let nar_size = info.nar_size.and_then(|size| i64::try_from(size).ok());
        let references = closure.references(id).iter();
        let references = references.map(|id| closure.path(*id).clone());
        let itself = info.refers_to_itself.then(|| info.path.clone());
        let registered = RegisteredPath {
            nar_hash: info.nar_hash.ok_or_else(|| missing("hash"))?,
            nar_size: Some(nar_size.ok_or_else(|| missing("size"))?),
            registration_time: time,
            deriver: None,
            ultimate: None,
            signatures: None,
            content_address: None,
            references: references.chain(itself).collect(),
            outputs: BTreeMap::new(),
        };
        Ok((info.path.clone(), registered))
    });
    paths.collect()
}

/// Adds the paths of the base; one that is there already stays as it is in the
/// base.
fn add_base(
    paths: &mut BTreeMap<StorePath, RegisteredPath>,
    base: &ValidPaths,
    closure: &Closure,
) -> Result<()> {
    for (path, registered) in base.iter() {
        let mut registered = registered.clone();
        if let Some(own) = paths.remove(path) {
            check_hash(path, own.nar_hash, registered.nar_hash, base, closure)?;
            registered.nar_size = own.nar_size;
            registered.references.extend(own.references);
        }
        paths.insert(path.clone(), registered);
    }
    Ok(())
}

fn check_hash(
    path: &StorePath,
    own: NarHash,
    of_base: NarHash,
    base: &ValidPaths,
    closure: &Closure,
) -> Result<()> {
    if own == of_base {
        return Ok(());
    }
    let problem = format!(
        "its NAR hash is {own} in the closure and {of_base} in {}",
        base.name()
    );
    Err(Error::invalid(closure.store_dir().join(path), problem))
}

/// A row of `ValidPaths`, in order, with what belongs to it in other tables.
struct Row {
    path: String,
    registered: RegisteredPath,
    /// Indexes of rows, in order, itself included.
    references: BTreeSet<usize>,
}

/// Returns the rows in the order of the paths' names in the store.
fn rows(closure: &Closure, paths: BTreeMap<StorePath, RegisteredPath>) -> Vec<Row> {
    let numbers = paths.keys().zip(0..);
    let numbers: BTreeMap<StorePath, usize> = numbers.map(|(p, n)| (p.clone(), n)).collect();
    let rows = paths.into_iter().map(|(path, registered)| Row {
        path: closure.store_dir().join(&path).to_string(),
        references: registered.references.iter().map(|r| numbers[r]).collect(),
        registered,
    });
    rows.collect()
}

/// Writes the rows in order, so that the pages are filled one after the other;
/// the second writing of `VACUUM` does the same for the indexes.
fn write(rows: &[Row]) -> rusqlite::Result<Vec<u8>> {
    let mut connection = empty()?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    insert(&transaction, rows)?;
    transaction.commit()?;
    connection.execute_batch("VACUUM")?;
    Ok(connection.serialize("main")?.to_vec())
}

/// Opens a database in memory that makes no files.
fn empty() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(FORM)?;
    Ok(connection)
}

fn insert(transaction: &Transaction<'_>, rows: &[Row]) -> rusqlite::Result<()> {
    let id = |row: usize| i64::try_from(row + 1).expect("so many rows were in memory");
    let mut paths = transaction.prepare(
        "INSERT INTO ValidPaths (id, path, hash, registrationTime, deriver, narSize, ultimate, \
         sigs, ca) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut references =
        transaction.prepare("INSERT INTO Refs (referrer, reference) VALUES (?1, ?2)")?;
    let mut outputs =
        transaction.prepare("INSERT INTO DerivationOutputs (drv, id, path) VALUES (?1, ?2, ?3)")?;
    for (number, row) in rows.iter().enumerate() {
        let registered = &row.registered;
        paths.execute(params![
            id(number),
            row.path,
            format!("sha256:{}", registered.nar_hash.to_base16()),
            registered.registration_time,
            registered.deriver,
            registered.nar_size,
            registered.ultimate,
            registered.signatures,
            registered.content_address,
        ])?;
    }
    for (number, row) in rows.iter().enumerate() {
        for reference in &row.references {
            references.execute(params![id(number), id(*reference)])?;
        }
        for (output, path) in &row.registered.outputs {
            outputs.execute(params![id(number), output, path])?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "nix_db_tests.rs"]
mod tests;
