//! Locks: pinned images are read as they were, with no network.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix2oci_tests::DockerRegistry;
use nix2oci_tests::command::{nix2oci, output, run};
use nix2oci_tests::image_files::{manifest_digest, text};
use serde_json::Value;

use crate::loaders::arguments;

/// Pushes the fixture's image for these platforms.
fn push(registry: &DockerRegistry, name: &str, platforms: &[&str]) -> String {
    let mut command = Command::new(nix2oci());
    command.arg("push");
    for (at, platform) in platforms.iter().enumerate() {
        if at > 0 {
            command.arg("--next");
        }
        let all = arguments("gzip:6");
        let mut words = all[1..].iter();
        while let Some(word) = words.next() {
            match &**word {
                "--name" | "--progress" => drop(words.next()),
                "--platform" => {
                    words.next();
                    command.args(["--platform", platform]);
                }
                word => drop(command.arg(word)),
            }
        }
    }
    let destination = format!("docker://{}/{name}", registry.localhost());
    run(command.arg(destination).arg("--quiet"));
    format!("docker://{}/{name}", registry.localhost())
}

fn lock(arguments: &[&str], file: &Path) -> Value {
    run(Command::new(nix2oci())
        .arg("lock")
        .args(arguments)
        .arg("-o")
        .arg(file));
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Runs the command where there is no network.
fn offline(arguments: &[&str]) -> Result<String, String> {
    output(
        Command::new("unshare")
            .args(["--net", "--map-root-user"])
            .arg(nix2oci())
            .args(arguments)
            .args(["--retry", "0", "--quiet"]),
    )
}

#[test]
fn a_lock_with_its_layers_is_the_image_without_a_network() {
    let registry = DockerRegistry::start();
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"];
    let image = push(&registry, "app:v1", &platforms);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = dir.path().join("lock.json");
    let locked = lock(&[&image], &file);
    assert_eq!(
        locked["images"][0]["digest"],
        locked["images"][0]["resolved"]
    );

    // Each layer by itself, as a fixed output of Nix has it: under any name.
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let mut arguments = vec!["copy".to_owned(), path("lock.json")];
    for (at, blob) in locked["blobs"].as_array().unwrap().iter().enumerate() {
        let layer = blobs.join(format!("layer-{at}"));
        run(Command::new(nix2oci())
            .args(["lock", "--fetch", text(&blob["digest"])])
            .args([&file, Path::new("-o"), &layer]));
        arguments.extend(["--blob".to_owned(), layer.display().to_string()]);
    }
    let online = path("online.tar");
    run(Command::new(nix2oci()).args(["copy", &image, "-o", &online, "--quiet"]));
    let copied = path("offline.tar");
    arguments.extend(["-o".to_owned(), copied.clone()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let printed = offline(&arguments).unwrap();
    assert_eq!(printed.trim_end(), text(&locked["images"][0]["digest"]));
    assert_eq!(fs::read(&copied).unwrap(), fs::read(&online).unwrap());

    // A changed layer is none.
    fs::write(blobs.join("layer-0"), "other").unwrap();
    let error = offline(&arguments).unwrap_err();
    assert!(
        error.contains(text(&locked["blobs"][0]["digest"])),
        "{error}"
    );
}

#[test]
fn one_platform_is_chosen_and_a_moved_tag_is_told() {
    let registry = DockerRegistry::start();
    let image = push(&registry, "app:v1", &["linux/amd64", "linux/arm64"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lock.json");
    let locked = lock(&[&image, "--platform", "linux/arm64"], &file);
    let again = dir.path().join("again.json");
    lock(&[&image, "--platform", "linux/arm64"], &again);
    assert_eq!(fs::read(&file).unwrap(), fs::read(&again).unwrap());
    assert_ne!(
        locked["images"][0]["digest"],
        locked["images"][0]["resolved"]
    );
    assert_eq!(locked["images"][0]["platform"], "linux/arm64");
    let copied = dir.path().join("copied.tar");
    run(Command::new(nix2oci())
        .arg("copy")
        .args([&file, Path::new("-o"), &copied])
        .arg("--quiet"));
    assert_eq!(
        manifest_digest(&copied),
        text(&locked["images"][0]["digest"])
    );

    let check = || {
        let checked = Command::new(nix2oci())
            .args(["lock", "--check"])
            .arg(&file)
            .output();
        let checked = checked.unwrap();
        (
            checked.status.code(),
            String::from_utf8(checked.stdout).unwrap(),
        )
    };
    assert_eq!(check(), (Some(0), "ok\n".to_owned()));
    push(&registry, "app:v1", &["linux/arm64"]);
    let (code, told) = check();
    assert_eq!(code, Some(8));
    let was = text(&locked["images"][0]["resolved"]);
    assert!(told.contains(&format!("app:v1: {was} → sha256:")), "{told}");
    run(Command::new(nix2oci())
        .args(["lock", "--update"])
        .arg(&file));
    assert_eq!(check().0, Some(0));
}

#[test]
fn what_cannot_be_pinned_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.json");
    fs::write(
        &other,
        r#"{"version": 1, "images": [], "documents": [], "blobs": []}"#,
    )
    .unwrap();
    let other = other.to_str().unwrap();
    let unknown = format!("sha256:{}", "0".repeat(64));
    for (arguments, problem) in [
        (&["lock", "oci:layout"][..], "is on this machine"),
        (
            &["lock", other],
            "a derivation pins it by the hash of its bytes",
        ),
        (&["lock", "app.tar"], "is docker://app.tar meant?"),
        (&["lock", "--check", other], "names no image"),
        (
            &["lock", "--fetch", &unknown, other, "-o", "x"],
            "has no layer sha256:00",
        ),
        (&["lock", "--check", "a", "b"], "one lock"),
    ] {
        let error = output(
            Command::new(nix2oci())
                .args(arguments)
                .current_dir(dir.path()),
        );
        let error = error.unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}
