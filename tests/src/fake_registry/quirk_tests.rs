//! Each deviation is what it says.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::tests::{ask, begin, code, copy_by_skopeo, put, token};
use super::*;
use crate::certificates::TestCa;

/// A registry with one deviation.
fn with(change: impl FnOnce(&mut Quirks)) -> FakeRegistry {
    let mut quirks = Quirks::default();
    change(&mut quirks);
    FakeRegistry::start_with_quirks(quirks)
}

#[test]
fn skopeo_follows_every_form_of_location() {
    for location in [
        LocationForm::Path,
        LocationForm::Absolute,
        LocationForm::Relative,
        LocationForm::WithoutScheme,
        LocationForm::Storage,
        LocationForm::Localhost,
    ] {
        for location_state in [true, false] {
            let registry = with(|quirks| {
                quirks.location = location;
                quirks.location_state = location_state;
            });
            copy_by_skopeo(&registry);
            let log = registry.log().of("PUT", "/blobs/uploads/");
            let is_storage = location == LocationForm::Storage;
            assert!(
                log.iter().all(|entry| entry.is_storage == is_storage),
                "{log:?}"
            );
            assert_eq!(registry.log().count("*", "_state=") > 0, location_state);
        }
    }
    let registry = with(|quirks| quirks.location = LocationForm::Absent);
    let reply = ask(&registry.host(), "POST", "/v2/app/blobs/uploads/", &[], b"");
    assert_eq!((reply.status, reply.header("Location")), (202, None));
}

#[test]
fn the_storage_takes_no_credentials() {
    let registry = with(|quirks| quirks.redirects_blobs = true);
    copy_by_skopeo(&registry);
    assert!(
        registry
            .log()
            .entries()
            .iter()
            .any(|entry| entry.is_storage)
    );
    let digest = registry.put_blob("app", b"blob");
    let target = format!("/v2/app/blobs/{digest}");
    let reply = ask(&registry.host(), "GET", &target, &[], b"");
    assert_eq!(reply.status, 307);
    let location = reply.header("Location").unwrap();
    assert!(location.starts_with(&format!("http://{}/", registry.storage_host())));
    let get = |fields: &[&str]| ask(&registry.storage_host(), "GET", &target, fields, b"");
    assert_eq!(get(&[]).body, b"blob");
    assert_eq!(get(&["Authorization: Bearer x"]).status, 400);
}

#[test]
fn chunks_are_taken_as_each_registry_takes_them() {
    /// Sends a chunk, a stream if `range` is empty.
    fn patch(registry: &FakeRegistry, location: &str, range: &str, body: &[u8]) -> tests::Reply {
        let range = format!("Content-Range: {range}");
        let fields = [&*range];
        let fields = if range.ends_with(' ') {
            &[][..]
        } else {
            &fields
        };
        ask(&registry.host(), "PATCH", location, fields, body)
    }
    // ECR answers 201 (openai/tart#273), and its Range stays where the first
    // chunk ended (aws/containers-roadmap#2831).
    let registry = with(|quirks| {
        quirks.patch_status = 201;
        quirks.range = RangeAnswer::Sticks;
    });
    let first = patch(&registry, &begin(&registry, "app"), "0-1", b"ab");
    assert_eq!((first.status, first.header("Range")), (201, Some("0-1")));
    let second = patch(&registry, first.header("Location").unwrap(), "2-3", b"cd");
    assert_eq!((second.status, second.header("Range")), (201, Some("0-1")));

    // zot's was too small (regclient#961).
    let registry = with(|quirks| quirks.range = RangeAnswer::Short);
    let reply = patch(&registry, &begin(&registry, "app"), "0-9", b"0123456789");
    assert_eq!(reply.header("Range"), Some("0-8"));

    // ghcr.io limits chunks (rust-oci-client#35), but not streams.
    let registry = with(|quirks| {
        quirks.chunk_max = Some(3);
        quirks.chunk_min = Some(2);
    });
    let begun = ask(&registry.host(), "POST", "/v2/app/blobs/uploads/", &[], b"");
    assert_eq!(begun.header("OCI-Chunk-Min-Length"), Some("2"));
    for (range, body, expected) in [
        ("0-3", "abcd", 416),
        ("0-0", "a", 416),
        ("0-2", "abc", 202),
        ("", "abcd", 202),
    ] {
        let location = begin(&registry, "app");
        let reply = patch(&registry, &location, range, body.as_bytes());
        assert_eq!(reply.status, expected, "{range}");
    }

    // distribution 2.8 appends whatever the range says.
    let registry = with(|quirks| quirks.ignores_content_range = true);
    let reply = patch(&registry, &begin(&registry, "app"), "7-8", b"ab");
    assert_eq!((reply.status, reply.header("Range")), (202, Some("0-1")));

    for (support, chunk, stream) in [
        (PatchSupport::All, 202, 202),
        (PatchSupport::Chunks, 202, 400),
        (PatchSupport::Streams, 400, 202),
        (PatchSupport::None, 405, 405),
    ] {
        let registry = with(|quirks| quirks.patch = support);
        let chunked = patch(&registry, &begin(&registry, "app"), "0-0", b"a").status;
        let streamed = patch(&registry, &begin(&registry, "app"), "", b"a").status;
        assert_eq!((chunked, streamed), (chunk, stream), "{support:?}");
        assert_eq!(put(&registry, "app", b"whole").status, 201);
    }
}

#[test]
fn large_bodies_are_refused() {
    let registry = with(|quirks| quirks.body_max = Some(3));
    assert_eq!(put(&registry, "app", b"abc").status, 201);
    assert_eq!(put(&registry, "app", b"abcd").status, 413);
    let log = registry.log().of("PUT", "/blobs/");
    assert_eq!((log[1].received, log[1].status), (0, Some(413)));
    registry.change_quirks(|quirks| quirks.manifest_max = 3);
    let manifest = ask(
        &registry.host(),
        "PUT",
        "/v2/app/manifests/x",
        &[],
        b"\"ab\"",
    );
    assert_eq!(manifest.status, 413);
}

#[test]
fn a_mount_can_be_refused_or_not_understood() {
    let registry = with(|quirks| quirks.mount = MountAnswer::Session);
    let digest = registry.put_blob("other", b"blob");
    let target = format!("/v2/app/blobs/uploads/?mount={digest}&from=other");
    let mount = || ask(&registry.host(), "POST", &target, &[], b"").status;
    assert_eq!(mount(), 202);
    // Harbor: 401 (goharbor/harbor#17097).
    for status in [401, 403, 404] {
        registry.change_quirks(|quirks| quirks.mount = MountAnswer::Refused(status));
        assert_eq!(mount(), status);
    }
    // distribution 2.8 takes the body of a POST for nothing.
    registry.change_quirks(|quirks| quirks.single_post = false);
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    assert_eq!(
        ask(&registry.host(), "POST", &target, &[], b"blob").status,
        202
    );
    assert!(registry.blobs("app").is_empty());
}

#[test]
fn manifests_are_answered_as_each_registry_answers_them() {
    let kind = "Content-Type: application/vnd.oci.image.index.v1+json";
    let subject = digest_of(b"subject");
    let document = json!({
        "schemaVersion": 2, "manifests": [], "subject": {"digest": subject},
        "artifactType": "x/y",
    });
    let bytes = document.to_string().into_bytes();
    let digest = digest_of(&bytes);
    let target = format!("/v2/app/manifests/{digest}?tag=a&tag=b");
    let push = |registry: &FakeRegistry| ask(&registry.host(), "PUT", &target, &[kind], &bytes);

    let registry = with(|quirks| quirks.several_tags = true);
    let reply = push(&registry);
    assert!(
        reply.head.contains("OCI-Tag: a\r\nOCI-Tag: b\r\n"),
        "{}",
        reply.head
    );
    assert!(reply.head.contains(&format!("OCI-Subject: {subject}\r\n")));
    assert_eq!(
        registry.tags("app").into_keys().collect::<Vec<_>>(),
        ["a", "b"]
    );
    let referrers = |registry: &FakeRegistry, kind: &str| {
        let target = format!("/v2/app/referrers/{subject}?artifactType={kind}");
        ask(&registry.host(), "GET", &target, &[], b"")
    };
    let found = referrers(&registry, "x%2Fy");
    assert_eq!(found.header("OCI-Filters-Applied"), Some("artifactType"));
    assert_eq!(found.json()["manifests"][0]["digest"], digest);
    assert_eq!(referrers(&registry, "z").json()["manifests"], json!([]));

    let registry = with(|quirks| {
        quirks.manifest_location = false;
        quirks.content_digest = ContentDigest::Absent;
        quirks.referrers = Referrers::Absent;
    });
    let head = push(&registry).head;
    for name in [
        "Location",
        "Docker-Content-Digest",
        "OCI-Subject",
        "OCI-Tag",
    ] {
        assert!(!head.contains(name), "{head}");
    }
    let reply = referrers(&registry, "z");
    assert_eq!(
        (reply.status, &*reply.body),
        (404, &b"404 page not found\n"[..])
    );
    registry.change_quirks(|quirks| quirks.referrers = Referrers::SeeOther);
    assert_eq!(referrers(&registry, "z").status, 303);

    // GitLab: the tag of a digest names the manifest itself (oras-go#1396).
    let of_tag = format!("/v2/app/manifests/{}", digest.replace(':', "-"));
    let get = || ask(&registry.host(), "GET", &of_tag, &[], b"").status;
    assert_eq!(get(), 404);
    registry.change_quirks(|quirks| quirks.digest_tags = true);
    assert_eq!(get(), 200);
    registry.change_quirks(|quirks| quirks.content_digest = ContentDigest::Wrong);
    let head = ask(&registry.host(), "HEAD", &of_tag, &[], b"");
    assert_ne!(head.header("Docker-Content-Digest"), Some(&*digest));
}

#[test]
fn tags_come_in_pages() {
    let registry = with(|quirks| {
        quirks.tags_page = Some(2);
        quirks.tags_max = Some(1000);
    });
    for tag in ["a", "b", "c"] {
        registry.put_manifest("app", Some(tag), "x/y", b"{}");
    }
    let get = |target: &str| ask(&registry.host(), "GET", target, &[], b"");
    let first = get("/v2/app/tags/list");
    assert_eq!(first.json()["tags"], json!(["a", "b"]));
    let link = first.header("Link").unwrap();
    assert_eq!(link, "</v2/app/tags/list?n=2&last=b>; rel=\"next\"");
    let last = get("/v2/app/tags/list?n=2&last=b");
    assert_eq!(
        (last.json()["tags"].clone(), last.header("Link")),
        (json!(["c"]), None)
    );
    assert_eq!(get("/v2/app/tags/list?n=1001").status, 400);
    registry.change_quirks(|quirks| quirks.ignores_tags_page = true);
    let all = get("/v2/app/tags/list?n=1&last=a");
    assert_eq!(all.json()["tags"], json!(["a", "b", "c"]));
    assert_eq!(all.header("Link"), None);
    assert_eq!(get("/v2/none/tags/list").status, 404);
    registry.change_quirks(|quirks| quirks.null_tags = true);
    assert_eq!(get("/v2/none/tags/list").json()["tags"], Value::Null);
}

#[test]
fn errors_need_not_be_json() {
    let registry = with(|quirks| quirks.warning = Some("we close soon".into()));
    let get = || ask(&registry.host(), "GET", "/v2/app/manifests/x", &[], b"");
    assert_eq!(code(&get()), "MANIFEST_UNKNOWN");
    assert_eq!(get().header("Warning"), Some("299 - \"we close soon\""));
    registry.change_quirks(|quirks| quirks.error_bodies = ErrorBodies::Html);
    assert!(get().body.starts_with(b"<html>"));
    assert_eq!(get().header("Content-Type"), Some("text/html"));
    registry.change_quirks(|quirks| quirks.error_bodies = ErrorBodies::Truncated);
    assert!(get().body.starts_with(b"{\"errors\""));
    serde_json::from_slice::<Value>(&get().body).unwrap_err();
    registry.change_quirks(|quirks| quirks.error_bodies = ErrorBodies::Empty);
    assert_eq!((get().status, get().body), (404, Vec::new()));
}

#[test]
fn too_many_at_once_are_refused() {
    let registry = with(|quirks| {
        quirks.uploads_at_once = Some(1);
        quirks.retry_after = Some(7);
    });
    registry.fault(
        Fault::on("PUT", "/blobs/")
            .nth(1)
            .after_body()
            .stall(Duration::from_millis(300)),
    );
    let slow = begin(&registry, "app");
    std::thread::scope(|scope| {
        let slow = format!("{slow}&digest={}", digest_of(b"slow"));
        let host = registry.host();
        let slow = scope.spawn(move || ask(&host, "PUT", &slow, &[], b"slow").status);
        while registry.log().count("PUT", "/blobs/") == 0 {
            std::thread::yield_now();
        }
        let refused = put(&registry, "app", b"fast");
        assert_eq!(
            (refused.status, refused.header("Retry-After")),
            (429, Some("7"))
        );
        assert_eq!(slow.join().unwrap(), 201);
    });
    assert_eq!(put(&registry, "app", b"fast").status, 201);
    assert_eq!(registry.log().most_at_once(), 2);
    registry.change_quirks(|quirks| quirks.latency = Duration::from_millis(30));
    let start = Instant::now();
    assert_eq!(ask(&registry.host(), "GET", "/v2/", &[], b"").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_token_can_die_in_the_middle_of_a_body() {
    let registry = FakeRegistry::start_with_auth(FakeAuth::bearer());
    let host = registry.host();
    let user = "Authorization: Basic dXNlcjpzZWNyZXQ=";
    let scope = "/token?scope=repository:app:pull,push";
    let bearer = token(&ask(&host, "GET", scope, &[user], b""));
    registry.fault(
        Fault::on("PUT", "/blobs/")
            .nth(1)
            .after_bytes(5)
            .revoke_tokens(),
    );
    let begun = ask(&host, "POST", "/v2/app/blobs/uploads/", &[&bearer], b"");
    let target = begun.header("Location").unwrap();
    let target = format!("{target}&digest={}", digest_of(b"0123456789"));
    let reply = ask(&host, "PUT", &target, &[&bearer], b"0123456789");
    assert_eq!(reply.status, 401);
    let challenge = reply.header("WWW-Authenticate").unwrap();
    assert!(
        challenge.ends_with("error=\"invalid_token\""),
        "{challenge}"
    );
    assert_eq!(registry.log().of("PUT", "/blobs/")[0].received, 5);
    // What came before has been stored: to begin anew here is wrong.
    let bearer = token(&ask(&host, "GET", scope, &[user], b""));
    let reply = ask(&host, "PUT", &target, &[&bearer], b"0123456789");
    assert_eq!(code(&reply), "DIGEST_INVALID");
}

#[test]
fn a_large_blob_is_hashed_and_not_kept() {
    let blob = vec![1; 20 * 1024 * 1024];
    let digest = digest_of(&blob);
    let registry = FakeRegistry::start();
    assert_eq!(put(&registry, "app", &blob).status, 201);
    assert_eq!(registry.blobs("app")[&digest], blob.len() as u64);
    assert_eq!(registry.blob("app", &digest), None);
    assert_eq!(registry.log().received(), blob.len() as u64);
    let registry = FakeRegistry::start_with(FakeOptions {
        keeps_large_blobs: true,
        ..FakeOptions::default()
    });
    assert_eq!(put(&registry, "app", &blob).status, 201);
    assert_eq!(registry.blob("app", &digest), Some(blob));
}

#[test]
fn skopeo_pushes_by_tls() {
    let ca = TestCa::new("test");
    let registry = FakeRegistry::start_with(FakeOptions {
        auth: FakeAuth::bearer(),
        tls: Some(ca.server_config(None)),
        ..FakeOptions::default()
    });
    copy_by_skopeo(&registry);
    let tokens = registry.log().count("GET", "/token");
    assert!(tokens > 0, "{}", registry.log().text());
}
