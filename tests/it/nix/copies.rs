//! The programs that an image has beside it: they build the same image straight
//! into another place.

use std::fs;
use std::path::PathBuf;

use nix2oci_tests::Isolated;
use nix2oci_tests::image_files::{manifest, manifest_digest, text};
use serde_json::Value;

use super::{Store, WITH_SHELL};
use crate::loaders::is_without;

/// The full name of the fixture's image.
const NAME: &str = "registry.example:5000/team/fixture:v1";

/// What the scripts below begin with: `run` runs the program where everything
/// is as here, but `/nix`, which this machine may lack, is the store.
const RUN: &str = r#"
mkdir "$state/all"
mount -t tmpfs tmpfs "$state/all"
for entry in /*; do
    if [ -L "$entry" ]; then
        cp -a "$entry" "$state/all"
    elif [ -d "$entry" ] && [ "$entry" != /nix ]; then
        mkdir "$state/all$entry"
        mount --rbind "$entry" "$state/all$entry"
    fi
done
mkdir "$state/all/nix"
mount --bind "$root/nix" "$state/all/nix"
run() { chroot "$state/all" "$program" "$@"; }
"#;

impl Store {
    /// Builds programs and returns the one of a name, as the store knows it and
    /// as it lies on this machine.
    fn program(&self, attribute: &str, name: &str) -> (String, PathBuf) {
        let built = self.build(attribute, WITH_SHELL).unwrap();
        let found = built
            .iter()
            .map(|path| path.join("bin").join(name))
            .find(|program| program.exists())
            .unwrap_or_else(|| panic!("no {name} in {built:?}"));
        let inside = found.strip_prefix(self.root()).unwrap();
        (format!("/{}", inside.display()), found)
    }

    /// Runs a script with the store at `/nix`, and a program of the image.
    fn run_with(&self, isolated: &Isolated, name: &str, script: &str) -> String {
        let (program, _) = self.program("copies", name);
        let root = self.root().display().to_string();
        let variables = [("root", root.as_str()), ("program", program.as_str())];
        isolated.run(self.folder(), &variables, &format!("{RUN}{script}"))
    }
}

#[test]
fn copy_to_writes_the_image_that_the_derivation_builds() {
    let store = Store::new();
    let image = store.image("image").unwrap();
    let digest = manifest_digest(&image);
    let printed = store.run_with(
        &Isolated::plain(),
        "copy-to",
        "run \"archive:$PWD/copied.tar\"
         run \"oci:$PWD/copied:v1\" --quiet
         run - --quiet > piped.tar
         if run; then exit 1; else echo $?; fi
         if run --quiet; then exit 1; else echo $?; fi",
    );
    assert_eq!(printed, format!("{digest}\n{digest}\n2\n2\n"));
    let copied = |name: &str| store.folder().join(name);
    let built = fs::read(&image).unwrap();
    for name in ["copied.tar", "piped.tar"] {
        assert!(fs::read(copied(name)).unwrap() == built, "{name}");
    }
    assert_eq!(manifest_digest(&copied("copied")), digest);
}

#[test]
fn the_image_gets_into_each_runtime() {
    let store = Store::new();
    let image = store.image("image").unwrap();
    let digest = manifest_digest(&image);
    let id = text(&manifest(&image)["config"]["digest"]).to_owned();
    for (loader, isolated, program, script, listed) in [
        (
            "podman",
            Isolated::podman(),
            "copy-to-podman",
            "run --quiet
             podman images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'",
            &id,
        ),
        (
            "docker",
            Isolated::docker(),
            "copy-to-docker-daemon",
            "run --quiet
             docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'",
            &id,
        ),
        (
            "containerd",
            Isolated::containerd(),
            "copy-to-containerd",
            "run k8s.io --quiet
             ctr --namespace k8s.io images list | awk 'NR > 1 { print $1, $3 }'",
            &digest,
        ),
        (
            "containerd",
            Isolated::containerd(),
            "copy-to-containerd",
            "run
             ctr images list | awk 'NR > 1 { print $1, $3 }'",
            &digest,
        ),
    ] {
        if is_without(loader) {
            continue;
        }
        let printed = store.run_with(&isolated, program, script);
        let expected = format!("{digest}\n{NAME} {listed}\n");
        assert_eq!(printed, expected, "{program}");
    }
}

/// What is pushed, and where: store paths or a recipe, to the image's own name.
#[test]
fn a_registry_is_told_by_the_image_s_name() {
    let store = Store::new();
    let (_, program) = store.program("copies", "copy-to-registry");
    let script = fs::read_to_string(program).unwrap();
    let facts: Value = store.facts();
    let words = [
        "/bin/nix2oci' 'push' ".to_owned(),
        format!("'{}'", text(&facts["configFile"])),
        format!("'{}'", store.fixture("words-latest")),
        "'--compression' 'gzip'".to_owned(),
        format!("'docker://{NAME}' \"$@\"\n"),
    ];
    for word in &words {
        assert!(script.contains(word), "no {word} in {script}");
    }
    assert!(!script.contains("--name"), "{script}");

    let built = store.build("copy-recipe", WITH_SHELL).unwrap();
    let [recipe, program] = built.as_slice() else {
        panic!("{built:?}");
    };
    let script = fs::read_to_string(program.join("bin/copy-to-registry")).unwrap();
    let recipe = recipe.strip_prefix(store.root()).unwrap();
    let words = format!(
        "/bin/nix2oci' 'push' '/{}' 'docker://{NAME}' \"$@\"\n",
        recipe.display()
    );
    assert!(script.contains(&words), "no {words} in {script}");
}
