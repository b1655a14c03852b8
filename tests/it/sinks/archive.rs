//! What an archive has of its own: docker's file, pipes and devices.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix2oci::layer::Compression;
use nix2oci::sink::{Archive, BlobOrder, ImageSink};
use nix2oci::{Context, ErrorClass, ErrorKind};
use serde_json::json;

use super::sample::{Bytes, json as json_file, read_archive, sample};

/// Returns the bytes of an archive of the same image that all tests here make.
fn file_bytes() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    write(Archive::create(&path).unwrap());
    fs::read(path).unwrap()
}

fn write(archive: Archive) {
    assert_eq!(archive.blob_order(), BlobOrder::Image);
    sample(&["one", "two!"], Compression::None)
        .write(Box::new(archive), &["app:1", "h.io/app:2"])
        .unwrap();
}

#[test]
fn entries_come_in_the_order_of_a_stream() {
    let bytes = file_bytes();
    let names: Vec<_> = tar::Archive::new(bytes.as_slice())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    let image = sample(&["one", "two!"], Compression::None);
    let blob = |hex: String| format!("blobs/sha256/{hex}");
    let expected = [
        "oci-layout".into(),
        "blobs/".into(),
        "blobs/sha256/".into(),
        blob(image.layers[0].0.digest.hex()),
        blob(image.layers[1].0.digest.hex()),
        blob(image.image.config.digest().hex()),
        blob(image.image.manifest.digest().hex()),
        "index.json".into(),
        "manifest.json".into(),
    ];
    assert_eq!(names, expected);
    assert_eq!(bytes.len() % 512, 0);
}

#[test]
fn docker_finds_config_tags_and_layers() {
    let files = read_archive(&file_bytes());
    let docker = json_file(&files, "manifest.json");
    assert_eq!(docker.as_array().unwrap().len(), 1);
    assert_eq!(
        docker[0]["RepoTags"],
        json!(["docker.io/library/app:1", "h.io/app:2"])
    );
    let path = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let config = json_file(&files, &path(&docker[0]["Config"]));
    assert_eq!(config["config"]["Entrypoint"], json!(["/bin/app"]));
    let layers = docker[0]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        assert!(files.contains_key(&path(layer)));
    }
}

#[test]
fn a_writer_a_pipe_and_a_fifo_get_the_bytes_of_the_file() {
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let expected = file_bytes();
    let shared = Shared::default();
    write(Archive::to_writer(Box::new(shared.clone()), "a writer"));
    assert!(*shared.0.lock().unwrap() == expected);

    let drain = |mut reader: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let (reader, writer) = io::pipe().unwrap();
    let read = drain(Box::new(reader));
    write(Archive::to_file(
        OwnedFd::from(writer).into(),
        "standard output",
    ));
    assert!(read.join().unwrap() == expected);

    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .unwrap();
    // Opened for both, so that neither side waits for the other here.
    let both = File::options().read(true).write(true).open(&fifo).unwrap();
    let reader = File::open(&fifo).unwrap();
    let archive = Archive::create(&fifo).unwrap();
    drop(both);
    let read = drain(Box::new(reader));
    write(archive);
    assert!(read.join().unwrap() == expected);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_that_goes_away_is_an_error_that_names_the_stream() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut archive = Archive::to_file(OwnedFd::from(writer).into(), "standard output");
    let cx = Context::default();
    let error = archive.put_blob(&cx, &mut Bytes::of_size(10)).unwrap_err();
    assert_eq!(error.to_string(), "failed to write standard output");
    match error.kind() {
        ErrorKind::WriteOutput { source, .. } => {
            assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
        }
        other => panic!("{other}"),
    }
    let error = archive.commit(&cx).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Output);
}

#[test]
fn a_full_device_is_an_error_that_names_it() {
    let mut archive = Archive::create(Path::new("/dev/full")).unwrap();
    let error = archive
        .put_blob(&Context::default(), &mut Bytes::of_size(10))
        .unwrap_err();
    assert_eq!(error.to_string(), "failed to write /dev/full");
    assert_eq!(error.class(), ErrorClass::Output);
}

#[test]
fn devices_stay_devices() {
    write(Archive::create(Path::new("/dev/null")).unwrap());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_link_to_a_file_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    let (target, link) = (dir.path().join("elsewhere/target"), dir.path().join("link"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink("elsewhere/target", &link).unwrap();
    write(Archive::create(&link).unwrap());
    assert!(link.is_symlink());
    assert!(fs::read(&target).unwrap() == file_bytes());
}

#[test]
fn what_is_no_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for (path, expected) in [
        (dir.path(), "is a directory, expected a file or nothing"),
        (
            link.as_path(),
            "is a symbolic link to nothing, expected a file or nothing",
        ),
    ] {
        let error = Archive::create(path).err().unwrap();
        assert!(
            matches!(error.kind(), ErrorKind::OutputTaken { .. }),
            "{error}"
        );
        assert!(error.to_string().ends_with(expected), "{error}");
    }
    let error = Archive::create(&dir.path().join("no/parent.tar"))
        .err()
        .unwrap();
    assert!(error.to_string().ends_with("no/parent.tar"), "{error}");
    assert_eq!(error.class(), ErrorClass::Output);
    // Not the name of a temporary file.
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "No such file or directory (os error 2)");
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    fs::write(&path, "old").unwrap();
    for mode in [0o600, 0o644, 0o666, 0o440] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let archive = Archive::create(&path).unwrap();
        let temporary = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| entry.path() != path)
            .unwrap();
        let found = |metadata: fs::Metadata| metadata.permissions().mode() & 0o7777;
        assert_eq!(found(temporary.metadata().unwrap()), mode);
        write(archive);
        assert_eq!(found(fs::metadata(&path).unwrap()), mode);
    }
}

#[test]
fn what_a_kill_left_is_removed_by_the_next_build_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let others = [
        ".image.tar.mine",
        ".image.tar.nix2oci-mine",
        ".image.tar.nix2oci-unlocked-abc123",
        ".nix2oci-abc123",
        ".other.tar.nix2oci-abc123",
    ];
    for name in [&others[..], &[".image.tar.nix2oci-abc123"]].concat() {
        fs::write(dir.path().join(name), "").unwrap();
    }
    // One that the staging directory of a layout could be.
    fs::create_dir(dir.path().join(".image.tar.nix2oci-abc124")).unwrap();
    let live = Archive::create(&path).unwrap();
    let second = Archive::create(&path).unwrap();
    write(second);
    write(live);
    assert!(fs::read(&path).unwrap() == file_bytes());
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = [&others[..], &[".image.tar.nix2oci-abc124", "image.tar"]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
}
