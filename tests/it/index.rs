//! Laws of an index: each platform once, what images share once, and every
//! digest as it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nix2oci::build::{
    ImageCopy, IndexImageReport, IndexPart, IndexReport, IndexSource, PushOptions, PushedIndex,
    build_index, copy_all, push_index, resolve,
};
use nix2oci::image::{ImageReader, ImageSource};
use nix2oci::oci::{Reference, descriptor_digest, display_platform, parse_platform};
use nix2oci::sink::{Archive, Discard, OciLayout};
use nix2oci::{Context, ErrorClass, ImageSpec, Result, build};
use nix2oci_tests::fake_registry::FakeRegistry;
use nix2oci_tests::handmade_image::{HandmadeImage, in_dir, nested};
use nix2oci_tests::image_files::{blob, read_json, text};
use serde_json::{Value, json};

use crate::push::{LAYERS, Release, names, registries, release, stored};
use crate::sinks::sample::{assert_digests, read_image, references};

/// The same application for another platform: its libraries have the same
/// bytes.
fn release_for(platform: &str, number: u8) -> Release {
    let mut release = release(number);
    release.spec.config.platform = parse_platform(platform).unwrap();
    release
}

fn part<'a>(name: &str, spec: &'a ImageSpec) -> IndexPart<'a> {
    IndexPart {
        name: name.to_owned(),
        source: IndexSource::Image(spec),
    }
}

fn of_stored<'a>(name: &str, image: &'a Arc<ImageReader>) -> IndexPart<'a> {
    IndexPart {
        name: name.to_owned(),
        source: IndexSource::Stored {
            image,
            platform: None,
        },
    }
}

fn build_to(path: &Path, parts: &[IndexPart<'_>]) -> Result<IndexReport> {
    let annotations = BTreeMap::from([("org.example".to_owned(), "yes".to_owned())]);
    let names = references(&["h.io/app:1"]);
    let mut sink = Archive::create(path)?;
    build_index(&Context::default(), parts, &annotations, &names, &mut sink)
}

/// The index in an archive or a layout.
fn index_of(path: &Path) -> Value {
    let entry = &read_json(path, "index.json")["manifests"][0];
    serde_json::from_slice(&blob(path, entry)).unwrap()
}

fn open(path: &Path) -> Arc<ImageReader> {
    let source = ImageSource::Path(path.to_owned());
    Arc::new(ImageReader::open(&Context::default(), &source).unwrap())
}

#[test]
fn an_index_has_the_images_that_builds_make_and_packs_what_they_share_once() {
    let dir = tempfile::tempdir().unwrap();
    let (amd64, arm) = (release(1), release_for("linux/arm/v7", 2));
    let path = dir.path().join("index.tar");
    let parts = [part("amd64", &amd64.spec), part("arm", &arm.spec)];
    let report = build_to(&path, &parts).unwrap();
    assert_digests(&read_image(&path));
    // The libraries were read for the first image alone.
    assert_eq!(amd64.read(), ["app", "libc", "libz"]);
    assert_eq!(arm.read(), ["app"]);

    let index = index_of(&path);
    assert_eq!(index["annotations"], json!({ "org.example": "yes" }));
    let manifests = index["manifests"].as_array().unwrap();
    for (release, (manifest, platform)) in [&amd64, &arm].into_iter().zip(manifests.iter().zip([
        json!({"os": "linux", "architecture": "amd64"}),
        json!({"os": "linux", "architecture": "arm", "variant": "v7"}),
    ])) {
        let built = build(&Context::default(), &release.spec, &mut Discard).unwrap();
        assert_eq!(manifest["digest"], built.manifest_digest.to_string());
        assert_eq!(manifest["platform"], platform);
    }
    let told: Vec<String> = report
        .manifests
        .iter()
        .map(|manifest| display_platform(manifest.platform().as_ref().unwrap()))
        .collect();
    assert_eq!(told, ["linux/amd64", "linux/arm/v7"]);

    // The bytes are a function of the parts.
    let again = dir.path().join("again.tar");
    build_to(&again, &parts).unwrap();
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert_eq!(bytes(&path), bytes(&again));
}

#[test]
fn images_recipes_and_stored_images_make_the_same_index() {
    let dir = tempfile::tempdir().unwrap();
    let cx = Context::default();
    let (amd64, arm64) = (release(1), release_for("linux/arm64", 2));
    let built = dir.path().join("built.tar");
    let parts = [part("a", &amd64.spec), part("b", &arm64.spec)];
    let report = build_to(&built, &parts).unwrap();

    let layout = dir.path().join("layout");
    build(
        &cx,
        &amd64.spec,
        &mut OciLayout::open(&layout, Some("v1")).unwrap(),
    )
    .unwrap();
    let amd64_stored = open(&layout);
    let recipe = resolve(&cx, &arm64.spec).unwrap();
    let of_recipe = IndexPart {
        name: "b.json".to_owned(),
        source: IndexSource::Recipe {
            recipe: &recipe,
            content: Arc::clone(&arm64.content) as _,
        },
    };
    let mixed = dir.path().join("mixed.tar");
    let parts = [of_stored("layout", &amd64_stored), of_recipe.clone()];
    let joined = build_to(&mixed, &parts).unwrap();
    assert_eq!(joined.manifest_digest, report.manifest_digest);
    assert_eq!(read_image(&mixed), read_image(&built));

    // An index in an index is no more than its images.
    let nested = open(&built);
    let flat = dir.path().join("flat.tar");
    let flat_report = build_to(&flat, &[of_stored("built.tar", &nested)]).unwrap();
    assert_eq!(flat_report.manifest_digest, report.manifest_digest);
    // So it is told of them, each as if it were a part.
    let told = |report: &IndexReport| -> Vec<_> {
        let images = report.images.iter().map(|image| match image {
            IndexImageReport::Built(image) => {
                let layers = image.layers.iter().map(|layer| layer.record.digest);
                (
                    image.manifest_digest,
                    image.config_digest,
                    layers.collect::<Vec<_>>(),
                )
            }
            IndexImageReport::Copied(image) => {
                let layers = image.layers.iter().filter_map(descriptor_digest);
                let config = descriptor_digest(&image.config).unwrap();
                (image.manifest_digest, config, layers.collect())
            }
            other => panic!("{other:?}"),
        });
        images.collect()
    };
    assert_eq!(told(&joined), told(&report));
    assert_eq!(told(&flat_report), told(&report));
    let registry = FakeRegistry::start();
    let pushed = push(&registry, &[of_stored("built.tar", &nested)]).unwrap();
    let pushed: Vec<_> = pushed
        .images
        .iter()
        .map(|image| {
            let layers = image.layers.iter().map(|layer| &layer.descriptor);
            let layers = layers.filter_map(descriptor_digest).collect();
            (image.manifest_digest, image.config_digest.unwrap(), layers)
        })
        .collect();
    assert_eq!(pushed, told(&report));

    // A recipe whose store paths are others is noticed.
    let lying = IndexPart {
        source: IndexSource::Recipe {
            recipe: &recipe,
            content: Arc::clone(&amd64.content) as _,
        },
        ..of_recipe
    };
    let error = build_to(&dir.path().join("lie.tar"), &[lying]).unwrap_err();
    assert!(!dir.path().join("lie.tar").exists(), "{error}");
}

#[test]
fn two_images_for_one_platform_are_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (release(1), release(2));
    let path = dir.path().join("index.tar");
    let parts = [part("./one", &one.spec), part("./two", &two.spec)];
    let expected = "./two: is for linux/amd64, and so is ./one: an index has one image for each";
    let error = build_to(&path, &parts).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let registry = FakeRegistry::start();
    let error = push(&registry, &parts).unwrap_err();
    assert_eq!(
        (error.class(), &*error.to_string()),
        (ErrorClass::Input, expected)
    );
    assert!(registry.log().entries().is_empty());
    assert!(one.read().is_empty() && two.read().is_empty());
    assert!(!path.exists());
}

/// BuildKit's attestations have no platform and name the manifest that they are
/// of.
#[test]
fn attestations_stay_beside_their_image() {
    let attestation = HandmadeImage {
        architecture: "unknown",
        entry: |entry| {
            entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        },
        manifest: |manifest| {
            for layer in manifest["layers"].as_array_mut().unwrap() {
                layer["mediaType"] = json!("application/vnd.in-toto+json");
            }
        },
        ..HandmadeImage::default()
    };
    let mut files = nested(&[HandmadeImage::default(), attestation.clone()]);
    // `nested` takes annotations off: the index is written anew with them.
    let index: Value = serde_json::from_slice(files.get("index.json")).unwrap();
    let outer = text(&index["manifests"][0]["digest"]).replace("sha256:", "blobs/sha256/");
    let mut inner: Value = serde_json::from_slice(files.get(&outer)).unwrap();
    inner["manifests"][1]["annotations"] =
        json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let inner = inner.to_string().into_bytes();
    let digest = nix2oci_tests::handmade_image::digest(&inner);
    files.set(&digest.replace("sha256:", "blobs/sha256/"), inner.clone());
    files.edit("index.json", |index| {
        index["manifests"][0]["digest"] = json!(digest);
        index["manifests"][0]["size"] = json!(inner.len());
    });
    let disk = in_dir(&files);
    let image = open(&disk.path);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.tar");
    let arm64 = release_for("linux/arm64", 1);
    let parts = [of_stored("buildkit", &image), part("arm64", &arm64.spec)];
    build_to(&path, &parts).unwrap();
    let index = index_of(&path);
    let kinds: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
    assert_eq!(kinds.len(), 3);
    assert_eq!(kinds[1]["platform"]["architecture"], "unknown");
    assert_eq!(
        kinds[1]["annotations"]["vnd.docker.reference.type"],
        "attestation-manifest"
    );
    assert!(kinds[0].get("annotations").is_none());
    // docker finds the image, not what is beside it.
    let config = read_json(&path, "manifest.json")[0]["Config"].clone();
    let manifest: Value = serde_json::from_slice(&blob(&path, kinds[0])).unwrap();
    let digest = text(&manifest["config"]["digest"]).replace("sha256:", "blobs/sha256/");
    assert_eq!(config, digest);
}

fn push(registry: &FakeRegistry, parts: &[IndexPart<'_>]) -> Result<PushedIndex> {
    let names: Vec<Reference> = names(registry, &["app:v1", "app:latest"]);
    push_index(
        &Context::default(),
        parts,
        &BTreeMap::new(),
        &registries(),
        &names,
        &PushOptions::default(),
    )
}

/// The targets of all requests that put a manifest, in their order.
fn manifests_put(registry: &FakeRegistry) -> Vec<String> {
    let puts = registry.log().of("PUT", "/manifests/");
    let name = |target: &str| target.rsplit('/').next().unwrap_or_default().to_owned();
    puts.iter().map(|put| name(&put.target())).collect()
}

#[test]
fn a_push_sends_each_image_and_then_the_index() {
    let registry = FakeRegistry::start();
    let (amd64, arm64) = (release(1), release_for("linux/arm64", 2));
    let parts = [part("a", &amd64.spec), part("b", &arm64.spec)];
    let pushed = push(&registry, &parts).unwrap();
    assert_eq!(pushed.changed_tags, ["v1", "latest"]);
    let children: Vec<String> = pushed
        .manifests
        .iter()
        .map(|m| m.digest().to_string())
        .collect();
    let put = manifests_put(&registry);
    // docker-registry and the fake one take one tag at a time.
    assert_eq!(put[..2], children[..], "{put:?}");
    assert!(
        put[2..].iter().all(|name| !children.contains(name)),
        "{put:?}"
    );
    let tags = registry.tags("app");
    assert_eq!(tags.len(), 2);
    assert_eq!(tags["v1"], pushed.manifest_digest.to_string());
    assert_eq!(tags["latest"], tags["v1"]);
    // What both have went there once.
    for digest in registry.blobs("app").keys() {
        assert_eq!(registry.log().completed(digest), 1, "{digest}");
    }
    let config = |at: usize| pushed.images[at].config_digest.unwrap().to_string();
    assert_eq!(
        registry.blobs("app").len(),
        LAYERS + 1 + 2,
        "{} {}",
        config(0),
        config(1)
    );

    // Nothing changed: nothing is read or sent.
    amd64.read();
    arm64.read();
    registry.log().clear();
    let again = push(&registry, &parts).unwrap();
    assert!(again.changed_tags.is_empty());
    assert_eq!(again.manifest_digest, pushed.manifest_digest);
    assert!(
        manifests_put(&registry).is_empty(),
        "{}",
        registry.log().text()
    );
    assert!(amd64.read().is_empty() && arm64.read().is_empty());

    // One application changes: its image and the index are put.
    let changed = release_for("linux/arm64", 3);
    let parts = [part("a", &amd64.spec), part("b", &changed.spec)];
    registry.log().clear();
    let third = push(&registry, &parts).unwrap();
    assert_eq!(changed.read(), ["app"]);
    assert_eq!(third.manifests[0], pushed.manifests[0]);
    let put = manifests_put(&registry);
    let (first, second) = (&third.manifests[0], &third.manifests[1]);
    assert_eq!(put[0], second.digest().to_string());
    assert!(!put.contains(&first.digest().to_string()), "{put:?}");
}

#[test]
fn a_stored_image_is_pushed_as_a_part_of_an_index() {
    let arm64 = HandmadeImage {
        architecture: "arm64",
        entry: |entry| entry["platform"]["architecture"] = json!("arm64"),
        ..HandmadeImage::default()
    };
    let disk = in_dir(&nested(&[HandmadeImage::default(), arm64]));
    let image = stored(&disk.path);
    let riscv = release_for("linux/riscv64", 1);
    let registry = FakeRegistry::start();
    let parts = [of_stored("layout", &image), part("riscv64", &riscv.spec)];
    let pushed = push(&registry, &parts).unwrap();
    assert_eq!(pushed.manifests.len(), 3);
    let remote = Arc::new(
        registries()
            .open(&names(&registry, &["app:v1"])[0])
            .unwrap(),
    );
    let problems = nix2oci::image::check(&Context::default(), &remote).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    // The index that it came in is not there: its images are in another one.
    let manifests = remote.manifests(&Context::default()).unwrap();
    assert_eq!(manifests.len(), 3);
    assert_eq!(registry.tags("app").len(), 2);
}

#[test]
fn a_copy_of_an_index_keeps_every_byte_and_several_images_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let cx = Context::default();
    let (amd64, arm64) = (release(1), release_for("linux/arm64", 2));
    let first = dir.path().join("index.tar");
    build_to(&first, &[part("a", &amd64.spec), part("b", &arm64.spec)]).unwrap();
    let second = dir.path().join("other.tar");
    let mut other = release(3).spec;
    other.names = references(&["other:1"]);
    build(&cx, &other, &mut Archive::create(&second).unwrap()).unwrap();

    let readers = [open(&first), open(&second)];
    let names = [&["h.io/app:1"][..], &["other:1"]];
    let copies: Vec<ImageCopy<'_>> = readers
        .iter()
        .zip(names)
        .map(|(from, names)| ImageCopy {
            from,
            tree: from.tree(&cx, None).unwrap(),
            names: references(names),
        })
        .collect();
    let (archive, layout) = (dir.path().join("all.tar"), dir.path().join("all"));
    copy_all(&cx, &copies, &mut Archive::create(&archive).unwrap()).unwrap();
    copy_all(&cx, &copies, &mut OciLayout::open(&layout, None).unwrap()).unwrap();
    for copied in [&archive, &layout] {
        let files = read_image(copied);
        assert_digests(&files);
        for from in [&first, &second] {
            let entry = &read_json(from, "index.json")["manifests"][0];
            assert_eq!(blob(copied, entry), blob(from, entry));
            for (name, bytes) in read_image(from) {
                if name.starts_with("blobs/sha256/") && name.len() > 64 {
                    assert_eq!(files[&name], bytes, "{name}");
                }
            }
        }
        let index = read_json(copied, "index.json");
        let name =
            |at: usize| index["manifests"][at]["annotations"]["io.containerd.image.name"].clone();
        assert_eq!(
            [name(0), name(1)],
            ["h.io/app:1", "docker.io/library/other:1"]
        );
    }
    let docker = read_json(&archive, "manifest.json");
    assert_eq!(docker.as_array().unwrap().len(), 2);
    // One alone is the same bytes as where it came from.
    let alone = dir.path().join("alone.tar");
    copy_all(&cx, &copies[..1], &mut Archive::create(&alone).unwrap()).unwrap();
    assert_eq!(read_image(&alone), read_image(&first));
}
