//! Images that dockerTools and nix2container describe, and the traps of the
//! formats that are read for the sake of other tools.

mod base;
mod dockertools;
mod nix2container;
mod traps;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::Tree;
use nix2oci_tests::command::{nix2oci, output, repository, run};
use nix2oci_tests::image_files::layer_tars;
use serde_json::Value;
use tempfile::TempDir;

/// The fixture's store below a folder, to which a test adds more.
pub(super) struct Store(TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(tempfile::tempdir().unwrap());
        run(Command::new("cp")
            .args(["-R", "--no-dereference"])
            .arg(repository().join("fixtures/closure/root"))
            .arg(store.0.path()));
        store
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn root(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// Writes a file, with the folders above it.
    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let file = self.folder().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        file
    }

    /// Writes a description that is a ROOT.
    fn describe(&self, description: &Value) -> PathBuf {
        self.write("image.json", description.to_string())
    }

    /// Builds what is described; returns the archive, or what was complained of.
    fn build(&self, description: &Value, args: &[&str]) -> Result<PathBuf, String> {
        let image = self.folder().join("image.tar");
        output(
            Command::new(nix2oci())
                .arg("build")
                .arg(self.describe(description))
                .arg("--store-root")
                .arg(self.root())
                .args(["--progress", "none", "--output"])
                .arg(&image)
                .args(args)
                .current_dir(self.folder()),
        )?;
        Ok(image)
    }

    #[track_caller]
    fn built(&self, description: &Value, args: &[&str]) -> PathBuf {
        let built = self.build(description, args);
        built.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the root file system of store paths alone.
    fn tree(&self, paths: &[&str]) -> Tree {
        Tree::of_store(&self.root(), paths.iter().copied())
    }
}

/// Returns the fixture's store path of this name.
fn path(name: &str) -> String {
    let paths = fs::read_to_string(repository().join("fixtures/closure/paths")).unwrap();
    let path = paths.lines().find(|path| path.ends_with(name));
    path.expect("the fixture has it").to_owned()
}

/// Returns what the layers of an image add up to.
fn root_of(image: &Path) -> Tree {
    let mut root = Tree::default();
    for tar in layer_tars(image) {
        lay(&mut root, &tar);
    }
    root
}

/// Puts a layer on top.
fn lay(root: &mut Tree, tar: &[u8]) {
    root.0.extend(Tree::of_tar(tar).0);
}

/// Returns the number of store paths and of other entries in each layer, and
/// the names of the first.
fn store_paths(image: &Path) -> Vec<Vec<String>> {
    let of = |tar: Vec<u8>| {
        let tree = Tree::of_tar(&*tar);
        let names = tree.0.keys().filter_map(|path| {
            let name = std::str::from_utf8(path)
                .unwrap()
                .strip_prefix("nix/store/")?;
            (!name.contains('/')).then(|| format!("/nix/store/{name}"))
        });
        names.collect()
    };
    layer_tars(image).into_iter().map(of).collect()
}
