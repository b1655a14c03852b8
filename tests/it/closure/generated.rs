//! Closures and documents that no Nix wrote.

use std::fmt::Write;

use nix2oci::closure::{PathInfos, attrs_json, path_info_json, reference_graph, registration};
use nix2oci::store::NarHash;
use nix2oci::{Closure, Error, PathInfo, StoreDir, StorePath};
use proptest::prelude::*;
use proptest::sample::select;

/// A document of one of the formats and its parser.
struct Format {
    name: &'static str,
    tells_hashes: bool,
    tells_derivers: bool,
    write: fn(&[PathInfo]) -> String,
    parse: fn(&[u8]) -> Result<PathInfos, Error>,
}

const FORMATS: [Format; 7] = [
    Format {
        name: "text reference graph",
        tells_hashes: false,
        tells_derivers: false,
        write: |infos| records(infos, |_| String::new(), false),
        parse: |bytes| reference_graph::parse(bytes, "graph", &StoreDir::default()),
    },
    Format {
        name: "registration of closureInfo",
        tells_hashes: true,
        tells_derivers: false,
        write: |infos| {
            let hash_and_size = |info: &PathInfo| {
                let hash = info.nar_hash.unwrap();
                format!("{hash}\n{}\n", info.nar_size.unwrap_or(0))
            };
            records(infos, hash_and_size, false)
        },
        parse: |bytes| registration::parse(bytes, "registration", &StoreDir::default()),
    },
    Format {
        name: "registration of nix-store --dump-db",
        tells_hashes: true,
        tells_derivers: true,
        write: |infos| {
            let hash_and_size = |info: &PathInfo| {
                let hash = data_encoding::HEXLOWER.encode(info.nar_hash.unwrap().as_bytes());
                format!("{hash}\n{}\n", info.nar_size.unwrap_or(0))
            };
            records(infos, hash_and_size, true)
        },
        parse: |bytes| registration::parse(bytes, "dump", &StoreDir::default()),
    },
    Format {
        name: "structured attributes",
        tells_hashes: true,
        tells_derivers: true,
        write: |infos| {
            let graph: Vec<_> = infos.iter().map(|info| object(info, full, true)).collect();
            serde_json::json!({ "exportReferencesGraph": { "g": [] }, "g": graph }).to_string()
        },
        parse: |bytes| attrs_json::parse(bytes, "attrs", &StoreDir::default(), None),
    },
    Format {
        name: "path-info, array",
        tells_hashes: true,
        tells_derivers: true,
        write: |infos| {
            let list: Vec<_> = infos.iter().map(|info| object(info, full, true)).collect();
            serde_json::to_string_pretty(&list).unwrap()
        },
        parse: |bytes| path_info_json::parse(bytes, "info", &StoreDir::default()),
    },
    Format {
        name: "path-info, object",
        tells_hashes: true,
        tells_derivers: true,
        write: |infos| {
            let members = infos.iter();
            let members: serde_json::Map<_, _> = members
                .map(|info| (full(&info.path), object(info, full, false)))
                .collect();
            serde_json::Value::from(members).to_string()
        },
        parse: |bytes| path_info_json::parse(bytes, "info", &StoreDir::default()),
    },
    Format {
        name: "path-info, format 3",
        tells_hashes: true,
        tells_derivers: true,
        write: |infos| {
            let members = infos.iter();
            let info: serde_json::Map<_, _> = members
                .map(|info| (base(&info.path), object(info, base, false)))
                .collect();
            serde_json::json!({ "version": 3, "storeDir": "/nix/store", "info": info }).to_string()
        },
        parse: |bytes| path_info_json::parse(bytes, "info", &StoreDir::default()),
    },
];

fn full(path: &StorePath) -> String {
    StoreDir::default().join(path)
}

fn base(path: &StorePath) -> String {
    path.to_string()
}

fn records(
    infos: &[PathInfo],
    hash_and_size: impl Fn(&PathInfo) -> String,
    with_deriver: bool,
) -> String {
    let mut out = String::new();
    for info in infos {
        let deriver = info.deriver.as_ref().filter(|_| with_deriver);
        let deriver = deriver.map(full).unwrap_or_default();
        let (path, middle) = (full(&info.path), hash_and_size(info));
        let count = info.references.len();
        write!(out, "{path}\n{middle}{deriver}\n{count}\n").unwrap();
        for reference in &info.references {
            writeln!(out, "{}", full(reference)).unwrap();
        }
    }
    out
}

fn object(
    info: &PathInfo,
    write_path: fn(&StorePath) -> String,
    with_path: bool,
) -> serde_json::Value {
    let references: Vec<_> = info.references.iter().map(write_path).collect();
    let mut object = serde_json::json!({
        "narHash": info.nar_hash.unwrap().to_sri(),
        "narSize": info.nar_size,
        "references": references,
        "deriver": info.deriver.as_ref().map(write_path),
        "ca": null,
    });
    if with_path {
        object["path"] = write_path(&info.path).into();
    }
    object
}

fn store_path(n: usize, name: &str) -> StorePath {
    format!("{n:032}-{name}").parse().unwrap()
}

/// Closures of a few paths, in any order, with references as Nix writes them:
/// to the path itself as well, and unsorted.
fn closures() -> impl Strategy<Value = Vec<PathInfo>> {
    let path = (
        "[a-z][a-z+._?=-]{0,3}",
        any::<[u8; 32]>(),
        prop::option::of(1..u64::MAX),
        prop::option::of("[a-z]{1,5}"),
        prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    );
    prop::collection::vec(path, 0..12)
        .prop_map(|paths| {
            let names: Vec<_> = (0..)
                .zip(&paths)
                .map(|(n, (name, ..))| store_path(n, name))
                .collect();
            (0..)
                .zip(&paths)
                .map(|(n, (_, hash, size, deriver, references))| {
                    let mut info = PathInfo::new(names[n].clone(), []);
                    let references = references.iter().map(|index| index.index(n + 1));
                    info.references = references.map(|n| names[n].clone()).collect();
                    info.nar_hash = Some(NarHash::new(*hash));
                    info.nar_size = *size;
                    let deriver = deriver.as_ref();
                    info.deriver = deriver.map(|name| store_path(n, &format!("{name}.drv")));
                    info
                })
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

/// Pieces that real documents consist of, and worse.
const PIECES: &[&str] = &[
    "/nix/store/00000000000000000000000000000000-a",
    "/nix/store/11111111111111111111111111111111-b",
    "00000000000000000000000000000000-a",
    "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
    "\n",
    "\n\n",
    "0",
    "1",
    "2",
    "-1",
    "18446744073709551615",
    "1e999",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"g\":",
    "\"exportReferencesGraph\":",
    "\"path\":",
    "\"references\":",
    "[]",
    "{}",
    "\"info\":",
    "\"version\":",
    "\"storeDir\":",
    "\"valid\":",
    "null",
    "false",
    "\"\\ud800\"",
    "\"/nix/store/00000000000000000000000000000000-a\"",
    "\"00000000000000000000000000000000-a\":",
    "\u{feff}",
    "\r\n",
    "\0",
];

proptest! {
    #[test]
    fn what_is_written_is_read_back(infos in closures()) {
        for format in &FORMATS {
            let text = (format.write)(&infos);
            let found = (format.parse)(text.as_bytes());
            prop_assert!(found.is_ok(), "{}: {:?}\n{text}", format.name, found.err());
            let mut found = found.unwrap().infos;
            let mut expected: Vec<_> = infos
                .iter()
                .map(|info| PathInfo {
                    nar_hash: info.nar_hash.filter(|_| format.tells_hashes),
                    nar_size: info.nar_size.filter(|_| format.tells_hashes),
                    deriver: info.deriver.clone().filter(|_| format.tells_derivers),
                    ..PathInfo::new(info.path.clone(), info.references.clone())
                })
                .collect();
            found.sort_by_key(|info| info.path.clone());
            expected.sort_by_key(|info| info.path.clone());
            prop_assert_eq!(&found, &expected, "{}", format.name);

            // What a document holds makes a closure, whatever its roots are.
            let roots: Vec<_> = infos.iter().map(|info| info.path.clone()).collect();
            let closure = Closure::new(StoreDir::default(), found, &roots, format.name).unwrap();
            prop_assert_eq!(closure.len(), infos.len());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        for format in &FORMATS {
            accept_or_name(format, &bytes)?;
        }
    }

    #[test]
    fn any_pieces_are_read_or_refused(pieces in prop::collection::vec(select(PIECES), 0..24)) {
        for format in &FORMATS {
            accept_or_name(format, pieces.concat().as_bytes())?;
        }
    }
}

/// Checks that a document gives paths that are closed under references, or an
/// error that names it.
fn accept_or_name(format: &Format, bytes: &[u8]) -> Result<(), TestCaseError> {
    match (format.parse)(bytes) {
        Ok(found) => {
            let roots: Vec<_> = found.infos.iter().map(|info| info.path.clone()).collect();
            let closure = Closure::new(StoreDir::default(), found.infos, &roots, format.name);
            prop_assert!(closure.is_ok(), "{:?}", closure.err());
        }
        Err(error) => {
            let documents = ["graph", "registration", "dump", "attrs", "info"];
            let message = error.to_string();
            let named = documents.iter().any(|name| message.starts_with(name));
            prop_assert!(named, "{message}");
        }
    }
    Ok(())
}

#[test]
fn a_chain_of_twenty_thousand_paths_is_fine() {
    const LENGTH: usize = 20_000;
    let infos: Vec<_> = (0..LENGTH)
        .map(|n| {
            let mut info = PathInfo::new(
                store_path(n, "link"),
                n.checked_sub(1).map(|n| store_path(n, "link")),
            );
            info.nar_hash = Some(NarHash::new([0; 32]));
            info.nar_size = Some(1);
            info
        })
        .collect();
    let last = [store_path(LENGTH - 1, "link")];
    for format in &FORMATS {
        let found = (format.parse)((format.write)(&infos).as_bytes()).unwrap();
        let closure = Closure::new(StoreDir::default(), found.infos, &last, format.name).unwrap();
        assert_eq!(closure.len(), LENGTH, "{}", format.name);
        assert_eq!(closure.path(closure.roots()[0]), &last[0]);
    }
}
