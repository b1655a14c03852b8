//! Debian's docker-registry: distribution 2.8.2.

use std::num::NonZeroU64;
use std::sync::Arc;

use nix2oci::oci::MediaType;
use nix2oci::registry::{Client, Mounted, RegistryOptions, Repository};
use nix2oci::{Context, Digest, ErrorKind};
use nix2oci_tests::DockerRegistry;
use nix2oci_tests::chaos_proxy::{ChaosOptions, ChaosProxy};
use serde_json::json;

use super::{blob, block_on, layer, noise};

fn repository(registry: &DockerRegistry, chunk_size: Option<u64>) -> Repository {
    let mut options = RegistryOptions::default();
    options.chunk_size = chunk_size.and_then(NonZeroU64::new);
    let client = Client::new(&Context::default(), &registry.host(), &options).unwrap();
    client.repository("team/app")
}

fn put(repository: &Repository, bytes: &[u8]) {
    block_on(repository.put_blob(&blob(bytes), None, &(Arc::new(|_| {}) as _))).unwrap();
    let size = block_on(repository.blob_size(Digest::of(bytes)));
    assert_eq!(size.unwrap(), Some(bytes.len() as u64));
    let read = block_on(repository.read_blob(&layer(bytes), u64::MAX));
    assert!(read.unwrap() == bytes);
}

#[test]
fn blobs_arrive_whole_and_in_chunks() {
    let registry = DockerRegistry::start();
    let whole = repository(&registry, None);
    put(&whole, b"");
    put(&whole, &noise(3 << 20));
    assert_eq!(registry.count("PATCH", ""), 0);
    let chunked = repository(&registry, Some(1 << 20));
    put(&chunked, &noise((3 << 20) + 5));
    assert_eq!(registry.count("PATCH", ""), 4);
    assert_eq!(registry.open_uploads("team/app"), 0);
}

/// It answers 404 to a session whose chunk broke: the blob starts anew.
#[test]
fn blobs_arrive_over_a_bad_network() {
    for chunk_size in [None, NonZeroU64::new(200_000)] {
        let registry = DockerRegistry::start();
        let network = ChaosOptions {
            reset_in_body: 20,
            lose_answer: 10,
            refuse: 10,
            most: 5,
            ..ChaosOptions::none()
        };
        let network = ChaosProxy::start(registry.addr(), 7, network);
        let mut options = RegistryOptions::default();
        options.chunk_size = chunk_size;
        options.retries = 9;
        let client = Client::new(&Context::default(), &network.host(), &options).unwrap();
        let app = client.repository("team/app");
        for n in 0..4 {
            put(&app, &noise(1_000_000)[n..]);
        }
        assert_eq!(registry.blobs("team/app").len(), 4);
        assert!(!network.mishaps().is_empty());
    }
}

#[test]
fn blobs_are_mounted() {
    let registry = DockerRegistry::start();
    let app = repository(&registry, None);
    put(&app, b"bytes");
    let options = RegistryOptions::default();
    let client = Client::new(&Context::default(), &registry.host(), &options).unwrap();
    let other = client.repository("other");
    let mounted = block_on(other.mount(&layer(b"bytes"), "team/app")).unwrap();
    assert!(matches!(mounted, Mounted::Done), "{mounted:?}");
    let mounted = block_on(other.mount(&layer(b"none"), "team/app")).unwrap();
    let Mounted::Session(session) = mounted else {
        panic!("{mounted:?}");
    };
    let sent = Arc::new(|_| {}) as _;
    block_on(other.put_blob(&blob(b"none"), Some(session), &sent)).unwrap();
    assert_eq!(registry.blobs("other").len(), 2);
}

#[test]
fn manifests_tags_and_referrers_are_kept() {
    let registry = DockerRegistry::start();
    let app = repository(&registry, None);
    let kind = MediaType::ImageManifest;
    let manifest = |config: &[u8], subject: Option<&str>| {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind.to_string(),
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(config).to_string(),
                "size": config.len(),
            },
            "layers": [],
        });
        if let Some(digest) = subject {
            manifest["subject"] =
                json!({"mediaType": kind.to_string(), "digest": digest, "size": 1});
        }
        manifest.to_string().into_bytes()
    };
    let image = manifest(b"{}", None);
    let missing = block_on(app.put_manifest(&image, &kind, &["v1"])).unwrap_err();
    let ErrorKind::BlobsMissing { digests, .. } = missing.kind() else {
        panic!("{missing}");
    };
    assert_eq!(*digests, [Digest::of(b"{}")]);

    put(&app, b"{}");
    block_on(app.put_manifest(&image, &kind, &["v1", "v2"])).unwrap();
    let digest = Digest::of(&image);
    for which in ["v1", "v2", &digest.to_string()] {
        let found = block_on(app.manifest(which)).unwrap().unwrap();
        assert_eq!(found.bytes, image, "{which}");
    }
    let mut tags = block_on(app.tags()).unwrap();
    tags.sort();
    assert_eq!(tags, ["v1", "v2"]);

    // It answers "404 page not found" for referrers and takes a subject
    // without a word on it.
    let sbom = manifest(b"{}", Some(&digest.to_string()));
    block_on(app.put_referrer(&sbom, &kind)).unwrap();
    let found = block_on(app.referrers(digest, None)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].digest().to_string(), Digest::of(&sbom).to_string());
}
