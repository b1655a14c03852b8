//! skopeo uses the registry as any other; a client of a few lines does what
//! skopeo never does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::command::{run, skopeo};
use crate::handmade_image::{Codec, HandmadeImage, in_dir};

/// An answer as it came over the wire.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends one request on a connection of its own; no reply is a status of 0.
pub(super) fn ask(host: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Reply {
    let mut socket = TcpStream::connect(host).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for field in fields {
        head += &format!("{field}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).unwrap();
    // A registry may answer, or break, before it has all.
    let _ = socket.write_all(body);
    let mut reply = Vec::new();
    let _ = socket.read_to_end(&mut reply);
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
    let body = reply.split_off(end.map_or(reply.len(), |end| end + 4));
    let head = String::from_utf8(reply).unwrap();
    Reply {
        status: head.get(9..12).map_or(0, |status| status.parse().unwrap()),
        head,
        body,
    }
}

/// Begins an upload and returns its location.
pub(super) fn begin(registry: &FakeRegistry, repository: &str) -> String {
    let target = format!("/v2/{repository}/blobs/uploads/");
    let reply = ask(&registry.host(), "POST", &target, &[], b"");
    assert_eq!(reply.status, 202);
    reply.header("Location").unwrap().to_owned()
}

/// Sends a blob by one PUT and returns the reply.
pub(super) fn put(registry: &FakeRegistry, repository: &str, blob: &[u8]) -> Reply {
    let target = format!(
        "{}&digest={}",
        begin(registry, repository),
        digest_of(blob).replace(':', "%3A")
    );
    ask(&registry.host(), "PUT", &target, &[], blob)
}

pub(super) fn code(reply: &Reply) -> String {
    reply.json()["errors"][0]["code"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Copies an image to the registry and back, and compares what skopeo sees.
pub(super) fn copy_by_skopeo(registry: &FakeRegistry) {
    let image = in_dir(&HandmadeImage::new(Codec::Gzip).layout());
    let folder = tempfile::tempdir().unwrap();
    let credentials = data_encoding::BASE64.encode(b"user:secret");
    let credentials = json!({"auths": {registry.host(): {"auth": credentials}}});
    std::fs::write(folder.path().join("auth.json"), credentials.to_string()).unwrap();
    let there = format!("docker://{}/team/app:v1", registry.host());
    let from = format!("oci:{}", image.path.display());
    let back = format!("oci:{}", folder.path().join("back").display());
    let call = |arguments: &[&str]| run(skopeo(folder.path()).args(arguments));
    call(&["copy", "--dest-tls-verify=false", "--quiet", &from, &there]);
    call(&["copy", "--src-tls-verify=false", "--quiet", &there, &back]);
    let raw = |what: &str| {
        let folder = folder.path();
        run(skopeo(folder).args(["inspect", "--raw", what]))
    };
    assert_eq!(raw(&from), raw(&back));
    assert_eq!(
        registry.manifest("team/app", "v1").unwrap(),
        raw(&from).into_bytes()
    );
    assert_eq!(registry.open_uploads(), 0);
}

#[test]
fn skopeo_pushes_and_pulls() {
    let registry = FakeRegistry::start();
    copy_by_skopeo(&registry);
    let log = registry.log();
    for (digest, size) in registry.blobs("team/app") {
        assert_eq!(log.uploaded_bytes(&digest), size, "{}", log.text());
        assert_eq!(log.completed(&digest), 1);
        assert_eq!(
            registry.blob("team/app", &digest).unwrap().len() as u64,
            size
        );
    }
    assert_eq!(log.count("PUT", "/manifests/v1"), 1);
}

#[test]
fn skopeo_signs_in_by_either_scheme() {
    for auth in [FakeAuth::basic(), FakeAuth::bearer()] {
        let registry = FakeRegistry::start_with_auth(auth);
        copy_by_skopeo(&registry);
    }
}

#[test]
fn a_blob_comes_in_by_one_request_by_a_stream_or_by_chunks() {
    let registry = FakeRegistry::start();
    let host = registry.host();
    let blob = b"0123456789";
    let digest = digest_of(blob);

    assert_eq!(put(&registry, "whole", blob).status, 201);
    let target = format!("/v2/single/blobs/uploads/?digest={digest}");
    assert_eq!(ask(&host, "POST", &target, &[], blob).status, 201);

    let location = begin(&registry, "stream");
    let reply = ask(&host, "PATCH", &location, &[], blob);
    assert_eq!((reply.status, reply.header("Range")), (202, Some("0-9")));
    let target = format!("{}&digest={digest}", reply.header("Location").unwrap());
    assert_eq!(ask(&host, "PUT", &target, &[], b"").status, 201);

    let location = begin(&registry, "chunks");
    let reply = ask(
        &host,
        "PATCH",
        &location,
        &["Content-Range: 0-3"],
        &blob[..4],
    );
    assert_eq!((reply.status, reply.header("Range")), (202, Some("0-3")));
    // The old location is no longer good, and the state of the new one tells
    // where to go on.
    assert_eq!(
        code(&ask(&host, "PATCH", &location, &[], b"")),
        "BLOB_UPLOAD_INVALID"
    );
    let location = reply.header("Location").unwrap();
    let reply = ask(
        &host,
        "PATCH",
        location,
        &["Content-Range: 5-9"],
        &blob[5..],
    );
    assert_eq!((reply.status, reply.header("Range")), (416, Some("0-3")));
    let reply = ask(&host, "GET", reply.header("Location").unwrap(), &[], b"");
    assert_eq!((reply.status, reply.header("Range")), (204, Some("0-3")));
    let target = format!("{}&digest={digest}", reply.header("Location").unwrap());
    let reply = ask(&host, "PUT", &target, &["Content-Range: 4-9"], &blob[4..]);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("Docker-Content-Digest"), Some(&*digest));

    for repository in ["whole", "single", "stream", "chunks"] {
        assert_eq!(
            registry.blob(repository, &digest).unwrap(),
            blob,
            "{repository}"
        );
        let target = format!("/v2/{repository}/blobs/{digest}");
        let head = ask(&host, "HEAD", &target, &[], b"");
        assert_eq!(
            (head.status, head.header("Content-Length")),
            (200, Some("10"))
        );
        let part = ask(&host, "GET", &target, &["Range: bytes=2-4"], b"");
        assert_eq!((part.status, &*part.body), (206, &b"234"[..]));
    }
    assert_eq!(registry.open_uploads(), 0);
    // Of the single POST no upload is known.
    assert_eq!(registry.log().uploaded_bytes(&digest), 10 + 10 + 4 + 6);
    assert_eq!(registry.log().completed(&digest), 3);
}

#[test]
fn a_wrong_digest_ends_an_upload() {
    let registry = FakeRegistry::start();
    let location = begin(&registry, "app");
    let target = format!("{location}&digest={}", digest_of(b"right"));
    let reply = ask(&registry.host(), "PUT", &target, &[], b"wrong");
    assert_eq!((reply.status, code(&reply)), (400, "DIGEST_INVALID".into()));
    assert_eq!(registry.open_uploads(), 0);
    assert!(registry.blobs("app").is_empty());

    let location = begin(&registry, "app");
    assert_eq!(
        ask(&registry.host(), "DELETE", &location, &[], b"").status,
        204
    );
    assert_eq!(registry.open_uploads(), 0);
}

#[test]
fn a_mount_needs_the_blob_in_the_other_repository() {
    let registry = FakeRegistry::start();
    let digest = registry.put_blob("other", b"blob");
    let mount = |from: &str| {
        let target = format!("/v2/app/blobs/uploads/?mount={digest}&from={from}");
        ask(&registry.host(), "POST", &target, &[], b"").status
    };
    assert_eq!(mount("nobody"), 202);
    assert!(registry.blobs("app").is_empty());
    assert_eq!(mount("other"), 201);
    assert_eq!(registry.blobs("app")[&digest], 4);
    registry.change_quirks(|quirks| quirks.mount = MountAnswer::Refused(401));
    assert_eq!(mount("other"), 401);
}

#[test]
fn a_manifest_needs_all_that_it_names() {
    let registry = FakeRegistry::start();
    let host = registry.host();
    let digest = digest_of(b"{}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let descriptor = json!({"mediaType": "x/y", "digest": digest, "size": 2});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind, "config": descriptor, "layers": [descriptor],
    });
    let bytes = manifest.to_string().into_bytes();
    let content_type = format!("Content-Type: {kind}");
    let put = |which: &str| {
        let target = format!("/v2/app/manifests/{which}");
        ask(&host, "PUT", &target, &[&content_type], &bytes)
    };
    let reply = put("v1");
    assert_eq!(
        (reply.status, code(&reply)),
        (400, "MANIFEST_BLOB_UNKNOWN".into())
    );
    assert_eq!(reply.json()["errors"][1]["detail"]["digest"], digest);
    registry.put_blob("app", b"{}");
    let reply = put("v1");
    assert_eq!(reply.status, 201);
    assert_eq!(
        reply.header("Docker-Content-Digest"),
        Some(&*digest_of(&bytes))
    );
    assert_eq!(put(&digest_of(&bytes)).status, 201);
    assert_eq!(code(&put(&digest_of(b""))), "DIGEST_INVALID");

    let get = |which: &str, accept: &str| {
        let target = format!("/v2/app/manifests/{which}");
        ask(&host, "GET", &target, &[accept], b"")
    };
    let reply = get("v1", &format!("Accept: {kind}"));
    assert_eq!((reply.status, reply.body), (200, bytes.clone()));
    assert!(reply.head.contains(&content_type));
    assert_eq!(get("v1", "Accept: application/json").status, 404);
    assert_eq!(get("v2", "Accept: */*").status, 404);
}

#[test]
fn a_fault_breaks_the_requests_it_is_for() {
    let registry = FakeRegistry::start();
    let blob = vec![7; 100_000];
    registry.fault(
        Fault::on("PUT", "/blobs/")
            .nth(1)
            .after_bytes(70_000)
            .reset(),
    );
    registry.fault(
        Fault::on("PUT", "/blobs/")
            .nth(2)
            .status(429, &[("Retry-After", "3")]),
    );
    registry.fault(
        Fault::on("PUT", "/blobs/")
            .nth(1)
            .after_body()
            .status(500, &[]),
    );
    registry.fault(Fault::on("PUT", "/blobs/").nth(4).lose_answer());
    assert_eq!(put(&registry, "app", &blob).status, 0);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(put(&registry, "app", &blob).status);
    }
    assert_eq!(statuses, [429, 500, 0], "{}", registry.log().text());
    // Only the answer was lost.
    assert_eq!(registry.blobs("app")[&digest_of(&blob)], 100_000);
    let received: Vec<_> = registry
        .log()
        .of("PUT", "/blobs/")
        .iter()
        .map(|entry| (entry.received, entry.status))
        .collect();
    assert_eq!(
        received,
        [
            (70_000, None),
            (0, Some(429)),
            (100_000, Some(500)),
            (100_000, None)
        ]
    );
    registry.fault(Fault::on("*", "/v2/").cut(1));
    let reply = ask(&registry.host(), "GET", "/v2/", &[], b"");
    assert_eq!(
        (reply.header("Content-Length"), &*reply.body),
        (Some("2"), &b"{"[..])
    );
    registry.clear_faults();
    registry.fault(Fault::on("GET", "/v2/").stall(Duration::from_millis(50)));
    let start = std::time::Instant::now();
    assert_eq!(ask(&registry.host(), "GET", "/v2/", &[], b"").body, b"{}");
    assert!(start.elapsed() >= Duration::from_millis(50));
}

/// The token of an answer of the token server.
pub(super) fn token(reply: &Reply) -> String {
    format!(
        "Authorization: Bearer {}",
        reply.json()["token"].as_str().unwrap()
    )
}

#[test]
fn a_token_allows_what_it_was_asked_for() {
    let registry = FakeRegistry::start_with_auth(FakeAuth {
        identity_token: Some("identity".into()),
        ..FakeAuth::bearer()
    });
    let host = registry.host();
    let digest = registry.put_blob("other", b"blob");
    let mount = format!("/v2/app/blobs/uploads/?mount={digest}&from=other");
    let reply = ask(&host, "POST", &mount, &[], b"");
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.header("WWW-Authenticate").unwrap(),
        format!(
            "Bearer realm=\"http://{host}/token\",service=\"fake\",\
             scope=\"repository:app:pull,push repository:other:pull\""
        )
    );
    let user = "Authorization: Basic dXNlcjpzZWNyZXQ=";
    let app = "/token?service=fake&scope=repository%3Aapp%3Apull%2Cpush";
    // As Docker Hub has it (rust-oci-client#235): not without the other scope.
    let narrow = token(&ask(&host, "GET", app, &[user], b""));
    let reply = ask(&host, "POST", &mount, &[&narrow], b"");
    assert_eq!(reply.status, 401);
    assert!(reply.head.contains("error=\"insufficient_scope\""));
    let both = format!("{app}&scope=repository:other:pull");
    let wide = token(&ask(&host, "GET", &both, &[user], b""));
    assert_eq!(ask(&host, "POST", &mount, &[&wide], b"").status, 201);
    registry.revoke_tokens();
    assert_eq!(ask(&host, "POST", &mount, &[&wide], b"").status, 401);

    let wrong = "Authorization: Basic dXNlcjp3cm9uZw==";
    assert_eq!(ask(&host, "GET", app, &[wrong], b"").status, 401);
    let anyone = token(&ask(&host, "GET", app, &[], b""));
    assert_eq!(
        ask(&host, "GET", "/v2/app/tags/list", &[&anyone], b"").status,
        401
    );
    let form = b"grant_type=refresh_token&refresh_token=identity&service=fake&\
                 scope=repository%3Aapp%3Apull+repository%3Aother%3Apull";
    let identified = token(&ask(&host, "POST", "/token", &[], form));
    let list = ask(&host, "GET", "/v2/other/tags/list", &[&identified], b"");
    assert_eq!(list.status, 200);
    registry.change_auth(|auth| auth.post = PostTokens::Refused(404));
    assert_eq!(ask(&host, "POST", "/token", &[], form).status, 404);
    assert_eq!(registry.log().count("GET", "/token"), 4);
    assert_eq!(registry.log().count("POST", "/token"), 2);
}

#[test]
fn a_token_dies() {
    let registry = FakeRegistry::start_with_auth(FakeAuth {
        token_lives: Duration::from_millis(30),
        ..FakeAuth::bearer()
    });
    let user = "Authorization: Basic dXNlcjpzZWNyZXQ=";
    let token = token(&ask(&registry.host(), "GET", "/token", &[user], b""));
    let ping = || ask(&registry.host(), "GET", "/v2/", &[&token], b"").status;
    assert_eq!(ping(), 200);
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(ping(), 401);
}

#[test]
fn a_challenge_is_as_each_registry_words_it() {
    let challenge = |auth: FakeAuth| {
        let registry = FakeRegistry::start_with_auth(auth);
        let reply = ask(&registry.host(), "GET", "/v2/app/tags/list", &[], b"");
        assert_eq!(reply.status, 401);
        let challenge = reply.header("WWW-Authenticate").unwrap();
        challenge.replace(&registry.server().addr().port().to_string(), "PORT")
    };
    assert_eq!(
        challenge(FakeAuth::basic()),
        "Basic realm=\"Registry Realm\""
    );
    assert_eq!(
        challenge(FakeAuth {
            realm: Realm::Localhost,
            offers_basic: true,
            ..FakeAuth::bearer()
        }),
        "Basic realm=\"Registry Realm\", Bearer realm=\"http://localhost:PORT/token\",\
         service=\"fake\",scope=\"repository:app:pull\""
    );
    assert_eq!(
        challenge(FakeAuth {
            realm: Realm::Url("https://auth.example/t".into()),
            names_scope: false,
            ..FakeAuth::bearer()
        }),
        "Bearer realm=\"https://auth.example/t\",service=\"fake\""
    );
}

#[test]
fn who_may_only_read_does_not_write() {
    let user = "Authorization: Basic dXNlcjpzZWNyZXQ=";
    let reader = FakeAuth {
        may_push: false,
        anonymous_pull: true,
        ..FakeAuth::basic()
    };
    let registry = FakeRegistry::start_with_auth(reader.clone());
    registry.put_blob("app", b"blob");
    let read = |registry: &FakeRegistry, fields: &[&str]| {
        ask(&registry.host(), "GET", "/v2/app/tags/list", fields, b"").status
    };
    let write = |registry: &FakeRegistry, fields: &[&str]| {
        ask(
            &registry.host(),
            "POST",
            "/v2/app/blobs/uploads/",
            fields,
            b"",
        )
        .status
    };
    assert_eq!(read(&registry, &[]), 200);
    assert_eq!(read(&registry, &[user]), 200);
    assert_eq!(write(&registry, &[]), 401);
    assert_eq!(write(&registry, &[user]), 403);

    let registry = FakeRegistry::start_with_auth(FakeAuth {
        scheme: AuthScheme::Bearer,
        insufficient: 403,
        expires_in: None,
        access_token_field: true,
        ..reader
    });
    registry.put_blob("app", b"blob");
    let target = "/token?scope=repository:app:pull,push";
    let reply = ask(&registry.host(), "GET", target, &[user], b"");
    let document = reply.json();
    assert_eq!(document["expires_in"], Value::Null);
    let token = document["access_token"].as_str().unwrap();
    let token = format!("Authorization: Bearer {token}");
    assert_eq!(read(&registry, &[&token]), 200);
    assert_eq!(write(&registry, &[&token]), 403);
}
