//! What a push makes of a registry, an earlier image or a cache that is not as
//! it should be: the image gets there all the same, or the error says why not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix2oci::build::{
    IndexPart, IndexSource, LayerState, PushOptions, PushReport, PushSource, Recipe, push,
    push_index, resolve,
};
use nix2oci::credentials::{CredentialSource, Credentials, Secret};
use nix2oci::layer::{LayerCache, LayerKey, LayerRecord};
use nix2oci::registry::{Registries, RegistryOptions};
use nix2oci::{Context, Error, ErrorClass, ErrorKind, Event, Observer, Result, StorePath};
use nix2oci_tests::Node;
use nix2oci_tests::fake_registry::{FakeAuth, FakeRegistry, Fault, Quirks, Referrers};
use nix2oci_tests::handmade_image::{HandmadeImage, digest, in_dir};
use nix2oci_tests::http_server::Answer;
use serde_json::{Value, json};

use super::push::{
    LAYERS, assert_whole, names, push_recipe, push_stored, push_to, registries, release, states,
    stored,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry with the first release, whose manifest somebody changed.
fn tampered(change: impl FnOnce(&FakeRegistry, &mut Value)) -> FakeRegistry {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    let manifest = registry.manifest("app", "v1").unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    change(&registry, &mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest("app", Some("v1"), MANIFEST, &bytes);
    registry
}

#[track_caller]
fn assert_overwritten(what: &str, registry: &FakeRegistry) {
    let result = push_to(
        registry,
        &release(2).spec,
        &["app:v1"],
        &PushOptions::default(),
    );
    let report = result.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_whole(registry, "app", "v1", &report);
    let expected = resolve(&Context::default(), &release(2).spec).unwrap();
    assert_eq!(
        report.manifest_digest.to_string(),
        expected.manifest_digest,
        "{what}"
    );
}

#[test]
fn an_earlier_image_that_cannot_be_read_is_overwritten() {
    let sha512 = format!("sha512:{}", "7".repeat(128));
    let registry = tampered(|_, manifest| manifest["config"]["digest"] = sha512.clone().into());
    assert_overwritten("config of SHA-512", &registry);
    let registry = tampered(|registry, manifest| {
        registry.delete_blob("app", manifest["config"]["digest"].as_str().unwrap());
    });
    assert_overwritten("no config", &registry);
    let registry = tampered(|_, manifest| manifest["config"]["size"] = (1_u64 << 40).into());
    assert_overwritten("large config", &registry);
    let registry = tampered(|_, manifest| manifest["config"]["size"] = 1.into());
    assert_overwritten("config of another size", &registry);
    let registry = tampered(|_, manifest| manifest["mediaType"] = INDEX.into());
    assert_overwritten("manifest that calls itself an index", &registry);
    let registry = tampered(|_, manifest| manifest["x"] = "x".repeat(5 << 20).into());
    assert_overwritten("large manifest", &registry);
    for (what, document) in [
        (
            "entry of SHA-512",
            json!({"mediaType": MANIFEST, "digest": sha512, "size": 7,
                   "platform": {"os": "linux", "architecture": "amd64"}}),
        ),
        (
            "entry that is not there",
            json!({"mediaType": MANIFEST, "digest": digest(b"nothing"), "size": 7,
                   "platform": {"os": "linux", "architecture": "amd64"}}),
        ),
    ] {
        let registry = FakeRegistry::start();
        let index = json!({"schemaVersion": 2, "manifests": [document]});
        let index = serde_json::to_vec(&index).unwrap();
        registry.put_manifest("app", Some("v1"), INDEX, &index);
        assert_overwritten(what, &registry);
    }
    for bytes in [&b"null"[..], b"<html>", b"", b"{\"schemaVersion\":1}"] {
        let registry = FakeRegistry::start();
        registry.put_manifest("app", Some("v1"), MANIFEST, bytes);
        assert_overwritten("nonsense", &registry);
    }
}

/// A portal that wants somebody to sign in says 200 to everything.
#[test]
fn a_page_for_people_is_no_registry() {
    let registry = FakeRegistry::start();
    let page = || {
        Answer::new(200)
            .header("Content-Type", "text/html")
            .body(*b"<html>")
    };
    for what in ["", "/blobs/"] {
        registry.clear_faults();
        registry.fault(Fault::on("*", what).answer(page));
        registry.fault(Fault::on("PUT", "/manifests/").answer(page));
        let v1 = release(1);
        let error = push_to(&registry, &v1.spec, &["app:v1"], &PushOptions::default());
        let error = error.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Remote, "{error}");
    }
}

/// A repository with a tag for each commit, and no `latest`.
#[test]
fn a_new_tag_beside_many_costs_one_request_more() {
    let registry = FakeRegistry::start_with_quirks(Quirks {
        tags_page: Some(2),
        ..Quirks::default()
    });
    let v1 = release(1);
    push_to(&registry, &v1.spec, &["app:v0"], &PushOptions::default()).unwrap();
    let manifest = registry.manifest("app", "v0").unwrap();
    for tag in 1..20 {
        registry.put_manifest("app", Some(&format!("v{tag}")), MANIFEST, &manifest);
    }
    registry.log().clear();
    push_to(&registry, &v1.spec, &["app:new"], &PushOptions::default()).unwrap();
    assert_eq!(
        registry.log().count("GET", "/tags/list"),
        1,
        "{}",
        registry.log().text()
    );
}

#[test]
fn a_registry_that_lists_no_tags_is_pushed_to() {
    for status in [401, 403, 405, 500] {
        let registry = FakeRegistry::start();
        registry.fault(Fault::on("GET", "/tags/list").status(status, &[]));
        let cx = Context::default();
        let mut options = RegistryOptions::default();
        options.retries = 0;
        let registries = Registries::new(&cx, options).unwrap();
        let v1 = release(1);
        let to = names(&registry, &["app:v1"]);
        let source = PushSource::Image(&v1.spec);
        let report = push(&cx, source, &registries, &to, &PushOptions::default());
        let report = report.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_whole(&registry, "app", "v1", &report);
    }
}

#[test]
fn what_a_named_image_has_and_the_repository_too_is_no_news_of_the_cache() {
    let registry = FakeRegistry::start();
    push_to(
        &registry,
        &release(1).spec,
        &["base:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    let mut options = PushOptions::default();
    options.reuse_from = names(&registry, &["base:v1"]);
    let report = push_to(&registry, &release(1).spec, &["app:v2"], &options).unwrap();
    assert_eq!(states(&report), [LayerState::Exists; LAYERS]);
}

#[test]
fn an_image_whose_config_is_one_of_its_layers_is_copied() {
    let registry = FakeRegistry::start();
    let mut image = HandmadeImage::default().layout();
    let index: Value = serde_json::from_slice(image.get("index.json")).unwrap();
    let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    let name = blob(index["manifests"][0]["digest"].as_str().unwrap());
    let mut manifest: Value = serde_json::from_slice(image.get(&name)).unwrap();
    let mut config = manifest["config"].clone();
    config["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    manifest["layers"].as_array_mut().unwrap().insert(0, config);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let made = digest(&bytes);
    image.set(&blob(&made), bytes.clone());
    image.edit("index.json", |index| {
        index["manifests"][0]["digest"] = made.clone().into();
        index["manifests"][0]["size"] = bytes.len().into();
    });
    let disk = in_dir(&image);
    let report = push_stored(
        &stored(&disk.path),
        &registries(),
        &names(&registry, &["app:v1"]),
    )
    .unwrap();
    assert_whole(&registry, "app", "v1", &report);
    assert_eq!(
        report.config_digest.unwrap().to_string(),
        manifest["config"]["digest"].as_str().unwrap()
    );
}

/// A cache that is nothing but trouble.
struct BrokenCache;

impl LayerCache for BrokenCache {
    fn get(&self, _: &LayerKey) -> Result<Option<LayerRecord>> {
        let refused = std::io::ErrorKind::PermissionDenied;
        Err(Error::reading(Path::new("/cache"))(refused.into()))
    }

    fn put(&self, key: &LayerKey, _: &LayerRecord) -> Result<()> {
        self.get(key).map(|_| ())
    }
}

#[test]
fn a_cache_that_fails_is_told_of_and_not_used() {
    let registry = FakeRegistry::start();
    let mut options = PushOptions::default();
    options.cache = Some(Arc::new(BrokenCache));
    let heard = Arc::new(Heard::default());
    let mut cx = Context::default();
    cx.observer = Arc::clone(&heard) as _;
    let v1 = release(1);
    let to = names(&registry, &["app:v1"]);
    let source = PushSource::Image(&v1.spec);
    let report = push(&cx, source, &registries(), &to, &options).unwrap();
    assert_whole(&registry, "app", "v1", &report);
    let warnings = heard.warnings.lock().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("/cache"), "{warnings:?}");
}

/// Who pulls the tag for another platform would get this one.
#[test]
fn an_image_in_the_place_of_several_platforms_is_warned_of() {
    let registry = FakeRegistry::start();
    let (amd64, mut arm64) = (release(1), release(2));
    arm64.spec.config.platform = nix2oci::oci::parse_platform("linux/arm64").unwrap();
    let part = |name: &str, spec| IndexPart {
        name: name.to_owned(),
        source: IndexSource::Image(spec),
    };
    let parts = [part("a", &amd64.spec), part("b", &arm64.spec)];
    let warned = |push: &dyn Fn(&Context)| {
        let heard = Arc::new(Heard::default());
        let mut cx = Context::default();
        cx.observer = Arc::clone(&heard) as _;
        push(&cx);
        std::mem::take(&mut *heard.warnings.lock().unwrap())
    };
    let to = names(&registry, &["app:v1"]);
    let options = PushOptions::default();
    let index = |cx: &Context| {
        push_index(cx, &parts, &BTreeMap::new(), &registries(), &to, &options).unwrap();
    };
    let one = |cx: &Context| {
        let source = PushSource::Image(&amd64.spec);
        push(cx, source, &registries(), &to, &options).unwrap();
    };
    assert!(warned(&index).is_empty());
    assert!(warned(&index).is_empty());
    let told = format!(
        "{}/app:v1 has images for 2 platforms now, and this one takes its place for all of them",
        registry.host()
    );
    assert_eq!(warned(&one), [told]);
    assert!(warned(&one).is_empty());
}

/// Hears of layers.
#[derive(Default)]
struct Heard {
    warnings: Mutex<Vec<String>>,
    planned: Mutex<usize>,
    /// Layers that were said to be in the registry.
    done: Mutex<Vec<usize>>,
}

impl Observer for Heard {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Warning { message } => self.warnings.lock().unwrap().push((*message).to_owned()),
            Event::Planned { .. } => *self.planned.lock().unwrap() += 1,
            Event::LayerReused { layer, .. } | Event::LayerWritten { layer } => {
                self.done.lock().unwrap().push(*layer);
            }
            _ => {}
        }
    }
}

impl Heard {
    /// Pushes and returns what was heard of layers, in their order.
    fn push(
        registry: &FakeRegistry,
        source: PushSource<'_>,
        to: &str,
        options: &PushOptions,
    ) -> (Result<PushReport>, Vec<usize>) {
        let heard = Arc::new(Self::default());
        let mut cx = Context::default();
        cx.observer = Arc::clone(&heard) as _;
        let result = push(&cx, source, &registries(), &names(registry, &[to]), options);
        let mut done = std::mem::take(&mut *heard.done.lock().unwrap());
        done.sort();
        assert!(*heard.planned.lock().unwrap() <= 1);
        (result, done)
    }
}

#[test]
fn each_layer_is_told_of_once() {
    let registry = FakeRegistry::start();
    let all: Vec<usize> = (0..LAYERS).collect();
    let mut options = PushOptions::default();
    let v1 = release(1);
    for (what, reuse, verify_reused) in [
        ("cold", true, false),
        ("unchanged", true, false),
        ("verified", true, true),
        ("without reuse", false, false),
    ] {
        options.reuse = reuse;
        options.verify_reused = verify_reused;
        let source = PushSource::Image(&v1.spec);
        let (report, done) = Heard::push(&registry, source, "app:v1", &options);
        report.unwrap();
        assert_eq!(done, all, "{what}");
    }
    let recipe = resolve(&Context::default(), &v1.spec).unwrap();
    for to in ["app:v1", "app:v2", "other:v1"] {
        let source = PushSource::Recipe {
            recipe: &recipe,
            name: "app.json",
            content: v1.content.clone(),
            base: None,
        };
        let (report, done) = Heard::push(&registry, source, to, &PushOptions::default());
        report.unwrap();
        assert_eq!(done, all, "{to}");
    }
    let remote = registries().open(&names(&registry, &["app:v1"])[0]);
    let remote = Arc::new(remote.unwrap());
    for to in ["app:v1", "app:v3", "third:v1"] {
        let source = PushSource::Stored {
            image: &remote,
            platform: None,
        };
        let (report, done) = Heard::push(&registry, source, to, &PushOptions::default());
        let blobs = report.unwrap().layers.len();
        assert_eq!(done, (0..blobs).collect::<Vec<_>>(), "{to}");
    }
}

#[test]
fn a_copy_that_the_registry_lost_a_blob_of_is_mended() {
    let registry = FakeRegistry::start();
    let disk = in_dir(&HandmadeImage::default().layout());
    let image = stored(&disk.path);
    let registries = registries();
    let first = push_stored(&image, &registries, &names(&registry, &["app:v1"])).unwrap();
    // Another image under the same tag that has the same blobs.
    let manifest = registry.manifest("app", "v1").unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["annotations"] = json!({"a": "b"});
    let bytes = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest("app", Some("v1"), MANIFEST, &bytes);
    let lost = first.layers[0].descriptor.digest().to_string();
    registry.delete_blob("app", &lost);
    let source = PushSource::Stored {
        image: &image,
        platform: None,
    };
    let (report, _) = Heard::push(&registry, source, "app:v1", &PushOptions::default());
    let report = report.unwrap();
    assert_whole(&registry, "app", "v1", &report);
    let mut expected = vec![LayerState::Reused; report.layers.len()];
    expected[0] = LayerState::New;
    assert_eq!(states(&report), expected);
}

/// `HandmadeImage` with a signature beside it, as cosign stores them.
#[test]
fn a_signature_is_found_from_its_subject_where_it_is_copied_to() {
    let registry = FakeRegistry::start_with_quirks(Quirks {
        referrers: Referrers::Absent,
        ..Quirks::default()
    });
    let mut image = HandmadeImage::default().layout();
    let index: Value = serde_json::from_slice(image.get("index.json")).unwrap();
    let subject = index["manifests"][0].clone();
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                       "digest": digest(b"{}")});
    let put = |image: &mut nix2oci_tests::handmade_image::Files, bytes: Vec<u8>| {
        let digest = digest(&bytes);
        image.set(&format!("blobs/{}", digest.replace(':', "/")), bytes);
        digest
    };
    put(&mut image, b"{}".to_vec());
    let signature = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-signature",
        "config": empty, "layers": [empty],
        "subject": {"mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"]},
    });
    let signature = serde_json::to_vec(&signature).unwrap();
    let signed = put(&mut image, signature.clone());
    let inner = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [
            {"mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"],
             "platform": {"os": "linux", "architecture": "amd64"}},
            {"mediaType": MANIFEST, "digest": signed, "size": signature.len(),
             "artifactType": "application/x-signature"},
        ],
    });
    let inner = serde_json::to_vec(&inner).unwrap();
    let made = put(&mut image, inner.clone());
    image.edit("index.json", |index| {
        index["manifests"] = json!([{"mediaType": INDEX, "digest": made, "size": inner.len()}]);
    });
    let disk = in_dir(&image);
    let registries = registries();
    push_stored(
        &stored(&disk.path),
        &registries,
        &names(&registry, &["app:v1"]),
    )
    .unwrap();
    let fallback = subject["digest"].as_str().unwrap().replace(':', "-");
    let list = registry
        .manifest("app", &fallback)
        .expect("a list of referrers");
    assert!(String::from_utf8(list).unwrap().contains(&signed));
}

#[test]
fn content_that_grew_is_told_as_what_it_is() {
    let registry = FakeRegistry::start();
    let v1 = release(1);
    let recipe = resolve(&Context::default(), &v1.spec).unwrap();
    let recipe = Recipe::parse(&recipe.to_json(), "app.json").unwrap();
    let mut grown = v1.content.store.clone();
    let libz: StorePath = grown
        .paths()
        .find(|(path, _)| path.name() == "libz")
        .unwrap()
        .0
        .clone();
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let noise: Vec<u8> = noise.take(4_000_000).collect();
    grown.insert(libz, Node::directory([("bin", Node::executable(noise))]));
    let error = push_recipe(&registry, &recipe, Arc::new(grown), "app:v1").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NarHashMismatch { path, .. } if path.ends_with("-libz")),
        "{error}"
    );
}

#[test]
fn a_tag_that_is_named_twice_is_written_once() {
    let registry = FakeRegistry::start();
    let to = ["app:v1", "app:v2", "app:v1"];
    let report = push_to(&registry, &release(1).spec, &to, &PushOptions::default()).unwrap();
    assert_eq!(report.changed_tags, ["v1", "v2"]);
}

/// One to be refused, one for the token, and the two documents.
#[test]
fn an_unchanged_push_with_a_token_is_four_requests() {
    let registry = FakeRegistry::start_with_auth(FakeAuth::bearer());
    let registries = || {
        let mut options = RegistryOptions::default();
        options.credentials = Arc::new(Signed);
        Registries::new(&Context::default(), options).unwrap()
    };
    let v1 = release(1);
    let to = names(&registry, &["app:v1"]);
    let (cx, options) = (Context::default(), PushOptions::default());
    push(
        &cx,
        PushSource::Image(&v1.spec),
        &registries(),
        &to,
        &options,
    )
    .unwrap();
    registry.log().clear();
    push(
        &cx,
        PushSource::Image(&v1.spec),
        &registries(),
        &to,
        &options,
    )
    .unwrap();
    let log = registry.log();
    assert_eq!(log.entries().len(), 4, "{}", log.text());
}

struct Signed;

impl CredentialSource for Signed {
    fn find(&self, _: &str, _: &str) -> Result<Credentials> {
        Ok(Credentials::Password {
            user: "user".to_owned(),
            password: Secret::new("secret"),
        })
    }
}
