//! The database is the same wherever the closure was told, and says all of it.

use super::*;
use crate::context::Context;
use crate::digest::Digest;
use crate::store::{PathInfo, StoreDir, StorePath};

/// Shapes the digests of all images with a database: see `TRACES`. Another
/// digest is a change for the changelog.
const GOLDEN: &str = "sha256:84047894a1151b4bdff840fa1ba70854d5de795530c31a3bc85f8319e49b911a";

fn path(name: &str) -> StorePath {
    let hash: String = name.chars().cycle().take(32).collect();
    format!("{hash}-{name}").parse().unwrap()
}

fn info(name: &str, references: &[&str]) -> PathInfo {
    let references = references.iter().map(|name| path(name));
    let mut info = PathInfo::new(path(name), references);
    info.nar_hash = Some(NarHash::new(*Digest::of(name.as_bytes()).as_bytes()));
    info.nar_size = Some(name.len() as u64 * 1000);
    info
}

fn closure(infos: impl IntoIterator<Item = PathInfo>) -> Closure {
    let store_dir = StoreDir::default();
    Closure::new(store_dir, infos, &[path("zpp")], "the test").unwrap()
}

fn example() -> [PathInfo; 3] {
    [
        info("zpp", &["lib", "libc", "zpp"]),
        info("lib", &["libc", "lib"]),
        info("libc", &[]),
    ]
}

/// Opens bytes as SQLite does, not as this module made them.
fn open(bytes: &[u8]) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    let size = bytes.len();
    connection
        .deserialize_read_exact("main", bytes, size, false)
        .unwrap();
    connection
}

#[test]
fn the_bytes_are_a_function_of_the_closure() {
    let bytes = nix_db(&closure(example()), 1, None).unwrap();
    assert_eq!(Digest::of(&bytes).to_string(), GOLDEN);
    let mut reordered = example();
    reordered.reverse();
    for info in &mut reordered {
        // Not every source knows it.
        info.deriver = Some(path("drv"));
    }
    assert!(nix_db(&closure(reordered), 1, None).unwrap() == bytes);
    assert!(nix_db(&closure(example()), 2, None).unwrap() != bytes);
}

#[test]
fn all_paths_and_references_are_in_it() {
    let bytes = nix_db(&closure(example()), 1234, None).unwrap();
    let connection = open(&bytes);
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let mut broken = connection.prepare("PRAGMA foreign_key_check").unwrap();
    assert!(broken.query([]).unwrap().next().unwrap().is_none());

    let mut paths = connection
        .prepare("SELECT * FROM ValidPaths ORDER BY id")
        .unwrap();
    let paths: Vec<(String, String, i64, i64)> = paths
        .query_map([], |row| {
            for absent in ["deriver", "ultimate", "sigs", "ca"] {
                assert!(row.get::<_, Option<String>>(absent)?.is_none());
            }
            Ok((
                row.get("path")?,
                row.get("hash")?,
                row.get("registrationTime")?,
                row.get("narSize")?,
            ))
        })
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    let expected = ["libc", "lib", "zpp"].map(|name| {
        let hash = Digest::of(name.as_bytes()).to_string();
        let size = i64::try_from(name.len()).unwrap() * 1000;
        (format!("/nix/store/{}", path(name)), hash, 1234, size)
    });
    assert_eq!(paths, expected);

    let mut references = connection
        .prepare("SELECT referrer, reference FROM Refs ORDER BY 1, 2")
        .unwrap();
    let references: Vec<(i64, i64)> = references
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    assert_eq!(references, [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]);
}

/// Nix deletes what nobody refers to and no more, and goes on counting.
#[test]
fn nix_can_go_on_with_it() {
    let connection = open(&nix_db(&closure(example()), 1, None).unwrap());
    connection
        .execute_batch("PRAGMA foreign_keys = ON")
        .unwrap();
    let delete = |name: &str| {
        let path = format!("/nix/store/{}", path(name));
        connection.execute("DELETE FROM ValidPaths WHERE path = ?1", [path])
    };
    assert!(delete("lib").is_err(), "zpp refers to it");
    assert_eq!(delete("zpp"), Ok(1));
    assert_eq!(delete("lib"), Ok(1));
    let insert = "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('x', 'y', 0)";
    connection.execute(insert, []).unwrap();
    assert_eq!(connection.last_insert_rowid(), 4);
}

#[test]
fn what_tells_who_wrote_the_file_is_fixed() {
    let bytes = nix_db(&closure(example()), 1, None).unwrap();
    let field = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    assert_eq!(bytes[16..18], [0x10, 0], "pages of 4096 bytes");
    assert_eq!(bytes[18..20], [1, 1], "no write-ahead log");
    assert_eq!((field(24), field(92)), (1, 1));
    assert_eq!(field(28) as usize * 4096, bytes.len());
    assert_eq!(field(96), 3_007_000);
}

#[test]
fn a_path_without_hash_or_size_is_named() {
    for (forget, what) in [
        (
            (|info: &mut PathInfo| info.nar_hash = None) as fn(&mut PathInfo),
            "hash",
        ),
        (|info| info.nar_size = None, "size"),
        (|info| info.nar_size = Some(u64::MAX), "size"),
    ] {
        let mut infos = example();
        forget(&mut infos[1]);
        let error = nix_db(&closure(infos), 1, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "/nix/store/{}: its NAR {what} is not known, and a Nix database has that of \
                 every path",
                path("lib")
            )
        );
    }
}

/// Returns what a database file says, as that of a base.
fn of_base(bytes: &[u8], edit: &str, log: bool) -> ValidPaths {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.sqlite");
    std::fs::write(&file, bytes).unwrap();
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch(edit).unwrap();
    drop(connection);
    if log {
        std::fs::write(dir.path().join("db.sqlite-wal"), "").unwrap();
    }
    let (cx, store_dir) = (Context::default(), StoreDir::default());
    ValidPaths::read_own(&cx, &file, "the base", &store_dir).unwrap()
}

/// A path, when it was registered, and signatures.
type PathRow = (String, i64, Option<String>);

/// Returns the paths and references of a database.
fn told(bytes: &[u8]) -> (Vec<PathRow>, Vec<(String, String)>) {
    let connection = open(bytes);
    let mut paths = connection
        .prepare("SELECT path, registrationTime, sigs FROM ValidPaths ORDER BY id")
        .unwrap();
    let mut references = connection
        .prepare(
            "SELECT a.path, b.path FROM Refs JOIN ValidPaths a ON a.id = referrer \
             JOIN ValidPaths b ON b.id = reference ORDER BY a.id, b.id",
        )
        .unwrap();
    let name = |path: String| path[44..].to_owned();
    let paths = paths
        .query_map([], |row| Ok((name(row.get(0)?), row.get(1)?, row.get(2)?)))
        .unwrap();
    let references = references
        .query_map([], |row| Ok((name(row.get(0)?), name(row.get(1)?))))
        .unwrap();
    let references = references.collect::<rusqlite::Result<_>>().unwrap();
    (paths.collect::<rusqlite::Result<_>>().unwrap(), references)
}

#[test]
fn what_is_registered_in_the_base_stays_so() {
    let below = nix_db(&closure(example()), 7, None).unwrap();
    let signed = "UPDATE ValidPaths SET sigs = 'key:sig', deriver = 'x.drv', narSize = NULL;
                  INSERT INTO DerivationOutputs VALUES (1, 'out', '/nix/store/out');";
    let base = of_base(&below, signed, false);
    let own = [
        info("zpp", &["libc", "map"]),
        info("libc", &[]),
        info("map", &[]),
    ];
    let bytes = nix_db(&closure(own.clone()), 9, Some(&base)).unwrap();
    let (paths, references) = told(&bytes);
    let sig = Some("key:sig".to_owned());
    let expected = [
        ("libc", 7, sig.clone()),
        ("lib", 7, sig.clone()),
        ("map", 9, None),
        ("zpp", 7, sig),
    ];
    assert_eq!(
        paths,
        expected.map(|(name, time, sig)| (name.to_owned(), time, sig))
    );
    let expected = [
        ("lib", "libc"),
        ("lib", "lib"),
        ("zpp", "libc"),
        ("zpp", "lib"),
        ("zpp", "map"),
        ("zpp", "zpp"),
    ];
    assert_eq!(
        references,
        expected.map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let connection = open(&bytes);
    let sizes: Vec<Option<i64>> = connection
        .prepare("SELECT narSize FROM ValidPaths ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    assert_eq!(sizes, [Some(4000), None, Some(3000), Some(3000)]);
    let output: (i64, String, String) = connection
        .query_row("SELECT * FROM DerivationOutputs", [], |row| row.try_into())
        .unwrap();
    assert_eq!(output, (1, "out".to_owned(), "/nix/store/out".to_owned()));

    // The numbers of the rows in the base do not matter.
    let moved = "PRAGMA foreign_keys = OFF; UPDATE ValidPaths SET id = 50 WHERE id = 2;
                 UPDATE Refs SET referrer = 50 WHERE referrer = 2;
                 UPDATE Refs SET reference = 50 WHERE reference = 2;";
    let on = |edit| {
        nix_db(
            &closure(own.clone()),
            9,
            Some(&of_base(&below, edit, false)),
        )
        .unwrap()
    };
    assert!(on(moved) == on(""));
}

#[test]
fn a_path_that_is_another_in_the_base_is_told_with_both_hashes() {
    let other = Digest::of(b"other").to_string();
    let edit = format!("UPDATE ValidPaths SET hash = '{other}' WHERE id = 2");
    let below = nix_db(&closure(example()), 7, None).unwrap();
    let base = of_base(&below, &edit, false);
    let error = nix_db(&closure(example()), 9, Some(&base)).unwrap_err();
    let sri = |of: &[u8]| NarHash::new(*Digest::of(of).as_bytes()).to_string();
    assert_eq!(
        error.to_string(),
        format!(
            "/nix/store/{}: its NAR hash is {} in the closure and {} in the base",
            path("lib"),
            sri(b"lib"),
            sri(b"other")
        )
    );
}

/// SQLite would take the log of the base's database for that of this one.
#[test]
fn a_log_of_the_base_is_emptied() {
    let below = nix_db(&closure(example()), 7, None).unwrap();
    for has_log in [false, true] {
        let mut tree = RootTree::default();
        let base = of_base(&below, "", has_log);
        tree.add_nix_db(&closure(example()), 1, Some(&base))
            .unwrap();
        let log = tree
            .nodes()
            .find(|(path, ..)| *path == b"nix/var/nix/db/db.sqlite-wal");
        match log {
            Some((_, RootNode::File(RootFile::Inline { bytes, .. }), _)) => {
                assert!(has_log && bytes.is_empty());
            }
            found => assert!(!has_log && found.is_none()),
        }
    }
}

#[test]
fn the_root_tree_gets_the_database_and_a_root_for_each_root() {
    let mut tree = RootTree::default();
    let closure = closure(example());
    tree.add_nix_db(&closure, 1, None).unwrap();
    tree.add_nix_db(&closure, 1, None)
        .expect("the same once more");
    let nodes: Vec<_> = tree
        .nodes()
        .filter(|(_, node, _)| !matches!(node, RootNode::Directory))
        .map(|(path, node, _)| {
            let content = match node {
                RootNode::File(RootFile::Inline { bytes, .. }) if bytes.len() > 99 => "…".into(),
                RootNode::File(RootFile::Inline { bytes, .. }) => bytes.to_vec(),
                RootNode::Symlink { target } => target.clone(),
                other => panic!("{other:?}"),
            };
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (text(path.to_vec()), text(content))
        })
        .collect();
    let zpp = path("zpp").to_string();
    let expected = [
        ("nix/var/nix/db/db.sqlite".to_owned(), "…".to_owned()),
        ("nix/var/nix/db/schema".to_owned(), "10".to_owned()),
        (
            format!("nix/var/nix/gcroots/docker/{zpp}"),
            format!("/nix/store/{zpp}"),
        ),
    ];
    assert_eq!(nodes, expected);
}

#[test]
fn nothing_is_written_to_a_directory_of_the_environment() {
    let connection = empty().unwrap();
    let place = connection.pragma_query_value(None, "temp_store", |row| row.get::<_, i64>(0));
    // 2 is memory; 0 is a file where SQLITE_TMPDIR or TMPDIR says.
    assert_eq!(place.unwrap(), 2);
}
