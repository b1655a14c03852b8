//! Manifests and indexes.

use nix2oci::oci::MediaType;
use nix2oci::registry::FetchedManifest;
use nix2oci::{Digest, ErrorClass, ErrorKind};
use nix2oci_tests::fake_registry::{ContentDigest, ErrorBodies, Fault, Quirks};
use serde_json::json;

use super::{Rig, block_on};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest of a config that is there.
fn manifest(rig: &Rig) -> Vec<u8> {
    let config = rig.registry.put_blob("app", b"{}");
    manifest_of(&config)
}

fn manifest_of(config: &str) -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": 2,
        },
        "layers": [],
    })
    .to_string()
    .into_bytes()
}

fn put(rig: &Rig, manifest: &[u8], which: &[&str]) -> nix2oci::Result<()> {
    block_on(
        rig.repository
            .put_manifest(manifest, &MediaType::ImageManifest, which),
    )
}

fn get(rig: &Rig, which: &str) -> nix2oci::Result<Option<FetchedManifest>> {
    block_on(rig.repository.manifest(which))
}

#[test]
fn a_manifest_under_one_name_is_one_request() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    let digest = Digest::of(&manifest).to_string();
    for which in [&["v1"][..], &[digest.as_str()], &[]] {
        rig.registry.log().clear();
        put(&rig, &manifest, which).unwrap();
        assert_eq!(rig.methods(), ["PUT"], "{which:?}");
    }
    let entry = &rig.registry.log().entries()[0];
    assert_eq!(entry.headers.get("Content-Type"), Some(MANIFEST));
    assert_eq!(rig.registry.tags("app").get("v1"), Some(&digest));
    assert_eq!(rig.registry.manifest("app", "v1").unwrap(), manifest);
}

#[test]
fn a_manifest_is_read_by_tag_and_digest() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    assert_eq!(get(&rig, "v1").unwrap(), None);
    put(&rig, &manifest, &["v1"]).unwrap();
    let digest = Digest::of(&manifest);
    for which in ["v1", &digest.to_string()] {
        let found = get(&rig, which).unwrap().unwrap();
        assert_eq!(found.bytes, manifest);
        assert_eq!(found.descriptor.size(), manifest.len() as u64);
        assert_eq!(found.descriptor.digest().to_string(), digest.to_string());
        assert_eq!(*found.descriptor.media_type(), MediaType::ImageManifest);
    }
    assert_eq!(
        get(&rig, "a b").unwrap_err().class(),
        ErrorClass::Input,
        "what is neither a tag nor a digest is not asked for"
    );
}

#[test]
fn a_manifest_that_is_not_what_it_is_called_is_refused() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    put(&rig, &manifest, &["v1"]).unwrap();
    let by_digest = Digest::of(&manifest).to_string();
    let other = manifest_of(&Digest::of(b"x").to_string());
    rig.registry
        .fault(Fault::on("GET", "/manifests/").change(move |answer| answer.body(&other)));
    for which in ["v1", &by_digest] {
        let error = get(&rig, which).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
            "{which}: {error}"
        );
    }
    rig.registry.clear_faults();
    rig.registry
        .fault(Fault::on("GET", "/manifests/").change(|answer| answer.body(vec![b' '; 5 << 20])));
    let error = get(&rig, "v1").unwrap_err().to_string();
    assert!(error.contains("4194304"), "{error}");
    rig.registry.clear_faults();
    rig.registry.change_quirks(|quirks| {
        quirks.error_bodies = ErrorBodies::Html;
        quirks.content_digest = ContentDigest::Wrong;
    });
    let error = put(&rig, &manifest, &["v1"]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
        "{error}"
    );
}

#[test]
fn a_manifest_that_breaks_off_is_read_again() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    put(&rig, &manifest, &["v1"]).unwrap();
    rig.registry
        .fault(Fault::on("GET", "/manifests/").nth(1).cut(10));
    assert_eq!(get(&rig, "v1").unwrap().unwrap().bytes, manifest);
    assert_eq!(rig.told.retries(), 1);
}

#[test]
fn several_tags_are_one_request_where_the_registry_sets_them() {
    let rig = Rig::with(
        Quirks {
            several_tags: true,
            ..Quirks::default()
        },
        |_| {},
    );
    let manifest = manifest(&rig);
    let tags: Vec<_> = (0..12).map(|n| format!("v{n}")).collect();
    let tags: Vec<_> = tags.iter().map(String::as_str).collect();
    put(&rig, &manifest, &tags).unwrap();
    assert_eq!(rig.methods(), ["PUT", "PUT"], "ten in each");
    assert_eq!(rig.registry.tags("app").len(), 12);
}

/// distribution 2.8.2 takes the manifest and does not look at the query.
#[test]
fn several_tags_are_one_request_each_elsewhere() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    put(&rig, &manifest, &["a", "b", "c"]).unwrap();
    assert_eq!(rig.methods(), ["PUT"; 4]);
    assert_eq!(rig.registry.tags("app").len(), 3);
    rig.registry.log().clear();
    put(&rig, &manifest, &["d", "e"]).unwrap();
    assert_eq!(rig.methods(), ["PUT"; 2], "it is not tried again");
    assert_eq!(rig.registry.tags("app").len(), 5);
}

#[test]
fn a_registry_that_refuses_the_query_gets_plain_requests() {
    for status in [400, 405, 414] {
        let rig = Rig::new();
        let manifest = manifest(&rig);
        rig.registry
            .fault(Fault::on("PUT", "tag=").status(status, &[]));
        put(&rig, &manifest, &["a", "b"]).unwrap();
        assert_eq!(rig.registry.tags("app").len(), 2, "{status}");
    }
}

#[test]
fn a_manifest_is_not_put_under_another_digest() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    let other = Digest::of(b"x").to_string();
    let error = put(&rig, &manifest, &["v1", &other]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
        "{error}"
    );
    assert_eq!(rig.methods().len(), 0);
}

#[test]
fn missing_blobs_are_told_apart() {
    let rig = Rig::new();
    let missing = Digest::of(b"nowhere");
    let error = put(&rig, &manifest_of(&missing.to_string()), &["v1"]).unwrap_err();
    let ErrorKind::BlobsMissing {
        digests, action, ..
    } = error.kind()
    else {
        panic!("{error}");
    };
    assert_eq!(*digests, [missing]);
    assert_eq!(action, "take manifest v1 of repository app");
    assert_eq!(error.class(), ErrorClass::Remote);
    assert!(rig.registry.tags("app").is_empty());

    // Another reason is another error.
    let error = put(&rig, b"no manifest", &["v1"]).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Answer {
                status: Some(400),
                ..
            }
        ),
        "{error}"
    );
}

/// container-libs#42: ACR answers 429 to manifests.
#[test]
fn a_busy_registry_gets_the_manifest_again() {
    let rig = Rig::new();
    let manifest = manifest(&rig);
    rig.registry
        .fault(Fault::on("PUT", "/manifests/").first(2).status(429, &[]));
    put(&rig, &manifest, &["v1"]).unwrap();
    assert_eq!(rig.methods(), ["PUT"; 3]);
}

/// ECR names no Location (rust-oci-client, push_manifest_raw).
#[test]
fn a_manifest_needs_no_location() {
    let rig = Rig::with(
        Quirks {
            manifest_location: false,
            content_digest: ContentDigest::Absent,
            ..Quirks::default()
        },
        |_| {},
    );
    let manifest = manifest(&rig);
    put(&rig, &manifest, &["v1"]).unwrap();
    assert_eq!(get(&rig, "v1").unwrap().unwrap().bytes, manifest);
}
