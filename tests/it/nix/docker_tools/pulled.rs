//! Images that derivations pull from a registry.

use std::process::Command;

use nix2oci_tests::DockerRegistry;
use nix2oci_tests::command::{nix2oci, run};

use super::super::nix2container::pulled::push_base;
use super::{assert_prints, examples};

#[test]
fn an_image_is_pulled_and_is_a_base() {
    let registry = DockerRegistry::start();
    let digest = push_base(&registry);
    let host = registry.localhost();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("base.tar");
    run(Command::new(nix2oci())
        .args(["copy", &format!("docker://{host}/base@{digest}")])
        .args([
            "--platform",
            "linux/amd64",
            "--name",
            "base",
            "--tag",
            "2.2.1",
        ])
        .arg("-o")
        .arg(&archive));
    let hash = run(Command::new("nix-hash")
        .args(["--flat", "--type", "sha256", "--base32"])
        .arg(&archive));
    let examples = examples()
        .with("registry", &host)
        .with("digest", &digest)
        .with("hash", hash.trim_end());
    assert_prints(
        examples.podman(
            &["pulled", "on-top-of-pulled"],
            "load \"$pulled\"
             podman images --format '{{.Repository}}:{{.Tag}}'
             load \"$on_top_of_pulled\"
             run ontopofpulledimage hello",
        ),
        "docker.io/library/base:2.2.1\nHello, world!\n",
    );
}
