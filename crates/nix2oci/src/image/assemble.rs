//! Config and manifest bytes from layer records.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::layer::{Blob, BytesBlob, LayerKey, LayerRecord};
use crate::oci::{Descriptor, MediaType, Timestamp, annotation, canonical_json};
use crate::store::StorePath;

use super::ImageConfig;

/// What the history says made a layer.
const CREATED_BY: &str = "nix2oci";

/// How many bytes the lists of store paths may have in one manifest: some
/// 40,000 store paths.
///
/// Registries need take no manifest of over 4 MiB ("Pushing Manifests" in the
/// OCI distribution specification 1.1), and there must be room for the rest.
const MAX_STORE_PATHS_BYTES: usize = 2 << 20;

/// A layer as the config and the manifest tell of it.
#[derive(Debug, Clone)]
pub struct ImageLayer<'a> {
    /// Its bytes.
    pub record: &'a LayerRecord,
    /// Its key, if its NAR hashes were known.
    pub key: Option<LayerKey>,
    /// The store paths in it, in the order in which they are packed.
    pub paths: Vec<StorePath>,
    /// What it holds, for people: the history's comment.
    pub comment: String,
}

/// A manifest's exact bytes: what was hashed is what is written.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// The bytes with their descriptor (media type, digest, size, and the
    /// platform).
    pub blob: BytesBlob,
}

impl RawManifest {
    /// Returns the manifest's digest, which is the image's.
    pub fn digest(&self) -> Digest {
        self.blob.digest()
    }
}

/// Config and manifest of an image.
#[derive(Debug, Clone)]
pub struct AssembledImage {
    /// The config's bytes.
    pub config: BytesBlob,
    /// The manifest's bytes.
    pub manifest: RawManifest,
}

/// Makes config and manifest of an image with these layers, bottom first.
///
/// A function of its arguments: no clock, no environment. The history has one
/// entry a layer. The descriptor of a layer says what a later build wants to
/// know: [`annotation::LAYER_KEY`], [`annotation::STORE_PATHS`] and
/// [`annotation::UNCOMPRESSED_SIZE`]. The store paths are left out of the whole
/// image if the lists of all layers together exceed 2 MiB.
pub fn assemble(config: &ImageConfig, layers: &[ImageLayer<'_>]) -> Result<AssembledImage> {
    let config_blob = BytesBlob::new(
        MediaType::ImageConfig,
        canonical_json(&config_document(config, layers)),
    );
    let lists = store_path_lists(layers);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::ImageManifest,
        config: config_blob.descriptor(),
        layers: layers
            .iter()
            .zip(lists)
            .map(|(layer, list)| layer_descriptor(layer, list))
            .collect(),
        annotations: &config.annotations,
    };
    let manifest = BytesBlob::new(MediaType::ImageManifest, canonical_json(&manifest))
        .with_platform(config.platform.clone());
    Ok(AssembledImage {
        config: config_blob,
        manifest: RawManifest { blob: manifest },
    })
}

/// An image manifest as the OCI image specification has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: MediaType,
    config: &'a Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// Returns each layer's list of store paths; no list at all if together they
/// have too many bytes. An image tells all of its paths or none: half of them
/// would look like an image with fewer paths.
fn store_path_lists(layers: &[ImageLayer<'_>]) -> Vec<Option<String>> {
    let lists: Vec<String> = layers
        .iter()
        .map(|layer| {
            let names: Vec<&str> = layer.paths.iter().map(StorePath::as_str).collect();
            names.join(" ")
        })
        .collect();
    let fit = lists.iter().map(String::len).sum::<usize>() <= MAX_STORE_PATHS_BYTES;
    lists
        .into_iter()
        .map(|list| Some(list).filter(|list| fit && !list.is_empty()))
        .collect()
}

fn layer_descriptor(layer: &ImageLayer<'_>, store_paths: Option<String>) -> Descriptor {
    let uncompressed_size = Some(layer.record.uncompressed_size.to_string());
    let annotations: HashMap<String, String> = [
        (annotation::LAYER_KEY, layer.key.map(|key| key.to_string())),
        (annotation::STORE_PATHS, store_paths),
        (annotation::UNCOMPRESSED_SIZE, uncompressed_size),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    let mut descriptor = layer.record.descriptor();
    descriptor.set_annotations(Some(annotations));
    descriptor
}

/// An entry of the config's history.
#[derive(Serialize)]
struct History<'a> {
    created: Timestamp,
    created_by: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'a str,
}

/// Returns the config document: what the user decided, then what follows from
/// the layers. A field wins over a member of `other` with its name.
fn config_document(config: &ImageConfig, layers: &[ImageLayer<'_>]) -> Map<String, Value> {
    let platform = &config.platform;
    let diff_ids = layers.iter().map(|layer| layer.record.diff_id);
    let history = layers.iter().map(|layer| History {
        created: config.created.unwrap_or_default(),
        created_by: CREATED_BY,
        comment: &layer.comment,
    });
    let fields = [
        ("created", Some(json!(config.created.unwrap_or_default()))),
        ("author", config.author.as_ref().map(|author| json!(author))),
        ("architecture", Some(json!(platform.architecture()))),
        ("os", Some(json!(platform.os()))),
        (
            "os.version",
            platform.os_version().as_ref().map(|v| json!(v)),
        ),
        (
            "os.features",
            platform.os_features().as_ref().map(|v| json!(v)),
        ),
        ("variant", platform.variant().as_ref().map(|v| json!(v))),
        ("config", Some(Value::Object(config.config.clone()))),
        (
            "rootfs",
            Some(json!({
                "type": "layers",
                "diff_ids": diff_ids.map(|id: DiffId| id.to_string()).collect::<Vec<_>>(),
            })),
        ),
        ("history", Some(json!(history.collect::<Vec<_>>()))),
    ];
    let mut document = config.other.clone();
    for (key, value) in fields {
        match value {
            Some(value) => document.insert(key.to_owned(), value),
            None => document.remove(key),
        };
    }
    document
}

#[cfg(test)]
mod tests {
    use std::str::from_utf8;

    use crate::oci::{descriptor_digest, parse_platform};

    use super::*;

    fn record(n: u8, media_type: MediaType) -> LayerRecord {
        LayerRecord {
            diff_id: DiffId::new(Digest::from([n; 32])),
            uncompressed_size: 2048,
            digest: Digest::from([n + 0x10; 32]),
            size: 100 + u64::from(n),
            media_type,
        }
    }

    fn path(digit: char, name: &str) -> StorePath {
        let hash = digit.to_string().repeat(32);
        format!("{hash}-{name}").parse().unwrap()
    }

    /// The exact bytes: a change here is a change of every image's digest and
    /// gets its own line in the changelog.
    #[test]
    fn the_bytes_are_golden() {
        let mut config = ImageConfig::new(parse_platform("linux/arm/v7").unwrap());
        config.author = Some("somebody".into());
        config.set_entrypoint(&["/bin/app".into()]);
        config.set_env("PATH=/bin").unwrap();
        config.set_annotation("org.example.b=2").unwrap();
        config.set_annotation("org.example.a=1").unwrap();
        config.other.insert("rootfs".into(), json!("not this one"));
        config
            .other
            .insert("x-other".into(), json!({"b": 1, "a": 2}));
        let (bottom, top) = (
            record(1, MediaType::ImageLayerGzip),
            record(2, MediaType::ImageLayer),
        );
        let key: LayerKey = Digest::from([0xee; 32]).to_string().parse().unwrap();
        let image = assemble(
            &config,
            &[
                ImageLayer {
                    record: &bottom,
                    key: Some(key),
                    paths: vec![path('a', "glibc-2.40"), path('0', "app")],
                    comment: "glibc".into(),
                },
                ImageLayer {
                    record: &top,
                    key: None,
                    paths: Vec::new(),
                    comment: String::new(),
                },
            ],
        )
        .unwrap();
        let hex = |n: &str| n.repeat(32);
        assert_eq!(
            from_utf8(image.config.bytes()).unwrap(),
            format!(
                concat!(
                    r#"{{"architecture":"arm","author":"somebody","#,
                    r#""config":{{"Entrypoint":["/bin/app"],"Env":["PATH=/bin"]}},"#,
                    r#""created":"1970-01-01T00:00:01Z","#,
                    r#""history":[{{"comment":"glibc","created":"1970-01-01T00:00:01Z","created_by":"nix2oci"}},"#,
                    r#"{{"created":"1970-01-01T00:00:01Z","created_by":"nix2oci"}}],"#,
                    r#""os":"linux","rootfs":{{"diff_ids":["sha256:{}","sha256:{}"],"type":"layers"}},"#,
                    r#""variant":"v7","x-other":{{"a":2,"b":1}}}}"#,
                ),
                hex("01"),
                hex("02"),
            )
        );
        assert_eq!(
            from_utf8(image.manifest.blob.bytes()).unwrap(),
            format!(
                concat!(
                    r#"{{"annotations":{{"org.example.a":"1","org.example.b":"2"}},"#,
                    r#""config":{{"digest":"{}","mediaType":"application/vnd.oci.image.config.v1+json","size":{}}},"#,
                    r#""layers":[{{"annotations":{{"dev.nix2oci.layer-key":"sha256:{}","#,
                    r#""dev.nix2oci.store-paths":"{}-glibc-2.40 {}-app","#,
                    r#""dev.nix2oci.uncompressed-size":"2048"}},"digest":"sha256:{}","#,
                    r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":101}},"#,
                    r#"{{"annotations":{{"dev.nix2oci.uncompressed-size":"2048"}},"digest":"sha256:{}","#,
                    r#""mediaType":"application/vnd.oci.image.layer.v1.tar","size":102}}],"#,
                    r#""mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}}"#,
                ),
                image.config.digest(),
                image.config.bytes().len(),
                hex("ee"),
                "a".repeat(32),
                "0".repeat(32),
                hex("11"),
                hex("12"),
            )
        );
    }

    #[test]
    fn the_manifest_descriptor_names_bytes_and_platform() {
        let config = ImageConfig::new(parse_platform("linux/arm64").unwrap());
        let manifest = assemble(&config, &[]).unwrap().manifest;
        let descriptor = manifest.blob.descriptor();
        assert_eq!(descriptor_digest(descriptor), Some(manifest.digest()));
        assert_eq!(descriptor.size(), manifest.blob.bytes().len() as u64);
        assert_eq!(descriptor.platform().as_ref(), Some(&config.platform));
        let document: Value = serde_json::from_slice(manifest.blob.bytes()).unwrap();
        assert_eq!(document["layers"], json!([]));
        assert_eq!(document.get("annotations"), None);
    }

    #[test]
    fn an_image_tells_all_of_its_store_paths_or_none() {
        let record = record(1, MediaType::ImageLayerGzip);
        let config = ImageConfig::new(parse_platform("linux/arm64").unwrap());
        // Of 244 bytes each, which is 245 with the space to the next.
        let paths = |count| vec![path('x', &"n".repeat(211)); count];
        let lengths = |last: StorePath| {
            let layers =
                [paths(4000), [paths(4559), vec![last]].concat()].map(|paths| ImageLayer {
                    record: &record,
                    key: None,
                    paths,
                    comment: String::new(),
                });
            let manifest = assemble(&config, &layers).unwrap().manifest;
            let document: Value = serde_json::from_slice(manifest.blob.bytes()).unwrap();
            [0, 1].map(|layer| {
                let annotations = &document["layers"][layer]["annotations"];
                assert_eq!(annotations[annotation::UNCOMPRESSED_SIZE], "2048");
                annotations[annotation::STORE_PATHS].as_str().map(str::len)
            })
        };
        let fills = [4000 * 245 - 1, 4559 * 245 + 33 + 165];
        assert_eq!(fills.iter().sum::<usize>(), 2 << 20);
        assert_eq!(lengths(path('y', &"n".repeat(165))), fills.map(Some));
        assert_eq!(lengths(path('y', &"n".repeat(166))), [None, None]);
    }
}
