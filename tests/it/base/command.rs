//! `--from`, with real loaders and a real registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::command::{nix2oci, repository, run};
use nix2oci_tests::docker_registry::{DockerAuth, DockerOptions, PASSWORD, USER};
use nix2oci_tests::handmade_image::{
    Codec, Entry, Files, HandmadeImage, compress, digest, in_dir, in_file, nested,
};
use nix2oci_tests::image_files::{config, manifest};
use nix2oci_tests::{DockerRegistry, FakeRegistry, Isolated};
use serde_json::{Value, json};

use super::push::put;
use super::{dir, file, handmade, link};
use crate::loaders::{NAME, arguments, is_without};
use crate::push_command::{Push, Workload, docker};

/// Where the base's program finds what it prints: as long a path as that of the
/// closure's greeting, so that the program need not be made anew.
const GREETING: &str = "/usr/share/the-greeting-of-the-base-image/hi.txt";

/// A distribution whose `/bin` is `usr/bin`, with a program of its own.
pub(super) fn distribution(codec: Codec) -> HandmadeImage {
    let store = repository().join("fixtures/closure/root/nix/store");
    let hello = "faihssnrlainyricrls9m9pzlbpxgvik-hello-1.0/bin/hello";
    let greeting = "/nix/store/7an6g0h61d983jshla9kdqp0wmyjga6g-greeting.txt";
    let mut program = fs::read(store.join(hello)).unwrap();
    let padded = format!("{}{GREETING}", "/".repeat(greeting.len() - GREETING.len()));
    let places: Vec<usize> = program
        .windows(greeting.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == greeting.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        program[at..at + greeting.len()].copy_from_slice(padded.as_bytes());
    }
    let bottom = [
        dir("usr"),
        dir("usr/bin"),
        link("bin", "usr/bin"),
        Entry::File("usr/bin/of-the-base".to_owned(), program),
    ];
    let top = [
        dir("usr"),
        dir("usr/share"),
        dir("usr/share/the-greeting-of-the-base-image"),
        Entry::File(GREETING[1..].to_owned(), b"Hello from the base.\n".to_vec()),
        file("usr/share/.wh.nothing"),
    ];
    let mut image = handmade(&[&bottom, &top], codec);
    image.config = |config| {
        config["config"] = json!({"Cmd": ["/bin/of-the-base"], "Env": ["PATH=/bin"]});
    };
    image
}

pub(super) fn build(arguments: &[String], more: &[&str], output: &Path) -> PathBuf {
    let to = format!("archive:{}", output.display());
    run(Command::new(nix2oci())
        .args(arguments)
        .args(more)
        .args(["-o", &to]));
    output.to_owned()
}

/// The arguments that build the fixture's image, without what is started.
pub(super) fn without_entrypoint() -> Vec<String> {
    let mut arguments = arguments("gzip:6");
    let at = arguments.iter().position(|a| a == "--entrypoint").unwrap();
    arguments.drain(at..at + 2);
    arguments
}

fn app(arguments: &[String]) -> &str {
    &arguments[1]
}

#[test]
fn podman_runs_the_base_s_program_and_ours() {
    if is_without("podman") {
        return;
    }
    let arguments = without_entrypoint();
    let forms: [(&str, Files, Codec); 3] = [
        (
            "docker save",
            distribution(Codec::None).docker(),
            Codec::Zstd,
        ),
        ("gzip", distribution(Codec::None).docker(), Codec::Gzip),
        ("oci", distribution(Codec::Gzip).layout(), Codec::None),
    ];
    for (what, files, codec) in forms {
        let base = in_file(&compress(codec, &files.archive()));
        let folder = tempfile::tempdir().unwrap();
        let from = base.path.display().to_string();
        let more = ["--from", &from, "--contents", app(&arguments)];
        let archive = build(&arguments, &more, &folder.path().join("image.tar"));
        let variables = [("archive", archive.to_str().unwrap()), ("name", NAME)];
        let printed = Isolated::podman().run(
            folder.path(),
            &variables,
            "podman load --quiet --input \"$archive\" >&2
             podman run --rm --pull never \"$name\"
             podman run --rm --pull never \"$name\" of-the-base
             podman run --rm --pull never \"$name\" app a
             podman run --rm --pull never \"$name\" /usr/bin/app b",
        );
        let expected = "Hello from the base.\nHello from the base.\n\
                        Hello from a Nix closure.\na\nHello from a Nix closure.\nb\n";
        assert_eq!(printed, expected, "{what}");
    }
}

/// Twenty layers and more, one of them twice, with a whiteout between the two and
/// others, out of a compressed archive of `docker save` whose config has more than
/// anybody knows.
#[test]
fn podman_has_what_many_layers_of_a_base_leave() {
    if is_without("podman") {
        return;
    }
    let files: Vec<Vec<Entry>> = (0..20)
        .map(|n| vec![dir("files"), file(&format!("files/f{n}"))])
        .collect();
    let of_image = distribution(Codec::None);
    let mut layers: Vec<&[Entry]> = files.iter().map(Vec::as_slice).collect();
    let gone = [file("files/.wh.f3"), file("files/.wh.f4")];
    let below = [dir("other"), file("other/below")];
    let opaque = [
        dir("other"),
        file("other/.wh..wh..opq"),
        file("other/above"),
    ];
    layers.extend([&gone[..], &below, &opaque, &files[3]]);
    let mut image = handmade(&layers, Codec::None);
    image.layers.splice(0..0, of_image.layers);
    image.config = |config| {
        config["config"] = json!({"Cmd": ["/bin/of-the-base"], "Env": ["PATH=/bin"], "Own": 1});
        config["x-unknown"] = json!({"a": [null, 1]});
    };
    let base = in_file(&compress(Codec::Gzip, &image.docker().archive()));
    let folder = tempfile::tempdir().unwrap();
    let from = base.path.display().to_string();
    let arguments = without_entrypoint();
    let more = ["--from", &from, "--contents", app(&arguments)];
    let archive = build(&arguments, &more, &folder.path().join("image.tar"));
    let config = config(&archive);
    assert_eq!(config["x-unknown"], json!({"a": [null, 1]}));
    assert_eq!(config["config"]["Own"], 1);
    let manifest = manifest(&archive);
    let digests: Vec<&Value> = manifest["layers"].as_array().unwrap().iter().collect();
    assert_eq!(
        digests[2 + 3]["digest"],
        digests[2 + 23]["digest"],
        "one layer is twice there"
    );

    let variables = [("archive", archive.to_str().unwrap()), ("name", NAME)];
    let printed = Isolated::podman().run(
        folder.path(),
        &variables,
        "podman load --quiet --input \"$archive\" >&2
         podman run --rm --pull never \"$name\"
         podman run --rm --pull never \"$name\" app a
         podman create --name files --pull never \"$name\" >&2
         podman export files | tar --list | grep -E '^(files|other)/.' | sort --version-sort",
    );
    let mut expected = "Hello from the base.\nHello from a Nix closure.\na\n".to_owned();
    for n in (0..20).filter(|n| *n != 4) {
        expected.push_str(&format!("files/f{n}\n"));
    }
    expected.push_str("other/above\n");
    assert_eq!(printed, expected);
}

#[test]
fn the_base_says_what_is_not_said() {
    let arm64 = HandmadeImage {
        architecture: "arm64",
        ..distribution(Codec::Gzip)
    };
    let base = in_dir(&arm64.layout());
    let from = base.path.display().to_string();
    let mut arguments = without_entrypoint();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("image.tar");
    let refused = Push::verb("build");
    let to = format!("archive:{}", output.display());
    let refused = refused
        .args(
            &arguments[1..]
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        )
        .args(&["--from", &from, "-o", &to]);
    refused.fail(3, &["holds no image for linux/amd64; it holds linux/arm64"]);
    let refused = Push::verb("build");
    let refused = refused
        .args(
            &arguments[1..]
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        )
        .args(&["--from", &from, "--from-platform", "linux/arm64", "-o", &to]);
    refused.fail(3, &["is for linux/arm64, and the image is for linux/amd64"]);
    assert!(!output.exists());
    let at = arguments.iter().position(|a| a == "--platform").unwrap();
    arguments.drain(at..at + 2);
    for (more, run_config) in [
        (
            &[][..],
            json!({"Cmd": ["/bin/of-the-base"], "Env": ["PATH=/bin"]}),
        ),
        (
            &["--entrypoint", "/x", "--env", "A=1"],
            json!({"Entrypoint": ["/x"], "Env": ["PATH=/bin", "A=1"]}),
        ),
        (&["--cmd", ""], json!({"Env": ["PATH=/bin"]})),
        (&["--entrypoint", ""], json!({"Env": ["PATH=/bin"]})),
    ] {
        let more = [&["--from", &from], more].concat();
        let image = build(&arguments, &more, &output);
        let config = config(&image);
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["config"], run_config, "{more:?}");
    }
    // Of several platforms the one that is named.
    let both = in_dir(&nested(&[distribution(Codec::Gzip), arm64]));
    let from = both.path.display().to_string();
    for platform in ["linux/arm64", "linux/amd64"] {
        let more = ["--from", &from, "--from-platform", platform];
        let image = build(&arguments, &more, &output);
        assert_eq!(config(&image)["architecture"], &platform["linux/".len()..]);
    }
}

#[test]
fn a_plan_and_reports_show_the_base() {
    let base = in_dir(&distribution(Codec::Gzip).layout());
    let from = base.path.display().to_string();
    let arguments = without_entrypoint();
    let plan = |more: &[&str]| {
        let mut command = Command::new(nix2oci());
        command.arg("plan").args(&arguments[1..]);
        run(command.args(["--from", &from]).args(more))
    };
    let text = plan(&[]);
    assert!(text.contains("8 layers of at most 100"), "{text}");
    assert!(text.contains("2 layers of them the base's"), "{text}");
    assert_eq!(text.matches(&format!("of the base {from}")).count(), 2);
    let json: Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    let layers = json["layers"].as_array().unwrap();
    let of_base: Vec<bool> = layers.iter().map(|l| l["base"] == true).collect();
    assert_eq!(
        of_base,
        [true, true, false, false, false, false, false, false]
    );
    assert_eq!(layers[0]["reason"], "of the base image");
    assert_eq!(json["totals"]["layers"], 8);
    // Each of them is told apart, in all three.
    let page = tempfile::tempdir().unwrap();
    let page = page.path().join("plan.html");
    plan(&["--html", page.to_str().unwrap()]);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("8, bottom first; sizes are bytes before compression, of the base’s"));
    for (told, layer) in layers
        .iter()
        .zip(manifest(&base.path)["layers"].as_array().unwrap())
    {
        assert_eq!(
            (&told["digest"], &told["size"]),
            (&layer["digest"], &layer["size"])
        );
        let short = &layer["digest"].as_str().unwrap()[..19];
        assert!(text.contains(&format!("compressed, {short}\n")), "{text}");
        assert!(
            page.contains(&format!("compressed, {short}</td>")),
            "{page}"
        );
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metadata.json");
    let more = ["--from", &from, "--metadata-file", file.to_str().unwrap()];
    let image = build(&arguments, &more, &folder.path().join("image.tar"));
    let json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let digests = |layers: &Value| -> Vec<Value> {
        let layers = layers.as_array().unwrap().iter();
        layers.map(|layer| layer["digest"].clone()).collect()
    };
    assert_eq!(
        digests(&json["layers"]),
        digests(&manifest(&image)["layers"])
    );
    let checked = run(Command::new(nix2oci()).arg("check").arg(&image));
    assert_eq!(checked, "ok\n");
}

/// A base that only its own team may read, by tag and by digest; `--creds` are
/// for the registry of the base where nothing is pushed.
#[test]
fn a_base_of_a_registry_that_asks_who_is_there() {
    let registry = DockerRegistry::start_with(DockerOptions {
        auth: DockerAuth::Htpasswd,
        ..DockerOptions::default()
    });
    let host = registry.localhost();
    let creds = format!("{USER}:{PASSWORD}");
    let base = in_dir(&distribution(Codec::Gzip).layout());
    let from = base.path.display().to_string();
    let pinned = Push::of(&[
        &from,
        &docker(&format!("{host}/team/base:1")),
        "--creds",
        &creds,
    ])
    .succeed();
    let pinned = pinned.trim_end();
    let workload = Workload::small();
    let by_tag = format!("{host}/team/base:1");
    let folder = tempfile::tempdir().unwrap();
    for (n, name) in [by_tag.as_str(), pinned].into_iter().enumerate() {
        let output = folder.path().join(format!("{n}.tar"));
        let from = docker(name);
        let build = || {
            let mut build = Push::verb("build");
            build.command.args(workload.image(1));
            let to = format!("archive:{}", output.display());
            build.args(&["--from", &from, "-o", &to])
        };
        build().fail(6, &["401"]);
        build().args(&["--creds", &creds]).succeed();
        let annotations = manifest(&output)["annotations"].clone();
        assert_eq!(annotations["org.opencontainers.image.base.name"], name);
        let digest = &annotations["org.opencontainers.image.base.digest"];
        assert!(pinned.ends_with(digest.as_str().unwrap()));
    }

    // In the same registry it is mounted.
    let base = distribution(Codec::Gzip).layers;
    let gets = || -> usize {
        let digests = base.iter().map(|layer| digest(&layer.blob));
        digests.map(|digest| registry.count("GET", &digest)).sum()
    };
    let gets_before = gets();
    assert_ne!(gets_before, 0);
    let push = workload.push(1, &format!("{host}/team/app:1"));
    let push = push.args(&["--from", &docker(&by_tag), "--creds", &creds]);
    push.succeed();
    registry.assert_whole("team/app", "1");
    assert_eq!(registry.count("POST", "from=team%2Fbase"), base.len());
    assert_eq!(gets(), gets_before);

    let recipe = folder.path().join("app.json");
    let mut resolve = Push::verb("resolve");
    resolve.command.args(workload.image(1));
    let recipe = recipe.to_str().unwrap();
    let arguments = ["--from", &docker(&by_tag), "--creds", &creds, "-o", recipe];
    resolve.args(&arguments).succeed();
    let root = workload.store_root().display().to_string();
    let push = Push::of(&[recipe, &docker(&format!("{host}/team/other:1"))]);
    push.args(&["--creds", &creds, "--store-root", &root])
        .succeed();
    registry.assert_whole("team/other", "1");
}

/// A lock names the registry that has the base's layers.
#[test]
fn a_lock_is_a_base() {
    let registry = FakeRegistry::start();
    put(&registry, "base:1");
    let place = tempfile::tempdir().unwrap();
    let name = format!("docker://{}/base:1", registry.host());
    let lock = place.path().join("base.lock.json");
    run(Command::new(nix2oci())
        .args(["lock", &name, "--plain-http", "-o"])
        .arg(&lock));
    let arguments = without_entrypoint();
    let mut layers = Vec::new();
    for from in [&name, lock.to_str().unwrap()] {
        let more = ["--from", from, "--plain-http"];
        let layout = place.path().join(format!("{}", layers.len()));
        let to = format!("oci:{}", layout.display());
        run(Command::new(nix2oci())
            .args(&arguments)
            .args(more)
            .args(["-o", &to]));
        layers.push(manifest(&layout)["layers"].clone());
    }
    assert_eq!(layers[0], layers[1]);
}
