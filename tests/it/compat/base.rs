//! The `from_image` of dockerTools: an archive of `docker save`, compressed or
//! not, below the store paths.

use std::path::PathBuf;

use nix2oci_tests::Tree;
use nix2oci_tests::handmade_image::{Codec, Entry, HandmadeImage, HandmadeLayer, compress, tar};
use nix2oci_tests::image_files::{config, layer_tars, manifest};
use serde_json::{Value, json};

use super::dockertools::{add_layer, all, conf, customisation};
use super::{Store, lay, root_of};

/// Where the base lies in the store.
const BASE: &str = "/nix/store/00000000000000000000000000000000-base.tar";

fn files() -> Vec<u8> {
    tar(&[
        Entry::Dir("etc/".into()),
        Entry::File("etc/passwd".into(), b"base".to_vec()),
        Entry::File("etc/base".into(), b"base".to_vec()),
        Entry::Dir("usr/".into()),
        Entry::Dir("usr/bin/".into()),
        Entry::Symlink("lib".into(), "usr/lib".into()),
    ])
}

/// A base of these tars, as `docker save` writes it, and its configuration.
fn on(store: &Store, tars: &[&[u8]], codec: Codec, edit: fn(&mut Value)) -> Value {
    let layers = tars.iter();
    let layers = layers.map(|tar| HandmadeLayer::new(tar, Codec::None));
    let image = HandmadeImage {
        layers: layers.collect(),
        config: edit,
        ..HandmadeImage::default()
    };
    let archive = image.docker().archive();
    store.write(&format!("root{BASE}"), compress(codec, &archive));
    let mut conf = conf();
    conf["from_image"] = BASE.into();
    conf
}

fn with_environment(config: &mut Value) {
    config["config"] = json!({
        "Env": ["PATH=/usr/bin", "A=0", "B=2"], "Cmd": ["/usr/bin/base"],
        "Entrypoint": ["/init"], "WorkingDir": "/srv", "User": "1000",
        "Labels": { "of": "the base" },
    });
}

fn expected(store: &Store, tars: &[&[u8]]) -> Tree {
    let mut tree = Tree::default();
    for tar in tars {
        lay(&mut tree, tar);
    }
    let all = all();
    tree.0.extend(
        store
            .tree(&all.iter().map(String::as_str).collect::<Vec<_>>())
            .0,
    );
    lay(&mut tree, &customisation());
    tree
}

#[test]
fn a_base_is_read_in_every_compression() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let files = files();
    let mut images: Vec<Vec<u8>> = Vec::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let conf = on(&store, &[&files], codec, with_environment);
        let image = store.built(&conf, &[]);
        root_of(&image).assert_is(&expected(&store, &[&files]), "the root file system");
        assert!(layer_tars(&image)[0] == files, "the base's own bytes");
        images.push(manifest(&image).to_string().into_bytes());

        // Its script takes the environment of a base and nothing else.
        let config = config(&image);
        let cmd = conf["config"]["Cmd"].clone();
        assert_eq!(
            config["config"],
            json!({ "Cmd": cmd, "Env": ["PATH=/usr/bin", "A=1", "B=2"] })
        );
    }
    images.dedup();
    assert_eq!(images.len(), 1, "the file's compression shapes nothing");
}

/// Some images have one layer twice; each has its place.
#[test]
fn a_base_may_have_one_layer_twice() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let files = files();
    let other = tar(&[
        Entry::Dir("etc/".into()),
        Entry::File("etc/base".into(), b"other".to_vec()),
    ]);
    let tars: [&[u8]; 3] = [&files, &other, &files];
    let conf = on(&store, &tars, Codec::Gzip, with_environment);
    let image = store.built(&conf, &[]);
    root_of(&image).assert_is(&expected(&store, &tars), "the root file system");
    let diff_ids = config(&image)["rootfs"]["diff_ids"].clone();
    assert_eq!(diff_ids[0], diff_ids[2]);
    assert_eq!(diff_ids.as_array().unwrap().len(), 3 + 3 + 1);
    let again: PathBuf = store.built(&conf, &["--max-layers", "7"]);
    assert_eq!(again, image);
    let few = store.build(&conf, &["--max-layers", "6"]).unwrap_err();
    assert!(few.contains("the layer budget: at most"), "{few}");
}

#[test]
fn a_base_need_not_have_an_environment() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let files = files();
    let null: fn(&mut Value) = |config| config["config"] = json!({ "Env": null, "Cmd": null });
    let absent: fn(&mut Value) = |config| config["config"] = Value::Null;
    for edit in [null, absent] {
        let mut conf = on(&store, &[&files], Codec::None, edit);
        let image = store.built(&conf, &[]);
        assert_eq!(config(&image)["config"]["Env"], json!(["A=1"]));
        conf["config"] = json!({ "Cmd": ["/bin/sh"] });
        let image = store.built(&conf, &[]);
        assert_eq!(config(&image)["config"], json!({ "Cmd": ["/bin/sh"] }));
    }
}

/// Old tools wrote `/etc/passwd` and `./etc/passwd`; loaders take both off.
#[test]
fn names_in_a_base_may_begin_with_a_slash() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let absolute = tar(&[
        Entry::Dir("/etc/".into()),
        Entry::File("/etc/base".into(), b"base".to_vec()),
    ]);
    let conf = on(&store, &[&absolute], Codec::None, with_environment);
    let image = store.built(&conf, &[]);
    assert!(layer_tars(&image)[0] == absolute);
}

#[test]
fn a_base_that_is_not_one_is_named() {
    let store = Store::new();
    add_layer(&store, &customisation());
    let conf = on(&store, &[&files()], Codec::None, with_environment);
    store.write(&format!("root{BASE}"), "no archive");
    let error = store.build(&conf, &[]).unwrap_err();
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("-base.tar"), "{error}");
    let mut other = on(&store, &[&files()], Codec::None, with_environment);
    other["architecture"] = "arm64".into();
    let error = store.build(&other, &[]).unwrap_err();
    assert!(error.contains("linux/amd64"), "{error}");
}
