//! Every JSON document that we write follows OCI's own schemas.

use std::fs;
use std::path::PathBuf;

use jsonschema::{Retrieve, Uri};
use nix2oci::digest::{DiffId, Digest};
use nix2oci::image::{ImageConfig, ImageLayer, assemble};
use nix2oci::layer::{Compression, LayerHistory, LayerRecord};
use nix2oci::oci::parse_platform;
use nix2oci::sink::{Archive, OciLayout};
use nix2oci_tests::image_files;
use serde_json::{Value, json};

use crate::sinks::sample::{json as json_file, read_image, sample};

/// Finds a schema by the last name in its address: those of the specification
/// are served by no server.
struct Fixtures;

impl Retrieve for Fixtures {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default();
        Ok(schema(name))
    }
}

fn schema(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/schemas")
        .join(name);
    serde_json::from_slice(&fs::read(&path).expect(name)).expect(name)
}

/// Returns what the schema has against a document.
fn problems(schema_name: &str, document: &Value) -> Vec<String> {
    let validator = jsonschema::options()
        .with_retriever(Fixtures)
        .should_validate_formats(true)
        .build(&schema(schema_name))
        .expect(schema_name);
    validator
        .iter_errors(document)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect()
}

#[track_caller]
fn assert_valid(schema_name: &str, document: &Value) {
    assert_eq!(problems(schema_name, document), [""; 0], "{document:#}");
}

#[test]
fn configs_and_manifests_are_valid() {
    let mut full = ImageConfig::from_json(
        "a test",
        json!({
            "architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1",
            "os.features": ["f"], "author": "somebody", "created": "2026-11-20T12:00:00+02:00",
            "x-other": 1,
            "config": {
                "cmd": null, "entrypoint": "/bin/app", "env": ["A=1"], "volumes": {"/data": null},
                "labels": {"a": "b"}, "Healthcheck": {"Test": ["NONE"]}, "argsEscaped": true,
            },
        })
        .to_string()
        .as_bytes(),
        parse_platform("x86_64-linux").unwrap(),
    )
    .unwrap();
    full.add_exposed_port("80").unwrap();
    full.set_user("1000").unwrap();
    full.set_working_dir("/").unwrap();
    full.set_stop_signal("SIGINT").unwrap();
    full.set_annotation("org.example=1").unwrap();
    let empty = ImageConfig::new(parse_platform("x86_64-linux").unwrap());
    let record = |compression: Compression| LayerRecord {
        diff_id: DiffId::new(Digest::of(b"tar")),
        uncompressed_size: 3,
        digest: Digest::of(b"blob"),
        size: 4,
        media_type: compression.media_type(),
    };
    let records = [
        record(Compression::None),
        record(Compression::Gzip { level: 6 }),
        record(Compression::Zstd { level: 3 }),
    ];
    let layers = records.each_ref().map(|record| ImageLayer {
        record,
        key: Some(Digest::of(b"key").to_string().parse().unwrap()),
        paths: vec![(
            format!("{}-hello", "0".repeat(32)).parse().unwrap(),
            Some(120),
        )],
        summary: "what it holds".into(),
        history: LayerHistory::default(),
    });
    for config in [full, empty] {
        let image = assemble(&config, &layers).unwrap();
        let parse = |bytes| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_valid("config-schema.json", &parse(image.config.bytes()));
        let manifest = parse(image.manifest.blob.bytes());
        assert_valid("image-manifest-schema.json", &manifest);
        assert_valid("content-descriptor.json", &manifest["layers"][0]);
    }
}

#[test]
fn layouts_and_archives_are_valid() {
    let dir = tempfile::tempdir().unwrap();
    let image = sample(&["one"], Compression::Gzip { level: 6 });
    let (layout, archive) = (dir.path().join("layout"), dir.path().join("image.tar"));
    for (tag, names) in [
        (None, vec![]),
        (Some("t"), vec!["app"]),
        (None, vec!["app", "h.io/app:2"]),
    ] {
        let sink = OciLayout::open(&layout, tag).unwrap();
        image.write(Box::new(sink), &names).unwrap();
        let sink = Archive::create(&archive).unwrap();
        image.write(Box::new(sink), &names).unwrap();
        for path in [&layout, &archive] {
            let files = read_image(path);
            assert_valid("image-layout-schema.json", &json_file(&files, "oci-layout"));
            assert_valid("image-index-schema.json", &json_file(&files, "index.json"));
        }
    }
}

#[test]
fn what_the_command_writes_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    for codec in ["none", "gzip:6", "zstd:3"] {
        for kind in ["archive", "oci"] {
            let image = crate::loaders::image(dir.path(), codec, kind);
            for (schema, file) in [
                ("image-layout-schema.json", "oci-layout"),
                ("image-index-schema.json", "index.json"),
            ] {
                assert_valid(schema, &image_files::read_json(&image, file));
            }
            let manifest = image_files::manifest(&image);
            assert_valid("image-manifest-schema.json", &manifest);
            for layer in manifest["layers"].as_array().unwrap() {
                assert_valid("content-descriptor.json", layer);
            }
            assert_valid("config-schema.json", &image_files::config(&image));
        }
    }
}

/// The schemas do refuse: a validator that finds nothing would pass the rest.
#[test]
fn the_schemas_refuse_what_is_wrong() {
    for (name, document) in [
        (
            "config-schema.json",
            json!({"architecture": "amd64", "os": "linux"}),
        ),
        (
            "image-manifest-schema.json",
            json!({"schemaVersion": 2, "config": {"mediaType": "a/b", "size": 1, "digest": "no"}, "layers": []}),
        ),
        (
            "image-index-schema.json",
            json!({"schemaVersion": 1, "manifests": []}),
        ),
        (
            "image-layout-schema.json",
            json!({"imageLayoutVersion": "2.0.0"}),
        ),
        (
            "content-descriptor.json",
            json!({"mediaType": "a/b", "size": -1, "digest": "sha256:00"}),
        ),
    ] {
        assert!(!problems(name, &document).is_empty(), "{name}");
    }
}
