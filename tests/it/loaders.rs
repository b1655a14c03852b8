//! Images of the fixture's closure in the hands of the programs that they are
//! for: each takes them by their name, makes the store of them entry by entry,
//! and runs the program, which prints what it prints outside.
//!
//! A loader that cannot be started fails its tests, unless `$NIX2OCI_WITHOUT`
//! names it (`podman,containerd,docker`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix2oci::image::ImageTable;
use nix2oci_tests::command::{nix2oci, repository, run};
use nix2oci_tests::handmade_closure::{graph, store_path};
use nix2oci_tests::image_files::{blob, config, manifest, manifest_digest, read_json, text};
use nix2oci_tests::{Isolated, Tree};
use serde_json::json;

/// A name as users give it, and as loaders know it.
pub(crate) const NAME: &str = "hello:v1";
pub(crate) const FULL_NAME: &str = "docker.io/library/hello:v1";

const CODECS: [&str; 3] = ["none", "gzip:6", "zstd:3"];

fn store_paths() -> Vec<String> {
    let paths = fs::read_to_string(repository().join("fixtures/closure/paths")).unwrap();
    paths.lines().map(str::to_owned).collect()
}

fn app() -> String {
    let paths = store_paths();
    let app = paths.iter().find(|path| path.ends_with("-app-1.0"));
    app.unwrap().clone()
}

/// Returns the arguments that build the fixture's image.
pub(crate) fn arguments(codec: &str) -> Vec<String> {
    let fixture = repository().join("fixtures/closure");
    let app = app();
    [
        "build",
        &app,
        "--closure",
        &format!("registration:{}", fixture.join("registration").display()),
        "--store-root",
        &fixture.join("root").display().to_string(),
        "--name",
        NAME,
        "--platform",
        "linux/amd64",
        "--entrypoint",
        &format!("{app}/bin/app"),
        // A layer for each path, however small.
        "--layers",
        "largest",
        "--compression",
        codec,
        "--progress",
        "none",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Builds the fixture's image.
pub(crate) fn image(folder: &Path, codec: &str, kind: &str) -> PathBuf {
    let path = folder.join(format!("{kind}-{}", codec.replace(':', "-")));
    run(Command::new(nix2oci())
        .args(arguments(codec))
        .arg("-o")
        .arg(format!("{kind}:{}", path.display())));
    path
}

/// Returns the root file system that the image must have.
fn expected_root() -> Tree {
    let paths = store_paths();
    Tree::of_store(
        &repository().join("fixtures/closure/root"),
        paths.iter().map(String::as_str),
    )
}

/// Asserts that a tar of a root file system is the store and no more.
#[track_caller]
pub(crate) fn assert_is_store(tar: &[u8], what: &str) {
    let (mut found, mut expected) = (Tree::of_tar(tar), expected_root());
    // Loaders put the root's own time where they like.
    for tree in [&mut found, &mut expected] {
        tree.0.get_mut(&b""[..]).expect("a root").mtime = 0;
    }
    found.assert_is(&expected, what);
}

/// Returns what the program prints with the arguments `a` and `b c`, run in the
/// store and not from an image.
pub(crate) fn printed_outside() -> &'static str {
    static PRINTED: OnceLock<String> = OnceLock::new();
    PRINTED.get_or_init(|| {
        let root = repository().join("fixtures/closure/root");
        let folder = tempfile::tempdir().unwrap();
        let printed = Isolated::plain().run(
            folder.path(),
            &[("root", root.to_str().unwrap()), ("app", &app())],
            "chroot \"$root\" \"$app/bin/app\" a 'b c'",
        );
        assert_eq!(printed, "Hello from a Nix closure.\na\nb c\n");
        printed
    })
}

/// Returns whether this environment is said to lack a loader.
pub(crate) fn is_without(loader: &str) -> bool {
    let without = std::env::var("NIX2OCI_WITHOUT").unwrap_or_default();
    let without = without.split(',').any(|name| name == loader);
    if without {
        eprintln!("NOT TESTED: NIX2OCI_WITHOUT names {loader}");
    }
    without
}

#[test]
fn skopeo_copies_with_the_same_digests() {
    for codec in CODECS {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let archive = image(dir, codec, "archive");
        let layout = image(dir, codec, "oci");
        let digest = manifest_digest(&archive);
        assert_eq!(manifest_digest(&layout), digest, "{codec}");
        let raw_manifest = blob(&archive, &json!({ "digest": digest }));
        let manifest = manifest(&archive);

        for (number, from) in [
            format!("oci-archive:{}", archive.display()),
            format!("oci:{}:v1", layout.display()),
            format!("docker-archive:{}:{NAME}", archive.display()),
        ]
        .iter()
        .enumerate()
        {
            let to = dir.join(format!("copy-{number}"));
            let to = to.to_str().unwrap();
            let preserve = if from.starts_with("docker") {
                ""
            } else {
                "--preserve-digests"
            };
            let variables = [("from", from.as_str()), ("to", to), ("preserve", preserve)];
            let inspected = Isolated::plain().run(
                dir,
                &variables,
                "skopeo --insecure-policy copy --quiet $preserve \"$from\" \"dir:$to\"
                 skopeo inspect --config --raw \"dir:$to\"",
            );
            let raw_config = blob(&archive, &manifest["config"]);
            assert_eq!(inspected.as_bytes(), raw_config, "{from}");
            if preserve.is_empty() {
                continue;
            }
            let copied = fs::read(format!("{to}/manifest.json")).unwrap();
            assert_eq!(copied, raw_manifest, "{from}");
            for layer in manifest["layers"].as_array().unwrap() {
                let name = text(&layer["digest"]).replace("sha256:", "");
                let copied = fs::read(format!("{to}/{name}")).unwrap();
                assert_eq!(copied, blob(&archive, layer), "{from}: {name}");
            }
            let inspected = Isolated::plain().run(dir, &variables, "skopeo inspect \"$from\"");
            let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
            assert_eq!(inspected["Digest"], json!(digest), "{from}");
            assert_eq!(inspected["Architecture"], "amd64", "{from}");
        }
    }
}

/// umoci before 0.5 knows no zstd.
#[test]
fn umoci_unpacks_the_store() {
    for codec in ["none", "gzip:6"] {
        let dir = tempfile::tempdir().unwrap();
        let layout = image(dir.path(), codec, "oci");
        let tar = Isolated::plain()
            .output(
                dir.path(),
                &[("layout", layout.to_str().unwrap())],
                "umoci unpack --image \"$layout:v1\" \"$state/bundle\" >&2
                 tar --create --numeric-owner --directory \"$state/bundle/rootfs\" .",
            )
            .unwrap();
        assert_is_store(&tar, &format!("umoci, {codec}"));
    }
}

#[test]
fn podman_loads_and_runs() {
    if is_without("podman") {
        return;
    }
    for codec in CODECS {
        let dir = tempfile::tempdir().unwrap();
        let archive = image(dir.path(), codec, "archive");
        let variables = [("archive", archive.to_str().unwrap()), ("name", NAME)];
        let printed = Isolated::podman().run(
            dir.path(),
            &variables,
            "podman load --quiet --input \"$archive\"
             podman images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'
             podman run --rm --pull never \"$name\" a 'b c'
             tar --create --numeric-owner --file root.tar --directory \"$(podman image mount \"$name\")\" .",
        );
        let id = text(&manifest(&archive)["config"]["digest"]).to_owned();
        let expected = format!(
            "Loaded image: {FULL_NAME}\n{FULL_NAME} {id}\n{}",
            printed_outside()
        );
        assert_eq!(printed, expected, "{codec}");
        let tar = fs::read(dir.path().join("root.tar")).unwrap();
        assert_is_store(&tar, &format!("podman, {codec}"));
    }
}

#[test]
fn containerd_imports_and_runs() {
    if is_without("containerd") {
        return;
    }
    for codec in CODECS {
        let dir = tempfile::tempdir().unwrap();
        let archive = image(dir.path(), codec, "archive");
        let variables = [("archive", archive.to_str().unwrap()), ("name", FULL_NAME)];
        let app = app();
        let printed = Isolated::containerd().run(
            dir.path(),
            &[&variables[..], &[("app", app.as_str())]].concat(),
            "ctr images import \"$archive\" >&2
             ctr images list | awk 'NR > 1 { print $1, $3 }'
             ctr run --rm \"$name\" test \"$app/bin/app\" a 'b c'
             mkdir \"$state/mounted\"
             ctr images mount \"$name\" \"$state/mounted\" >&2
             tar --create --numeric-owner --file root.tar --directory \"$state/mounted\" .",
        );
        let digest = manifest_digest(&archive);
        let expected = format!("{FULL_NAME} {digest}\n{}", printed_outside());
        assert_eq!(printed, expected, "{codec}");
        let tar = fs::read(dir.path().join("root.tar")).unwrap();
        assert_is_store(&tar, &format!("containerd, {codec}"));
    }
}

/// Docker 20.10 knows no zstd.
#[test]
fn docker_loads_and_runs() {
    if is_without("docker") {
        return;
    }
    for codec in ["none", "gzip:6"] {
        let dir = tempfile::tempdir().unwrap();
        let archive = image(dir.path(), codec, "archive");
        let variables = [("archive", archive.to_str().unwrap()), ("name", NAME)];
        let printed = Isolated::docker().run(
            dir.path(),
            &variables,
            "docker load --quiet --input \"$archive\"
             docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'
             docker run --rm \"$name\" a 'b c'
             docker export \"$(docker create \"$name\")\" > root.tar",
        );
        let id = text(&manifest(&archive)["config"]["digest"]).to_owned();
        let expected = format!("Loaded image: {NAME}\n{NAME} {id}\n{}", printed_outside());
        assert_eq!(printed, expected, "{codec}");
        let tar = fs::read(dir.path().join("root.tar")).unwrap();
        // A container has more at its root, such as /etc/hosts.
        Tree::of_tar(tar.as_slice())
            .below("nix")
            .assert_is(&expected_root().below("nix"), &format!("docker, {codec}"));
    }
}

#[test]
fn loaders_read_the_archive_from_a_pipe() {
    let build: String = arguments("gzip:6")
        .iter()
        .map(|argument| format!(" '{argument}'"))
        .collect();
    let variables = [("nix2oci", nix2oci().to_str().unwrap())];
    for (loader, isolated, load, list) in [
        (
            "podman",
            Isolated::podman(),
            "podman load --quiet",
            "podman images --format '{{.Repository}}:{{.Tag}}'",
        ),
        (
            "containerd",
            Isolated::containerd(),
            "ctr images import -",
            "ctr images list --quiet",
        ),
        (
            "docker",
            Isolated::docker(),
            "docker load --quiet",
            "docker images --format 'docker.io/library/{{.Repository}}:{{.Tag}}'",
        ),
    ] {
        if is_without(loader) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let printed = isolated.run(
            dir.path(),
            &variables,
            &format!("\"$nix2oci\"{build} -o - | {load} >&2\n{list}"),
        );
        assert_eq!(printed, format!("{FULL_NAME}\n"), "{loader}");
    }
}

/// The manifest names the store paths of all layers; of a large closure that is
/// much text in one annotation.
#[test]
fn loaders_read_a_manifest_that_names_a_thousand_store_paths() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let archive = dir.join("image.tar");
    let paths = thousand_paths(dir);
    run(Command::new(nix2oci())
        .args(["build", &paths[0], "--platform", "linux/amd64"])
        .args(["--name", NAME, "--max-layers", "2", "--progress", "none"])
        .arg("--closure")
        .arg(format!("graph:{}", dir.join("graph").display()))
        .arg("--store-root")
        .arg(dir)
        .arg("-o")
        .arg(&archive));
    let manifest = manifest(&archive);
    let table = ImageTable::read(&serde_json::from_value(manifest).unwrap()).unwrap();
    assert_eq!(table.layers.len(), 2);
    let told = table.layers.iter().flat_map(|layer| &layer.paths);
    let mut named: Vec<String> = told.map(|told| told.path.to_string()).collect();
    // Of so many the hashes are cut.
    let cut = |path: &String| format!("{}…{}", &path[11..19], &path[43..]);
    let mut expected: Vec<String> = paths.iter().map(cut).collect();
    named.sort();
    expected.sort();
    assert_eq!(named, expected);

    let variables = [("archive", archive.to_str().unwrap())];
    let skopeo =
        "skopeo --insecure-policy copy --quiet --preserve-digests oci-archive:$archive dir:copy
                  cat copy/manifest.json";
    let podman = "podman load --quiet --input $archive >&2
                  podman images --format '{{.Repository}}'";
    let containerd = "ctr images import $archive >&2
                      ctr images list --quiet";
    let docker = "docker load --quiet --input $archive";
    let raw = blob(&archive, &json!({ "digest": manifest_digest(&archive) }));
    let raw = String::from_utf8(raw).unwrap();
    for (loader, isolated, script, printed) in [
        ("skopeo", Isolated::plain(), skopeo, raw.as_str()),
        (
            "podman",
            Isolated::podman(),
            podman,
            "docker.io/library/hello",
        ),
        ("containerd", Isolated::containerd(), containerd, FULL_NAME),
        (
            "docker",
            Isolated::docker(),
            docker,
            "Loaded image: hello:v1",
        ),
    ] {
        if !is_without(loader) {
            let found = isolated.run(dir, &variables, script);
            assert_eq!(found.trim_end(), printed, "{loader}");
        }
    }
}

/// Makes a store with 1100 paths, each a file, below `dir`, and a text graph
/// of them. The first refers to all.
fn thousand_paths(dir: &Path) -> Vec<String> {
    let name = |n| format!("a-name-as-long-as-those-of-python-packages-with-their-versions-1.{n}");
    let paths: Vec<String> = (0..1100).map(|n| store_path(n, &name(n)).1).collect();
    fs::create_dir_all(dir.join("nix/store")).unwrap();
    let mut entries = Vec::new();
    for path in &paths {
        fs::write(dir.join(&path[1..]), path).unwrap();
        entries.push((path.clone(), Vec::new()));
    }
    entries[0].1 = paths[1..].to_vec();
    fs::write(dir.join("graph"), graph(&entries)).unwrap();
    paths
}

/// What the README's first command says works as it is printed.
#[test]
fn the_printed_commands_run_the_fixture_s_image() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("hello.tar");
    let told = run(Command::new(repository().join("fixtures/closure/image")).arg(&archive));
    for (loader, program, isolated, arguments) in [
        ("podman", "podman", Isolated::podman(), "some\narguments\n"),
        ("docker", "docker", Isolated::docker(), "some\narguments\n"),
        ("containerd", "ctr", Isolated::containerd(), ""),
    ] {
        if is_without(loader) {
            continue;
        }
        let command = told
            .lines()
            .find_map(|line| line.strip_prefix("    ").filter(|c| c.starts_with(program)))
            .unwrap_or_else(|| panic!("no command of {program} in {told}"));
        let printed = isolated.run(dir.path(), &[], command);
        let expected = format!("Hello from a Nix closure.\n{arguments}");
        assert!(printed.ends_with(&expected), "{command}: {printed}");
    }
}

/// The image's documents name it the way each loader looks for it.
#[test]
fn the_names_are_where_loaders_look() {
    let dir = tempfile::tempdir().unwrap();
    let archive = image(dir.path(), "gzip:6", "archive");
    let annotations = &read_json(&archive, "index.json")["manifests"][0]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], FULL_NAME);
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "v1");
    assert_eq!(
        read_json(&archive, "manifest.json")[0]["RepoTags"],
        json!([FULL_NAME])
    );
    let layers = config(&archive)["rootfs"]["diff_ids"].clone();
    assert_eq!(layers.as_array().unwrap().len(), 6);
}
