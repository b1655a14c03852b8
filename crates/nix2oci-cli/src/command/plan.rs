//! `nix2oci plan`

use std::cmp::Reverse;
use std::fmt::Write as _;

use nix2oci::ImageSpec;
use nix2oci::StorePath;
use nix2oci::build::{ImagePlan, LayerOutline};

use crate::args::PlanArgs;
use crate::display::{Talk, Verbosity, measure};
use crate::exit::{Outcome, Status};
use crate::report::Report;
use crate::{output, select};

/// Prints which store paths would share a layer.
pub(crate) fn plan(args: &PlanArgs, talk: &Talk) -> Outcome {
    let cx = select::context(args.image.run.threads, talk)?;
    let spec = select::image(&cx, &args.image, talk)?;
    let plan = nix2oci::build::plan(&cx, &spec)?;
    let text = if args.json {
        output::json(&Report::planned(&spec, &plan))
    } else {
        table(&spec, &plan, talk.verbosity() >= Verbosity::Detailed).into_bytes()
    };
    output::print(&text)?;
    Ok(Status::Done)
}

/// Returns the plan for people: a line for each layer, bottom first, and the
/// sums. With `all_paths`, every store path has a line of its own below.
fn table(spec: &ImageSpec, plan: &ImagePlan, all_paths: bool) -> String {
    let mut text = format!("{:>5}  {:>9}  {:>5}  why\n", "layer", "size", "paths");
    for (layer, number) in plan.layers.iter().zip(1..) {
        let paths = largest_first(spec, layer);
        let size = measure::bytes(layer.nar_size);
        let _ = writeln!(
            text,
            "{number:>5}  {size:>9}  {:>5}  {}",
            paths.len(),
            layer.reason
        );
        if all_paths {
            for (path, size) in paths {
                let (size, path) = (measure::bytes(size), spec.closure.store_dir().join(&path));
                let _ = writeln!(text, "{:7}{size:>9}         {path}", "");
            }
        }
    }
    let _ = writeln!(
        text,
        "\n{} of at most {}, {}, {} before compression",
        measure::count(plan.layers.len(), "layer"),
        spec.max_layers,
        measure::count(plan.paths, "store path"),
        measure::bytes(plan.nar_size),
    );
    text
}

fn largest_first(spec: &ImageSpec, layer: &LayerOutline) -> Vec<(StorePath, u64)> {
    let size = |path: &StorePath| {
        spec.closure
            .find(path)
            .map_or(0, |id| spec.closure.nar_size(id))
    };
    let paths = layer.paths().into_iter();
    let mut paths: Vec<_> = paths.map(|path| (path.clone(), size(&path))).collect();
    paths.sort_by_key(|(_, size)| Reverse(*size));
    paths
}
