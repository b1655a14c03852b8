//! The laws that every sink keeps, and what each one has of its own.

mod archive;
mod index;
mod oci_layout;
pub(crate) mod sample;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci::layer::{Blob, Compression};
use nix2oci::sink::{Archive, ImageSink, OciLayout};
use nix2oci::{Context, Digest, ErrorClass, ErrorKind};

use sample::{
    Bytes, Sample, Spooled, assert_digests, json, listing, named_images, read_image, sample,
};

/// A sink in a state of the world.
struct Kind {
    name: &'static str,
    /// Makes the state of the world in an empty directory.
    prepare: fn(&Path),
    /// Opens the sink.
    open: fn(&Path) -> nix2oci::Result<Box<dyn ImageSink>>,
    /// Where the image is at the end.
    path: fn(&Path) -> PathBuf,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "new layout",
        prepare: |_| {},
        open: open_layout,
        path: layout_path,
    },
    Kind {
        name: "layout in an empty directory",
        prepare: |dir| fs::create_dir(layout_path(dir)).unwrap(),
        open: open_layout,
        path: layout_path,
    },
    Kind {
        name: "layout with another image",
        prepare: |dir| {
            other_image()
                .write(open_layout(dir).unwrap(), &["other:old"])
                .unwrap();
        },
        open: open_layout,
        path: layout_path,
    },
    Kind {
        name: "new archive",
        prepare: |_| {},
        open: open_archive,
        path: archive_path,
    },
    Kind {
        name: "archive over a file",
        prepare: |dir| fs::write(archive_path(dir), "old").unwrap(),
        open: open_archive,
        path: archive_path,
    },
];

fn layout_path(dir: &Path) -> PathBuf {
    dir.join("layout")
}

fn open_layout(dir: &Path) -> nix2oci::Result<Box<dyn ImageSink>> {
    Ok(Box::new(OciLayout::open(&layout_path(dir), None)?))
}

fn archive_path(dir: &Path) -> PathBuf {
    dir.join("image.tar")
}

fn open_archive(dir: &Path) -> nix2oci::Result<Box<dyn ImageSink>> {
    Ok(Box::new(Archive::create(&archive_path(dir))?))
}

fn other_image() -> Sample {
    sample(&["other"], Compression::None)
}

/// Runs a law for each kind of sink in a world of its own.
fn for_each_kind(law: impl Fn(&Kind, &Path)) {
    for kind in KINDS {
        println!("{}", kind.name);
        let dir = tempfile::tempdir().unwrap();
        (kind.prepare)(dir.path());
        law(kind, dir.path());
    }
}

#[test]
fn what_was_put_is_read_back() {
    let image = sample(&["one", "two!"], Compression::Gzip { level: 6 });
    for_each_kind(|kind, dir| {
        image
            .write((kind.open)(dir).unwrap(), &["app:1", "h.io/app:2"])
            .unwrap();
        let files = read_image(&(kind.path)(dir));
        assert_digests(&files);
        assert_eq!(json(&files, "oci-layout")["imageLayoutVersion"], "1.0.0");
        let digest = image.image.manifest.digest().to_string();
        let mut named = named_images(&files);
        named.retain(|(name, _)| name != "old");
        assert_eq!(named, [("1".into(), digest.clone()), ("2".into(), digest)]);
        let index = json(&files, "index.json");
        let last = index["manifests"].as_array().unwrap().last().unwrap();
        assert_eq!(
            last["annotations"]["io.containerd.image.name"],
            "h.io/app:2"
        );
        assert_eq!(last["platform"]["architecture"], "amd64");
        let manifest = format!("blobs/sha256/{}", image.image.manifest.digest().hex());
        assert_eq!(files[&manifest], image.image.manifest.blob.bytes());
        for (record, bytes) in &image.layers {
            assert_eq!(
                &files[&format!("blobs/sha256/{}", record.digest.hex())],
                bytes
            );
        }
    });
}

#[test]
fn nothing_but_the_image_is_left_and_its_modes_are_those_of_new_files() {
    let image = sample(&["one"], Compression::None);
    for_each_kind(|kind, dir| {
        let mut sink = (kind.open)(dir).unwrap();
        image.put(sink.as_mut(), &["app"]).unwrap();
        sink.commit(&Context::default()).unwrap();
        drop(sink);
        let path = (kind.path)(dir);
        let names = |dir: &Path| -> Vec<_> {
            let entries = fs::read_dir(dir).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(dir), [path.file_name().unwrap()]);
        if path.is_dir() {
            assert_eq!(names(&path), ["blobs", "index.json", "oci-layout"]);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let mut written = listing(dir);
        written.retain(|(found, _)| found.starts_with(&path));
        let (new_file, new_dir) = (dir.join("new"), dir.join("new-dir"));
        fs::write(&new_file, "").unwrap();
        fs::create_dir(&new_dir).unwrap();
        for (found, _) in written {
            let expected = if found.is_dir() { &new_dir } else { &new_file };
            assert_eq!(mode(&found), mode(expected), "{}", found.display());
        }
    });
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let image = sample(&["one", "two!"], Compression::Gzip { level: 6 });
    for kind in KINDS {
        let [first, second] = [(), ()].map(|()| {
            let dir = tempfile::tempdir().unwrap();
            (kind.prepare)(dir.path());
            image
                .write((kind.open)(dir.path()).unwrap(), &["app:1"])
                .unwrap();
            let path = (kind.path)(dir.path());
            let raw = path.is_file().then(|| fs::read(&path).unwrap());
            (raw, read_image(&path))
        });
        assert_eq!(first, second, "{}", kind.name);
    }
}

#[test]
fn a_sink_dropped_before_commit_leaves_the_world_as_it_was() {
    let image = sample(&["one", "two!"], Compression::None);
    for_each_kind(|kind, dir| {
        let before = listing(dir);
        let mut sink = (kind.open)(dir).unwrap();
        drop(sink);
        assert_eq!(listing(dir), before);
        sink = (kind.open)(dir).unwrap();
        image.put(sink.as_mut(), &["app"]).unwrap();
        drop(sink);
        assert_eq!(listing(dir), before);
    });
}

#[test]
fn a_blob_that_lies_is_refused_and_nothing_of_it_stays() {
    type Lie = (&'static str, fn(&mut Bytes));
    let lies: [Lie; 4] = [
        ("digest", |blob| blob.bytes[7] ^= 1),
        ("too short", |blob| blob.bytes.truncate(999)),
        ("too long", |blob| blob.bytes.push(0)),
        ("empty", |blob| blob.bytes.clear()),
    ];
    for_each_kind(|kind, dir| {
        let before = listing(dir);
        for (lie, tell) in lies {
            let mut blob = Bytes::of_size(300_000);
            tell(&mut blob);
            let mut sink = (kind.open)(dir).unwrap();
            let error = sink.put_blob(&Context::default(), &mut blob).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Integrity, "{lie}");
            match error.kind() {
                ErrorKind::DigestMismatch { found, .. } => {
                    assert_eq!((lie, *found), ("digest", Digest::of(&blob.bytes)));
                }
                ErrorKind::SizeMismatch { expected, .. } => assert_eq!(*expected, 300_000),
                other => panic!("{lie}: {other}"),
            }
            drop(sink);
            assert_eq!(listing(dir), before, "{lie}");
        }
    });
}

#[test]
fn a_spooled_blob_of_the_wrong_size_is_refused() {
    for_each_kind(|kind, dir| {
        let before = listing(dir);
        let spool = tempfile::tempdir().unwrap();
        let mut blob = Bytes::of_size(5000);
        blob.bytes.push(0);
        let mut sink = (kind.open)(dir).unwrap();
        let spool_dir = sink.spool_dir().unwrap_or(spool.path()).to_owned();
        let mut spooled = Spooled::new(&spool_dir, &blob);
        let error = sink
            .put_blob(&Context::default(), &mut spooled)
            .unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::SizeMismatch { found: 5001, .. }
        ));
        drop((spooled, sink));
        assert_eq!(listing(dir), before);
    });
}

#[test]
fn spooled_blobs_are_taken_without_being_read() {
    let image = sample(&["one", "two!"], Compression::None);
    for_each_kind(|kind, dir| {
        let cx = Context::default();
        let spool = tempfile::tempdir().unwrap();
        let mut sink = (kind.open)(dir).unwrap();
        let spool_dir = sink.spool_dir().unwrap_or(spool.path()).to_owned();
        for blob in image.layer_blobs() {
            sink.put_blob(&cx, &mut Spooled::new(&spool_dir, &blob))
                .unwrap();
        }
        // The config and the layers again: what is there is no error.
        image.put(sink.as_mut(), &["app"]).unwrap();
        sink.commit(&cx).unwrap();
        let files = read_image(&(kind.path)(dir));
        assert_digests(&files);
        for (record, bytes) in &image.layers {
            assert_eq!(
                &files[&format!("blobs/sha256/{}", record.digest.hex())],
                bytes
            );
        }
    });
}

#[test]
fn a_cancelled_sink_stops_and_leaves_nothing() {
    for_each_kind(|kind, dir| {
        let before = listing(dir);
        let cx = Context::default();
        let mut sink = (kind.open)(dir).unwrap();
        let mut blob = Bytes::of_size(3_000_000);
        blob.cancel = Some(cx.cancel.clone());
        let error = sink.put_blob(&cx, &mut blob).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Cancelled);
        let error = sink.commit(&cx).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Cancelled);
        drop(sink);
        assert_eq!(listing(dir), before);
    });
}

#[test]
fn the_same_blob_twice_is_kept_once() {
    let image = sample(&["one", "one"], Compression::None);
    for_each_kind(|kind, dir| {
        let mut sink = (kind.open)(dir).unwrap();
        image.put(sink.as_mut(), &["app"]).unwrap();
        let blobs: Vec<_> = image.layer_blobs().map(|blob| blob.descriptor).collect();
        let missing = sink.missing(&Context::default(), &blobs).unwrap();
        assert!(missing.is_empty() || !sink.moves_blobs());
        sink.commit(&Context::default()).unwrap();
        // Reading an archive fails on a name that comes twice.
        let files = read_image(&(kind.path)(dir));
        let manifest = format!("blobs/sha256/{}", image.image.manifest.digest().hex());
        assert_eq!(
            json(&files, &manifest)["layers"].as_array().unwrap().len(),
            2
        );
    });
}

#[test]
fn a_manifest_without_its_blobs_is_refused() {
    let image = sample(&["one"], Compression::None);
    for_each_kind(|kind, dir| {
        let mut sink = (kind.open)(dir).unwrap();
        let cx = Context::default();
        sink.put_blob(&cx, &mut image.image.config.clone()).unwrap();
        let error = sink
            .put_manifest(&cx, &image.image.manifest, &[])
            .unwrap_err();
        let layer = image.layers[0].0.digest.to_string();
        assert!(error.to_string().contains(&layer), "{error}");
    });
}

#[test]
fn nothing_can_be_put_after_commit() {
    let image = sample(&["one"], Compression::None);
    for_each_kind(|kind, dir| {
        let mut sink = (kind.open)(dir).unwrap();
        image.put(sink.as_mut(), &[]).unwrap();
        let cx = Context::default();
        sink.commit(&cx).unwrap();
        let before = listing(dir);
        let error = sink.put_blob(&cx, &mut Bytes::of_size(10)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Output);
        assert_eq!(sink.commit(&cx).unwrap_err().class(), ErrorClass::Output);
        drop(sink);
        assert_eq!(listing(dir), before);
    });
}

/// Tells the test that runs in a child process where to write.
const CHILD_DIR: &str = "NIX2OCI_TEST_CHILD_DIR";

/// Runs a test of this file again in a child process, through `sh`, where
/// `$0` is the test program.
fn run_in_child(shell: &str, program: &Path, test: &str, dir: &Path) {
    let output = Command::new("sh")
        .args(["-c", shell])
        .arg(program)
        .args(["--exact", "--nocapture", test])
        .env(CHILD_DIR, dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    assert!(text.contains("1 passed"), "{text}{error}");
}

/// A file system that takes no more bytes: a limit on the size of files does
/// the same to a process and needs no rights.
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        for kind in KINDS {
            let dir = Path::new(&dir).join(kind.name);
            fs::create_dir(&dir).unwrap();
            (kind.prepare)(&dir);
            let before = listing(&dir);
            let mut sink = (kind.open)(&dir).unwrap();
            let mut blob = Bytes::of_size(1_000_000);
            let error = sink.put_blob(&Context::default(), &mut blob).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Output);
            let hex = blob.descriptor().digest().digest().to_owned();
            let message = error.to_string();
            assert!(message.starts_with("failed to write /"), "{message}");
            assert!(
                message.ends_with("image.tar") || message.ends_with(&hex),
                "{message}"
            );
            drop(sink);
            assert_eq!(listing(&dir), before);
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run_in_child(
        r#"trap "" XFSZ; ulimit -f 128; exec "$0" "$@""#,
        &std::env::current_exe().unwrap(),
        "sinks::a_full_disk_is_an_error_and_leaves_nothing",
        dir.path(),
    );
}

/// Nix's sandbox on Darwin lets a build write `$out` and no neighbour of it.
#[test]
fn where_no_neighbour_may_be_made_the_place_itself_is_used() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let dir = Path::new(&dir);
        let image = sample(&["one"], Compression::None);
        let empty_layout = KINDS
            .iter()
            .find(|kind| kind.name.contains("empty"))
            .unwrap();
        image
            .write((empty_layout.open)(dir).unwrap(), &["app"])
            .unwrap();
        assert_digests(&read_image(&(empty_layout.path)(dir)));
        // Nothing at all may be made here.
        for sink in [
            open_layout(&dir.join("closed")),
            open_archive(&dir.join("closed")),
        ] {
            let error = sink.err().unwrap();
            assert_eq!(error.class(), ErrorClass::Output, "{error}");
        }
        return;
    }
    // The user nobody cannot read a test program in a private home.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let world = dir.path().join("world");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, bits) in [("world/layout", 0o777), ("world/closed", 0o555)] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        mode(&dir.path().join(name), bits);
    }
    mode(dir.path(), 0o755);
    mode(&world, 0o555);
    let shell = if rustix::process::geteuid().is_root() {
        r#"exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@""#
    } else {
        r#"exec "$0" "$@""#
    };
    let test = "sinks::where_no_neighbour_may_be_made_the_place_itself_is_used";
    run_in_child(shell, &program, test, &world);
    mode(&world, 0o755);
    assert_eq!(listing(&world.join("closed")), []);
}
