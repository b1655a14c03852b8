//! What is wrong with layers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::context::{Context, Event};
use crate::digest::Digest;
use crate::error::Result;
use crate::layer::{Codec, LayerProblem, LayerSurvey, survey_with};
use crate::oci::{Descriptor, Platform, descriptor_digest, display_platform};
use crate::parallel;
use crate::store::StoreDir;

use super::census::{Census, Room};
use super::check_links::{Effort, check_links};
use super::reader::Found;
use super::{ImageReader, Place, Problem, ProblemKind};

/// What documents say of a layer.
pub(super) struct ExpectedLayer {
    pub(super) index: usize,
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Option<String>,
    /// Whether it is an image's: of an artifact's nothing but digest and size
    /// is known.
    pub(super) is_image: bool,
    /// Which manifest it is of.
    pub(super) image: usize,
    /// What the config of that says.
    pub(super) platform: Option<Platform>,
}

/// What was found of a layer.
enum Finding {
    Read(LayerSurvey, Box<Census>),
    Nothing,
    Unusable(String),
}

/// The pass over the layers: reads each blob once.
pub(super) fn check_layers(
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
    let room = Arc::default();
    let surveys = parallel::for_each(cx, &digests, |digest| {
        Ok(match image.find_blob(*digest)? {
            Found::File(file) => {
                let mut census = Census::new(&store_dir, &room);
                let survey = survey_with(cx, &store_dir, file.reader, &mut census)?;
                Finding::Read(survey, Box::new(census.finish()))
            }
            Found::Nothing => Finding::Nothing,
            Found::Unusable(error) => Finding::Unusable(error.to_string()),
        })
    })?;
    let surveys: BTreeMap<_, _> = digests.into_iter().zip(surveys).collect();
    let mut judged = BTreeSet::new();
    let mut told = BTreeSet::new();
    for layer in layers {
        let ExpectedLayer {
            descriptor,
            diff_id,
            is_image,
            ..
        } = layer;
        let digest = descriptor.digest().to_string();
        let media_type = descriptor.media_type().to_string();
        // What several manifests say of a layer alike is told once.
        let said = (digest.clone(), media_type, descriptor.size());
        if !judged.insert((said, diff_id, is_image)) {
            continue;
        }
        let with_bytes = *is_image && told.insert(digest.clone());
        let finding = descriptor_digest(&layer.descriptor).map(|digest| &surveys[&digest]);
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
        match finding {
            None => report(ProblemKind::UnknownDigest),
            Some(Finding::Nothing) => report(ProblemKind::Missing),
            Some(Finding::Unusable(problem)) => {
                let problem = problem.clone();
                report(ProblemKind::Malformed { problem });
            }
            Some(Finding::Read(survey, _)) => check_layer(layer, survey, with_bytes, report),
        }
    }
    if !check_images(cx, &store_dir, layers, &surveys, &room, problems)? {
        let message = format!(
            "{}: it has so many names that not all of its links were followed",
            image.name()
        );
        cx.observer.event(&Event::Warning { message: &message });
    }
    Ok(())
}

/// Judges all layers of each image together. Returns whether all links were
/// followed.
fn check_images(
    cx: &Context,
    store_dir: &StoreDir,
    layers: &[ExpectedLayer],
    surveys: &BTreeMap<Digest, Finding>,
    room: &Room,
    problems: &mut Vec<Problem>,
) -> Result<bool> {
    let effort = Effort::default();
    let mut followed = BTreeSet::new();
    let mut told = BTreeSet::new();
    for image in layers.chunk_by(|a, b| a.image == b.image) {
        let read =
            |layer: &ExpectedLayer| match surveys.get(&descriptor_digest(&layer.descriptor)?)? {
                Finding::Read(survey, census) if layer.is_image => Some((survey, &**census)),
                _ => None,
            };
        let found: Vec<_> = image.iter().map(read).collect();
        let mut kinds = Vec::new();
        for (at, (layer, found)) in image.iter().zip(&found).enumerate() {
            if let (Some(platform), Some((_, census))) = (&layer.platform, found) {
                kinds.extend(foreign_programs(census, platform).map(|kind| (at, kind)));
            }
        }
        // What is in a layer that cannot be read could be what a link leads to.
        let whole: Option<Vec<&Census>> = found
            .into_iter()
            .map(|found| {
                let (survey, census) = found?;
                let is_whole = !survey.problems.iter().any(LayerProblem::is_unreadable);
                is_whole.then_some(census)
            })
            .collect();
        // Manifests for several platforms, or of several names, share layers.
        let digests = image.iter().map(|l| descriptor_digest(&l.descriptor));
        let is_new = followed.insert(Vec::from_iter(digests));
        if let Some(whole) = whole.filter(|_| is_new && !room.is_spent()) {
            kinds.extend(check_links(cx, store_dir, &whole, &effort)?);
        }
        for (at, kind) in kinds {
            let problem = Problem {
                place: Place::Layer {
                    index: image[at].index,
                    digest: image[at].descriptor.digest().to_string(),
                },
                kind,
            };
            // Several manifests may have the same layers.
            if told.insert(problem.to_string()) {
                problems.push(problem);
            }
        }
    }
    Ok(!room.is_spent() && !effort.is_spent())
}

/// Finds the programs of a layer that a platform cannot run.
fn foreign_programs<'a>(
    census: &'a Census,
    platform: &'a Platform,
) -> impl Iterator<Item = ProblemKind> + 'a {
    let foreign = census
        .programs
        .iter()
        .filter(|(program, ..)| !program.runs_on(platform));
    foreign.map(|(program, file, count)| ProblemKind::ForeignPrograms {
        file: file.clone(),
        found: program.to_string(),
        expected: display_platform(platform),
        others: count - 1,
    })
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
    if !layer.is_image {
        return;
    }
    match Codec::of_media_type(media_type) {
        Some(codec) if codec == survey.codec => {}
        Some(_) => report(ProblemKind::Compression {
            media_type: media_type.to_string(),
            codec: survey.codec,
        }),
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

/// Compares bytes with their descriptor.
pub(super) fn compare(
    descriptor: &Descriptor,
    found: Digest,
    size: u64,
    mut report: impl FnMut(ProblemKind),
) {
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
