//! Databases made with the tables of Nix 2.8.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn full_path(name: &str) -> String {
    format!("/nix/store/{}-{name}", "0".repeat(32))
}

fn path(name: &str) -> StorePath {
    StoreDir::default().parse_path(&full_path(name)).unwrap()
}

/// A Nix database in a folder of its own.
struct Nix {
    dir: tempfile::TempDir,
    connection: Connection,
}

impl Nix {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("db.sqlite")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = wal;
                 CREATE TABLE ValidPaths (
                    id integer primary key autoincrement not null, path text unique not null,
                    hash text not null, registrationTime integer not null, deriver text,
                    narSize integer, ultimate integer, sigs text, ca text);
                 CREATE TABLE Refs (
                    referrer integer not null, reference integer not null,
                    primary key (referrer, reference));",
            )
            .unwrap();
        Self { dir, connection }
    }

    /// With `app` → `lib` → `lib`, and `other` beside them.
    fn with_app() -> Self {
        let nix = Self::new();
        for name in ["lib", "app", "other"] {
            nix.add(name);
        }
        nix.refer("app", "lib");
        nix.refer("lib", "lib");
        nix
    }

    fn add(&self, name: &str) {
        self.add_row(&full_path(name), HASH, Some(120));
    }

    fn add_row(&self, path: &str, hash: &str, nar_size: Option<i64>) {
        self.connection
            .execute(
                "INSERT INTO ValidPaths (path, hash, registrationTime, narSize, deriver)
                 VALUES (?1, ?2, 1, ?3, ?4)",
                params![path, hash, nar_size, full_path("x.drv")],
            )
            .unwrap();
    }

    fn refer(&self, referrer: &str, reference: &str) {
        self.connection
            .execute(
                "INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths a, ValidPaths b
                 WHERE a.path = ?1 AND b.path = ?2",
                [full_path(referrer), full_path(reference)],
            )
            .unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("db.sqlite")
    }

    /// Copies the database to another folder, as it is on disk now.
    fn copy_to(&self, dir: &Path) -> PathBuf {
        for log in ["", "-wal"] {
            let from = with_suffix(&self.file(), log);
            fs::copy(from, with_suffix(&dir.join("db.sqlite"), log)).unwrap();
        }
        dir.join("db.sqlite")
    }

    /// Leaves no log: everything is in the one file, still in WAL mode.
    fn close(self) -> tempfile::TempDir {
        self.connection.close().unwrap();
        self.dir
    }
}

/// Makes SQLite fail to open or make the log's index, also for root: it does
/// not follow symbolic links there.
fn refuse_index(file: &Path) {
    std::os::unix::fs::symlink("nowhere", with_suffix(file, "-shm")).unwrap();
}

fn read(file: &Path, roots: &[&str]) -> Result<Vec<PathInfo>> {
    let roots: Vec<_> = roots.iter().map(|name| path(name)).collect();
    let database = Database::new(file, StoreDir::default());
    let found = database.path_infos(&Context::default(), &roots)?;
    assert!(found.roots.is_empty());
    Ok(found.infos)
}

fn names(infos: &[PathInfo]) -> Vec<&str> {
    let mut names: Vec<_> = infos.iter().map(|info| info.path.name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn reads_the_closure_of_the_roots_or_everything() {
    let nix = Nix::with_app();
    assert_eq!(names(&read(&nix.file(), &["lib"]).unwrap()), ["lib"]);
    let infos = read(&nix.file(), &["app", "gone", "app"]).unwrap();
    assert_eq!(names(&infos), ["app", "lib"]);
    let app = infos.iter().find(|info| info.path.name() == "app").unwrap();
    assert_eq!(app.references, [path("lib")]);
    assert_eq!(app.nar_hash, Some(HASH.parse().unwrap()));
    assert_eq!(app.nar_size, Some(120));
    assert_eq!(app.deriver, Some(path("x.drv")));
    let lib = infos.iter().find(|info| info.path.name() == "lib").unwrap();
    assert_eq!(lib.references, [], "without itself");

    let all = read(&nix.file(), &[]).unwrap();
    assert_eq!(names(&all), ["app", "lib", "other"]);
    assert!(infos.iter().all(|info| all.contains(info)));
}

#[test]
fn sees_what_is_committed_while_nix_writes() {
    let nix = Nix::with_app();
    nix.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    nix.add("uncommitted");
    assert_eq!(read(&nix.file(), &[]).unwrap().len(), 3);
    nix.connection.execute_batch("COMMIT").unwrap();
    assert_eq!(read(&nix.file(), &[]).unwrap().len(), 4);
}

#[test]
fn one_read_sees_one_state() {
    let nix = Nix::with_app();
    let file = nix.file();
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(move || {
            // A path and the reference to it come together, and go so as well.
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("new-{n}");
                nix.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                nix.connection
                    .execute_batch(
                        "DELETE FROM Refs WHERE referrer = (SELECT max(id) FROM ValidPaths WHERE path LIKE '%-app');
                         DELETE FROM ValidPaths WHERE path LIKE '%-new-%'",
                    )
                    .unwrap();
                nix.add(&name);
                nix.refer("app", &name);
                nix.connection.execute_batch("COMMIT").unwrap();
            }
        });
        let read_often = || -> Result<()> {
            for _ in 0..100 {
                for roots in [&["app"][..], &[]] {
                    let infos = read(&file, roots)?;
                    let app = infos.iter().find(|info| info.path.name() == "app");
                    let references = &app.expect("app is always there").references;
                    assert_eq!(references.len(), 1);
                    assert!(infos.iter().any(|info| info.path == references[0]));
                }
            }
            Ok(())
        };
        let result = read_often();
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn a_database_at_rest_that_may_only_be_read_is_immutable() {
    let dir = Nix::with_app().close();
    let file = dir.path().join("db.sqlite");
    assert!(!with_suffix(&file, "-wal").exists());
    refuse_index(&file);
    assert!(Opened::read_only(&file).is_err_and(|error| is_refused(&error)));
    assert_eq!(names(&read(&file, &["app"]).unwrap()), ["app", "lib"]);

    fs::write(with_suffix(&file, "-wal"), "").unwrap();
    assert_eq!(names(&read(&file, &["app"]).unwrap()), ["app", "lib"]);
}

#[test]
fn a_database_that_was_written_to_after_all_is_read_again_from_a_copy() {
    let dir = Nix::with_app().close();
    let file = dir.path().join("db.sqlite");
    let database = Database::new(&file, StoreDir::default());
    let spool = tempfile::tempdir().unwrap();
    let cx = Context {
        spool_dir: spool.path().to_owned(),
        ..Context::default()
    };
    let at_rest = Opened::immutable(&file, database.stamps()).unwrap();
    let app = [path("app")];
    let before = database.read(&cx, at_rest, &app).unwrap();
    assert_eq!(names(&before.infos), ["app", "lib"]);

    // What the connection was opened with is no longer what is there.
    let overtaken = Opened::immutable(&file, vec![None; 3]).unwrap();
    drop(fs::remove_dir(spool.path()));
    let error = database.read(&cx, overtaken, &app).unwrap_err();
    assert!(
        error.to_string().contains("create a folder"),
        "a copy: {error}"
    );
    fs::create_dir(spool.path()).unwrap();
    let overtaken = Opened::immutable(&file, vec![None; 3]).unwrap();
    assert_eq!(database.read(&cx, overtaken, &app).unwrap(), before);
}

#[test]
fn what_is_only_in_the_log_is_read_from_a_copy() {
    let nix = Nix::with_app();
    let dir = tempfile::tempdir().unwrap();
    let file = nix.copy_to(dir.path());
    refuse_index(&file);
    let main_file = fs::read(&file).unwrap();
    assert!(
        Opened::immutable(&file, Vec::new()).is_err(),
        "all rows are in the log"
    );

    let spool = tempfile::tempdir().unwrap();
    let cx = Context {
        spool_dir: spool.path().to_owned(),
        ..Context::default()
    };
    let database = Database::new(&file, StoreDir::default());
    let opened = database.open(&cx).unwrap();
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 1);
    drop(opened);
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);

    let found = database.path_infos(&cx, &[path("app")]).unwrap();
    assert_eq!(names(&found.infos), ["app", "lib"]);
    assert_eq!(fs::read(&file).unwrap(), main_file, "left as it was");
}

#[test]
fn any_file_name_will_do() {
    for name in [
        &b"a?immutable=0#b %41&c"[..],
        b"file:x",
        b":memory:",
        b"\xff\xfe",
    ] {
        let dir = Nix::with_app().close();
        let file = dir.path().join(OsStr::from_bytes(name));
        fs::rename(dir.path().join("db.sqlite"), &file).unwrap();
        assert_eq!(
            read(&file, &["app"]).unwrap().len(),
            2,
            "{}",
            file.display()
        );
        for log in ["-wal", "-shm"] {
            drop(fs::remove_file(with_suffix(&file, log)));
        }
        refuse_index(&file);
        assert_eq!(
            read(&file, &["app"]).unwrap().len(),
            2,
            "{}",
            file.display()
        );
    }
    assert_eq!(
        immutable_uri(Path::new("//host/a?b#c%")),
        "file:%2F%2Fhost%2Fa%3Fb%23c%25?immutable=1"
    );
}

#[test]
fn problems_name_the_file_the_row_and_the_path() {
    for (bad_path, hash, size, expected) in [
        (
            "/gnu/store/x",
            HASH,
            1,
            "path: \"/gnu/store/x\" is not in the store directory /nix/store",
        ),
        (
            "/nix/store/00000000000000000000000000000000-bad",
            "sha256:xyz",
            1,
            "NAR hash of /nix/store/00000000000000000000000000000000-bad: \"sha256:xyz\" is not a \
             hash",
        ),
        (
            "/nix/store/00000000000000000000000000000000-bad",
            HASH,
            -1,
            "NAR size of /nix/store/00000000000000000000000000000000-bad: -1 is not a size",
        ),
    ] {
        let nix = Nix::with_app();
        nix.add_row(bad_path, hash, Some(size));
        let error = read(&nix.file(), &[]).unwrap_err().to_string();
        let expected = format!("{}, ValidPaths row 4: {expected}", nix.file().display());
        assert!(error.starts_with(&expected), "{error}\n{expected}");
        assert_eq!(read(&nix.file(), &["app"]).unwrap().len(), 2, "not reached");
    }

    let nix = Nix::with_app();
    let referring = "INSERT INTO Refs VALUES (2, 99)";
    nix.connection.execute(referring, []).unwrap();
    for roots in [&["app"][..], &[]] {
        assert_eq!(
            read(&nix.file(), roots).unwrap_err().to_string(),
            format!(
                "{}, ValidPaths row 99: {} refers to this row, which is not there",
                nix.file().display(),
                full_path("app")
            )
        );
    }
}

#[test]
fn sizes_that_nix_does_not_know_are_unknown() {
    let nix = Nix::new();
    nix.add_row(&full_path("null"), HASH, None);
    nix.add_row(&full_path("zero"), HASH, Some(0));
    let infos = read(&nix.file(), &[]).unwrap();
    assert_eq!(infos.len(), 2);
    assert!(infos.iter().all(|info| info.nar_size.is_none()));
}

#[test]
fn what_is_not_a_nix_database_is_refused_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.sqlite");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE t (x)").unwrap();
    let text = dir.path().join("text");
    fs::write(
        &text,
        "not a database, but longer than a header ".repeat(20),
    )
    .unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let gone = dir.path().join("gone");
    for (file, cause) in [
        (&other, "no such table: Refs"),
        (&text, "file is not a database"),
        (&empty, "no such table: Refs"),
        (&gone, "No such file or directory"),
    ] {
        let error = read(file, &[]).unwrap_err();
        let expected = format!("failed to open the Nix database {}", file.display());
        assert_eq!(error.to_string(), expected);
        let found = std::error::Error::source(&error).unwrap().to_string();
        assert!(found.contains(cause), "{found}");
    }
}
