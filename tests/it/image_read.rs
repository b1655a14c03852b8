//! Laws of reading images back: right images have no problem, and each kind of
//! damage is found and named.

use std::io::Read;
use std::path::Path;

use nix2oci::image::{ImageReader, ImageSource, InspectOptions, check, inspect};
use nix2oci::oci::Platform;
use nix2oci::{Context, ErrorKind};
use nix2oci_tests::handmade_image::{
    Codec, Entry, HandmadeImage, OnDisk, STORE_PATHS, compress, digest, hex, in_dir, in_file,
    indexes, layout, nested, tar,
};
use serde_json::json;

const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn open(path: &Path) -> nix2oci::Result<ImageReader> {
    ImageReader::open(&Context::default(), &ImageSource::Path(path.to_owned()))
}

fn open_tag(path: &Path, tag: &str) -> ImageReader {
    let source = format!("oci:{}:{tag}", path.display()).parse().unwrap();
    ImageReader::open(&Context::default(), &source).unwrap()
}

fn platform(text: &str) -> Platform {
    let (os, architecture) = text.split_once('/').unwrap();
    serde_json::from_value(json!({ "os": os, "architecture": architecture })).unwrap()
}

#[test]
fn every_form_gives_the_same_layers() {
    for codec in CODECS {
        let image = HandmadeImage::new(codec);
        let from = |disk: OnDisk| {
            let reader = open(&disk.path).unwrap();
            let stored = reader.image(&Context::default(), None).unwrap();
            assert_eq!(stored.names, ["example.org/hello:1.0"]);
            let blobs: Vec<Vec<u8>> = stored
                .layers
                .iter()
                .map(|layer| {
                    let mut bytes = Vec::new();
                    let mut blob = reader.open_blob(&layer.descriptor).unwrap();
                    blob.read_to_end(&mut bytes).unwrap();
                    bytes
                })
                .collect();
            let diff_ids: Vec<_> = stored
                .layers
                .iter()
                .map(|l| l.diff_id.to_string())
                .collect();
            (blobs, diff_ids, stored.raw_config.bytes().to_vec())
        };
        let expected = (
            image.layers.iter().map(|l| l.blob.clone()).collect(),
            image.layers.iter().map(|l| l.diff_id.clone()).collect(),
        );
        let (blobs, diff_ids, config) = from(in_dir(&image.layout()));
        assert_eq!((blobs, diff_ids), expected);
        for files in [image.layout(), image.combined(), image.docker()] {
            let (blobs, diff_ids, again) = from(in_file(&files.archive()));
            assert_eq!((blobs, diff_ids), expected);
            assert_eq!(again, config);
        }
    }
}

#[test]
fn a_layout_of_links_is_read() {
    let disk = in_dir(&HandmadeImage::default().layout());
    let links = tempfile::tempdir().unwrap();
    let blobs = links.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for blob in std::fs::read_dir(disk.path.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        std::os::unix::fs::symlink(blob.path(), blobs.join(blob.file_name())).unwrap();
    }
    for name in ["oci-layout", "index.json"] {
        std::fs::copy(disk.path.join(name), links.path().join(name)).unwrap();
    }
    let reader = open(links.path()).unwrap();
    assert_eq!(check(&Context::default(), &reader).unwrap(), []);
}

#[test]
fn a_tag_chooses_among_images() {
    let mut other = HandmadeImage::new(Codec::None);
    other.name = "example.org/other:2.0";
    let disk = in_dir(&layout(&[HandmadeImage::default(), other]));
    let error = open(&disk.path)
        .unwrap()
        .image(&Context::default(), None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("example.org/hello:1.0, example.org/other:2.0"),
        "{error}"
    );
    for tag in ["example.org/other:2.0", "2.0"] {
        let stored = open_tag(&disk.path, tag)
            .image(&Context::default(), None)
            .unwrap();
        assert_eq!(stored.names, ["example.org/other:2.0"]);
    }
    let error = open_tag(&disk.path, "3.0")
        .image(&Context::default(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds no image 3.0; it holds"), "{error}");
}

#[test]
fn a_platform_chooses_in_a_nested_index() {
    let mut arm = HandmadeImage::new(Codec::None);
    arm.architecture = "arm64";
    let images = [HandmadeImage::default(), arm];
    for files in [nested(&images), layout(&images)] {
        let disk = in_dir(&files);
        let reader = open(&disk.path).unwrap();
        for text in ["linux/amd64", "linux/arm64"] {
            let stored = reader
                .image(&Context::default(), Some(&platform(text)))
                .unwrap();
            assert_eq!(format!("linux/{}", stored.config.architecture()), text);
        }
        for (wanted, expected) in [
            (None, "one must be chosen: linux/amd64, linux/arm64"),
            (
                Some(platform("linux/s390x")),
                "no image for linux/s390x; it holds linux/amd64, linux/arm64",
            ),
        ] {
            let error = reader
                .image(&Context::default(), wanted.as_ref())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
    let disk = in_dir(&nested(&images));
    let reader = open(&disk.path).unwrap();
    assert_eq!(check(&Context::default(), &reader).unwrap(), []);
}

#[test]
fn a_single_image_of_another_platform_is_refused() {
    let mut image = HandmadeImage::new(Codec::Gzip);
    image.entry = |entry| drop(entry.as_object_mut().unwrap().remove("platform"));
    let disk = in_dir(&image.layout());
    let reader = open(&disk.path).unwrap();
    assert!(
        reader
            .image(&Context::default(), Some(&platform("linux/amd64")))
            .is_ok()
    );
    let error = reader
        .image(&Context::default(), Some(&platform("linux/arm64")))
        .unwrap_err();
    assert!(
        error.to_string().contains("it holds linux/amd64"),
        "{error}"
    );
}

#[test]
fn attestations_are_no_images() {
    let mut attestation = HandmadeImage::new(Codec::None);
    attestation.architecture = "unknown";
    attestation.entry = |entry| {
        entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    };
    let disk = in_dir(&layout(&[HandmadeImage::default(), attestation]));
    assert!(
        open(&disk.path)
            .unwrap()
            .image(&Context::default(), None)
            .is_ok()
    );
}

#[test]
fn what_an_export_left_out_is_not_chosen() {
    let cx = Context::default();
    let mut arm = HandmadeImage::new(Codec::None);
    arm.architecture = "arm64";
    let images = [HandmadeImage::default(), arm];
    let index = layout(&images);
    let index: serde_json::Value = serde_json::from_slice(index.get("index.json")).unwrap();
    let digest = index["manifests"][1]["digest"].as_str().unwrap();
    let mut files = nested(&images);
    files.remove(&digest.replace("sha256:", "blobs/sha256/"));
    let disk = in_dir(&files);
    let reader = open(&disk.path).unwrap();
    let stored = reader.image(&cx, None).unwrap();
    assert_eq!(stored.config.architecture().to_string(), "amd64");
    let error = reader.image(&cx, Some(&platform("linux/arm64")));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("it holds linux/amd64"), "{error}");
}

#[test]
fn indexes_without_end_are_refused_soon() {
    let cx = Context::default();
    for (files, expected) in [
        (indexes(300, 4), "more than 4096 manifests and indexes"),
        (indexes(1, 5), "over 4 deep"),
    ] {
        let disk = in_dir(&files);
        let reader = open(&disk.path).unwrap();
        let error = reader.manifests(&cx).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    cx.cancel.cancel();
    let disk = in_dir(&indexes(2, 2));
    let error = open(&disk.path).unwrap().image(&cx, None).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
}

#[test]
fn what_is_no_image_is_refused() {
    let cx = Context::default();
    let text = |name: &str| Entry::File(name.to_owned(), b"content".to_vec());
    for (bytes, problem) in [
        (
            &b"{\"version\": 1}"[..],
            "is JSON, and a recipe has no layers",
        ),
        (b"#!/bin/sh", "neither a tar"),
        (
            &tar(&[text("README")]),
            "neither index.json nor manifest.json",
        ),
        (&tar(&[text("index.json")]), "expected value"),
        (&compress(Codec::Gzip, b"nothing"), "no readable tar"),
    ] {
        let disk = in_file(bytes);
        let error = open(&disk.path).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let source = ImageSource::Layout {
        dir: "/nonexistent".into(),
        tag: None,
    };
    let error = ImageReader::open(&cx, &source).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ReadInput { .. }),
        "{error}"
    );
}

#[test]
fn a_huge_document_is_refused_unread() {
    let mut files = HandmadeImage::default().layout();
    files.set("index.json", vec![b' '; (4 << 20) + 1]);
    let error = open(&in_dir(&files).path).unwrap_err().to_string();
    assert!(error.contains("4194304 are allowed"), "{error}");
}

#[test]
fn wrong_blobs_are_not_handed_out() {
    let image = HandmadeImage::default();
    let name = format!("blobs/sha256/{}", hex(&image.layers[0].blob));
    let mut files = image.layout();
    let mut bytes = image.layers[0].blob.clone();
    *bytes.last_mut().unwrap() ^= 1;
    files.set(&name, bytes);
    let disk = in_dir(&files);
    let reader = open(&disk.path).unwrap();
    let stored = reader.image(&Context::default(), None).unwrap();
    let mut blob = reader.open_blob(&stored.layers[0].descriptor).unwrap();
    let error = blob.read_to_end(&mut Vec::new()).unwrap_err();
    let error = error.downcast::<nix2oci::Error>().unwrap();
    assert!(
        matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
        "{error}"
    );
    let inspected = inspect(
        &Context::default(),
        &reader,
        None,
        &InspectOptions::default(),
    );
    assert!(matches!(
        inspected.unwrap_err().kind(),
        ErrorKind::DigestMismatch { .. }
    ));
}

#[test]
fn a_summary_tells_what_is_in_each_layer() {
    let image = HandmadeImage::new(Codec::Gzip);
    let disk = in_dir(&image.layout());
    let reader = open(&disk.path).unwrap();
    let cx = Context::default();
    let summary = inspect(&cx, &reader, None, &InspectOptions::default()).unwrap();
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["platform"], "linux/amd64");
    assert_eq!(json["names"], json!(["example.org/hello:1.0"]));
    assert_eq!(json["config"]["Healthcheck"]["Test"], json!(["NONE"]));
    // It is not ours and tells nothing of its layers.
    for field in ["key", "paths", "narSizes"] {
        assert_eq!(json["layers"][0][field], json!(null), "{field}");
    }
    assert_eq!(json["layers"][0]["comment"], "layer 0");
    assert_eq!(json["layers"][0]["diffId"], json!(image.layers[0].diff_id));
    let contents = &json["layers"][0]["contents"];
    assert_eq!(contents["storePaths"], json!([STORE_PATHS[0]]));
    for (field, count) in [
        ("files", 2),
        ("directories", 5),
        ("symlinks", 1),
        ("hardLinks", 1),
    ] {
        assert_eq!(contents[field], count, "{field}");
    }
    assert_eq!(contents["fileBytes"], 1010);
    assert_eq!(
        json["layers"][1]["contents"]["storePaths"],
        json!([STORE_PATHS[1]])
    );
    let brief = InspectOptions {
        contents: false,
        ..InspectOptions::default()
    };
    let brief = inspect(&cx, &reader, None, &brief).unwrap();
    assert_eq!((brief.size, brief.uncompressed_size), (summary.size, None));
}

/// What a fuzzer calls: opens bytes as an archive and does all there is to do.
fn read_archive(bytes: &[u8]) {
    let disk = in_file(bytes);
    let cx = Context::default();
    let Ok(reader) = open(&disk.path) else { return };
    check(&cx, &reader).expect("nothing of what bytes say is a failure");
    if let Ok(stored) = reader.image(&Context::default(), None) {
        assert_eq!(stored.layers.len(), stored.manifest.layers().len());
    }
    drop(inspect(&cx, &reader, None, &InspectOptions::default()));
}

/// What a fuzzer calls: reads bytes as a layer.
fn read_layer(bytes: &[u8]) {
    let cx = Context::default();
    let found = nix2oci::layer::survey(&cx, &nix2oci::StoreDir::default(), bytes).unwrap();
    assert_eq!(found.size, bytes.len() as u64);
    assert_eq!(found.digest.to_string(), digest(bytes));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_layers_never_panic(bytes: Vec<u8>) {
        read_layer(&bytes);
    }

    /// A right image with a few wrong bytes gets far.
    #[test]
    fn damaged_archives_never_panic(
        form in 0..3usize,
        damage in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 1..4),
        cut: Option<usize>,
    ) {
        let image = HandmadeImage::new(CODECS[form]);
        let files = [image.layout(), image.combined(), image.docker()];
        let mut bytes = files[form].archive();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % bytes.len());
        }
        read_archive(&bytes);
        read_layer(&bytes);
        read_layer(&compress(CODECS[form], &bytes));
    }
}
