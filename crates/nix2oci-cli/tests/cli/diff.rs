//! `diff`, `explain` and `inspect --efficiency`: what is printed, exit codes,
//! and what is refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{APP, Fixture, LIB, run};

/// Another build of the library, of another version.
const NEW_LIB: &str = "/nix/store/00000000000000000000000000000002-lib-1.1";
/// And the application with it.
const NEW_APP: &str = "/nix/store/00000000000000000000000000000003-app";

/// A fixture with a second release in its store, and images of both.
fn releases() -> Fixture {
    let fixture = Fixture::new();
    for (path, text) in [
        (APP, format!("#!{LIB}/bin/sh\n")),
        (NEW_APP, format!("#!{NEW_LIB}/bin/sh\n")),
        (NEW_LIB, "more text\n".to_owned()),
    ] {
        let dir = fixture.path().join(format!("root{path}/bin"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), text).unwrap();
    }
    // The sizes are those of the files above.
    let info = |path: &str, references: &[&str]| {
        let nar_size = if path.ends_with("app") { 512 } else { 464 };
        json!({
            "path": path, "references": references, "narSize": nar_size,
            "narHash": format!("sha256:{}", "0".repeat(52)), "valid": true,
        })
    };
    let graph = json!([
        info(APP, &[LIB]),
        info(LIB, &[]),
        info(NEW_APP, &[NEW_LIB]),
        info(NEW_LIB, &[])
    ]);
    fs::write(fixture.file("graph.json"), graph.to_string()).unwrap();
    for (root, name, env) in [(APP, "v1", "A=1"), (NEW_APP, "v2", "A=2")] {
        let entrypoint = format!("{root}/bin/file");
        let destination = format!("oci:{name}");
        let args = [
            root,
            "--name",
            "app:1",
            "--platform",
            "linux/amd64",
            "--compression",
            "none",
            "--env",
            env,
            "--entrypoint",
            &entrypoint,
            "-q",
            "-o",
            &destination,
        ];
        let (code, _, stderr) = fixture.run("build", &args);
        assert_eq!(code, 0, "{stderr}");
    }
    fixture
}

/// Runs the command in the fixture; it must end with 0 and say nothing else.
#[track_caller]
fn printed(fixture: &Fixture, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(fixture.path(), args);
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}: {stdout}");
    stdout
}

#[test]
fn a_diff_tells_layers_paths_packages_and_config() {
    let fixture = releases();
    insta::assert_snapshot!("diff-text", printed(&fixture, &["diff", "v1", "v2"]));
    insta::assert_snapshot!(
        "diff-text-all",
        printed(&fixture, &["diff", "v1", "v2", "-v"])
    );
    let json = printed(&fixture, &["diff", "oci:v1", "oci:v2:1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["isSame"], false);
    assert_eq!(json["packages"][1]["name"], "lib");
    assert_eq!(json["packages"][1]["to"], json!(["1.1"]));
    assert_eq!(json["pull"]["size"], json["to"]["size"]);
}

#[test]
fn a_diff_is_quiet_if_nothing_changed() {
    let fixture = releases();
    let same = "the images are the same\n";
    assert_eq!(printed(&fixture, &["diff", "v1", "v1"]), same);
    assert_eq!(
        printed(&fixture, &["diff", "v1", "v1", "--exit-code"]),
        same
    );
    let (code, stdout, _) = run(fixture.path(), &["diff", "v1", "v2", "--exit-code"]);
    assert_eq!(code, 8);
    assert!(stdout.contains("packages"), "{stdout}");
}

#[test]
fn recipes_and_plans_are_compared_too() {
    let fixture = releases();
    let platform = ["--platform", "linux/amd64", "--compression", "none"];
    let (code, plan, _) = fixture.run("plan", &[&[NEW_APP, "--json"], &platform[..]].concat());
    assert_eq!(code, 0);
    fs::write(fixture.file("plan.json"), plan).unwrap();
    let (code, ..) = fixture.run(
        "resolve",
        &[&[APP, "-q", "-o", "recipe.json"], &platform[..]].concat(),
    );
    assert_eq!(code, 0);
    let stdout = printed(&fixture, &["diff", "v2", "plan.json"]);
    assert_eq!(stdout, "the images are the same\n");
    insta::assert_snapshot!(
        "diff-recipe-plan",
        printed(&fixture, &["diff", "recipe.json", "plan.json"])
    );
    // The config alone differs.
    let stdout = printed(&fixture, &["diff", "recipe.json", "v1"]);
    assert!(stdout.contains("the store paths are the same"), "{stdout}");
    assert!(stdout.contains("Env A: (none) → 1"), "{stdout}");
    assert!(stdout.contains("pull    nothing, and nothing"), "{stdout}");

    let (code, _, stderr) = run(
        fixture.path(),
        &["diff", "recipe.json", "v1", "--platform", "linux/arm64"],
    );
    assert_eq!(code, 3);
    assert!(
        stderr.contains("recipe.json is for linux/amd64, not for linux/arm64"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_compared_is_told() {
    let fixture = releases();
    fs::write(fixture.file("other.json"), "{\"a\": 1}").unwrap();
    fs::write(
        fixture.file("future.json"),
        r#"{"version": 2, "layers": []}"#,
    )
    .unwrap();
    for (code, args, told) in [
        (2, &["v1"][..], "<IMAGE>"),
        (2, &["v1", "docker-daemon:x"], "is not read here"),
        (3, &["v1", "missing"], "failed to read missing"),
        (3, &["v1", "oci:v2:latest"], "holds no image latest"),
        (
            3,
            &["v1", "graph.json"],
            "graph.json is neither a recipe nor a plan",
        ),
        (
            3,
            &["v1", "other.json"],
            "other.json is neither a recipe nor a plan",
        ),
        (3, &["v1", "future.json"], "a plan of version 2, expected 1"),
        (3, &["v1", "root"], "is a directory without oci-layout"),
        (3, &["v1", "v2", "--platform", "linux/arm64"], "linux/amd64"),
        (
            2,
            &[
                "docker://a.example/x",
                "docker://b.example/x",
                "--creds",
                "me:it",
            ],
            "--creds are for one registry",
        ),
    ] {
        let (found, stdout, stderr) = run(fixture.path(), &[&["diff"], args].concat());
        assert_eq!((found, stdout.as_str()), (code, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn explain_answers_alike_for_roots_images_and_recipes() {
    let fixture = releases();
    let (code, of_root, stderr) = fixture.run("explain", &[NEW_APP, "--path", "lib"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!("explain-root", of_root);
    let of_image = printed(&fixture, &["explain", "v2", "--path", "lib"]);
    let reason = "  named by the config";
    assert!(of_image.contains(reason), "{of_image}");
    assert_eq!(of_image.replace(reason, ""), of_root);

    let (code, ..) = fixture.run("resolve", &[NEW_APP, "-q", "-o", "recipe.json"]);
    assert_eq!(code, 0);
    let (code, of_recipe, stderr) = fixture.run("explain", &["recipe.json", "--path", "lib"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(of_recipe.replace("  nothing refers to it", ""), of_root);
}

#[test]
fn explain_has_the_documented_json() {
    let fixture = releases();
    let args = ["explain", "v2", "--path", "app", "--all", "--json"];
    insta::assert_snapshot!("explain-json", printed(&fixture, &args));
}

#[test]
fn explain_prints_all_chains() {
    let fixture = Fixture::new();
    let path = |n: usize, name: &str| format!("/nix/store/{}{n}-{name}", "0".repeat(31));
    let [app, web, tls, libc] =
        [(1, "app"), (2, "web"), (3, "tls"), (4, "libc")].map(|(n, name)| path(n, name));
    let info = |path: &str, references: &[&str]| json!({ "path": path, "references": references, "narSize": 1000, "valid": true });
    let graph = json!([
        info(&app, &[&web, &tls]),
        info(&web, &[&tls]),
        info(&tls, &[&libc]),
        info(&libc, &[]),
    ]);
    fs::write(fixture.file("graph.json"), graph.to_string()).unwrap();
    let (code, stdout, stderr) = fixture.run("explain", &[&app, "--path", "libc", "--all"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!("explain-all", stdout);
    let (_, stdout, _) = fixture.run("explain", &[&app, "--path", "app"]);
    insta::assert_snapshot!("explain-of-a-root", stdout);
}

#[test]
fn what_cannot_be_explained_is_told() {
    let fixture = releases();
    for (code, args, told) in [
        (2, &["v1"][..], "--path <NAME>"),
        (
            3,
            &["v1", "--path", "libb"],
            "hint: is one of these meant: lib?",
        ),
        (
            3,
            &["v1", "--path", "/nix/store"],
            "none of the 2 store paths is it",
        ),
        (
            3,
            &["v1", "--path", "00000"],
            "--path 00000 may be any of 2 store paths",
        ),
        (3, &["missing", "--path", "lib"], "missing cannot be found"),
        (
            2,
            &["v1", "--path", "lib", "--env", "A=1"],
            "--env changes what is in an image",
        ),
        (
            2,
            &["docker://a.example/x", "--path", "lib"],
            "hint: --read-layers downloads",
        ),
    ] {
        let (found, stdout, stderr) = run(fixture.path(), &[&["explain"], args].concat());
        assert_eq!((found, stdout.as_str()), (code, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    }
    let (_, _, stderr) = run(fixture.path(), &["explain", "v1", "--path", "00000"]);
    let list = "hint: say more of the one that is meant:\n  \
                00000000000000000000000000000001-app\n  00000000000000000000000000000000-lib\n";
    assert!(stderr.ends_with(list), "{stderr}");
}

#[test]
fn inspect_tells_how_much_nobody_sees() {
    let fixture = releases();
    let stdout = printed(&fixture, &["inspect", "v1", "--efficiency"]);
    let last = stdout.lines().last();
    assert_eq!(
        last,
        Some("efficiency 100.0 %: 0 B of 62 B are replaced or deleted by a layer above")
    );
    let json = printed(&fixture, &["inspect", "v1", "--efficiency", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["efficiency"]["fileBytes"], 62);
    let (_, json, _) = run(Path::new(fixture.path()), &["inspect", "v1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["efficiency"], Value::Null);
}

#[test]
fn layers_that_are_packed_otherwise_are_told() {
    let fixture = Fixture::new();
    for (name, owner) in [("a.tar", "0:0"), ("b.tar", "1000")] {
        let (code, _, stderr) = fixture.run("build", &["result", "-o", name, "--owner", owner]);
        assert_eq!(code, 0, "{stderr}");
    }
    let (code, stdout, stderr) = run(fixture.path(), &["diff", "a.tar", "b.tar"]);
    assert_eq!(code, 0, "{stderr}");
    let told = "        2 new layers with the store paths of one that is gone, but another tar: ";
    assert!(stdout.contains(told), "{stdout}");
}
