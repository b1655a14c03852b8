//! `nix2oci push` as a whole, with real registries and on bad networks.

mod chaos;
mod diff;
mod faults;
mod only_what_changed;
mod readers;
mod real;
mod secrets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix2oci::store::StoreDir;
use nix2oci::{NarHash, StorePath};
use nix2oci_tests::command::nix2oci;
use nix2oci_tests::image_files::text;
use nix2oci_tests::{MemoryStore, Node};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Releases of an application that needs some libraries, on disk. A release
/// changes the application and nothing else.
pub(super) struct Workload {
    folder: TempDir,
    libraries: usize,
    /// As in `--layers`.
    strategy: &'static str,
}

/// Bytes that gzip makes no smaller, the same for the same seed: a mebibyte
/// that is repeated, of which gzip looks back on 32 KiB.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    const PERIOD: usize = 1024 * 1024;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut period = Vec::with_capacity(PERIOD.min(size) + 8);
    while period.len() < PERIOD.min(size) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        period.extend_from_slice(&state.to_le_bytes());
    }
    period.truncate(PERIOD);
    let mut bytes = period.repeat(size.div_ceil(PERIOD));
    bytes.truncate(size);
    bytes
}

fn store_path(n: usize, name: &str) -> StorePath {
    format!("{n:032}-{name}")
        .parse()
        .expect("digits are letters of nix32")
}

impl Workload {
    /// Makes the releases 1 and 2, with so many libraries, and so many bytes of
    /// noise in each store path.
    pub(super) fn new(libraries: usize, size: usize) -> Self {
        Self::with_releases(2, libraries, &|_| size)
    }

    /// Makes the releases from 1, with so many libraries. The size of a store
    /// path's noise follows from its number: 1 is release 1, 100 the first
    /// library.
    pub(super) fn with_releases(
        releases: usize,
        libraries: usize,
        size: &dyn Fn(usize) -> usize,
    ) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        // Every path a layer of its own, however small.
        let strategy = "largest";
        let workload = Self {
            folder,
            libraries,
            strategy,
        };
        let mut store = MemoryStore::default();
        let mut entries = Vec::new();
        let mut add = |path: StorePath, number: usize, references: &[StorePath]| {
            let bytes = noise(number as u64, size(number));
            let node = Node::directory([("bin", Node::executable(bytes))]);
            let nar = node.nar();
            let hash = NarHash::new(Sha256::digest(&nar).into());
            let full = |path: &StorePath| StoreDir::default().join(path);
            entries.push(json!({
                "path": full(&path),
                "narHash": hash.to_string(),
                "narSize": nar.len(),
                "references": references.iter().map(full).collect::<Vec<_>>(),
            }));
            store.insert(path, node);
        };
        let mut needed = Vec::new();
        for n in 0..libraries {
            let path = store_path(100 + n, &format!("lib{n}"));
            add(path.clone(), 100 + n, &needed[..needed.len().min(1)]);
            needed.push(path);
        }
        for release in 1..=releases {
            add(store_path(release, "app"), release, &needed);
        }
        let written = store.write(&workload.store_root(), &StoreDir::default());
        written.expect("the temporary folder can be written");
        let closure = Value::from(entries).to_string();
        fs::write(workload.closure(), closure).expect("the temporary folder can be written");
        workload
    }

    /// Three small layers.
    pub(super) fn small() -> Self {
        Self::new(2, 40_000)
    }

    /// Groups the paths otherwise than each by itself.
    pub(super) fn planned(self, strategy: &'static str) -> Self {
        Self { strategy, ..self }
    }

    /// How many layers an image has.
    pub(super) fn layers(&self) -> usize {
        self.libraries + 1
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that is `/` for the store.
    pub(super) fn store_root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(super) fn closure(&self) -> PathBuf {
        self.folder.path().join("closure.json")
    }

    /// The store paths of a release.
    pub(super) fn paths(&self, release: usize) -> Vec<String> {
        let libraries = (0..self.libraries).map(|n| store_path(100 + n, &format!("lib{n}")));
        let all = libraries.chain([store_path(release, "app")]);
        all.map(|path| StoreDir::default().join(&path)).collect()
    }

    /// Takes everything away that a store path consists of.
    pub(super) fn lose_store(&self) {
        let store = self.store_root().join("nix/store");
        fs::rename(store, self.folder.path().join("lost")).expect("the folder is ours");
    }

    /// The arguments that say what the image of a release is.
    pub(super) fn image(&self, release: usize) -> Vec<String> {
        let root = self.paths(release).pop().expect("there is an application");
        vec![
            root,
            "--closure".to_owned(),
            format!("path-info:{}", self.closure().display()),
            "--store-root".to_owned(),
            self.store_root().display().to_string(),
            "--platform".to_owned(),
            "linux/amd64".to_owned(),
            "--layers".to_owned(),
            self.strategy.to_owned(),
        ]
    }

    /// A push of a release.
    pub(super) fn push(&self, release: usize, to: &str) -> Push {
        let mut push = Push::of(&[]);
        push.command.args(self.image(release)).arg(docker(to));
        push
    }

    /// Writes the image of a release with another verb than `push`.
    pub(super) fn write(&self, verb: &str, release: usize, output: &str) {
        let mut command = Push::verb(verb);
        command.command.args(self.image(release));
        command.args(&["-o", output]).succeed();
    }
}

/// A name as the command wants it.
pub(super) fn docker(name: &str) -> String {
    format!("docker://{name}")
}

/// A run of the command on a machine that knows nothing: an empty home, no
/// credentials, no cache, an empty folder for what has to wait.
pub(super) struct Push {
    pub(super) command: Command,
    home: TempDir,
}

/// What became of a run.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) elapsed: Duration,
    /// Files that are left where layers wait.
    pub(super) spooled: usize,
}

impl Push {
    pub(super) fn of(arguments: &[&str]) -> Self {
        let mut push = Self::verb("push");
        push.command.args(arguments);
        push
    }

    pub(super) fn verb(verb: &str) -> Self {
        let home = tempfile::tempdir().expect("the temporary folder can be written");
        let spool = home.path().join("spool");
        fs::create_dir(&spool).expect("the temporary folder can be written");
        let mut command = Command::new(nix2oci());
        command
            .arg(verb)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path())
            .env("TMPDIR", &spool)
            .stdin(Stdio::null());
        Self { command, home }
    }

    pub(super) fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it, for those who want to watch it.
    pub(super) fn spawn(&mut self) -> Child {
        self.command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command was built")
    }

    /// Waits for what was started.
    pub(super) fn finish(&self, child: Child, start: Instant) -> Finished {
        let output = child.wait_with_output().expect("the process is ours");
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        let spool = fs::read_dir(self.home.path().join("spool"));
        Finished {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            elapsed: start.elapsed(),
            spooled: spool.expect("the folder is ours").count(),
        }
    }

    pub(super) fn run(mut self) -> Finished {
        let start = Instant::now();
        let child = self.spawn();
        self.finish(child, start)
    }

    /// Runs it, which must succeed, and returns what it prints.
    #[track_caller]
    pub(super) fn succeed(self) -> String {
        let finished = self.run();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert_eq!(finished.spooled, 0);
        finished.stdout
    }

    /// Runs it with `--json`, which must succeed, and returns what it prints.
    #[track_caller]
    pub(super) fn report(self) -> Value {
        let printed = self.args(&["--json"]).succeed();
        serde_json::from_str(&printed).expect("--json prints JSON")
    }

    /// Runs it, which must fail so, and returns what it says.
    #[track_caller]
    pub(super) fn fail(self, code: i32, words: &[&str]) -> String {
        let finished = self.run();
        assert_eq!(finished.code, Some(code), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
        assert_eq!(finished.spooled, 0);
        for word in words {
            assert!(
                finished.stderr.contains(word),
                "{word} is not said: {}",
                finished.stderr
            );
        }
        finished.stderr
    }
}

/// The states of a report's layers, bottom first.
pub(super) fn states(report: &Value) -> Vec<&str> {
    let layers = report["layers"].as_array().expect("a report has layers");
    layers.iter().map(|layer| text(&layer["state"])).collect()
}

/// How many layers of a report have a state.
pub(super) fn count(report: &Value, state: &str) -> usize {
    states(report).iter().filter(|s| **s == state).count()
}
