//! What an image says of its layers, for a later build that makes the same
//! ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::layer::{LayerKeyPrefix, LayerRecord};
use crate::oci::{Descriptor, ImageConfiguration, ImageManifest, descriptor_digest};

use super::table::{ImageTable, TableLayer};

/// Returns the records of an image's layers by the beginnings of their keys, as
/// [`assemble`](super::assemble) put them into manifest and config.
///
/// None if the image has no [`ImageTable`], or one of other layers. A layer is
/// left out, and is no error, if it says nothing of itself or something that
/// this library does not write: a digest that is malformed, a media type that
/// is not one of our three, a blob that lies elsewhere (`urls`), a tar that is
/// not compressed and yet has another digest or size than its blob. Layers that
/// have one key and are not the same are all left out, and all of the image are
/// if config and manifest do not have the same number of layers.
///
/// # What may be believed
///
/// Nothing was compared with a layer's bytes, and nothing can be but by
/// fetching it: who wrote the image decides which blob goes by which key. So
/// ask only images that lie where the new one goes, or that the user named. The
/// blob may be gone; a registry says so when it takes a manifest with it.
///
/// A program that copied the image may have compressed its layers anew. skopeo
/// 1.9 drops the annotations then; where they are kept, the table is not that
/// of these layers.
pub fn layer_records(
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> BTreeMap<LayerKeyPrefix, LayerRecord> {
    let layers = manifest.layers();
    let diff_ids = config.rootfs().diff_ids();
    let mut records = BTreeMap::new();
    let table = match ImageTable::read(manifest) {
        Some(table) if layers.len() == diff_ids.len() => table,
        _ => return records,
    };
    let mut contradicted = BTreeSet::new();
    for ((descriptor, diff_id), said) in layers.iter().zip(diff_ids).zip(&table.layers) {
        let Some((key, record)) = layer_record(descriptor, diff_id, said) else {
            continue;
        };
        if *records.entry(key).or_insert_with(|| record.clone()) != record {
            contradicted.insert(key);
        }
    }
    records.retain(|key, _| !contradicted.contains(key));
    records
}

fn layer_record(
    descriptor: &Descriptor,
    diff_id: &str,
    said: &TableLayer,
) -> Option<(LayerKeyPrefix, LayerRecord)> {
    let record = LayerRecord {
        diff_id: diff_id.parse().ok()?,
        uncompressed_size: said.uncompressed_size,
        digest: descriptor_digest(descriptor)?,
        size: descriptor.size(),
        media_type: descriptor.media_type().clone(),
    };
    let lies_elsewhere = descriptor.urls().as_ref().is_some_and(|u| !u.is_empty());
    (record.is_plausible() && !lies_elsewhere).then_some((said.key?, record))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::digest::{DiffId, Digest};
    use crate::image::{ImageConfig, ImageLayer, assemble};
    use crate::layer::LayerHistory;
    use crate::layer::{Codec, LayerKey};
    use crate::oci::{annotation, parse_platform};
    use crate::store::{StorePath, nix32};

    use super::*;

    fn record(n: u8, codec: Codec) -> LayerRecord {
        let diff_id = DiffId::new(Digest::from([n; 32]));
        let (digest, size) = match codec {
            Codec::None => (diff_id.digest(), 4096),
            _ => (Digest::from([n ^ 0xff; 32]), 1000 + u64::from(n)),
        };
        LayerRecord {
            diff_id,
            uncompressed_size: 4096,
            digest,
            size,
            media_type: codec.media_type(),
        }
    }

    fn key(n: u8) -> LayerKey {
        Digest::from([n; 32]).to_string().parse().unwrap()
    }

    /// Returns store paths whose hashes are the beginning of `digest`.
    fn paths(digest: u8, names: &[&str]) -> Vec<(StorePath, Option<u64>)> {
        let path = |name| format!("{}-{name}", nix32::encode(&[digest; 20]));
        let sized = |(name, size)| (path(name).parse().unwrap(), size);
        let sizes = [Some(120), None, Some(5), Some(u64::MAX)];
        names.iter().copied().zip(sizes).map(sized).collect()
    }

    /// Returns manifest and config of an image as they come back from a
    /// registry.
    fn documents(layers: &[ImageLayer<'_>]) -> (Value, Value) {
        let config = ImageConfig::new(parse_platform("linux/amd64").unwrap());
        let image = assemble(&config, layers).unwrap();
        let json = |bytes| serde_json::from_slice(bytes).unwrap();
        (
            json(image.manifest.blob.bytes()),
            json(image.config.bytes()),
        )
    }

    fn read((manifest, config): (Value, Value)) -> (ImageManifest, ImageConfiguration) {
        (
            serde_json::from_value(manifest).unwrap(),
            serde_json::from_value(config).unwrap(),
        )
    }

    /// An image of two layers: gzip with key 7, plain with key 8.
    fn two_layers() -> (Value, Value) {
        let (below, above) = (record(1, Codec::Gzip), record(2, Codec::None));
        documents(&[
            ImageLayer {
                record: &below,
                key: Some(key(7)),
                paths: paths(1, &["a", "b"]),
                summary: String::new(),
                history: LayerHistory::default(),
            },
            ImageLayer {
                record: &above,
                key: Some(key(8)),
                paths: Vec::new(),
                summary: String::new(),
                history: LayerHistory::default(),
            },
        ])
    }

    /// Returns the keys that are left after a change of manifest or config.
    fn keys_after(change: impl FnOnce(&mut Value, &mut Value)) -> Vec<LayerKeyPrefix> {
        let (mut manifest, mut config) = two_layers();
        change(&mut manifest, &mut config);
        let (manifest, config) = read((manifest, config));
        layer_records(&manifest, &config).into_keys().collect()
    }

    /// Writes the table anew for the layers that the manifest has now, as
    /// somebody does who wants to be believed.
    fn tell(manifest: &mut Value, change: impl FnOnce(&mut ImageTable)) {
        let mut table = ImageTable::read(&read(two_layers()).0).unwrap();
        change(&mut table);
        let layers: Vec<Descriptor> = serde_json::from_value(manifest["layers"].clone()).unwrap();
        manifest["annotations"][annotation::LAYERS] = json!(table.to_annotation(&layers).unwrap());
    }

    const BOTH: [u8; 2] = [7, 8];

    fn prefixes(keys: &[u8]) -> Vec<LayerKeyPrefix> {
        keys.iter().map(|n| key(*n).prefix()).collect()
    }

    #[test]
    fn a_layer_that_says_odd_things_is_left_out() {
        assert_eq!(keys_after(|_, _| ()), prefixes(&BOTH));
        let digest = |n: u8| Digest::from([n; 32]).to_string();
        for (layer, field, value) in [
            (0, "mediaType", json!("application/octet-stream")),
            (
                0,
                "mediaType",
                json!("application/vnd.oci.image.layer.v1.tar"),
            ),
            (
                0,
                "mediaType",
                json!("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            ),
            (
                0,
                "mediaType",
                json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            ),
            (0, "urls", json!(["https://example.org/blob"])),
            (0, "size", json!(0)),
            (0, "digest", json!(format!("sha512:{}", "7".repeat(128)))),
            // The same as its tar's.
            (0, "digest", json!(digest(1))),
            // Another than its tar's.
            (1, "digest", json!(digest(3))),
            (1, "size", json!(4095)),
            (
                1,
                "mediaType",
                json!("application/vnd.oci.image.layer.v1.tar+zstd"),
            ),
        ] {
            let left = keys_after(|m, _| {
                m["layers"][layer][field] = value.clone();
                tell(m, |_| ());
            });
            assert_eq!(left, prefixes(&[8 - layer as u8]), "{field} {value}");
        }
        for diff_id in ["", "sha256:00", "no digest at all", &"x".repeat(10_000)] {
            let left = keys_after(|_, c| c["rootfs"]["diff_ids"][0] = json!(diff_id));
            assert_eq!(left, prefixes(&[8]), "{diff_id}");
        }
        let left = keys_after(|m, _| tell(m, |table| table.layers[0].key = None));
        assert_eq!(left, prefixes(&[8]));
        let left = keys_after(|m, _| tell(m, |table| table.layers[1].uncompressed_size += 512));
        assert_eq!(left, prefixes(&[7]), "it is not compressed");
    }

    #[test]
    fn layers_that_contradict_each_other_are_left_out() {
        let both = |size: u64| {
            move |manifest: &mut Value, config: &mut Value| {
                let copy = manifest["layers"][0].clone();
                let diff_id = config["rootfs"]["diff_ids"][0].clone();
                manifest["layers"].as_array_mut().unwrap().push(copy);
                let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
                diff_ids.push(diff_id);
                tell(manifest, |table| {
                    let mut copy = table.layers[0].clone();
                    copy.paths.clear();
                    copy.uncompressed_size = size;
                    table.layers.push(copy);
                });
            }
        };
        assert_eq!(keys_after(both(4096)), prefixes(&BOTH));
        assert_eq!(keys_after(both(4608)), prefixes(&[8]));
    }

    #[test]
    fn the_table_of_other_layers_is_not_believed() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 6] = [
            ("no annotation", |m| m["annotations"] = Value::Null),
            ("rebased", |m| {
                m["layers"][0]["digest"] = json!(Digest::from([9; 32]).to_string());
            }),
            ("appended", |m| {
                let copy = m["layers"][1].clone();
                m["layers"].as_array_mut().unwrap().push(copy);
            }),
            ("reordered", |m| {
                m["layers"].as_array_mut().unwrap().reverse();
            }),
            ("cut", |m| {
                m["layers"].as_array_mut().unwrap().pop();
            }),
            ("no text", |m| {
                m["annotations"][annotation::LAYERS] = json!("");
            }),
        ];
        for (what, change) in changes {
            let changed = |manifest: &mut Value, config: &mut Value| {
                change(manifest);
                // So that only the table knows.
                let layers = manifest["layers"].as_array().unwrap().len();
                let id = config["rootfs"]["diff_ids"][0].clone();
                config["rootfs"]["diff_ids"] = json!(vec![id; layers]);
            };
            assert_eq!(keys_after(changed), [], "{what}");
        }
    }

    #[test]
    fn an_image_whose_documents_do_not_fit_says_nothing() {
        let shorter = |_: &mut Value, config: &mut Value| {
            config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
        };
        let longer = |manifest: &mut Value, _: &mut Value| {
            let copy = manifest["layers"][0].clone();
            manifest["layers"].as_array_mut().unwrap().push(copy);
            tell(manifest, |table| {
                let mut copy = table.layers[0].clone();
                copy.paths.clear();
                table.layers.push(copy);
            });
        };
        assert_eq!(keys_after(shorter), []);
        assert_eq!(keys_after(longer), []);
    }

    proptest! {
        /// What `assemble` writes is read back, whatever the layers.
        #[test]
        fn what_was_written_is_read(
            layers in proptest::collection::vec((0..3, any::<bool>(), 0..4_usize), 0..20),
        ) {
            let records: Vec<_> = layers
                .iter()
                .zip(0..)
                .map(|((codec, ..), n)| {
                    record(n, [Codec::None, Codec::Gzip, Codec::Zstd][*codec as usize])
                })
                .collect();
            let given: Vec<_> = layers
                .iter()
                .zip(&records)
                .zip(0..)
                .map(|(((_, has_key, count), record), n)| ImageLayer {
                    record,
                    key: has_key.then(|| key(n)),
                    paths: paths(n, &["d", "b", "c", "a"][..*count]),
                    summary: String::new(),
                    history: LayerHistory::default(),
                })
                .collect();
            let (manifest, config) = read(documents(&given));
            let with_key = given.iter().filter_map(|l| Some((l.key?.prefix(), l.record.clone())));
            prop_assert_eq!(layer_records(&manifest, &config), with_key.collect());
            prop_assert_eq!(ImageTable::read(&manifest), Some(ImageTable::of(&[], &given)));
        }
    }
}
