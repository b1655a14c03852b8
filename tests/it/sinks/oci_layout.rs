//! What a layout has of its own: other images in it, other builds at it.

use std::fs;
use std::path::Path;

use nix2oci::layer::Compression;
use nix2oci::sink::{ImageSink, OciLayout};
use nix2oci::{Context, ErrorKind};
use serde_json::{Value, json};

use super::sample::{assert_digests, json as json_file, named_images, read_layout, sample};

fn open(dir: &Path, tag: Option<&str>) -> Box<dyn ImageSink> {
    Box::new(OciLayout::open(dir, tag).unwrap())
}

#[test]
fn the_same_name_is_replaced_and_all_else_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let [old, new, other] =
        ["old", "new image", "other image"].map(|text| sample(&[text], Compression::None));
    other.write(open(&layout, Some("keep")), &[]).unwrap();
    old.write(open(&layout, Some("app")), &[]).unwrap();
    // What other tools put there.
    fs::write(layout.join("notes.txt"), "kept").unwrap();
    let mut index = json_file(&read_layout(&layout), "index.json");
    index["x-own"] = json!({"kept": true});
    index["manifests"][0]["x-own"] = json!([1]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();

    new.write(open(&layout, Some("app")), &[]).unwrap();
    let files = read_layout(&layout);
    assert_digests(&files);
    assert_eq!(files["notes.txt"], b"kept");
    let digest = |image: &super::Sample| image.image.manifest.digest().to_string();
    assert_eq!(
        named_images(&files),
        [
            ("keep".into(), digest(&other)),
            ("app".into(), digest(&new))
        ]
    );
    let index = json_file(&files, "index.json");
    assert_eq!(index["x-own"], json!({"kept": true}));
    assert_eq!(index["manifests"][0]["x-own"], json!([1]));
}

#[test]
fn blobs_that_are_there_are_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let image = sample(&["one", "two!"], Compression::None);
    image.write(open(&layout, None), &["app"]).unwrap();
    let blobs: Vec<_> = image.layer_blobs().map(|blob| blob.descriptor).collect();
    let mut sink = open(&layout, None);
    assert_eq!(sink.missing(&Context::default(), &blobs).unwrap(), []);
    // A blob cut short by somebody does not count, and is repaired.
    let first = layout
        .join("blobs/sha256")
        .join(image.layers[0].0.digest.hex());
    fs::write(&first, "cut").unwrap();
    sink = open(&layout, None);
    let missing = sink.missing(&Context::default(), &blobs).unwrap();
    assert_eq!(missing, [blobs[0].clone()]);
    image.write(sink, &["app"]).unwrap();
    assert_digests(&read_layout(&layout));
}

#[test]
fn a_blob_whose_bytes_were_changed_is_missing_and_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let image = sample(&["one", "two!"], Compression::None);
    image.write(open(&layout, None), &["app"]).unwrap();
    let whole = read_layout(&layout);
    let flip = |name: &str| {
        let mut bytes = whole[name].clone();
        bytes[7] ^= 1;
        fs::write(layout.join(name), bytes).unwrap();
    };
    for name in whole.keys().filter(|name| name.starts_with("blobs/")) {
        flip(name);
        image.write(open(&layout, None), &["app"]).unwrap();
        assert!(read_layout(&layout) == whole, "{name}");
    }

    let blobs: Vec<_> = image.layer_blobs().map(|blob| blob.descriptor).collect();
    flip(&format!("blobs/sha256/{}", image.layers[1].0.digest.hex()));
    let cx = Context::default();
    let mut sink = open(&layout, None);
    assert_eq!(sink.missing(&cx, &blobs).unwrap(), [blobs[1].clone()]);
    // Nor is it there for a manifest.
    sink.put_blob(&cx, &mut image.image.config.clone()).unwrap();
    let error = sink
        .put_manifest(&cx, &image.image.manifest, &[])
        .unwrap_err();
    let digest = image.layers[1].0.digest.to_string();
    assert!(error.to_string().contains(&digest), "{error}");
}

#[test]
fn an_image_does_not_take_the_place_of_one_with_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let [a, b, c] = ["a", "bb", "ccc"].map(|text| sample(&[text], Compression::None));
    let write = |image: &super::Sample, tag: Option<&str>, names: &[&str]| {
        image.write(open(&layout, tag), names).unwrap();
    };
    let digest = |image: &super::Sample| image.image.manifest.digest().to_string();
    let named = || named_images(&read_layout(&layout));
    let full = |name: &str| format!("docker.io/library/{name}:latest");

    write(&a, None, &["a"]);
    write(&b, None, &["b"]);
    let both = [("latest".into(), digest(&a)), (full("b"), digest(&b))];
    assert_eq!(named(), both);
    // Each replaces itself, with or without the tag alone.
    write(&c, None, &["b"]);
    assert_eq!(
        named(),
        [("latest".into(), digest(&a)), (full("b"), digest(&c))]
    );
    write(&b, None, &["b", "a"]);
    assert_eq!(
        named(),
        [(full("b"), digest(&b)), ("latest".into(), digest(&b))]
    );
    // A tag that the user gave is a place of its own.
    write(&c, Some("latest"), &["c"]);
    assert_eq!(
        named(),
        [(full("b"), digest(&b)), ("latest".into(), digest(&c))]
    );
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_a_kill_left_is_removed_by_the_next_build_and_nothing_else() {
    for exists in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        let image = sample(&["one"], Compression::None);
        if exists {
            image.write(open(&layout, None), &["app"]).unwrap();
            fs::create_dir_all(layout.join(".nix2oci-abc123/blobs/sha256")).unwrap();
            fs::create_dir(layout.join(".nix2oci-mine")).unwrap();
            // The command makes such a file for --metadata-file.
            fs::write(layout.join(".nix2oci-abc124"), "").unwrap();
        }
        fs::create_dir_all(dir.path().join(".layout.nix2oci-abc123/spool")).unwrap();
        let others = [
            ".layout.nix2oci-mine",
            ".layout.nix2oci-unlocked-abc123",
            ".layout2.nix2oci-abc123",
            ".other.nix2oci-abc123",
            "layout.nix2oci-abc123",
        ];
        for other in others {
            fs::create_dir(dir.path().join(other)).unwrap();
        }
        std::os::unix::fs::symlink(".", dir.path().join(".layout.nix2oci-abc124")).unwrap();

        let live = open(&layout, None);
        let mut second = open(&layout, None);
        // Neither removed the other.
        image.write(live, &["app"]).unwrap();
        image.put(second.as_mut(), &["app"]).unwrap();
        second.commit(&Context::default()).unwrap();
        assert_digests(&read_layout(&layout));

        let mut expected = [&others[..], &[".layout.nix2oci-abc124", "layout"]].concat();
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
        let mut expected = vec!["blobs", "index.json", "oci-layout"];
        if exists {
            expected.splice(0..0, [".nix2oci-abc124", ".nix2oci-mine"]);
        }
        assert_eq!(names(&layout), expected);
    }
}

#[test]
fn what_is_no_layout_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, expected: &str| {
        let error = OciLayout::open(&dir.path().join(name), None).err().unwrap();
        assert!(
            matches!(error.kind(), ErrorKind::OutputTaken { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    };
    fs::write(dir.path().join("file"), "mine").unwrap();
    refused("file", "file is a file, expected an OCI image layout");
    fs::create_dir_all(dir.path().join("home/mine")).unwrap();
    refused("home", "home is a directory of other things");
    assert!(dir.path().join("home/mine").is_dir());
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    refused("link", "link is a symbolic link to nothing");
    fs::create_dir(dir.path().join("future")).unwrap();
    let version = json!({"imageLayoutVersion": "2.0.0"}).to_string();
    fs::write(dir.path().join("future/oci-layout"), version).unwrap();
    refused(
        "future",
        "future is not an OCI image layout of version 1.0.0",
    );

    let error = OciLayout::open(&dir.path().join("no/parent"), None)
        .err()
        .unwrap();
    assert!(error.to_string().ends_with("no/parent"), "{error}");
    // Not the name of a temporary directory.
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "No such file or directory (os error 2)");
}

#[test]
fn a_broken_index_is_found_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    sample(&["one"], Compression::None)
        .write(open(&layout, None), &[])
        .unwrap();
    fs::write(layout.join("index.json"), "{").unwrap();
    let error = OciLayout::open(&layout, None).err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Image { .. }), "{error}");
}

/// What a killed process leaves: blobs, its staging directory, no index.
#[test]
fn a_layout_that_was_begun_can_be_ended_by_another_build() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::create_dir_all(layout.join(".nix2oci-abc123/blobs")).unwrap();
    let image = sample(&["one"], Compression::None);
    image.write(open(&layout, None), &["app:1"]).unwrap();
    assert_eq!(named_images(&read_layout(&layout))[0].0, "1");
}

#[test]
fn builds_at_the_same_time_do_not_lose_each_other() {
    for exists in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("layout");
        if exists {
            fs::create_dir(&layout).unwrap();
        }
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (layout, start) = (&layout, &start);
                scope.spawn(move || {
                    let image = sample(&["shared", &"x".repeat(n)], Compression::None);
                    let mut sink = open(layout, Some(&format!("t{n}")));
                    let put = image.put(sink.as_mut(), &[]);
                    // Also after an error, for which nobody should wait.
                    start.wait();
                    put.unwrap();
                    sink.commit(&Context::default()).unwrap();
                });
            }
        });
        let files = read_layout(&layout);
        assert_digests(&files);
        let mut tags: Vec<_> = named_images(&files)
            .into_iter()
            .map(|(tag, _)| tag)
            .collect();
        tags.sort();
        assert_eq!(tags, ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"]);
        let index: Value = json_file(&files, "index.json");
        assert_eq!(index["schemaVersion"], 2);
        let staging = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(staging, 1, "staging directories are left");
    }
}
