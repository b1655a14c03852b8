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
use crate::layer::{Codec, LayerSurvey, survey};
use crate::oci::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, descriptor_digest};
use crate::parallel;
use crate::store::StoreDir;

use super::docker_archive::{self, DockerImage, MANIFEST_JSON};
use super::reader::{
    MAX_CONFIG, MAX_DEPTH, MAX_MANIFEST, MAX_MANIFESTS, parse_json, read_all, read_document,
};
use super::select::{
    CONTAINERD_NAME, REF_NAME, annotation, is_attached, is_config, is_index, is_manifest, names,
    platform_text, tagged,
};
use super::{ImageReader, Place, Problem, ProblemKind};

/// Layers that Docker's overlay driver mounts.
const MAX_LAYERS: usize = 125;

/// Verifies every digest, size, diff ID and tar rule, and returns every
/// problem: first those of the documents in their order, then those of the
/// layers, bottom first.
///
/// If the image was opened with a tag, only what it names is looked at;
/// otherwise all that the index names. A layer that several images share is
/// read once. Costs one pass over all layers, on `cx.threads` workers.
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
        configs: BTreeMap::new(),
        manifests: BTreeSet::new(),
        visits: 0,
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
    /// The layers' digests of each config that a manifest names.
    configs: BTreeMap<String, Vec<Vec<String>>>,
    /// Manifests that were checked.
    manifests: BTreeSet<String>,
    /// Manifests and indexes that were met.
    visits: usize,
}

/// What documents say of a layer.
struct ExpectedLayer {
    index: usize,
    descriptor: Descriptor,
    diff_id: Option<String>,
}

impl Check<'_> {
    fn report(&mut self, place: Place, kind: ProblemKind) {
        self.problems.push(Problem { place, kind });
    }

    fn whole(&mut self) -> Result<()> {
        for name in self.image.files().duplicates() {
            self.report(Place::Whole, ProblemKind::DuplicateMember { name });
        }
        if !self.image.has_oci_index() {
            return Ok(());
        }
        let files = self.image.files();
        let layout = read_document(self.image.name(), files, "oci-layout", MAX_MANIFEST)?;
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
        for (entry, descriptor) in entries {
            cx.cancel.check()?;
            for key in [REF_NAME, CONTAINERD_NAME] {
                if self.image.has_oci_index() && annotation(descriptor, key).is_none() {
                    let kind = ProblemKind::NoName { annotation: key };
                    self.report(Place::IndexEntry { entry }, kind);
                }
            }
            self.descriptor(cx, descriptor, 0)?;
        }
        self.docker(cx)
    }

    /// Checks what a descriptor in an index is of.
    fn descriptor(&mut self, cx: &Context, descriptor: &Descriptor, depth: usize) -> Result<()> {
        cx.cancel.check()?;
        self.visits += 1;
        if self.visits > MAX_MANIFESTS {
            if self.visits == MAX_MANIFESTS + 1 {
                let limit = MAX_MANIFESTS;
                self.report(Place::Index, ProblemKind::TooManyManifests { limit });
            }
            return Ok(());
        }
        let digest = descriptor.digest().to_string();
        if is_index(descriptor.media_type()) {
            let place = Place::NestedIndex { digest };
            if depth >= MAX_DEPTH {
                self.report(place, ProblemKind::TooDeep { limit: MAX_DEPTH });
                return Ok(());
            }
            let Some(index) = self.document::<ImageIndex>(&place, descriptor, MAX_MANIFEST)? else {
                return Ok(());
            };
            self.says(&place, descriptor, index.media_type().as_ref());
            if index.manifests().is_empty() {
                self.report(place, ProblemKind::NoManifest);
            }
            for inner in index.manifests() {
                self.descriptor(cx, inner, depth + 1)?;
            }
            return Ok(());
        }
        let place = Place::Manifest { digest };
        if !is_manifest(descriptor.media_type()) {
            let kind = ProblemKind::UnknownMediaType {
                media_type: descriptor.media_type().to_string(),
                expected: "those of manifests and indexes",
            };
            self.report(place, kind);
            return Ok(());
        }
        self.manifest(&place, descriptor)
    }

    fn manifest(&mut self, place: &Place, descriptor: &Descriptor) -> Result<()> {
        let is_new = self.manifests.insert(descriptor.digest().to_string());
        if !is_new {
            return Ok(());
        }
        let Some(manifest) = self.document::<ImageManifest>(place, descriptor, MAX_MANIFEST)?
        else {
            return Ok(());
        };
        self.says(place, descriptor, manifest.media_type().as_ref());
        let layers = manifest.layers();
        if layers.len() > MAX_LAYERS {
            let layers = layers.len();
            self.report(place.clone(), ProblemKind::TooManyLayers { layers });
        }
        let digest = manifest.config().digest().to_string();
        let digests = layers.iter().map(|l| l.digest().to_string()).collect();
        let known = self.configs.entry(digest.clone()).or_default();
        known.push(digests);
        let mut diff_ids = Vec::new();
        // What BuildKit attaches to an image has neither a config nor layers.
        let is_image = !is_attached(descriptor);
        let config_place = Place::Config { digest };
        if is_image && !is_config(manifest.config().media_type()) {
            let kind = ProblemKind::UnknownMediaType {
                media_type: manifest.config().media_type().to_string(),
                expected: "those of configs",
            };
            self.report(config_place, kind);
        } else if is_image {
            let config = manifest.config();
            let config = self.document::<ImageConfiguration>(&config_place, config, MAX_CONFIG)?;
            if let Some(config) = &config {
                self.config(&config_place, descriptor, &manifest, config);
                diff_ids.clone_from(config.rootfs().diff_ids());
            }
        } else {
            self.bytes(&config_place, manifest.config(), MAX_CONFIG)?;
        }
        for (index, layer) in layers.iter().enumerate() {
            self.layers.push(ExpectedLayer {
                index,
                descriptor: layer.clone(),
                diff_id: diff_ids.get(index).cloned(),
            });
        }
        Ok(())
    }

    fn config(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        manifest: &ImageManifest,
        config: &ImageConfiguration,
    ) {
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
        if let Some(platform) = descriptor.platform()
            && (platform.os() != config.os() || platform.architecture() != config.architecture())
        {
            let kind = ProblemKind::Platform {
                index: platform_text(platform),
                config: format!("{}/{}", config.os(), config.architecture()),
            };
            self.report(place.clone(), kind);
        }
    }

    /// Compares the media type that a document says of itself.
    fn says(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        found: Option<&crate::oci::MediaType>,
    ) {
        if let Some(found) = found.filter(|found| *found != descriptor.media_type()) {
            let kind = ProblemKind::MediaTypeDiffers {
                expected: descriptor.media_type().to_string(),
                found: found.to_string(),
            };
            self.report(place.clone(), kind);
        }
    }

    /// Reads a document, whatever its digest.
    fn document<T: DeserializeOwned>(
        &mut self,
        place: &Place,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Option<T>> {
        let Some(bytes) = self.bytes(place, descriptor, limit)? else {
            return Ok(None);
        };
        match parse_json(&bytes) {
            Ok(document) => Ok(Some(document)),
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
        let Some(file) = self.image.find_blob(expected)? else {
            self.report(place.clone(), ProblemKind::Missing);
            return Ok(None);
        };
        if file.size > limit {
            let size = file.size;
            self.report(place.clone(), ProblemKind::TooLarge { size, limit });
            return Ok(None);
        }
        let bytes = read_all(self.image.name(), file.reader, limit)?;
        let found = Digest::of(&bytes);
        compare(descriptor, found, bytes.len() as u64, |kind| {
            self.report(place.clone(), kind);
        });
        Ok(Some(bytes))
    }

    /// Compares `manifest.json` with the OCI manifests of the same archive.
    fn docker(&mut self, cx: &Context) -> Result<()> {
        let name = self.image.name();
        let files = self.image.files();
        let Some(bytes) = read_document(name, files, MANIFEST_JSON, MAX_MANIFEST)? else {
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
    /// are checked elsewhere.
    fn digest_of(&self, cx: &Context, file: &str) -> Result<Option<String>> {
        let Some(found) = self.image.files().open(file)? else {
            return Ok(None);
        };
        let by_name = file.strip_prefix("blobs/sha256/");
        if let Some(Ok(digest)) = by_name.map(|hex| format!("sha256:{hex}").parse::<Digest>()) {
            return Ok(Some(digest.to_string()));
        }
        let digest = docker_archive::hash(cx, self.image.name(), found)?;
        Ok(Some(digest.to_string()))
    }
}

/// Compares bytes with their descriptor.
fn compare(descriptor: &Descriptor, found: Digest, size: u64, mut report: impl FnMut(ProblemKind)) {
    if let Some(expected) = descriptor_digest(descriptor).filter(|expected| *expected != found) {
        report(ProblemKind::Digest { expected, found });
    }
    if descriptor.size() != size {
        report(ProblemKind::Size {
            expected: descriptor.size(),
            found: size,
        });
    }
}

/// The pass over the layers: reads each blob once.
fn check_layers(
    cx: &Context,
    image: &ImageReader,
    layers: &[ExpectedLayer],
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let digests: BTreeSet<Digest> = layers
        .iter()
        .filter_map(|layer| descriptor_digest(&layer.descriptor))
        .collect();
    let digests: Vec<Digest> = digests.into_iter().collect();
    let store_dir = StoreDir::default();
    let surveys = parallel::for_each(cx, &digests, |digest| {
        let Some(file) = image.find_blob(*digest)? else {
            return Ok(None);
        };
        survey(cx, &store_dir, file.reader).map(Some)
    })?;
    let surveys: BTreeMap<_, _> = digests.into_iter().zip(surveys).collect();
    let mut judged = BTreeSet::new();
    let mut told = BTreeSet::new();
    for layer in layers {
        let ExpectedLayer {
            descriptor,
            diff_id,
            ..
        } = layer;
        let digest = descriptor.digest().to_string();
        let media_type = descriptor.media_type().to_string();
        // What several manifests say of a layer alike is told once.
        if !judged.insert((digest.clone(), media_type, descriptor.size(), diff_id)) {
            continue;
        }
        let is_new = told.insert(digest.clone());
        let survey = descriptor_digest(&layer.descriptor).map(|digest| &surveys[&digest]);
        let place = Place::Layer {
            index: layer.index,
            digest,
        };
        let mut report = |kind| {
            problems.push(Problem {
                place: place.clone(),
                kind,
            });
        };
        match survey {
            None => report(ProblemKind::UnknownDigest),
            Some(None) => report(ProblemKind::Missing),
            Some(Some(survey)) => check_layer(layer, survey, is_new, report),
        }
    }
    Ok(())
}

/// Compares a layer with what was said of it. `with_bytes` asks for what is
/// wrong with its bytes, whatever was said, as well.
fn check_layer(
    layer: &ExpectedLayer,
    survey: &LayerSurvey,
    with_bytes: bool,
    mut report: impl FnMut(ProblemKind),
) {
    let media_type = layer.descriptor.media_type();
    compare(&layer.descriptor, survey.digest, survey.size, &mut report);
    match Codec::of_media_type(media_type) {
        Some(codec) if codec == survey.codec => {}
        Some(_) => report(ProblemKind::Compression {
            media_type: media_type.to_string(),
            codec: survey.codec,
        }),
        // An artifact's blob, of which nothing more is known.
        None if layer.diff_id.is_none() => return,
        None => report(ProblemKind::UnknownMediaType {
            media_type: media_type.to_string(),
            expected: "those of layers",
        }),
    }
    if let (Some(expected), Some((found, _))) = (&layer.diff_id, survey.tar)
        && *expected != found.to_string()
    {
        report(ProblemKind::DiffId {
            expected: expected.clone(),
            found,
        });
    }
    for problem in survey.problems.iter().filter(|_| with_bytes) {
        report(problem.clone().into());
    }
}
