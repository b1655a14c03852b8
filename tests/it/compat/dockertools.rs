//! The configuration of dockerTools' streamed layered images as ROOT.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix2oci_tests::FakeRegistry;
use nix2oci_tests::command::{nix2oci, output, run};
use nix2oci_tests::handmade_image::{Codec, Entry, compress, digest, tar};
use nix2oci_tests::image_files::{config, layer_tars, manifest, read_json, text};
use serde_json::{Value, json};

use super::{Store, lay, path, root_of, store_paths};

/// The store path of the customisation layer.
const LAYER: &str = "/nix/store/00000000000000000000000000000000-app-customisation-layer";

/// What `tar -C layer -cf layer.tar .` of dockerTools writes.
pub(super) fn customisation() -> Vec<u8> {
    tar(&[
        Entry::Dir("./".to_owned()),
        Entry::Dir("./bin/".to_owned()),
        Entry::Symlink(
            "./bin/app".to_owned(),
            format!("{}/bin/app", path("app-1.0")),
        ),
        Entry::Dir("./etc/".to_owned()),
        Entry::File("./etc/passwd".to_owned(), b"root:x:0:0::/:\n".to_vec()),
    ])
}

/// Puts the customisation layer into the store.
pub(super) fn add_layer(store: &Store, tar: &[u8]) {
    store.write(&format!("root{LAYER}/layer.tar"), tar);
    let checksum = digest(tar).split_off("sha256:".len());
    store.write(&format!("root{LAYER}/checksum"), format!("{checksum}\n"));
}

/// A configuration as jq writes it for the fixture's application.
pub(super) fn conf() -> Value {
    let app = path("app-1.0");
    json!({
        "architecture": "amd64", "os": "linux", "variant": "",
        "config": { "Cmd": [format!("{app}/bin/app")], "Env": ["A=1"] },
        "store_dir": "/nix/store",
        "from_image": null,
        "store_layers": [
            [path("words-1.0"), path("words-latest")],
            [path("settings-1.0")],
            [path("hello-1.0"), path("greeting.txt"), app],
        ],
        "customisation_layer": LAYER,
        "repo_tag": "app:v1",
        "created": "1970-01-01T00:00:01+00:00",
        "mtime": "1970-01-01T00:00:01+00:00",
        "uid": "0", "gid": "0", "uname": "root", "gname": "root",
    })
}

pub(super) fn all() -> Vec<String> {
    let mut paths: Vec<String> = conf()["store_layers"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|layer| layer.as_array().unwrap())
        .map(|path| text(path).to_owned())
        .collect();
    paths.sort();
    paths
}

#[test]
fn layers_are_as_they_are_described() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let image = store.built(&conf(), &[]);

    let all = all();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut expected = store.tree(&all);
    lay(&mut expected, &customisation());
    root_of(&image).assert_is(&expected, "the root file system");

    let layers = store_paths(&image);
    let mut described: Vec<Vec<String>> =
        serde_json::from_value(conf()["store_layers"].clone()).unwrap();
    described.iter_mut().for_each(|layer| layer.sort());
    described.push(Vec::new());
    assert_eq!(layers, described);
    assert!(layer_tars(&image).pop().unwrap() == customisation());

    let config = config(&image);
    assert_eq!(config["created"], "1970-01-01T00:00:01Z");
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config.get("variant"), None);
    assert_eq!(config["config"], conf()["config"]);
    let tags = &read_json(&image, "manifest.json")[0]["RepoTags"];
    assert_eq!(tags, &json!(["docker.io/library/app:v1"]));
}

#[test]
fn owners_and_times_are_read_in_every_spelling() {
    let store = Store::new();
    add_layer(&store, &customisation());
    for (uid, gid) in [(json!("1000"), json!("100")), (json!(1000), json!(100))] {
        let mut conf = conf();
        conf["uid"] = uid;
        conf["gid"] = gid;
        conf["mtime"] = json!("2001-09-09T03:46:40+02:00");
        conf["created"] = json!("now");
        let image = store.built(&conf, &[]);
        let words = path("words-1.0").split_off(1).into_bytes();
        let object = &root_of(&image).0[&words];
        assert_eq!((object.owner, object.mtime), ((1000, 100), 1_000_000_000));
        assert!(text(&config(&image)["created"]) > "2024");
    }
    // `created` was the time of the files as well.
    let mut old = conf();
    old["created"] = json!("1970-01-01T00:01:40Z");
    for key in ["mtime", "uid", "gid", "uname", "gname", "variant"] {
        old.as_object_mut().unwrap().remove(key);
    }
    let image = store.built(&old, &[]);
    assert_eq!(root_of(&image).0[b"nix".as_slice()].mtime, 100);
}

#[test]
fn options_are_on_top_of_the_description() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let extra = store.write("extra.tar", tar(&[Entry::Dir("srv/".to_owned())]));
    let image = store.built(
        &conf(),
        &[
            "--name",
            "other",
            "--tag",
            "v2",
            "--env",
            "B=2",
            "--owner",
            "7:8",
            "--mtime",
            "9",
            "--compression",
            "none",
            "--platform",
            "linux/arm64",
            "--created",
            "10",
            "--layer-tar",
            extra.to_str().unwrap(),
        ],
    );
    let config = config(&image);
    assert_eq!(config["config"]["Env"], json!(["A=1", "B=2"]));
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["created"], "1970-01-01T00:00:10Z");
    assert_eq!(
        manifest(&image)["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar"
    );
    let tags = &read_json(&image, "manifest.json")[0]["RepoTags"];
    assert_eq!(tags, &json!(["docker.io/library/other:v2"]));
    let root = root_of(&image);
    let store_dir = &root.0[b"nix/store".as_slice()];
    assert_eq!((store_dir.owner, store_dir.mtime), ((7, 8), 9));
    assert!(root.0.contains_key(b"srv".as_slice()));

    let retagged = store.built(&conf(), &["--tag", "v3"]);
    let tags = &read_json(&retagged, "manifest.json")[0]["RepoTags"];
    assert_eq!(tags, &json!(["docker.io/library/app:v3"]));

    // Grouped anew.
    let one = store.built(&conf(), &["--layers", "single"]);
    assert_eq!(store_paths(&one), [all(), Vec::new()]);
    let few = store.build(&conf(), &["--max-layers", "2"]).unwrap_err();
    assert!(few.contains("the layer budget"), "{few}");

    for option in [
        &["--contents", "/nix/store/x"][..],
        &["--layer", "a=/nix/store/x"],
        &["--volatile", "/nix/store/x"],
        &["--config", "c.json"],
    ] {
        let error = store.build(&conf(), option).unwrap_err();
        assert!(error.contains("exit status: 2"), "{error}");
        let told = format!("{} is for store paths", option[0]);
        assert!(error.contains(&told), "{error}");
    }
}

/// Without hashes no layer is found again, and there is no database.
#[test]
fn a_closure_tells_what_the_description_does_not() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let registration = format!(
        "registration:{}",
        nix2oci_tests::command::repository()
            .join("fixtures/closure/registration")
            .display()
    );
    let plan = |args: &[&str]| -> Value {
        let plan = run(Command::new(nix2oci())
            .arg("plan")
            .arg(store.describe(&conf()))
            .arg("--store-root")
            .arg(store.root())
            .args(["--json", "-q"])
            .args(args));
        serde_json::from_str(&plan).unwrap()
    };
    let unknown = plan(&[]);
    assert_eq!(unknown["layers"][0]["key"], Value::Null);
    assert!(unknown["layers"][0]["narSize"].as_u64().unwrap() > 0);
    let known = plan(&["--closure", &registration]);
    assert_eq!(known["layers"].as_array().unwrap().len(), 4);
    assert_eq!(known["totals"], unknown["totals"]);
    assert!(known["layers"][0]["key"].is_string());
    let error = store.build(&conf(), &["--with-nix-db"]).unwrap_err();
    assert!(error.contains("its NAR hash is not known"), "{error}");
    let image = store.built(&conf(), &["--with-nix-db", "--closure", &registration]);
    let root = root_of(&image);
    assert!(root.0.contains_key(b"nix/var/nix/db/db.sqlite".as_slice()));
}

#[test]
fn all_verbs_that_build_take_it() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let image = store.built(&conf(), &[]);
    let digest = nix2oci_tests::image_files::manifest_digest(&image);
    let description = store.describe(&conf());
    let command = |verb: &str| {
        let mut command = Command::new(nix2oci());
        command.arg(verb).arg(&description).arg("--store-root");
        command.arg(store.root()).arg("-q");
        command.current_dir(store.folder());
        command
    };
    let recipe: Value = serde_json::from_str(&run(&mut command("resolve"))).unwrap();
    assert_eq!(recipe["manifestDigest"], *digest);
    let registry = FakeRegistry::start();
    let to = format!("docker://{}/app:v1", registry.host());
    let pushed = run(command("push").arg(&to).arg("--plain-http"));
    assert!(pushed.trim_end().ends_with(&digest), "{pushed}");
    // It is looked at before the runtime is.
    let error = output(command("load").args(["podman", "--contents", "x"])).unwrap_err();
    assert!(error.contains("describes a whole image"), "{error}");
    let error = output(command("push").arg(path("app-1.0")).arg(&to)).unwrap_err();
    assert!(
        error.contains("describes a whole image, with no ROOT"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_had_is_told() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let with = |key: &str, value: Value| {
        let mut conf = conf();
        conf[key] = value;
        conf
    };
    for (conf, problem) in [
        (
            with("store_layers", json!([["/gnu/store/x"]])),
            "image.json, key store_layers[0]: ",
        ),
        (with("store_layers", json!("x")), "expected a sequence"),
        (
            with(
                "store_layers",
                json!([["/nix/store/00000000000000000000000000000000-gone"]]),
            ),
            "/nix/store/00000000000000000000000000000000-gone",
        ),
        (
            with("uid", json!("root")),
            "key uid: \"root\" is not the number of a uid",
        ),
        (with("created", json!("yesterday")), "key created: "),
        (
            with("mtime", json!("1960-01-01T00:00:00Z")),
            "key mtime: it is before 1970",
        ),
        (with("repo_tag", json!("A B")), "key repo_tag: "),
        (with("config", json!({ "Env": "A=1" })), "image.json, key "),
        (
            with("architecture", json!(null)),
            "image.json, line 1, column ",
        ),
    ] {
        let error = store.build(&conf, &[]).unwrap_err();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains(problem), "{error}\nexpected {problem}");
    }
    // A layer that is not the one of its checksum, or none.
    let layer = store.root().join(&LAYER[1..]);
    fs::write(layer.join("checksum"), "0".repeat(64)).unwrap();
    let error = store.build(&conf(), &[]).unwrap_err();
    assert!(error.contains("exit status: 5"), "{error}");
    assert!(error.contains("layer.tar has digest sha256:"), "{error}");
    fs::write(layer.join("checksum"), "no").unwrap();
    let error = store.build(&conf(), &[]).unwrap_err();
    assert!(error.contains("checksum: expected a SHA-256"), "{error}");
    fs::remove_file(layer.join("layer.tar")).unwrap();
    let error = store.build(&conf(), &[]).unwrap_err();
    assert!(error.contains("failed to read "), "{error}");
}

/// JSON that describes no image is a package, or the config of one.
#[test]
fn other_json_is_not_taken_for_it() {
    let store = Store::new();
    let other = store.write("root/nix/store/0-x.json", "{\"store_layers\": []}");
    let error = output(
        Command::new(nix2oci())
            .args(["build", "--output", "x.tar"])
            .arg(&other)
            .current_dir(store.folder()),
    );
    assert!(!error.unwrap_err().contains("describes"));
    assert!(!Path::new(&store.folder().join("x.tar")).exists());
}

/// The layer of `customisation_layer` is taken compressed as well.
#[test]
fn a_compressed_customisation_layer_is_the_tar_in_it() {
    let store = Store::new();
    add_layer(&store, &customisation());
    store.write(
        &format!("root{LAYER}/layer.tar"),
        compress(Codec::Gzip, &customisation()),
    );
    let image = store.built(&conf(), &[]);
    assert!(layer_tars(&image).pop().unwrap() == customisation());
}
