//! The page of a plan.

use nix2oci::build::{ImagePlan, LayerOutline, PushForecast, UploadEstimate};
use nix2oci::oci::{Reference, display_platform};
use nix2oci::{ImageSpec, StorePath};

use crate::display::measure;

use super::{Kind, Layer, Page, Path, State};

/// What would move.
pub(crate) struct Moved<'a> {
    /// What a push or a node would move, if the plan is compared with an image.
    pub(crate) forecast: Option<&'a PushForecast>,
    /// Bytes that making the layers brings over the network, if their content
    /// is not on this machine.
    pub(crate) downloads: Option<u64>,
    /// All of that in words.
    pub(crate) outcome: &'a str,
}

/// Makes the page of a plan. `states` are what becomes of the layers, if that
/// is known.
pub(crate) fn plan(
    spec: &ImageSpec,
    plan: &ImagePlan,
    states: Option<&[State]>,
    moved: &Moved<'_>,
) -> Page {
    let path = |store_path: &StorePath| Path {
        path: spec.closure.store_dir().join(store_path),
        size: spec
            .closure
            .find(store_path)
            .map(|id| spec.closure.nar_size(id)),
        state: None,
    };
    let layer = |(at, layer): (usize, &LayerOutline)| Layer {
        label: (plan.base.len() + at + 1).to_string(),
        size: Some(layer.nar_size),
        why: layer.reason.clone(),
        state: states.map(|states| states[at]),
        paths: layer.paths().iter().map(path).collect(),
    };
    let layers: Vec<Layer> = base_layers(spec, plan, states.is_some())
        .chain(plan.layers.iter().enumerate().map(layer))
        .collect();
    let mut figures = vec![
        (
            measure::bytes(plan.nar_size),
            "before compression".to_owned(),
        ),
        (
            measure::number(plan.base.len() + plan.layers.len()),
            format!("layers of at most {}", spec.max_layers),
        ),
        (measure::number(plan.paths), "store paths".to_owned()),
    ];
    if let Some(base) = &spec.base {
        let layers = measure::count(plan.base.len(), "layer");
        let what = format!("in {layers} of the base {}", base.name());
        let sizes = plan.base.iter().map(|layer| layer.descriptor().size());
        let size = sizes.fold(0, u64::saturating_add);
        figures.push((measure::bytes(size), what));
    }
    let downloads = moved.downloads;
    figures.extend(downloads.map(|bytes| (measure::bytes(bytes), "to download".to_owned())));
    figures.extend(moved.forecast.and_then(upload));
    let names = spec.names.iter().map(Reference::whole);
    Page {
        kind: Kind::Plan,
        heading: names
            .clone()
            .next()
            .or_else(|| last_root(spec))
            .unwrap_or_else(|| "image".to_owned()),
        summary: moved.outcome.trim_end().replace('\n', "; "),
        figures,
        facts: std::iter::once((
            "platform".to_owned(),
            display_platform(&spec.config.platform),
        ))
        .chain(names.skip(1).map(|name| ("name".to_owned(), name)))
        .collect(),
        measure: match has_all_sizes(plan) {
            true => "bytes before compression",
            false => "bytes before compression, of the base’s layers compressed",
        },
        layers,
        packages: Vec::new(),
    }
}

/// Returns the layers of the base, by what they have before compression, if it
/// tells that of all.
fn base_layers<'a>(
    spec: &'a ImageSpec,
    plan: &'a ImagePlan,
    has_states: bool,
) -> impl Iterator<Item = Layer> + 'a {
    let is_unpacked = has_all_sizes(plan);
    let name = spec.base.as_ref().map_or("", |base| base.name());
    plan.base.iter().zip(1..).map(move |(layer, number)| {
        let compressed = layer.descriptor().size();
        let paths = layer.paths.iter().map(|listed| Path {
            path: match listed.path.whole() {
                Some(path) => spec.closure.store_dir().join(&path),
                None => listed.path.to_string(),
            },
            size: listed.nar_size,
            state: None,
        });
        Layer {
            label: number.to_string(),
            size: match is_unpacked {
                true => layer.uncompressed_size,
                false => Some(compressed),
            },
            why: format!(
                "of the base {name}, {} compressed, {}",
                measure::bytes(compressed),
                measure::short(layer.digest())
            ),
            state: has_states.then_some(State::Base),
            paths: paths.collect(),
        }
    })
}

fn has_all_sizes(plan: &ImagePlan) -> bool {
    let mut layers = plan.base.iter();
    layers.all(|layer| layer.uncompressed_size.is_some())
}

/// Returns what would move, if that can be told.
fn upload(forecast: &PushForecast) -> Option<(String, String)> {
    let (bytes, what) = match forecast.upload_estimate() {
        UploadEstimate::Nothing => (0, "to move"),
        UploadEstimate::Exactly(bytes) => (bytes, "to move"),
        UploadEstimate::About(bytes) => (bytes, "to move, about"),
        UploadEstimate::AtMost(bytes) => (bytes, "to move at most"),
        _ => return None,
    };
    Some((measure::bytes(bytes), what.to_owned()))
}

/// Returns the name of the root that the image is most likely made for.
fn last_root(spec: &ImageSpec) -> Option<String> {
    let root = spec.closure.roots().last()?;
    Some(spec.closure.path(*root).name().to_owned())
}
