//! Building again into a layout: what it has is not packed, and what is built is
//! what a build from nothing gives.

use std::fs;
use std::path::{Path, PathBuf};

use nix2oci::image::{ImageReader, ImageSource, Severity, check};
use nix2oci::sink::OciLayout;
use nix2oci::{Compression, Context, Digest, ImageSpec, build};

use crate::push::release;
use crate::sinks::sample::references;

fn build_to(dir: &Path, tag: &str, spec: &mut ImageSpec) -> Digest {
    build_as(dir, &format!("h.io/app:{tag}"), spec)
}

fn build_as(dir: &Path, name: &str, spec: &mut ImageSpec) -> Digest {
    let mut layout = OciLayout::open(dir, None).unwrap();
    spec.names = references(&[name]);
    let report = build(&Context::default(), spec, &mut layout).unwrap();
    report.manifest_digest
}

fn assert_whole(dir: &Path) {
    let cx = Context::default();
    let source = ImageSource::Path(dir.to_owned());
    let reader = ImageReader::open(&cx, &source).unwrap();
    let problems = check(&cx, &reader).unwrap();
    let errors = problems.iter().filter(|p| p.severity() == Severity::Error);
    assert_eq!(errors.count(), 0, "{problems:?}");
}

/// The blobs of the layers, the largest first.
fn blobs(dir: &Path) -> Vec<PathBuf> {
    let cx = Context::default();
    let source = ImageSource::Path(dir.to_owned());
    let reader = ImageReader::open(&cx, &source).unwrap();
    let image = reader.load(&reader.manifests(&cx).unwrap()[0]).unwrap();
    let blob = |digest: &str| dir.join("blobs/sha256").join(digest);
    let layers = image.layers.iter();
    layers
        .map(|layer| blob(layer.descriptor.digest().digest()))
        .collect()
}

#[test]
fn layers_that_a_layout_has_are_not_packed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, fresh) = (dir.path().join("layout"), dir.path().join("fresh"));
    let mut first = release(1);
    let digest = build_to(&layout, "1", &mut first.spec);
    assert_eq!(first.read(), ["app", "libc", "libz"]);

    let mut again = release(1);
    assert_eq!(build_to(&layout, "again", &mut again.spec), digest);
    assert!(again.read().is_empty());

    let mut next = release(2);
    let digest = build_to(&layout, "2", &mut next.spec);
    assert_eq!(next.read(), ["app"]);
    assert_eq!(build_to(&fresh, "2", &mut release(2).spec), digest);

    // Another compression has other bytes.
    let mut other = release(2);
    other.spec.packing.compression = Compression::None;
    build_to(&layout, "plain", &mut other.spec);
    assert_eq!(other.read(), ["app", "libc", "libz"]);
    assert_whole(&layout);
}

/// An image that was copied from elsewhere may say what it likes of its layers.
#[test]
fn images_of_other_names_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let digest = build_as(dir.path(), "h.io/other:1", &mut release(1).spec);
    let mut own = release(1);
    assert_eq!(build_as(dir.path(), "h.io/app:1", &mut own.spec), digest);
    assert_eq!(own.read(), ["app", "libc", "libz"]);
    // A tag of the layout is a name as well.
    let build = |tag: &str| {
        let app = release(1);
        let mut layout = OciLayout::open(dir.path(), Some(tag)).unwrap();
        build(&Context::default(), &app.spec, &mut layout).unwrap();
        app.read().len()
    };
    assert_eq!(build("new"), 3);
    assert_eq!(build("new"), 0);
    assert_eq!(build("newer"), 3);
}

#[test]
fn a_layer_that_is_broken_or_gone_is_packed_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let digest = build_to(&layout, "1", &mut release(1).spec);
    let breaks: [fn(&Path); 3] = [
        |blob| fs::remove_file(blob).unwrap(),
        |blob| fs::write(blob, &fs::read(blob).unwrap()[1..]).unwrap(),
        |blob| {
            let mut bytes = fs::read(blob).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(blob, bytes).unwrap();
        },
    ];
    for break_blob in breaks {
        break_blob(&blobs(&layout)[0]);
        let mut again = release(1);
        assert_eq!(build_to(&layout, "1", &mut again.spec), digest);
        assert_eq!(again.read().len(), 1);
        assert_whole(&layout);
    }
}

#[test]
fn who_wants_checks_gets_all_packed() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let digest = build_to(&layout, "1", &mut release(1).spec);
    let mut again = release(1);
    let sink = OciLayout::open(&layout, None).unwrap();
    again.spec.names = references(&["h.io/app:1"]);
    let report = build(&Context::default(), &again.spec, &mut sink.packing_all()).unwrap();
    assert_eq!(report.manifest_digest, digest);
    assert_eq!(again.read(), ["app", "libc", "libz"]);

    let mut strict = release(1);
    strict.spec.strict = true;
    assert_eq!(build_to(&layout, "1", &mut strict.spec), digest);
    assert_eq!(strict.read(), ["app", "libc", "libz"]);
}
