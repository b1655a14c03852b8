//! Registries that are known by their hosts, which a proxy stands in for.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use nix2oci::credentials::Secret;
use nix2oci::registry::{Client, RegistryOptions};
use nix2oci::{Context, Digest};
use nix2oci_tests::HttpServer;
use nix2oci_tests::http_server::{Answer, Request};

use super::{blob, block_on, noise};

/// A request as a proxy gets it.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    /// In full: `http://HOST/PATH`.
    url: String,
    range: Option<String>,
}

/// Does for a host what a registry would.
fn stand_in(host: &str, log: &Arc<Mutex<Vec<Asked>>>) -> HttpServer {
    let log = log.clone();
    let location = format!("http://{host}/v2/app/blobs/uploads/1");
    HttpServer::start(move |request: &mut Request<'_>| {
        log.lock().unwrap().push(Asked {
            method: request.method.clone(),
            url: request.path.clone(),
            range: request.headers.get("Content-Range").map(str::to_owned),
        });
        if request.discard().is_err() {
            return Answer::none();
        }
        match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", &location),
            "PATCH" => Answer::new(202).header("Location", &location),
            "PUT" => Answer::new(201),
            _ => Answer::new(404),
        }
    })
}

/// Sends 9 MiB, asked to do so in chunks of 8, and asks what refers to them.
fn talk(host: &str, api_host: &str) -> Vec<Asked> {
    let log = Arc::default();
    let server = stand_in(api_host, &log);
    let mut options = RegistryOptions::default();
    options.plain_http = true;
    options.proxy.http = Some(Secret::new(server.url()));
    options.chunk_size = NonZeroU64::new(8 << 20);
    let client = Client::new(&Context::default(), host, &options).unwrap();
    let repository = client.repository("app");
    let sent = Arc::new(|_| {}) as _;
    block_on(async {
        let blob = blob(&noise(9 << 20));
        repository.put_blob(&blob, None, &sent).await.unwrap();
        let referrers = repository.referrers(Digest::of(b""), None).await.unwrap();
        assert!(referrers.is_empty());
    });
    let log = log.lock().unwrap().clone();
    for asked in &log {
        let ours = asked.url.starts_with(&format!("http://{api_host}/v2/"));
        assert!(ours, "{asked:?}");
    }
    log
}

fn ranges(log: &[Asked]) -> Vec<&str> {
    log.iter()
        .filter_map(|asked| asked.range.as_deref())
        .collect()
}

fn asks_for_referrers(log: &[Asked]) -> bool {
    log.iter().any(|asked| asked.url.contains("/referrers/"))
}

#[test]
fn an_unknown_host_is_taken_at_its_word() {
    let log = talk("registry.example", "registry.example");
    assert_eq!(ranges(&log), ["0-8388607", "8388608-9437183"]);
    assert!(asks_for_referrers(&log));
}

/// rust-oci-client#35, ocx-sh/ocx#237, openai/tart#159: chunks of 4 MiB.
/// actions/attest-build-provenance#71, artifacthub/hub#4785: no referrers API.
#[test]
fn ghcr_gets_small_chunks_and_is_not_asked_for_referrers() {
    let log = talk("ghcr.io", "ghcr.io");
    assert_eq!(
        ranges(&log),
        ["0-4194303", "4194304-8388607", "8388608-9437183"]
    );
    assert!(!asks_for_referrers(&log));
}

/// dotnet/sdk-container-builds#287, kitops#777, kitops#780, skopeo#1101.
#[test]
fn google_gets_whole_blobs() {
    for host in ["europe-docker.pkg.dev", "gcr.io", "eu.gcr.io"] {
        let log = talk(host, host);
        let methods: Vec<_> = log.iter().map(|asked| asked.method.as_str()).collect();
        assert_eq!(methods[..2], ["POST", "PUT"], "{host}");
        assert!(ranges(&log).is_empty(), "{host}");
    }
}

/// regclient's `config/host.go`: Docker Hub's API has a host of its own.
#[test]
fn docker_hub_is_asked_where_its_api_is() {
    talk("docker.io", "registry-1.docker.io");
}
