//! Images that other programs wrote are read, and what these programs say of
//! them is what is read here.

use std::path::Path;
use std::process::Command;

use nix2oci::Context;
use nix2oci::image::{ImageReader, InspectOptions, Severity, check, inspect};
use nix2oci_tests::handmade_image::{Codec, HandmadeImage, digest};

/// Runs a program, which must be there and succeed, and returns what it wrote.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {program}: {error}; install Debian's package {program}")
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?} failed: {stderr}"
    );
    output.stdout
}

fn skopeo_copy(from: &str, to: &str) {
    run(
        "skopeo",
        &["--insecure-policy", "copy", "--quiet", from, to],
    );
}

fn open(image: &str) -> ImageReader {
    ImageReader::open(&Context::default(), &image.parse().unwrap()).unwrap()
}

/// Returns the rules that are broken, without warnings.
fn errors(reader: &ImageReader) -> Vec<String> {
    check(&Context::default(), reader)
        .unwrap()
        .iter()
        .filter(|problem| problem.severity() == Severity::Error)
        .map(ToString::to_string)
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("temporary directories have UTF-8 names")
}

#[test]
fn what_skopeo_writes_is_read() {
    for codec in [Codec::None, Codec::Gzip] {
        let dir = tempfile::tempdir().unwrap();
        let dir = text(dir.path());
        let image = HandmadeImage::new(codec);
        image.layout().write_to(Path::new(&format!("{dir}/first")));
        let first = format!("oci:{dir}/first:{}", image.name);
        let diff_ids: Vec<_> = image.layers.iter().map(|l| l.diff_id.clone()).collect();
        for (to, read) in [
            (format!("oci:{dir}/oci:1.0"), format!("{dir}/oci")),
            (
                format!("oci-archive:{dir}/oci.tar:1.0"),
                format!("archive:{dir}/oci.tar"),
            ),
            (
                format!("docker-archive:{dir}/docker.tar:example.org/hello:1.0"),
                format!("docker-archive:{dir}/docker.tar:1.0"),
            ),
        ] {
            skopeo_copy(&first, &to);
            let reader = open(&read);
            assert_eq!(errors(&reader), [""; 0], "{read}");
            let stored = reader.image(&Context::default(), None).unwrap();
            let found: Vec<_> = stored
                .layers
                .iter()
                .map(|l| l.diff_id.to_string())
                .collect();
            assert_eq!(found, diff_ids, "{read}");
            if !to.starts_with("docker-archive:") {
                let raw = run("skopeo", &["inspect", "--raw", &to]);
                assert_eq!(stored.raw_manifest.blob.bytes(), raw, "{read}");
            }
            let raw = run("skopeo", &["inspect", "--config", "--raw", &to]);
            assert_eq!(
                stored.raw_config.digest().to_string(),
                digest(&raw),
                "{read}"
            );
        }
    }
}

#[test]
fn skopeo_takes_the_handmade_archives() {
    let dir = tempfile::tempdir().unwrap();
    let dir = text(dir.path());
    let image = HandmadeImage::default();
    for (form, files) in [("oci", image.combined()), ("docker", image.docker())] {
        let archive = format!("{dir}/{form}.tar");
        std::fs::write(&archive, files.archive()).unwrap();
        skopeo_copy(
            &format!("{form}-archive:{archive}"),
            &format!("oci:{dir}/{form}:1.0"),
        );
        assert_eq!(errors(&open(&format!("oci:{dir}/{form}"))), [""; 0]);
    }
}

#[test]
fn what_umoci_makes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}/layout", text(dir.path()));
    run("umoci", &["init", "--layout", &layout]);
    let reader = open(&format!("oci:{layout}"));
    let error = reader
        .image(&Context::default(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds no image"), "{error}");

    let tagged = format!("{layout}:empty");
    run("umoci", &["new", "--image", &tagged]);
    run(
        "umoci",
        &[
            "config",
            "--image",
            &tagged,
            "--author",
            "Ada",
            "--config.cmd",
            "/bin/hello",
        ],
    );
    let reader = open(&format!("oci:{tagged}"));
    assert_eq!(errors(&reader), [""; 0]);
    let summary = inspect(
        &Context::default(),
        &reader,
        None,
        &InspectOptions::default(),
    )
    .unwrap();
    assert_eq!(summary.names, ["empty"]);
    assert_eq!(summary.author.as_deref(), Some("Ada"));
    assert_eq!(summary.config["Cmd"], serde_json::json!(["/bin/hello"]));
    assert_eq!(
        (summary.layers.len(), summary.uncompressed_size),
        (0, Some(0))
    );
}

#[test]
fn what_umoci_adds_to_an_image_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}/layout", text(dir.path()));
    let mut image = HandmadeImage::new(Codec::Gzip);
    image.name = "base";
    image.layout().write_to(Path::new(&layout));
    let file = dir.path().join("file");
    std::fs::write(&file, "inserted").unwrap();
    let tagged = format!("{layout}:base");
    run(
        "umoci",
        &[
            "insert",
            "--rootless",
            "--image",
            &tagged,
            text(&file),
            "/inserted",
        ],
    );
    let reader = open(&format!("oci:{tagged}"));
    let stored = reader.image(&Context::default(), None).unwrap();
    assert_eq!(stored.layers.len(), 3);
    assert_eq!(
        stored.layers[0].diff_id.to_string(),
        image.layers[0].diff_id
    );
    // umoci 0.4.7 leaves the end off this tar, padding included; what is in it
    // can be read nevertheless.
    for problem in check(&Context::default(), &reader).unwrap() {
        let rule = problem.kind.rule();
        assert!(
            ["tar-no-end", "tar-not-padded", "no-name"].contains(&rule),
            "{problem}"
        );
    }
    let options = InspectOptions::default();
    let summary = inspect(&Context::default(), &reader, None, &options).unwrap();
    let contents = summary.layers[2].contents.as_ref().unwrap();
    assert_eq!((contents.files, contents.file_bytes), (1, 8));
}
