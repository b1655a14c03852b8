//! Debian's `docker-registry`, in each way that it lets clients in.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use data_encoding::BASE64;
use nix2oci_tests::DockerRegistry;
use nix2oci_tests::certificates::TestCa;
use nix2oci_tests::docker_registry::{DockerAuth, DockerOptions, PASSWORD, USER};
use serde_json::json;

use super::{Workload, count};

fn registry(auth: DockerAuth, tls: bool) -> DockerRegistry {
    DockerRegistry::start_with(DockerOptions {
        auth,
        tls: tls.then(|| TestCa::new("test")),
        ..DockerOptions::default()
    })
}

/// Writes a file as `docker login` and `podman login` do.
fn login(file: &Path, host: &str, password: &str) -> String {
    let auth = BASE64.encode(format!("{USER}:{password}").as_bytes());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
    file.display().to_string()
}

#[test]
fn a_registry_on_this_machine_needs_no_option() {
    let registry = DockerRegistry::start();
    let workload = Workload::small();
    for host in [registry.host(), registry.localhost()] {
        let printed = workload.push(1, &format!("{host}/team/app:v1")).succeed();
        let digest = registry.assert_whole("team/app", "v1");
        assert_eq!(printed, format!("{host}/team/app@{digest}\n"));
    }
    // The second push found all of it.
    assert_eq!(registry.count("PUT", ""), workload.layers() + 2);
    assert_eq!(registry.open_uploads("team/app"), 0);
}

#[test]
fn passwords_come_from_files_and_from_standard_input() {
    let registry = registry(DockerAuth::Htpasswd, false);
    let host = registry.localhost();
    let workload = Workload::small();
    let folder = tempfile::tempdir().unwrap();
    let push = |repository: &str| workload.push(1, &format!("{host}/{repository}:v1"));

    let file = login(&folder.path().join("auth.json"), &host, PASSWORD);
    push("authfile").args(&["--authfile", &file]).succeed();
    registry.assert_whole("authfile", "v1");

    login(&folder.path().join("docker/config.json"), &host, PASSWORD);
    push("docker")
        .env("DOCKER_CONFIG", folder.path().join("docker"))
        .succeed();
    registry.assert_whole("docker", "v1");

    let at_home = push("podman");
    login(
        &at_home.home().join(".config/containers/auth.json"),
        &host,
        PASSWORD,
    );
    at_home.succeed();
    registry.assert_whole("podman", "v1");

    let mut typed = push("typed").args(&["--creds-stdin"]);
    typed.command.stdin(Stdio::piped());
    let start = Instant::now();
    let mut child = typed.spawn();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{USER}:{PASSWORD}").unwrap();
    drop(stdin);
    let finished = typed.finish(child, start);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    registry.assert_whole("typed", "v1");
}

#[test]
fn who_may_not_write_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let workload = Workload::small();
    for auth in [DockerAuth::Htpasswd, DockerAuth::Token] {
        let registry = registry(auth, false);
        let host = registry.localhost();
        let file = login(&folder.path().join("auth.json"), &host, "wrong-one");
        let push = || workload.push(1, &format!("{host}/app:v1"));
        for push in [push(), push().args(&["--authfile", &file])] {
            let said = push.fail(6, &["error: ", "app", "401", "hint: `podman login"]);
            assert!(!said.contains("wrong-one"), "{said}");
        }
        assert!(registry.stored_blobs().is_empty());
    }
}

#[test]
fn a_certificate_of_an_own_authority_is_believed_when_told() {
    let registry = registry(DockerAuth::Htpasswd, true);
    let workload = Workload::small();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("authority.pem");
    fs::write(&ca, registry.ca().unwrap().pem()).unwrap();
    let cert_dir = registry.cert_dir().display().to_string();
    for (repository, host, arguments) in [
        (
            "file",
            registry.localhost(),
            ["--ca-file", ca.to_str().unwrap()],
        ),
        ("dir", registry.host(), ["--cert-dir", &cert_dir]),
        ("any", registry.host(), ["--tls-verify", "false"]),
    ] {
        let file = login(&folder.path().join("auth.json"), &host, PASSWORD);
        let name = format!("{host}/{repository}:v1");
        let push = || workload.push(1, &name).args(&["--authfile", &file]);
        let arguments = arguments.join("=");
        push().args(&[&arguments]).succeed();
        registry.assert_whole(repository, "v1");

        let before = registry.requests().len();
        push().fail(7, &["certificate", &host, "hint: ", "--ca-file"]);
        push().args(&["--plain-http"]).fail(7, &[&host]);
        let after = registry.requests();
        assert!(
            after[before..].iter().all(|request| request.status == 400),
            "nothing is asked over what cannot be trusted: {after:?}"
        );
    }
}

#[test]
fn a_client_shows_its_certificate() {
    let registry = DockerRegistry::start_with(DockerOptions {
        tls: Some(TestCa::new("test")),
        asks_for_certificate: true,
        ..DockerOptions::default()
    });
    let workload = Workload::small();
    let dir = registry.cert_dir();
    let name = format!("{}/app:v1", registry.localhost());
    let push = || {
        workload
            .push(1, &name)
            .args(&["--cert-dir", dir.to_str().unwrap()])
    };
    push().succeed();
    registry.assert_whole("app", "v1");
    fs::remove_file(dir.join("client.cert")).unwrap();
    fs::remove_file(dir.join("client.key")).unwrap();
    // Only a server that is read in time is heard to miss a certificate.
    push()
        .args(&["--retry", "0"])
        .fail(7, &[&registry.localhost()]);
}

/// A token server is asked once for each set of rights, however many uploads
/// wait for it.
#[test]
fn one_token_serves_a_whole_push() {
    for tls in [false, true] {
        let registry = registry(DockerAuth::Token, tls);
        let host = registry.localhost();
        let workload = Workload::new(30, 3_000);
        let folder = tempfile::tempdir().unwrap();
        let file = login(&folder.path().join("auth.json"), &host, PASSWORD);
        let cert_dir = tls.then(|| registry.cert_dir());
        let push = |release, to: &str| {
            let push = workload.push(release, &format!("{host}/{to}"));
            let push = push.args(&["--authfile", &file]);
            match &cert_dir {
                Some(dir) => push.args(&["--cert-dir", dir.to_str().unwrap()]),
                None => push,
            }
        };
        let report = push(1, "base:v1").report();
        assert_eq!(count(&report, "new"), 31);
        registry.assert_whole("base", "v1");
        assert_eq!(registry.token_requests(), 1);

        // One more right, to read where layers are mounted from: in one token
        // with the others.
        let before = registry.token_requests();
        let report = push(2, "app:v1")
            .args(&["--reuse-from", &format!("docker://{host}/base:v1")])
            .report();
        assert_eq!((count(&report, "new"), count(&report, "mounted")), (1, 30));
        registry.assert_whole("app", "v1");
        let mounts = registry.requests().into_iter();
        let mounts: Vec<_> = mounts.filter(|r| r.target.contains("from=base")).collect();
        assert!(mounts.iter().all(|r| r.status == 201), "{mounts:?}");
        assert_eq!(mounts.len(), 30);
        // base, app, and both at once.
        assert_eq!(registry.token_requests() - before, 3);
    }
}

/// What is small shares a connection; a blob has its own, because a server
/// written in Go grants all uploads of an HTTP/2 connection one window of 1 MiB.
#[test]
fn small_requests_speak_http_2() {
    let registry = registry(DockerAuth::None, true);
    let workload = Workload::new(2, 300_000);
    let dir = registry.cert_dir();
    for release in [1, 2] {
        workload
            .push(release, &format!("{}/app:v1", registry.localhost()))
            .args(&["--cert-dir", dir.to_str().unwrap()])
            .succeed();
    }
    let protocol = |method: &str, part: &str| {
        let requests = registry.requests().into_iter();
        let mut protocols: Vec<_> = requests
            .filter(|r| r.method == method && r.target.contains(part))
            .filter(|r| !r.target.contains("digest=") || method != "PUT")
            .map(|r| r.protocol)
            .collect();
        protocols.dedup();
        protocols
    };
    assert_eq!(protocol("GET", "/manifests/"), ["HTTP/2.0"]);
    assert_eq!(protocol("PUT", "/manifests/"), ["HTTP/2.0"]);
    assert_eq!(protocol("POST", "/blobs/uploads/"), ["HTTP/2.0"]);
    // Release 2 is sent while it is packed.
    assert_eq!(protocol("PATCH", "/blobs/uploads/"), ["HTTP/1.1"]);
}
