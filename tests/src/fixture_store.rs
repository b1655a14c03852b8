//! The fixture's closure in a Nix store of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::{repository, run};

/// A Nix store in a folder of its own, with the fixture's closure in it as Nix
/// itself would have left it: registered and with nothing that can be written.
#[derive(Debug)]
pub struct FixtureStore {
    folder: TempDir,
    paths: BTreeMap<String, String>,
}

impl FixtureStore {
    /// Makes the store, and lets Nix check what is in it.
    #[expect(
        clippy::new_without_default,
        reason = "it runs programs and fills a folder"
    )]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fixture = repository().join("fixtures/closure");
        let paths = fs::read_to_string(fixture.join("paths")).expect("the fixture has its paths");
        let paths = paths
            .lines()
            .map(|path| {
                let (_, name) = path.split_once('-').expect("a store path has a name");
                (name.to_owned(), path.to_owned())
            })
            .collect();
        let store = Self { folder, paths };

        fs::create_dir_all(store.root().join("nix")).expect("the temporary folder is writable");
        run(Command::new("cp")
            .args(["-R", "--no-dereference"])
            .arg(fixture.join("root/nix/store"))
            .arg(store.root().join("nix")));
        run(Command::new("chmod")
            .args(["-R", "a-w"])
            .arg(store.outside("/nix/store")));
        run(Command::new("chmod")
            .arg("u+w")
            .arg(store.outside("/nix/store")));
        let registration =
            fs::File::open(fixture.join("registration")).expect("the fixture is there");
        run(store.nix("nix-store").arg("--load-db").stdin(registration));
        run(store
            .nix("nix-store")
            .args(["--verify", "--check-contents"]));
        store
    }

    /// Returns a folder for files beside the store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the folder that is `/` for this store.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Returns where a store path lies on this machine.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Returns the fixture's store path of a name such as `app-1.0`.
    pub fn fixture(&self, name: &str) -> &str {
        &self.paths[name]
    }

    /// Returns the fixture's names and store paths, by name.
    pub fn fixtures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.paths.iter().map(|(name, path)| (&**name, &**path))
    }

    /// Returns a command of Nix for this store: nobody's settings, no
    /// substituters, no build users, the sandbox on.
    pub fn nix(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.folder.path())
            .env("NIX_CONF_DIR", self.folder.path())
            .env("NIX_USER_CONF_FILES", "")
            .env(
                "NIX_REMOTE",
                format!("local?root={}", self.root().display()),
            )
            .env(
                "NIX_CONFIG",
                "sandbox = true\nsandbox-fallback = false\nbuild-users-group =\nsubstituters =\n\
                 experimental-features = nix-command flakes",
            )
            .current_dir(repository().join("tests/nix"));
        command
    }
}

impl Drop for FixtureStore {
    fn drop(&mut self) {
        // Store paths are read-only, which stops everyone but root from
        // deleting what is in them. A folder left behind is no failure.
        let _ = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(self.root())
            .output();
    }
}
