//! Base images that derivations pull from a registry.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix2oci_tests::command::{nix2oci, output_bytes, repository, run};
use nix2oci_tests::{DockerRegistry, Isolated};

use super::super::examples::Examples;
use super::{NAMED, assert_prints};

/// Pushes an image with a file /etc/release and a program; returns its digest.
pub(in super::super) fn push_base(registry: &DockerRegistry) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/etc")).unwrap();
    fs::write(dir.path().join("root/etc/release"), "a base\n").unwrap();
    fs::create_dir_all(dir.path().join("root/bin")).unwrap();
    fs::copy("/bin/busybox", dir.path().join("root/bin/busybox")).unwrap();
    run(Command::new("tar")
        .args(["--create", "--file", "layer.tar", "--owner=0", "--group=0"])
        .args(["--mtime=@1", "--directory", "root", "bin", "etc"])
        .current_dir(dir.path()));
    let fixture = repository().join("fixtures/closure");
    let pushed = run(Command::new(nix2oci())
        .args(["push", "--no-store-paths", "--layer-tar", "layer.tar"])
        .args(["--platform", "linux/amd64", "--cache-dir", "none"])
        .arg("--closure")
        .arg(format!(
            "registration:{}",
            fixture.join("registration").display()
        ))
        .arg("--store-root")
        .arg(fixture.join("root"))
        .arg(format!("docker://{}/base:v1", registry.localhost()))
        .args(["--progress", "none"])
        .current_dir(dir.path()));
    let (_, digest) = pushed.trim_end().split_once('@').expect("it is pinned");
    digest.to_owned()
}

/// Returns the hash of what nix2container's own pullImage gets by skopeo.
fn hash_of_directory(folder: &Path, image: &str) -> String {
    let directory = folder.join("directory");
    Isolated::plain().with_network().run(
        folder,
        &[
            ("image", image),
            ("directory", directory.to_str().unwrap()),
        ],
        "skopeo --insecure-policy copy --quiet --src-tls-verify=false \"$image\" \"dir:$directory\"",
    );
    let hash = run(Command::new("nix-hash")
        .args(["--type", "sha256", "--base32"])
        .arg(&directory));
    hash.trim_end().to_owned()
}

#[test]
fn an_image_is_pulled_by_the_hash_that_nix2container_has_for_it() {
    let registry = DockerRegistry::start();
    let digest = push_base(&registry);
    let host = registry.localhost();
    let folder = tempfile::tempdir().unwrap();
    let image = format!("docker://{host}/base@{digest}");
    let hash = hash_of_directory(folder.path(), &image);
    let examples = Examples::of("nix2container.nix")
        .with("registry", &host)
        .with("digest", &digest)
        .with("hash", &hash);
    assert_prints(
        examples.podman(
            &["from-image.copyToPodman"],
            &format!(
                "{NAMED}inside \"$from_image_copyToPodman/bin/copy-to-podman\" --quiet > /dev/null
                 start from-image | awk '{{ print $NF }}'"
            ),
        ),
        "/etc/release\n",
    );
}

#[test]
fn an_image_is_pulled_blob_by_blob_by_its_manifest_or_a_lock() {
    let registry = DockerRegistry::start();
    push_base(&registry);
    let host = registry.localhost();
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock.json");
    run(Command::new(nix2oci())
        .args(["lock", &format!("docker://{host}/base:v1"), "-o"])
        .arg(&lock));

    let examples = Examples::of("nix2container.nix").with("registry", &host);
    let program = examples.image("get-manifest").join("bin/get-manifest");
    let script = fs::read_to_string(&program).unwrap();
    // The program as it is, but for where the store lies.
    let script = script.replace(
        "/nix/store/",
        &examples
            .store()
            .outside("/nix/store/")
            .display()
            .to_string(),
    );
    let written = output_bytes(Command::new("sh").args(["-c", &script])).unwrap();
    let manifest = folder.path().join("manifest.json");
    fs::write(&manifest, written).unwrap();

    let examples = examples
        .with("manifest", manifest.to_str().unwrap())
        .with("lock", lock.to_str().unwrap());
    assert_prints(
        examples.podman(
            &[
                "from-image-manifest.copyToPodman",
                "from-lock.copyToPodman",
                "base-from-lock",
            ],
            &format!(
                "{NAMED}inside \"$from_image_manifest_copyToPodman/bin/copy-to-podman\" --quiet > /dev/null
                 start from-image-manifest | awk '{{ print $NF }}'
                 inside \"$from_lock_copyToPodman/bin/copy-to-podman\" --quiet > /dev/null
                 start from-lock | awk '{{ print $NF }}'
                 test -f \"$root$base_from_lock/index.json\""
            ),
        ),
        "/etc/release\n/etc/release\n",
    );
}
