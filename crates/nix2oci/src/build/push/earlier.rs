//! The images that the registry has now.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use crate::context::{Context, Event};
use crate::digest::Digest;
use crate::error::{Error, ErrorClass, ErrorKind, Result};
use crate::image::{ImageTable, is_attached, layer_records};
use crate::layer::{LayerKey, LayerKeyPrefix, LayerRecord};
use crate::oci::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform, Reference,
    descriptor_digest,
};
use crate::plan::EarlierImage;
use crate::registry::{FetchedManifest, Repository};

use super::{PushOptions, Target};

/// The tag that is looked at where none of the image's own is there yet.
const FALLBACK_TAG: &str = "latest";

/// Bytes that a config may have.
const MAX_CONFIG: u64 = 8 << 20;

/// What is known of images that were pushed before.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// What each of the image's tags points to now.
    tags: BTreeMap<String, Digest>,
    /// How many platforms those of the tags have that point to an index now.
    platforms: BTreeMap<String, usize>,
    /// Blobs of images that the repository has.
    blobs: BTreeSet<Digest>,
    /// Layers by the beginnings of their keys.
    records: BTreeMap<LayerKeyPrefix, Known>,
    /// The repository has no tag at all.
    is_new: bool,
    /// The repository's own image said which keys its layers have.
    has_keys: bool,
    /// What the next image is planned on from.
    replaced: Option<(Claim, EarlierImage)>,
}

/// Why an image is the one that the next one is planned on from; the first
/// reason wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// One of the next image's own tags points to it.
    Tag,
    /// The user named it.
    Named,
    /// It is the repository's newest, where none of the tags is there yet.
    Fallback,
}

/// A layer of an earlier image.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) record: LayerRecord,
    /// The repository of the same registry that has it, if it is another one
    /// than that which is pushed to.
    pub(super) mount_from: Option<String>,
}

/// What was pushed before for the same index: the repository has it.
#[derive(Debug, Default)]
pub(super) struct PushedBefore {
    blobs: BTreeSet<Digest>,
    records: BTreeMap<LayerKeyPrefix, LayerRecord>,
    /// Those that were made for it here.
    made: BTreeSet<LayerKey>,
}

impl PushedBefore {
    /// Takes note of layers that were made.
    pub(super) fn add_made(&mut self, keys: Vec<LayerKey>) {
        self.made.extend(keys);
    }

    /// Returns whether a layer was made for another image of the index.
    pub(super) fn was_made(&self, key: &LayerKey) -> bool {
        self.made.contains(key)
    }

    /// Takes note of layers that are there by now.
    pub(super) fn add(&mut self, layers: &[(Option<LayerKey>, LayerRecord)]) {
        for (key, record) in layers {
            self.blobs.insert(record.digest);
            if let Some(key) = key {
                self.records.insert(key.prefix(), record.clone());
            }
        }
    }

    /// Takes note of blobs that are there by now.
    pub(super) fn add_blobs(&mut self, blobs: impl Iterator<Item = Digest>) {
        self.blobs.extend(blobs);
    }
}

/// An image as a registry has it.
struct Found {
    digest: Digest,
    manifest: ImageManifest,
}

impl Earlier {
    /// Reads the images that the target's tags and `options` name; of those for
    /// several platforms the one for `platform`. Without `platform` only what
    /// the tags point to, and no layer's key.
    pub(super) fn read(
        cx: &Context,
        target: &Target<'_>,
        options: &PushOptions,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let mut earlier = Self::default();
        if options.reuse {
            earlier.read_own(cx, target, platform)?;
        }
        if let Some(platform) = platform {
            for reference in &options.reuse_from {
                earlier.read_named(cx, target, reference, platform)?;
            }
        }
        if let Some(before) = target.before {
            // Made here a moment ago, and so believed before all else.
            let own = std::mem::take(&mut earlier.records);
            earlier.take(before.records.clone(), None);
            for (key, known) in own {
                earlier.records.entry(key).or_insert(known);
            }
            earlier.blobs.extend(&before.blobs);
        }
        Ok(earlier)
    }

    /// Returns whether a tag points to this already.
    pub(super) fn has_tag(&self, tag: &str, manifest: Digest) -> bool {
        self.tags.get(tag) == Some(&manifest)
    }

    /// Returns whether an image of the repository has a blob.
    pub(super) fn has_blob(&self, digest: Digest) -> bool {
        self.blobs.contains(&digest)
    }

    /// Returns what a layer with this key was.
    pub(super) fn record(&self, key: &LayerKey) -> Option<&Known> {
        self.records.get(&key.prefix())
    }

    /// Returns whether the repository has an image that was looked at.
    pub(super) fn has_image(&self) -> bool {
        !self.blobs.is_empty()
    }

    /// Returns the layers of the image that is replaced, if it tells them.
    pub(super) fn replaced(&self) -> Option<&EarlierImage> {
        self.replaced.as_ref().map(|(_, image)| image)
    }

    /// Returns whether a layer that is not known is a new one, in all
    /// likelihood, so that it need not be asked for before it is sent.
    pub(super) fn tells_what_is_new(&self) -> bool {
        self.is_new || self.has_keys
    }

    /// Returns whether the repository is known to have nothing.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Warns if a tag that gets an image for one platform has several now: who
    /// pulls it for another platform gets the wrong one, or none.
    pub(super) fn warn_of_platforms(&self, cx: &Context, target: &Target<'_>) {
        if target.is_of_index {
            return;
        }
        for (tag, count) in self.platforms.iter().filter(|(_, count)| **count > 1) {
            let message = format!(
                "{}:{tag} has images for {count} platforms now, and this one takes its place \
                 for all of them",
                target.name
            );
            cx.observer.event(&Event::Warning { message: &message });
        }
    }

    fn read_own(
        &mut self,
        cx: &Context,
        target: &Target<'_>,
        platform: Option<&Platform>,
    ) -> Result<()> {
        let error = match self.read_tags(target, platform) {
            Err(error) if is_unusable(&error) => error,
            result => return result,
        };
        if error.class() == ErrorClass::Denied && !target.is_read_only {
            // Some registries let a robot push and not pull.
            check_push(target)?;
        }
        let message = format!("no layer is taken over from the earlier image: {error}");
        cx.observer.event(&Event::Warning { message: &message });
        Ok(())
    }

    fn read_tags(&mut self, target: &Target<'_>, platform: Option<&Platform>) -> Result<()> {
        for tag in &target.tags {
            if let Some(found) = fetch(target, &target.repository, tag)? {
                self.tags.insert(tag.clone(), digest_of(&found.descriptor)?);
                if let Some(platforms) = platforms(&found) {
                    self.platforms.insert(tag.clone(), platforms);
                }
                self.take_own(target, &found, platform, Claim::Tag)?;
            }
        }
        if !self.tags.is_empty() {
            return Ok(());
        }
        if !target.tags.iter().any(|tag| tag == FALLBACK_TAG)
            && let Some(found) = fetch(target, &target.repository, FALLBACK_TAG)?
        {
            return self.take_own(target, &found, platform, Claim::Fallback);
        }
        let repository = target.repository.clone();
        let has_none = async move { repository.has_no_tags().await };
        self.is_new = target.block_on(has_none)?;
        Ok(())
    }

    /// Takes an image of the repository that is pushed to.
    fn take_own(
        &mut self,
        target: &Target<'_>,
        found: &FetchedManifest,
        platform: Option<&Platform>,
        claim: Claim,
    ) -> Result<()> {
        let Some(image) = image_for(target, &target.repository, found, platform)? else {
            return Ok(());
        };
        let manifest = &image.manifest;
        self.replace(claim, manifest);
        if self.blobs.contains(&image.digest) {
            return Ok(());
        }
        let blobs = manifest.layers().iter().chain([manifest.config()]);
        self.blobs.extend(blobs.filter_map(descriptor_digest));
        // Two tags of one image are read once.
        self.blobs.insert(image.digest);
        if platform.is_some() {
            let records = records(target, &target.repository, manifest)?;
            self.has_keys |= !records.is_empty();
            self.take(records, None);
        }
        Ok(())
    }

    /// Takes an image that the user named.
    fn read_named(
        &mut self,
        cx: &Context,
        target: &Target<'_>,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<()> {
        let repository = target.registries.repository(reference)?;
        let which = reference
            .digest()
            .or(reference.tag())
            .unwrap_or(FALLBACK_TAG);
        // The first image of a repository has nothing to take over: that is no
        // reason not to push it.
        let nothing = |problem: &str| {
            let name = reference.whole();
            let message = format!("no layer is taken over from docker://{name}: it {problem}");
            cx.observer.event(&Event::Warning { message: &message });
        };
        let Some(found) = fetch(target, &repository, which)? else {
            nothing("is not there");
            return Ok(());
        };
        let is_own = repository.host() == target.repository.host()
            && repository.name() == target.repository.name();
        if is_own {
            return self.take_own(target, &found, Some(platform), Claim::Named);
        }
        let Some(image) = image_for(target, &repository, &found, Some(platform))? else {
            let platform = crate::oci::display_platform(platform);
            nothing(&format!("has no image for {platform}"));
            return Ok(());
        };
        self.replace(Claim::Named, &image.manifest);
        let records = records(target, &repository, &image.manifest)?;
        let is_same_registry = repository.host() == target.repository.host();
        self.take(
            records,
            is_same_registry.then(|| repository.name().to_owned()),
        );
        Ok(())
    }

    /// Remembers an image to plan on from, unless there is one with a better
    /// claim, or as good a one and earlier.
    fn replace(&mut self, claim: Claim, manifest: &ImageManifest) {
        if self
            .replaced
            .as_ref()
            .is_some_and(|(best, _)| *best <= claim)
        {
            return;
        }
        if let Some(table) = ImageTable::read(manifest) {
            self.replaced = Some((claim, table.earlier_image()));
        }
    }

    /// Takes records; those that came first stay.
    fn take(&mut self, records: BTreeMap<LayerKeyPrefix, LayerRecord>, mount_from: Option<String>) {
        for (key, record) in records {
            self.records.entry(key).or_insert_with(|| Known {
                record,
                mount_from: mount_from.clone(),
            });
        }
    }
}

/// Returns whether an error is about the image that is there, or about who may
/// read it, and not about a registry that cannot be talked to.
fn is_unusable(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Denied { .. } => true,
        ErrorKind::Answer { status, .. } => {
            status.is_none_or(|status| status < 500 && !matches!(status, 408 | 429))
        }
        _ => error.class() == ErrorClass::Integrity,
    }
}

/// Finds out, before anything is packed, whether the registry takes layers.
fn check_push(target: &Target<'_>) -> Result<()> {
    let repository = target.repository.clone();
    target.block_on(async move { repository.check_push().await })
}

fn fetch(
    target: &Target<'_>,
    repository: &Repository,
    which: &str,
) -> Result<Option<FetchedManifest>> {
    let (repository, which) = (repository.clone(), which.to_owned());
    target.block_on(async move { repository.manifest(&which).await })
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest> {
    descriptor_digest(descriptor).ok_or_else(|| {
        Error::image(
            descriptor.digest().to_string(),
            "is not a SHA-256 digest, which is the only kind that is known here",
        )
    })
}

/// Returns for how many platforms an index has images, if it is one. Attestations
/// are for an unknown one.
fn platforms(found: &FetchedManifest) -> Option<usize> {
    if !names_images(found.descriptor.media_type()) {
        return None;
    }
    let index = parse::<ImageIndex>(&found.bytes)?;
    let images = index.manifests().iter().filter(|entry| !is_attached(entry));
    let platforms = images.filter_map(|entry| entry.platform().as_ref());
    let known = platforms.filter(|platform| platform.os().to_string() != "unknown");
    Some(known.count())
}

/// Returns whether a media type is that of an index, also docker's.
fn names_images(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex
        || media_type.to_string() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

/// Returns the image for a platform. What cannot be read as one is none: it is
/// overwritten, not used.
fn image_for(
    target: &Target<'_>,
    repository: &Repository,
    found: &FetchedManifest,
    platform: Option<&Platform>,
) -> Result<Option<Found>> {
    let media_type = found.descriptor.media_type();
    let chosen;
    let found = if names_images(media_type) {
        let (Some(index), Some(platform)) = (parse::<ImageIndex>(&found.bytes), platform) else {
            return Ok(None);
        };
        let fits = |entry: &&Descriptor| {
            entry.platform().as_ref().is_some_and(|found| {
                found.os() == platform.os()
                    && found.architecture() == platform.architecture()
                    && found.variant() == platform.variant()
            })
        };
        let entry = index.manifests().iter().find(fits);
        let Some(digest) = entry.and_then(descriptor_digest) else {
            return Ok(None);
        };
        chosen = fetch(target, repository, &digest.to_string())?;
        match &chosen {
            Some(found) => found,
            None => return Ok(None),
        }
    } else {
        found
    };
    let Some(manifest) = parse::<ImageManifest>(&found.bytes) else {
        return Ok(None);
    };
    Ok(Some(Found {
        digest: digest_of(&found.descriptor)?,
        manifest,
    }))
}

/// Reads the config of an image if its layers have keys.
fn records(
    target: &Target<'_>,
    repository: &Repository,
    manifest: &ImageManifest,
) -> Result<BTreeMap<LayerKeyPrefix, LayerRecord>> {
    let table = ImageTable::read(manifest).unwrap_or_default();
    let has_keys = table.layers.iter().any(|layer| layer.key.is_some());
    if !has_keys || descriptor_digest(manifest.config()).is_none() {
        return Ok(BTreeMap::new());
    }
    let (repository, config) = (repository.clone(), manifest.config().clone());
    let bytes = target.block_on(async move { repository.read_blob(&config, MAX_CONFIG).await })?;
    let config = parse::<ImageConfiguration>(&bytes);
    Ok(config.map_or_else(BTreeMap::new, |config| layer_records(manifest, &config)))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}
