//! `simulate`: releases as `nix path-info --json` told of them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::run;

/// A directory with `v1.json`, `v2.json` and `v3.json`: an application that is
/// new in each, with a config of its own, on libraries of which the third has
/// another.
fn releases() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (release, lib) in [(1, 1), (2, 1), (3, 3)] {
        let path =
            |name: &str, release: u8| format!("/nix/store/{}{release}-{name}", "0".repeat(31));
        let libs: Vec<String> = (0..5).map(|n| path(&format!("data-{n}"), 1)).collect();
        let app = path(&format!("app-1.{release}"), release);
        let config = path("app-config", release);
        let info = |path: &str, size: u64, references: &[String]| {
            json!({
                "path": path, "references": references, "narSize": size,
                "narHash": format!("sha256:{}", "0".repeat(52)), "valid": true,
            })
        };
        let mut infos: Vec<Value> = libs.iter().map(|l| info(l, 1_000_000, &[])).collect();
        let lib = path("lib-3", lib);
        infos.push(info(&lib, 200_000, &libs));
        infos.push(info(&app, 3000, &[lib]));
        infos.push(info(&config, 1000, &[app]));
        let file = dir.path().join(format!("v{release}.json"));
        fs::write(file, json!(infos).to_string()).unwrap();
    }
    dir
}

const ALL: [&str; 3] = ["v1.json", "v2.json", "v3.json"];

fn simulate(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run(dir, &[&["simulate"], args].concat())
}

fn figures(dir: &Path, args: &[&str]) -> Value {
    let (code, stdout, stderr) = simulate(dir, &[&ALL, args, &["--json"]].concat());
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn every_strategy_gets_a_line_and_the_best_is_first() {
    let dir = releases();
    let (code, stdout, stderr) = simulate(
        dir.path(),
        &[&ALL[..], &["--layers", "single", "--layers", "largest"]].concat(),
    );
    assert_eq!((code, stderr.as_str()), (0, ""));
    insta::with_settings!({ snapshot_path => "../snapshots" }, {
        insta::assert_snapshot!("text", stdout);
    });

    let (_, all, _) = simulate(dir.path(), &ALL);
    for entry in nix2oci::plan::STRATEGIES {
        assert!(all.contains(&format!("\n{}", entry.name)), "{all}");
    }
    let moved = |document: &Value| -> Vec<u64> {
        let simulations = document["simulations"].as_array().unwrap();
        let moved = simulations.iter().map(|s| s["movedSize"].as_u64().unwrap());
        moved.collect()
    };
    assert!(moved(&figures(dir.path(), &[])).is_sorted());
}

#[test]
fn the_document_has_every_release() {
    let dir = releases();
    let document = figures(dir.path(), &["--layers", "largest", "--max-layers", "9"]);
    assert_eq!(document["version"], 1);
    assert_eq!(
        document["releases"][2],
        json!({
            "history": "v3.json", "paths": 8, "narSize": 5_204_000,
            "newPaths": 3, "newSize": 204_000,
        })
    );
    assert_eq!(
        document["simulations"],
        json!([{
            "strategy": "largest", "keepsLayers": false, "maxLayers": 9,
            "movedLayers": 5, "movedSize": 208_000, "ratio": 1.0,
            "releases": [
                { "layers": 8, "movedLayers": 8, "movedSize": 5_204_000 },
                { "layers": 8, "movedLayers": 2, "movedSize": 4000 },
                { "layers": 8, "movedLayers": 3, "movedSize": 204_000 },
            ],
        }])
    );
    let budgets = [
        "--layers",
        "single",
        "--max-layers",
        "9",
        "--max-layers",
        "2",
    ];
    let document = figures(dir.path(), &budgets);
    let budgets: Vec<_> = document["simulations"].as_array().unwrap().iter().collect();
    assert_eq!(budgets.len(), 2);
    assert_eq!(budgets[0]["maxLayers"], 2);
    assert_eq!(budgets[1]["maxLayers"], 9);
}

#[test]
fn names_mean_the_store_paths_of_each_release() {
    let dir = releases();
    let moved = |args: &[&str]| {
        let args = [&["--layers", "single", "--max-layers", "2"], args].concat();
        figures(dir.path(), &args)["simulations"][0]["movedSize"].clone()
    };
    assert_eq!(moved(&[]), 2 * 5_204_000);
    // The config is another store path than the application.
    assert_eq!(moved(&["--layer", "base=data"]), 2 * 204_000);
    assert_eq!(moved(&["--layer", "app=app,app-config"]), 4000 + 5_204_000);
    assert_eq!(moved(&["--volatile", "app-config"]), 2 * 5_204_000);
    let (code, _, stderr) = simulate(
        dir.path(),
        &[&ALL[..], &["--volatile", "app", "--volatile", "apps"]].concat(),
    );
    assert_eq!(code, 3);
    assert!(
        stderr.contains("--volatile apps: no release has a store path of this name"),
        "{stderr}"
    );
    let layer = ["--layer", "base=data,nowhere"];
    let (code, _, stderr) = simulate(dir.path(), &[&ALL[..], &layer].concat());
    assert_eq!(code, 3);
    assert!(
        stderr.contains("--layer nowhere: no release has a store path of this name"),
        "{stderr}"
    );
}

#[test]
fn what_is_no_history_is_told_by_name() {
    let dir = releases();
    let told = |expected: i32, args: &[&str]| {
        let (code, stdout, stderr) = simulate(dir.path(), args);
        assert_eq!((code, stdout.as_str()), (expected, ""), "{stderr}");
        stderr
    };
    fs::write(dir.path().join("broken.json"), "[{}").unwrap();
    fs::write(dir.path().join("empty.json"), "[]").unwrap();
    let path = format!("/nix/store/{}-app", "0".repeat(32));
    fs::write(dir.path().join("graph"), format!("{path}\n\n0\n")).unwrap();
    for (code, args, part) in [
        (2, &["v1.json"][..], "2 values required"),
        (3, &["v1.json", "missing.json"], "missing.json"),
        (3, &["v1.json", "broken.json"], "broken.json"),
        (
            3,
            &["v1.json", "empty.json"],
            "empty.json: there is no store path in it",
        ),
        (
            3,
            &["v1.json", "graph:graph"],
            "graph:graph: the NAR size of /nix/store/",
        ),
        (2, &["v1.json", "db"], "store paths of many closures"),
        (
            2,
            &["-", "path-info:-"],
            "- and path-info:- both want standard input",
        ),
        (2, &["v1.json", "attrs:"], "an argument is missing"),
        (
            2,
            &["v1.json", "v2.json", "--layers", "best"],
            "expected one of",
        ),
        (
            2,
            &["v1.json", "v2.json", "--volatile", "/nix/store/x"],
            "without its hash",
        ),
        (
            3,
            &["v1.json", "v2.json", "--store-dir", "/gnu/store"],
            "v1.json",
        ),
    ] {
        let stderr = told(code, args);
        assert!(stderr.contains(part), "{stderr}");
    }
}
