//! `--layer-tar`: what is in the image beside it, and what is told.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{APP, Fixture, LIB, run};

/// Writes a tar of `state` into a store path beside the fixture's, and tells
/// the graph of it: the store path refers to the application.
fn layer(fixture: &Fixture) -> String {
    let layer = "/nix/store/00000000000000000000000000000002-layer";
    let dir = fixture.file(&format!("root{layer}"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(fixture.file("state"), "{}").unwrap();
    let tar = Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(dir.join("layer.tar"))
        .arg("state")
        .current_dir(fixture.path())
        .status();
    assert!(tar.unwrap().success());
    let graph = fixture.file("graph.json");
    let mut infos: Vec<Value> = serde_json::from_slice(&fs::read(&graph).unwrap()).unwrap();
    let mut info = infos[0].clone();
    info["path"] = layer.into();
    info["references"] = vec![APP].into();
    infos.push(info);
    fs::write(graph, Value::from(infos).to_string()).unwrap();
    layer.to_owned()
}

fn layers(fixture: &Fixture, args: &[&str]) -> Value {
    let (code, stdout, stderr) = fixture.run("plan", &[args, &["--json", "-q"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    serde_json::from_str::<Value>(&stdout).unwrap()["layers"].clone()
}

/// As a derivation gives it: the closure of the store path with the tar.
#[test]
fn the_store_path_of_the_tar_is_left_out_and_what_it_mentions_is_in() {
    let fixture = Fixture::new();
    let layer = layer(&fixture);
    let tar = format!("root{layer}/layer.tar");
    let planned = layers(&fixture, &[&layer, "--layer-tar", &tar]);
    let planned = planned.as_array().unwrap();
    let (top, below) = planned.split_last().unwrap();
    assert_eq!(top["strategy"], "tar");
    assert_eq!(top["reason"], format!("{tar}, as it is"));
    let paths = below.iter().flat_map(|l| l["paths"].as_array().unwrap());
    let mut paths: Vec<_> = paths.map(|path| path.as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, [LIB, APP]);
}

#[test]
fn an_image_may_be_a_tar_alone() {
    let fixture = Fixture::new();
    layer(&fixture);
    let args = [
        "build",
        "-o",
        "image.tar",
        "--name",
        "x",
        "--store-root",
        "root",
    ];
    let tar = "root/nix/store/00000000000000000000000000000002-layer/layer.tar";
    let (code, _, stderr) = run(fixture.path(), &[&args[..], &["--layer-tar", tar]].concat());
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, _) = run(fixture.path(), &["check", "image.tar"]);
    assert_eq!((code, stdout.as_str()), (0, "ok\n"));
    let (code, _, stderr) = run(fixture.path(), &args);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("no ROOT is given"), "{stderr}");
}

#[test]
fn what_check_will_find_is_warned_of() {
    let fixture = Fixture::new();
    let tar = Command::new("tar")
        .args(["--no-recursion", "--create", "--file", "odd.tar"])
        .arg("root/nix/store")
        .current_dir(fixture.path())
        .status();
    assert!(tar.unwrap().success());
    let args = ["result", "--layer-tar", "odd.tar", "-o", "image.tar"];
    let (code, _, stderr) = fixture.run("build", &args);
    assert_eq!(code, 0, "{stderr}");
    let told = "--layer-tar odd.tar: root has no entry, and root/nix/store is in it";
    assert!(stderr.contains(told), "{stderr}");
    let (code, _, stderr) = fixture.run("build", &["result", "--layer-tar", "no", "-o", "x"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("failed to read no"), "{stderr}");
    let args = ["load", "image.tar", "podman", "--layer-tar", "odd.tar"];
    let (code, _, stderr) = run(fixture.path(), &args);
    assert_eq!(code, 2);
    assert!(stderr.contains("--layer-tar changes"), "{stderr}");
}
