//! What every sink does with an index of images for several platforms.

use std::collections::BTreeMap;

use nix2oci::Context;
use nix2oci::image::{RawManifest, assemble_index};
use nix2oci::layer::Compression;
use nix2oci::sink::{Discard, ImageSink};
use serde_json::json;

use super::sample::{Sample, assert_digests, json, read_image, references, sample_for};
use super::{archive_path, for_each_kind, open_archive};

fn images() -> [Sample; 2] {
    // The layer of "same" is in both.
    [
        ("linux/arm/v7", ["same", "other"]),
        ("linux/amd64", ["same", "programs"]),
    ]
    .map(|(platform, contents)| sample_for(platform, &contents, Compression::None))
}

fn children(images: &[Sample]) -> Vec<RawManifest> {
    let manifests = images.iter().map(|image| image.image.manifest.clone());
    manifests.collect()
}

fn index(images: &[Sample]) -> RawManifest {
    assemble_index(&children(images), &BTreeMap::new())
}

fn put_blobs(images: &[Sample], sink: &mut dyn ImageSink) {
    let cx = Context::default();
    for image in images {
        for mut blob in image.layer_blobs() {
            sink.put_blob(&cx, &mut blob).unwrap();
        }
        sink.put_blob(&cx, &mut image.image.config.clone()).unwrap();
    }
}

fn put(images: &[Sample], sink: &mut dyn ImageSink, names: &[&str]) -> nix2oci::Result<()> {
    put_blobs(images, sink);
    let names = references(names);
    sink.put_index(
        &Context::default(),
        &index(images),
        &children(images),
        &names,
    )
}

#[test]
fn an_index_is_read_back_with_all_that_it_names() {
    let images = images();
    for_each_kind(|kind, dir| {
        let mut sink = (kind.open)(dir).unwrap();
        put(&images, sink.as_mut(), &["h.io/app:1"]).unwrap();
        sink.commit(&Context::default()).unwrap();
        let files = read_image(&(kind.path)(dir));
        assert_digests(&files);
        // Its children have no names of their own.
        let outermost = json(&files, "index.json");
        let entries = outermost["manifests"].as_array().unwrap();
        let is_ours = |entry: &&serde_json::Value| {
            entry["annotations"]["io.containerd.image.name"] == "h.io/app:1"
        };
        let ours: Vec<_> = entries.iter().filter(is_ours).collect();
        let [entry] = ours[..] else {
            panic!("{outermost}");
        };
        assert_eq!(
            entries.len(),
            1 + usize::from(kind.name.contains("another"))
        );
        let digest = index(&images).digest();
        assert_eq!(entry["digest"], digest.to_string());
        assert_eq!(
            entry["mediaType"],
            "application/vnd.oci.image.index.v1+json"
        );
        assert!(entry.get("platform").is_none());
        let name = format!("blobs/sha256/{}", digest.hex());
        assert_eq!(files[&name], index(&images).blob.bytes());
        for image in &images {
            let manifest = format!("blobs/sha256/{}", image.image.manifest.digest().hex());
            assert_eq!(files[&manifest], image.image.manifest.blob.bytes());
            for (record, bytes) in &image.layers {
                let layer = format!("blobs/sha256/{}", record.digest.hex());
                assert_eq!(&files[&layer], bytes);
            }
        }
    });
}

#[test]
fn an_index_without_all_that_it_names_is_refused() {
    let images = images();
    for_each_kind(|kind, dir| {
        let cx = Context::default();
        let refused = |put: &dyn Fn(&mut dyn ImageSink) -> nix2oci::Result<()>, digest: &str| {
            let error = put((kind.open)(dir).unwrap().as_mut()).unwrap_err();
            assert!(error.to_string().contains(digest), "{error}");
        };
        let all = children(&images);
        refused(
            &|sink| {
                put_blobs(&images, sink);
                sink.put_index(&cx, &index(&images), &all[1..], &[])
            },
            &all[0].digest().to_string(),
        );
        refused(
            &|sink| {
                put_blobs(&images[..1], sink);
                sink.put_index(&cx, &index(&images), &all, &[])
            },
            &images[1].layers[1].0.digest.to_string(),
        );
        // A manifest is no index, and no index before what it names.
        refused(
            &|sink| {
                put_blobs(&images, sink);
                sink.put_index(&cx, &all[0], &all, &[])
            },
            "image.manifest.v1+json",
        );
        let outer = assemble_index(&[index(&images)], &BTreeMap::new());
        refused(
            &|sink| {
                put_blobs(&images, sink);
                let mut children = vec![index(&images)];
                children.extend(all.clone());
                sink.put_index(&cx, &outer, &children, &[])
            },
            &all[0].digest().to_string().min(all[1].digest().to_string()),
        );
    });
}

#[test]
fn an_index_may_be_in_an_index() {
    let images = images();
    let outer = assemble_index(&[index(&images)], &BTreeMap::new());
    let mut documents = children(&images);
    documents.push(index(&images));
    let put = |sink: &mut dyn ImageSink| {
        put_blobs(&images, sink);
        let cx = Context::default();
        sink.put_index(&cx, &outer, &documents, &references(&["app"]))
            .unwrap();
        sink.commit(&cx).unwrap();
    };
    for_each_kind(|kind, dir| {
        put((kind.open)(dir).unwrap().as_mut());
        let files = read_image(&(kind.path)(dir));
        assert_digests(&files);
        for document in documents.iter().chain([&outer]) {
            let name = format!("blobs/sha256/{}", document.digest().hex());
            assert_eq!(files[&name], document.blob.bytes());
        }
    });
    put(&mut Discard);
}

/// docker knows no index: it finds the image that most machines run, and the
/// first one where there is none of it.
#[test]
fn an_archive_s_manifest_json_has_one_image_of_an_index() {
    let images = images();
    for (images, chosen) in [(&images[..], 1), (&images[..1], 0)] {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = open_archive(dir.path()).unwrap();
        put(images, sink.as_mut(), &["app:1", "app:2"]).unwrap();
        sink.commit(&Context::default()).unwrap();
        let files = read_image(&archive_path(dir.path()));
        let config = images[chosen].image.config.digest().hex();
        let manifest_json = json(&files, "manifest.json");
        let [entry] = &manifest_json.as_array().unwrap()[..] else {
            panic!("{manifest_json}");
        };
        assert_eq!(entry["Config"], format!("blobs/sha256/{config}"));
        assert_eq!(
            entry["RepoTags"],
            json!(["docker.io/library/app:1", "docker.io/library/app:2"])
        );
    }
}
