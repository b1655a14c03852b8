//! What an index says of its images.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, Result};
use crate::image::{
    Content, ImageReader, ImageTree, RawManifest, TreeDocument, content, is_attached,
};
use crate::layer::BytesBlob;
use crate::oci::{Descriptor, ImageManifest, Platform, annotation, display_platform};

/// The platform of what is stored beside an image, as BuildKit writes it for
/// attestations.
const UNKNOWN: &str = "unknown";

/// The platforms that an index has by now, and whose they are.
#[derive(Debug, Default)]
pub(in crate::build) struct Members(BTreeMap<Vec<String>, String>);

impl Members {
    /// Takes an image of a part.
    pub(super) fn add(&mut self, part: &str, platform: &Platform) -> Result<()> {
        let (os, machine) = (
            platform.os().to_string(),
            platform.architecture().to_string(),
        );
        if os.is_empty() || machine.is_empty() || os == UNKNOWN || machine == UNKNOWN {
            let problem = "does not say which platform it is for, and an index is of platforms";
            return Err(Error::invalid(part, problem));
        }
        let identity = identity(platform);
        let platform = display_platform(platform);
        let problem = match self.0.get(&identity) {
            None => {
                self.0.insert(identity, part.to_owned());
                return Ok(());
            }
            Some(other) if other == part => {
                format!("has two images for {platform}, and an index has one for each")
            }
            Some(other) => {
                format!("is for {platform}, and so is {other}: an index has one image for each")
            }
        };
        Err(Error::invalid(part, problem))
    }

    /// Takes a manifest that is stored; what is no image has no platform of its
    /// own.
    pub(super) fn add_stored(&mut self, part: &str, descriptor: &Descriptor) -> Result<()> {
        match descriptor.platform() {
            _ if is_attached(descriptor) => Ok(()),
            Some(platform) => self.add(part, platform),
            None => {
                let problem = format!(
                    "has manifest {} of something that is no image",
                    descriptor.digest()
                );
                Err(Error::invalid(part, problem))
            }
        }
    }
}

/// Returns what a runtime tells platforms apart by. For arm64 no variant is v8,
/// which containerd and podman take for the same; images of Windows are for one
/// version of it each.
fn identity(platform: &Platform) -> Vec<String> {
    let machine = platform.architecture().to_string();
    let variant = platform.variant().clone().unwrap_or_default();
    let variant = match (&*machine, &*variant) {
        ("arm64", "v8") => String::new(),
        _ => variant,
    };
    let version = platform.os_version().clone().unwrap_or_default();
    let features = platform.os_features().clone().unwrap_or_default();
    let mut identity = vec![platform.os().to_string(), machine, variant, version];
    identity.extend(features);
    identity
}

/// Returns the manifests of a stored image, or of all images of an index, as
/// another index names them: with the platform that their index says, else
/// their config. What is stored beside an image, such as an attestation, stays
/// as it is: it names the manifest that it belongs to, which does not change.
/// Indexes in between are left out.
pub(in crate::build) fn stored_manifests(
    image: &ImageReader,
    tree: &ImageTree,
) -> Result<Vec<RawManifest>> {
    let documents = tree.documents.iter().filter(|d| d.config.is_some());
    documents.map(|document| member(image, document)).collect()
}

fn member(image: &ImageReader, document: &TreeDocument) -> Result<RawManifest> {
    let mut descriptor = document.descriptor.clone();
    // The names of an image are those of the place where it was found.
    let annotations: HashMap<String, String> = descriptor
        .annotations()
        .iter()
        .flatten()
        .filter(|(key, _)| !matches!(&***key, annotation::REF_NAME | annotation::IMAGE_NAME))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    descriptor.set_annotations((!annotations.is_empty()).then_some(annotations));
    let is_image = || -> bool {
        serde_json::from_slice::<ImageManifest>(&document.bytes)
            .is_ok_and(|manifest| content(&manifest) == Content::Image)
    };
    if descriptor.platform().is_none() && !is_attached(&descriptor) && is_image() {
        descriptor.set_platform(image.platform_of(document)?);
    }
    let blob = BytesBlob::new(descriptor.media_type().clone(), document.bytes.clone());
    Ok(RawManifest {
        blob: blob.described_as(&descriptor),
    })
}

#[cfg(test)]
mod tests {
    use crate::oci::parse_platform;

    use super::*;

    #[test]
    fn no_platform_comes_twice() {
        let mut members = Members::default();
        let mut add = |part: &str, platform: &str| {
            let added = members.add(part, &parse_platform(platform).unwrap());
            added.map_err(|error| error.to_string())
        };
        for platform in ["linux/amd64", "linux/arm/v7", "linux/arm/v6", "linux/arm64"] {
            assert_eq!(add("first.tar", platform), Ok(()));
        }
        let same = "is for linux/amd64, and so is first.tar: an index has one image for each";
        let twice = add("second.tar", "linux/amd64").unwrap_err();
        assert_eq!(twice, format!("second.tar: {same}"));
        let twice = add("first.tar", "linux/amd64").unwrap_err();
        assert!(twice.contains("two images for linux/amd64"), "{twice}");
        assert!(add("third.tar", "linux/arm64/v8").is_err());
        let unknown = add("third.tar", "unknown/unknown").unwrap_err();
        assert!(unknown.contains("does not say which platform"), "{unknown}");
    }
}
