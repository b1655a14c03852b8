//! A store path on disk, seen as Nix sees it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::closure::Closure;
use crate::context::Context;
use crate::error::{ErrorKind, Result};
use crate::store::{NarHash, PathInfo, StoreDir, StorePath};

struct Store {
    root: tempfile::TempDir,
    path: StorePath,
}

impl Store {
    fn new() -> Self {
        let store = Self {
            root: tempfile::tempdir().unwrap(),
            path: "0123456789abcdfghijklmnpqrsvwxyz-thing".parse().unwrap(),
        };
        fs::create_dir_all(store.root.path().join("nix/store")).unwrap();
        store
    }

    fn at(&self, inside: &str) -> PathBuf {
        let thing = StoreDir::default().join_below(self.root.path(), &self.path);
        if inside.is_empty() {
            thing
        } else {
            thing.join(inside)
        }
    }

    fn source(&self) -> LocalStore {
        LocalStore::below(self.root.path(), &StoreDir::default())
    }

    /// The NAR hash that Nix 2.8.0 tells, and the closure that holds it.
    fn closure(&self, nar_hash: &str) -> Closure {
        let mut info = PathInfo::new(self.path.clone(), []);
        info.nar_hash = Some(nar_hash.parse().unwrap());
        let roots = [self.path.clone()];
        Closure::new(StoreDir::default(), [info], &roots, "the test").unwrap()
    }

    fn list(&self, source: &dyn ContentSource) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        source.visit(&Context::default(), &self.path, &mut |entry| {
            let path = String::from_utf8_lossy(entry.path()).into_owned();
            seen.push(match entry {
                Entry::Directory { .. } => format!("d {path}"),
                Entry::File {
                    executable,
                    size,
                    contents,
                    ..
                } => {
                    let mut buf = vec![0; 7];
                    let mut text = Vec::new();
                    loop {
                        let n = contents.read(&mut buf)?;
                        if n == 0 {
                            break;
                        }
                        text.extend_from_slice(&buf[..n]);
                    }
                    assert_eq!(text.len() as u64, size);
                    let kind = if executable { 'x' } else { 'f' };
                    format!("{kind} {path} {}", String::from_utf8_lossy(&text))
                }
                Entry::Symlink { target, .. } => {
                    format!("l {path} {}", String::from_utf8_lossy(target))
                }
            });
            Ok(())
        })?;
        Ok(seen)
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with everything that Nix allows, and `nix hash path` of it.
fn everything(store: &Store) -> &'static str {
    fs::create_dir_all(store.at("bin")).unwrap();
    fs::create_dir_all(store.at("empty")).unwrap();
    fs::write(store.at("bin/tool"), "#!/bin/sh\necho tool\n").unwrap();
    chmod(&store.at("bin/tool"), 0o555);
    fs::write(store.at("bin.txt"), "").unwrap();
    fs::write(store.at("bin-last"), "nine byte").unwrap();
    fs::write(store.at("").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    symlink("../nowhere", store.at("bin/link")).unwrap();
    "sha256:0gr2nii258hh53sf74lwlkva00872mvl07jmfhlkzbi71i56v6kf"
}

#[test]
fn objects_come_in_nar_order() {
    let store = Store::new();
    everything(&store);
    let seen = store.list(&store.source()).unwrap();
    assert_eq!(
        seen,
        [
            "d ",
            "d bin",
            "l bin/link ../nowhere",
            "x bin/tool #!/bin/sh\necho tool\n",
            "f bin-last nine byte",
            "f bin.txt ",
            "d empty",
            "f \u{fffd}\u{fffd} x",
        ]
    );
}

#[test]
fn the_nar_hash_is_nixs() {
    let store = Store::new();
    let nar_hash = everything(&store);
    let closure = store.closure(nar_hash);
    let verified = VerifiedContent::new(Arc::new(store.source()), &closure).unwrap();
    let plain = store.list(&store.source()).unwrap();
    assert_eq!(store.list(&verified).unwrap(), plain);
    // A visitor that reads nothing sees the same hash.
    verified
        .visit(&Context::default(), &store.path, &mut |_| Ok(()))
        .unwrap();
    let size = nar_size(&Context::default(), &store.source(), &store.path).unwrap();
    assert_eq!(size, 1448, "nix-store --dump | wc -c");
    let mut added = NarSize::new();
    let source = store.source();
    source
        .visit(&Context::default(), &store.path, &mut |entry| {
            let path = entry.path().to_vec();
            let object = match entry {
                Entry::Directory { .. } => NarObject::Directory,
                Entry::Symlink { target, .. } => NarObject::Symlink { target },
                Entry::File {
                    executable, size, ..
                } => NarObject::File { executable, size },
            };
            added.add(path.rsplit(|b| *b == b'/').next().unwrap(), object);
            Ok(())
        })
        .unwrap();
    assert_eq!(added.bytes(), size);

    fs::write(store.at("bin-last"), "changed!!").unwrap();
    let error = store.list(&verified).unwrap_err();
    let ErrorKind::NarHashMismatch { path, expected, .. } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(path, "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-thing");
    assert_eq!(*expected, nar_hash.parse::<NarHash>().unwrap());
}

#[test]
fn a_store_path_may_be_a_file_or_a_link() {
    let store = Store::new();
    fs::write(store.at(""), "text").unwrap();
    assert_eq!(store.list(&store.source()).unwrap(), ["f  text"]);

    let store = Store::new();
    symlink("/nix/store/elsewhere", store.at("")).unwrap();
    assert_eq!(
        store.list(&store.source()).unwrap(),
        ["l  /nix/store/elsewhere"]
    );
}

#[test]
fn hard_links_and_modes_change_nothing() {
    let store = Store::new();
    fs::create_dir(store.at("")).unwrap();
    fs::write(store.at("a"), "same").unwrap();
    fs::write(store.at("b"), "same").unwrap();
    let before = store.list(&store.source()).unwrap();
    fs::remove_file(store.at("b")).unwrap();
    fs::hard_link(store.at("a"), store.at("b")).unwrap();
    chmod(&store.at("a"), 0o444);
    assert_eq!(store.list(&store.source()).unwrap(), before);
}

#[test]
fn the_case_hack_suffix_is_not_part_of_a_name() {
    let store = Store::new();
    fs::create_dir_all(store.at("Dir~nix~case~hack~1")).unwrap();
    fs::write(store.at("Dir~nix~case~hack~1/x"), "").unwrap();
    fs::write(store.at("file~nix~case~hack~2"), "").unwrap();
    let hacked = store.source().with_case_hack(true);
    assert_eq!(
        store.list(&hacked).unwrap(),
        ["d ", "d Dir", "f Dir/x ", "f file "]
    );
    let plain = store.source().with_case_hack(false);
    assert_eq!(store.list(&plain).unwrap()[1], "d Dir~nix~case~hack~1");

    fs::write(store.at("file"), "").unwrap();
    let error = store.list(&hacked).unwrap_err();
    assert!(error.to_string().contains("case-hack"), "{error}");
}

#[test]
fn what_nix_does_not_allow_is_named() {
    let store = Store::new();
    fs::create_dir_all(store.at("run")).unwrap();
    let _listener = UnixListener::bind(store.at("run/socket")).unwrap();
    let error = store.list(&store.source()).unwrap_err();
    let place = store.at("run/socket");
    assert!(
        error
            .to_string()
            .starts_with(&format!("{} is a socket", place.display())),
        "{error}"
    );
}

#[test]
fn a_store_knows_what_is_there() {
    let cx = Context::default();
    let store = Store::new();
    assert!(!store.source().has(&cx, &store.path).unwrap());
    symlink("/nowhere", store.at("")).unwrap();
    assert!(store.source().has(&cx, &store.path).unwrap());
    let nowhere = LocalStore::below(&store.at(""), &StoreDir::default());
    assert!(!nowhere.has(&cx, &store.path).unwrap());
    let file = store.root.path().join("file");
    fs::write(&file, "").unwrap();
    let in_a_file = LocalStore::below(&file, &StoreDir::default());
    assert!(!in_a_file.has(&cx, &store.path).unwrap());
    let link = store.root.path().join("loop");
    symlink("loop", &link).unwrap();
    let in_a_loop = LocalStore::below(&link, &StoreDir::default());
    let error = in_a_loop.has(&cx, &store.path).unwrap_err();
    assert_eq!(error.class(), crate::error::ErrorClass::Store);
}

#[test]
fn a_missing_store_path_is_named() {
    let store = Store::new();
    let error = store.list(&store.source()).unwrap_err();
    let place = store.at("");
    assert_eq!(
        error.to_string(),
        format!("failed to read {}", place.display())
    );
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("No such file"), "{source}");
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let store = Store::new();
    fs::write(store.at(""), vec![b'x'; 100]).unwrap();
    let error = store
        .source()
        .visit(&Context::default(), &store.path, &mut |entry| {
            let Entry::File { contents, .. } = entry else {
                panic!("a file")
            };
            fs::write(store.at(""), "short").unwrap();
            let mut buf = [0; 64];
            while contents.read(&mut buf)? > 0 {}
            Ok(())
        })
        .unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::FileChanged {
                expected: 100,
                found: 5,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_cancelled_visit_stops() {
    let store = Store::new();
    everything(&store);
    let cx = Context::default();
    let mut seen = 0;
    let error = store
        .source()
        .visit(&cx, &store.path, &mut |_| {
            seen += 1;
            cx.cancel.cancel();
            Ok(())
        })
        .unwrap_err();
    assert_eq!(
        (seen, error.class()),
        (1, crate::error::ErrorClass::Cancelled)
    );
}

/// Reads all of a store path, in small pieces.
fn read_all(source: &dyn ContentSource, path: &StorePath) -> Result<()> {
    source.visit(&Context::default(), path, &mut |entry| {
        if let Entry::File { contents, .. } = entry {
            let mut buf = [0; 5];
            while contents.read(&mut buf)? > 0 {}
        }
        Ok(())
    })
}

#[test]
fn programs_of_another_platform_are_found_while_they_are_read() {
    let store = Store::new();
    fs::create_dir_all(store.at("bin")).unwrap();
    fs::create_dir_all(store.at("libexec/deep")).unwrap();
    fs::create_dir_all(store.at("lib")).unwrap();
    let mut head = vec![0; 64];
    head[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    head[16] = 2;
    head[18] = 183;
    for (file, content, mode) in [
        ("bin/app", &head[..], 0o555),
        ("bin/data", &head, 0o444),
        ("bin/script", b"#!/bin/sh\n", 0o555),
        ("lib/plugin.so", &head, 0o555),
        ("libexec/deep/helper", &head, 0o555),
    ] {
        fs::write(store.at(file), content).unwrap();
        chmod(&store.at(file), mode);
    }
    let check = |platform: &str| {
        let platform = crate::oci::parse_platform(platform).unwrap();
        PlatformCheck::new(Arc::new(store.source()), StoreDir::default(), platform)
    };
    let right = check("linux/arm64");
    read_all(&right, &store.path).unwrap();
    assert_eq!(right.findings(), []);

    let wrong = check("linux/amd64");
    read_all(&wrong, &store.path).unwrap();
    read_all(&wrong, &store.path).unwrap();
    let found: Vec<String> = wrong.findings().iter().map(ToString::to_string).collect();
    let file = format!("/nix/store/{}/bin/app", store.path);
    assert_eq!(
        found,
        [format!(
            "{file} is for arm64 (ELF), and the image for linux/amd64; and one more program of \
             that store path"
        )]
    );

    let strict = check("linux/amd64").with_strictness(true);
    let error = read_all(&strict, &store.path).unwrap_err();
    assert_eq!(error.class(), crate::error::ErrorClass::Input);
    assert_eq!(
        error.to_string(),
        format!("{file} is a program for arm64 (ELF), expected one for linux/amd64")
    );

    // What is started counts wherever it lies; what is not read does not.
    let named = check("linux/amd64").with_program(store.path.clone(), b"lib/plugin.so".to_vec());
    named
        .visit(&Context::default(), &store.path, &mut |_| Ok(()))
        .unwrap();
    assert_eq!(named.findings(), []);
    read_all(&named, &store.path).unwrap();
    assert_eq!(named.findings()[0].more, 2);
}
