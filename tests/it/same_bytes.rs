//! The same closure and options give the same bytes: whoever says what the
//! closure is, whatever the store looks like on disk, and wherever the command
//! runs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci::image::ImageTable;
use nix2oci_tests::FixtureStore;
use nix2oci_tests::command::{nix2oci, repository, run, run_bytes};
use nix2oci_tests::image_files::{config, manifest, manifest_digest};
use serde_json::{Value, json};

/// Returns the command that writes the fixture's image to standard output,
/// with its closure from `closure`.
fn build(store: &FixtureStore, root: &Path, closure: &str) -> Command {
    build_to("-", store, root, closure)
}

fn build_to(destination: &str, store: &FixtureStore, root: &Path, closure: &str) -> Command {
    let app = store.fixture("app-1.0");
    let mut command = Command::new(nix2oci());
    command
        .arg("build")
        .arg(app)
        .args(["--closure", closure, "--store-root"])
        .arg(root)
        .args(["--name", "hello:v1", "--platform", "linux/amd64"])
        .args(["--entrypoint", &format!("{app}/bin/app")])
        .args(["--progress", "none", "-o", destination])
        .env_clear();
    command
}

fn fixture(name: &str) -> PathBuf {
    repository().join("fixtures/closure").join(name)
}

/// Returns a source of a kind, of a file of the fixture.
fn source(kind: &str, name: &str) -> String {
    format!("{kind}:{}", fixture(name).display())
}

/// Returns what the other images must be.
fn expected(store: &FixtureStore) -> Vec<u8> {
    let registration = source("registration", "registration");
    run_bytes(&mut build(store, &store.root(), &registration))
}

#[track_caller]
fn assert_same(command: &mut Command, expected: &[u8], what: &str) {
    let found = run_bytes(command);
    assert!(found == expected, "{what} gives other bytes: {command:?}");
}

/// `nix path-info --json` of the fixture, as each version of Nix writes it.
fn path_infos() -> [(&'static str, Value); 5] {
    let array: Value =
        serde_json::from_slice(&fs::read(fixture("path-info.json")).unwrap()).unwrap();
    let infos = array.as_array().unwrap();
    let base_name = |path: &Value| path.as_str().unwrap().replace("/nix/store/", "");
    let without_path = |info: &Value| {
        let mut info = info.clone();
        info.as_object_mut().unwrap().remove("path");
        info
    };
    let by_path: BTreeMap<_, _> = infos
        .iter()
        .map(|info| (info["path"].as_str().unwrap(), without_path(info)))
        .collect();
    let by_name: BTreeMap<_, _> = infos
        .iter()
        .map(|info| {
            let references = info["references"].as_array().unwrap();
            let references: Vec<_> = references.iter().map(base_name).collect();
            let mut named = without_path(info);
            named["references"] = json!(references);
            named["deriver"] = json!(base_name(&info["deriver"]));
            (base_name(&info["path"]), named)
        })
        .collect();
    let mut backwards = infos.clone();
    backwards.reverse();
    [
        ("2.8", array.clone()),
        ("2.8 backwards", json!(backwards)),
        ("2.19", json!(by_path)),
        (
            "format 2",
            json!({ "version": 2, "storeDir": "/nix/store", "info": by_name }),
        ),
        (
            "format 3",
            json!({ "version": 3, "storeDir": "/nix/store", "info": by_name }),
        ),
    ]
}

#[test]
fn from_every_source() {
    let store = FixtureStore::new();
    let expected = expected(&store);
    let written = |program: &str, args: &[&str], name: &str| {
        let app = store.fixture("app-1.0");
        let text = run(store.nix(program).args(args).arg(app));
        let path = store.folder().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let paths: Vec<_> = store.fixtures().map(|(_, path)| path).collect();
    let dumped = run(store.nix("nix-store").arg("--dump-db").args(paths));
    let dump_db = store.folder().join("dump-db");
    fs::write(&dump_db, dumped).unwrap();
    let path_info = ["path-info", "--recursive", "--json"];
    let path_info = written("nix", &path_info, "path-info.json");

    let database = store.root().join("nix/var/nix");
    let mut sources = vec![
        "db".to_owned(),
        format!("db:{}", database.display()),
        source("registration", "registration"),
        source("registration", "dump-db"),
        format!("registration:{}", dump_db.display()),
        source("attrs", "attrs.json#closure"),
        source("path-info", "path-info.json"),
        format!("path-info:{path_info}"),
    ];
    for (version, info) in path_infos() {
        let path = store.folder().join(format!("path-info of Nix {version}"));
        fs::write(&path, info.to_string()).unwrap();
        sources.push(format!("path-info:{}", path.display()));
    }
    for source in sources {
        assert_same(
            &mut build(&store, &store.root(), &source),
            &expected,
            &source,
        );
    }
}

/// The text graph has no sizes, which the files have, and no NAR hashes: the
/// manifest lacks the layers' keys, and all the rest is the same.
#[test]
fn from_the_text_graph() {
    let store = FixtureStore::new();
    let archive = store.folder().join("image.tar");
    for strategy in ["popularity", "single"] {
        let image = |source: &str| {
            let mut command = build(&store, &store.root(), source);
            fs::write(&archive, run_bytes(command.args(["--layers", strategy]))).unwrap();
            let mut manifest = manifest(&archive);
            let parsed = serde_json::from_value(manifest.clone()).unwrap();
            let mut table = ImageTable::read(&parsed).unwrap();
            assert!(table.layers.iter().all(|layer| !layer.paths.is_empty()));
            let keys = table
                .layers
                .iter_mut()
                .map(|layer| layer.key.take().is_some());
            let keys: Vec<_> = keys.collect();
            manifest["annotations"].take();
            ((manifest, table), keys)
        };
        let (expected, keys) = image(&source("registration", "registration"));
        assert!(keys.iter().all(|has_key| *has_key), "{strategy}");
        let (found, keys) = image(&source("graph", "graph"));
        assert!(!keys.iter().any(|has_key| *has_key), "{strategy}");
        assert_eq!(found, expected, "{strategy}");
    }
}

#[test]
fn again_and_with_any_number_of_threads() {
    let store = FixtureStore::new();
    let source = source("registration", "registration");
    for codec in ["none", "gzip:6", "zstd:3"] {
        let image = |threads: &str| {
            let mut command = build(&store, &store.root(), &source);
            run_bytes(command.args(["--compression", codec, "--threads", threads]))
        };
        let expected = image("2");
        for threads in ["2", "1", "8"] {
            assert!(image(threads) == expected, "{codec}, {threads} threads");
        }
    }
}

/// A file of some megabytes is compressed in blocks by all threads.
#[test]
fn a_large_file_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let path = "/nix/store/00000000000000000000000000000000-large";
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("nix/store")).unwrap();
    let mut state = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Four bits of each byte, so that there is something to compress.
        (state >> 28) as u8
    })
    .take(20 << 20)
    .collect();
    fs::write(root.join(&path[1..]), bytes).unwrap();
    let info = json!([{
        "path": path, "references": [], "narSize": 20 << 20,
        "narHash": format!("sha256:{}", "0".repeat(52)),
    }]);
    let path_info = folder.path().join("path-info.json");
    fs::write(&path_info, info.to_string()).unwrap();
    for codec in ["none", "gzip:6", "zstd:3"] {
        let image = |threads: &str| {
            run_bytes(
                Command::new(nix2oci())
                    .args(["build", path, "--platform", "linux/amd64", "-o", "-"])
                    .args(["--compression", codec, "--threads", threads])
                    .args([OsStr::new("--store-root"), root.as_os_str()])
                    .arg("--closure")
                    .arg(format!("path-info:{}", path_info.display()))
                    .env_clear(),
            )
        };
        let expected = image("1");
        for threads in ["2", "8"] {
            assert!(image(threads) == expected, "{codec}, {threads} threads");
        }
    }
}

/// Copies a folder by hand, names backwards, to another place; `change` is
/// told of each copy when all in it is there.
fn copy_backwards(from: &Path, to: &Path, change: &dyn Fn(&Path)) {
    let metadata = fs::symlink_metadata(from).unwrap();
    if metadata.is_symlink() {
        symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if metadata.is_dir() {
        fs::create_dir(to).unwrap();
        let entries = fs::read_dir(from).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names.iter().rev() {
            copy_backwards(&from.join(name), &to.join(name), change);
        }
    } else {
        fs::copy(from, to).unwrap();
    }
    change(to);
}

#[test]
fn from_a_store_with_other_times_owners_and_modes() {
    let store = FixtureStore::new();
    let expected = expected(&store);
    let root = store.folder().join("another place");
    fs::create_dir_all(root.join("nix")).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    copy_backwards(
        &store.outside("/nix/store"),
        &root.join("nix/store"),
        &|path| {
            if path.is_symlink() {
                return;
            }
            let executable =
                path.is_dir() || fs::metadata(path).unwrap().permissions().mode() & 0o100 != 0;
            let mode = if executable { 0o4755 } else { 0o644 };
            if is_root {
                chown(path, Some(1234), Some(4321)).unwrap();
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let file = fs::File::open(path).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
            file.set_modified(time).unwrap();
        },
    );
    let source = source("registration", "registration");
    assert_same(&mut build(&store, &root, &source), &expected, "the copy");
    assert_same(
        build(&store, &root, &source).arg("--verify"),
        &expected,
        "the copy, with every NAR hash checked",
    );
}

/// Equal files of an optimised store are one file on disk, and stay several in
/// the image.
#[test]
fn from_an_optimised_store() {
    let store = FixtureStore::new();
    // Of the fixture's files no two are equal.
    let twin = store
        .nix("nix-store")
        .arg("--add")
        .arg(fixture("closure.nix"))
        .output();
    let twin = String::from_utf8(twin.unwrap().stdout).unwrap();
    let folder = store.folder().join("twins");
    fs::create_dir(&folder).unwrap();
    for name in ["one", "two"] {
        fs::copy(fixture("closure.nix"), folder.join(name)).unwrap();
    }
    let twins = run(store.nix("nix-store").arg("--add").arg(&folder));
    let image = || {
        let mut command = build(&store, &store.root(), "db");
        run_bytes(command.args([twin.trim(), twins.trim()]))
    };
    let expected = image();
    run(store.nix("nix-store").arg("--optimise"));
    let links = |path: PathBuf| std::os::unix::fs::MetadataExt::nlink(&fs::metadata(path).unwrap());
    // `.links` has the fourth.
    assert_eq!(links(store.outside(twin.trim())), 4);
    assert!(image() == expected, "the optimised store");
}

#[test]
fn in_any_environment() {
    let store = FixtureStore::new();
    let expected = expected(&store);
    let source = source("registration", "registration");
    let temporary = store.folder().join("temporary files");
    fs::create_dir(&temporary).unwrap();
    let mut command = build(&store, &store.root(), &source);
    command
        .env("LC_ALL", "C.UTF-8")
        .env("LANG", "tr_TR.UTF-8")
        .env("TZ", "Pacific/Auckland")
        .env("TMPDIR", &temporary)
        .env("HOME", "/nowhere")
        .env("COLUMNS", "20")
        .env("RAYON_NUM_THREADS", "1")
        .current_dir("/");
    assert_same(&mut command, &expected, "another environment");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);

    let build = build(&store, &store.root(), &source);
    for umask in ["000", "077"] {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(build.get_program())
            .args(build.get_args());
        assert_same(&mut command, &expected, &format!("umask {umask}"));
    }
}

/// Every destination holds the same image.
#[test]
fn at_every_destination() {
    let store = FixtureStore::new();
    let source = source("registration", "registration");
    let archive = store.folder().join("streamed.tar");
    fs::write(&archive, expected(&store)).unwrap();
    let expected = manifest_digest(&archive);
    for kind in ["oci", "archive", "oci-archive", "docker-archive"] {
        let path = store.folder().join(kind);
        let written = store.folder().join("digest");
        let to = format!("{kind}:{}", path.display());
        let mut command = build_to(&to, &store, &store.root(), &source);
        let digest = run(command.arg("--digest-file").arg(&written));
        assert_eq!(digest.trim(), expected, "{kind}");
        assert_eq!(manifest_digest(&path), expected, "{kind}");
        let written = fs::read_to_string(written).unwrap();
        assert_eq!(written.trim(), expected, "{kind}");
    }
}

/// The digests of the fixture's image. Another one is a change for every user;
/// fixtures/golden/README.md says how they are written anew.
#[test]
fn golden() {
    let store = FixtureStore::new();
    let source = source("registration", "registration");
    let mut told = String::new();
    for codec in ["none", "gzip:6", "zstd:3"] {
        let archive = store.folder().join("image.tar");
        let mut command = build(&store, &store.root(), &source);
        fs::write(&archive, run_bytes(command.args(["--compression", codec]))).unwrap();
        writeln!(told, "{codec} {}", manifest_digest(&archive)).unwrap();
        if codec == "none" {
            for diff_id in config(&archive)["rootfs"]["diff_ids"].as_array().unwrap() {
                writeln!(told, "diff ID {}", diff_id.as_str().unwrap()).unwrap();
            }
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../fixtures/golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("digests", told));
}
