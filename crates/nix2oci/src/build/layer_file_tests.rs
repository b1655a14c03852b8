//! Documents that use each other.

use super::*;
use crate::error::{ErrorClass, ErrorKind};

/// Writes documents by hand: each has one layer of one store path.
struct Layers(tempfile::TempDir);

impl Layers {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a document that uses others beside it.
    fn write(&self, name: &str, uses: &[&str]) -> Digest {
        let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
        let uses = uses.iter().map(|other| LayerFileReference {
            path: format!("../{other}"),
            digest: Digest::of(&fs::read(self.dir(other).join(LAYER_FILE)).unwrap()).to_string(),
        });
        let layer = serde_json::json!({
            "key": null,
            "paths": [{"path": format!("/nix/store/{}-{name}", "0".repeat(32)), "narHash": null}],
            "digest": digest(name), "size": 1, "diffId": digest(name),
            "uncompressedSize": 1, "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "narSizes": [7],
        });
        let file = LayerFile {
            version: LAYER_FILE_VERSION,
            store_dir: "/nix/store".to_owned(),
            packing: serde_json::from_value(serde_json::json!({
                "compression": "none", "mtime": 1, "uid": 0, "gid": 0,
            }))
            .unwrap(),
            layers: vec![serde_json::from_value(layer).unwrap()],
            uses: uses.collect(),
        };
        let json = file.to_json();
        fs::create_dir_all(self.dir(name)).unwrap();
        fs::write(self.dir(name).join(LAYER_FILE), &json).unwrap();
        assert_eq!(LayerFile::parse(&json, "it").unwrap(), file);
        Digest::of(&json)
    }

    fn read(&self, names: &[&str]) -> Result<UsedLayers> {
        let dirs: Vec<PathBuf> = names.iter().map(|name| self.dir(name)).collect();
        UsedLayers::read(&Context::default(), &dirs)
    }

    fn names(&self, names: &[&str]) -> Vec<String> {
        let used = self.read(names).unwrap();
        let paths = used
            .layers
            .iter()
            .flat_map(|l| l.spec.content.store_paths());
        paths.map(|(path, _)| path.name().to_owned()).collect()
    }
}

#[test]
fn what_is_below_comes_first_and_once() {
    let layers = Layers::new();
    layers.write("a", &[]);
    layers.write("b", &["a"]);
    layers.write("c", &["a"]);
    layers.write("d", &["c", "b"]);
    assert_eq!(layers.names(&["d"]), ["a", "c", "b", "d"]);
    assert_eq!(layers.names(&["b", "d", "a"]), ["a", "b", "c", "d"]);
    let used = layers.read(&["b", "b"]).unwrap();
    assert_eq!(used.references.len(), 1);
    assert_eq!(used.layers[0].nar_sizes, [7]);
    // The same document in another place.
    fs::create_dir(layers.dir("copy")).unwrap();
    fs::copy(
        layers.dir("a").join(LAYER_FILE),
        layers.dir("copy").join(LAYER_FILE),
    )
    .unwrap();
    assert_eq!(layers.names(&["copy", "b"]), ["a", "b"]);
}

/// nlewo/nix2container#205: there each link doubles what is written down, and
/// 13 are too many.
#[test]
fn a_chain_stays_a_chain_and_a_lattice_is_read_once() {
    let chain = Layers::new();
    chain.write("n0", &[]);
    for n in 1..40 {
        chain.write(&format!("n{n}"), &[&format!("n{}", n - 1)]);
    }
    assert_eq!(chain.names(&["n39"]).len(), 40);
    let size = |n: usize| {
        let file = chain.dir(&format!("n{n}")).join(LAYER_FILE);
        fs::metadata(file).unwrap().len()
    };
    assert!(size(39) < size(1) + 10, "{} {}", size(39), size(1));

    // Two on two on two: 2^30 ways lead down.
    let lattice = Layers::new();
    lattice.write("l0", &[]);
    lattice.write("r0", &[]);
    for n in 1..30 {
        let below = [format!("l{}", n - 1), format!("r{}", n - 1)];
        let below = [&*below[0], &*below[1]];
        lattice.write(&format!("l{n}"), &below);
        lattice.write(&format!("r{n}"), &below);
    }
    assert_eq!(lattice.names(&["l29", "r29"]).len(), 60);
}

#[test]
fn a_document_that_changed_or_is_none_is_refused() {
    let layers = Layers::new();
    layers.write("a", &[]);
    layers.write("b", &["a"]);
    layers.write("x", &[]);
    fs::copy(
        layers.dir("x").join(LAYER_FILE),
        layers.dir("a").join(LAYER_FILE),
    )
    .unwrap();
    let error = layers.read(&["b"]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    fs::remove_dir_all(layers.dir("a")).unwrap();
    let error = layers.read(&["b"]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ReadInput { .. }),
        "{error}"
    );
    for (json, problem) in [
        ("", "EOF"),
        ("{}", "no layers of `nix2oci layer`"),
        (r#"{"version":9}"#, "not a version that is known"),
        (r#"{"version":1}"#, "missing field"),
    ] {
        let error = LayerFile::parse(json.as_bytes(), "it").unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    let mut value: serde_json::Value =
        serde_json::from_slice(&fs::read(layers.dir("x").join(LAYER_FILE)).unwrap()).unwrap();
    for (key, bad) in [
        ("blob", serde_json::json!("../outside")),
        ("blob", serde_json::json!("/etc/passwd")),
        ("narSizes", serde_json::json!([1, 2])),
        ("digest", serde_json::json!("sha256:x")),
        ("base", serde_json::json!(true)),
        (
            "packing",
            serde_json::json!({"compression": "none", "mtime": 1, "uid": 0, "gid": 0}),
        ),
    ] {
        let right = value["layers"][0].clone();
        value["layers"][0][key] = bad;
        fs::write(layers.dir("x").join(LAYER_FILE), value.to_string()).unwrap();
        let error = layers.read(&["x"]).unwrap_err();
        assert!(
            error.to_string().contains(&format!("layers[0].{key}")),
            "{error}"
        );
        value["layers"][0] = right;
    }
}

#[test]
fn what_has_no_end_is_not_read() {
    let layers = Layers::new();
    fs::create_dir(layers.dir("a")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", layers.dir("a").join(LAYER_FILE)).unwrap();
    let message = layers.read(&["a"]).unwrap_err().to_string();
    assert!(message.contains("it is no regular file"), "{message}");

    layers.write("b", &[]);
    let mut layer = layers.read(&["b"]).unwrap().layers.remove(0);
    layer.blob = Some("/dev/zero".into());
    let error = layer.blob().unwrap().reader().err().unwrap();
    assert!(error.to_string().contains("it is no regular file"));
}
