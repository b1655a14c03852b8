//! The laws of closure sources, for everything in `closure::SOURCES`.
//!
//! The real outputs are in `fixtures/closures`: one closure of five store
//! paths, as each tool and version describes it.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix2oci::closure::{SOURCES, SourceKind, SourceOptions, automatic, open_source, read_closure};
use nix2oci::error::ErrorClass;
use nix2oci::{Closure, Context, Error, PathInfo, StoreDir, StorePath};

mod generated;

/// The same closure in one of its descriptions.
struct Description {
    /// Below `fixtures/closures`.
    file: &'static str,
    /// What follows the file in the argument.
    key: &'static str,
    tells_hashes: bool,
    tells_derivers: bool,
    names_the_root: bool,
}

const fn describes(file: &'static str) -> Description {
    Description {
        file,
        key: "",
        tells_hashes: true,
        tells_derivers: true,
        names_the_root: false,
    }
}

/// Returns every description that a kind of source must read alike.
fn descriptions(kind: &SourceKind) -> Vec<Description> {
    let attrs = |file, key, names_the_root| Description {
        key,
        tells_derivers: false,
        names_the_root,
        ..describes(file)
    };
    match kind.name {
        "attrs" => vec![
            attrs("nix-2.8.0/attrs.json", "#closure", true),
            // Two graphs, so more roots than one.
            attrs("nix-2.8.0/attrs.json", "", false),
            attrs("hand-made/attrs-valid.json", "#closure", true),
        ],
        "graph" => vec![Description {
            tells_hashes: false,
            tells_derivers: false,
            ..describes("nix-2.8.0/graph")
        }],
        "registration" => vec![
            Description {
                tells_derivers: false,
                ..describes("nix-2.8.0/registration")
            },
            describes("nix-2.8.0/dump-db"),
        ],
        "path-info" => vec![
            describes("nix-2.8.0/path-info.json"),
            describes("hand-made/path-info-lix.json"),
            describes("hand-made/path-info-2.19.json"),
            describes("hand-made/path-info-2.23.json"),
            describes("hand-made/path-info-2.33-format-1.json"),
            describes("hand-made/path-info-2.33-format-2.json"),
            describes("hand-made/path-info-format-3.json"),
            Description {
                tells_hashes: false,
                tells_derivers: false,
                ..describes("hand-made/closure-graph.json")
            },
        ],
        "db" => vec![describes("nix-2.8.0/db.sqlite")],
        // They are not one document: it/daemon and it/binary_cache hold them to
        // these laws.
        "cache" | "daemon" => Vec::new(),
        other => panic!("closure source {other} has no description of the fixture"),
    }
}

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/closures")
        .join(file)
}

fn bytes_of(file: &str) -> Vec<u8> {
    fs::read(fixture(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> StorePath {
    let text = String::from_utf8(bytes_of("nix-2.8.0/root")).unwrap();
    StoreDir::default().parse_path(text.trim_end()).unwrap()
}

/// Reads a closure from the bytes of a document or database.
fn read_bytes(
    kind: &SourceKind,
    key: &str,
    bytes: Vec<u8>,
    roots: &[StorePath],
) -> Result<Closure, Error> {
    let mut options = SourceOptions::default();
    if kind.name == "db" {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("db")).unwrap();
        fs::write(state.path().join("db/db.sqlite"), bytes).unwrap();
        let argument = format!("db:{}", state.path().display());
        return read(&options, &argument, roots);
    }
    options.stdin = Some(Arc::new(move || Box::new(Cursor::new(bytes.clone()))));
    read(&options, &format!("{}:-{key}", kind.name), roots)
}

fn read(options: &SourceOptions, source: &str, roots: &[StorePath]) -> Result<Closure, Error> {
    let source = open_source(options, source)?;
    read_closure(&Context::default(), &options.store_dir, &[&*source], roots)
}

/// What all descriptions of the fixture must give, as the real output of
/// `nix path-info` tells it.
fn expected() -> Closure {
    let file = fixture("nix-2.8.0/path-info.json");
    let source = format!("path-info:{}", file.display());
    read(&SourceOptions::default(), &source, &[root()]).unwrap()
}

fn assert_same(found: &Closure, expected: &Closure, description: &Description) {
    assert_eq!(found.len(), expected.len(), "{}", description.file);
    for (found, expected) in found.infos().iter().zip(expected.infos()) {
        let expected = PathInfo {
            nar_hash: expected.nar_hash.filter(|_| description.tells_hashes),
            nar_size: expected.nar_size.filter(|_| description.tells_hashes),
            deriver: expected
                .deriver
                .clone()
                .filter(|_| description.tells_derivers),
            ..expected.clone()
        };
        assert_eq!(*found, expected, "{}", description.file);
    }
}

#[test]
fn the_fixture_is_what_it_should_be() {
    let closure = expected();
    let names: Vec<_> = closure.ids().map(|id| closure.path(id).name()).collect();
    let [base, lib, link, script, app] = ["base-1.0", "lib-2.0", "link", "script.sh", "app"];
    assert_eq!(names, [base, lib, link, script, app]);
    let references: Vec<Vec<_>> = closure
        .ids()
        .map(|id| {
            let references = closure.references(id).iter();
            references.map(|id| closure.path(*id).name()).collect()
        })
        .collect();
    let expected: [&[&str]; 5] = [&[], &[base], &[lib], &[base], &[lib, link, script]];
    assert_eq!(references, expected);
    assert!(closure.infos().iter().all(|info| {
        info.nar_hash.is_some() && info.nar_size.is_some() && info.deriver.is_some()
    }));
    // Its tool, Nix, computed the sum as well: closureSize of the root.
    assert_eq!(closure.total_nar_size(), 1552);
}

#[test]
fn every_source_gives_the_same_closure() {
    let (root, expected) = (root(), expected());
    for kind in SOURCES {
        for description in descriptions(kind) {
            let bytes = bytes_of(description.file);
            let roots = std::slice::from_ref(&root);
            let found = read_bytes(kind, description.key, bytes.clone(), roots).unwrap();
            assert_same(&found, &expected, &description);
            assert_eq!(found.roots(), [found.find(&root).unwrap()]);

            if kind.name != "db" {
                let file = fixture(description.file);
                let source = format!("{}:{}{}", kind.name, file.display(), description.key);
                let from_file = read(&SourceOptions::default(), &source, roots).unwrap();
                assert_same(&from_file, &expected, &description);
            }
            if description.names_the_root {
                let found = read_bytes(kind, description.key, bytes, &[]).unwrap();
                assert_same(&found, &expected, &description);
                assert_eq!(found.roots(), [found.find(&root).unwrap()]);
            }
        }
    }
}

#[test]
fn graphs_of_structured_attributes_keep_their_roots() {
    let options = SourceOptions::default();
    let file = fixture("nix-2.8.0/attrs.json");
    let names = |key: &str| {
        let source = format!("attrs:{}{key}", file.display());
        let closure = read(&options, &source, &[]).unwrap();
        let roots = closure.roots().iter();
        let roots: Vec<_> = roots
            .map(|id| closure.path(*id).name().to_owned())
            .collect();
        (closure.len(), roots.join(" "))
    };
    assert_eq!(names("#closure"), (5, "app".to_owned()));
    assert_eq!(names("#libraries"), (3, "lib-2.0 script.sh".to_owned()));
    assert_eq!(names(""), (5, "lib-2.0 script.sh app".to_owned()));
}

#[test]
fn a_root_that_is_not_there_is_named_with_the_source() {
    let missing: StorePath = format!("{}-missing", "0".repeat(32)).parse().unwrap();
    for kind in SOURCES {
        for description in descriptions(kind) {
            let bytes = bytes_of(description.file);
            let roots = [missing.clone()];
            let error = read_bytes(kind, description.key, bytes, &roots).unwrap_err();
            let message = error.to_string();
            let place = match kind.name {
                "db" => "db/db.sqlite",
                _ => "standard input",
            };
            assert!(
                message.starts_with(&format!("/nix/store/{missing} is not known to "))
                    && message.ends_with(place),
                "{message}"
            );
            assert_eq!(error.class(), ErrorClass::Input);
        }
    }
}

#[test]
fn another_store_directory_is_refused() {
    for kind in SOURCES {
        for description in descriptions(kind) {
            let file = fixture(description.file);
            let bytes = Arc::new(bytes_of(description.file));
            let state = tempfile::tempdir().unwrap();
            fs::create_dir(state.path().join("db")).unwrap();
            fs::write(state.path().join("db/db.sqlite"), &*bytes).unwrap();
            let argument = match kind.name {
                "db" => state.path().display(),
                _ => file.display(),
            };
            let options = SourceOptions {
                store_dir: "/gnu/store".parse().unwrap(),
                ..SourceOptions::default()
            };
            let source = format!("{}:{argument}{}", kind.name, description.key);
            let error = read(&options, &source, &[]).unwrap_err().to_string();
            assert!(
                error.contains("/nix/store") && error.contains("/gnu/store"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_truncated_description_is_an_error_or_complete() {
    let (root, expected) = (root(), expected());
    for kind in SOURCES {
        for description in descriptions(kind) {
            let bytes = bytes_of(description.file);
            // A database is read page by page; a few cuts in each will do.
            let step = if kind.name == "db" { 509 } else { 1 };
            let mut complete = 0;
            for end in (0..bytes.len()).step_by(step) {
                let cut = bytes[..end].to_owned();
                let roots = std::slice::from_ref(&root);
                match read_bytes(kind, description.key, cut, roots) {
                    Ok(found) => {
                        assert_same(&found, &expected, &description);
                        complete += 1;
                    }
                    Err(error) => assert!(
                        matches!(error.class(), ErrorClass::Input | ErrorClass::Store),
                        "{}, first {end} bytes: {error}",
                        description.file
                    ),
                }
            }
            if kind.name != "db" {
                let last_newline = usize::from(bytes.ends_with(b"\n"));
                assert_eq!(complete, last_newline, "{}", description.file);
            }
        }
    }
}

#[test]
fn a_changed_byte_never_yields_a_broken_closure() {
    let root = root();
    for kind in SOURCES.iter().filter(|kind| kind.name != "db") {
        for description in descriptions(kind) {
            let bytes = bytes_of(description.file);
            let others = [b'\n', b'0', b'"', b'/', 0xff].into_iter().cycle();
            for (at, byte) in (0..bytes.len()).step_by(2).zip(others) {
                let mut changed = bytes.clone();
                changed[at] = byte;
                let roots = std::slice::from_ref(&root);
                let Ok(found) = read_bytes(kind, description.key, changed, roots) else {
                    continue;
                };
                assert_eq!(found.len(), 5, "{}, byte {at}", description.file);
                assert_eq!(*found.path(found.roots()[0]), root);
            }
        }
    }
}

#[test]
fn garbage_at_the_end_is_refused() {
    for kind in SOURCES.iter().filter(|kind| kind.name != "db") {
        for description in descriptions(kind) {
            for garbage in ["x", "\n\n", "]", "{}"] {
                let mut bytes = bytes_of(description.file);
                let is_json = description.file.ends_with(".json");
                if is_json && garbage.trim().is_empty() {
                    continue;
                }
                bytes.extend(garbage.as_bytes());
                let found = read_bytes(kind, description.key, bytes, &[]);
                assert!(found.is_err(), "{} and {garbage:?}", description.file);
            }
        }
    }
}

#[test]
fn the_automatic_choice_is_the_database_below_the_store_root() {
    let store_root = tempfile::tempdir().unwrap();
    let options = SourceOptions {
        store_root: Some(store_root.path().to_owned()),
        ..SourceOptions::default()
    };
    let cx = Context::default();
    let file = store_root.path().join("nix/var/nix/db/db.sqlite");

    let error = automatic(&cx, &options).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to open the Nix database {}", file.display())
    );
    assert!(std::error::Error::source(&error).is_some());

    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bytes_of("nix-2.8.0/db.sqlite")).unwrap();
    let source = automatic(&cx, &options).unwrap();
    let found = read_closure(&cx, &options.store_dir, &[&*source], &[root()]).unwrap();
    assert_same(&found, &expected(), &describes("nix-2.8.0/db.sqlite"));

    let named = read(&options, "db", &[root()]).unwrap();
    assert_same(&named, &found, &describes("nix-2.8.0/db.sqlite"));
}
