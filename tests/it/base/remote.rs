//! Bases that are in a registry: what is downloaded, how often, and when.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nix2oci::build::{ImageCopy, build, copy_all};
use nix2oci::plan::{Metadata, RootNode};
use nix2oci::sink::{Archive, OciLayout};
use nix2oci::{Context, Event, ImageSink, ImageSpec, Observer};
use nix2oci_tests::FakeRegistry;
use nix2oci_tests::fake_registry::Fault;
use nix2oci_tests::handmade_image::{HandmadeImage, digest, in_dir};

use super::push::{fetched, pushed, put, remote};
use super::{built, on, open};
use crate::push::registries;

/// Hears how many bytes of each layer came, and which layers were written.
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

/// Puts a file at the root, for which the layers of the base are looked at.
fn with_root(mut spec: ImageSpec) -> ImageSpec {
    let node = RootNode::Symlink {
        target: b"app".to_vec(),
    };
    let inserted = spec
        .root_tree
        .insert(b"bin/app", node, Metadata::default(), "the test");
    inserted.unwrap();
    spec
}

/// Whether it is looked at or not, a base is downloaded once and arrives whole,
/// below the layers on it.
#[test]
fn a_base_is_downloaded_once() {
    let registry = FakeRegistry::start();
    let layers = put(&registry, "base:1");
    let stored = in_dir(&HandmadeImage::default().layout());
    for is_looked_at in [false, true] {
        let spec = |base| match is_looked_at {
            true => with_root(on(base)),
            false => on(base),
        };
        let place = tempfile::tempdir().unwrap();
        let expected = place.path().join("expected.tar");
        let archive = |path: &Path| Archive::create(path).unwrap();
        let local = spec(open(&stored.path, None).unwrap());
        build(&Context::default(), &local, &mut archive(&expected)).unwrap();
        let layout = place.path().join("layout");
        let file = place.path().join("image.tar");
        let mut sinks: [Box<dyn ImageSink>; 2] = [
            Box::new(OciLayout::open(&layout, None).unwrap()),
            Box::new(archive(&file)),
        ];
        for sink in &mut sinks {
            registry.log().clear();
            let heard = Arc::new(Heard::default());
            let mut cx = Context::default();
            cx.observer = Arc::<Heard>::clone(&heard);
            let spec = spec(remote(&registry, "base:1"));
            let report = build(&cx, &spec, &mut **sink).unwrap();
            assert_eq!(fetched(&registry), layers, "{is_looked_at} {}", sink.name());
            let heard = heard.0.lock().unwrap();
            let own = report.layers.len();
            assert_eq!(heard.len(), own + layers);
            for (size, sent, is_written) in &heard[own..] {
                assert_eq!((size, *is_written), (sent, true), "{}", sink.name());
            }
        }
        let spec = spec(remote(&registry, "base:1"));
        let report = built(&spec, &place.path().join("again")).unwrap();
        assert_eq!(report.base.len(), layers);
        let tars = [&expected, &file].map(|file| blobs(file));
        assert_eq!(tars[0], tars[1], "{is_looked_at}");
    }
}

/// Returns the names of the layers in an archive, in the order of their bytes.
fn blobs(archive: &Path) -> Vec<String> {
    let bytes = std::fs::read(archive).unwrap();
    let mut archive = tar::Archive::new(&*bytes);
    let entries = archive.entries().unwrap();
    let names = entries.map(|e| e.unwrap().path().unwrap().display().to_string());
    let mut names: Vec<String> = names.filter(|name| name.contains("sha256/")).collect();
    // The manifest and the config name the base as it was called.
    names.truncate(names.len() - 2);
    names
}

#[test]
fn a_base_that_is_pushed_elsewhere_is_downloaded_once() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let layers = put(&from, "base:1");
    let spec = with_root(on(remote(&from, "base:1")));
    pushed(&to, &spec, "app:1").unwrap();
    assert_eq!(fetched(&from), layers);
    for layer in &HandmadeImage::default().layers {
        let stored = to.blob("app", &digest(&layer.blob));
        assert_eq!(stored.as_ref(), Some(&layer.blob));
    }
}

/// Holds the first two answers for layers until both were asked for, and says
/// whether that came about.
fn hold_two(registry: &FakeRegistry) -> Arc<(Mutex<(usize, bool)>, Condvar)> {
    let asked = Arc::new((Mutex::new((0, true)), Condvar::new()));
    for layer in &HandmadeImage::default().layers[..2] {
        let asked = Arc::clone(&asked);
        let target = format!("/blobs/{}", digest(&layer.blob));
        registry.fault(Fault::on("GET", &target).change(move |answer| {
            let (count, changed) = &*asked;
            let mut count = count.lock().unwrap();
            count.0 += 1;
            changed.notify_all();
            let limit = Duration::from_secs(10);
            let waited = changed.wait_timeout_while(count, limit, |count| count.0 < 2);
            let (mut count, timeout) = waited.unwrap();
            count.1 &= !timeout.timed_out();
            drop(count);
            answer
        }));
    }
    asked
}

#[test]
fn layers_are_downloaded_side_by_side() {
    let registry = FakeRegistry::start();
    put(&registry, "base:1");
    for how in ["build", "look at it", "copy"] {
        registry.clear_faults();
        let asked = hold_two(&registry);
        let place = tempfile::tempdir().unwrap();
        let base = remote(&registry, "base:1");
        match how {
            "build" => drop(built(&on(base), place.path()).unwrap()),
            "look at it" => {
                let spec = with_root(on(base));
                nix2oci::build::plan(&Context::default(), &spec).unwrap();
            }
            _ => {
                let cx = Context::default();
                let reference = format!("{}/base:1", registry.host());
                let reference = nix2oci::oci::parse_name(&reference).unwrap();
                let from = registries().open(&reference).unwrap();
                let tree = from.tree(&cx, None).unwrap();
                let copies = [ImageCopy {
                    from: &from,
                    tree,
                    names: Vec::new(),
                }];
                let to = place.path().join("image.tar");
                copy_all(&cx, &copies, &mut Archive::create(&to).unwrap()).unwrap();
                open(&to, None).unwrap();
            }
        }
        assert_eq!(*asked.0.lock().unwrap(), (2, true), "{how}");
    }
}

/// A download that breaks in the end breaks the build, and nothing is left of
/// it.
#[test]
fn a_base_that_cannot_be_downloaded_breaks_the_build() {
    let registry = FakeRegistry::start();
    put(&registry, "base:1");
    let broken = digest(&HandmadeImage::default().layers[1].blob);
    registry.fault(Fault::on("GET", &format!("/blobs/{broken}")).status(403, &[]));
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("image.tar");
    for spec in [
        on(remote(&registry, "base:1")),
        with_root(on(remote(&registry, "base:1"))),
    ] {
        let mut cx = Context::default();
        cx.spool_dir = place.path().to_owned();
        let error = build(&cx, &spec, &mut Archive::create(&to).unwrap()).unwrap_err();
        assert_eq!(error.class(), nix2oci::ErrorClass::Denied, "{error}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
