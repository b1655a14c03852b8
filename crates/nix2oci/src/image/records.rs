//! What an image says of its layers, for a later build that makes the same
//! ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::layer::{LayerKey, LayerRecord};
use crate::oci::{Descriptor, ImageConfiguration, ImageManifest, annotation, descriptor_digest};
use crate::store::StorePath;

/// Returns the records of an image's layers by their keys, as
/// [`assemble`](super::assemble) put them into manifest and config.
///
/// A layer is left out, and is no error, if it says nothing of itself or
/// something that this library does not write: a key, digest or size that is
/// malformed, a media type that is not one of our three, a blob that lies
/// elsewhere (`urls`), a tar that is not compressed and yet has another digest
/// or size than its blob. Layers that have one key and are not the same are
/// all left out, and all of the image are if config and manifest do not have
/// the same number of layers.
///
/// # What may be believed
///
/// Nothing was compared with a layer's bytes, and nothing can be but by
/// fetching it: who wrote the image decides which blob goes by which key. So
/// ask only images that lie where the new one goes, or that the user named. The
/// blob may be gone; a registry says so when it takes a manifest with it.
///
/// A program that copied the image may have compressed its layers anew.
/// skopeo 1.9 drops the annotations then; for programs that keep them, compare
/// the record's media type with that of the compression that is wanted.
pub fn layer_records(
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> BTreeMap<LayerKey, LayerRecord> {
    let layers = manifest.layers();
    let diff_ids = config.rootfs().diff_ids();
    if layers.len() != diff_ids.len() {
        return BTreeMap::new();
    }
    let mut records = BTreeMap::new();
    let mut contradicted = BTreeSet::new();
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        let Some((key, record)) = layer_record(descriptor, diff_id) else {
            continue;
        };
        if *records.entry(key).or_insert_with(|| record.clone()) != record {
            contradicted.insert(key);
        }
    }
    records.retain(|key, _| !contradicted.contains(key));
    records
}

fn layer_record(descriptor: &Descriptor, diff_id: &str) -> Option<(LayerKey, LayerRecord)> {
    let key = text(descriptor, annotation::LAYER_KEY)?.parse().ok()?;
    let record = LayerRecord {
        diff_id: diff_id.parse().ok()?,
        uncompressed_size: decimal(text(descriptor, annotation::UNCOMPRESSED_SIZE)?)?,
        digest: descriptor_digest(descriptor)?,
        size: descriptor.size(),
        media_type: descriptor.media_type().clone(),
    };
    let lies_elsewhere = descriptor.urls().as_ref().is_some_and(|u| !u.is_empty());
    (record.is_plausible() && !lies_elsewhere).then_some((key, record))
}

/// Returns the store paths in a layer, in the order in which they are packed,
/// as its descriptor tells them: [`annotation::STORE_PATHS`].
///
/// `None` if it tells none, or something that is no list of different store
/// paths. What is in the layer may be another matter; see [`layer_records`].
pub fn layer_store_paths(descriptor: &Descriptor) -> Option<Vec<StorePath>> {
    let list = text(descriptor, annotation::STORE_PATHS)?;
    let paths: Vec<StorePath> = list
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let different: BTreeSet<&StorePath> = paths.iter().collect();
    (different.len() == paths.len()).then_some(paths)
}

fn text<'a>(descriptor: &'a Descriptor, annotation: &str) -> Option<&'a str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(annotation).map(String::as_str)
}

/// Reads a number that is written as we write it: no sign, no zero in front.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::digest::{DiffId, Digest};
    use crate::image::{ImageConfig, ImageLayer, assemble};
    use crate::layer::Codec;
    use crate::oci::parse_platform;

    use super::*;

    const KEY: &str = annotation::LAYER_KEY;
    const SIZE: &str = annotation::UNCOMPRESSED_SIZE;
    const PATHS: &str = annotation::STORE_PATHS;

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

    fn paths(names: &[&str]) -> Vec<StorePath> {
        let path = |name| format!("{}-{name}", "0".repeat(32)).parse().unwrap();
        names.iter().map(path).collect()
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
                paths: paths(&["a", "b"]),
                comment: String::new(),
            },
            ImageLayer {
                record: &above,
                key: Some(key(8)),
                paths: Vec::new(),
                comment: String::new(),
            },
        ])
    }

    /// Returns the keys that are left after a change of manifest or config.
    fn keys_after(change: impl FnOnce(&mut Value, &mut Value)) -> Vec<LayerKey> {
        let (mut manifest, mut config) = two_layers();
        change(&mut manifest, &mut config);
        let (manifest, config) = read((manifest, config));
        layer_records(&manifest, &config).into_keys().collect()
    }

    #[test]
    fn a_layer_that_says_odd_things_is_left_out() {
        assert_eq!(keys_after(|_, _| ()), [key(7), key(8)]);
        let upper = key(7).to_string().to_uppercase();
        let long = "9".repeat(40);
        let digest = |n: u8| Digest::from([n; 32]).to_string();
        for (field, value) in [
            (KEY, json!("")),
            (KEY, json!("sha256:07")),
            (KEY, json!(upper)),
            (KEY, json!(format!("{} ", key(7)))),
            (KEY, json!(format!("sha512:{}", "7".repeat(128)))),
            (SIZE, json!("")),
            (SIZE, json!("-1")),
            (SIZE, json!("+4096")),
            (SIZE, json!("04096")),
            (SIZE, json!("4096 ")),
            (SIZE, json!("4e3")),
            (SIZE, json!("\u{664}")),
            (SIZE, json!(long)),
        ] {
            let left = keys_after(|m, _| m["layers"][0]["annotations"][field] = value.clone());
            assert_eq!(left, [key(8)], "{field} {value}");
        }
        for (layer, field, value) in [
            (0, "annotations", json!({})),
            (0, "annotations", Value::Null),
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
            let left = keys_after(|m, _| m["layers"][layer][field] = value.clone());
            assert_eq!(left, [key(8 - layer as u8)], "{field} {value}");
        }
        for diff_id in ["", "sha256:00", "no digest at all", &"x".repeat(10_000)] {
            let left = keys_after(|_, c| c["rootfs"]["diff_ids"][0] = json!(diff_id));
            assert_eq!(left, [key(8)], "{diff_id}");
        }
    }

    #[test]
    fn layers_that_contradict_each_other_are_left_out() {
        let both = |size: &'static str| {
            move |manifest: &mut Value, config: &mut Value| {
                let mut copy = manifest["layers"][0].clone();
                copy["annotations"][SIZE] = json!(size);
                let diff_id = config["rootfs"]["diff_ids"][0].clone();
                manifest["layers"].as_array_mut().unwrap().push(copy);
                let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
                diff_ids.push(diff_id);
            }
        };
        assert_eq!(keys_after(both("4096")), [key(7), key(8)]);
        assert_eq!(keys_after(both("4608")), [key(8)]);
    }

    #[test]
    fn an_image_whose_documents_do_not_fit_says_nothing() {
        let shorter = |_: &mut Value, config: &mut Value| {
            config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
        };
        let longer = |manifest: &mut Value, _: &mut Value| {
            let copy = manifest["layers"][0].clone();
            manifest["layers"].as_array_mut().unwrap().push(copy);
        };
        assert_eq!(keys_after(shorter), []);
        assert_eq!(keys_after(longer), []);
    }

    #[test]
    fn only_a_list_of_store_paths_is_one() {
        let (manifest, _) = two_layers();
        let descriptor = |list: Option<&str>| -> Descriptor {
            let mut layer = manifest["layers"][0].clone();
            let annotations = layer["annotations"].as_object_mut().unwrap();
            annotations.remove(PATHS);
            annotations.extend(list.map(|list| (PATHS.to_owned(), json!(list))));
            serde_json::from_value(layer).unwrap()
        };
        let good = format!("{0}-b {0}-a", "0".repeat(32));
        let read = layer_store_paths(&descriptor(Some(&good)));
        assert_eq!(read, Some(paths(&["b", "a"])));
        assert_eq!(layer_store_paths(&descriptor(None)), None);
        for list in [
            "".to_owned(),
            " ".to_owned(),
            format!("{good} "),
            format!(" {good}"),
            good.replace(' ', "  "),
            good.replace(' ', "\n"),
            good.replace(' ', ","),
            format!("/nix/store/{good}"),
            format!("{good} {0}-..", "0".repeat(32)),
            format!("{good} {0}-a/../b", "0".repeat(32)),
            format!("{good} {0}-a", "0".repeat(32)),
            format!("{good} \0"),
        ] {
            assert_eq!(
                layer_store_paths(&descriptor(Some(&list))),
                None,
                "{list:?}"
            );
        }
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
                    paths: paths(&["d", "b", "c", "a"][..*count]),
                    comment: String::new(),
                })
                .collect();
            let (manifest, config) = read(documents(&given));
            let with_key = given.iter().filter_map(|l| Some((l.key?, l.record.clone())));
            prop_assert_eq!(layer_records(&manifest, &config), with_key.collect());
            for (descriptor, layer) in manifest.layers().iter().zip(&given) {
                let told = layer_store_paths(descriptor).unwrap_or_default();
                prop_assert_eq!(&told, &layer.paths);
            }
        }

        #[test]
        fn a_list_of_anything_is_a_list_or_not(list in "(0{31}[0u]-[ab/]{1,2} {0,2}){0,3}") {
            let (manifest, _) = two_layers();
            let mut layer = manifest["layers"][0].clone();
            layer["annotations"][PATHS] = json!(list);
            let descriptor: Descriptor = serde_json::from_value(layer).unwrap();
            if let Some(paths) = layer_store_paths(&descriptor) {
                let names: Vec<&str> = paths.iter().map(StorePath::as_str).collect();
                prop_assert_eq!(names.join(" "), list);
                prop_assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
            }
        }
    }
}
