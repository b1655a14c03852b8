//! The `index.json` of layouts and archives: which images there are, by name.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::image::{RawManifest, is_manifest};
use crate::layer::Blob;
use crate::oci::{Descriptor, ImageManifest, MediaType, Reference, annotation, canonical_json};

/// What every `oci-layout` file holds.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image with one of its names, or with none, as it goes into an index.
pub(super) struct IndexEntry {
    manifest: Descriptor,
    name: EntryName,
}

enum EntryName {
    None,
    /// By its tag, or by its full name where the tag is another image's.
    Full(Reference),
    /// By what the destination itself said, whatever its full name is.
    Given(String, Option<Reference>),
}

/// Returns an entry for each name of an image, or one without a name. `tag` is
/// one that the destination itself gave; it goes to the first name.
pub(super) fn index_entries(
    manifest: &Descriptor,
    names: &[Reference],
    tag: Option<&str>,
) -> Vec<IndexEntry> {
    let given = tag.map(|tag| EntryName::Given(tag.to_owned(), names.first().cloned()));
    let others = names.iter().skip(usize::from(tag.is_some()));
    let mut all: Vec<_> = given
        .into_iter()
        .chain(others.cloned().map(EntryName::Full))
        .collect();
    if all.is_empty() {
        all.push(EntryName::None);
    }
    all.into_iter()
        .map(|name| IndexEntry {
            manifest: manifest.clone(),
            name,
        })
        .collect()
}

/// Returns an image index with nothing in it.
pub(super) fn empty_index() -> Map<String, Value> {
    let Value::Object(index) = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex,
        "manifests": [],
    }) else {
        unreachable!("an object is written above")
    };
    index
}

/// Reads an image index so that nothing in it is lost; `image` names it in
/// errors.
pub(super) fn parse_index(image: &str, json: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(index)) if index.get("manifests").is_some_and(Value::is_array) => {
            Ok(index)
        }
        Ok(_) => Err(Error::image(
            image,
            "index.json is no image index: expected an object with an array manifests",
        )),
        Err(e) => Err(Error::image(image, format!("index.json is not JSON: {e}"))),
    }
}

/// Adds images to an index and returns its bytes. An image of the same name
/// goes, as does the same image without a name; everything else stays.
///
/// The full name goes to [`annotation::IMAGE_NAME`], the tag alone to
/// [`annotation::REF_NAME`], as buildkit and docker write them: podman and
/// containerd show the first, skopeo and umoci find an image by the second.
/// Where an image of another full name has the tag, the new one is found by its
/// full name.
pub(super) fn merge(mut index: Map<String, Value>, images: &[IndexEntry]) -> Vec<u8> {
    let mut manifests = match index.remove("manifests") {
        Some(Value::Array(manifests)) => manifests,
        _ => Vec::new(),
    };
    for image in images {
        add(&mut manifests, image);
    }
    index.insert("manifests".into(), manifests.into());
    canonical_json(&index)
}

/// Returns names of these images whose tags other images of an index have, so
/// that they are found by their full names alone.
pub(super) fn shadowed<'a>(
    index: &Map<String, Value>,
    images: &'a [IndexEntry],
) -> Vec<&'a Reference> {
    let manifests = index.get("manifests").and_then(Value::as_array);
    let has_tag = |tag: &str, full: &str| {
        manifests.into_iter().flatten().any(|old| {
            let other = text(old, annotation::IMAGE_NAME).is_some_and(|name| name != full);
            other && text(old, annotation::REF_NAME) == Some(tag)
        })
    };
    let names = images.iter().filter_map(|image| match &image.name {
        EntryName::Full(name) => Some(name),
        EntryName::None | EntryName::Given(..) => None,
    });
    names
        .filter(|name| has_tag(name.tag().unwrap_or("latest"), &name.whole()))
        .collect()
}

fn add(manifests: &mut Vec<Value>, image: &IndexEntry) {
    let (ref_name, full) = match &image.name {
        EntryName::None => {
            let digest = json!(image.manifest.digest());
            manifests.retain(|old| {
                text(old, annotation::REF_NAME).is_some() || old.get("digest") != Some(&digest)
            });
            manifests.push(json!(image.manifest));
            return;
        }
        EntryName::Given(tag, name) => (tag.clone(), name.as_ref().map(Reference::whole)),
        EntryName::Full(name) => {
            let (tag, full) = (name.tag().unwrap_or("latest"), name.whole());
            // Itself, by either of its names, so that the tag is free for it.
            manifests.retain(|old| {
                text(old, annotation::IMAGE_NAME) != Some(&full)
                    || text(old, annotation::REF_NAME).is_none_or(|r| r != tag && r != full)
            });
            let is_taken = manifests.iter().any(|old| {
                text(old, annotation::REF_NAME) == Some(tag)
                    && text(old, annotation::IMAGE_NAME).is_some()
            });
            let ref_name = if is_taken { &full } else { tag };
            (ref_name.to_owned(), Some(full))
        }
    };
    manifests.retain(|old| text(old, annotation::REF_NAME) != Some(&ref_name));
    let mut annotations = HashMap::from([(annotation::REF_NAME.to_owned(), ref_name)]);
    annotations.extend(full.map(|full| (annotation::IMAGE_NAME.to_owned(), full)));
    let mut descriptor = image.manifest.clone();
    descriptor.set_annotations(Some(annotations));
    manifests.push(json!(descriptor));
}

/// Returns an annotation of a descriptor.
fn text<'a>(descriptor: &'a Value, annotation: &str) -> Option<&'a str> {
    descriptor.get("annotations")?.get(annotation)?.as_str()
}

/// Reads the manifest that a sink was given; `image` names the sink in errors.
pub(super) fn parse_manifest(image: &str, manifest: &RawManifest) -> Result<ImageManifest> {
    let media_type = manifest.blob.descriptor().media_type();
    if !is_manifest(media_type) {
        return Err(Error::image(
            image,
            format!("cannot hold a {media_type} by a name, expected an image manifest"),
        ));
    }
    serde_json::from_slice(manifest.blob.bytes())
        .map_err(|e| Error::image(image, format!("manifest {}: {e}", manifest.digest())))
}

/// Returns the entry of docker's `manifest.json` for an image whose blobs are
/// in `blobs/sha256`.
pub(super) fn docker_entry(manifest: &ImageManifest, names: &[Reference]) -> Value {
    let blob = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest().digest());
    json!({
        "Config": blob(manifest.config()),
        "RepoTags": names.iter().map(Reference::whole).collect::<Vec<_>>(),
        "Layers": manifest.layers().iter().map(blob).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use crate::digest::Digest;
    use crate::oci::{descriptor, parse_name};

    use super::*;

    fn manifest(n: u8) -> Descriptor {
        descriptor(MediaType::ImageManifest, Digest::from([n; 32]), 7)
    }

    fn entries(n: u8, names: &[&str], tag: Option<&str>) -> Vec<IndexEntry> {
        let names: Vec<_> = names.iter().map(|name| parse_name(name).unwrap()).collect();
        index_entries(&manifest(n), &names, tag)
    }

    /// `ref.name` and the containerd name of each descriptor in an index.
    fn index_names(index: &[u8]) -> Vec<(String, String)> {
        let index: Value = serde_json::from_slice(index).unwrap();
        let get = |old: &Value, key| text(old, key).unwrap_or_default().to_owned();
        let manifests = index["manifests"].as_array().unwrap().iter();
        manifests
            .map(|old| {
                (
                    get(old, annotation::REF_NAME),
                    get(old, annotation::IMAGE_NAME),
                )
            })
            .collect()
    }

    fn named(names: &[&str], tag: Option<&str>) -> Vec<(String, String)> {
        index_names(&merge(empty_index(), &entries(1, names, tag)))
    }

    #[test]
    fn every_name_gets_a_descriptor() {
        let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            expected.iter().map(own).collect()
        };
        assert_eq!(named(&[], None), pairs(&[("", "")]));
        assert_eq!(named(&[], Some("t")), pairs(&[("t", "")]));
        assert_eq!(named(&["h.io/a:1"], None), pairs(&[("1", "h.io/a:1")]));
        assert_eq!(named(&["h.io/a:1"], Some("t")), pairs(&[("t", "h.io/a:1")]));
        assert_eq!(
            named(&["h.io/a:1", "h.io/a:2", "h.io/b:1"], None),
            pairs(&[
                ("1", "h.io/a:1"),
                ("2", "h.io/a:2"),
                ("h.io/b:1", "h.io/b:1")
            ])
        );
        assert_eq!(
            named(&["h.io/a:1", "h.io/a:2"], Some("2")),
            pairs(&[("2", "h.io/a:1"), ("h.io/a:2", "h.io/a:2")])
        );
    }

    #[test]
    fn a_merge_replaces_the_same_name_and_keeps_the_rest() {
        let old = br#"{"x-own":[1],"schemaVersion":2,"manifests":[
            {"digest":"sha256:aa","x-own":true,"annotations":{"org.opencontainers.image.ref.name":"keep"}},
            {"digest":"sha256:bb","annotations":{"org.opencontainers.image.ref.name":"1"}},
            {"digest":"sha256:cc"}]}"#;
        let new = entries(1, &["h.io/a:1"], None);
        let once = merge(parse_index("x", old).unwrap(), &new);
        let index: Value = serde_json::from_slice(&once).unwrap();
        assert_eq!(index["x-own"], json!([1]));
        let manifests = index["manifests"].as_array().unwrap();
        let digests: Vec<_> = manifests.iter().map(|m| m["digest"].clone()).collect();
        assert_eq!(
            digests,
            [
                "sha256:aa",
                "sha256:cc",
                &format!("sha256:{}", "01".repeat(32))
            ]
        );
        assert_eq!(manifests[0]["x-own"], json!(true));
        assert_eq!(merge(parse_index("x", &once).unwrap(), &new), once);
    }

    #[test]
    fn the_same_image_without_a_name_is_kept_once() {
        let images: Vec<_> = [1, 2, 1]
            .into_iter()
            .flat_map(|n| entries(n, &[], None))
            .collect();
        let once = merge(empty_index(), &images);
        let index: Value = serde_json::from_slice(&once).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_tag_that_another_image_has_is_told() {
        let index = merge(empty_index(), &entries(1, &["h.io/a:1"], None));
        let index = parse_index("x", &index).unwrap();
        let told = |names: &[&str], tag| -> Vec<String> {
            let new = entries(2, names, tag);
            shadowed(&index, &new)
                .into_iter()
                .map(Reference::whole)
                .collect()
        };
        assert_eq!(told(&["h.io/b:1", "h.io/b:2"], None), ["h.io/b:1"]);
        // Its own name, and one that was asked for, take the place.
        assert!(told(&["h.io/a:1"], None).is_empty());
        assert!(told(&["h.io/b:1"], Some("1")).is_empty());
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for text in ["", "[]", "{}", r#"{"manifests":{}}"#] {
            let message = parse_index("oci:x", text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(message.starts_with("oci:x: index.json is "), "{message}");
        }
    }
}
