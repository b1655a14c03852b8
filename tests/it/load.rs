//! `load` with the real loaders: store paths and stored images get into each,
//! under their names and with their digests.

use std::path::Path;
use std::process::Command;

use nix2oci_tests::Isolated;
use nix2oci_tests::command::{nix2oci, repository, run};
use nix2oci_tests::image_files::{manifest, manifest_digest, text};

use crate::loaders::{FULL_NAME, NAME, arguments, image, is_without};

/// A runtime, and how its images are listed: each name, and a digest.
struct Runtime {
    name: &'static str,
    isolated: Isolated,
    argument: &'static str,
    list: &'static str,
    /// Whether the digest in the list is that of the config.
    lists_config: bool,
}

fn runtimes() -> Vec<Runtime> {
    let all = vec![
        Runtime {
            name: "podman",
            isolated: Isolated::podman(),
            argument: "podman",
            list: "podman images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'",
            lists_config: true,
        },
        Runtime {
            name: "docker",
            isolated: Isolated::docker(),
            argument: "docker",
            list: "docker images --no-trunc \
                   --format 'docker.io/library/{{.Repository}}:{{.Tag}} {{.ID}}'",
            lists_config: true,
        },
        Runtime {
            name: "containerd",
            isolated: Isolated::containerd(),
            argument: "containerd:k8s.io",
            list: "ctr --namespace k8s.io images list | awk 'NR > 1 { print $1, $3 }'",
            lists_config: false,
        },
    ];
    all.into_iter()
        .filter(|runtime| !is_without(runtime.name))
        .collect()
}

/// Loads what the arguments say and returns what the command prints and what is
/// in the runtime then.
fn load(dir: &Path, runtime: &Runtime, what: &str) -> String {
    let variables = [("nix2oci", nix2oci().to_str().unwrap())];
    let script = format!(
        "\"$nix2oci\" load {what} {}\n{}",
        runtime.argument, runtime.list
    );
    runtime.isolated.run(dir, &variables, &script)
}

#[test]
fn store_paths_get_into_each_runtime() {
    for runtime in runtimes() {
        let dir = tempfile::tempdir().unwrap();
        let archive = image(dir.path(), "gzip:6", "archive");
        let what: String = arguments("gzip:6")[1..]
            .iter()
            .map(|argument| format!(" '{argument}'"))
            .collect();
        let printed = load(dir.path(), &runtime, &what);
        assert_eq!(printed, expected(&archive, &runtime), "{}", runtime.name);
    }
}

#[test]
fn stored_images_get_into_each_runtime_with_their_digests() {
    for runtime in runtimes() {
        for kind in ["oci", "archive"] {
            let dir = tempfile::tempdir().unwrap();
            let stored = image(dir.path(), "gzip:6", kind);
            let what = stored.display().to_string();
            let printed = load(dir.path(), &runtime, &what);
            let expected = expected(&stored, &runtime);
            assert_eq!(printed, expected, "{}, {kind}", runtime.name);
        }
    }
}

/// The digest that the command prints, and the image in the list.
fn expected(image: &Path, runtime: &Runtime) -> String {
    let digest = manifest_digest(image);
    let listed = if runtime.lists_config {
        text(&manifest(image)["config"]["digest"]).to_owned()
    } else {
        digest.clone()
    };
    format!("{digest}\n{FULL_NAME} {listed}\n")
}

/// A loader says itself why it failed.
#[test]
fn a_runtime_that_does_not_run_is_told() {
    for (loader, told) in [
        ("docker", "docker daemon"),
        ("containerd", "containerd.sock"),
    ] {
        if is_without(loader) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let archive = image(dir.path(), "gzip:6", "archive");
        // With the programs of Docker, and no daemon.
        let programs = repository().join("target/tools/docker.io/usr/bin");
        let path = std::env::var("PATH").unwrap();
        let output = Command::new(nix2oci())
            .args(["load", archive.to_str().unwrap(), loader])
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .env("CONTAINERD_ADDRESS", "/nowhere/containerd.sock")
            .output()
            .unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{talk}");
        assert!(talk.contains(told), "{talk}");
        assert!(talk.contains(" failed: exit status: 1"), "{talk}");
    }
}

/// k3s imports every file of its directory whose name ends as an archive's;
/// containerd, which it is made of, reads what is there.
#[test]
fn what_k3s_finds_is_what_containerd_imports() {
    if is_without("containerd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layout = image(dir.path(), "zstd:3", "oci");
    let images = dir.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let printed = run(Command::new(nix2oci())
        .args(["load", layout.to_str().unwrap()])
        .arg(format!("k3s:{}", images.display()))
        .args(["--quiet", "--name", NAME]));
    let digest = manifest_digest(&layout);
    assert_eq!(printed, format!("{digest}\n"));
    let printed = Isolated::containerd().run(
        dir.path(),
        &[("images", images.to_str().unwrap())],
        "for file in \"$images\"/*.tar; do ctr images import \"$file\" >&2; done
         ctr images list | awk 'NR > 1 { print $1, $3 }'",
    );
    assert_eq!(printed, format!("{FULL_NAME} {digest}\n"));
}
