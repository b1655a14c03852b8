//! What is wrong with layers.

use std::collections::{BTreeMap, BTreeSet};

use crate::context::Context;
use crate::digest::Digest;
use crate::error::Result;
use crate::layer::{Codec, LayerSurvey, survey};
use crate::oci::{Descriptor, descriptor_digest};
use crate::parallel;
use crate::store::StoreDir;

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
}

/// What was found of a layer.
enum Finding {
    Read(LayerSurvey),
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
    let surveys = parallel::for_each(cx, &digests, |digest| {
        Ok(match image.find_blob(*digest)? {
            Found::File(file) => Finding::Read(survey(cx, &store_dir, file.reader)?),
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
            Some(Finding::Read(survey)) => check_layer(layer, survey, with_bytes, report),
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
