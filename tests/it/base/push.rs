//! Images on a base that go to a registry.

use std::sync::Arc;

use nix2oci::build::{
    BuildReport, LayerState, PushOptions, PushReport, PushSource, RecipeSource, build,
    build_recipe, forecast, push, resolve,
};
use nix2oci::image::BaseImage;
use nix2oci::oci::parse_name;
use nix2oci::sink::Archive;
use nix2oci::{Context, ImageSpec, Result};
use nix2oci_tests::FakeRegistry;
use nix2oci_tests::handmade_image::{HandmadeImage, in_dir};

use super::{on, open};
use crate::push::{names, push_to, registries, release};
use crate::sinks::sample::references;

/// Puts the handmade image into a repository.
pub(super) fn put(registry: &FakeRegistry, name: &str) -> usize {
    let image = in_dir(&HandmadeImage::default().layout());
    let cx = Context::default();
    let source = nix2oci::image::ImageSource::Path(image.path.clone());
    let reader = nix2oci::image::ImageReader::open(&cx, &source).unwrap();
    let source = PushSource::Stored {
        image: &Arc::new(reader),
        platform: None,
    };
    let to = names(registry, &[name]);
    push(&cx, source, &registries(), &to, &PushOptions::default()).unwrap();
    registry.log().clear();
    HandmadeImage::default().layers.len()
}

pub(super) fn remote(registry: &FakeRegistry, name: &str) -> BaseImage {
    let reference = parse_name(&format!("{}/{name}", registry.host())).unwrap();
    let reader = registries().open(&reference).unwrap();
    BaseImage::open(&Context::default(), Arc::new(reader), None).unwrap()
}

pub(super) fn pushed(registry: &FakeRegistry, spec: &ImageSpec, to: &str) -> Result<PushReport> {
    push_to(registry, spec, &[to], &PushOptions::default())
}

fn states(report: &PushReport, is_base: bool) -> Vec<LayerState> {
    let layers = report.layers.iter();
    let layers = layers.filter(|layer| layer.base.is_some() == is_base);
    layers.map(|layer| layer.state).collect()
}

/// Returns how many layers of the base were fetched.
pub(super) fn fetched(registry: &FakeRegistry) -> usize {
    let base = HandmadeImage::default();
    let digests = base.layers.iter();
    let digests = digests.map(|layer| nix2oci_tests::handmade_image::digest(&layer.blob));
    digests
        .map(|digest| registry.log().count("GET", &format!("/blobs/{digest}")))
        .sum()
}

#[test]
fn a_base_of_the_same_registry_is_mounted() {
    let registry = FakeRegistry::start();
    let layers = put(&registry, "base:1");
    let report = pushed(&registry, &on(remote(&registry, "base:1")), "app:1").unwrap();
    assert_eq!(states(&report, true), vec![LayerState::Mounted; layers]);
    assert_eq!(states(&report, false), [LayerState::New; 3]);
    assert_eq!(registry.log().count("POST", "from=base"), layers);
    assert_eq!(fetched(&registry), 0);

    // The same again, and the next release on the same base.
    let report = pushed(&registry, &on(remote(&registry, "base:1")), "app:1").unwrap();
    assert_eq!(states(&report, true), vec![LayerState::Reused; layers]);
    assert!(report.changed_tags.is_empty());
    let mut spec = release(2).spec;
    spec.base = Some(remote(&registry, "base:1"));
    registry.log().clear();
    let mut options = PushOptions::default();
    options.reuse_from = names(&registry, &["app:1"]);
    let report = push_to(&registry, &spec, &["app:2"], &options).unwrap();
    assert_eq!(states(&report, true), vec![LayerState::Reused; layers]);
    let new = states(&report, false);
    assert_eq!(new.iter().filter(|s| **s == LayerState::New).count(), 1);
    assert_eq!(registry.log().count("POST", "mount="), 0);
    assert_eq!(fetched(&registry), 0);
}

#[test]
fn a_base_that_is_elsewhere_is_copied_once() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let layers = put(&from, "base:1");
    let spec = on(remote(&from, "base:1"));
    let report = pushed(&to, &spec, "app:1").unwrap();
    assert_eq!(states(&report, true), vec![LayerState::New; layers]);
    assert_eq!(fetched(&from), layers);
    // In the same repository nothing is downloaded again.
    from.log().clear();
    let report = pushed(&to, &on(remote(&from, "base:1")), "app:2").unwrap();
    assert!(!states(&report, true).contains(&LayerState::New));
    assert_eq!(fetched(&from), 0);

    let image = HandmadeImage::default();
    let stored = in_dir(&image.layout());
    let report = pushed(&to, &on(open(&stored.path, None).unwrap()), "other:1").unwrap();
    assert_eq!(states(&report, true), vec![LayerState::New; layers]);
    for layer in &image.layers {
        let digest = nix2oci_tests::handmade_image::digest(&layer.blob);
        assert_eq!(to.blob("other", &digest).as_ref(), Some(&layer.blob));
    }
}

#[test]
fn a_layer_that_is_there_twice_is_sent_once() {
    let registry = FakeRegistry::start();
    let mut image = HandmadeImage::default();
    image.layers = vec![image.layers[0].clone(), image.layers[0].clone()];
    let stored = in_dir(&image.layout());
    pushed(&registry, &on(open(&stored.path, None).unwrap()), "app:1").unwrap();
    let digest = nix2oci_tests::handmade_image::digest(&image.layers[0].blob);
    assert_eq!(registry.log().completed(&digest), 1);
}

/// A forecast says what a push then does.
#[test]
fn a_forecast_counts_the_base() {
    let registry = FakeRegistry::start();
    let layers = put(&registry, "base:1");
    let spec = on(remote(&registry, "base:1"));
    let stored = in_dir(&HandmadeImage::default().layout());
    let elsewhere = on(open(&stored.path, None).unwrap());
    let cx = Context::default();
    let options = PushOptions::default();
    for (spec, state, sends) in [
        (&spec, LayerState::Mounted, 0),
        (&elsewhere, LayerState::New, 1),
    ] {
        let to = names(&registry, &["app:1"]);
        let found = forecast(&cx, spec, &registries(), &to, &options).unwrap();
        let states: Vec<_> = found.base.iter().map(|layer| layer.state).collect();
        assert_eq!(states, vec![state; layers]);
        let own: u64 = found.plan.layers.iter().map(|layer| layer.nar_size).sum();
        let base = found.plan.base.iter();
        let base: u64 = base.map(|layer| layer.descriptor().size()).sum();
        assert_eq!(found.upload_estimate().bytes(), own + base * sends);
    }
    assert!(registry.blobs("app").is_empty());
}

/// A recipe cannot make the layers of its base: they are there, or it is given.
#[test]
fn a_recipe_with_a_base_is_pushed() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let layers = put(&from, "base:1");
    let release = release(1);
    let mut spec = release.spec;
    spec.base = Some(remote(&from, "base:1"));
    let cx = Context::default();
    let recipe = resolve(&cx, &spec).unwrap();
    assert_eq!(recipe.version, 2);
    let read = nix2oci::Recipe::parse(&recipe.to_json(), "app.json").unwrap();
    assert_eq!(read, recipe);
    let parts = read.parts("app.json").unwrap();
    assert_eq!((parts.base.len(), parts.layers.len()), (layers, 3));
    assert_eq!(read.listing("app.json").unwrap().layers.len(), layers + 3);

    let push_recipe = |registry: &FakeRegistry, name: &str, base: Option<&BaseImage>| {
        let source = PushSource::Recipe {
            recipe: &recipe,
            name: "app.json",
            content: release.content.clone(),
            base,
        };
        let names = names(registry, &[name]);
        push(&cx, source, &registries(), &names, &PushOptions::default())
    };
    let report = push_recipe(&from, "app:1", None).unwrap();
    assert_eq!(states(&report, true), vec![LayerState::Mounted; layers]);
    assert_eq!(report.manifest_digest.to_string(), recipe.manifest_digest);
    let error = push_recipe(&to, "app:1", None).unwrap_err().to_string();
    let told = format!(
        "it is of the base image {}/base:1, which is not given, and the registry does not have it",
        from.host()
    );
    assert!(error.ends_with(&told), "{error}");
    let report = push_recipe(&to, "app:1", spec.base.as_ref()).unwrap();
    assert_eq!(states(&report, true), vec![LayerState::New; layers]);
    // It is there now.
    push_recipe(&to, "app:2", None).unwrap();

    let mut other = HandmadeImage::default();
    other.layers.pop();
    let other = in_dir(&other.layout());
    let other = open(&other.path, None).unwrap();
    let error = push_recipe(&to, "app:3", Some(&other)).unwrap_err();
    assert!(error.to_string().contains("are not those of"), "{error}");
}

/// The same into a sink: with the base at hand, the bytes that a build writes.
#[test]
fn a_recipe_with_a_base_is_built() {
    let on_disk = in_dir(&HandmadeImage::default().layout());
    let mut spec = on(open(&on_disk.path, None).unwrap());
    spec.names = references(&["h.io/app:1"]);
    let cx = Context::default();
    let recipe = resolve(&cx, &spec).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let source = |base| RecipeSource {
        recipe: &recipe,
        name: "app.json",
        content: Arc::clone(&spec.content),
        base,
    };
    let written = |base, name: &str| {
        let mut sink = Archive::create(&path(name)).unwrap();
        build_recipe(&cx, &source(base), &spec.names, &mut sink)
    };
    let report = written(spec.base.as_ref(), "remade.tar").unwrap();
    assert_eq!(report.manifest_digest.to_string(), recipe.manifest_digest);
    let same = build(
        &cx,
        &spec,
        &mut Archive::create(&path("built.tar")).unwrap(),
    )
    .unwrap();
    let sizes = |report: &BuildReport| report.sizes().collect::<Vec<_>>();
    assert_eq!(sizes(&report), sizes(&same));
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    assert_eq!(read("remade.tar"), read("built.tar"));

    let mut other = HandmadeImage::default();
    other.layers.pop();
    let other = in_dir(&other.layout());
    let other = open(&other.path, None).unwrap();
    for (base, told) in [
        (None, "is on a base, which is not given"),
        (Some(&other), "are not those of"),
    ] {
        let error = written(base, "none.tar").unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(!path("none.tar").exists());
    }
}
