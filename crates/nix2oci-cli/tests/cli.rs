//! The command as users and scripts see it: help, messages, exit codes, and
//! documents. What is in an image is tested by the library.

#[path = "cli/caches.rs"]
mod caches;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/diff.rs"]
mod diff;
#[path = "cli/habits.rs"]
mod habits;
#[path = "cli/html.rs"]
mod html;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/layer.rs"]
mod layer;
#[path = "cli/layer_tar.rs"]
mod layer_tar;
#[path = "cli/load.rs"]
mod load;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/platform.rs"]
mod platform;
#[path = "cli/refused.rs"]
mod refused;
#[path = "cli/root.rs"]
mod root;
#[path = "cli/several.rs"]
mod several;
#[path = "cli/simulate.rs"]
mod simulate;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

/// A store path of the tests' closure.
const APP: &str = "/nix/store/00000000000000000000000000000001-app";
/// What it refers to.
const LIB: &str = "/nix/store/00000000000000000000000000000000-lib";

fn nix2oci(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nix2oci"))
        .args(args)
        .current_dir(dir)
        .env_remove("SOURCE_DATE_EPOCH")
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .output()
        .expect("the command was built with the tests")
}

/// Returns the exit code, standard output and standard error.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = nix2oci(dir, args);
    let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
    (
        output.status.code().expect("the command ended by itself"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A directory with a store of two paths below `root`, a symlink `result`, and
/// `graph.json`, which tells of them as `nix path-info --json` does.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [(APP, "#!/bin/sh\n"), (LIB, "text\n")] {
            let path = dir.path().join(format!("root{path}/bin"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("file"), text).unwrap();
        }
        std::os::unix::fs::symlink(APP, dir.path().join("result")).unwrap();
        let info = |path: &str, references: &[&str]| {
            json!({
                "path": path, "references": references, "narSize": 500,
                "narHash": format!("sha256:{}", "0".repeat(52)), "valid": true,
            })
        };
        let graph = json!([info(APP, &[LIB]), info(LIB, &[])]);
        fs::write(dir.path().join("graph.json"), graph.to_string()).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Runs a verb that takes a closure.
    fn run(&self, verb: &str, args: &[&str]) -> (i32, String, String) {
        let source = [
            verb,
            "--store-root",
            "root",
            "--closure",
            "path-info:graph.json",
        ];
        run(self.path(), &[&source[..], args].concat())
    }

    /// Returns the names of the files that were not there at first.
    fn new_files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["root", "result", "graph.json"].contains(&name.as_str()))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn help_of_every_verb() {
    for verb in [
        "",
        "build",
        "resolve",
        "layer",
        "plan",
        "simulate",
        "push",
        "load",
        "copy",
        "index",
        "lock",
        "inspect",
        "diff",
        "explain",
        "check",
        "cache",
        "cache info",
        "cache prune",
        "cache clear",
        "completions",
        "man",
    ] {
        let args: Vec<_> = verb.split_whitespace().chain(["--help"]).collect();
        let (code, stdout, stderr) = run(Path::new("/"), &args);
        assert_eq!((code, stderr.as_str()), (0, ""), "{verb}");
        let name = if verb.is_empty() { "nix2oci" } else { verb };
        insta::assert_snapshot!(format!("help-{}", name.replace(' ', "-")), stdout);
    }
}

#[test]
fn a_root_may_be_left_out_if_a_file_knows_the_closure() {
    let fixture = Fixture::new();
    let (code, _, stderr) = run(fixture.path(), &["plan"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("error: no ROOT is given"), "{stderr}");
    let (code, stdout, stderr) = fixture.run("plan", &["--json"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains(APP) && stdout.contains(LIB), "{stdout}");
}

#[test]
fn a_plan_has_the_documented_shape() {
    let fixture = Fixture::new();
    let args = [
        "result",
        "--contents",
        "result",
        "--platform",
        "linux/arm64",
    ];
    let (code, stdout, _) = fixture.run("plan", &[&args[..], &["--json"]].concat());
    assert_eq!(code, 0);
    insta::assert_snapshot!("plan-json", stdout);
    let (code, stdout, _) = fixture.run("plan", &args);
    assert_eq!(code, 0);
    insta::assert_snapshot!("plan-text", stdout);
    let (_, stdout, _) = fixture.run("plan", &[&args[..], &["-vv"]].concat());
    assert!(stdout.contains(APP) && stdout.contains(LIB), "{stdout}");
}

#[test]
fn a_build_tells_its_digest_everywhere() {
    let fixture = Fixture::new();
    let names = ["result", "--name", "app:1", "--tag", "2"];
    let output = [
        "-o",
        "oci:out",
        "--metadata-file",
        "metadata.json",
        "--digest-file",
        "digest",
    ];
    let (code, digest, stderr) = fixture.run("build", &[&names[..], &output].concat());
    assert_eq!(code, 0, "{stderr}");
    assert!(digest.starts_with("sha256:") && digest.lines().count() == 1);
    assert_eq!(fs::read_to_string(fixture.file("digest")).unwrap(), digest);
    let metadata = fs::read_to_string(fixture.file("metadata.json")).unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["version"], 1);
    assert_eq!(metadata["digest"], digest.trim());
    assert_eq!(metadata["names"][1], "docker.io/library/app:2");
    let layers = metadata["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        for key in ["key", "digest", "diffId"] {
            assert!(layer[key].as_str().unwrap().starts_with("sha256:"), "{key}");
        }
        assert_eq!(layer["state"], "new");
    }
    assert_eq!(fixture.new_files(), ["digest", "metadata.json", "out"]);

    let (code, recipe, _) = fixture.run("resolve", &names);
    assert_eq!(code, 0);
    let recipe: Value = serde_json::from_str(&recipe).unwrap();
    assert_eq!(recipe["manifestDigest"], digest.trim());

    let (code, bare, _) = fixture.run("resolve", &["--no-store-paths"]);
    assert_eq!(code, 0);
    let bare: Value = serde_json::from_str(&bare).unwrap();
    assert_eq!(bare["layers"].as_array().unwrap().len(), 1);
    assert_eq!(
        bare["layers"][0]["uncompressedSize"],
        3 * 512,
        "only the root"
    );

    let (code, again, _) = fixture.run("build", &["-o", "again.tar", "--json", "-q"]);
    assert_eq!(code, 0);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(
        (&again["digest"], &again["name"]),
        (&digest.trim().into(), &Value::Null)
    );
}

#[test]
fn options_end_up_in_the_config() {
    let fixture = Fixture::new();
    let document = json!({
        "Entrypoint": ["/old"], "Env": ["A=1", "B=2"], "Healthcheck": {"Test": ["NONE"]}
    });
    fs::write(fixture.file("config.json"), document.to_string()).unwrap();
    fs::write(fixture.file("env"), "# some\n\n  A=9\nC='x y' \n").unwrap();
    let (code, _, stderr) = fixture.run(
        "build",
        &[
            "result",
            "-o",
            "app.tar",
            "--config",
            "config.json",
            "--name",
            "app",
            "--entrypoint",
            "/bin/app",
            "--entrypoint",
            "-v",
            "--cmd",
            r#"["a b","c"]"#,
            "--env-file",
            "env",
            "--env",
            "A=3",
            "--workdir",
            "/srv",
            "--user",
            "1000",
            "--label",
            "k=v",
            "--expose",
            "80",
            "--volume",
            "/data",
            "--stop-signal",
            "SIGINT",
            "--annotation",
            "manifest:x=y",
            "--author",
            "me",
            "--created",
            "86400",
        ],
    );
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("podman leaves out Healthcheck of the config"),
        "{stderr}"
    );
    let (code, stdout, stderr) = run(fixture.path(), &["inspect", "app.tar", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let image: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        image["config"],
        json!({
            "Entrypoint": ["/bin/app", "-v"], "Cmd": ["a b", "c"],
            "Env": ["A=3", "B=2", "C='x y' "], "Healthcheck": {"Test": ["NONE"]},
            "WorkingDir": "/srv", "User": "1000", "Labels": {"k": "v"},
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
        })
    );
    assert_eq!(image["created"], "1970-01-02T00:00:00Z");
    assert_eq!(image["author"], "me");
    assert_eq!(image["annotations"]["x"], "y");
    // What the image tells is what its layers have.
    let layers = image["layers"].as_array().unwrap();
    for layer in layers {
        assert_eq!(layer["paths"], layer["contents"]["storePaths"]);
        assert!(layer["narSizes"][0].as_u64().unwrap() > 0, "{layer}");
    }
    let made_by: Vec<_> = layers.iter().map(|layer| &layer["createdBy"]).collect();
    assert_eq!(made_by, ["nix2oci lib", "nix2oci app"]);

    let (code, stdout, _) = run(fixture.path(), &["inspect", "app.tar"]);
    assert_eq!(code, 0);
    assert!(stdout.lines().any(|l| l == "annotation x=y"), "{stdout}");
    assert!(!stdout.contains("dev.nix2oci.layers"), "{stdout}");
    for line in [
        "name       docker.io/library/app:latest",
        "  Env            B=2",
        "  Labels         k=v",
    ] {
        assert!(stdout.lines().any(|l| l == line), "{line}\n{stdout}");
    }
    let (code, stdout, _) = run(fixture.path(), &["check", "app.tar"]);
    assert_eq!((code, stdout.as_str()), (0, "ok\n"));
}

#[test]
fn an_image_that_will_not_start_is_warned_of() {
    let fixture = Fixture::new();
    fs::write(fixture.file("config.json"), r#"{"Entrypont": ["/x"]}"#).unwrap();
    let file = format!("{APP}/bin/file");
    let start = json!({"path": "/start", "text": "#!/bin/none\n", "executable": true});
    let start = json!({"version": 1, "files": [start]}).to_string();
    fs::write(fixture.file("start.json"), start).unwrap();
    let missing = format!("{APP}/bin/app");
    let other = APP.replace("app", "other") + "/bin/app";
    let with_space = format!("{file} --serve");
    for (args, told) in [
        (&[][..], "the image has no entrypoint and no cmd"),
        (
            &["--config", "config.json"],
            "unknown key Entrypont; is Entrypoint meant?",
        ),
        (&["--entrypoint", &missing], "bin/app is not there"),
        (
            &["--entrypoint", &other],
            "-other, which is not in the image",
        ),
        (&["--entrypoint", &with_space], "it is not split at spaces"),
        (&["--entrypoint", "bash -c x"], "it is not split at spaces"),
        (
            &["--entrypoint", "nope", "--contents", "result"],
            "the entrypoint nope is in no directory of the image's PATH, /usr/local/sbin:",
        ),
        (
            &[
                "--entrypoint",
                "file",
                "--contents",
                "result",
                "--env",
                "PATH=/sbin",
            ],
            "the entrypoint file is in no directory of the image's PATH, /sbin: ",
        ),
        (
            &["--entrypoint", "/start", "--root-tree", "start.json"],
            "the entrypoint /start is a script for /bin/none, which will not be in the image",
        ),
        (
            &["--cmd", "/bin/file"],
            "the cmd /bin/file will not be in the image",
        ),
        (
            &["--cmd", "x", "--platform", "linux/amd46"],
            "no loader knows the processor amd46",
        ),
    ] {
        let args = [&["result", "-o", "a.tar"], args].concat();
        let (code, _, stderr) = fixture.run("build", &args);
        assert_eq!(code, 0, "{stderr}");
        let warnings = stderr.lines().filter(|line| line.starts_with("warning: "));
        assert!(
            warnings.clone().any(|w| w.contains(told)),
            "{args:?}\n{stderr}"
        );
    }
    // The script's shell is not in the image.
    let (code, _, stderr) = fixture.run("build", &["result", "-o", "a.tar", "--entrypoint", &file]);
    let told = "bin/file is a script for /bin/sh, which will not be in the image";
    assert!(code == 0 && stderr.contains(told), "{stderr}");
    let script = format!("#!{LIB}/bin/file\n");
    fs::write(fixture.file(&format!("root{APP}/bin/file")), script).unwrap();
    for args in [
        &["--entrypoint", &file][..],
        &["--entrypoint", "file", "--contents", "result"],
        &["--entrypoint", "./file"],
        &["--cmd", "/bin/file", "--contents", "result"],
    ] {
        let args = [&["result", "-o", "a.tar", "--tag", "1"], args].concat();
        let (code, _, stderr) = fixture.run("build", &args);
        assert_eq!((code, stderr.contains("warning")), (0, false), "{stderr}");
        assert!(stderr.contains("localhost/app:1"), "{stderr}");
    }
}

#[test]
fn check_lists_what_is_wrong_and_exits_with_8() {
    let fixture = Fixture::new();
    let (code, digest, _) = fixture.run("build", &["-o", "oci:out", "--name", "a"]);
    assert_eq!(code, 0);
    let hex = digest.trim().trim_start_matches("sha256:");
    let manifest = fixture.file("out/blobs/sha256").join(hex);
    let longer = fs::read_to_string(&manifest).unwrap() + " ";
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, longer).unwrap();

    let (code, stdout, _) = run(fixture.path(), &["check", "oci:out"]);
    assert_eq!(code, 8, "{stdout}");
    assert!(stdout.contains("error: manifest sha256:"), "{stdout}");
    let (code, stdout, _) = run(fixture.path(), &["check", "oci:out", "--json"]);
    assert_eq!(code, 8);
    let findings: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&findings["version"], &findings["ok"]),
        (&1.into(), &false.into())
    );
    assert_eq!(findings["problems"][0]["severity"], "error");
}

#[test]
fn events_are_lines_of_json_and_so_are_errors() {
    let fixture = Fixture::new();
    let events = |args: &[&str]| -> Vec<Value> {
        let (_, _, stderr) = fixture.run("build", args);
        stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let done = events(&["result", "-o", "app.tar", "--progress", "json"]);
    assert!(done.iter().all(|event| event["version"] == 1));
    assert_eq!(done.first().unwrap()["event"], "closure-read");
    assert_eq!(done.last().unwrap()["event"], "done");

    let failed = events(&["nowhere", "-o", "app.tar", "--progress", "json"]);
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["event"], &failed[0]["exitCode"]),
        (&"error".into(), &3.into())
    );
}

#[test]
fn an_archive_on_standard_output_is_all_that_is_there() {
    let fixture = Fixture::new();
    let source = [
        "build",
        "--store-root",
        "root",
        "--closure",
        "path-info:graph.json",
    ];
    let output = nix2oci(fixture.path(), &[&source[..], &["-o", "-", "-q"]].concat());
    assert!(output.status.success() && output.stderr.is_empty());
    let (code, _, _) = fixture.run("build", &["-o", "app.tar", "-q"]);
    assert_eq!(code, 0);
    assert_eq!(output.stdout, fs::read(fixture.file("app.tar")).unwrap());
}

#[test]
fn standard_output_has_one_result() {
    let fixture = Fixture::new();
    let (code, digest, _) = fixture.run("build", &["-o", "a.tar", "--digest-file", "-"]);
    assert_eq!((code, digest.lines().count()), (0, 1), "{digest}");
    let (code, metadata, _) = fixture.run("build", &["-o", "a.tar", "--metadata-file", "-"]);
    assert_eq!(code, 0);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["digest"], digest.trim());
    let (code, stdout, stderr) = fixture.run("resolve", &["--digest-file", "-"]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    let (code, stdout, _) = fixture.run("resolve", &["-o", "recipe", "--digest-file", "-"]);
    assert_eq!((code, stdout), (0, digest));
}

#[test]
fn a_result_that_nobody_reads_is_an_error_and_text_is_not() {
    let fixture = Fixture::new();
    for (verb, code) in [("plan", 0), ("resolve", 4)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_nix2oci"))
            .args([
                verb,
                "--store-root",
                "root",
                "--closure",
                "path-info:graph.json",
            ])
            .current_dir(fixture.path())
            .stdout(writer)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{verb}");
    }
}

/// Starts a build of `app.tar` that reads its closure from standard input, and
/// waits until it reads: it listens for signals before.
fn start_build(fixture: &Fixture, mut command: Command) -> (Child, ChildStdin) {
    let mut child = command
        .args(["build", "result", "--store-root", "root", "-o", "app.tar"])
        .args(["--closure", "path-info:-"])
        .current_dir(fixture.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds.
    stdin.write_all(&vec![b' '; 1 << 20]).unwrap();
    (child, stdin)
}

fn send(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for first in [Signal::INT, Signal::HUP, Signal::TERM] {
        let fixture = Fixture::new();
        let command = Command::new(env!("CARGO_BIN_EXE_nix2oci"));
        let (mut child, stdin) = start_build(&fixture, command);
        send(&child, first);
        // More than once: whoever runs the tests may have the first ignored.
        let status = loop {
            send(&child, Signal::TERM);
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(130));
        assert!(!fixture.file("app.tar").exists());
        drop(stdin);
    }
}

#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let fixture = Fixture::new();
    let mut command = Command::new("sh");
    let shell = r#"trap "" HUP; exec "$0" "$@""#;
    command.args(["-c", shell, env!("CARGO_BIN_EXE_nix2oci")]);
    let (mut child, mut stdin) = start_build(&fixture, command);
    send(&child, Signal::HUP);
    let graph = fs::read(fixture.file("graph.json")).unwrap();
    stdin.write_all(&graph).unwrap();
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(fixture.file("app.tar").is_file());
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, stdout, stderr) = run(Path::new("/"), &["completions", shell]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        assert!(stdout.contains("metadata-file"), "{shell}");
    }
}

#[test]
fn every_verb_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(dir.path(), &["man", "share/man1"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
    for page in [
        "nix2oci",
        "nix2oci-build",
        "nix2oci-plan",
        "nix2oci-push",
        "nix2oci-load",
        "nix2oci-cache-prune",
    ] {
        let text = fs::read_to_string(dir.path().join(format!("share/man1/{page}.1"))).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}
