//! Peak memory of the real command: the same small bound for a huge file, for
//! very many files and for very many store paths.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use nix2oci_tests::command::nix2oci;
use nix2oci_tests::handmade_closure::{graph, store_path};

/// What two threads may need, whatever the closure.
const BOUND: u64 = 128 << 20;

/// A store below a folder, and the text graph that lists it.
struct Fixture(TempDir);

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/nix/store")).unwrap();
        Self(dir)
    }

    fn store(&self) -> std::path::PathBuf {
        self.0.path().join("root/nix/store")
    }

    /// Builds the closure of `root` and checks the peak that the command
    /// tells: the system's own figure for the process, not a sample.
    #[track_caller]
    fn assert_bounded(&self, root: &str, compression: &str, output: &str) {
        let done = self.build(root, compression, output);
        let peak = done["peakMemory"].as_u64().expect("Linux tells the peak");
        eprintln!(
            "{compression} {output}: {:.1} MiB, {} ms",
            peak as f64 / f64::from(1 << 20),
            done["milliseconds"]
        );
        assert!(
            peak <= BOUND,
            "{compression} {output} took {peak} bytes, expected at most {BOUND}"
        );
    }

    /// Returns the last event.
    #[track_caller]
    fn build(&self, root: &str, compression: &str, output: &str) -> Value {
        let run = Command::new(nix2oci())
            .args(["build", root, "--store-root", "root"])
            .args(["--closure", "graph:graph", "--threads", "2"])
            .args(["--progress", "json", "--compression", compression])
            .args(["--output", output])
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let talk = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.success(), "{talk}");
        let done: Value = serde_json::from_str(talk.lines().last().unwrap()).unwrap();
        assert_eq!(done["event"], "done");
        done
    }

    fn list(&self, paths: &[(String, Vec<String>)]) {
        fs::write(self.0.path().join("graph"), graph(paths)).unwrap();
    }
}

#[test]
fn a_file_of_10_gib_needs_no_more_memory() {
    let fixture = Fixture::new();
    let (name, path) = store_path(1, "huge");
    let file = File::create(fixture.store().join(name)).unwrap();
    file.set_len(10 << 30).unwrap();
    fixture.list(&[(path.clone(), Vec::new())]);
    fixture.assert_bounded(&path, "zstd:1", "image.tar");
}

#[test]
fn incompressible_bytes_need_no_more_memory() {
    let fixture = Fixture::new();
    let (name, path) = store_path(1, "noise");
    fs::write(fixture.store().join(name), noise(100 << 20)).unwrap();
    fixture.list(&[(path.clone(), Vec::new())]);
    fixture.assert_bounded(&path, "none", "oci:none");
    fixture.assert_bounded(&path, "gzip:9", "gzip.tar");
    fixture.assert_bounded(&path, "zstd:3", "oci:zstd");
}

#[test]
fn files_by_the_hundred_thousand_need_no_more_memory() {
    let fixture = Fixture::new();
    let (name, path) = store_path(1, "many");
    let root = fixture.store().join(name);
    for dir in 0..600 {
        let dir = root.join(format!("share/{}/{dir}", dir % 30));
        fill(&dir, 200);
    }
    // One directory's names are held at once: they are sorted.
    fill(&root.join("wide"), 50_000);
    fixture.list(&[(path.clone(), Vec::new())]);
    fixture.assert_bounded(&path, "gzip:1", "oci:out");
    fixture.assert_bounded(&path, "none", "image.tar");
}

#[test]
fn store_paths_by_the_thousand_need_no_more_memory() {
    let fixture = Fixture::new();
    let mut paths: Vec<(String, Vec<String>)> = Vec::new();
    for n in 0..5000 {
        let (name, path) = store_path(n, &format!("package-{n}"));
        fs::write(fixture.store().join(name), n.to_string()).unwrap();
        let nearest = paths.iter().rev().take(40);
        let references = nearest.map(|(path, _)| path.clone()).collect();
        paths.push((path, references));
    }
    fixture.list(&paths);
    let (root, _) = paths.last().unwrap();
    fixture.assert_bounded(root, "zstd:3", "image.tar");
}

/// Gives a file many names, as `nix-store --optimise` does; that is much faster
/// than to make and remove as many files, and the command must not care.
fn fill(dir: &Path, files: usize) {
    fs::create_dir_all(dir).unwrap();
    let first = dir.join("a-name-of-some-length");
    fs::write(&first, "text\n").unwrap();
    for n in 1..files {
        fs::hard_link(&first, dir.join(format!("a-name-of-some-length-{n}"))).unwrap();
    }
}

/// Returns bytes that no codec makes smaller: xorshift64*.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes
}
