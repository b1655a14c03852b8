//! What the base has is not added again, and its symlinks stay.

use std::path::Path;
use std::sync::{Arc, Mutex};

use nix2oci::build::{ImagePlan, LayerOutline, plan};
use nix2oci::image::ImageTable;
use nix2oci::layer::TarFile;
use nix2oci::plan::{Metadata, RootNode, RootTree};
use nix2oci::{Context, Event, Observer};
use nix2oci_tests::handmade_image::{
    Codec, Edit, Entry, HandmadeImage, HandmadeLayer, OnDisk, in_dir, tar,
};
use nix2oci_tests::image_files::{layer_tars, manifest};
use serde_json::json;

use super::{built, dir, file, handmade, link, on, open};
use crate::push::release;

const LIBC: &str = "nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-libc";
const LIBZ: &str = "nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-libz";

/// Returns a base made by another program that has the libraries of the push
/// tests, with further layers on them.
fn with_libraries(layers: &[&[Entry]], speaks_of_store: bool) -> OnDisk {
    let of_store: Edit = |config| config["config"]["Env"] = json!(["PATH=/nix/store/x/bin"]);
    with_edited_libraries(layers, if speaks_of_store { of_store } else { |_| () })
}

fn with_edited_libraries(layers: &[&[Entry]], config: Edit) -> OnDisk {
    let alone = tempfile::tempdir().unwrap();
    built(&release(1).spec, alone.path()).unwrap();
    let tars = layer_tars(alone.path());
    let libraries = tars
        .iter()
        .filter(|tar| !names(tar).iter().any(|n| n.ends_with("-app/")));
    let libraries = libraries.map(|tar| HandmadeLayer::new(tar, Codec::Gzip));
    let more = layers
        .iter()
        .map(|entries| HandmadeLayer::new(&tar(entries), Codec::Gzip));
    let image = HandmadeImage {
        layers: libraries.chain(more).collect(),
        config,
        ..HandmadeImage::default()
    };
    in_dir(&image.layout())
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    let name = |entry: tar::Entry<'_, &[u8]>| entry.path().unwrap().display().to_string();
    let name_of = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        let is_dir = entry.header().entry_type().is_dir();
        let name = name(entry);
        match is_dir && !name.ends_with('/') {
            true => format!("{name}/"),
            false => name,
        }
    };
    entries.map(name_of).collect()
}

/// Plans the application on a base, and returns the plan with the names of the
/// paths that are added.
fn added(base: &Path) -> (ImagePlan, Vec<String>) {
    let plan = plan(&Context::default(), &on(open(base, None).unwrap())).unwrap();
    let paths = plan.layers.iter().flat_map(LayerOutline::paths);
    let mut names: Vec<String> = paths.map(|path| path.name().to_owned()).collect();
    names.sort();
    (plan, names)
}

#[test]
fn store_paths_of_a_foreign_base_are_found_in_its_layers() {
    let (plan, names) = added(&with_libraries(&[], true).path);
    assert_eq!(names, ["app"]);
    let told = plan.base.iter().flat_map(|layer| &layer.paths);
    let told: Vec<&str> = told.map(|listed| listed.path.name()).collect();
    assert_eq!(told, ["libc", "libz"]);
    // So is one of this library after another program dropped its annotations.
    let ours: Edit = |config| config["history"][1]["created_by"] = json!("nix2oci libz");
    let (_, names) = added(&with_edited_libraries(&[], ours).path);
    assert_eq!(names, ["app"]);
    // Nobody would download a distribution to find that it has none.
    let (_, names) = added(&with_libraries(&[], false).path);
    assert_eq!(names, ["app", "libc", "libz"]);
}

#[test]
fn what_a_layer_of_the_base_deletes_is_added_again() {
    let whiteout = |path: &str| -> Vec<Entry> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if directory.is_empty() { "" } else { "/" };
        vec![file(&format!("{directory}{slash}.wh.{name}"))]
    };
    let opaque = |directory: &str| vec![file(&format!("{directory}.wh..wh..opq"))];
    let all = ["app", "libc", "libz"].as_slice();
    for (what, layer, expected) in [
        ("a store path", whiteout(LIBC), ["app", "libc"].as_slice()),
        (
            "a file of one",
            whiteout(&format!("{LIBC}/bin")),
            &["app", "libc"],
        ),
        (
            "an opaque one",
            opaque(&format!("{LIBZ}/")),
            &["app", "libz"],
        ),
        ("the store", whiteout("nix/store"), all),
        ("all above", whiteout("nix"), all),
        ("an opaque store", opaque("nix/store/"), all),
        ("an opaque root", opaque(""), all),
        ("what is there no more", whiteout("nix/store/x"), &["app"]),
        ("a name that begins so", whiteout("nix/sto"), &["app"]),
        ("a file for a path", vec![file("nix/store")], all),
        (
            "a layer's own entries stay",
            [opaque("nix/store/"), vec![dir("nix/store")]].concat(),
            all,
        ),
    ] {
        let (_, names) = added(&with_libraries(&[&layer], true).path);
        assert_eq!(names, expected, "{what}");
    }
}

/// What has another size is not the same, whatever it is called.
#[test]
fn a_store_path_that_was_changed_is_added_again() {
    let more = [file(&format!("{LIBC}/more"))];
    let (_, names) = added(&with_libraries(&[&more], true).path);
    assert_eq!(names, ["app"], "a path in two layers is not looked at");
    let other = [dir("nix"), dir("nix/store"), dir(LIBC), more[0].clone()];
    let (plan, names) = added(&with_libraries(&[&other], true).path);
    assert_eq!(names, ["app", "libc"]);
    // The table of an image must not have a path twice.
    let told = plan.base.iter().flat_map(|layer| &layer.paths);
    assert_eq!(told.count(), 1);
}

/// A base of this library tells its store paths: nothing of it is read, and the
/// next image on it needs what is new alone.
#[test]
fn building_on_an_own_image_adds_what_is_missing() {
    let first = tempfile::tempdir().unwrap();
    built(&release(1).spec, first.path()).unwrap();
    let mut spec = release(2).spec;
    spec.base = Some(open(first.path(), None).unwrap());
    let second = tempfile::tempdir().unwrap();
    let report = built(&spec, second.path()).unwrap();
    assert_eq!((report.base.len(), report.layers.len()), (3, 1));
    let table = |image: &Path| {
        let manifest = serde_json::from_value(manifest(image)).unwrap();
        ImageTable::read(&manifest).unwrap()
    };
    let (below, whole) = (table(first.path()), table(second.path()));
    assert_eq!(whole.layers[..3], below.layers);
    assert_eq!(whole.layers[3].paths[0].path.name(), "app");

    // The same again adds nothing.
    spec.base = Some(open(second.path(), None).unwrap());
    let third = tempfile::tempdir().unwrap();
    let report = built(&spec, third.path()).unwrap();
    assert_eq!((report.base.len(), report.layers.len()), (4, 0));

    for layer in manifest(first.path())["layers"].as_array().unwrap() {
        let hex = &layer["digest"].as_str().unwrap()["sha256:".len()..];
        std::fs::remove_file(first.path().join("blobs/sha256").join(hex)).unwrap();
    }
    let mut spec = release(2).spec;
    spec.base = Some(open(first.path(), None).unwrap());
    assert_eq!(plan(&Context::default(), &spec).unwrap().layers.len(), 1);
}

/// An image on a base can be planned on from: its base's layers are no
/// candidates.
#[test]
fn layers_of_an_earlier_image_on_a_base_are_kept() {
    let base = with_libraries(&[], true);
    let first = tempfile::tempdir().unwrap();
    built(&on(open(&base.path, None).unwrap()), first.path()).unwrap();
    let manifest = serde_json::from_value(manifest(first.path())).unwrap();
    let earlier = ImageTable::read(&manifest).unwrap().earlier_image();
    assert_eq!(earlier.layers.len(), 3);
    let mut spec = on(open(&base.path, None).unwrap());
    spec.strategy = Arc::new(nix2oci::plan::Cost);
    spec.keep_layers = Some(earlier);
    let plan = plan(&Context::default(), &spec).unwrap();
    let origins: Vec<&str> = plan
        .layers
        .iter()
        .map(|layer| layer.origin.name())
        .collect();
    assert_eq!(origins, ["kept"]);
}

/// Returns the names in the layer of a root tree on this base.
fn root_on(layers: &[&[Entry]], tree: &[&str]) -> nix2oci::Result<Vec<String>> {
    let base = in_dir(&handmade(layers, Codec::Gzip).layout());
    let mut spec = on(open(&base.path, None)?);
    let mut root = RootTree::default();
    for path in tree {
        let node = match path.strip_suffix('/') {
            Some(_) => RootNode::Directory,
            None => RootNode::Symlink {
                target: path.as_bytes().to_vec(),
            },
        };
        let path = path.trim_end_matches('/').as_bytes();
        root.insert(
            path,
            node,
            Metadata::default(),
            path.escape_ascii().to_string().as_str(),
        )?;
    }
    spec.root_tree = root;
    let to = tempfile::tempdir().unwrap();
    built(&spec, to.path())?;
    let mut names = names(layer_tars(to.path()).last().unwrap());
    names.retain(|name| name != "./");
    Ok(names)
}

/// A directory in place of a link would take away what the link leads to: all
/// programs, where `/bin` is `usr/bin`.
#[test]
fn what_lies_in_a_linked_directory_goes_to_where_the_link_leads() {
    let merged = [dir("usr"), dir("usr/bin"), link("bin", "usr/bin")];
    let gone = [file(".wh.bin")];
    let again = [dir("bin")];
    let replaced = [file("bin")];
    let back = [link("bin", "/opt/bin")];
    let chain = [link("bin", "a/../b"), link("b", "/c/d"), link("c", "./e")];
    let ring = [link("bin", "x"), link("x", "bin")];
    for (what, layers, tree, expected) in [
        (
            "a relative link",
            &[merged.as_slice()][..],
            &["bin/app", "bin/deep/er"][..],
            &[
                "usr/",
                "usr/bin/",
                "usr/bin/app",
                "usr/bin/deep/",
                "usr/bin/deep/er",
            ][..],
        ),
        (
            "the directory alone",
            &[&merged],
            &["bin/"],
            &["usr/", "usr/bin/"],
        ),
        ("one's own file", &[&merged], &["bin"], &["bin"]),
        (
            "both names of a directory",
            &[&merged],
            &["bin/a", "usr/bin/b"],
            &["usr/", "usr/bin/", "usr/bin/a", "usr/bin/b"],
        ),
        (
            "a deleted link",
            &[&merged, &gone],
            &["bin/app"],
            &["bin/", "bin/app"],
        ),
        (
            "a link in a deleted directory",
            &[&[dir("usr"), link("usr/bin", "x")], &[file(".wh.usr")]],
            &["usr/bin/app"],
            &["usr/", "usr/bin/", "usr/bin/app"],
        ),
        (
            "a directory in its place",
            &[&merged, &again],
            &["bin/app"],
            &["bin/", "bin/app"],
        ),
        (
            "a file in its place",
            &[&merged, &replaced],
            &["bin/app"],
            &["bin/", "bin/app"],
        ),
        (
            "another link",
            &[&merged, &back],
            &["bin/app"],
            &["opt/", "opt/bin/", "opt/bin/app"],
        ),
        (
            "links to links",
            &[&chain],
            &["bin/app"],
            &["e/", "e/d/", "e/d/app"],
        ),
        ("a ring", &[&ring], &["bin/app"], &["bin/", "bin/app"]),
        ("the root", &[&[link("bin", "/")]], &["bin/app"], &["app"]),
    ] {
        assert_eq!(root_on(layers, tree).unwrap(), expected, "{what}");
    }
    let error = root_on(&[&merged], &["bin/x", "usr/bin/x"]).unwrap_err();
    let told = "/usr/bin/x comes from both bin/x and usr/bin/x, which differ";
    assert_eq!(error.to_string(), told);
    let store = [dir("data"), link("nix", "data")];
    let error = root_on(&[&store], &["bin/x"]).unwrap_err().to_string();
    assert!(
        error.ends_with("/nix is a symlink in it, where the store /nix/store would be"),
        "{error}"
    );
}

/// A tar is a layer as it is, so a link that it replaces is told of.
#[test]
fn a_tar_that_replaces_a_link_of_the_base_is_told() {
    let merged = [dir("usr"), dir("usr/bin"), link("bin", "usr/bin")];
    let base = in_dir(&handmade(&[&merged], Codec::Gzip).layout());
    let heard = Arc::new(Warnings::default());
    let mut cx = Context::default();
    cx.observer = Arc::<Warnings>::clone(&heard);
    for (entries, is_told) in [
        (&[dir("bin"), file("bin/app")][..], true),
        (&[file("bin/app")], false),
        (&[dir("usr"), dir("usr/bin"), file("usr/bin/app")], false),
        (&[link("bin", "opt")], false),
    ] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("custom.tar");
        std::fs::write(&path, tar(entries)).unwrap();
        let mut spec = on(open(&base.path, None).unwrap());
        let tar = TarFile::open(&cx, &path, spec.closure.store_dir()).unwrap();
        spec.layer_tars = vec![tar];
        plan(&cx, &spec).unwrap();
        let told = std::mem::take(&mut *heard.0.lock().unwrap());
        let expected = format!(
            "{}: its directory bin/ replaces the symlink /bin -> usr/bin of the base image {}: \
             what is found through it there is not found in the new image",
            path.display(),
            base.path.display()
        );
        assert_eq!(told, Vec::from_iter(is_told.then_some(expected)));
    }
}

/// Keeps what the observer is warned of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &Event<'_>) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}
