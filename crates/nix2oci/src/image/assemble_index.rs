//! The bytes of an index of images for several platforms.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::layer::{Blob as _, BytesBlob};
use crate::oci::{Descriptor, MediaType, canonical_json};

use super::RawManifest;

/// Makes an index of these manifests, in their order.
///
/// A function of its arguments: no clock, no environment. Each is named by its
/// descriptor, with the platform and the annotations that it has. Where a
/// runtime finds two for its platform, most take the first.
pub fn assemble_index(
    children: &[RawManifest],
    annotations: &BTreeMap<String, String>,
) -> RawManifest {
    let index = Index {
        schema_version: 2,
        media_type: MediaType::ImageIndex,
        manifests: children.iter().map(|c| c.blob.descriptor()).collect(),
        annotations,
    };
    RawManifest {
        blob: BytesBlob::new(MediaType::ImageIndex, canonical_json(&index)),
    }
}

/// An image index as the OCI image specification has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: MediaType,
    manifests: Vec<&'a Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use std::str::from_utf8;

    use crate::oci::parse_platform;

    use super::*;

    fn child(bytes: &str, platform: &str) -> RawManifest {
        let platform = parse_platform(platform).unwrap();
        RawManifest {
            blob: BytesBlob::new(MediaType::ImageManifest, bytes.into()).with_platform(platform),
        }
    }

    /// The exact bytes: a change here is a change of every index's digest and
    /// gets its own line in the changelog.
    #[test]
    fn the_bytes_are_golden() {
        let beside = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let mut last = child("{}", "unknown/unknown");
        last.blob = last.blob.with_annotations(beside);
        let children = [child("{ }", "linux/arm/v7"), last];
        let manifests = concat!(
            r#""manifests":[{"digest":"sha256:257c1be96ae69f4b01c2c69bdb6d78605f59175819fb007d0bf245bf48444c4a","#,
            r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""platform":{"architecture":"arm","os":"linux","variant":"v7"},"size":3},"#,
            r#"{"annotations":{"k":"v"},"#,
            r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","#,
            r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""platform":{"architecture":"unknown","os":"unknown"},"size":2}],"#,
            r#""mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#,
        );
        let index = assemble_index(&children, &BTreeMap::new());
        assert_eq!(
            from_utf8(index.blob.bytes()).unwrap(),
            format!("{{{manifests}")
        );
        assert_eq!(*index.blob.descriptor().media_type(), MediaType::ImageIndex);

        let annotations = ["b", "a"].map(|key| (key.to_owned(), "x".to_owned()));
        let index = assemble_index(&children, &BTreeMap::from(annotations));
        assert_eq!(
            from_utf8(index.blob.bytes()).unwrap(),
            format!(r#"{{"annotations":{{"a":"x","b":"x"}},{manifests}"#)
        );
    }
}
