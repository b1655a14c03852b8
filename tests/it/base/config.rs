//! What the new image says of itself.

use nix2oci::Context;
use nix2oci::image::{ImageConfig, ImageReader, ImageSource, Severity, check};
use nix2oci::oci::parse_platform;
use nix2oci_tests::handmade_image::{Codec, Edit, HandmadeImage, HandmadeLayer, in_dir, tar};
use nix2oci_tests::image_files::{config, manifest};
use serde_json::{Value, json};

use super::{built, file, on, open};

/// Builds on a base with an edited config and returns the new config.
fn built_on(edit: Edit, own: ImageConfig) -> Value {
    let image = HandmadeImage {
        config: edit,
        ..HandmadeImage::default()
    };
    let base = in_dir(&image.layout());
    let mut spec = on(open(&base.path, None).unwrap());
    spec.config = own;
    let to = tempfile::tempdir().unwrap();
    built(&spec, to.path()).unwrap();
    config(to.path())
}

fn own() -> ImageConfig {
    ImageConfig::new(parse_platform("linux/amd64").unwrap())
}

/// The whole of a config that docker and others wrote: nulls, members that
/// nobody knows, and layers that history does not tell of.
#[test]
fn the_config_of_the_base_is_the_beginning() {
    let mut config = own();
    config.set_entrypoint(&["/bin/app".into()]);
    config.set_env("B=2").unwrap();
    let found = built_on(
        |config| {
            config["variant"] = json!("v2");
            config["x-unknown"] = json!({"b": 1, "a": null});
            config["docker_version"] = json!("20.10");
            config["author"] = json!("them");
            config["history"] = json!(null);
            config["config"] = json!({
                "Env": ["PATH=/bin", "B=1"], "Cmd": ["sh"], "Entrypoint": null, "Labels": null,
                "Volumes": {"/data": {}}, "OnBuild": ["RUN x"], "Healthcheck": {"Retries": 3},
                "Own": [1],
            });
        },
        config,
    );
    assert_eq!(
        found["config"],
        json!({
            "Env": ["PATH=/bin", "B=2"], "Entrypoint": ["/bin/app"], "Volumes": {"/data": {}},
            "Healthcheck": {"Retries": 3}, "Own": [1],
        })
    );
    assert_eq!(found["variant"], "v2");
    assert_eq!(found["author"], "them");
    assert_eq!(found["created"], "1970-01-01T00:00:01Z");
    assert_eq!(found["x-unknown"], json!({"b": 1, "a": null}));
    assert!(found.get("docker_version").is_none());
    assert_eq!(found["history"].as_array().unwrap().len(), 5);
}

#[test]
fn a_config_of_nulls_is_none() {
    let found = built_on(
        |config| {
            config["config"] = json!({
                "Env": null, "Cmd": null, "Labels": null, "Volumes": null, "ExposedPorts": null,
                "Entrypoint": null, "OnBuild": null,
            });
        },
        own(),
    );
    assert_eq!(found["config"], json!({}));
}

#[test]
fn annotations_name_the_base_unless_others_are_given() {
    let base = in_dir(&HandmadeImage::default().layout());
    let opened = open(&base.path, None).unwrap();
    let digest = opened.digest().to_string();
    let mut spec = on(opened);
    for (own, name) in [(false, "example.org/hello:1.0"), (true, "mine")] {
        if own {
            let name = "org.opencontainers.image.base.name=mine";
            spec.config.set_annotation(name).unwrap();
        }
        let to = tempfile::tempdir().unwrap();
        built(&spec, to.path()).unwrap();
        let annotations = manifest(to.path())["annotations"].clone();
        assert_eq!(annotations["org.opencontainers.image.base.name"], name);
        assert_eq!(annotations["org.opencontainers.image.base.digest"], digest);
    }
}

/// What a config need not have or has as `null`, as old programs write it, and
/// a base whose docker manifest names layers of zstd.
#[test]
fn bases_of_other_programs_are_taken() {
    let edits: [(&str, Edit); 7] = [
        ("no config", |config| {
            config.as_object_mut().unwrap().remove("config");
        }),
        ("config: null", |config| config["config"] = Value::Null),
        ("lists that are null", |config| {
            config["config"] = json!({
                "Env": null, "Cmd": null, "Entrypoint": null, "Labels": null, "Volumes": null,
                "ExposedPorts": null, "OnBuild": null, "Healthcheck": null, "Shell": null
            });
        }),
        ("no history", |config| {
            config.as_object_mut().unwrap().remove("history");
        }),
        ("history: null", |config| config["history"] = Value::Null),
        ("a short history", |config| {
            config["history"].as_array_mut().unwrap().pop();
        }),
        ("not created", |config| {
            config.as_object_mut().unwrap().remove("created");
        }),
    ];
    for (what, edit) in edits {
        let docker: Edit = |manifest| {
            manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
            manifest["config"]["mediaType"] =
                json!("application/vnd.docker.container.image.v1+json");
        };
        for manifest_of in [|_: &mut Value| (), docker] {
            let mut image = HandmadeImage {
                config: edit,
                manifest: manifest_of,
                ..HandmadeImage::default()
            };
            let media_type = "application/vnd.docker.image.rootfs.diff.tar.zstd";
            image.layers[1] = HandmadeLayer {
                media_type,
                ..HandmadeLayer::new(&tar(&[file("x")]), Codec::Zstd)
            };
            let base = in_dir(&image.layout());
            let to = tempfile::tempdir().unwrap();
            let report = built(&on(open(&base.path, None).unwrap()), to.path());
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            let layers = report.base.len() + report.layers.len();
            let config = config(to.path());
            let history = config["history"].as_array().unwrap();
            let of_layers = |entry: &&Value| entry["empty_layer"] != json!(true);
            assert_eq!(history.iter().filter(of_layers).count(), layers, "{what}");
            let mut members = config["config"].as_object().unwrap().values();
            assert!(members.all(|value| !value.is_null()), "{what}: {config}");
            let types: Vec<Value> = manifest(to.path())["layers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|layer| layer["mediaType"].clone())
                .collect();
            assert_eq!(types[1], "application/vnd.oci.image.layer.v1.tar+zstd");
            let cx = Context::default();
            let source = ImageSource::Path(to.path().to_owned());
            let problems = check(&cx, &ImageReader::open(&cx, &source).unwrap()).unwrap();
            assert!(
                problems.iter().all(|p| p.severity() != Severity::Error),
                "{what}: {problems:?}"
            );
        }
    }
}
