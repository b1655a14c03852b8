//! Layers that are made by themselves, and images that use them.

use std::fs;

use serde_json::Value;

use super::{APP, Fixture, LIB, run};

fn json(fixture: &Fixture, file: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture.file(file)).unwrap()).unwrap()
}

/// Makes the layer `lib`, of one store path.
fn make_lib(fixture: &Fixture, args: &[&str]) {
    let lib = [LIB, "-o", "lib"];
    let (code, stdout, stderr) = fixture.run("layer", &[&lib[..], args].concat());
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
}

/// Builds an image that uses it, and returns its digest.
fn build(fixture: &Fixture, dest: &str, args: &[&str]) -> String {
    let image = ["result", "-o", dest, "--cmd", "./x", "--use-layer", "lib"];
    let (code, stdout, stderr) = fixture.run("build", &[&image[..], args].concat());
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");
    stdout
}

#[test]
fn an_image_has_the_layers_that_it_uses_as_they_are() {
    let fixture = Fixture::new();
    make_lib(&fixture, &["--with-blob", "--compression", "zstd"]);
    let made = json(&fixture, "lib/layer.json");
    let layer = &made["layers"][0];
    assert_eq!(layer["paths"][0]["path"], LIB);
    assert_eq!(layer["narSizes"], serde_json::json!([500]));
    let blob = layer["blob"].as_str().unwrap();
    assert!(fixture.file("lib").join(blob).is_file());

    let digest = build(&fixture, "a.tar", &["--metadata-file", "m.json"]);
    let report = json(&fixture, "m.json");
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[0]["digest"], layer["digest"]);
    assert_eq!(layers[0]["paths"], serde_json::json!([LIB]));
    assert_eq!(layers[1]["paths"], serde_json::json!([APP]));
    let (code, stdout, _) = run(fixture.path(), &["check", "a.tar"]);
    assert_eq!((code, stdout.as_str()), (0, "ok\n"));

    // Without its blob it is made again.
    fs::remove_dir_all(fixture.file("lib")).unwrap();
    make_lib(&fixture, &["--compression", "zstd"]);
    assert_eq!(
        json(&fixture, "lib/layer.json")["layers"][0]["blob"],
        Value::Null
    );
    for dest in ["b.tar", "oci:layout:1"] {
        assert_eq!(build(&fixture, dest, &[]), digest);
    }
    let recipe = [
        "result",
        "-o",
        "r.json",
        "--cmd",
        "./x",
        "--use-layer",
        "lib",
    ];
    let (code, _, stderr) = fixture.run("resolve", &recipe);
    assert_eq!(code, 0, "{stderr}");
    let recipe = json(&fixture, "r.json");
    assert_eq!(recipe["manifestDigest"], digest.trim());
    assert_eq!(recipe["layers"][0]["packing"]["compression"], "zstd:3");
    assert_eq!(recipe["layers"][1]["packing"], Value::Null);
    let plan = ["result", "--use-layer", "lib", "--json"];
    let (code, stdout, _) = fixture.run("plan", &plan);
    let plan: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &plan["layers"][0]["strategy"]), (0, &"used".into()));
}

#[test]
fn a_layer_that_is_not_what_it_was_is_refused() {
    let fixture = Fixture::new();
    make_lib(&fixture, &["--with-blob"]);
    let made = json(&fixture, "lib/layer.json");
    let blob = made["layers"][0]["blob"].as_str().unwrap();
    let image = [
        "result",
        "-o",
        "a.tar",
        "--cmd",
        "./x",
        "--use-layer",
        "lib",
    ];
    let size = usize::try_from(made["layers"][0]["size"].as_u64().unwrap()).unwrap();
    let other = vec![0; size];
    let name = fixture.file("lib").canonicalize().unwrap().join(blob);
    for (bytes, problem) in [
        (
            &b"something else"[..],
            format!(" has 14 bytes, expected {size}"),
        ),
        (
            &*other,
            format!(
                " has digest {}, expected {}",
                nix2oci::Digest::of(&other),
                made["layers"][0]["digest"].as_str().unwrap()
            ),
        ),
    ] {
        fs::write(&name, bytes).unwrap();
        let (code, stdout, stderr) = fixture.run("build", &image);
        assert_eq!((code, stdout.as_str()), (5, ""), "{stderr}");
        let told = format!("error: {}{problem}", name.display());
        assert!(stderr.contains(&told), "{stderr}\nexpected {told}");
        assert_eq!(fixture.new_files(), ["lib"]);
    }

    fs::remove_dir_all(fixture.file("lib")).unwrap();
    make_lib(&fixture, &[]);
    let made = json(&fixture, "lib/layer.json");
    let diff_id = made["layers"][0]["diffId"].as_str().unwrap();
    let mut other = made.clone();
    other["layers"][0]["diffId"] = format!("sha256:{}", "0".repeat(64)).into();
    fs::write(fixture.file("lib/layer.json"), other.to_string()).unwrap();
    let (code, _, stderr) = fixture.run("build", &image);
    assert_eq!(code, 5, "{stderr}");
    let told = format!("has digest {diff_id}, expected sha256:{}", "0".repeat(64));
    assert!(stderr.contains("the tar of sha256:"), "{stderr}");
    assert!(stderr.contains(&told), "{stderr}");
    fs::write(fixture.file("lib/layer.json"), made.to_string()).unwrap();

    fs::write(fixture.file(&format!("root{LIB}/bin/file")), "changed").unwrap();
    let (code, _, stderr) = fixture.run("build", &image);
    assert_eq!(code, 5, "{stderr}");
    // The NAR hash in the fixture is made up, so it differs in any case.
    assert!(
        stderr.contains(&format!("error: {LIB} has NAR hash")),
        "{stderr}"
    );

    fs::write(fixture.file("lib/layer.json"), "{}").unwrap();
    let (code, _, stderr) = fixture.run("build", &image);
    assert_eq!(code, 3);
    assert!(stderr.contains("no layers of `nix2oci layer`"), "{stderr}");
    fs::remove_file(fixture.file("lib/layer.json")).unwrap();
    let (code, _, stderr) = fixture.run("build", &image);
    assert_eq!(code, 3);
    assert!(
        stderr.contains("hint: --use-layer takes a directory"),
        "{stderr}"
    );
    assert_eq!(fixture.new_files(), ["lib"]);
}

#[test]
fn layers_are_built_on_each_other() {
    let fixture = Fixture::new();
    make_lib(&fixture, &[]);
    let app = ["result", "-o", "deep/app", "--use-layer", "lib"];
    let (code, _, stderr) = fixture.run("layer", &app);
    assert_eq!(code, 0, "{stderr}");
    let made = json(&fixture, "deep/app/layer.json");
    assert_eq!(made["uses"][0]["path"], "../../lib");
    assert_eq!(made["layers"][0]["paths"][0]["path"], APP);
    let image = [
        "result",
        "-o",
        "a.tar",
        "--cmd",
        "./x",
        "--metadata-file",
        "m.json",
    ];
    let (code, _, stderr) = fixture.run(
        "build",
        &[&image[..], &["--use-layer", "deep/app"]].concat(),
    );
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        json(&fixture, "m.json")["layers"].as_array().unwrap().len(),
        2
    );

    // What a used layer has at the root is in the image.
    let root = [
        LIB,
        "-o",
        "root-layer",
        "--contents",
        LIB,
        "--max-layers",
        "2",
    ];
    let (code, _, stderr) = fixture.run("layer", &root);
    assert_eq!(code, 0, "{stderr}");
    let start = ["result", "-o", "b.tar", "--use-layer", "root-layer"];
    for (program, is_there) in [("/bin/file", true), ("/bin/none", false)] {
        let args = [&start[..], &["--cmd", program]].concat();
        let (code, _, stderr) = fixture.run("build", &args);
        assert_eq!(
            (code, !stderr.contains("warning")),
            (0, is_there),
            "{stderr}"
        );
    }

    // A store path that two used layers have is told of.
    let (code, _, _) = fixture.run("layer", &["result", "-o", "both"]);
    assert_eq!(code, 0);
    let twice = ["--use-layer", "lib", "--use-layer", "both"];
    let (code, _, stderr) = fixture.run("build", &[&image[..], &twice].concat());
    let told = format!("warning: {LIB} is in 2 used layers");
    assert!(code == 0 && stderr.contains(&told), "{stderr}");
}

#[test]
fn a_layer_is_no_image_and_replaces_nothing() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.file("full")).unwrap();
    fs::write(fixture.file("full/x"), "").unwrap();
    for (code, args, told) in [
        (
            2,
            &["result", "-o", "x", "--entrypoint", "./y"][..],
            "--entrypoint is about an image",
        ),
        (
            2,
            &["result", "-o", "x", "--no-store-paths"],
            "leaves nothing",
        ),
        (
            4,
            &["result", "-o", "full"],
            "a directory that is not empty",
        ),
        (
            3,
            &["result", "-o", "x", "--use-layer", "nowhere"],
            "failed to read nowhere",
        ),
        (3, &["/nix/store/none", "-o", "x"], "root"),
    ] {
        let (found, stdout, stderr) = fixture.run("layer", args);
        assert_eq!((found, stdout.as_str()), (code, ""), "{args:?}\n{stderr}");
        assert!(stderr.contains(told), "{stderr}");
        assert_eq!(fixture.new_files(), ["full"]);
    }
    let image = ["load", "a.tar", "--use-layer", "full"];
    fs::write(fixture.file("a.tar"), "").unwrap();
    assert_ne!(run(fixture.path(), &image).0, 0);
}

#[test]
fn the_history_says_what_is_said_of_a_layer() {
    let fixture = Fixture::new();
    let history = ["--created-by", "us", "--author", "me", "--comment", "why"];
    make_lib(&fixture, &history);
    assert_eq!(
        json(&fixture, "lib/layer.json")["layers"][0]["history"],
        serde_json::json!({ "createdBy": "us", "author": "me", "comment": "why" })
    );
    build(&fixture, "oci:layout:1", &[]);
    let (_, told, _) = run(fixture.path(), &["inspect", "oci:layout:1", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let config = told["configDigest"].as_str().unwrap();
    let config = config.replace(':', "/");
    let history = &json(&fixture, &format!("layout/blobs/{config}"))["history"];
    for (key, value) in [("created_by", "us"), ("author", "me"), ("comment", "why")] {
        assert_eq!(history[0][key], value, "{history}");
    }
    assert_eq!(history[1]["author"], Value::Null);
    make_lib_again(&fixture);
    let made = json(&fixture, "lib/layer.json");
    assert_eq!(made["layers"][0]["history"], Value::Null);
}

/// Makes it anew, with nothing said.
fn make_lib_again(fixture: &Fixture) {
    fs::remove_dir_all(fixture.file("lib")).unwrap();
    make_lib(fixture, &[]);
}
