//! skopeo pushes to it, in each way that it can be asked to sign in.

use std::path::Path;

use super::*;
use crate::command::{output, skopeo};
use crate::handmade_image::{Codec, HandmadeImage, in_dir};

/// Copies an image to `team/app:v1` and returns what skopeo says.
fn push(registry: &DockerRegistry, arguments: &[&str]) -> Result<String, String> {
    let image = in_dir(&HandmadeImage::new(Codec::Gzip).layout());
    let folder = tempfile::tempdir().unwrap();
    output(
        skopeo(folder.path())
            .args(["copy", "--quiet"])
            .args(arguments)
            .arg(format!("oci:{}", image.path.display()))
            .arg(format!("docker://{}/team/app:v1", registry.localhost())),
    )
}

const PLAIN: &str = "--dest-tls-verify=false";
const CREDENTIALS: &str = "--dest-creds=user:secret";

fn with_auth(auth: DockerAuth) -> DockerRegistry {
    DockerRegistry::start_with(DockerOptions {
        auth,
        ..DockerOptions::default()
    })
}

#[test]
fn what_it_stores_and_was_asked_for_can_be_seen() {
    let registry = DockerRegistry::start();
    push(&registry, &[PLAIN]).unwrap();
    let tags = registry.tags("team/app");
    let manifest = &tags["v1"];
    let stored = registry.stored_blobs();
    let mut blobs = registry.blobs("team/app");
    assert!(blobs.len() >= 2);
    assert!(blobs.insert(manifest.clone()));
    assert_eq!(stored.keys().cloned().collect::<BTreeSet<_>>(), blobs);
    assert_eq!(registry.open_uploads("team/app"), 0);
    assert_eq!(registry.count("PUT", "/manifests/v1"), 1);
    assert_eq!(registry.count("PUT", "/blobs/uploads/"), blobs.len() - 1);
    let put = registry.requests().into_iter();
    let put: Vec<_> = put.filter(|r| r.target.contains("/manifests/v1")).collect();
    assert!(
        put.iter().any(|r| r.method == "PUT" && r.status == 201),
        "{put:?}"
    );
}

#[test]
fn a_user_is_asked_for_a_password() {
    let registry = with_auth(DockerAuth::Htpasswd);
    let error = push(&registry, &[PLAIN]).unwrap_err();
    assert!(error.contains("authentication required"), "{error}");
    push(&registry, &[PLAIN, "--dest-creds=user:wrong"]).unwrap_err();
    push(&registry, &[PLAIN, CREDENTIALS]).unwrap();
    assert_eq!(registry.tags("team/app").len(), 1);
}

#[test]
fn a_token_server_stands_in_front() {
    let registry = with_auth(DockerAuth::Token);
    push(&registry, &[PLAIN, "--dest-creds=user:wrong"]).unwrap_err();
    push(&registry, &[PLAIN, CREDENTIALS]).unwrap_or_else(|e| panic!("{e}\n{}", registry.log()));
    assert_eq!(registry.tags("team/app").len(), 1);
    assert!(registry.token_requests() >= 2);
}

#[test]
fn its_certificate_is_checked_and_so_is_the_clients() {
    let start = |asks_for_certificate| {
        DockerRegistry::start_with(DockerOptions {
            auth: DockerAuth::Token,
            tls: Some(TestCa::new("test")),
            asks_for_certificate,
        })
    };
    let cert_dir = |dir: &Path| format!("--dest-cert-dir={}", dir.display());
    let registry = start(false);
    push(&registry, &[CREDENTIALS]).unwrap_err();
    let dir = registry.cert_dir();
    push(&registry, &[&cert_dir(&dir), CREDENTIALS]).unwrap();

    let registry = start(true);
    let dir = registry.cert_dir();
    push(&registry, &[&cert_dir(&dir), CREDENTIALS]).unwrap();
    fs::remove_file(dir.join("client.cert")).unwrap();
    fs::remove_file(dir.join("client.key")).unwrap();
    let error = push(&registry, &[&cert_dir(&dir), CREDENTIALS]).unwrap_err();
    assert!(error.contains("tls"), "{error}");
}

#[test]
fn signatures_are_as_json_wants_them() {
    let der = [&[0x30, 0x45, 0x02, 0x21, 0x00], &[0xff; 32][..]].concat();
    let der = [&der[..], &[0x02, 0x01, 0x07]].concat();
    let plain = token::plain_signature(&der);
    assert_eq!(plain[..32], [0xff; 32]);
    assert_eq!(plain[32..], [&[0; 31][..], &[7]].concat());
}
