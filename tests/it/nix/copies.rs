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

    /// Runs a script with the store at `/nix`, and a program of an attribute.
    fn run_with(
        &self,
        isolated: &Isolated,
        (attribute, name): (&str, &str),
        script: &str,
    ) -> String {
        let (program, _) = self.program(attribute, name);
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
        ("copies", "copy-to"),
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
        let printed = store.run_with(&isolated, ("copies", program), script);
        let expected = format!("{digest}\n{NAME} {listed}\n");
        assert_eq!(printed, expected, "{program}");
    }
}

/// A registry by the image's name, where the scripts run: Debian's, with no
/// network but this machine's own.
const REGISTRY: &str = r#"
python3 -c 'import fcntl, socket, struct
up = struct.pack("16sh", b"lo", 0x41)
fcntl.ioctl(socket.socket(), 0x8914, up)'
echo '127.0.0.1 registry.example' >> /etc/hosts
cat > "$state/registry.yml" <<END
version: 0.1
storage: {inmemory: {}}
http: {addr: "127.0.0.1:5000"}
END
docker-registry serve "$state/registry.yml" > "$state/registry.log" 2>&1 &
for try in $(seq 100); do
    if python3 -c 'import socket; socket.create_connection(("127.0.0.1", 5000))' 2> /dev/null
    then break; fi
    sleep 0.1
done
image=docker://registry.example:5000/team/fixture:v1
copied() { skopeo inspect --tls-verify=false "$1" --format '{{.Digest}}'; }
"#;

#[test]
fn the_image_gets_into_the_registry_of_its_name() {
    let store = Store::new();
    let digest = manifest_digest(&store.image("image").unwrap());
    let pinned = format!("registry.example:5000/team/fixture@{digest}");
    let script = "run --quiet --plain-http --cache-dir none\ncopied \"$image\"\n";
    let printed = store.run_with(
        &Isolated::plain(),
        ("copies", "copy-to-registry"),
        &format!("{REGISTRY}{script}"),
    );
    assert_eq!(printed, format!("{pinned}\n{digest}\n"));

    let other = pinned.replace("team/fixture", "other");
    let script = "other=docker://registry.example:5000/other:v2
         run \"$other\" --quiet --plain-http --cache-dir none\ncopied \"$other\"\n";
    let printed = store.run_with(
        &Isolated::plain(),
        ("copies", "copy-to"),
        &format!("{REGISTRY}{script}"),
    );
    assert_eq!(printed, format!("{other}\n{digest}\n"));
}

#[test]
fn a_recipe_gets_into_the_registry_of_its_name() {
    let store = Store::new();
    let digest = manifest_digest(&store.image("image").unwrap());
    let printed = store.run_with(
        &Isolated::plain(),
        ("copy-recipe", "copy-to-registry"),
        &format!("{REGISTRY}run --quiet --plain-http\ncopied \"$image\"\n"),
    );
    let pinned = format!("registry.example:5000/team/fixture@{digest}");
    assert_eq!(printed, format!("{pinned}\n{digest}\n"));
}

/// Of an image without contents, only the config's file is given, which is JSON
/// and no recipe.
#[test]
fn an_image_of_what_its_config_mentions_is_copied() {
    let store = Store::new();
    let digest = manifest_digest(&store.image("bare").unwrap());
    let printed = store.run_with(
        &Isolated::plain(),
        ("copy-bare", "copy-to-registry"),
        &format!("{REGISTRY}run --quiet --plain-http --cache-dir none\n"),
    );
    assert_eq!(printed, format!("registry.example:5000/bare@{digest}\n"));
    if !is_without("podman") {
        let printed = store.run_with(
            &Isolated::podman(),
            ("copy-bare", "copy-to-podman"),
            "run --quiet",
        );
        assert_eq!(printed, format!("{digest}\n"));
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
