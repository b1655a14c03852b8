//! The page of what changed between two images.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use nix2oci::image::{
    DiffSide, ImageDiff, LayerChange, LayerDifference, PackageChange, PackageDifference, SizedPath,
    Transfer,
};
use nix2oci::store::StorePathPrefix;

use crate::display::measure;

use super::words::of_base;
use super::{Change, Kind, Layer, Package, Page, Path, State};

/// Names of store paths that stand for a layer.
const NAMES: usize = 4;

/// Makes the page of a difference. `pull` is what a node that has the first image
/// pulls for the second, `pull_back` the other way round, both for people.
pub(crate) fn difference(diff: &ImageDiff, pull: String, pull_back: String) -> Page {
    // One measure for all, so that areas can be compared.
    let are_packed = diff.layers.iter().all(|layer| layer.size.is_some());
    let changed: BTreeSet<&StorePathPrefix> = diff
        .store_paths
        .iter()
        .flat_map(|paths| paths.added.iter().chain(&paths.removed))
        .map(|path| &path.path)
        .collect();
    let summary = if diff.is_same {
        "The images are the same.".to_owned()
    } else {
        format!("A node that has the first image pulls {pull} for the second.")
    };
    let is_known =
        |moved: &Transfer| moved.layers == 0 || moved.size.is_some() || moved.nar_size.is_some();
    let mut figures = Vec::new();
    if is_known(&diff.pull) && is_known(&diff.pull_back) {
        figures.push((pull, "to pull".to_owned()));
        figures.push((pull_back, "to pull the other way round".to_owned()));
    }
    figures.push((measure::number(diff.to.layers), "layers".to_owned()));
    if let Some(paths) = diff.to.store_paths {
        figures.push((measure::number(paths), "store paths".to_owned()));
    }
    let mut facts = Vec::new();
    for (name, side) in [("from", &diff.from), ("to", &diff.to)] {
        facts.push((name.to_owned(), fact(side)));
    }
    Page {
        kind: Kind::Difference,
        heading: format!("{} → {}", diff.from.image, diff.to.image),
        summary,
        figures,
        facts,
        measure: if are_packed {
            "bytes of the blob"
        } else {
            "bytes before compression"
        },
        layers: diff
            .layers
            .iter()
            .map(|change| layer(change, are_packed, &changed))
            .collect(),
        packages: diff.packages.iter().flatten().map(package).collect(),
    }
}

fn fact(side: &DiffSide) -> String {
    let digest = side.digest.map(|digest| digest.to_string());
    let parts = [Some(side.image.clone()), digest, side.platform.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

fn layer(change: &LayerChange, is_packed: bool, changed: &BTreeSet<&StorePathPrefix>) -> Layer {
    let state = match change.state {
        LayerDifference::Kept => State::Kept,
        LayerDifference::New => State::New,
        LayerDifference::Gone => State::Gone,
    };
    let path = |listed: &SizedPath| Path {
        path: listed.path.to_string(),
        size: listed.nar_size,
        // Pulled although the first image has it, in another layer.
        state: (state == State::New && !changed.contains(&listed.path)).then_some(State::Again),
    };
    let paths = change.store_paths.iter().flatten();
    Layer {
        label: match (change.to, change.from) {
            (Some(at), _) => (at + 1).to_string(),
            (None, Some(at)) => format!("old {}", at + 1),
            (None, None) => String::new(),
        },
        size: if is_packed {
            change.size
        } else {
            change.nar_size
        },
        why: of_base(change.is_base, names(paths.clone().collect())),
        state: Some(state),
        paths: paths.map(path).collect(),
    }
}

/// Names the largest store paths: `glibc-2.40, zlib-1.3 and 2 more`.
fn names(mut paths: Vec<&SizedPath>) -> String {
    paths.sort_by_key(|path| Reverse(path.nar_size));
    let names: Vec<&str> = paths
        .iter()
        .take(NAMES)
        .map(|path| path.path.name())
        .collect();
    match paths.len().checked_sub(NAMES) {
        Some(more) if more > 0 => format!("{} and {more} more", names.join(", ")),
        _ => names.join(", "),
    }
}

fn package(change: &PackageChange) -> Package {
    let size = |paths: &[SizedPath]| -> Option<i64> {
        let size = paths.iter().try_fold(0u64, |sum, path| {
            path.nar_size.map(|size| sum.saturating_add(size))
        })?;
        i64::try_from(size).ok()
    };
    Package {
        name: change.name.clone(),
        change: match change.change {
            PackageDifference::Added => Change::Added,
            PackageDifference::Removed => Change::Removed,
            PackageDifference::Changed => Change::Changed,
            PackageDifference::Rebuilt => Change::Rebuilt,
        },
        before: change.from.clone(),
        after: change.to.clone(),
        growth: size(&change.added)
            .zip(size(&change.removed))
            .map(|(added, removed)| added - removed),
    }
}
