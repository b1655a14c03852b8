//! `inspect` of an index, and of bytes as they are.

use super::*;

/// Builds an index of two platforms as `oci:two` and returns its digest.
fn two_platforms(fixture: &Fixture) -> String {
    let closure = ["--store-root", "root", "--closure", "path-info:graph.json"];
    let args = [
        &["build", "result"],
        &closure[..],
        &["--platform", "linux/amd64", "--annotation", "index:a=b"],
        &["--next", "result"],
        &closure[..],
        &["--platform", "linux/arm64", "-o", "oci:two", "-q"],
    ];
    let (code, digest, stderr) = run(fixture.path(), &args.concat());
    assert_eq!(code, 0, "{stderr}");
    digest.trim().to_owned()
}

#[test]
fn an_index_is_shown_unless_a_platform_is_said() {
    let fixture = Fixture::new();
    let digest = two_platforms(&fixture);
    let (code, stdout, stderr) = run(fixture.path(), &["inspect", "oci:two", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let index: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(index["digest"], digest);
    assert_eq!(index["annotations"], json!({"a": "b"}));
    let (code, text, stderr) = run(fixture.path(), &["inspect", "oci:two"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        text.starts_with(&format!("index      {digest}\nannotation a=b\n")),
        "{text}"
    );
    for (member, platform) in [(0, "linux/amd64"), (1, "linux/arm64")] {
        let member = &index["manifests"][member];
        assert_eq!(member["platform"], platform);
        let shown = format!("\n{platform}  ");
        assert!(text.contains(&shown), "{text}");

        let args = ["inspect", "oci:two", "--json", "--platform", platform];
        let (code, stdout, stderr) = run(fixture.path(), &args);
        assert_eq!(code, 0, "{stderr}");
        let image: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(image["digest"], member["digest"]);
        assert_eq!(image["size"], member["size"]);
    }
    let (code, _, stderr) = run(fixture.path(), &["inspect", "oci:two", "--efficiency"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("hint: --platform says which one"),
        "{stderr}"
    );
}

#[test]
fn raw_bytes_are_those_of_the_digest() {
    let fixture = Fixture::new();
    let digest = two_platforms(&fixture);
    let blob = |digest: &str| {
        let hex = digest.trim_start_matches("sha256:");
        fs::read_to_string(fixture.file("two/blobs/sha256").join(hex)).unwrap()
    };
    let (code, raw, stderr) = run(fixture.path(), &["inspect", "oci:two", "--raw"]);
    assert_eq!((code, raw), (0, blob(&digest)), "{stderr}");
    let args = ["inspect", "oci:two", "--raw", "--platform", "linux/arm64"];
    let (code, raw, stderr) = run(fixture.path(), &args);
    let index: Value = serde_json::from_str(&blob(&digest)).unwrap();
    let manifest = index["manifests"][1]["digest"].as_str().unwrap();
    assert_eq!((code, raw), (0, blob(manifest)), "{stderr}");
}

#[test]
fn a_store_path_is_no_image_yet() {
    let fixture = Fixture::new();
    let path = format!("root{APP}");
    let (code, _, stderr) = run(fixture.path(), &["diff", &path, "a.tar"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("hint: a store path is no image yet: `nix2oci build` makes one"),
        "{stderr}"
    );
}

#[test]
fn an_image_that_is_written_otherwise_is_read_with_a_hint() {
    let fixture = Fixture::new();
    let (code, _, _) = fixture.run("build", &["-o", "app.tar", "--name", "app:1"]);
    assert_eq!(code, 0);
    let (_, stdout, _) = run(fixture.path(), &["inspect", "app.tar"]);
    assert!(stdout.contains("\ntag        1\n"), "{stdout}");
    let (code, _, stderr) = run(fixture.path(), &["inspect", "app.tar:1"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("say archive:app.tar:1"), "{stderr}");
    let (code, _, stderr) = run(fixture.path(), &["check", "dir:app"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("skopeo copy dir:app oci:DIR:TAG"),
        "{stderr}"
    );
}
