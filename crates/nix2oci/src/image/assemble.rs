//! Config and manifest bytes from layer records.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::layer::{Blob, BytesBlob, LayerHistory, LayerKey, LayerRecord};
use crate::oci::{Descriptor, MediaType, Timestamp, annotation, canonical_json};
use crate::store::StorePath;

use super::table::ImageTable;
use super::{BaseImage, BaseLayer, ImageConfig};

/// What the history says made a layer; what is in it follows.
const CREATED_BY: &str = "nix2oci";

/// Returns whether an entry of a history is of a layer that this library made.
pub(super) fn is_made_here(history: &Value) -> bool {
    let created_by = history.get("created_by").and_then(Value::as_str);
    let words = created_by.and_then(|text| text.strip_prefix(CREATED_BY));
    words.is_some_and(|words| words.is_empty() || words.starts_with(' '))
}

/// A layer as the config and the manifest tell of it.
#[derive(Debug, Clone)]
pub struct ImageLayer<'a> {
    /// Its bytes.
    pub record: &'a LayerRecord,
    /// Its key, if its NAR hashes were known.
    pub key: Option<LayerKey>,
    /// The store paths in it, in the order in which they are packed, with their
    /// NAR sizes in bytes as far as they are known.
    pub paths: Vec<(StorePath, Option<u64>)>,
    /// What it holds, for people: the history says so. May be empty.
    pub summary: String,
    /// What the history says of it instead and besides.
    pub history: LayerHistory,
}

/// The exact bytes of a manifest, or of an index: what was hashed is what is
/// written.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// The bytes with their descriptor: media type, digest and size; the
    /// platform of an image; what an index says of a manifest besides.
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
/// entry a layer. What a later build wants to know of the layers is in one
/// annotation of the manifest, [`annotation::LAYERS`]; it wins over one of that
/// name in the config, and it is left out if it had more than 2 MiB.
pub fn assemble(config: &ImageConfig, layers: &[ImageLayer<'_>]) -> Result<AssembledImage> {
    assembled(config, &[], Vec::new(), layers)
}

/// The same, of an image on a base. `below` are the base's layers, as the plan
/// has them; its history comes first. Nothing else of the base's config is taken:
/// [`BaseImage::config`] joins it with what is said of the new image.
pub fn assemble_on(
    base: &BaseImage,
    below: &[BaseLayer],
    config: &ImageConfig,
    layers: &[ImageLayer<'_>],
) -> Result<AssembledImage> {
    assembled(config, below, base.history(), layers)
}

fn assembled(
    config: &ImageConfig,
    below: &[BaseLayer],
    history: Vec<Value>,
    layers: &[ImageLayer<'_>],
) -> Result<AssembledImage> {
    let config_blob = BytesBlob::new(
        MediaType::ImageConfig,
        canonical_json(&config_document(config, below, history, layers)),
    );
    let own = layers.iter().map(|layer| layer.record.descriptor());
    let below_them = below.iter().map(|layer| layer.descriptor().clone());
    let descriptors: Vec<Descriptor> = below_them.chain(own).collect();
    let mut annotations = config.annotations.clone();
    match ImageTable::of(below, layers).to_annotation(&descriptors) {
        Some(table) => annotations.insert(annotation::LAYERS.to_owned(), table),
        None => annotations.remove(annotation::LAYERS),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::ImageManifest,
        config: config_blob.descriptor(),
        layers: descriptors,
        annotations,
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
    annotations: BTreeMap<String, String>,
}

/// An entry of the config's history.
#[derive(Serialize)]
struct History {
    created: Timestamp,
    created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

/// Returns the config document: what the user decided, then what follows from
/// the layers. A field wins over a member of `other` with its name.
fn config_document(
    config: &ImageConfig,
    below: &[BaseLayer],
    mut history: Vec<Value>,
    layers: &[ImageLayer<'_>],
) -> Map<String, Value> {
    let platform = &config.platform;
    let own = layers.iter().map(|layer| layer.record.diff_id);
    let diff_ids = below.iter().map(|layer| layer.diff_id).chain(own);
    history.extend(layers.iter().map(|layer| {
        let summary = || format!("{CREATED_BY} {}", layer.summary);
        let told = layer.history.clone();
        json!(History {
            created: config.created.unwrap_or_default(),
            created_by: told
                .created_by
                .unwrap_or_else(|| summary().trim_end().to_owned()),
            author: told.author,
            comment: told.comment,
        })
    }));
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
        ("history", Some(Value::Array(history))),
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

    /// The table of the golden image's layers; `table_bytes` has the form.
    const TABLE: &str = concat!(
        "ARHMQr3QpH0XLNXpohVQzFUCBe7u7u7u7u7u7u7u7u7u7u7u7u7uBAAEfQAgUpSlKUpSlKUpSlKU",
        "pSlKUpSlKUoAAAAAAAAAAAAAAAAAAAAAAAAAAEvPyUxK1jXSMzHgSiwo4AIA",
    );

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
        config
            .set_annotation(&format!("{}=not this one", annotation::LAYERS))
            .unwrap();
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
                    paths: vec![
                        (path('a', "glibc-2.40"), Some(1000)),
                        (path('0', "app"), None),
                    ],
                    summary: "glibc-2.40 and 1 more".into(),
                    history: LayerHistory::default(),
                },
                ImageLayer {
                    record: &top,
                    key: None,
                    paths: Vec::new(),
                    summary: String::new(),
                    history: LayerHistory::default(),
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
                    r#""history":[{{"created":"1970-01-01T00:00:01Z","created_by":"nix2oci glibc-2.40 and 1 more"}},"#,
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
                    r#"{{"annotations":{{"dev.nix2oci.layers":"{}","org.example.a":"1","org.example.b":"2"}},"#,
                    r#""config":{{"digest":"{}","mediaType":"application/vnd.oci.image.config.v1+json","size":{}}},"#,
                    r#""layers":[{{"digest":"sha256:{}","#,
                    r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":101}},"#,
                    r#"{{"digest":"sha256:{}","#,
                    r#""mediaType":"application/vnd.oci.image.layer.v1.tar","size":102}}],"#,
                    r#""mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}}"#,
                ),
                TABLE,
                image.config.digest(),
                image.config.bytes().len(),
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
        // Even of no layer there is a table, which is not that of others.
        assert!(document["annotations"][annotation::LAYERS].is_string());
    }

    #[test]
    fn an_image_with_too_many_store_paths_tells_none() {
        let record = record(1, MediaType::ImageLayerGzip);
        let mut config = ImageConfig::new(parse_platform("linux/arm64").unwrap());
        config
            .set_annotation(&format!("{}=of another image", annotation::LAYERS))
            .unwrap();
        let annotations = |count: u32| {
            let path = |n: u32| (path('x', &n.to_string()), None);
            let layers = [ImageLayer {
                record: &record,
                key: None,
                paths: (0..count).map(path).collect(),
                summary: String::new(),
                history: LayerHistory::default(),
            }];
            let manifest = assemble(&config, &layers).unwrap().manifest;
            let mut manifest: Value = serde_json::from_slice(manifest.blob.bytes()).unwrap();
            manifest["annotations"].take()
        };
        assert_eq!(annotations(65_537), Value::Null);
        let table = annotations(65_536);
        let table = table[annotation::LAYERS].as_str().unwrap();
        assert!((500_000..2 << 20).contains(&table.len()), "{}", table.len());
    }
}
