//! `load` with loaders that do as a test wants; real ones are in the workspace's
//! tests.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{APP, Fixture};

/// Puts a shell script in place of a loader, and returns the search path.
fn with_program(fixture: &Fixture, name: &str, script: &str) -> String {
    let programs = fixture.file("programs");
    fs::create_dir_all(&programs).unwrap();
    let program = programs.join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", programs.display())
}

/// The command with the fixture's store; `path` is the search path.
fn command(fixture: &Fixture, path: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nix2oci"));
    command
        .args(args)
        .current_dir(fixture.path())
        .env("PATH", path)
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it; returns the exit code, standard output and standard error.
fn load(fixture: &Fixture, path: &str, args: &[&str]) -> (i32, String, String) {
    let output = command(fixture, path, &[&["load"], args].concat())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

const CLOSURE: [&str; 4] = ["--store-root", "root", "--closure", "path-info:graph.json"];

#[test]
fn the_loader_gets_what_build_writes() {
    let fixture = Fixture::new();
    let (code, digest, stderr) = fixture.run("build", &["-o", "app.tar", "--name", "app:1"]);
    assert_eq!(code, 0, "{stderr}");
    for (runtime, program, arguments) in [
        ("podman", "podman", "load --quiet"),
        ("docker", "docker", "load --quiet"),
        ("containerd", "ctr", "--namespace default images import -"),
        (
            "containerd:k8s.io",
            "ctr",
            "--namespace k8s.io images import -",
        ),
    ] {
        let script = "echo \"$*\" > arguments; cat > loaded.tar; echo 'Loaded image'";
        let path = with_program(&fixture, program, script);
        // Store paths, and each form of a stored image.
        let built = [&["result"], &CLOSURE[..], &["--name", "app:1"]].concat();
        for args in [&built[..], &["app.tar"], &["archive:app.tar:1"]] {
            let args = [args, &[runtime, "--progress", "plain"]].concat();
            let (code, stdout, stderr) = load(&fixture, &path, &args);
            assert_eq!((code, &stdout), (0, &digest), "{args:?}\n{stderr}");
            let told = fs::read_to_string(fixture.file("arguments")).unwrap();
            assert_eq!(told.trim_end(), arguments);
            let loaded = fs::read(fixture.file("loaded.tar")).unwrap();
            assert!(
                loaded == fs::read(fixture.file("app.tar")).unwrap(),
                "{args:?}"
            );
            let program = runtime.split(':').next().unwrap();
            let told = format!("loaded into {program}: docker.io/library/app:1, ");
            assert!(stderr.contains(&told), "{stderr}");
            assert!(!stderr.contains("Loaded image"), "{stderr}");
        }
        let args = ["app.tar", runtime, "--verbose"];
        let (_, _, stderr) = load(&fixture, &path, &args);
        assert!(stderr.contains("Loaded image\n"), "{stderr}");
    }
}

#[test]
fn k3s_gets_a_file_named_by_the_image() {
    let fixture = Fixture::new();
    let images = fixture.file("images");
    fs::create_dir(&images).unwrap();
    let (code, digest, _) = fixture.run("build", &["-o", "oci:layout:v1"]);
    assert_eq!(code, 0);
    let path = std::env::var("PATH").unwrap();
    let args = [
        "oci:layout:v1",
        "k3s:images",
        "--name",
        "h.io/a/app",
        "--tag",
        "7",
    ];
    for _ in 0..2 {
        let (code, stdout, stderr) = load(&fixture, &path, &args);
        assert_eq!((code, &stdout), (0, &digest), "{stderr}");
        let files: Vec<PathBuf> = fs::read_dir(&images)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(files, [images.join("h.io+a+app@7.tar")]);
    }
    let (code, stdout, _) = load(&fixture, &path, &["images/h.io+a+app@7.tar", "k3s:images"]);
    assert_eq!((code, stdout), (0, digest), "its name is in it");
}

#[test]
fn what_cannot_be_loaded_is_told() {
    let fixture = Fixture::new();
    let (code, _, _) = fixture.run("build", &["-o", "oci:layout:v1", "--name", "a:v1"]);
    assert_eq!(code, 0);
    let (code, _, _) = fixture.run("resolve", &["-o", "recipe.json"]);
    assert_eq!(code, 0);
    // An image that has a tag and no name.
    let index = fs::read_to_string(fixture.file("layout/index.json")).unwrap();
    let nameless = index.replace("io.containerd.image.name", "example.other");
    fs::write(fixture.file("layout/index.json"), nameless).unwrap();
    let failing = "echo 'no space on device' >&2; exit 125";
    let path = with_program(&fixture, "podman", failing);
    let nothing = fixture.file("programs").display().to_string();
    fs::write(fixture.file("programs/docker"), "no program").unwrap();

    for (path, code, args, told) in [
        (
            &path,
            4,
            &["oci:layout", "podman"][..],
            "no space on device\nerror: podman load --quiet failed: exit status: 125\n",
        ),
        (
            &path,
            4,
            &[&["result"], &CLOSURE[..], &["podman"]].concat(),
            "error: podman load --quiet failed: exit status: 125\n",
        ),
        (
            &nothing,
            4,
            &["oci:layout", "containerd", "--name", "a"],
            "failed to run ctr --namespace default images import -\n  caused by: No such file or \
             directory (os error 2)\n\nhint: is ctr installed",
        ),
        (
            &nothing,
            4,
            &["oci:layout", "docker"],
            "failed to run docker load --quiet\n  caused by: Permission denied",
        ),
        (
            &path,
            2,
            &["oci:layout:v1", "containerd"],
            "the image has no name, and containerd imports nothing that has none",
        ),
        (
            &path,
            2,
            &["oci:layout", "podman", "--tag", "2"],
            "hint: say --name as well: the image has none",
        ),
        (
            &path,
            2,
            &["oci:layout", "podman", "--env", "A=b"],
            "--env changes what is in an image",
        ),
        (
            &path,
            2,
            &["oci:layout", APP, "podman"],
            "oci:layout is an image, and only one is taken",
        ),
        (&path, 3, &["oci:layout:v2", "podman"], "holds no image v2"),
        (
            &path,
            2,
            &["recipe.json", "podman", "--env", "A=b"],
            "--env changes what is in an image",
        ),
        (
            &path,
            2,
            &["result"],
            "no runtime is given behind result: expected podman, ",
        ),
        (
            &path,
            2,
            &[],
            "error: no runtime is given: expected podman, docker, ",
        ),
        (
            &path,
            2,
            &["result", "runc"],
            "\"runc\" is no runtime: expected podman, ",
        ),
        (
            &path,
            2,
            &["docker://h.io/app:1", "podman"],
            "is in a registry, expected store paths or a stored image\n\nhint: `podman pull h.io/app:1`",
        ),
        (&path, 2, &["result", "podman:x"], "takes nothing behind it"),
        (
            &path,
            4,
            &["oci:layout", "k3s:no/where", "--name", "a"],
            "hint: does the directory exist?",
        ),
    ] {
        let (found, stdout, stderr) = load(&fixture, path, args);
        assert_eq!((found, stdout.as_str()), (code, ""), "{args:?}\n{stderr}");
        assert!(stderr.contains(told), "{args:?}\n{stderr}");
    }
}

#[test]
fn a_loader_is_warned_of_what_it_cannot_read() {
    let fixture = Fixture::new();
    let (code, _, _) = fixture.run("build", &["-o", "app.tar", "--compression", "zstd"]);
    assert_eq!(code, 0);
    for program in ["podman", "docker"] {
        let path = with_program(&fixture, program, "cat > /dev/null");
        let built = [&["result"], &CLOSURE[..], &["--compression", "zstd"]].concat();
        for args in [&built[..], &["app.tar"]] {
            let (code, _, stderr) = load(&fixture, &path, &[args, &[program]].concat());
            assert_eq!(code, 0, "{stderr}");
            let is_warned = stderr.contains("warning: Docker 20.10 cannot load zstd layers");
            assert_eq!(is_warned, program == "docker", "{stderr}");
        }
    }
}

#[test]
fn messages_stay_json_when_a_loader_talks() {
    let fixture = Fixture::new();
    let script = "cat > /dev/null; echo talk; echo 'half a line' >&2; printf end >&2; exit 1";
    let path = with_program(&fixture, "docker", script);
    let args = [&["result"], &CLOSURE[..], &["docker", "--progress", "json"]].concat();
    let (code, _, stderr) = load(&fixture, &path, &args);
    assert_eq!(code, 4);
    let lines: Vec<serde_json::Value> = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let notes: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "note")
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(notes, ["half a line", "end"]);
    assert_eq!(lines.last().unwrap()["exitCode"], 4);
}

/// Waits until a file is there.
fn wait_for(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_signal_ends_the_loader_too() {
    // One that reads nothing, and one that has read all and works on.
    for script in ["", "cat > /dev/null; "] {
        let fixture = Fixture::new();
        let mut noise = fs::File::create(fixture.file(&format!("root{APP}/noise"))).unwrap();
        noise.write_all(&vec![7; 3 << 20]).unwrap();
        let script = format!(
            "trap 'echo > ended; exit 1' TERM; {script}echo > begun; while :; do sleep 0.05; done"
        );
        let path = with_program(&fixture, "podman", &script);
        let args = [&["load", "result", "podman"], &CLOSURE[..]].concat();
        let child = command(&fixture, &path, &args)
            .args(["--compression", "none"])
            .spawn()
            .unwrap();
        wait_for(&fixture.file("begun"));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{talk}");
        assert!(output.stdout.is_empty());
        assert!(fixture.file("ended").exists(), "{talk}");
    }
}
