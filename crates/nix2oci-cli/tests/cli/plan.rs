//! What `plan` says beside the layers: what is kept, what moves, and whether
//! that is too much.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::run;

/// Libraries of the closure.
const LIBRARIES: usize = 12;

fn path(name: &str, release: u64) -> String {
    format!("/nix/store/{release:032}-{name}")
}

/// Writes `vN.json`: an application that needs all libraries, each of which
/// needs the one before it. `changed` have the hash of this release, and so has
/// the application.
fn release(dir: &Path, release: u64, changed: &[usize]) {
    let library = |n: usize| {
        let release = if changed.contains(&n) { release } else { 1 };
        path(&format!("lib{n}"), release)
    };
    let info = |path: String, size: u64, references: Vec<String>| {
        json!({
            "path": path, "references": references, "narSize": size,
            "narHash": format!("sha256:{}", "0".repeat(52)), "valid": true,
        })
    };
    let mut infos: Vec<Value> = (0..LIBRARIES)
        .map(|n| {
            let below = n.checked_sub(4).map(library).into_iter().collect();
            info(library(n), 1_000_000 * (n as u64 + 1), below)
        })
        .collect();
    infos.push(info(
        path("app", release),
        5_000,
        (0..LIBRARIES).map(library).collect(),
    ));
    fs::write(
        dir.join(format!("v{release}.json")),
        Value::from(infos).to_string(),
    )
    .unwrap();
}

fn plan(dir: &Path, release: u64, args: &[&str]) -> (i32, String, String) {
    let source = format!("path-info:v{release}.json");
    let common = ["plan", "--closure", &source, "-q"];
    run(dir, &[&common[..], args].concat())
}

#[track_caller]
fn document(dir: &Path, release: u64, args: &[&str]) -> Value {
    let (code, stdout, stderr) = plan(dir, release, &[args, &["--json"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    serde_json::from_str(&stdout).unwrap()
}

/// The store paths of each layer that fits.
fn layers(document: &Value, origin: &str) -> Vec<Vec<String>> {
    let layers = document["layers"].as_array().unwrap().iter();
    let fitting = layers.filter(|layer| layer["origin"] == origin);
    let paths =
        |layer: &Value| -> Vec<String> { serde_json::from_value(layer["paths"].clone()).unwrap() };
    fitting.map(paths).collect()
}

/// A directory with three releases: the second changes the application alone,
/// the third a library that two others need.
fn history() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    release(dir.path(), 1, &[]);
    release(dir.path(), 2, &[]);
    release(dir.path(), 3, &[3, 7, 11]);
    dir
}

#[test]
fn layers_of_an_earlier_plan_stay() {
    let history = history();
    let dir = history.path();
    let first = document(dir, 1, &["--max-layers", "5"]);
    fs::write(dir.join("first.json"), first.to_string()).unwrap();
    let all = layers(&first, "new");
    assert_eq!(all.len(), 5);

    // Of an application that changed nothing else moves, with and without.
    for keep in [&[][..], &["--keep-layers", "first.json"]] {
        let second = document(dir, 2, &[&["--max-layers", "5"], keep].concat());
        let paths = |document: &Value, at: usize| document["layers"][at]["paths"].clone();
        for at in 0..4 {
            assert_eq!(paths(&second, at), paths(&first, at));
        }
        assert_eq!(paths(&second, 4), json!([path("app", 2)]));
    }
    let second = document(
        dir,
        2,
        &["--max-layers", "5", "--keep-layers", "first.json"],
    );
    assert_eq!(layers(&second, "kept"), all[..4]);
    assert_eq!(layers(&second, "new"), [[path("app", 2)]]);

    // A library that changed takes no layer along that it was not in.
    let keep = ["--max-layers", "6", "--keep-layers", "first.json"];
    let third = document(dir, 3, &keep);
    let changed = [3, 7, 11].map(|n| path(&format!("lib{n}"), 1));
    let untouched: Vec<_> = all[..4]
        .iter()
        .filter(|layer| !layer.iter().any(|path| changed.contains(path)))
        .cloned()
        .collect();
    assert!(!untouched.is_empty());
    for layer in &untouched {
        assert!(layers(&third, "kept").contains(layer), "{layer:?}");
    }
}

#[test]
fn layers_of_other_images_are_preferred() {
    let history = history();
    let dir = history.path();
    let other = json!({"version": 1, "layers": [
        {"paths": [path("lib0", 1), path("lib5", 1)]},
        {"paths": [path("lib1", 1), "/nix/store/00000000000000000000000000000009-other"]},
        {"paths": []},
    ]});
    fs::write(dir.join("other.json"), other.to_string()).unwrap();
    let plan = document(dir, 1, &["--share-layers", "other.json"]);
    assert_eq!(
        layers(&plan, "shared"),
        [[path("lib0", 1), path("lib5", 1)]]
    );
}

#[test]
fn what_is_volatile_is_the_top_layer() {
    let history = history();
    let dir = history.path();
    let (lib, app) = (path("lib2", 1), path("app", 1));
    let plan = document(dir, 1, &["--volatile", &lib, "--volatile", &app]);
    let top = plan["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(top["paths"], json!([app, lib]));
}

#[test]
fn a_plan_says_what_a_node_fetches() {
    let history = history();
    let dir = history.path();
    let first = document(dir, 1, &[]);
    fs::write(dir.join("first.json"), first.to_string()).unwrap();
    let (code, stdout, _) = plan(dir, 2, &["--against", "first.json"]);
    assert_eq!(code, 0);
    assert!(
        stdout.ends_with("a node that has first.json fetches at most 5.0 kB\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("\n12 layers reused, 78.0 MB; 1 layer new, 5.0 kB\n"),
        "{stdout}"
    );
    let (code, stdout, _) = plan(dir, 1, &["--against", "first.json"]);
    assert_eq!(code, 0);
    assert!(
        stdout.ends_with("a node that has first.json fetches nothing\n"),
        "{stdout}"
    );
}

#[test]
fn a_plan_is_a_gate() {
    let history = history();
    let dir = history.path();
    let first = document(dir, 1, &[]);
    fs::write(dir.join("first.json"), first.to_string()).unwrap();
    let against = ["--against", "first.json"];
    for (args, code, message) in [
        (&["--max-size", "78005000"][..], 0, ""),
        (
            &["--max-size", "78004999"],
            8,
            "error: the store paths have 78005000 bytes before compression, --max-size allows 78004999 bytes\n",
        ),
        (&["--max-upload", "5kB"], 0, ""),
        (
            &["--max-upload", "4kB"],
            8,
            "error: at most 5.0 kB of layers would move, --max-upload allows 4.0 kB\n",
        ),
        (
            &["--max-upload", "4kB", "--max-size", "1G"],
            8,
            "error: at most 5.0 kB of layers would move, --max-upload allows 4.0 kB\n",
        ),
    ] {
        let (found, stdout, stderr) = plan(dir, 2, &[&against[..], args].concat());
        assert_eq!((found, stderr.as_str()), (code, message), "{args:?}");
        assert!(stdout.contains("before compression"), "{args:?}: {stdout}");
    }
    let json = [&against[..], &["--json", "--max-size", "1"]].concat();
    let (code, stdout, stderr) = plan(dir, 2, &json);
    assert_eq!(code, 8);
    assert!(serde_json::from_str::<Value>(&stdout).is_ok());
    assert!(stderr.contains("--max-size allows 1 B"), "{stderr}");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let history = history();
    let dir = history.path();
    fs::write(dir.join("version"), r#"{"version":9,"layers":[]}"#).unwrap();
    fs::write(
        dir.join("paths"),
        r#"{"version":1,"layers":[{"paths":["/nix/store/x"]}]}"#,
    )
    .unwrap();
    fs::write(dir.join("object"), r#"{"some":"thing"}"#).unwrap();
    fs::write(dir.join("text"), "text").unwrap();
    for (file, problem) in [
        ("version", "version is a plan of version 9, expected 1"),
        ("paths", "paths is neither a recipe nor a plan"),
        ("object", "object"),
        (
            "text",
            "text: is neither a tar, nor a compressed one, nor JSON",
        ),
        ("missing", "missing"),
    ] {
        for option in ["--keep-layers", "--share-layers", "--against"] {
            let (code, stdout, stderr) = plan(dir, 1, &[option, file]);
            assert_eq!(
                (code, stdout.as_str()),
                (3, ""),
                "{option} {file}: {stderr}"
            );
            assert!(stderr.contains(problem), "{option} {file}: {stderr}");
        }
    }
    for args in [
        ["--keep-layers", "first.json"],
        ["--share-layers", "first.json"],
        [
            "--volatile",
            "/nix/store/00000000000000000000000000000001-app",
        ],
    ] {
        let (code, _, stderr) = plan(dir, 1, &[&args[..], &["--layers", "largest"]].concat());
        let expected = format!("error: --layers largest does not look at {}\n", args[0]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
    let unknown = "/nix/store/00000000000000000000000000000009-x";
    let (code, _, stderr) = plan(dir, 1, &["--volatile", unknown]);
    assert_eq!(code, 3);
    assert!(stderr.contains("-x is not in the closure"), "{stderr}");
    let (code, _, stderr) = plan(dir, 1, &["--max-upload", "5kB"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--against"), "{stderr}");
}
