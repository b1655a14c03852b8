//! Copying a stored image keeps its bytes, and refuses what is not what it says.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix2oci::build::copy;
use nix2oci::image::{ImageReader, ImageSource};
use nix2oci::oci::Reference;
use nix2oci::sink::{Archive, Discard, ImageSink, OciLayout};
use nix2oci::{Context, ErrorClass, Event, Observer, Result};
use nix2oci_tests::handmade_image::{Codec, HandmadeImage, in_dir, in_file};
use nix2oci_tests::image_files::{blob, manifest, manifest_digest, read_json};
use serde_json::json;

use crate::sinks::sample::{references, sample};

/// Copies what is at a path, under the names given.
fn copy_to(from: &Path, names: &[Reference], sink: &mut dyn ImageSink) -> Result<()> {
    let cx = Context::default();
    let reader = ImageReader::open(&cx, &ImageSource::Path(from.to_owned()))?;
    let image = reader.image(&cx, None)?;
    copy(&cx, &reader, &image, names, sink)
}

/// What a build writes and what is copied from one of its outputs into another
/// kind are the same bytes.
#[test]
fn a_copy_is_what_a_build_writes() {
    let compression = nix2oci::Compression::Gzip { level: 6 };
    let image = sample(&["one", "two!", "three"], compression);
    let names = ["h.io/app:1", "h.io/app:2"];
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let archive = |name: &str| Box::new(Archive::create(&path(name)).unwrap());
    let layout = |name: &str| Box::new(OciLayout::open(&path(name), None).unwrap());

    image.write(archive("built.tar"), &names).unwrap();
    image.write(layout("built"), &names).unwrap();
    copy_to(
        &path("built"),
        &references(&names),
        archive("copied.tar").as_mut(),
    )
    .unwrap();
    copy_to(
        &path("built.tar"),
        &references(&names),
        layout("copied").as_mut(),
    )
    .unwrap();

    let built = fs::read(path("built.tar")).unwrap();
    assert_eq!(fs::read(path("copied.tar")).unwrap(), built);
    let index = |name: &str| fs::read(path(name).join("index.json")).unwrap();
    assert_eq!(index("copied"), index("built"));
    let parts = manifest(&path("built"));
    let mut descriptors = parts["layers"].as_array().unwrap().clone();
    descriptors.push(parts["config"].clone());
    for descriptor in descriptors {
        let copied = blob(&path("copied"), &descriptor);
        assert_eq!(copied, blob(&path("built"), &descriptor));
    }
}

/// The manifest of `docker save` is not there and is made; Docker's media types
/// stay.
#[test]
fn images_of_other_tools_keep_their_digests() {
    let dir = tempfile::tempdir().unwrap();
    let copied = dir.path().join("copied.tar");
    let docker_types = HandmadeImage {
        manifest: |manifest| {
            let docker = "application/vnd.docker.distribution.manifest.v2+json";
            manifest["mediaType"] = json!(docker);
            manifest["config"]["mediaType"] =
                json!("application/vnd.docker.container.image.v1+json");
            for layer in manifest["layers"].as_array_mut().unwrap() {
                layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
            }
        },
        entry: |entry| {
            entry["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
        },
        ..HandmadeImage::default()
    };
    let layout = in_dir(&docker_types.layout());
    copy_to(
        &layout.path,
        &references(&["app:1"]),
        &mut Archive::create(&copied).unwrap(),
    )
    .unwrap();
    assert_eq!(manifest_digest(&copied), manifest_digest(&layout.path));
    assert_eq!(manifest(&copied), manifest(&layout.path));

    let saved = in_file(&HandmadeImage::new(Codec::None).docker().archive());
    copy_to(&saved.path, &[], &mut Archive::create(&copied).unwrap()).unwrap();
    let entry = &read_json(&copied, "manifest.json")[0];
    assert_eq!(entry["RepoTags"], json!([]));
    assert_eq!(entry["Layers"].as_array().unwrap().len(), 2);
}

/// Damage in any blob is found before the copy has its name.
#[test]
fn a_damaged_blob_is_not_copied() {
    let image = HandmadeImage::default();
    let entry = image.layout();
    for (name, bytes) in &entry.0 {
        if !name.starts_with("blobs/") {
            continue;
        }
        let disk = in_dir(&entry);
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(disk.path.join(name), damaged).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copied = dir.path().join("copied.tar");
        let error = copy_to(
            &disk.path,
            &references(&["app"]),
            &mut Archive::create(&copied).unwrap(),
        )
        .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Integrity, "{name}: {error}");
        let hex = name.rsplit('/').next().unwrap();
        assert!(error.to_string().contains(hex), "{name}: {error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{name}");
    }
}

/// Hears how many bytes of each layer were read.
#[derive(Default)]
struct Heard(Mutex<Vec<(u64, u64, bool)>>);

impl Observer for Heard {
    fn event(&self, event: &Event<'_>) {
        let mut heard = self.0.lock().unwrap();
        match event {
            Event::Planned { layers, .. } => {
                heard.extend(layers.iter().map(|size| (*size, 0, false)));
            }
            Event::LayerSent { layer, bytes } => heard[*layer].1 += bytes,
            Event::LayerWritten { layer } => heard[*layer].2 = true,
            _ => {}
        }
    }
}

#[test]
fn the_observer_hears_of_every_byte() {
    let disk = in_dir(&HandmadeImage::default().layout());
    let heard = Arc::new(Heard::default());
    let mut cx = Context::default();
    cx.observer = Arc::<Heard>::clone(&heard);
    let reader = ImageReader::open(&cx, &ImageSource::Path(disk.path.clone())).unwrap();
    let image = reader.image(&cx, None).unwrap();
    copy(&cx, &reader, &image, &[], &mut Discard).unwrap();
    let heard = heard.0.lock().unwrap();
    assert_eq!(heard.len(), 2);
    for (layer, (size, sent, is_written)) in heard.iter().enumerate() {
        assert!(*is_written, "layer {layer}");
        assert_eq!(sent, size, "layer {layer}");
    }
}
