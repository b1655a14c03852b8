//! Images with a Nix database, in the hands of Nix.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::Isolated;
use nix2oci_tests::command::{nix2oci, output, repository, run, run_bytes};
use nix2oci_tests::handmade_image::{Codec, HandmadeImage, HandmadeLayer, in_file};
use nix2oci_tests::image_files::{layer_tars, manifest_digest};
use serde_json::Value;
use tempfile::TempDir;

use crate::loaders::is_without;

fn fixture(file: &str) -> String {
    let folder = repository().join("fixtures/closure");
    folder.join(file).display().to_string()
}

fn paths() -> Vec<String> {
    let paths = fs::read_to_string(fixture("paths")).unwrap();
    paths.lines().map(str::to_owned).collect()
}

fn path(name: &str) -> String {
    let paths = paths();
    let path = paths.iter().find(|path| path.ends_with(name));
    path.expect("the fixture has it").clone()
}

/// Builds an image of the application with a database.
fn build(dir: &Path, closure: &str, args: &[&str]) -> Result<PathBuf, String> {
    build_of("-app-1.0", &dir.join("image.tar"), closure, args)
}

fn build_of(root: &str, image: &Path, closure: &str, args: &[&str]) -> Result<PathBuf, String> {
    output(
        Command::new(nix2oci())
            .args(["build", &path(root), "--with-nix-db"])
            .args(["--store-root", &fixture("root"), "--closure", closure])
            .args(["--name", "app:1", "--platform", "linux/amd64"])
            .args(["--progress", "none", "--output"])
            .arg(image)
            .args(args),
    )?;
    Ok(image.to_owned())
}

/// Builds an image of the words with a database, and one of the greeting program,
/// which needs none of them, on it.
fn build_on_base(dir: &Path) -> PathBuf {
    let closure = format!("registration:{}", fixture("registration"));
    let (base, image) = (dir.join("base.tar"), dir.join("image.tar"));
    build_of("-settings-1.0", &base, &closure, &["--mtime", "@1000"]).unwrap();
    let from = ["--from", base.to_str().unwrap(), "--mtime", "@2000"];
    build_of("-hello-1.0", &image, &closure, &from).unwrap()
}

/// The store paths of an image on a base.
fn both() -> BTreeSet<String> {
    paths()
        .into_iter()
        .filter(|path| !path.ends_with("-app-1.0"))
        .collect()
}

/// Issue 5: the database of an image took the place of the base's.
#[test]
fn nix_knows_what_is_in_the_base_too() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::of(&build_on_base(dir.path()));
    root.says("nix-store", &["--verify", "--check-contents"]);
    let infos = root.says("nix", &["path-info", "--json", "--all"]);
    let infos: Vec<Value> = serde_json::from_str(&infos).unwrap();
    let time = |info: &Value| info["registrationTime"].as_u64().unwrap();
    let of = |wanted: u64| -> BTreeSet<String> {
        let infos = infos.iter().filter(|info| time(info) == wanted);
        let path = |info: &Value| info["path"].as_str().unwrap().to_owned();
        infos.map(path).collect()
    };
    let own = ["-greeting.txt", "-hello-1.0"].map(path);
    assert_eq!(of(2000), own.clone().into_iter().collect());
    assert_eq!(of(1000), &both() - &own.into_iter().collect());
    // Both images' roots are kept.
    root.says("nix-store", &["--gc"]);
    assert_eq!(
        lines(&root.says("nix-store", &["--gc", "--print-live"])),
        both()
    );
}

/// Nix in a container left paths of its own, and the log of its database.
#[test]
fn what_nix_registered_in_the_base_stays() {
    let dir = tempfile::tempdir().unwrap();
    let closure = format!("registration:{}", fixture("registration"));
    let first = dir.path().join("first.tar");
    build_of("-settings-1.0", &first, &closure, &[]).unwrap();
    let root = Root::of(&first);
    let added = root.says("nix-store", &["--add", "/etc/passwd"]);
    let tar = run_bytes(
        Command::new("tar")
            .args(["--create", "--file=-", "--directory"])
            .arg(root.path())
            .arg("nix"),
    );
    let base = HandmadeImage {
        layers: vec![HandmadeLayer::new(&tar, Codec::Gzip)],
        ..HandmadeImage::default()
    };
    let base = in_file(&base.docker().archive());
    let image = dir.path().join("image.tar");
    let from = ["--from", base.path.to_str().unwrap()];
    build_of("-hello-1.0", &image, &closure, &from).unwrap();
    let root = Root::of(&image);
    root.says("nix-store", &["--verify", "--check-contents"]);
    let info = root.says("nix", &["path-info", "--json", added.trim()]);
    let info: Value = serde_json::from_str(&info).unwrap();
    let address = info[0]["ca"].as_str().unwrap();
    assert!(address.starts_with("fixed:r:sha256:"), "{info}");
}

/// The root of a container, and Nix that takes it for its own.
struct Root(TempDir);

impl Root {
    fn of(image: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Self(dir);
        fs::create_dir(root.path()).unwrap();
        for tar in layer_tars(image) {
            let file = root.0.path().join("layer.tar");
            fs::write(&file, tar).unwrap();
            run(Command::new("tar")
                .args(["--extract", "--preserve-permissions", "--no-same-owner"])
                .arg("--file")
                .arg(&file)
                .arg("--directory")
                .arg(root.path()));
        }
        root
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn nix(&self, program: &str, args: &[&str]) -> Result<String, String> {
        output(
            Command::new(program)
                .args(args)
                .env("HOME", self.0.path())
                .env("NIX_CONF_DIR", self.0.path())
                .env("NIX_USER_CONF_FILES", "")
                .env(
                    "NIX_REMOTE",
                    format!("local?root={}", self.path().display()),
                )
                .env(
                    "NIX_CONFIG",
                    "build-users-group =\nsubstituters =\nexperimental-features = nix-command",
                ),
        )
    }

    #[track_caller]
    fn says(&self, program: &str, args: &[&str]) -> String {
        self.nix(program, args)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What is in a store is read-only, which stops everyone but root.
        let _ = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(self.path())
            .output();
    }
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_source_with_hashes_gives_the_same_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut digests = BTreeSet::new();
    for source in [
        "registration:registration",
        "registration:dump-db",
        "attrs:attrs.json#closure",
        "path-info:path-info.json",
    ] {
        let (kind, file) = source.split_once(':').unwrap();
        let closure = format!("{kind}:{}", fixture(file));
        let image = build(dir.path(), &closure, &[]).unwrap();
        digests.insert(manifest_digest(&image));
    }
    assert_eq!(digests.len(), 1, "{digests:?}");
    let error = build(dir.path(), &format!("graph:{}", fixture("graph")), &[]).unwrap_err();
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("its NAR hash is not known"), "{error}");
    assert!(error.contains("--with-nix-db needs NAR hashes"), "{error}");
}

#[test]
fn nix_takes_the_root_for_a_store_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let closure = format!("registration:{}", fixture("registration"));
    let image = build(dir.path(), &closure, &["--mtime", "@1000"]).unwrap();
    let root = Root::of(&image);
    let app = path("-app-1.0");

    root.says("nix-store", &["--verify", "--check-contents"]);
    let all = lines(&root.says("nix-store", &["--query", "--requisites", &app]));
    assert_eq!(all, paths().into_iter().collect());
    let dumped = root.says("nix-store", &["--dump-db"]);
    let expected = fs::read_to_string(fixture("dump-db")).unwrap();
    // Derivers are in no image.
    let without_derivers = |text: &str| -> String {
        let lines = text.lines().map(|line| match line.ends_with(".drv") {
            true => "",
            false => line,
        });
        lines.map(|line| format!("{line}\n")).collect()
    };
    assert_eq!(dumped, without_derivers(&expected));

    let infos = root.says("nix", &["path-info", "--json", "--recursive", &app]);
    let infos: Vec<Value> = serde_json::from_str(&infos).unwrap();
    assert_eq!(infos.len(), paths().len());
    for info in &infos {
        assert_eq!(info["registrationTime"], 1000, "{info}");
    }

    let kept = root.says("nix-store", &["--gc", "--print-roots"]);
    assert!(
        kept.contains(&format!("/docker/{} -> {app}", &app[11..])),
        "{kept}"
    );
    root.says("nix-store", &["--gc"]);
    assert_eq!(
        lines(&root.says("nix-store", &["--gc", "--print-live"])),
        all
    );
    assert!(
        root.nix("nix-store", &["--delete", &path("-words-1.0")])
            .is_err()
    );

    // The check is one.
    let words = root.path().join(&path("-words-1.0")[1..]);
    run(Command::new("chmod").args(["-R", "u+w"]).arg(&words));
    fs::write(words.join("more"), "").unwrap();
    assert!(
        root.nix("nix-store", &["--verify", "--check-contents"])
            .is_err()
    );
}

/// Loads the image and says how the machine's Nix runs in it.
const IN_CONTAINER: &str = "podman load --quiet --input \"$image\" >&2
    in_container() {
        podman run --rm --pull never \"$@\" --env USER=root --env NIX_CONFIG='build-users-group =' \\
            --volume /usr:/usr:ro --volume /usr/lib:/lib:ro --volume /usr/lib64:/lib64:ro \\
            --entrypoint /usr/bin/nix-store app:1 $command
    }";

/// The machine's Nix runs in the container, on the image's store.
#[test]
fn nix_works_in_a_container() {
    if is_without("podman") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let closure = format!("registration:{}", fixture("registration"));
    let image = build(dir.path(), &closure, &[]).unwrap();
    let app = path("-app-1.0");
    let variables = [("image", image.to_str().unwrap()), ("app", &app)];
    let printed = Isolated::podman().run(
        dir.path(),
        &variables,
        &format!(
            "{IN_CONTAINER}
             command='--verify --check-contents' in_container
             command=\"--query --requisites $app\" in_container
             command='--add /usr/bin/env' in_container"
        ),
    );
    let printed: Vec<&str> = printed.lines().collect();
    let (added, listed) = printed.split_last().unwrap();
    assert_eq!(lines(&listed.join("\n")), paths().into_iter().collect());
    assert!(added.ends_with("-env"), "{added}");
}

#[test]
fn nix_works_in_a_container_on_a_base() {
    if is_without("podman") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = build_on_base(dir.path());
    let roots = ["-settings-1.0", "-hello-1.0"].map(path).join(" ");
    let variables = [("image", image.to_str().unwrap()), ("roots", &*roots)];
    let printed = Isolated::podman().run(
        dir.path(),
        &variables,
        &format!(
            "{IN_CONTAINER}
             command='--verify --check-contents' in_container
             command=\"--query --requisites $roots\" in_container"
        ),
    );
    assert_eq!(lines(&printed), both());
}
