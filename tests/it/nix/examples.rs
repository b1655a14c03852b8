//! Images that an expression of tests/nix builds, and podman with them.

use std::fmt::Write as _;
use std::path::PathBuf;

use nix2oci_tests::command::{nix2oci, output, run};
use nix2oci_tests::{FixtureStore, Isolated};
use serde_json::Value;

use super::WITH_SHELL;
use crate::loaders::is_without;

/// What every script begins with: what Nix built lies at `/nix` for `inside`,
/// as the programs and streams among it say; `load` takes an archive.
const PRELUDE: &str = r#"
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
inside() { chroot "$state/all" "$@"; }
load() { podman load --quiet --input "$root$1" > /dev/null; }
stream() { inside "$@" --quiet | podman load --quiet > /dev/null; }
run() { podman run --rm --pull never "$@"; }
layers() { podman inspect --type image --format '{{range .RootFS.Layers}}{{println .}}{{end}}' "$1" | grep .; }
"#;

/// The images of one expression, in a store of their own.
pub(super) struct Examples {
    store: FixtureStore,
    file: &'static str,
    arguments: Vec<String>,
}

impl Examples {
    /// Takes the name of the expression's file.
    pub(super) fn of(file: &'static str) -> Self {
        Self {
            store: FixtureStore::new(),
            file,
            arguments: Vec::new(),
        }
    }

    /// Gives the expression one more argument, a string.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let argument = ["--argstr", name, value].map(str::to_owned);
        self.arguments.extend(argument);
        self
    }

    pub(super) fn store(&self) -> &FixtureStore {
        &self.store
    }

    /// Builds attributes and returns their store paths, or why not.
    fn try_all(&self, attributes: &[&str]) -> Result<Vec<String>, String> {
        let mut command = self.store.nix("nix-build");
        command
            .args(["--argstr", "bin"])
            .arg(nix2oci())
            .args(&self.arguments)
            .arg(self.file)
            .args(attributes.iter().flat_map(|name| ["--attr", *name]))
            .args(["--no-out-link", "--option", "sandbox-paths", WITH_SHELL]);
        let paths = output(&mut command)?;
        Ok(paths.lines().map(str::to_owned).collect())
    }

    /// Builds an attribute and returns its store path, or why not.
    pub(super) fn try_build(&self, attribute: &str) -> Result<String, String> {
        let mut paths = self.try_all(&[attribute])?;
        Ok(paths.pop().expect("nix-build prints what it built"))
    }

    /// Builds an attribute and returns its store path.
    #[track_caller]
    pub(super) fn build(&self, attribute: &str) -> String {
        self.try_build(attribute)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Builds an image and returns where it lies on this machine.
    #[track_caller]
    pub(super) fn image(&self, attribute: &str) -> PathBuf {
        self.store.outside(&self.build(attribute))
    }

    /// Returns what an attribute is, which may be part of one that is not built.
    pub(super) fn value(&self, attribute: &str) -> Value {
        let mut command = self.store.nix("nix-instantiate");
        command
            .args(["--argstr", "bin"])
            .arg(nix2oci())
            .args(&self.arguments)
            .arg(self.file)
            .args(["--attr", attribute, "--eval", "--strict", "--json"]);
        serde_json::from_str(&run(&mut command)).expect("Nix writes JSON")
    }

    /// Builds attributes and runs a script with podman in which their store
    /// paths are variables of the same names, `-` and `.` as `_`. Returns what it
    /// printed; `None` where podman is said not to be.
    #[track_caller]
    pub(super) fn podman(&self, attributes: &[&str], script: &str) -> Option<String> {
        if is_without("podman") {
            return None;
        }
        let root = self.store.root().display().to_string();
        let mut variables = format!("root='{root}'\n");
        let paths = self
            .try_all(attributes)
            .unwrap_or_else(|error| panic!("{error}"));
        for (attribute, path) in attributes.iter().zip(paths) {
            let name = attribute.replace(['-', '.'], "_");
            writeln!(variables, "{name}='{path}'").expect("a string takes everything");
        }
        let script = format!("{variables}{PRELUDE}{script}");
        Some(Isolated::podman().run(self.store.folder(), &[], &script))
    }
}
