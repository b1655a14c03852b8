//! Tags and referrers.

use nix2oci::oci::MediaType;
use nix2oci::{Digest, ErrorClass, ErrorKind};
use nix2oci_tests::fake_registry::{Fault, Quirks, Referrers};
use serde_json::{Value, json};

use super::{Rig, block_on};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SBOM: &str = "application/spdx+json";

fn tagged(quirks: Quirks, tags: usize) -> Rig {
    let rig = Rig::with(quirks, |_| {});
    for n in 0..tags {
        let tag = format!("v{n:04}");
        rig.registry.put_manifest("app", Some(&tag), INDEX, b"{}");
    }
    rig
}

#[test]
fn tags_are_listed_over_all_pages() {
    let rig = tagged(
        Quirks {
            tags_page: Some(3),
            ..Quirks::default()
        },
        7,
    );
    let tags = block_on(rig.repository.tags()).unwrap();
    assert_eq!(tags.len(), 7);
    assert_eq!(tags[6], "v0006");
    assert_eq!(rig.count("GET", "/tags/list"), 3);
}

/// go-containerregistry#1091: ECR refuses more than 1000 at once.
#[test]
fn no_more_tags_are_asked_for_than_ecr_gives() {
    let rig = tagged(
        Quirks {
            tags_max: Some(1000),
            ..Quirks::default()
        },
        1001,
    );
    assert_eq!(block_on(rig.repository.tags()).unwrap().len(), 1001);
}

/// quay#2884: quay says 413 to more than it gives.
#[test]
fn a_registry_that_gives_fewer_is_asked_for_what_it_likes() {
    for status in [400, 413] {
        let rig = tagged(
            Quirks {
                tags_page: Some(2),
                ..Quirks::default()
            },
            5,
        );
        rig.registry
            .fault(Fault::on("GET", "n=1000").status(status, &[]));
        assert_eq!(block_on(rig.repository.tags()).unwrap().len(), 5);
    }
    let rig = tagged(Quirks::default(), 1);
    rig.registry
        .fault(Fault::on("GET", "/tags/").status(400, &[]));
    let error = block_on(rig.repository.tags()).unwrap_err();
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

#[test]
fn a_page_has_an_end() {
    let rig = tagged(Quirks::default(), 1);
    rig.registry
        .fault(Fault::on("GET", "/tags/").change(|answer| answer.body(vec![b' '; 5 << 20])));
    let error = block_on(rig.repository.tags()).unwrap_err().to_string();
    assert!(error.contains("4194304"), "{error}");
}

/// rust-oci-client#277: no tags are `null`.
#[test]
fn there_may_be_no_tags() {
    let rig = tagged(
        Quirks {
            null_tags: true,
            ..Quirks::default()
        },
        0,
    );
    assert!(block_on(rig.repository.tags()).unwrap().is_empty());
    let nowhere = tagged(Quirks::default(), 0);
    assert!(block_on(nowhere.repository.tags()).unwrap().is_empty());
}

#[test]
fn a_list_without_end_ends() {
    let rig = tagged(Quirks::default(), 1);
    let link = r#"</v2/app/tags/list?last=v0000>; rel="next""#;
    rig.registry
        .fault(Fault::on("GET", "/tags/").change(move |answer| answer.header("Link", link)));
    let error = block_on(rig.repository.tags()).unwrap_err();
    assert!(error.to_string().contains("next page"), "{error}");
    assert_eq!(rig.count("GET", "/tags/"), 2);
}

/// A subject, which is an index as those of several platforms are.
fn subject(rig: &Rig) -> Digest {
    let child = rig.registry.put_manifest("app", None, INDEX, b"{}");
    let subject = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": INDEX, "digest": child, "size": 2}],
    });
    let digest =
        rig.registry
            .put_manifest("app", Some("v1"), INDEX, subject.to_string().as_bytes());
    digest.parse().unwrap()
}

fn referrer(rig: &Rig, subject: Digest, kind: &str) -> Vec<u8> {
    let config = rig.registry.put_blob("app", b"{}");
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest.to_string(),
        "artifactType": kind,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": config,
            "size": 2,
        },
        "layers": [],
        "subject": {"mediaType": INDEX, "digest": subject.to_string(), "size": 1},
        "annotations": {"made.by": "a test"},
    })
    .to_string()
    .into_bytes()
}

fn put(rig: &Rig, manifest: &[u8]) -> nix2oci::Result<()> {
    block_on(
        rig.repository
            .put_referrer(manifest, &MediaType::ImageManifest),
    )
}

fn list(rig: &Rig, subject: Digest, kind: Option<&str>) -> Vec<String> {
    let found = block_on(rig.repository.referrers(subject, kind));
    let found = found.unwrap_or_else(|error| panic!("{error}\n{}", rig.registry.log().text()));
    found
        .iter()
        .map(|found| found.digest().to_string())
        .collect()
}

fn with_referrers(referrers: Referrers) -> Rig {
    Rig::with(
        Quirks {
            referrers,
            ..Quirks::default()
        },
        |_| {},
    )
}

/// ghcr.io (actions/attest-build-provenance#71, artifacthub/hub#4785: it sends
/// on to a site), GitLab and distribution (a 404 in plain text) have no
/// referrers API; quay.io had none to confirm (distribution-spec#563).
#[test]
fn referrers_are_found_with_the_api_and_without() {
    for referrers in [
        Referrers::Api,
        Referrers::Unfiltered,
        Referrers::Absent,
        Referrers::SeeOther,
    ] {
        let rig = with_referrers(referrers);
        let subject = subject(&rig);
        assert!(list(&rig, subject, None).is_empty(), "{referrers:?}");
        let sbom = referrer(&rig, subject, SBOM);
        let other = referrer(&rig, subject, "application/other");
        for _ in 0..2 {
            put(&rig, &sbom).unwrap();
            put(&rig, &other).unwrap();
        }
        let (sbom, other) = (
            Digest::of(&sbom).to_string(),
            Digest::of(&other).to_string(),
        );
        let mut both = list(&rig, subject, None);
        both.sort();
        let mut expected = vec![sbom.clone(), other];
        expected.sort();
        assert_eq!(both, expected, "{referrers:?}");
        assert_eq!(list(&rig, subject, Some(SBOM)), [sbom], "{referrers:?}");

        let tag = format!("sha256-{}", subject.hex());
        let has_api = matches!(referrers, Referrers::Api | Referrers::Unfiltered);
        assert_eq!(rig.registry.manifest("app", &tag).is_none(), has_api);
    }
}

#[test]
fn where_the_api_confirms_a_referrer_is_one_request() {
    let rig = with_referrers(Referrers::Api);
    let subject = subject(&rig);
    put(&rig, &referrer(&rig, subject, SBOM)).unwrap();
    assert_eq!(rig.methods(), ["PUT"]);
}

#[test]
fn the_fallback_list_says_what_its_entries_are() {
    let rig = with_referrers(Referrers::Absent);
    let subject = subject(&rig);
    let sbom = referrer(&rig, subject, SBOM);
    put(&rig, &sbom).unwrap();
    assert_eq!(rig.methods(), ["PUT", "GET", "PUT"]);
    let tag = format!("sha256-{}", subject.hex());
    let list: Value = serde_json::from_slice(&rig.registry.manifest("app", &tag).unwrap()).unwrap();
    assert_eq!(
        list,
        json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": MediaType::ImageManifest.to_string(),
                "digest": Digest::of(&sbom).to_string(),
                "size": sbom.len(),
                "artifactType": SBOM,
                "annotations": {"made.by": "a test"},
            }],
        })
    );
}

/// oras-go#1396: GitLab takes the fallback tag for the subject's digest, so the
/// subject's own manifests look like its referrers.
#[test]
fn a_subject_is_not_its_own_list_of_referrers() {
    let rig = Rig::with(
        Quirks {
            referrers: Referrers::Absent,
            digest_tags: true,
            ..Quirks::default()
        },
        |_| {},
    );
    let subject = subject(&rig);
    assert!(list(&rig, subject, None).is_empty());
    let sbom = referrer(&rig, subject, SBOM);
    put(&rig, &sbom).unwrap();
    assert_eq!(list(&rig, subject, None), [Digest::of(&sbom).to_string()]);
}

#[test]
fn a_fallback_tag_that_is_something_else_stays_so() {
    let rig = with_referrers(Referrers::Absent);
    let subject = subject(&rig);
    let tag = format!("sha256-{}", subject.hex());
    let manifest = MediaType::ImageManifest.to_string();
    let theirs = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    rig.registry
        .put_manifest("app", Some(&tag), &manifest, theirs);
    let error = put(&rig, &referrer(&rig, subject, SBOM)).unwrap_err();
    assert!(error.to_string().contains("expected a list"), "{error}");
    assert_eq!(rig.registry.manifest("app", &tag).unwrap(), theirs);
    assert!(list(&rig, subject, None).is_empty());
}

/// Somebody else writes the list between reading and writing it.
#[test]
fn an_overtaken_list_is_read_again() {
    let rig = with_referrers(Referrers::Absent);
    let subject = subject(&rig);
    let tag = format!("sha256-{}", subject.hex());
    let first = referrer(&rig, subject, "application/first");
    put(&rig, &first).unwrap();
    rig.registry.log().clear();
    rig.registry
        .fault(Fault::on("PUT", &tag).nth(1).status(412, &[]));
    let second = referrer(&rig, subject, SBOM);
    put(&rig, &second).unwrap();
    let puts = rig.registry.log().of("PUT", &tag);
    assert_eq!(puts.len(), 2);
    assert!(puts[0].headers.get("If-Match").is_some());
    assert_eq!(list(&rig, subject, None).len(), 2);
}

#[test]
fn what_has_no_subject_is_no_referrer() {
    let rig = Rig::new();
    let error = put(&rig, br#"{"schemaVersion":2,"config":{},"layers":[]}"#).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::InvalidInput { .. }),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Input);
    assert_eq!(rig.methods().len(), 0);
}
