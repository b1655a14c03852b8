//! Databases that others wrote, and what is in their logs.

use std::fs;

use rusqlite::Connection;

use super::*;
use crate::error::ErrorClass;

const TABLES: &str = "
    CREATE TABLE ValidPaths (
        id integer primary key autoincrement not null, path text unique not null,
        hash text not null, registrationTime integer not null, deriver text, narSize integer,
        ultimate integer, sigs text, ca text);
    CREATE TABLE Refs (referrer integer not null, reference integer not null,
        primary key (referrer, reference));
    CREATE TABLE DerivationOutputs (
        drv integer not null, id text not null, path text not null, primary key (drv, id));";

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn path(name: &str) -> String {
    format!("/nix/store/{}-{name}", "0".repeat(32))
}

fn add(connection: &Connection, id: i64, name: &str) {
    connection
        .execute(
            "INSERT INTO ValidPaths VALUES (?1, ?2, ?3, 7, '/nix/store/x.drv', 120, 1, 'key:sig', \
             'text:sha256:00')",
            (id, path(name), HASH),
        )
        .unwrap();
}

fn read(file: &Path) -> Result<ValidPaths> {
    let cx = Context::default();
    ValidPaths::read_own(&cx, file, "the database", &StoreDir::default())
}

/// An image of a running container has a database that is still open.
#[test]
fn what_is_in_the_log_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.sqlite");
    let connection = Connection::open(&file).unwrap();
    let mode = "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;";
    connection.execute_batch(mode).unwrap();
    connection.execute_batch(TABLES).unwrap();
    add(&connection, 5, "lib.drv");
    add(&connection, 9, "app");
    let more = "INSERT INTO Refs VALUES (9, 5), (9, 9), (77, 5);
                INSERT INTO DerivationOutputs VALUES (5, 'out', '/nix/store/out');";
    connection.execute_batch(more).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in ["db.sqlite", "db.sqlite-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let found = read(&copy.path().join("db.sqlite")).unwrap();
    assert_eq!(found.logs(), ["-wal"]);
    let names: Vec<&str> = found.paths().map(StorePath::name).collect();
    assert_eq!(names, ["app", "lib.drv"]);
    let app = found.iter().next().unwrap().1;
    let references: Vec<&str> = app.references.iter().map(StorePath::name).collect();
    assert_eq!(references, ["app", "lib.drv"]);
    assert_eq!((app.nar_size, app.registration_time), (Some(120), 7));
    assert_eq!(app.deriver.as_deref(), Some("/nix/store/x.drv"));
    assert_eq!(app.signatures.as_deref(), Some("key:sig"));
    assert_eq!(app.content_address.as_deref(), Some("text:sha256:00"));
    assert_eq!(app.ultimate, Some(1));
    let derivation = found.iter().nth(1).unwrap().1;
    assert_eq!(derivation.outputs["out"], "/nix/store/out");
}

#[test]
fn what_is_no_database_of_nix_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.sqlite");
    let of = |sql: &str| {
        let _ = fs::remove_file(&file);
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        read(&file).unwrap_err()
    };
    let row = |values: &str| format!("{TABLES} INSERT INTO ValidPaths VALUES ({values});");
    let app = path("app");
    let view = "CREATE TABLE Refs (referrer, reference);
                CREATE TABLE DerivationOutputs (drv, id, path);
                CREATE VIEW ValidPaths AS SELECT 1 AS id, 'x' AS path, 'y' AS hash,
                    0 AS narSize, '' AS deriver;";
    for (sql, problem) in [
        ("CREATE TABLE Other (id);".to_owned(), "no such table"),
        (view.to_owned(), "ValidPaths is a view"),
        (
            row(&format!(
                "3, '/gnu/store/x', '{HASH}', 0, NULL, 1, NULL, NULL, NULL"
            )),
            "ValidPaths row 3: path: ",
        ),
        (
            row(&format!(
                "3, '{app}', 'md5:0', 0, NULL, 1, NULL, NULL, NULL"
            )),
            "ValidPaths row 3: NAR hash of ",
        ),
        (
            row(&format!(
                "3, '{app}', '{HASH}', 0, NULL, 1, NULL, NULL, NULL"
            )) + "INSERT INTO Refs VALUES (3, 4);",
            "ValidPaths row 4: something refers to this row",
        ),
    ] {
        let error = of(&sql);
        assert_eq!(error.class(), ErrorClass::Input);
        let told = error.to_string();
        assert!(told.starts_with("the database"), "{told}");
        assert!(told.contains(problem), "{told}");
    }
    fs::write(&file, "no database").unwrap();
    let told = read(&file).unwrap_err().to_string();
    assert!(
        told.contains("it is not read as a database of Nix"),
        "{told}"
    );
}
