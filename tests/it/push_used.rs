//! Laws of layers that were made before, on their way to a registry.

use std::fs;

use nix2oci::build::{LAYER_FILE, LayerState, PushOptions, UsedLayers, make_layers};
use nix2oci::layer::LayerHistory;
use nix2oci::{Compression, Context, ErrorClass};
use nix2oci_tests::fake_registry::FakeRegistry;

use super::push::{Release, assert_whole, push_to, release};

/// Makes the layers of a release, with or without their blobs, in a directory.
fn made(with_blobs: bool) -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = with_blobs.then(|| dir.path());
    let made = make_layers(
        &Context::default(),
        &release(1).spec,
        Vec::new(),
        &LayerHistory::default(),
        blobs,
    )
    .unwrap();
    fs::write(dir.path().join(LAYER_FILE), made.to_json()).unwrap();
    let digests = made.layers.into_iter().map(|made| made.layer.digest);
    (dir, digests.collect())
}

/// The next release on the layers of the first, packed otherwise.
fn next(dir: &tempfile::TempDir) -> Release {
    let mut next = release(2);
    let used = UsedLayers::read(&Context::default(), &[dir.path().to_owned()]).unwrap();
    next.spec.used_layers = used.layers;
    next.spec.packing.compression = Compression::None;
    next
}

#[test]
fn layers_that_were_made_before_are_sent_as_they_are() {
    for with_blobs in [true, false] {
        let registry = FakeRegistry::start();
        let (dir, digests) = made(with_blobs);
        let mut next = next(&dir);
        if !with_blobs {
            // What they hold and this release does not: the first one's program.
            let store = release(1).content.store.clone();
            let both = store.paths().chain(next.content.store.paths());
            let mut content = nix2oci_tests::MemoryStore::default();
            for (path, node) in both {
                content.insert(path.clone(), node.clone());
            }
            next.spec.content = std::sync::Arc::new(content);
        }
        let report = push_to(&registry, &next.spec, &["app:v2"], &PushOptions::default());
        let report = report.unwrap();
        assert_whole(&registry, "app", "v2", &report);
        let pushed: Vec<String> = report
            .layers
            .iter()
            .map(|layer| layer.descriptor.digest().to_string())
            .collect();
        let (used, own) = pushed.split_at(digests.len());
        assert_eq!(
            (used, own.len()),
            (&*digests, 1),
            "with blobs: {with_blobs}"
        );
        if with_blobs {
            let read = next.read();
            assert_eq!(read.len(), 1, "{read:?}");
        }

        // Another image on them sends its own layer only.
        let mut other = self::next(&dir);
        other.spec.packing.mtime = 7;
        let report = push_to(&registry, &other.spec, &["app:v3"], &PushOptions::default());
        let states: Vec<LayerState> = report.unwrap().layers.iter().map(|l| l.state).collect();
        assert_eq!(states[..digests.len()], [LayerState::Exists; 3]);
        assert_eq!(states[digests.len()..], [LayerState::New]);
    }
}

#[test]
fn a_blob_that_is_not_what_the_document_says_is_not_sent() {
    let registry = FakeRegistry::start();
    let (dir, digests) = made(true);
    let hex = digests[0].strip_prefix("sha256:").unwrap();
    let file = dir.path().join("blobs/sha256").join(hex);
    let mut blob = fs::read(&file).unwrap();
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    fs::write(&file, blob).unwrap();
    let next = next(&dir);
    let error = push_to(&registry, &next.spec, &["app:v2"], &PushOptions::default()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    assert!(error.to_string().contains(&digests[0]), "{error}");
    assert!(registry.tags("app").is_empty());
}
