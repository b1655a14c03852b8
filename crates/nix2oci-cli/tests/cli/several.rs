//! `copy`, `index` and `--next`: what is refused, and what is told.

use nix2oci::Digest;
use serde_json::{Value, json};

use super::{Fixture, run};

/// Builds the fixture's image for a platform.
fn build(fixture: &Fixture, platform: &str, to: &str, name: &str) {
    let dir = fixture.0.path();
    let (code, _, told) = run(
        dir,
        &[
            "build",
            "result",
            "--closure",
            "path-info:graph.json",
            "--store-root",
            "root",
            "--platform",
            platform,
            "--name",
            name,
            "-o",
            to,
            "-q",
        ],
    );
    assert_eq!(code, 0, "{told}");
}

#[test]
fn what_does_not_go_together_is_refused_with_nothing_written() {
    let fixture = Fixture::new();
    build(&fixture, "linux/amd64", "one.tar", "app:1");
    build(&fixture, "linux/arm64", "two.tar", "app:1");
    let dir = fixture.0.path();
    for (code, args, problem) in [
        (
            3,
            &["copy", "one.tar", "two.tar", "-o", "x"][..],
            "one.tar and two.tar are both called",
        ),
        (
            2,
            &["copy", "one.tar", "two.tar", "-o", "x", "--name", "a"],
            "--name names one image",
        ),
        (
            2,
            &["copy", "one.tar", "two.tar", "-o", "oci:x:v1"],
            "the tag v1 of --output",
        ),
        (
            2,
            &["copy", "one.tar", "two.tar", "-o", "docker://h/x"],
            "a tag of a registry points to one",
        ),
        (
            2,
            &["copy", "one.tar", "-o", "docker://h/x", "--name", "a"],
            "the destination names",
        ),
        (
            3,
            &["copy", "one.tar", "-o", "x", "--platform", "linux/s390x"],
            "it holds linux/amd64",
        ),
        (
            3,
            &["index", "one.tar", "one.tar", "-o", "x"],
            "has two images for linux/amd64",
        ),
        (
            2,
            &[
                "index",
                "one.tar",
                "-o",
                "x",
                "--annotation",
                "manifest:a=b",
            ],
            "keep their manifests",
        ),
        (
            2,
            &["index", "one.tar", "-o", "x", "--annotation", "a"],
            "expected KEY=VALUE",
        ),
        (
            2,
            &["check", "result", "--next", "result"],
            "of no other verb",
        ),
        (
            3,
            &[
                "build",
                "result",
                "--closure",
                "path-info:graph.json",
                "--store-root",
                "root",
                "--next",
                "result",
                "--closure",
                "path-info:graph.json",
                "--store-root",
                "root",
                "-o",
                "x",
            ],
            "hint: --platform says",
        ),
        (
            2,
            &[
                "build",
                "result",
                "--closure",
                "path-info:-",
                "--next",
                "result",
                "--closure",
                "path-info:-",
                "-o",
                "x",
            ],
            "both want standard input",
        ),
    ] {
        let (found, _, told) = run(dir, args);
        assert_eq!(found, code, "{args:?}: {told}");
        assert!(told.contains(problem), "{args:?}: {told}");
        assert!(!dir.join("x").exists(), "{args:?}");
    }
}

#[test]
fn an_index_and_its_images_are_told_as_one_document() {
    let fixture = Fixture::new();
    build(&fixture, "linux/amd64", "one.tar", "app:1");
    build(&fixture, "linux/arm64", "two.tar", "app:2");
    let dir = fixture.0.path();
    let image = [
        "result",
        "--closure",
        "path-info:graph.json",
        "--store-root",
        "root",
    ];
    let build = [
        "build",
        "--name",
        "app:3",
        "--json",
        "-q",
        "-o",
        "built.tar",
        "--platform",
        "linux/amd64",
    ];
    let next = ["--next", "--platform", "linux/arm64"];
    let (code, built, told) = run(dir, &[&build[..], &image, &next, &image].concat());
    assert_eq!(code, 0, "{told}");
    let built: Value = serde_json::from_str(&built).unwrap();
    assert_eq!(built["names"][0], "docker.io/library/app:3");
    assert_eq!(built["configDigest"], Value::Null);
    let platforms: Vec<_> = built["images"].as_array().unwrap().iter().collect();
    assert_eq!(platforms[0]["platform"], "linux/amd64");
    assert_eq!(platforms[1]["platform"], "linux/arm64");
    // The layers are the same on both, and told once.
    assert_eq!(built["layers"], platforms[0]["layers"]);

    let index = [
        "index",
        "one.tar",
        "two.tar",
        "-o",
        "joined.tar",
        "--digest-file",
        "digest",
        "-q",
    ];
    let (code, joined, told) = run(dir, &index);
    assert_eq!(code, 0, "{told}");
    assert_eq!(joined.trim_end(), built["digest"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(dir.join("digest")).unwrap(), joined);

    let copy = [
        "copy",
        "joined.tar",
        "one.tar",
        "--json",
        "-q",
        "-o",
        "oci:all",
    ];
    let (code, copied, told) = run(dir, &copy);
    assert_eq!(code, 0, "{told}");
    let copied: Value = serde_json::from_str(&copied).unwrap();
    assert!(copied.get("digest").is_none());
    assert_eq!(copied["images"][0]["digest"], built["digest"]);
    assert_eq!(copied["images"][1]["digest"], platforms[0]["digest"]);
}

#[test]
fn credentials_are_for_the_registry_of_one_part() {
    let fixture = Fixture::new();
    let dir = fixture.0.path();
    // Nothing listens there, and nobody asks.
    let (one, other) = ("docker://127.0.0.1:1/one", "docker://localhost:1/two");
    let part = |option, image| {
        let closure = ["--closure", "path-info:graph.json", "--store-root", "root"];
        [&["result", option, image][..], &closure].concat()
    };
    let end = ["-o", "x", "--creds", "me:secret", "--retry", "0"];
    for option in ["--from", "--keep-layers", "--share-layers"] {
        let (first, second) = (part(option, one), part(option, other));
        let args = [&["build"][..], &end, &first, &["--next"], &second].concat();
        let (code, _, told) = run(dir, &args);
        assert_eq!(code, 2, "{option}: {told}");
        let problem = "--creds are for one registry, and the images are of 127.0.0.1:1 and";
        assert!(told.contains(problem), "{option}: {told}");
    }
}

#[test]
fn a_base_that_a_lock_pins_has_its_layers_from_files() {
    let fixture = Fixture::new();
    let dir = fixture.0.path();
    build(&fixture, "linux/amd64", "oci:base", "app:1");
    let text = |name: &str| std::fs::read_to_string(dir.join("base").join(name)).unwrap();
    let blob = |digest: &Value| text(&digest.as_str().unwrap().replace("sha256:", "blobs/sha256/"));
    let index: Value = serde_json::from_str(&text("index.json")).unwrap();
    let entry = &index["manifests"][0];
    let manifest: Value = serde_json::from_str(&blob(&entry["digest"])).unwrap();
    let documents = [&entry["digest"], &manifest["config"]["digest"]];
    let mut layers = manifest["layers"].clone();
    for layer in layers.as_array_mut().unwrap() {
        layer["from"] = json!(["h.invalid/app"]);
    }
    let lock = json!({
        "version": 1,
        "images": [{
            "name": "h.invalid/app:1", "resolved": entry["digest"], "digest": entry["digest"],
            "mediaType": entry["mediaType"],
        }],
        "documents": documents.map(|digest| json!({"digest": digest, "text": blob(digest)})),
        "blobs": layers,
    });
    std::fs::write(dir.join("lock.json"), lock.to_string()).unwrap();
    let options = ["result", "-q", "-o", "oci:out", "--from", "lock.json"];
    let (code, _, told) = fixture.run("build", &[&options[..], &["--blob", "base"]].concat());
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_base_may_claim_layers_of_any_size() {
    let fixture = Fixture::new();
    let dir = fixture.0.path();
    build(&fixture, "linux/amd64", "oci:base", "app:1");
    let path = |digest: &str| dir.join(digest.replace("sha256:", "base/blobs/sha256/"));
    let index = std::fs::read(dir.join("base/index.json")).unwrap();
    let mut index: Value = serde_json::from_slice(&index).unwrap();
    let entry = &mut index["manifests"][0];
    let manifest = std::fs::read(path(entry["digest"].as_str().unwrap())).unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["size"] = json!(u64::MAX);
    }
    assert!(manifest["layers"].as_array().unwrap().len() > 1);
    let manifest = manifest.to_string();
    let digest = Digest::of(manifest.as_bytes()).to_string();
    std::fs::write(path(&digest), &manifest).unwrap();
    entry["digest"] = json!(digest);
    entry["size"] = json!(manifest.len());
    std::fs::write(dir.join("base/index.json"), index.to_string()).unwrap();
    for verb in ["resolve", "plan"] {
        let out: &[&str] = if verb == "plan" {
            &["--json"]
        } else {
            &["-o", "out"]
        };
        let args = [&["result", "--from", "oci:base"], out].concat();
        let (code, _, told) = fixture.run(verb, &args);
        assert_eq!(code, 0, "{verb}: {told}");
    }
    let args = ["copy", "oci:base", "-o", "x"];
    let (code, _, told) = run(dir, &args);
    assert_eq!(code, 5, "{told}");
    assert!(!told.contains("panicked"), "{told}");
}

/// What a recipe says is made where it goes, byte for byte, alone or all images
/// of an index.
#[test]
fn a_recipe_is_copied_as_what_a_build_writes() {
    let fixture = Fixture::new();
    let dir = fixture.0.path();
    let closure = ["--closure", "path-info:graph.json"];
    let image = [&["result"], &closure[..], &["--store-root", "root"]].concat();
    let several = |verb: &'static str, output: &'static str| {
        let first = [
            "--platform",
            "linux/amd64",
            "--name",
            "app:1",
            "-q",
            "-o",
            output,
        ];
        let second = ["--platform", "linux/arm64"];
        let all = [
            &[verb],
            &image[..],
            &first,
            &["--next"],
            &image[..],
            &second,
        ]
        .concat();
        let (code, _, told) = run(dir, &all);
        assert_eq!(code, 0, "{told}");
    };
    let one = |verb: &'static str, output: &'static str| {
        let options = [
            "--platform",
            "linux/amd64",
            "--name",
            "app:1",
            "-q",
            "-o",
            output,
        ];
        let (code, _, told) = run(dir, &[&[verb], &image[..], &options[..]].concat());
        assert_eq!(code, 0, "{told}");
    };
    one("build", "one.tar");
    one("resolve", "one.json");
    several("build", "two.tar");
    several("resolve", "two.json");
    let read = |file: &str| std::fs::read(dir.join(file)).unwrap();
    for name in ["one", "two"] {
        let (recipe, copied) = (format!("{name}.json"), format!("{name}-copied.tar"));
        let (code, digest, told) = run(
            dir,
            &["copy", &recipe, "-o", &copied, "--store-root", "root", "-q"],
        );
        assert_eq!((code, &*told), (0, ""), "{name}");
        assert!(digest.trim().parse::<Digest>().is_ok(), "{digest}");
        assert_eq!(read(&copied), read(&format!("{name}.tar")), "{name}");
    }
    // One of an index, under the index's name.
    let chosen = [
        "copy",
        "two.json",
        "-o",
        "chosen.tar",
        "--store-root",
        "root",
    ];
    let (code, ..) = run(dir, &[&chosen[..], &["--platform", "linux/amd64"]].concat());
    assert_eq!(code, 0);
    assert_eq!(read("chosen.tar"), read("one.tar"));

    for (args, code, problem) in [
        (
            &["copy", "one.json", "one.tar", "-o", "x.tar"][..],
            2,
            "one.json is a recipe, whose image is copied alone",
        ),
        (
            &["copy", "one.tar", "-o", "x.tar", "--from", "two.tar"],
            2,
            "--from is for a recipe",
        ),
        (
            &["copy", "two.json", "-o", "x.tar", "--platform", "linux/386"],
            3,
            "has no image for linux/386, only for linux/amd64, linux/arm64",
        ),
        (
            &["build", "one.json", "-o", "x.tar"],
            3,
            "one.json is a recipe, and no store path",
        ),
        (&["check", "one.json"], 3, "a recipe, which has no layers"),
        (
            &["inspect", "two.json"],
            3,
            "several platforms: say --platform",
        ),
    ] {
        let (found, stdout, stderr) = run(dir, args);
        assert_eq!((found, &*stdout), (code, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(problem), "{args:?}: {stderr}");
        assert!(!dir.join("x.tar").exists(), "{args:?}");
    }
}

#[test]
fn a_recipe_is_inspected_as_its_image() {
    let fixture = Fixture::new();
    let dir = fixture.0.path();
    build(&fixture, "linux/amd64", "one.tar", "app:1");
    let options = ["--closure", "path-info:graph.json", "--store-root", "root"];
    let names = ["--platform", "linux/amd64", "--name", "app:1"];
    let resolve = [
        &["resolve", "result", "-q", "-o", "one.json"],
        &options[..],
        &names[..],
    ];
    assert_eq!(run(dir, &resolve.concat()).0, 0);
    let inspect = |file: &str| -> Value {
        let (code, stdout, told) = run(dir, &["inspect", file, "--json"]);
        assert_eq!(code, 0, "{told}");
        serde_json::from_str(&stdout).unwrap()
    };
    let (mut image, mut recipe) = (inspect("one.tar"), inspect("one.json"));
    assert_eq!(recipe["uncompressedSize"], Value::Null);
    let layers = recipe["layers"].as_array().unwrap();
    assert!(
        layers
            .iter()
            .all(|layer| !layer["paths"].as_array().unwrap().is_empty())
    );
    // Nobody read the layers, and the whole names are the recipe's alone.
    for summary in [&mut image, &mut recipe] {
        let summary = summary.as_object_mut().unwrap();
        summary.remove("image");
        // A layout also has the tag.
        summary.remove("names");
        summary.remove("uncompressedSize");
        for layer in summary["layers"].as_array_mut().unwrap() {
            let layer = layer.as_object_mut().unwrap();
            layer.remove("contents");
            layer.remove("paths");
        }
    }
    assert_eq!(image, recipe);
}
