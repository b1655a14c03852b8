//! Indexes of several platforms in the hands of the programs that they are for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::command::{nix2oci, output, run, skopeo};
use nix2oci_tests::image_files::{blob, manifest_digest, read_json, text};
use nix2oci_tests::{DockerRegistry, Isolated};
use serde_json::{Value, json};

use crate::loaders::{FULL_NAME, NAME, arguments, is_without, printed_outside};

const PLATFORMS: [&str; 3] = ["linux/arm64", "linux/amd64", "linux/arm/v7"];

/// Returns the arguments of `verb` for the fixture's image on each platform.
/// The fixture's program is a script, and so is of all of them.
fn several(verb: &str, name: bool) -> Vec<String> {
    let mut all = vec![verb.to_owned(), "--quiet".to_owned()];
    for (at, platform) in PLATFORMS.iter().enumerate() {
        if at > 0 {
            all.push("--next".to_owned());
        }
        let one = arguments("gzip:6");
        let mut words = one[1..].iter();
        while let Some(word) = words.next() {
            match &**word {
                "--name" | "--progress" => drop(words.next()),
                "--platform" => {
                    words.next();
                    all.extend(["--platform", platform].map(str::to_owned));
                }
                word => all.push(word.to_owned()),
            }
        }
    }
    if name {
        all.extend(["--name", NAME].map(str::to_owned));
    }
    all
}

fn index(dir: &Path, kind: &str) -> PathBuf {
    let path = dir.join(kind);
    run(Command::new(nix2oci())
        .args(several("build", true))
        .arg("-o")
        .arg(format!("{kind}:{}", path.display())));
    path
}

/// Returns what the index of an image names: each platform's manifest.
fn children(image: &Path) -> Vec<Value> {
    let entry = &read_json(image, "index.json")["manifests"][0];
    let index: Value = serde_json::from_slice(&blob(image, entry)).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn config_digest(image: &Path, architecture: &str) -> String {
    let is_it = |child: &&Value| child["platform"]["architecture"] == architecture;
    let children = children(image);
    let child = children.iter().find(is_it).unwrap();
    let manifest: Value = serde_json::from_slice(&blob(image, child)).unwrap();
    text(&manifest["config"]["digest"]).to_owned()
}

#[test]
fn a_registry_gives_each_platform_its_image() {
    let registry = DockerRegistry::start();
    let destination = format!("docker://{}/app:v1", registry.localhost());
    let dir = tempfile::tempdir().unwrap();
    let archive = index(dir.path(), "archive");
    let printed = run(Command::new(nix2oci())
        .args(several("push", false))
        .arg(&destination));
    // What is pushed and what is built are the same.
    let digest = manifest_digest(&archive);
    let pinned = format!("{}/app@{digest}\n", registry.localhost());
    assert_eq!(printed, pinned);

    let inspect = |arguments: &[&str]| {
        let mut command = skopeo(dir.path());
        let words: Vec<&str> = arguments.to_vec();
        run(command
            .args(words)
            .args(["inspect", "--tls-verify=false", "--raw", &destination]))
    };
    let raw = inspect(&[]);
    let entry = &read_json(&archive, "index.json")["manifests"][0];
    assert_eq!(raw.as_bytes(), blob(&archive, entry));
    for (architecture, variant) in [("arm64", ""), ("amd64", ""), ("arm", "v7")] {
        let config = run(skopeo(dir.path())
            .args(["--override-os", "linux", "--override-arch", architecture])
            .args(["--override-variant", variant])
            .args(["inspect", "--tls-verify=false", "--config", "--raw"])
            .arg(&destination));
        let digest = config_digest(&archive, architecture);
        assert_eq!(
            nix2oci_tests::handmade_image::digest(config.as_bytes()),
            digest
        );
    }

    // And back: every manifest is the same.
    let layout = dir.path().join("back");
    run(Command::new(nix2oci())
        .args(["copy", &destination, "--quiet", "-o"])
        .arg(format!("oci:{}:v1", layout.display())));
    assert_eq!(manifest_digest(&layout), digest);
    assert_eq!(children(&layout), children(&archive));

    // The second push has nothing to do, and says so.
    let before = registry.count("PUT", "");
    run(Command::new(nix2oci())
        .args(several("push", false))
        .arg(&destination));
    assert_eq!(registry.count("PUT", ""), before);
}

#[test]
fn skopeo_copies_all_platforms_from_an_archive_and_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    let archive = index(dir.path(), "archive");
    let layout = index(dir.path(), "oci");
    let from = [
        format!("oci-archive:{}", archive.display()),
        format!("oci:{}:v1", layout.display()),
    ];
    for (at, from) in from.iter().enumerate() {
        let to = dir.path().join(format!("copy-{at}"));
        run(skopeo(dir.path())
            .args(["copy", "--quiet", "--all", "--preserve-digests", from])
            .arg(format!("dir:{}", to.display())));
        let copied = fs::read(to.join("manifest.json")).unwrap();
        let entry = &read_json(&archive, "index.json")["manifests"][0];
        assert_eq!(copied, blob(&archive, entry), "{from}");
    }
}

/// umoci unpacks the image of a layout that one platform was copied to.
#[test]
fn umoci_unpacks_the_one_platform_that_was_copied() {
    let dir = tempfile::tempdir().unwrap();
    let archive = index(dir.path(), "archive");
    let layout = dir.path().join("one");
    run(Command::new(nix2oci())
        .arg("copy")
        .arg(&archive)
        .args(["--platform", "linux/amd64", "--quiet", "-o"])
        .arg(format!("oci:{}:v1", layout.display())));
    let tar = Isolated::plain()
        .output(
            dir.path(),
            &[("layout", layout.to_str().unwrap())],
            "umoci unpack --image \"$layout:v1\" \"$state/bundle\" >&2
             tar --create --numeric-owner --directory \"$state/bundle/rootfs\" .",
        )
        .unwrap();
    crate::loaders::assert_is_store(&tar, "umoci");
}

/// Each takes the image for this machine out of the archive, and runs it.
#[test]
fn loaders_take_their_platform_from_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let archive = index(dir.path(), "archive");
    let amd64 = config_digest(&archive, "amd64");
    let digest = manifest_digest(&archive);
    let one = arguments("gzip:6");
    let entrypoint = one.iter().skip_while(|word| *word != "--entrypoint").nth(1);
    let variables = [
        ("archive", archive.to_str().unwrap()),
        ("name", NAME),
        ("full", FULL_NAME),
        ("program", entrypoint.unwrap().as_str()),
    ];
    for (loader, isolated, script, listed) in [
        (
            "podman",
            Isolated::podman(),
            "podman load --quiet --input \"$archive\" >&2
             podman images --no-trunc --format '{{.ID}}'
             podman run --rm --pull never \"$name\" a 'b c'",
            &amd64,
        ),
        (
            "containerd",
            Isolated::containerd(),
            "ctr images import \"$archive\" >&2
             ctr images list | awk 'NR > 1 { print $3 }'
             ctr run --rm \"$full\" test \"$program\" a 'b c'",
            &digest,
        ),
        (
            "docker",
            Isolated::docker(),
            "docker load --quiet --input \"$archive\" >&2
             docker images --no-trunc --format '{{.ID}}'
             docker run --rm \"$name\" a 'b c'",
            &amd64,
        ),
    ] {
        if is_without(loader) {
            continue;
        }
        let printed = isolated.run(dir.path(), &variables, script);
        let expected = format!("{listed}\n{}", printed_outside());
        assert_eq!(printed, expected, "{loader}");
    }
}

/// Each pulls the image for this machine from a registry, and runs it.
#[test]
fn runtimes_take_their_platform_from_a_registry() {
    let registry = DockerRegistry::start();
    let name = format!("{}/app:v1", registry.localhost());
    let dir = tempfile::tempdir().unwrap();
    let archive = index(dir.path(), "archive");
    run(Command::new(nix2oci())
        .args(several("push", false))
        .arg(format!("docker://{name}")));
    let amd64 = config_digest(&archive, "amd64");
    let digest = manifest_digest(&archive);
    let one = arguments("gzip:6");
    let entrypoint = one.iter().skip_while(|word| *word != "--entrypoint").nth(1);
    let variables = [("name", &*name), ("program", entrypoint.unwrap().as_str())];
    for (loader, isolated, script, listed) in [
        (
            "podman",
            Isolated::podman(),
            "podman pull --quiet --tls-verify=false \"docker://$name\" >&2
             podman images --no-trunc --format '{{.ID}}'
             podman run --rm --pull never \"$name\" a 'b c'",
            &amd64,
        ),
        (
            "containerd",
            Isolated::containerd(),
            "ctr images pull --plain-http \"$name\" >&2
             ctr images list | awk 'NR > 1 { print $3 }'
             ctr run --rm \"$name\" test \"$program\" a 'b c'",
            &digest,
        ),
        (
            "docker",
            Isolated::docker(),
            "docker pull --quiet \"$name\" >&2
             docker images --no-trunc --format '{{.ID}}'
             docker run --rm \"$name\" a 'b c'",
            &amd64,
        ),
    ] {
        if is_without(loader) {
            continue;
        }
        let isolated = isolated.with_network();
        let printed = isolated.run(dir.path(), &variables, script);
        let expected = format!("{listed}\n{}", printed_outside());
        assert_eq!(printed, expected, "{loader}");
    }
}

#[test]
fn images_and_recipes_are_joined_and_recipes_need_their_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let whole = index(dir.path(), "archive");
    let make = |verb: &str, platform: &str, to: &str| {
        let mut words = arguments("gzip:6");
        words[0] = verb.to_owned();
        if verb == "resolve" {
            let name = words.iter().position(|word| word == "--name").unwrap();
            words.drain(name..name + 2);
        }
        let at = words.iter().position(|word| word == "--platform").unwrap();
        words[at + 1] = platform.to_owned();
        run(Command::new(nix2oci()).args(words).args(["-o", &path(to)]));
    };
    make("resolve", "linux/arm64", "arm64.json");
    make("build", "linux/amd64", "amd64.tar");
    make("build", "linux/arm/v7", "arm.tar");
    let root = nix2oci_tests::command::repository().join("fixtures/closure/root");
    let images = ["arm64.json", "amd64.tar", "arm.tar"].map(path);
    let metadata = path("metadata.json");
    run(Command::new(nix2oci())
        .arg("index")
        .args(images)
        .arg("--store-root")
        .arg(root)
        .args(["-o", &path("joined.tar"), "--name", NAME, "--quiet"])
        .args(["--metadata-file", &metadata]));
    let joined = dir.path().join("joined.tar");
    assert_eq!(manifest_digest(&joined), manifest_digest(&whole));
    let told: Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(told["digest"], manifest_digest(&whole));
    assert_eq!(told["names"], json!([FULL_NAME]));
    assert_eq!(told["images"].as_array().unwrap().len(), 3);
    assert_eq!(told["images"][0]["platform"], "linux/arm64");
    let entry = &read_json(&joined, "index.json")["manifests"][0];
    let index: Value = serde_json::from_slice(&blob(&joined, entry)).unwrap();
    let named = index["manifests"].as_array().unwrap();
    for (image, named) in told["images"].as_array().unwrap().iter().zip(named) {
        assert_eq!(image["digest"], named["digest"]);
        assert_eq!(image["size"], named["size"]);
        assert!(image["configDigest"].is_string(), "{image}");
    }
}

/// The recipe of an index gives the same index, wherever it goes.
#[test]
fn a_recipe_of_several_platforms_makes_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let whole = manifest_digest(&index(dir.path(), "archive"));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (recipe, digest_file) = (path("app.json"), path("digest"));
    run(Command::new(nix2oci())
        .args(several("resolve", true))
        .args(["-o", &recipe, "--digest-file", &digest_file]));
    assert_eq!(
        fs::read_to_string(&digest_file).unwrap(),
        format!("{whole}\n")
    );

    let root = nix2oci_tests::command::repository().join("fixtures/closure/root");
    let store = ["--store-root", root.to_str().unwrap(), "--quiet"];
    let again = path("again.tar");
    let printed = run(Command::new(nix2oci())
        .args(["index", &recipe, "-o", &again])
        .args(store));
    assert_eq!(printed, format!("{whole}\n"));
    // The name is that which was resolved.
    let entry = &read_json(Path::new(&again), "index.json")["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], FULL_NAME);

    let registry = DockerRegistry::start();
    let destination = format!("docker://{}/app:v1", registry.localhost());
    let printed = run(Command::new(nix2oci())
        .args(["push", &recipe, &destination])
        .args(store));
    assert_eq!(printed, format!("{}/app@{whole}\n", registry.localhost()));

    // One image of it would be taken for all.
    let error = output(Command::new(nix2oci()).args(["diff", &recipe, &recipe])).unwrap_err();
    assert!(
        error.contains("it is of an index of several images"),
        "{error}"
    );
    let mut changed: Value = serde_json::from_slice(&fs::read(&recipe).unwrap()).unwrap();
    changed["annotations"] = json!({"a": "b"});
    fs::write(&recipe, changed.to_string()).unwrap();
    let error = output(
        Command::new(nix2oci())
            .args(["index", &recipe, "-o", &again])
            .args(store),
    );
    let error = error.unwrap_err();
    assert!(
        error.contains("key indexDigest: the index has digest"),
        "{error}"
    );
}

/// Each platform of a plan is compared with its own image of an index, in a file
/// as in a registry.
#[test]
fn a_plan_of_several_platforms_is_compared_with_an_index() {
    let registry = DockerRegistry::start();
    let destination = format!("docker://{}/app:v1", registry.localhost());
    let dir = tempfile::tempdir().unwrap();
    let archive = index(dir.path(), "archive");
    run(Command::new(nix2oci())
        .args(several("push", false))
        .arg(&destination));
    let plan = |more: &[&str]| {
        let mut command = Command::new(nix2oci());
        run(command.args(several("plan", false)).args(more))
    };
    for against in [archive.to_str().unwrap(), &destination] {
        let told: Value = serde_json::from_str(&plan(&["--against", against, "--json"])).unwrap();
        let images = told["images"].as_array().unwrap();
        let platforms: Vec<&str> = images.iter().map(|i| text(&i["platform"])).collect();
        assert_eq!(platforms, PLATFORMS);
        for (image, child) in images.iter().zip(children(&archive)) {
            let manifest: Value = serde_json::from_slice(&blob(&archive, &child)).unwrap();
            let layers = image["layers"].as_array().unwrap();
            let digests: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
            let expected = manifest["layers"].as_array().unwrap().iter();
            assert_eq!(digests, expected.map(|l| &l["digest"]).collect::<Vec<_>>());
            assert!(
                layers.iter().all(|layer| layer["state"] == "reused"),
                "{image}"
            );
        }
        // The same layers for all platforms are one.
        assert_eq!(told["totals"]["layers"], images[0]["totals"]["layers"]);
        let text = plan(&["--against", against]);
        assert_eq!(text.matches("fetches nothing\n").count(), 3, "{text}");
        for platform in PLATFORMS {
            assert!(text.contains(&format!("{platform}\n\nlayer")), "{text}");
        }
    }
    let alone: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!(
        alone["totals"]["layers"],
        alone["images"][1]["totals"]["layers"]
    );
}
