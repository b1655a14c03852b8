//! Everything that is wrong with an image.
//!
//! Two passes. The first one goes down from the index over manifests to
//! configs and compares what these small documents say of each other. The
//! second one reads every layer once, each in a worker, and compares what is
//! there with what was said. Nothing stops at the first problem: a document
//! whose digest is wrong is read nevertheless.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::oci::annotation::{IMAGE_NAME, REF_NAME};
use crate::oci::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform,
    descriptor_digest,
};
use crate::plan::MAX_LAYERS;

use super::check_layers::{ExpectedLayer, check_layers, compare};
use super::docker_archive::{self, DockerImage, MANIFEST_JSON};
use super::document::{parse_json, read_all};
use super::reader::{Found, FoundFile, MAX_CONFIG, MAX_MANIFEST};
use super::select::{
    Content, annotation, content, is_attached, is_index, is_manifest, names, platform_text, tagged,
};
use super::walk::{Limit, Parent, Visitor, Walk};
use super::{ImageReader, Place, Problem, ProblemKind};

/// Verifies every digest, size, diff ID and tar rule, and returns every
/// problem: first those of the documents in their order, then those of the
/// layers, bottom first.
///
/// If the image was opened with a tag, only what it names is looked at;
/// otherwise all that the index names. A layer that several images share is
/// read once. Costs one pass over all layers, on `cx.threads` workers; memory
/// grows by about 40 bytes an entry, and by the length of symbolic links.
///
/// As the user of an image sees it, all of its layers are one tree: that is
/// looked at for links that lead nowhere, and for programs that the image's
/// platform cannot run.
///
/// # Errors
///
/// Fails only if files cannot be read, if there is no image with the tag, or on
/// `cx.cancel`: what is wrong with their bytes is the result.
pub fn check(cx: &Context, image: &ImageReader) -> Result<Vec<Problem>> {
    let mut check = Check {
        image,
        problems: Vec::new(),
        layers: Vec::new(),
        images: 0,
        configs: BTreeMap::new(),
        documents: BTreeMap::new(),
        descriptors: BTreeSet::new(),
        siblings: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    check.whole()?;
    check.index(cx)?;
    let Check {
        mut problems,
        layers,
        ..
    } = check;
    check_layers(cx, image, &layers, &mut problems)?;
    Ok(problems)
}

/// The pass over the documents.
struct Check<'a> {
    image: &'a ImageReader,
    problems: Vec<Problem>,
    /// What the second pass is to find.
    layers: Vec<ExpectedLayer>,
    /// Manifests whose layers are among them.
    images: usize,
    /// The layers' digests of each config that a manifest names.
    configs: BTreeMap<String, Vec<Vec<String>>>,
    /// Manifests and indexes that were read.
    documents: BTreeMap<(String, bool), Known>,
    /// Descriptors that were judged: digest, size, media type, platform, and
    /// whether in a nested index.
    descriptors: BTreeSet<(String, u64, String, Option<String>, bool)>,
    /// Of which indexes some manifest is there.
    siblings: BTreeMap<String, bool>,
    /// The digests of files that `manifest.json` names.
    files: BTreeMap<String, Option<String>>,
}

/// What a manifest or an index is, to compare with whatever names it.
#[derive(Clone)]
struct Known {
    size: u64,
    media_type: Option<MediaType>,
    /// The config that says the platform, and which.
    platform: Option<(Place, Platform)>,
}

impl Check<'_> {
    fn report(&mut self, place: Place, kind: ProblemKind) {
        self.problems.push(Problem { place, kind });
    }

    /// Returns whether the rules of an OCI layout apply. What `docker save` wrote
    /// has another form, and a registry has neither file nor name.
    fn is_layout(&self) -> bool {
        self.image.has_oci_index() && self.image.registry_repository().is_none()
    }

    fn whole(&mut self) -> Result<()> {
        for name in self.image.files().duplicates() {
            self.report(Place::Whole, ProblemKind::DuplicateMember { name });
        }
        if !self.is_layout() {
            return Ok(());
        }
        let file = self.image.files().find("oci-layout")?;
        let layout = self.content(&Place::Whole, file, MAX_MANIFEST)?;
        let layout = layout.unwrap_or_default();
        let layout: serde_json::Value = serde_json::from_slice(&layout).unwrap_or_default();
        let version = layout["imageLayoutVersion"].as_str().unwrap_or_default();
        if version != "1.0.0" {
            let version = version.to_owned();
            self.report(Place::Whole, ProblemKind::LayoutVersion { version });
        }
        Ok(())
    }

    fn index(&mut self, cx: &Context) -> Result<()> {
        let entries: Vec<_> = self.image.index().manifests().iter().enumerate().collect();
        let entries = match self.image.tag() {
            Some(tag) => {
                let tagged = tagged(entries, tag, |(_, descriptor)| names(descriptor));
                if tagged.is_empty() {
                    let problem = format!("holds no image {tag}");
                    return Err(Error::image(self.image.name(), problem));
                }
                tagged
            }
            None => entries,
        };
        if entries.is_empty() {
            self.report(Place::Index, ProblemKind::NoManifest);
        }
        let mut walk = Walk::new(cx);
        for (entry, descriptor) in entries {
            for key in [REF_NAME, IMAGE_NAME] {
                if self.is_layout() && annotation(descriptor, key).is_none() {
                    let kind = ProblemKind::NoName { annotation: key };
                    self.report(Place::IndexEntry { entry }, kind);
                }
            }
            walk.entry(descriptor, self)?;
        }
        self.docker(cx)
    }

    /// Compares a descriptor with a document that was read before, and returns
    /// whether it was.
    fn is_known(&mut self, place: &Place, descriptor: &Descriptor) -> bool {
        let key = (
            descriptor.digest().to_string(),
            is_index(descriptor.media_type()),
        );
        let Some(known) = self.documents.get(&key).cloned() else {
            return false;
        };
        if known.size != descriptor.size() {
            let kind = ProblemKind::Size {
                expected: descriptor.size(),
                found: known.size,
            };
            self.report(place.clone(), kind);
        }
        self.says(place, descriptor, known.media_type.as_ref());
        if let Some((config, platform)) = &known.platform {
            self.platform(config, descriptor, platform);
        }
        true
    }

    /// Remembers what a document is, which was read just now.
    fn know(&mut self, descriptor: &Descriptor, size: u64, media_type: Option<&MediaType>) {
        let key = (
            descriptor.digest().to_string(),
            is_index(descriptor.media_type()),
        );
        let known = Known {
            size,
            media_type: media_type.cloned(),
            platform: None,
        };
        self.documents.insert(key, known);
    }

    /// Returns whether some manifest is there of those that an index names.
    fn has_manifest(&mut self, parent: Parent<'_>) -> Result<bool> {
        let key = parent.descriptor.digest().to_string();
        if let Some(&known) = self.siblings.get(&key) {
            return Ok(known);
        }
        let mut has_one = false;
        for sibling in parent.index.manifests() {
            if let Some(digest) = descriptor_digest(sibling)
                && !is_attached(sibling)
                && !matches!(self.image.find_blob(digest)?, Found::Nothing)
            {
                has_one = true;
                break;
            }
        }
        self.siblings.insert(key, has_one);
        Ok(has_one)
    }

    /// Reads a manifest, or reports why it cannot be read.
    fn read_manifest(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        parent: Option<Parent<'_>>,
    ) -> Result<Option<(ImageManifest, u64)>> {
        if let (Some(parent), Some(digest)) = (parent, descriptor_digest(descriptor))
            && matches!(self.image.find_blob(digest)?, Found::Nothing)
            && self.has_manifest(parent)?
        {
            self.report(place.clone(), ProblemKind::MissingSibling);
            return Ok(None);
        }
        self.document(place, descriptor, MAX_MANIFEST)
    }

    fn manifest_content(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        manifest: &ImageManifest,
    ) -> Result<()> {
        let layers = manifest.layers();
        let digest = manifest.config().digest().to_string();
        let digests = layers.iter().map(|l| l.digest().to_string()).collect();
        let known = self.configs.entry(digest.clone()).or_default();
        known.push(digests);
        let mut diff_ids = Vec::new();
        let mut platform = None;
        let content = content(manifest);
        let is_image = content == Content::Image && !is_attached(descriptor);
        let config_place = Place::Config { digest };
        let config = manifest.config();
        if is_image {
            if layers.len() > MAX_LAYERS {
                let layers = layers.len();
                self.report(place.clone(), ProblemKind::TooManyLayers { layers });
            }
            let config = self.document::<ImageConfiguration>(&config_place, config, MAX_CONFIG)?;
            if let Some((config, _)) = &config {
                self.config(&config_place, manifest, config);
                let found = config_platform(config);
                self.platform(&config_place, descriptor, &found);
                let key = (descriptor.digest().to_string(), false);
                if let Some(known) = self.documents.get_mut(&key) {
                    known.platform = Some((config_place, found.clone()));
                }
                platform = Some(found);
                diff_ids.clone_from(config.rootfs().diff_ids());
            }
        } else {
            if content == Content::Unknown && !is_attached(descriptor) {
                let media_type = config.media_type().to_string();
                self.report(place.clone(), ProblemKind::NoImage { media_type });
            }
            self.bytes(&config_place, config, MAX_CONFIG)?;
        }
        for (index, layer) in layers.iter().enumerate() {
            self.layers.push(ExpectedLayer {
                index,
                descriptor: layer.clone(),
                diff_id: diff_ids.get(index).cloned(),
                is_image,
                image: self.images,
                platform: platform.clone(),
            });
        }
        self.images += 1;
        Ok(())
    }

    fn config(&mut self, place: &Place, manifest: &ImageManifest, config: &ImageConfiguration) {
        let layers = manifest.layers().len();
        let diff_ids = config.rootfs().diff_ids().len();
        if diff_ids != layers {
            self.report(place.clone(), ProblemKind::DiffIdCount { diff_ids, layers });
        }
        let history = config.history().as_deref().unwrap_or_default();
        let entries = history
            .iter()
            .filter(|entry| entry.empty_layer() != Some(true))
            .count();
        // A history is optional, half of one is not.
        if !history.is_empty() && entries != layers {
            self.report(place.clone(), ProblemKind::HistoryCount { entries, layers });
        }
    }

    /// Compares the platform in an index with that of the config.
    fn platform(&mut self, place: &Place, descriptor: &Descriptor, found: &Platform) {
        if let Some(platform) = descriptor.platform()
            && (platform.os() != found.os() || platform.architecture() != found.architecture())
        {
            let kind = ProblemKind::Platform {
                index: platform_text(platform),
                config: platform_text(found),
            };
            self.report(place.clone(), kind);
        }
    }

    /// Compares the media type that a document says of itself.
    fn says(&mut self, place: &Place, descriptor: &Descriptor, found: Option<&MediaType>) {
        if let Some(found) = found.filter(|found| *found != descriptor.media_type()) {
            let kind = ProblemKind::MediaTypeDiffers {
                expected: descriptor.media_type().to_string(),
                found: found.to_string(),
            };
            self.report(place.clone(), kind);
        }
    }

    /// Reads a document, whatever its digest, and returns its size as well.
    fn document<T: DeserializeOwned>(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Option<(T, u64)>> {
        let Some(bytes) = self.bytes(place, descriptor, limit)? else {
            return Ok(None);
        };
        match parse_json(&bytes) {
            Ok(document) => Ok(Some((document, bytes.len() as u64))),
            Err(error) => {
                let problem = error.to_string();
                self.report(place.clone(), ProblemKind::Malformed { problem });
                Ok(None)
            }
        }
    }

    /// Reads a blob of limited size, and compares it with its descriptor.
    fn bytes(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Option<Vec<u8>>> {
        let Some(expected) = descriptor_digest(descriptor) else {
            self.report(place.clone(), ProblemKind::UnknownDigest);
            return Ok(None);
        };
        let file = self.image.find_blob(expected)?;
        if matches!(file, Found::Nothing) {
            self.report(place.clone(), ProblemKind::Missing);
        }
        let Some(bytes) = self.content(place, file, limit)? else {
            return Ok(None);
        };
        let found = Digest::of(&bytes);
        compare(descriptor, found, bytes.len() as u64, |kind| {
            self.report(place.clone(), kind);
        });
        Ok(Some(bytes))
    }

    /// Reads a file of limited size, if there is one.
    fn content(&mut self, place: &Place, file: Found, limit: u64) -> Result<Option<Vec<u8>>> {
        let kind = match file {
            Found::File(file) if file.size <= limit => {
                return read_all(self.image.name(), file.reader, limit).map(Some);
            }
            Found::File(FoundFile { size, .. }) => ProblemKind::TooLarge { size, limit },
            Found::Nothing => return Ok(None),
            Found::Unusable(error) => ProblemKind::Malformed {
                problem: error.to_string(),
            },
        };
        self.report(place.clone(), kind);
        Ok(None)
    }

    /// Compares `manifest.json` with the OCI manifests of the same archive.
    fn docker(&mut self, cx: &Context) -> Result<()> {
        let file = self.image.files().find(MANIFEST_JSON)?;
        let Some(bytes) = self.content(&Place::Whole, file, MAX_MANIFEST)? else {
            return Ok(());
        };
        let images = match docker_archive::parse(MANIFEST_JSON, &bytes) {
            Ok(images) => images,
            Err(error) => {
                let problem = error.to_string();
                self.report(Place::Whole, ProblemKind::Malformed { problem });
                return Ok(());
            }
        };
        for (i, image) in images.iter().enumerate() {
            let place = Place::DockerImage { image: i };
            if image.repo_tags.as_deref().unwrap_or_default().is_empty() {
                self.report(place.clone(), ProblemKind::NoRepoTags);
            }
            // With a tag only some manifests were read; without an OCI index
            // they were made from this file.
            if self.image.has_oci_index() && self.image.tag().is_none() {
                self.docker_image(cx, &place, image)?;
            }
        }
        Ok(())
    }

    fn docker_image(&mut self, cx: &Context, place: &Place, image: &DockerImage) -> Result<()> {
        let Some(config) = self.digest_of(cx, &image.config)? else {
            let what = format!("the config {:?}, which is not there", image.config);
            self.report(place.clone(), ProblemKind::DockerDiffers { what });
            return Ok(());
        };
        let Some(expected) = self.configs.get(&config).cloned() else {
            let what = format!("the config {:?}", image.config);
            self.report(place.clone(), ProblemKind::DockerDiffers { what });
            return Ok(());
        };
        let mut layers = Vec::new();
        for file in image.layers.iter().flatten() {
            layers.push(self.digest_of(cx, file)?.unwrap_or_default());
        }
        if !expected.contains(&layers) {
            let what = "its layers".to_owned();
            self.report(place.clone(), ProblemKind::DockerDiffers { what });
        }
        Ok(())
    }

    /// Returns the digest of a file: by its name if it is a blob, whose bytes
    /// are checked elsewhere. Each file is read once.
    fn digest_of(&mut self, cx: &Context, file: &str) -> Result<Option<String>> {
        if let Some(known) = self.files.get(file) {
            return Ok(known.clone());
        }
        let digest = self.read_digest(cx, file)?.map(|digest| digest.to_string());
        self.files.insert(file.to_owned(), digest.clone());
        Ok(digest)
    }

    fn read_digest(&self, cx: &Context, file: &str) -> Result<Option<Digest>> {
        let Found::File(found) = self.image.files().find(file)? else {
            return Ok(None);
        };
        let by_name = file.strip_prefix("blobs/sha256/");
        if let Some(Ok(digest)) = by_name.map(|hex| format!("sha256:{hex}").parse()) {
            return Ok(Some(digest));
        }
        docker_archive::hash(cx, self.image.name(), found).map(Some)
    }
}

impl Visitor for Check<'_> {
    fn manifest(&mut self, descriptor: &Descriptor, parent: Option<Parent<'_>>) -> Result<()> {
        let digest = descriptor.digest().to_string();
        let said = (
            digest.clone(),
            descriptor.size(),
            descriptor.media_type().to_string(),
            descriptor.platform().as_ref().map(platform_text),
            parent.is_some(),
        );
        let place = Place::Manifest { digest };
        if !self.descriptors.insert(said) {
            return Ok(());
        }
        if !is_manifest(descriptor.media_type()) {
            let kind = ProblemKind::UnknownMediaType {
                media_type: descriptor.media_type().to_string(),
                expected: "those of manifests and indexes",
            };
            self.report(place, kind);
            return Ok(());
        }
        if self.is_known(&place, descriptor) {
            return Ok(());
        }
        let Some((manifest, size)) = self.read_manifest(&place, descriptor, parent)? else {
            return Ok(());
        };
        self.says(&place, descriptor, manifest.media_type().as_ref());
        self.know(descriptor, size, manifest.media_type().as_ref());
        self.manifest_content(&place, descriptor, &manifest)
    }

    fn index(&mut self, descriptor: &Descriptor) -> Result<Option<ImageIndex>> {
        let digest = descriptor.digest().to_string();
        let place = Place::NestedIndex {
            digest: digest.clone(),
        };
        let said = (
            digest,
            descriptor.size(),
            descriptor.media_type().to_string(),
            None,
            false,
        );
        if !self.descriptors.insert(said) || self.is_known(&place, descriptor) {
            return Ok(None);
        }
        let document = self.document::<ImageIndex>(&place, descriptor, MAX_MANIFEST)?;
        let Some((index, size)) = document else {
            return Ok(None);
        };
        self.says(&place, descriptor, index.media_type().as_ref());
        self.know(descriptor, size, index.media_type().as_ref());
        if index.manifests().is_empty() {
            self.report(place, ProblemKind::NoManifest);
        }
        Ok(Some(index))
    }

    fn beyond(&mut self, descriptor: &Descriptor, limit: Limit) -> Result<()> {
        let kind = match limit {
            Limit::Depth(limit) => {
                let digest = descriptor.digest().to_string();
                self.report(
                    Place::NestedIndex { digest },
                    ProblemKind::TooDeep { limit },
                );
                return Ok(());
            }
            Limit::Entries(limit) => ProblemKind::TooManyManifests { limit },
            Limit::Bytes(limit) => ProblemKind::TooManyIndexBytes { limit },
        };
        let problem = Problem {
            place: Place::Index,
            kind,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        Ok(())
    }
}

fn config_platform(config: &ImageConfiguration) -> Platform {
    let mut platform = Platform::default();
    platform
        .set_os(config.os().clone())
        .set_architecture(config.architecture().clone());
    platform
}
