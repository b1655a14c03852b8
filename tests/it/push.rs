//! Laws of a push: the registry gets what it lacks, nothing else, and no tag
//! points to what is not whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use data_encoding::BASE64_NOPAD;
use nix2oci::build::{
    LayerState, PushOptions, PushReport, PushSource, Recipe, forecast, push, resolve,
};
use nix2oci::content::Entry;
use nix2oci::image::{ImageConfig, ImageReader, ImageSource, ImageTable, TableLayer};
use nix2oci::layer::{DirCache, LayerCache as _};
use nix2oci::oci::{Reference, annotation, parse_name, parse_platform};
use nix2oci::plan::{Largest, RootTree};
use nix2oci::registry::{Registries, RegistryOptions};
use nix2oci::store::PathInfo;
use nix2oci::{
    Closure, ContentSource, Context, Error, ErrorClass, ErrorKind, ImageSpec, NarHash, Result,
    StoreDir, StorePath,
};
use nix2oci_tests::fake_registry::{FakeRegistry, Fault};
use nix2oci_tests::handmade_image::{HandmadeImage, in_dir, nested};
use nix2oci_tests::{MemoryStore, Node};
use sha2::{Digest as _, Sha256};

/// Counts the store paths that are read.
pub(super) struct Counted {
    pub(super) store: MemoryStore,
    visits: AtomicUsize,
    seen: Mutex<Vec<String>>,
}

impl ContentSource for Counted {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.visits.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap().push(path.name().to_owned());
        self.store.visit(cx, path, visitor)
    }

    /// As if it were far away and compressed well.
    fn download_size(&self, _: &Context, path: &StorePath) -> Result<u64> {
        Ok(path.name().len() as u64)
    }
}

/// An application with two libraries that it refers to; `release` changes the
/// application alone.
pub(super) struct Release {
    pub(super) spec: ImageSpec,
    pub(super) content: Arc<Counted>,
}

pub(super) fn release(release: u8) -> Release {
    release_of(release, 40_000)
}

pub(super) fn release_of(release: u8, size: usize) -> Release {
    let path = |digit: &str, name: &str| -> StorePath {
        format!("{}-{name}", digit.repeat(32)).parse().unwrap()
    };
    let noise = |seed: u8| -> Vec<u8> {
        let mut state = u64::from(seed) + 1;
        let next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) as u8
        };
        std::iter::repeat_with(next).take(size).collect()
    };
    let app = path(&release.to_string(), "app");
    let nodes = [
        (path("a", "libc"), noise(10), vec![]),
        (path("b", "libz"), noise(20), vec![path("a", "libc")]),
        (
            app.clone(),
            noise(release),
            vec![path("a", "libc"), path("b", "libz")],
        ),
    ];
    let mut infos = Vec::new();
    let mut store = MemoryStore::default();
    for (path, bytes, references) in nodes {
        let node = Node::directory([("bin", Node::executable(bytes))]);
        let nar = node.nar();
        let mut info = PathInfo::new(path.clone(), references);
        info.nar_hash = Some(NarHash::new(Sha256::digest(&nar).into()));
        info.nar_size = Some(nar.len() as u64);
        infos.push(info);
        store.insert(path, node);
    }
    let closure = Closure::new(StoreDir::default(), infos, &[app], "the test").unwrap();
    let content = Arc::new(Counted {
        store,
        visits: AtomicUsize::new(0),
        seen: Mutex::default(),
    });
    let config = ImageConfig::new(parse_platform("linux/amd64").unwrap());
    let mut spec = ImageSpec::new(closure, Arc::clone(&content) as _, config);
    // A layer for each path, however small.
    spec.strategy = Arc::new(Largest);
    Release { spec, content }
}

impl Release {
    pub(super) fn read(&self) -> Vec<String> {
        let mut seen = std::mem::take(&mut *self.content.seen.lock().unwrap());
        seen.sort();
        seen
    }
}

pub(super) fn names(registry: &FakeRegistry, names: &[&str]) -> Vec<Reference> {
    let name = |name: &&str| parse_name(&format!("{}/{name}", registry.host())).unwrap();
    names.iter().map(name).collect()
}

pub(super) fn registries() -> Arc<Registries> {
    Arc::new(Registries::new(&Context::default(), RegistryOptions::default()).unwrap())
}

pub(super) fn push_to(
    registry: &FakeRegistry,
    spec: &ImageSpec,
    to: &[&str],
    options: &PushOptions,
) -> Result<PushReport> {
    let cx = Context::default();
    let names = names(registry, to);
    push(&cx, PushSource::Image(spec), &registries(), &names, options)
}

pub(super) fn states(report: &PushReport) -> Vec<LayerState> {
    report.layers.iter().map(|layer| layer.state).collect()
}

/// The manifest of a tag and all that it names is there.
#[track_caller]
pub(super) fn assert_whole(
    registry: &FakeRegistry,
    repository: &str,
    tag: &str,
    report: &PushReport,
) {
    let tags = registry.tags(repository);
    assert_eq!(
        tags.get(tag).map(String::as_str),
        Some(report.manifest_digest.to_string().as_str())
    );
    let blobs = registry.blobs(repository);
    for layer in &report.layers {
        let digest = layer.descriptor.digest().to_string();
        assert_eq!(blobs.get(&digest), Some(&layer.descriptor.size()));
    }
}

pub(super) const LAYERS: usize = 3;

#[test]
fn a_cold_push_sends_every_blob_once_and_is_what_resolve_says() {
    let registry = FakeRegistry::start();
    let v1 = release(1);
    let report = push_to(&registry, &v1.spec, &["app:v1"], &PushOptions::default()).unwrap();
    assert_whole(&registry, "app", "v1", &report);
    assert_eq!(states(&report), [LayerState::New; LAYERS]);
    let recipe = resolve(&Context::default(), &v1.spec).unwrap();
    assert_eq!(recipe.manifest_digest, report.manifest_digest.to_string());
    for digest in registry.blobs("app").keys() {
        assert_eq!(registry.log().completed(digest), 1, "{digest}");
    }
    assert_eq!(registry.open_uploads(), 0);
    assert_eq!(
        report.pinned,
        format!("{}/app@{}", registry.host(), report.manifest_digest)
    );
}

#[test]
fn an_unchanged_push_reads_two_documents_and_no_file() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    registry.log().clear();
    let again = release(1);
    let report = push_to(&registry, &again.spec, &["app:v1"], &PushOptions::default()).unwrap();
    assert_eq!(again.read(), [""; 0]);
    assert_eq!(states(&report), [LayerState::Reused; LAYERS]);
    assert!(report.changed_tags.is_empty());
    assert_eq!(
        registry.log().entries().len(),
        2,
        "{}",
        registry.log().text()
    );
    assert_eq!(registry.log().received(), 0);
    assert_whole(&registry, "app", "v1", &report);
}

#[test]
fn a_changed_application_is_all_that_is_read_and_sent() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    registry.log().clear();
    let v2 = release(2);
    let report = push_to(&registry, &v2.spec, &["app:v1"], &PushOptions::default()).unwrap();
    assert_whole(&registry, "app", "v1", &report);
    assert_eq!(v2.read(), ["app"]);
    let new: Vec<_> = report
        .layers
        .iter()
        .filter(|layer| layer.state == LayerState::New)
        .collect();
    assert_eq!(new.len(), 1);
    let size = new[0].descriptor.size();
    let documents = report.manifest_size + 4096;
    assert!(registry.log().received() < size + documents);
    assert_eq!(registry.log().count("HEAD", "/blobs/"), 1, "the config");
}

#[test]
fn a_new_tag_takes_over_what_latest_or_a_named_image_has() {
    for (first, options) in [
        ("app:latest", PushOptions::default()),
        ("app:other", {
            let mut options = PushOptions::default();
            options.reuse_from = Vec::new();
            options
        }),
    ] {
        let registry = FakeRegistry::start();
        let mut options = options;
        if first == "app:other" {
            options.reuse_from = names(&registry, &["app:other"]);
        }
        push_to(
            &registry,
            &release(1).spec,
            &[first],
            &PushOptions::default(),
        )
        .unwrap();
        let v2 = release(2);
        let report = push_to(&registry, &v2.spec, &["app:v2", "app:v3"], &options).unwrap();
        assert_eq!(v2.read(), ["app"], "{first}");
        assert_whole(&registry, "app", "v2", &report);
        assert_whole(&registry, "app", "v3", &report);
        assert_eq!(report.changed_tags, ["v2", "v3"]);
    }
}

#[test]
fn layers_of_a_named_image_of_another_repository_are_mounted() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["base:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    registry.log().clear();
    let v2 = release(2);
    let mut options = PushOptions::default();
    options.reuse_from = names(&registry, &["base:v1"]);
    let report = push_to(&registry, &v2.spec, &["app:v2"], &options).unwrap();
    assert_whole(&registry, "app", "v2", &report);
    assert_eq!(v2.read(), ["app"]);
    let mounted = |state: &&LayerState| **state == LayerState::Mounted;
    assert_eq!(states(&report).iter().filter(mounted).count(), 2);
    let mut missing = options.clone();
    missing.reuse_from = names(&registry, &["base:none"]);
    let report = push_to(&registry, &v2.spec, &["new:v2"], &missing).unwrap();
    assert_whole(&registry, "new", "v2", &report);
}

#[test]
fn without_reuse_every_layer_is_made_and_asked_for() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    registry.log().clear();
    let again = release(1);
    let mut options = PushOptions::default();
    options.reuse = false;
    let report = push_to(&registry, &again.spec, &["app:v1"], &options).unwrap();
    assert_eq!(again.read().len(), LAYERS);
    assert_eq!(states(&report), [LayerState::Exists; LAYERS]);
    assert_eq!(registry.log().count("GET", ""), 0);
    assert_eq!(registry.log().count("POST", ""), 0);
}

/// Somebody puts another layer under the key of libc.
fn poison(registry: &FakeRegistry) {
    let manifest = registry.manifest("app", "v1").unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let table = ImageTable::read(&serde_json::from_value(manifest.clone()).unwrap()).unwrap();
    let holds = |layer: &TableLayer, name| layer.paths.iter().any(|p| p.path.name() == name);
    let libc = table.layers.iter().position(|layer| holds(layer, "libc"));
    let evil = registry.put_blob("app", b"evil");
    let layer = &mut manifest["layers"][libc.unwrap()];
    layer["digest"] = evil.into();
    layer["size"] = 4.into();
    // Else the table would be that of other layers.
    let digests = manifest["layers"].as_array().unwrap().iter();
    let lines = digests.map(|layer| format!("{}\n", layer["digest"].as_str().unwrap()));
    let checksum = Sha256::digest(lines.collect::<String>());
    let told = &mut manifest["annotations"][annotation::LAYERS];
    let mut bytes = BASE64_NOPAD
        .decode(told.as_str().unwrap().as_bytes())
        .unwrap();
    bytes[1..17].copy_from_slice(&checksum[..16]);
    *told = BASE64_NOPAD.encode(&bytes).into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest(
        "app",
        Some("v1"),
        "application/vnd.oci.image.manifest.v1+json",
        &bytes,
    );
}

#[test]
fn a_layer_that_is_not_what_its_key_says_is_found_by_verify_reused() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    poison(&registry);
    let mut options = PushOptions::default();
    options.verify_reused = true;
    let error = push_to(&registry, &release(2).spec, &["app:v1"], &options).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    assert!(error.to_string().contains("whose key"), "{error}");
    // Without any trust it is not even looked at.
    options.verify_reused = false;
    options.reuse = false;
    let report = push_to(&registry, &release(2).spec, &["app:v1"], &options).unwrap();
    let recipe = resolve(&Context::default(), &release(2).spec).unwrap();
    assert_eq!(recipe.manifest_digest, report.manifest_digest.to_string());

    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    options.reuse = true;
    options.verify_reused = true;
    let good = release(1);
    let report = push_to(&registry, &good.spec, &["app:v1"], &options).unwrap();
    assert_eq!(good.read().len(), LAYERS, "every layer is made");
    assert_eq!(states(&report), [LayerState::Reused; LAYERS]);
}

#[test]
fn the_layer_cache_saves_packing_across_repositories() {
    let registry = FakeRegistry::start();
    let dir = tempfile::tempdir().unwrap();
    let mut options = PushOptions::default();
    options.cache = Some(Arc::new(DirCache::new(dir.path(), SystemTime::UNIX_EPOCH)));
    push_to(&registry, &release(1).spec, &["app:v1"], &options).unwrap();
    // The same repository, no tag that tells: the registry is asked.
    options.reuse = false;
    let again = release(1);
    let report = push_to(&registry, &again.spec, &["app:v9"], &options).unwrap();
    assert_eq!(again.read(), [""; 0]);
    assert_eq!(states(&report), [LayerState::Cached; LAYERS]);
    // Another repository: it is mounted from where it was seen.
    let other = release(1);
    let report = push_to(&registry, &other.spec, &["other:v1"], &options).unwrap();
    assert_eq!(other.read(), [""; 0]);
    assert_eq!(states(&report), [LayerState::Mounted; LAYERS]);
    assert_whole(&registry, "other", "v1", &report);
    // Another registry: its digests are known, so each is one PUT.
    let far = FakeRegistry::start();
    let sent = release(1);
    let report = push_to(&far, &sent.spec, &["app:v1"], &options).unwrap();
    assert_eq!(sent.read(), ["app", "libc", "libz"]);
    assert_whole(&far, "app", "v1", &report);
    assert_eq!(far.log().count("PATCH", ""), 0);
    assert!(!far.log().text().contains("mount="));
    // Where nothing is found any more, it is sent.
    let gone = FakeRegistry::start();
    let cache = DirCache::new(dir.path(), SystemTime::UNIX_EPOCH);
    for layer in &report.layers {
        let key = layer.outline.as_ref().unwrap().key.unwrap();
        let record = cache.get(&key).unwrap().unwrap();
        let place = format!("{}/gone", gone.host());
        cache.see_in(&key, &record, &place).unwrap();
    }
    let mended = release(1);
    let report = push_to(&gone, &mended.spec, &["app:v1"], &options).unwrap();
    assert_eq!(mended.read(), ["app", "libc", "libz"]);
    assert_whole(&gone, "app", "v1", &report);
}

pub(super) fn push_recipe(
    registry: &FakeRegistry,
    recipe: &Recipe,
    content: Arc<dyn ContentSource>,
    to: &str,
) -> Result<PushReport> {
    let source = PushSource::Recipe {
        recipe,
        name: "app.json",
        content,
        base: None,
    };
    let names = names(registry, &[to]);
    push(
        &Context::default(),
        source,
        &registries(),
        &names,
        &PushOptions::default(),
    )
}

#[test]
fn a_recipe_is_made_again_and_checked() {
    let registry = FakeRegistry::start();
    let mut v1 = release(1);
    let mut root = RootTree::default();
    let link = nix2oci::plan::RootNode::Symlink {
        target: b"/nix/store".to_vec(),
    };
    let metadata = nix2oci::plan::Metadata::default();
    root.insert(b"bin/\xff\\", link, metadata, "the test")
        .unwrap();
    v1.spec.root_tree = root;
    let recipe = resolve(&Context::default(), &v1.spec).unwrap();
    let recipe = Recipe::parse(&recipe.to_json(), "app.json").unwrap();
    let content = Arc::clone(&v1.content);
    let report = push_recipe(&registry, &recipe, content.clone(), "app:v1").unwrap();
    assert_eq!(report.manifest_digest.to_string(), recipe.manifest_digest);
    assert_whole(&registry, "app", "v1", &report);
    assert_eq!(registry.log().count("PATCH", ""), 0, "digests are known");
    v1.read();
    registry.log().clear();
    push_recipe(&registry, &recipe, content, "app:v1").unwrap();
    assert_eq!(v1.read(), [""; 0]);
    assert_eq!(
        registry.log().entries().len(),
        1,
        "{}",
        registry.log().text()
    );

    let mut changed = v1.content.store.clone();
    let libz = changed.paths().find(|(path, _)| path.name() == "libz");
    let libz = libz.unwrap().0.clone();
    changed.insert(libz, Node::file("not what it was"));
    let error = push_recipe(&registry, &recipe, Arc::new(changed), "new:v1").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NarHashMismatch { path, .. } if path.ends_with("-libz")),
        "{error}"
    );
    assert!(registry.tags("new").is_empty());
}

pub(super) fn stored(path: &std::path::Path) -> Arc<ImageReader> {
    let source = ImageSource::Path(path.to_owned());
    Arc::new(ImageReader::open(&Context::default(), &source).unwrap())
}

pub(super) fn push_stored(
    image: &Arc<ImageReader>,
    registries: &Registries,
    names: &[Reference],
) -> Result<PushReport> {
    let source = PushSource::Stored {
        image,
        platform: None,
    };
    let cx = Context::default();
    push(&cx, source, registries, names, &PushOptions::default())
}

#[test]
fn an_index_is_copied_children_first_and_on_to_another_registry() {
    let arm64 = HandmadeImage {
        architecture: "arm64",
        ..HandmadeImage::default()
    };
    let disk = in_dir(&nested(&[HandmadeImage::default(), arm64]));
    let image = stored(&disk.path);
    let (one, two) = (FakeRegistry::start(), FakeRegistry::start());
    let registries = registries();
    let to = names(&one, &["app:v1"]);
    let report = push_stored(&image, &registries, &to).unwrap();
    assert_whole(&one, "app", "v1", &report);
    let puts = one.log().of("PUT", "/manifests/");
    assert_eq!(puts.len(), 3);
    assert!(
        puts[2].target().ends_with("/manifests/v1"),
        "{}",
        one.log().text()
    );

    one.log().clear();
    push_stored(&image, &registries, &to).unwrap();
    assert_eq!(one.log().entries().len(), 1, "{}", one.log().text());

    let remote = Arc::new(registries.open(&to[0]).unwrap());
    let problems = nix2oci::image::check(&Context::default(), &remote).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let copied = push_stored(&remote, &registries, &names(&two, &["copy:v1"])).unwrap();
    assert_eq!(copied.manifest_digest, report.manifest_digest);
    assert_whole(&two, "copy", "v1", &copied);

    one.log().clear();
    let mounted = push_stored(&remote, &registries, &names(&one, &["copy:v1"])).unwrap();
    assert!(
        states(&mounted)
            .iter()
            .all(|state| *state == LayerState::Mounted)
    );
    assert_whole(&one, "copy", "v1", &mounted);
    assert_eq!(one.log().count("GET", "/blobs/"), 0, "no blob is moved");
}

#[test]
fn a_blob_that_the_registry_lost_is_made_again() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    let v2 = release(2);
    let recipe = resolve(&Context::default(), &v2.spec).unwrap();
    for layer in &recipe.layers {
        if layer.paths[0].path.ends_with("-libc") {
            registry.delete_blob("app", &layer.digest);
        }
    }
    v2.read();
    let report = push_to(&registry, &v2.spec, &["app:v1"], &PushOptions::default()).unwrap();
    assert_whole(&registry, "app", "v1", &report);
    assert_eq!(v2.read(), ["app", "libc"]);
}

#[test]
fn a_stream_that_breaks_is_sent_again_from_a_file() {
    let registry = FakeRegistry::start();
    registry.fault(
        Fault::on("PATCH", "/blobs/uploads/")
            .first(1)
            .after_bytes(100_000)
            .reset(),
    );
    let large = release_of(1, 3_000_000);
    let report = push_to(&registry, &large.spec, &["app:v1"], &PushOptions::default()).unwrap();
    assert_whole(&registry, "app", "v1", &report);
    assert_eq!(large.read().len(), LAYERS + 1, "one layer is made twice");
}

/// All streams of the moment break at once where a registry is restarted, and
/// one that takes no streams need not say so by 405.
#[test]
fn streams_that_all_break_are_sent_again_from_files() {
    let image = |registry: &FakeRegistry| {
        let result = push_to(
            registry,
            &release(1).spec,
            &["app:v1"],
            &PushOptions::default(),
        );
        assert_whole(registry, "app", "v1", &result.unwrap());
    };
    let away = FakeRegistry::start();
    away.fault(
        Fault::on("PATCH", "/blobs/uploads/")
            .first(3)
            .status(503, &[]),
    );
    image(&away);
    for status in [400, 404, 500] {
        let refusing = FakeRegistry::start();
        refusing.fault(Fault::on("PATCH", "/blobs/uploads/").status(status, &[]));
        image(&refusing);
    }
}

#[test]
fn a_registry_that_takes_nothing_ends_the_push_soon() {
    let registry = FakeRegistry::start();
    registry.fault(Fault::on("POST", "/blobs/uploads/").status(403, &[]));
    let error = push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error}");
    assert!(registry.tags("app").is_empty());
}

#[test]
fn a_forecast_tells_and_writes_nothing() {
    let registry = FakeRegistry::start();
    let cx = Context::default();
    let to = names(&registry, &["app:v1"]);
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    registry.log().clear();
    let v2 = release(2);
    let told = forecast(&cx, &v2.spec, &registries(), &to, &PushOptions::default()).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for layer in &told.layers {
        *counts.entry(layer.state.name()).or_default() += 1;
        assert_eq!(layer.record.is_some(), layer.state != LayerState::New);
    }
    assert_eq!(counts, BTreeMap::from([("new", 1), ("reused", 2)]));
    assert_eq!(v2.read(), [""; 0]);
    assert!(registry.log().entries().iter().all(|e| e.method == "GET"));

    let downloads: Vec<u64> = told.layers.iter().map(|l| l.download_size).collect();
    let app = "app".len() as u64;
    assert_eq!(downloads.iter().filter(|bytes| **bytes > 0).count(), 1);
    assert_eq!((told.download_size(), downloads.iter().sum()), (app, app));
    // The push says the same of what it did.
    let pushed = push_to(&registry, &v2.spec, &["app:v1"], &PushOptions::default()).unwrap();
    let pushed: Vec<u64> = pushed.layers.iter().map(|l| l.download_size).collect();
    assert_eq!(pushed, downloads);
    // Nothing is believed: all is made to see whether it is right.
    let mut options = PushOptions::default();
    options.verify_reused = true;
    let told = forecast(&cx, &v2.spec, &registries(), &to, &options).unwrap();
    assert_eq!(told.download_size(), app + 2 * "libc".len() as u64);
}

#[test]
fn names_are_tags_of_one_repository() {
    let registry = FakeRegistry::start();
    for to in [&["a:1", "b:1"][..], &[]] {
        let error: Error =
            push_to(&registry, &release(1).spec, to, &PushOptions::default()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Input, "{error}");
    }
    assert!(registry.log().entries().is_empty());
}
