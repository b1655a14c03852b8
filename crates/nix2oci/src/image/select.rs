//! Which image of several.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::Codec;
use crate::oci::annotation::{IMAGE_NAME, REF_NAME};
use crate::oci::{Descriptor, ImageConfiguration, ImageManifest, MediaType, Platform, parse_name};

use super::StoredManifest;

/// The annotation of what BuildKit stores beside an image, such as an
/// attestation.
const ATTACHED: &str = "vnd.docker.reference.type";

const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Returns whether a media type is that of an image index, OCI's or Docker's.
pub(crate) fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex || media_type.as_ref() == DOCKER_INDEX
}

/// Returns whether a media type is that of an image manifest, OCI's or Docker's,
/// which has the same members.
pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageManifest || media_type.as_ref() == DOCKER_MANIFEST
}

pub(crate) fn is_config(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageConfig || media_type.as_ref() == DOCKER_CONFIG
}

/// Returns an annotation of a descriptor.
pub(super) fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Returns the names that an index gives a manifest, each once.
pub(super) fn names(descriptor: &Descriptor) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for key in [IMAGE_NAME, REF_NAME] {
        if let Some(name) = annotation(descriptor, key)
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// Returns whether an index says that something is no image but is stored
/// beside one.
pub(crate) fn is_attached(descriptor: &Descriptor) -> bool {
    annotation(descriptor, ATTACHED).is_some() || descriptor.artifact_type().is_some()
}

/// What a manifest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// An image.
    Image,
    /// An artifact, such as a signature, that says of itself what it is.
    Artifact,
    /// Nobody knows: its config is no image's.
    Unknown,
}

/// Returns what a manifest is of, as the image specification 1.1 tells it
/// ("Guidelines for Artifact Usage"). cosign's signatures are older than it:
/// they have an image's config, but their layers are none.
pub(crate) fn content(manifest: &ImageManifest) -> Content {
    let config = manifest.config().media_type();
    if manifest.artifact_type().is_some() || *config == MediaType::EmptyJSON {
        return Content::Artifact;
    }
    if !is_config(config) {
        return Content::Unknown;
    }
    let layers = manifest.layers();
    // An encrypted layer is one too, if none that can be read.
    let is_layer = |layer: &Descriptor| {
        let media_type = layer.media_type();
        Codec::of_media_type(media_type).is_some()
            || media_type
                .as_ref()
                .starts_with("application/vnd.oci.image.layer.")
    };
    if layers.is_empty() || layers.iter().any(is_layer) {
        Content::Image
    } else {
        Content::Artifact
    }
}

/// Returns the platform that an image's config names.
pub(crate) fn config_platform(config: &ImageConfiguration) -> Platform {
    let mut platform = Platform::default();
    platform
        .set_os(config.os().clone())
        .set_architecture(config.architecture().clone())
        .set_variant(config.variant().clone());
    platform
}

/// Returns `os/architecture` or `os/architecture/variant`.
pub(super) fn platform_text(platform: &Platform) -> String {
    let mut text = format!("{}/{}", platform.os(), platform.architecture());
    if let Some(variant) = platform.variant().as_deref().filter(|v| !v.is_empty()) {
        text.push('/');
        text.push_str(variant);
    }
    text
}

/// Returns those of `items` that a tag names: by their whole names; if none is
/// equal, by the tags in these; and if there is none, by what both are in full,
/// as `app:v1` is `docker.io/library/app:v1`.
pub(super) fn tagged<T>(items: Vec<T>, tag: &str, names: impl Fn(&T) -> Vec<String>) -> Vec<T> {
    let matches = |item: &T, same: &dyn Fn(&str) -> bool| names(item).iter().any(|n| same(n));
    let is_whole = |name: &str| name == tag;
    let is_part = |name: &str| {
        name.rsplit_once(':')
            .is_some_and(|(_, part)| part == tag && !part.contains('/'))
    };
    let in_full = |name: &str| parse_name(name).ok().map(|name| name.whole());
    let full = in_full(tag);
    let is_same = |name: &str| full.is_some() && in_full(name) == full;
    let ways: [&dyn Fn(&str) -> bool; 3] = [&is_whole, &is_part, &is_same];
    let decides = |same: &&dyn Fn(&str) -> bool| items.iter().any(|item| matches(item, *same));
    let Some(same) = ways.into_iter().find(decides) else {
        return Vec::new();
    };
    items
        .into_iter()
        .filter(|item| matches(item, same))
        .collect()
}

/// What a choice needs to know of manifests. It is asked only where the answer
/// decides.
pub(super) trait Candidates {
    /// Returns whether the manifest's blob is there.
    fn is_present(&self, manifest: &StoredManifest) -> Result<bool>;

    /// Returns whether the manifest can be of an image.
    fn is_image(&self, manifest: &StoredManifest) -> Result<bool>;

    /// Returns the image's platform.
    fn platform(&self, manifest: &StoredManifest) -> Result<Option<Platform>>;
}

/// Chooses one manifest, or says what there is to choose from.
pub(super) fn choose(
    cx: &Context,
    image: &str,
    manifests: Vec<StoredManifest>,
    tag: Option<&str>,
    platform: Option<&Platform>,
    candidates: &dyn Candidates,
) -> Result<StoredManifest> {
    let mut left: Vec<_> = manifests
        .into_iter()
        .filter(|m| !is_attached(&m.descriptor))
        .collect();
    if left.is_empty() {
        return Err(Error::image(image, "holds no image"));
    }
    if let Some(tag) = tag {
        let tags = tags(&left);
        left = tagged(left, tag, |m| m.names.clone());
        if left.is_empty() {
            let problem = format!("holds no image {tag}; it holds {tags}");
            return Err(Error::image(image, problem));
        }
    }
    merge_names(&mut left);
    if left.len() > 1 {
        left = without_absent(left, candidates)?;
    }
    if left.len() > 1 {
        let mut images = Vec::new();
        for manifest in left {
            cx.cancel.check()?;
            if candidates.is_image(&manifest)? {
                images.push(manifest);
            }
        }
        left = images;
        if left.is_empty() {
            return Err(Error::image(image, "holds no image"));
        }
    }
    if let Some(wanted) = platform {
        let mut others = BTreeSet::new();
        let mut matching = Vec::new();
        for manifest in left {
            cx.cancel.check()?;
            let found = candidates.platform(&manifest)?;
            if found.as_ref().is_some_and(|found| fits(found, wanted)) {
                matching.push(manifest);
            } else {
                others.extend(found.as_ref().map(platform_text));
            }
        }
        left = matching;
        if left.is_empty() {
            let wanted = platform_text(wanted);
            let others = others.into_iter().collect::<Vec<_>>().join(", ");
            let problem = format!("holds no image for {wanted}; it holds {others}");
            return Err(Error::image(image, problem));
        }
    }
    if left.len() == 1 {
        return Ok(left.swap_remove(0));
    }
    let is_one_entry = left.iter().all(|m| m.entry == left[0].entry);
    let mut platforms = BTreeSet::new();
    for manifest in &left {
        cx.cancel.check()?;
        platforms.extend(candidates.platform(manifest)?.as_ref().map(platform_text));
    }
    let problem = if is_one_entry || platforms.len() == left.len() {
        let platforms = platforms.into_iter().collect::<Vec<_>>().join(", ");
        format!("holds images for several platforms, and one must be chosen: {platforms}")
    } else {
        let tags = tags(&left);
        format!("holds several images, and one must be chosen by its tag: {tags}")
    };
    Err(Error::image(image, problem))
}

/// Leaves out what is not there, unless nothing else of its index is: an export
/// from containerd or nerdctl has the whole index of an image for several
/// platforms, but the manifests of some only.
fn without_absent(
    manifests: Vec<StoredManifest>,
    candidates: &dyn Candidates,
) -> Result<Vec<StoredManifest>> {
    let mut found = Vec::new();
    for manifest in manifests {
        found.push((candidates.is_present(&manifest)?, manifest));
    }
    let present: BTreeSet<usize> = found
        .iter()
        .filter(|(is_present, _)| *is_present)
        .map(|(_, manifest)| manifest.entry)
        .collect();
    Ok(found
        .into_iter()
        .filter(|(is_present, manifest)| *is_present || !present.contains(&manifest.entry))
        .map(|(_, manifest)| manifest)
        .collect())
}

/// Makes one of several entries for the same manifest.
fn merge_names(manifests: &mut Vec<StoredManifest>) {
    let mut merged: Vec<StoredManifest> = Vec::with_capacity(manifests.len());
    for manifest in manifests.drain(..) {
        let same = |m: &&mut StoredManifest| m.descriptor.digest() == manifest.descriptor.digest();
        match merged.iter_mut().find(same) {
            Some(known) => {
                for name in manifest.names {
                    if !known.names.contains(&name) {
                        known.names.push(name);
                    }
                }
            }
            None => merged.push(manifest),
        }
    }
    *manifests = merged;
}

/// Lists the names there are.
fn tags(manifests: &[StoredManifest]) -> String {
    let mut tags: Vec<&str> = Vec::new();
    for manifest in manifests {
        // In full, which says more than the tag alone and chooses as well.
        let name = manifest.names.first().map_or("one without a name", |n| n);
        if !tags.contains(&name) {
            tags.push(name);
        }
    }
    tags.join(", ")
}

/// Returns whether an image for `found` runs on `wanted`. A variant that is not
/// asked for may be any; arm64 without one is v8.
fn fits(found: &Platform, wanted: &Platform) -> bool {
    let variant = |platform: &Platform| {
        let variant = platform.variant().clone().filter(|v| !v.is_empty());
        variant.filter(|v| !(v == "v8" && platform.architecture().to_string() == "arm64"))
    };
    found.os() == wanted.os()
        && found.architecture() == wanted.architecture()
        && (wanted.variant().is_none() || variant(found) == variant(wanted))
}

#[cfg(test)]
mod tests {
    use super::tagged;

    #[test]
    fn a_name_in_short_is_a_name_in_full() {
        let items = [
            "docker.io/library/app:v1",
            "docker.io/library/app:v2",
            "h.io/v2:v3",
        ];
        let found = |tag: &str| tagged(items.to_vec(), tag, |name| vec![(*name).to_owned()]);
        assert_eq!(found("docker.io/library/app:v1"), [items[0]]);
        assert_eq!(found("v2"), [items[1]]);
        assert_eq!(found("app:v2"), [items[1]]);
        assert_eq!(found("h.io/v2:v3"), [items[2]]);
        assert!(found("other:v1").is_empty());
        assert!(found("v4").is_empty());
        assert!(found("A name").is_empty());
    }
}
