//! Images on a base: its layers, then the new ones, and a config of both.

mod accounts;
mod command;
mod config;
mod marks;
mod push;
mod remote;
mod store_paths;

use std::path::Path;
use std::sync::Arc;

use nix2oci::build::{BuildReport, build};
use nix2oci::image::{BaseImage, ImageReader, ImageSource};
use nix2oci::oci::{Platform, parse_platform};
use nix2oci::sink::OciLayout;
use nix2oci::{Context, ErrorClass, ErrorKind, ImageSpec, Result};
use nix2oci_tests::handmade_image::{
    Codec, Entry, HandmadeImage, HandmadeLayer, OnDisk, compress, digest, hex, in_dir, in_file,
    nested, tar,
};
use nix2oci_tests::image_files::{blob, config, manifest};
use serde_json::{Value, json};

use crate::push::release;

pub(super) fn dir(path: &str) -> Entry {
    Entry::Dir(format!("{path}/"))
}

pub(super) fn file(path: &str) -> Entry {
    Entry::File(path.to_owned(), path.as_bytes().to_vec())
}

pub(super) fn link(path: &str, target: &str) -> Entry {
    Entry::Symlink(path.to_owned(), target.to_owned())
}

/// Makes an image of layers of these entries.
pub(super) fn handmade(layers: &[&[Entry]], codec: Codec) -> HandmadeImage {
    let layer = |entries: &&[Entry]| HandmadeLayer::new(&tar(entries), codec);
    HandmadeImage {
        layers: layers.iter().map(layer).collect(),
        ..HandmadeImage::default()
    }
}

pub(super) fn open(path: &Path, platform: Option<&Platform>) -> Result<BaseImage> {
    let cx = Context::default();
    let reader = ImageReader::open(&cx, &ImageSource::Path(path.to_owned()))?;
    BaseImage::open(&cx, Arc::new(reader), platform)
}

/// Returns the application of the push tests on this base.
pub(super) fn on(base: BaseImage) -> ImageSpec {
    let mut spec = release(1).spec;
    spec.base = Some(base);
    spec
}

/// Builds into a layout.
pub(super) fn built(spec: &ImageSpec, to: &Path) -> Result<BuildReport> {
    build(&Context::default(), spec, &mut OciLayout::open(to, None)?)
}

/// A base with 20 layers, two of them the same.
fn twenty_layers(codec: Codec) -> HandmadeImage {
    let names: Vec<Vec<Entry>> = (0..19).map(|n| vec![file(&format!("f{n}"))]).collect();
    let mut layers: Vec<&[Entry]> = names.iter().map(Vec::as_slice).collect();
    layers.push(&names[3]);
    handmade(&layers, codec)
}

/// An image on a base is the base's layers and then what it is without.
#[test]
fn layers_of_the_base_come_first_as_they_are() {
    let alone = tempfile::tempdir().unwrap();
    built(&release(1).spec, alone.path()).unwrap();
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let image = twenty_layers(codec);
        let base = in_dir(&image.layout());
        let whole = tempfile::tempdir().unwrap();
        let report = built(&on(open(&base.path, None).unwrap()), whole.path()).unwrap();
        assert_eq!((report.base.len(), report.layers.len()), (20, 3));

        let digests = |image: &Path| manifest(image)["layers"].clone();
        let both: Vec<Value> = [digests(&base.path), digests(alone.path())]
            .iter()
            .flat_map(|layers| layers.as_array().unwrap().clone())
            .collect();
        assert_eq!(digests(whole.path()), json!(both), "{codec:?}");
        let diff_ids = |image: &Path| config(image)["rootfs"]["diff_ids"].clone();
        let both: Vec<Value> = [diff_ids(&base.path), diff_ids(alone.path())]
            .iter()
            .flat_map(|layers| layers.as_array().unwrap().clone())
            .collect();
        assert_eq!(diff_ids(whole.path()), json!(both));
        for layer in manifest(whole.path())["layers"].as_array().unwrap() {
            let bytes = blob(whole.path(), layer);
            assert_eq!(digest(&bytes), layer["digest"]);
        }
        let history = config(whole.path())["history"].clone();
        assert_eq!(history.as_array().unwrap().len(), 23);
        assert_eq!(history[19]["comment"], "layer 19");
    }
}

/// The same base gives the same layers and config, however it is stored.
#[test]
fn how_the_base_is_stored_changes_no_byte() {
    let image = twenty_layers(Codec::None);
    let files = [image.layout(), image.combined(), image.docker()];
    let mut digests = Vec::new();
    for (at, files) in files.iter().enumerate() {
        let archive = files.archive();
        for compressed in [Codec::None, Codec::Gzip, Codec::Zstd] {
            let archive = compress(compressed, &archive);
            let base = in_file(&archive);
            let to = tempfile::tempdir().unwrap();
            built(&on(open(&base.path, None).unwrap()), to.path()).unwrap();
            let manifest = manifest(to.path());
            let name = &manifest["annotations"]["org.opencontainers.image.base.name"];
            assert_eq!(name, "example.org/hello:1.0");
            // An archive of `docker save` has no manifest of its own.
            let digest = &manifest["annotations"]["org.opencontainers.image.base.digest"];
            assert_eq!(digest.is_null(), at == 2);
            digests.push((manifest["layers"].clone(), manifest["config"].clone()));
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn media_types_of_docker_become_those_of_oci() {
    let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let mut image = twenty_layers(Codec::Gzip);
    for layer in &mut image.layers {
        layer.media_type = gzip;
    }
    let base = in_dir(&image.layout());
    let to = tempfile::tempdir().unwrap();
    built(&on(open(&base.path, None).unwrap()), to.path()).unwrap();
    let layers = manifest(to.path())["layers"].clone();
    for layer in layers.as_array().unwrap() {
        assert_eq!(
            layer["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
        assert!(!blob(to.path(), layer).is_empty());
    }
}

#[test]
fn layers_that_are_not_here_or_cannot_be_read_are_refused() {
    for (media_type, problem) in [
        (
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "has media type",
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "lies elsewhere",
        ),
    ] {
        let mut image = HandmadeImage::default();
        image.layers[1].media_type = media_type;
        if problem == "lies elsewhere" {
            image.manifest = |manifest| {
                manifest["layers"][1]["urls"] = json!(["https://example.org/layer"]);
            };
        }
        let base = in_dir(&image.layout());
        let error = open(&base.path, None).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn the_base_counts_in_the_budget() {
    let base = in_dir(&twenty_layers(Codec::Gzip).layout());
    let mut spec = on(open(&base.path, None).unwrap());
    let cx = Context::default();
    for (max_layers, expected) in [(23, Some(3)), (22, Some(2)), (21, Some(1)), (20, None)] {
        spec.max_layers = max_layers.try_into().unwrap();
        let plan = nix2oci::build::plan(&cx, &spec);
        assert_eq!(
            plan.as_ref().ok().map(|plan| plan.layers.len()),
            expected,
            "{max_layers}"
        );
        if let Err(error) = plan {
            assert_eq!(error.class(), ErrorClass::Input);
            let told = format!(
                "the layer budget: at most 20, but the base image {} has 20 and 1 more are needed",
                base.path.display()
            );
            assert_eq!(error.to_string(), told);
        }
    }
}

#[test]
fn a_base_for_another_platform_is_refused() {
    let other = HandmadeImage {
        architecture: "arm64",
        ..HandmadeImage::default()
    };
    let base = in_dir(&other.layout());
    let error = built(&on(open(&base.path, None).unwrap()), &base.path).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidInput { .. }));
    let told = error.to_string();
    assert!(
        told.ends_with("it is for linux/arm64, and the image is for linux/amd64"),
        "{told}"
    );
    let both = in_dir(&nested(&[HandmadeImage::default(), other]));
    assert!(open(&both.path, None).is_err(), "there are two");
    let arm64 = parse_platform("linux/arm64").unwrap();
    assert_eq!(open(&both.path, Some(&arm64)).unwrap().platform(), &arm64);
}

/// Nothing that is not what its descriptor says comes into the new image.
#[test]
fn a_broken_layer_of_the_base_breaks_the_build() {
    let whole = HandmadeImage::default();
    let (first, second) = (whole.layers[0].clone(), whole.layers[1].clone());
    let name = |layer: &HandmadeLayer| {
        let hex = hex(&layer.blob);
        format!("blobs/sha256/{hex}")
    };
    let cut = second.blob[..second.blob.len() / 2].to_vec();
    let mut same_size = first.blob.clone();
    *same_size.last_mut().unwrap() ^= 1;
    for (layer, bytes, problem) in [
        (&second, Some(cut), "bytes, expected"),
        (&first, Some(same_size), "has digest"),
        (&first, None, "is not there"),
    ] {
        let mut files = whole.layout();
        match bytes {
            Some(bytes) => files.set(&name(layer), bytes),
            None => files.remove(&name(layer)),
        }
        let base: OnDisk = in_dir(&files);
        let to = tempfile::tempdir().unwrap();
        let to = to.path().join("image");
        let error = built(&on(open(&base.path, None).unwrap()), &to).unwrap_err();
        let told = format!("{error}");
        assert!(told.contains(problem), "{told}");
        assert!(!to.join("index.json").exists());
    }
}
