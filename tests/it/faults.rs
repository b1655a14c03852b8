//! What the command leaves behind when it fails or is stopped: nothing, or
//! what was there before; and what it says.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use nix2oci_tests::command::nix2oci;
use nix2oci_tests::handmade_closure::{graph, store_path};

/// A folder with a store of one path, which is a directory, and an empty
/// folder `out`.
struct Fixture {
    dir: TempDir,
    root: String,
    inside: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (name, root) = store_path(1, "app");
        let inside = dir.path().join("root/nix/store").join(name);
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("graph"), graph(&[(root.clone(), vec![])])).unwrap();
        Self { dir, root, inside }
    }

    /// Adds bytes that take a codec some time.
    fn with_noise(self, len: usize) -> Self {
        let mut state = 1_u32;
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        fs::write(self.inside.join("noise"), bytes).unwrap();
        self
    }

    /// Adds a file that takes so long that a test can interfere.
    fn with_endless_file(self) -> Self {
        let file = File::create(self.inside.join("a-endless")).unwrap();
        file.set_len(1 << 40).unwrap();
        self
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// The arguments of a build with the store.
    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let args = [
            "build",
            &self.root,
            "--store-root",
            "root",
            "--threads",
            "2",
        ];
        let source = ["--closure", "graph:graph", "--compression", "gzip:1"];
        [&args[..], &source[..], more].concat()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(nix2oci());
        command
            .args(self.args(more))
            .current_dir(self.dir.path())
            .env("TMPDIR", self.out())
            .stdin(Stdio::null());
        command
    }

    /// Runs a build that must fail with `code`, leave nothing, and tell every
    /// text of `told`.
    #[track_caller]
    fn refuses(&self, command: &mut Command, code: i32, told: &[&str]) {
        let output = command.stdout(Stdio::null()).output().unwrap();
        self.refused(&output, code, told);
    }

    #[track_caller]
    fn refused(&self, output: &Output, code: i32, told: &[&str]) {
        let talk = String::from_utf8_lossy(&output.stderr);
        eprintln!("{talk}");
        assert_eq!(output.status.code(), Some(code), "{talk}");
        for told in told {
            assert!(talk.contains(told), "expected {told:?} in\n{talk}");
        }
        assert_eq!(names(&self.out()), BTreeSet::new(), "{talk}");
    }

    /// Starts a build and returns when it reads the endless file.
    fn start(&self, output: &str) -> (Child, BufReader<std::process::ChildStderr>) {
        let mut child = self
            .command(&["--progress", "json", "--output", output])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut events = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("layer-progress") {
            line.clear();
            assert_ne!(events.read_line(&mut line).unwrap(), 0, "it ended early");
        }
        (child, events)
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[track_caller]
fn assert_good(dir: &Path, image: &str) {
    let check = Command::new(nix2oci())
        .args(["check", image])
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    let talk = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{image}: {said}{talk}");
}

/// Outputs, each with the file that shows whether the image is there.
const OUTPUTS: [(&str, &str); 2] = [("out/image.tar", "image.tar"), ("oci:out/layout", "layout")];

#[test]
fn a_kill_at_any_moment_leaves_no_half_image() {
    let fixture = Fixture::new().with_noise(12 << 20);
    let dir = fixture.dir.path();
    // Numerical Recipes' generator: the moments are the same in every run.
    let mut seed = 7_u32;
    let mut left_over = 0;
    for (output, name) in OUTPUTS {
        for is_there in [false, true] {
            let final_name = fixture.out().join(name);
            let build = |tag| {
                let mut command = fixture.command(&["--name", "app", "--output", output]);
                command.args(["--tag", tag, "--cmd", tag, "--quiet"]);
                command.stdout(Stdio::null());
                command
            };
            let start = Instant::now();
            assert!(build("old").status().unwrap().success());
            let whole = start.elapsed();
            let old = digest_of(&final_name);
            let mut seen = BTreeSet::new();
            for _ in 0..10 {
                if !is_there {
                    remove(&final_name);
                }
                let mut child = build("new").spawn().unwrap();
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let part = f64::from(seed >> 8) / f64::from(1 << 24);
                std::thread::sleep(whole.mul_f64(part * 1.1));
                child.kill().unwrap();
                child.wait().unwrap();
                if is_there || final_name.exists() {
                    assert_good(dir, output);
                    seen.insert(digest_of(&final_name));
                }
                assert!(!is_there || final_name.exists());
                left_over += names(&fixture.out()).len() - usize::from(final_name.exists());
            }
            // What was left does not disturb the next build.
            assert!(build("new").status().unwrap().success());
            assert_good(dir, output);
            seen.remove(&old);
            seen.remove(&digest_of(&final_name));
            assert!(seen.is_empty(), "{output} was neither the old nor the new");
            if is_there && output.starts_with("oci:") {
                assert_good(dir, &format!("{output}:old"));
            }
        }
    }
    eprintln!("hidden files and directories seen after kills: {left_over}");
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
}

/// Returns a digest of an archive, or of a layout's index.
fn digest_of(path: &Path) -> Vec<u8> {
    let file = if path.is_dir() {
        path.join("index.json")
    } else {
        path.to_owned()
    };
    Sha256::digest(fs::read(file).unwrap()).to_vec()
}

#[test]
fn a_signal_half_way_leaves_nothing() {
    for (output, _) in OUTPUTS.into_iter().chain([("-", "")]) {
        for signal in [Signal::INT, Signal::TERM] {
            let fixture = Fixture::new().with_endless_file();
            let (mut child, mut events) = fixture.start(output);
            kill_process(Pid::from_child(&child), signal).unwrap();
            let start = Instant::now();
            let mut talk = String::new();
            events.read_to_string(&mut talk).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(130), "{talk}");
            assert!(start.elapsed() < Duration::from_secs(5), "it takes long");
            assert!(talk.contains("\"exitCode\":130"), "{talk}");
            assert_eq!(names(&fixture.out()), BTreeSet::new(), "{output}");
        }
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let fixture = Fixture::new().with_noise(12 << 20);
    let script = "mount -t tmpfs -o size=4m tmpfs out || exit 99
        code=0; \"$@\" > result || code=$?; ls -A out; exit $code";
    // For standard output the layers wait in $TMPDIR, else beside the image.
    let outputs = ["out/image.tar", "oci:out/layout", "-"];
    for output in outputs {
        let run = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(nix2oci())
            .args(fixture.args(&["--output", output]))
            .current_dir(fixture.dir.path())
            .env("TMPDIR", fixture.out())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stdout), "", "{output}");
        let told = [
            "error: failed to write a temporary file in ",
            "/out",
            "No space left on device",
        ];
        fixture.refused(&run, 4, &told);
    }
}

#[test]
fn a_pipe_that_is_closed_is_told() {
    let fixture = Fixture::new().with_noise(4 << 20);
    let mut child = fixture
        .command(&["--output", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [
        "error: failed to write standard output",
        "Broken pipe",
        "hint:",
    ];
    fixture.refused(&output, 4, &told);
}

#[test]
fn what_nix_does_not_store_is_named() {
    for (kind, told) in [
        (FileType::Socket, "is a socket"),
        (FileType::Fifo, "is a named pipe"),
    ] {
        for (output, _) in OUTPUTS {
            let fixture = Fixture::new();
            let path = fixture.inside.join("odd");
            mknodat(CWD, &path, kind, Mode::RUSR, 0).unwrap();
            let mut command = fixture.command(&["--output", output]);
            fixture.refuses(
                &mut command,
                3,
                &["/00000000000000000000000000000001-app/odd", told],
            );
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for (output, _) in OUTPUTS {
        let fixture = Fixture::new();
        let path = fixture.inside.join("secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let mut command = fixture.command(&["--output", output]);
        if geteuid().is_root() {
            // Root without the right to read everything.
            command = Command::new("setpriv");
            command
                .args(["--bounding-set", "-dac_override,-dac_read_search"])
                .arg(nix2oci())
                .args(fixture.args(&["--output", output]))
                .current_dir(fixture.dir.path());
        }
        let told = ["failed to open ", "-app/secret", "Permission denied"];
        fixture.refuses(&mut command, 3, &told);
    }
}

#[test]
fn a_file_that_vanishes_or_shrinks_is_named() {
    for (output, _) in OUTPUTS {
        let fixture = Fixture::new().with_endless_file();
        let file = fixture.inside.join("a-endless");
        let (child, mut events) = fixture.start(output);
        let shrunk = File::options().write(true).open(&file).unwrap();
        shrunk.set_len(1).unwrap();
        let mut output = child.wait_with_output().unwrap();
        events.read_to_end(&mut output.stderr).unwrap();
        fixture.refused(&output, 3, &["-app/a-endless changed while it was read"]);
    }

    let fixture = Fixture::new().with_endless_file();
    let later = fixture.inside.join("b");
    fs::write(&later, "x").unwrap();
    let endless = fixture.inside.join("a-endless");
    File::options()
        .write(true)
        .open(&endless)
        .unwrap()
        .set_len(256 << 20)
        .unwrap();
    let (child, mut events) = fixture.start("out/image.tar");
    fs::remove_file(&later).unwrap();
    let mut output = child.wait_with_output().unwrap();
    events.read_to_end(&mut output.stderr).unwrap();
    fixture.refused(&output, 3, &["failed to open ", "-app/b", "No such file"]);

    let fixture = Fixture::new();
    fs::remove_dir(&fixture.inside).unwrap();
    let mut command = fixture.command(&["--output", "out/image.tar"]);
    fixture.refuses(&mut command, 3, &["00000000000000000000000000000001-app"]);
}

#[test]
fn a_flipped_byte_is_found_by_verify() {
    let fixture = Fixture::new();
    let (name, path) = store_path(2, "file");
    let file = fixture.inside.with_file_name(name);
    fs::write(&file, "content").unwrap();
    let hash = nar_hash(b"content");
    let record = format!("{path}\n{hash}\n120\n\n0\n");
    fs::write(fixture.dir.path().join("registration"), record).unwrap();
    let build = |output| {
        let mut command = Command::new(nix2oci());
        command
            .args(["build", &path, "--store-root", "root", "--verify"])
            .args(["--closure", "registration:registration", "--output", output])
            .current_dir(fixture.dir.path());
        command
    };
    assert!(build("good.tar").output().unwrap().status.success());
    fs::write(&file, "contend").unwrap();
    for (output, _) in OUTPUTS {
        fixture.refuses(&mut build(output), 5, &[&path, "has NAR hash"]);
    }
}

/// Returns the hash of the NAR of a regular file, in base 16.
fn nar_hash(content: &[u8]) -> String {
    let mut nar = Vec::new();
    let words: [&[u8]; 7] = [
        b"nix-archive-1",
        b"(",
        b"type",
        b"regular",
        b"contents",
        content,
        b")",
    ];
    for word in words {
        nar.extend((word.len() as u64).to_le_bytes());
        nar.extend(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    let digest = Sha256::digest(nar);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
