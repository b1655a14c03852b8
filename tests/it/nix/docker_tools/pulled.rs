//! Images that derivations pull from a registry.

use std::process::Command;

use nix2oci_tests::command::run;
use nix2oci_tests::{DockerRegistry, Isolated};

use super::super::nix2container::pulled::push_base;
use super::{assert_prints, examples};

/// Returns the hash of what nixpkgs' own pullImage gets by skopeo.
fn hash_of_archive(image: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("base.tar");
    Isolated::plain().with_network().run(
        folder.path(),
        &[("image", image), ("archive", archive.to_str().unwrap())],
        "skopeo --insecure-policy --override-os linux --override-arch amd64 copy --quiet \
             --src-tls-verify=false \"$image\" \"docker-archive:$archive:base:2.2.1\"",
    );
    let hash = run(Command::new("nix-hash")
        .args(["--flat", "--type", "sha256", "--base32"])
        .arg(&archive));
    hash.trim_end().to_owned()
}

#[test]
fn an_image_is_pulled_by_the_hash_that_nixpkgs_has_for_it() {
    let registry = DockerRegistry::start();
    let digest = push_base(&registry);
    let host = registry.localhost();
    let hash = hash_of_archive(&format!("docker://{host}/base@{digest}"));
    let examples = examples()
        .with("registry", &host)
        .with("digest", &digest)
        .with("hash", &hash);
    assert_prints(
        examples.podman(
            &["pulled", "on-top-of-pulled"],
            "load \"$pulled\"
             podman images --format '{{.Repository}}:{{.Tag}}'
             run base:2.2.1 /bin/busybox cat /etc/release
             load \"$on_top_of_pulled\"
             run ontopofpulledimage hello",
        ),
        "docker.io/library/base:2.2.1\na base\nHello, world!\n",
    );
}
