//! Images built by Nix: the command as a derivation's builder, in the sandbox,
//! in a throw-away store that holds the fixture's closure.

mod arguments;
mod copies;
mod docker_tools;
mod examples;
mod nix2container;

use std::ffi::OsStr;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::FixtureStore;
use nix2oci_tests::command::{nix2oci, output, repository, run};
use nix2oci_tests::image_files::{config, manifest, manifest_digest, read_json, text};
use serde_json::{Value, json};

/// What a sandbox needs whose builder is a shell script.
const WITH_SHELL: &str = "/bin /lib /lib64? /usr";

/// The fixture's store and what is built in it.
struct Store(FixtureStore);

impl Deref for Store {
    type Target = FixtureStore;

    fn deref(&self) -> &FixtureStore {
        &self.0
    }
}

impl Store {
    fn new() -> Self {
        Self(FixtureStore::new())
    }

    /// Adds the expression of the images and its arguments.
    fn with_images<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let paths: String = self
            .fixtures()
            .map(|(name, path)| format!("{name:?} = {path:?}; "))
            .collect();
        command
            .args(["--argstr", "bin"])
            .arg(nix2oci())
            .args(["--arg", "paths", &format!("{{ {paths} }}")])
            .arg("images.nix")
    }

    /// Builds an attribute of the images, with these host folders visible in
    /// the sandbox; returns where the results lie.
    fn build(&self, attribute: &str, sandbox_paths: &str) -> Result<Vec<PathBuf>, String> {
        let mut command = self.nix("nix-build");
        self.with_images(&mut command)
            .args(["--attr", attribute, "--no-out-link"])
            .args(["--option", "sandbox-paths", sandbox_paths]);
        Ok(output(&mut command)?
            .lines()
            .map(|path| self.outside(path))
            .collect())
    }

    /// Builds an image: the sandbox has the C library that the binary was
    /// linked with and no program but the binary.
    fn image(&self, attribute: &str) -> Result<PathBuf, String> {
        self.build("ingredients", WITH_SHELL)?;
        let mut results = self.build(attribute, "/lib /lib64? /usr/lib")?;
        Ok(results.pop().expect("nix-build prints what it built"))
    }

    fn facts(&self) -> Value {
        let mut command = self.nix("nix-instantiate");
        self.with_images(&mut command)
            .args(["--attr", "facts", "--eval", "--strict", "--json"]);
        serde_json::from_str(&run(&mut command)).expect("Nix writes JSON")
    }

    /// Runs the command outside of Nix on the same closure and with what the
    /// derivation `image` says; returns the image.
    fn build_outside(&self, name: &str, closure: &[&OsStr]) -> PathBuf {
        let facts = self.facts();
        let image = self.folder().join(format!("{name}.tar"));
        run(Command::new(nix2oci())
            .arg("build")
            .args([self.fixture("app-1.0"), self.fixture("words-latest")])
            .arg("--store-root")
            .arg(self.root())
            .args(closure)
            .arg("--config")
            .arg(self.outside(text(&facts["configFile"])))
            .args(["--contents", self.fixture("words-latest")])
            .args(["--name", text(&facts["imageName"]), "--tag", "v1"])
            .args(["--platform", "linux/amd64", "--compression", "gzip"])
            .args(["--annotation", "org.example.note=from a derivation"])
            .args(["--created", "1970-01-01T00:00:01Z"])
            .arg("-o")
            .arg(format!("archive:{}", image.display()))
            .env_clear());
        image
    }
}

/// Returns the layers' diff IDs in the order of their names.
fn diff_ids(image: &Path) -> Vec<String> {
    let config = config(image);
    let mut diff_ids: Vec<_> = config["rootfs"]["diff_ids"]
        .as_array()
        .expect("a config has diff IDs")
        .iter()
        .map(|diff_id| text(diff_id).to_owned())
        .collect();
    diff_ids.sort();
    diff_ids
}

#[test]
fn a_derivation_builds_the_same_image_as_the_command_outside() {
    let store = Store::new();
    let image = store.image("image").unwrap();
    let expected = manifest_digest(&image);

    let path_info = store.folder().join("path-info.json");
    let written = run(store
        .nix("nix")
        .args(["path-info", "--recursive", "--json"])
        .args([store.fixture("app-1.0"), store.fixture("words-latest")]));
    fs::write(&path_info, written).unwrap();
    let path_info = format!("path-info:{}", path_info.display());
    let database = format!("db:{}", store.root().join("nix/var/nix").display());
    let registration = format!(
        "registration:{}",
        repository().join("fixtures/closure/registration").display()
    );

    for (name, source) in [
        ("path-info", &path_info),
        ("database", &database),
        ("registration", &registration),
    ] {
        let outside = store.build_outside(name, &[OsStr::new("--closure"), OsStr::new(source)]);
        assert_eq!(manifest_digest(&outside), expected, "from {name}");
        assert_eq!(
            fs::read(&outside).unwrap(),
            fs::read(&image).unwrap(),
            "the archives from {name} and from the derivation"
        );
    }
}

#[test]
fn a_derivation_s_arguments_reach_the_image() {
    let store = Store::new();
    let facts = store.facts();
    assert_eq!(facts["imageName"], "registry.example:5000/team/fixture");
    assert_eq!(facts["imageTag"], "v1");
    assert_eq!(facts["name"], "fixture.tar");

    let image = store.image("image").unwrap();
    let app = store.fixture("app-1.0");
    let image_config = config(&image);
    assert_eq!(image_config["architecture"], "amd64");
    assert_eq!(image_config["created"], "1970-01-01T00:00:01Z");
    assert_eq!(
        image_config["config"]["Entrypoint"],
        json!([format!("{app}/bin/app")])
    );
    assert_eq!(
        image_config["config"]["Healthcheck"],
        json!({ "Test": ["NONE"] })
    );
    assert_eq!(
        manifest(&image)["annotations"]["org.example.note"],
        "from a derivation"
    );
    assert_eq!(
        read_json(&image, "manifest.json")[0]["RepoTags"],
        json!(["registry.example:5000/team/fixture:v1"])
    );
    // What the program needs, which is small and cheaper together, the program,
    // and the links at the root; the config's own file is not in the image, only
    // what it mentions.
    assert_eq!(diff_ids(&image).len(), 3);

    let few = store.image("few").unwrap();
    assert_eq!(diff_ids(&few).len(), 2);

    let owned = store.image("owned").unwrap();
    assert_eq!(config(&owned)["created"], "2001-02-03T04:05:06Z");
    let none = store.image("none").unwrap();
    assert_eq!(diff_ids(&none), diff_ids(&image));
    let first_layer = text(&manifest(&none)["layers"][0]["mediaType"]).to_owned();
    assert_eq!(first_layer, "application/vnd.oci.image.layer.v1.tar");
    assert_ne!(diff_ids(&owned), diff_ids(&image));
    let zstd = store.image("zstd").unwrap();
    assert_eq!(diff_ids(&zstd), diff_ids(&image));
    let first_layer = text(&manifest(&zstd)["layers"][0]["mediaType"]).to_owned();
    assert_eq!(first_layer, "application/vnd.oci.image.layer.v1.tar+zstd");
}

#[test]
fn an_archive_a_layout_and_a_recipe_of_one_image_have_one_digest() {
    let store = Store::new();
    let expected = manifest_digest(&store.image("image").unwrap());
    assert_eq!(manifest_digest(&store.image("layout").unwrap()), expected);

    let recipe = store.image("recipe").unwrap();
    assert!(fs::metadata(&recipe).unwrap().is_file());
    let recipe = fs::read_to_string(recipe).unwrap();
    assert!(recipe.contains(&expected), "{expected} in {recipe}");
    assert!(serde_json::from_str::<Value>(&recipe).is_ok(), "{recipe}");
}

#[test]
fn the_text_graph_gives_the_same_layers() {
    let store = Store::new();
    let graph = store.image("graph").unwrap();
    let image = store.image("image").unwrap();
    // The text has no sizes, so the order may differ.
    assert_eq!(diff_ids(&graph), diff_ids(&image));
}

#[test]
fn an_image_without_a_tag_has_a_hash_for_one() {
    let store = Store::new();
    let facts = store.facts();
    let tag = text(&facts["untaggedTag"]);
    assert_eq!(tag.len(), 32, "{tag}");
    let image = store.image("untagged").unwrap();
    assert_eq!(
        read_json(&image, "manifest.json")[0]["RepoTags"],
        json!([format!("registry.example:5000/team/fixture:{tag}")])
    );
}

#[test]
fn an_image_is_built_on_another_one_and_joined_in_an_index() {
    let store = Store::new();
    let base = store.image("image").unwrap();
    let on_base = store.image("with-base").unwrap();
    let layers = |image: &Path| manifest(image)["layers"].as_array().unwrap().clone();
    let (below, all) = (layers(&base), layers(&on_base));
    // Every store path is in the base, and so are the links at the root.
    assert_eq!(all[..below.len()], below[..]);

    let index = store.image("index").unwrap();
    let index = read_json(&index, "index.json");
    let names: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
    let is_index = |descriptor: &&&Value| {
        text(&descriptor["mediaType"]) == "application/vnd.oci.image.index.v1+json"
    };
    assert!(names.iter().any(|d| is_index(&d)), "{index}");
}

#[test]
fn the_flake_evaluates_for_every_system() {
    let store = Store::new();
    // A copy without what is not the flake's: Nix copies the whole folder.
    let flake = store.folder().join("flake");
    fs::create_dir(&flake).unwrap();
    let files = run(Command::new("tar")
        .args(["--create", "--exclude=target", "--exclude=corpus", "--file"])
        .arg(flake.join("../flake.tar"))
        .args(["Cargo.toml", "Cargo.lock", "README.md", "flake.nix"])
        .args(["benches", "crates", "tests", "fixtures/nixpkgs-stub"])
        .current_dir(repository()));
    assert_eq!(files, "");
    run(Command::new("tar")
        .args(["--extract", "--file"])
        .arg(flake.join("../flake.tar"))
        .current_dir(&flake));

    let url = format!("path:{}", flake.display());
    let stub = format!("path:{}/fixtures/nixpkgs-stub", flake.display());
    let with_stub = ["--override-input", "nixpkgs", stub.as_str()];
    run(store
        .nix("nix")
        .args(["flake", "check", "--no-build"])
        .args(with_stub)
        .arg(&url));
    let outputs = run(store
        .nix("nix")
        .args(["flake", "show", "--json"])
        .args(with_stub)
        .arg(&url));
    let outputs: Value = serde_json::from_str(&outputs).unwrap();
    for system in [
        "x86_64-linux",
        "aarch64-linux",
        "x86_64-darwin",
        "aarch64-darwin",
    ] {
        assert_eq!(outputs["packages"][system]["default"]["type"], "derivation");
        assert_eq!(outputs["checks"][system]["image"]["type"], "derivation");
        let architecture = run(store
            .nix("nix")
            .args(["eval", "--json"])
            .args(with_stub)
            .arg(format!("{url}#checks.{system}.recipe.args")));
        let expected = if system.starts_with("x86_64") {
            "linux/amd64"
        } else {
            "linux/arm64"
        };
        assert!(architecture.contains(expected), "{architecture}");
    }
}

#[test]
fn the_fixture_s_files_keep_their_modes() {
    let root = repository().join("fixtures/closure/root");
    let paths = fs::read_to_string(repository().join("fixtures/closure/paths")).unwrap();
    let hello = paths
        .lines()
        .find(|path| path.ends_with("-hello-1.0"))
        .unwrap();
    let program = root.join(hello.trim_start_matches('/')).join("bin/hello");
    let mode = fs::metadata(program).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "{mode:o}");
}
