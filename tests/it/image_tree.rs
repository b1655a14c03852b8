//! Laws of an image's tree: it has all that the image consists of, and every
//! document stands after those that it names.

use std::collections::BTreeSet;
use std::path::Path;

use nix2oci::Context;
use nix2oci::image::{ImageReader, ImageSource, ImageTree};
use nix2oci::oci::parse_platform;
use nix2oci_tests::handmade_image::{Codec, HandmadeImage, in_dir, in_file, indexes, nested};
use serde_json::Value;

fn open(path: &Path) -> ImageReader {
    ImageReader::open(&Context::default(), &ImageSource::Path(path.to_owned())).unwrap()
}

/// Every digest that a document names is of a document before it or of a blob.
fn assert_closed(tree: &ImageTree) {
    let blobs = tree.blobs.iter().map(|blob| blob.digest().to_string());
    let mut known: BTreeSet<String> = blobs.collect();
    assert_eq!(known.len(), tree.blobs.len(), "each blob once");
    for document in &tree.documents {
        let value: Value = serde_json::from_slice(&document.bytes).unwrap();
        let named = ["manifests", "layers"]
            .iter()
            .filter_map(|list| value.get(list)?.as_array())
            .flatten()
            .chain(value.get("config"));
        for descriptor in named {
            let digest = descriptor["digest"].as_str().unwrap();
            assert!(known.contains(digest), "{digest} comes too late");
        }
        assert!(
            known.insert(document.descriptor.digest().to_string()),
            "each document once"
        );
    }
}

#[test]
fn a_tree_of_one_image_is_its_manifest_and_blobs() {
    let image = HandmadeImage::new(Codec::Gzip);
    for disk in [
        in_dir(&image.layout()),
        in_file(&image.combined().archive()),
        in_file(&image.docker().archive()),
    ] {
        let reader = open(&disk.path);
        let cx = Context::default();
        let tree = reader.tree(&cx, None).unwrap();
        assert_closed(&tree);
        let stored = reader.image(&cx, None).unwrap();
        assert_eq!(tree.documents.len(), 1);
        assert_eq!(tree.root().bytes, stored.raw_manifest.blob.bytes());
        let layers = stored.layers.iter().map(|l| l.descriptor.digest().clone());
        let expected: Vec<_> = layers
            .chain([stored.manifest.config().digest().clone()])
            .collect();
        let found: Vec<_> = tree.blobs.iter().map(|b| b.digest().clone()).collect();
        assert_eq!(found, expected, "layers bottom first, then the config");
    }
}

fn two_platforms() -> [HandmadeImage; 2] {
    let amd64 = HandmadeImage {
        entry: |entry| {
            entry["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
        },
        ..HandmadeImage::default()
    };
    let arm64 = HandmadeImage {
        architecture: "arm64",
        entry: |entry| {
            entry["platform"] = serde_json::json!({"os": "linux", "architecture": "arm64"});
        },
        ..HandmadeImage::default()
    };
    [amd64, arm64]
}

#[test]
fn a_tree_of_an_index_has_every_platform_unless_one_is_chosen() {
    let disk = in_dir(&nested(&two_platforms()));
    let (reader, cx) = (open(&disk.path), Context::default());
    let tree = reader.tree(&cx, None).unwrap();
    assert_closed(&tree);
    assert_eq!(tree.documents.len(), 3);
    // The layers are the same, the configs are not.
    assert_eq!(tree.blobs.len(), 4);
    let platform = parse_platform("linux/arm64").unwrap();
    let one = reader.tree(&cx, Some(&platform)).unwrap();
    assert_closed(&one);
    assert_eq!(one.documents.len(), 1);
    assert_eq!(one.blobs.len(), 3);
}

#[test]
fn an_inner_index_that_is_met_twice_stands_before_both_parents() {
    let mut files = nested(&two_platforms());
    let index: Value = serde_json::from_slice(files.get("index.json")).unwrap();
    let inner = index["manifests"][0].clone();
    // middle → inner; outer → inner, middle.
    let mut put = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = nix2oci_tests::handmade_image::digest(&bytes);
        let descriptor = serde_json::json!({
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest, "size": bytes.len(),
        });
        let name = format!("blobs/sha256/{}", &digest["sha256:".len()..]);
        files.set(&name, bytes);
        descriptor
    };
    let document =
        |children: &[&Value]| serde_json::json!({"schemaVersion": 2, "manifests": children});
    let middle = put(&document(&[&inner]));
    let outer = put(&document(&[&inner, &middle]));
    files.edit("index.json", |value| *value = document(&[&outer]));
    let disk = in_dir(&files);
    let tree = open(&disk.path).tree(&Context::default(), None).unwrap();
    assert_closed(&tree);
    assert_eq!(tree.documents.len(), 5);
}

#[test]
fn what_cannot_be_copied_whole_is_refused() {
    let cx = Context::default();
    let two = [
        HandmadeImage::default(),
        HandmadeImage {
            name: "example.org/other:2.0",
            architecture: "arm64",
            ..HandmadeImage::default()
        },
    ];
    let disk = in_dir(&nix2oci_tests::handmade_image::layout(&two));
    let error = open(&disk.path).tree(&cx, None).unwrap_err().to_string();
    assert!(error.contains("chosen by its tag"), "{error}");
    assert!(error.contains("other:2.0"), "{error}");

    let endless = in_dir(&indexes(300, 4));
    let error = open(&endless.path).tree(&cx, None).unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");

    let mut partial = nested(&two_platforms());
    let inner: Value = serde_json::from_slice(partial.get("index.json")).unwrap();
    let inner = inner["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let index: Value =
        serde_json::from_slice(partial.get(&format!("blobs/sha256/{}", &inner["sha256:".len()..])))
            .unwrap();
    let child = index["manifests"][1]["digest"].as_str().unwrap();
    partial.remove(&format!("blobs/sha256/{}", &child["sha256:".len()..]));
    let disk = in_dir(&partial);
    let error = open(&disk.path).tree(&cx, None).unwrap_err().to_string();
    assert!(error.contains("is not there"), "{error}");
}
