//! nix2container's image JSON as ROOT.

use nix2oci_tests::Tree;
use nix2oci_tests::handmade_image::{Codec, Entry, compress, digest, tar};
use nix2oci_tests::image_files::{config, layer_tars, text};
use serde_json::{Value, json};

use super::{Store, lay, path, root_of, store_paths};

/// An image as nix2container writes it, of these layers.
fn image(layers: Value) -> Value {
    json!({
        "version": 1,
        "image-config": { "Entrypoint": [format!("{}/bin/app", path("app-1.0"))] },
        "layers": layers,
        "arch": "amd64",
        "created": "0001-01-01T00:00:00Z",
    })
}

/// A layer; its digest is that of nix2container's own tar.
fn layer(paths: Value) -> Value {
    let digest = digest(paths.to_string().as_bytes());
    json!({
        "digest": digest, "size": 1024, "diff_ids": digest, "paths": paths,
        "mediatype": "application/vnd.oci.image.layer.v1.tar",
        "History": { "created_by": "nix2container" },
    })
}

fn plain(names: &[&str]) -> Value {
    layer(
        names
            .iter()
            .map(|name| json!({ "path": path(name) }))
            .collect(),
    )
}

/// A layer of a tar that is in the store: a base's, or one that cannot be made
/// again.
fn of_tar(store: &Store, name: &str, tar: &[u8], blob: &[u8]) -> Value {
    let file = format!("/nix/store/00000000000000000000000000000000-{name}");
    store.write(&format!("root{file}"), blob);
    let mut layer = layer(json!([]));
    layer["digest"] = digest(blob).into();
    layer["diff_ids"] = digest(tar).into();
    layer["layer-path"] = file.into();
    layer.as_object_mut().unwrap().remove("paths");
    layer
}

/// Copies all of a store path to the root, as `copyToRoot` does.
fn to_root(name: &str) -> Value {
    let path = path(name);
    json!({
        "path": path,
        "options": { "rewrite": { "regex": format!("^{path}"), "repl": "" } },
    })
}

/// What nix2container's tar of a copy has: files, links and directories of the
/// store with their modes, elsewhere.
fn moved(store: &Store, name: &str, to: &str) -> Tree {
    let path = path(name).split_off(1);
    let mut tree = Tree::default();
    for (at, object) in store.tree(&[&path]).0 {
        let Some(inside) = at.strip_prefix(path.as_bytes()) else {
            continue;
        };
        let inside = [to.as_bytes(), inside].concat();
        let inside = inside.strip_prefix(b"/").unwrap_or(&inside).to_vec();
        if !inside.is_empty() {
            tree.0.insert(inside, object);
        }
    }
    tree
}

#[test]
fn layers_and_copies_are_as_they_are_described() {
    let store = Store::new();
    let described = image(json!([
        plain(&["words-1.0", "words-latest"]),
        plain(&["settings-1.0", "greeting.txt", "hello-1.0"]),
        layer(json!([{ "path": path("app-1.0") }, to_root("settings-1.0")])),
        layer(json!([to_root("app-1.0")])),
    ]));
    let image = store.built(&described, &["--name", "app"]);

    let names = [
        "words-1.0",
        "words-latest",
        "settings-1.0",
        "greeting.txt",
        "hello-1.0",
    ];
    let mut all: Vec<String> = names.iter().map(|name| path(name)).collect();
    all.push(path("app-1.0"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut expected = store.tree(&all);
    expected.0.extend(moved(&store, "settings-1.0", "").0);
    expected.0.extend(moved(&store, "app-1.0", "").0);
    root_of(&image).assert_is(&expected, "the root file system");

    let layers = store_paths(&image);
    assert_eq!(layers.len(), 4, "{layers:?}");
    assert_eq!(layers[0], [path("words-1.0"), path("words-latest")]);
    assert_eq!(layers[2], [path("app-1.0")]);
    let config = config(&image);
    assert_eq!(config["created"], "0001-01-01T00:00:00Z");
    assert_eq!(config["config"], described["image-config"]);
    assert_eq!(config["os"], "linux");
}

#[test]
fn expressions_say_where_files_go_and_whose_they_are() {
    let store = Store::new();
    let words = path("words-1.0");
    let described = image(json!([
        plain(&["settings-1.0"]),
        layer(json!([{
            "path": words,
            "options": {
                "rewrite": { "regex": format!("^{words}(/share)?"), "repl": "/opt$1" },
                "perms": [
                    { "regex": ".*", "mode": "", "uid": 7, "gid": 8, "uname": "u", "gname": "g" },
                    { "regex": "/bin/", "mode": "4750", "uid": 1, "gid": 2, "uname": "", "gname": "" },
                    { "regex": "lib$", "mode": "0700", "uid": 0, "gid": 0, "uname": "", "gname": "" },
                ],
            },
        }, {
            "path": path("app-1.0"),
            "options": {
                "rewrite": { "regex": "", "repl": "" },
                "perms": [{ "regex": "/etc", "mode": "0750", "uid": 3, "gid": 4, "uname": "", "gname": "" }],
            },
        }])),
    ]));
    let root = root_of(&store.built(&described, &["--name", "app"]));
    let of = |path: &str| {
        let object = root.0.get(path.as_bytes());
        let object = object.unwrap_or_else(|| panic!("{path} is not in {root:?}"));
        (object.kind, object.mode, object.owner)
    };
    assert_eq!(of("opt/bin"), ('d', 0o555, (7, 8)));
    assert_eq!(of("opt/bin/words"), ('f', 0o4750, (1, 2)));
    assert_eq!(of("opt/lib"), ('d', 0o700, (0, 0)));
    assert_eq!(of("opt/lib/libwords.so"), ('l', 0o777, (7, 8)));
    let long = "opt/share/words/a-folder-with-a-rather-long-name";
    assert_eq!(of(long), ('d', 0o555, (7, 8)));
    assert_eq!(of("opt"), ('d', 0o555, (7, 8)), "the store path's own");
    let app = path("app-1.0").split_off(1);
    assert_eq!(of(&format!("{app}/etc")), ('d', 0o750, (3, 4)));
    assert_eq!(of(&format!("{app}/etc/app.conf")), ('l', 0o777, (3, 4)));
    // What no expression matches.
    assert_eq!(of(&format!("{app}/bin")), ('d', 0o555, (0, 0)));
    let settings = path("settings-1.0").split_off(1);
    assert_eq!(of(&format!("{settings}/etc")), ('d', 0o555, (0, 0)));
    assert!(!root.0.contains_key(&path("words-1.0").into_bytes()[1..]));
}

/// nlewo/nix2container#210: bits beside those that a file has, in the order of
/// the entries, and after the mode of the same entry.
#[test]
fn permissions_may_add_bits() {
    let store = Store::new();
    let perm = |regex: &str, mode: &str, or_mode: &str| json!({ "regex": regex, "mode": mode, "orMode": or_mode, "uid": 0, "gid": 0 });
    let copied = |name: &str, to: &str, perms: Value| {
        json!({ "path": path(name), "options": {
            "rewrite": { "regex": format!("^{}", path(name)), "repl": to }, "perms": perms,
        } })
    };
    let described = image(json!([layer(json!([
        copied(
            "hello-1.0",
            "/opt",
            json!([perm(".*", "", "0200"), perm("/hello$", "", "4000")]),
        ),
        copied(
            "settings-1.0",
            "/srv",
            json!([perm(".*", "", "0200"), perm("/etc$", "0440", "0002")]),
        ),
    ]))]));
    let image = store.built(&described, &["--name", "app"]);
    let root = root_of(&image);
    for (place, kind, mode) in [
        ("opt/bin", 'd', 0o755),
        ("opt/bin/hello", 'f', 0o4755),
        ("srv/etc", 'd', 0o442),
        ("srv/etc/settings.conf", 'f', 0o644),
    ] {
        let object = &root.0[place.as_bytes()];
        assert_eq!((object.kind, object.mode), (kind, mode), "{place}");
    }
}

#[test]
fn tars_stay_above_and_below() {
    let store = Store::new();
    let base = tar(&[
        Entry::Dir("etc/".into()),
        Entry::File("etc/passwd".into(), b"base".to_vec()),
        Entry::File("etc/base".into(), b"base".to_vec()),
    ]);
    let second = tar(&[Entry::Dir("srv/".into())]);
    let top = tar(&[
        Entry::Dir("etc/".into()),
        Entry::File("etc/passwd".into(), b"top".to_vec()),
    ]);
    let described = image(json!([
        of_tar(&store, "base", &base, &compress(Codec::Gzip, &base)),
        of_tar(&store, "second", &second, &second),
        plain(&["greeting.txt"]),
        layer(json!([to_root("settings-1.0")])),
        of_tar(&store, "top", &top, &compress(Codec::Zstd, &top)),
    ]));
    let image = store.built(&described, &["--name", "app"]);
    let tars = layer_tars(&image);
    assert_eq!(tars.len(), 5);
    assert!(tars[0] == base && tars[1] == second && tars[4] == top);
    let mut expected = Tree::default();
    lay(&mut expected, &base);
    lay(&mut expected, &second);
    expected.0.extend(store.tree(&[&path("greeting.txt")]).0);
    expected.0.extend(moved(&store, "settings-1.0", "").0);
    lay(&mut expected, &top);
    root_of(&image).assert_is(&expected, "the root file system");

    // What a layer says of its file and of the tar in it must be so; layers of
    // old versions say nothing of the file.
    let mut silent = described.clone();
    silent["layers"][0]
        .as_object_mut()
        .unwrap()
        .remove("digest");
    store.built(&silent, &["--name", "app"]);
    let blob = compress(Codec::Gzip, &base);
    for (key, what, found) in [
        ("digest", "", digest(&blob)),
        ("diff_ids", "the tar in ", digest(&base)),
    ] {
        let mut other = described.clone();
        other["layers"][0][key] = digest(b"another").into();
        let error = store.build(&other, &["--name", "app"]).unwrap_err();
        assert!(error.contains("exit status: 5"), "{error}");
        let file = store.root().join("nix/store");
        let told = format!(
            "{what}{}/00000000000000000000000000000000-base has digest {found}, expected {}",
            file.display(),
            digest(b"another"),
        );
        assert!(error.contains(&told), "{error}\nexpected {told}");
    }
}

/// nix2container leaves a path out of a layer if one below has it, with the
/// same options: with others both are there, and the upper one is seen.
#[test]
fn a_path_of_several_layers_is_in_the_image_once() {
    let store = Store::new();
    let settings = path("settings-1.0");
    let with = |mode: &str| {
        let perm =
            json!({ "regex": "conf$", "mode": mode, "uid": 0, "gid": 0, "uname": "", "gname": "" });
        json!({ "path": settings, "options": { "rewrite": { "regex": "", "repl": "" }, "perms": [perm] } })
    };
    let file = format!("{}/etc/settings.conf", &settings[1..]).into_bytes();
    for (layers, mode, count) in [
        (
            json!([
                plain(&["settings-1.0"]),
                plain(&["greeting.txt", "settings-1.0"])
            ]),
            0o444,
            1,
        ),
        (
            json!([layer(json!([with("0600")])), layer(json!([with("0640")]))]),
            0o640,
            1,
        ),
        (
            json!([
                layer(json!([with("0600")])),
                plain(&["settings-1.0", "greeting.txt"])
            ]),
            0o444,
            1,
        ),
    ] {
        let image = store.built(&image(layers.clone()), &["--name", "app"]);
        assert_eq!(root_of(&image).0[&file].mode, mode, "{layers}");
        let of_all: Vec<_> = store_paths(&image).concat();
        assert_eq!(
            of_all.iter().filter(|path| **path == settings).count(),
            count,
            "{layers}"
        );
    }
    let mut copied = to_root("settings-1.0");
    copied["options"]["perms"] = with("0600")["options"]["perms"].clone();
    let layers = json!([plain(&["settings-1.0"]), layer(json!([copied]))]);
    let error = store.build(&image(layers), &["--name", "app"]).unwrap_err();
    assert!(
        error.contains("is in the image twice, with different perms"),
        "{error}"
    );
}

#[test]
fn an_image_may_have_no_layers() {
    let store = Store::new();
    let mut without = image(Value::Null);
    for layers in [Value::Null, json!([]), json!([layer(Value::Null)])] {
        without["layers"] = layers;
        without["image-config"] = Value::Null;
        without["created"] = Value::Null;
        let image = store.built(&without, &["--name", "app"]);
        let root = root_of(&image);
        assert_eq!(root.0.keys().collect::<Vec<_>>(), [b""], "no /nix in it");
        let config = config(&image);
        assert_eq!(config["created"], "1970-01-01T00:00:01Z");
        assert_eq!(config["config"], json!({}));
    }
}

#[test]
fn what_would_make_other_files_is_refused() {
    let store = Store::new();
    let entry = |more: Value| {
        let mut entry = json!({ "path": path("app-1.0"), "options": {
            "rewrite": { "regex": "", "repl": "" } } });
        for (key, value) in more.as_object().unwrap() {
            entry["options"][key] = value.clone();
        }
        image(json!([layer(json!([entry]))]))
    };
    let perm = |key: &str, value: Value| {
        let mut perm = json!({ "regex": ".*", "mode": "0444", "uid": 0, "gid": 0 });
        perm[key] = value;
        entry(json!({ "perms": [perm] }))
    };
    let mut version = image(json!([]));
    version["version"] = json!(2);
    let mut created = image(json!([]));
    created["created"] = json!("x");
    for (described, problem) in [
        (version, "key version: expected version 1, found 2"),
        (created, "key created: "),
        (
            entry(json!({ "ignoreDestination": "x" })),
            "unknown field `ignoreDestination`",
        ),
        (
            perm("orMode", json!("40755")),
            "key layers[0]: \"40755\" is no mode",
        ),
        (
            perm("orMode", json!("-200")),
            "key layers[0]: \"-200\" is no mode",
        ),
        (
            perm("mode", json!("rwx")),
            "key layers[0]: \"rwx\" is no mode",
        ),
        (
            perm("regex", json!("(")),
            "key layers[0]: the pattern \"(\"",
        ),
        (
            entry(json!({ "rewrite": { "regex": "(", "repl": "" } })),
            "key layers[0]: the expression \"(\"",
        ),
        (
            image(json!([layer(json!([{ "path": "/etc" }]))])),
            "key layers[0]: ",
        ),
    ] {
        let error = store.build(&described, &["--name", "app"]).unwrap_err();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains(problem), "{error}\nexpected {problem}");
    }
    assert_eq!(text(&image(json!([]))["arch"]), "amd64");
}
