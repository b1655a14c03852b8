//! `nix2oci plan`

use std::cmp::Reverse;
use std::fmt::Write as _;

use nix2oci::ImageSpec;
use nix2oci::StorePath;
use nix2oci::build::{
    ImagePlan, LayerForecast, LayerOutline, LayerState, PushForecast, UploadEstimate as Upload,
};
use nix2oci::oci::Reference;

use crate::args::PlanArgs;
use crate::display::{Talk, Verbosity, measure};
use crate::exit::{Outcome, Status};
use crate::html::{self, PageFile};
use crate::report::Report;
use crate::{output, select};

use super::push::network;

/// Prints which store paths would share a layer.
pub(crate) fn plan(args: &PlanArgs, talk: &Talk) -> Outcome {
    let page = PageFile::new(args.page.html.as_ref())?;
    let against = args.against.as_deref().map(select::against).transpose()?;
    let cx = select::context(args.image.run.threads, talk)?;
    let network = match &against {
        Some(name) => {
            let names = std::slice::from_ref(name);
            Some(network(
                &cx,
                &args.registry,
                &args.reuse,
                &args.image,
                names,
            )?)
        }
        None => None,
    };
    let spec = select::image(&cx, &args.image, talk)?;
    let all_paths = talk.verbosity() >= Verbosity::Detailed;
    let text = if let (Some(name), Some(network)) = (against, network) {
        let forecast = network.forecast(&cx, &spec, std::slice::from_ref(&name))?;
        let outcome = outcome(&forecast, &name);
        page.finish(|| html::plan(&spec, &forecast.plan, Some((&forecast.layers, &outcome))))?;
        if args.json {
            output::json(&Report::forecast(&spec, &forecast))
        } else {
            let mut text = table(&spec, &forecast.plan, Some(&forecast.layers), all_paths);
            text.push_str(&outcome);
            text.into_bytes()
        }
    } else {
        let plan = nix2oci::build::plan(&cx, &spec)?;
        page.finish(|| html::plan(&spec, &plan, None))?;
        if args.json {
            output::json(&Report::planned(&spec, &plan))
        } else {
            table(&spec, &plan, None, all_paths).into_bytes()
        }
    };
    output::print(&text)?;
    Ok(Status::Done)
}

/// Returns the last line about a push: what it would send.
fn outcome(forecast: &PushForecast, name: &Reference) -> String {
    let there = forecast
        .layers
        .iter()
        .filter(|l| l.state != LayerState::New);
    let new = forecast.layers.len() - there.clone().count();
    let there_size: u64 = there
        .filter_map(|layer| layer.record.as_ref())
        .map(|record| record.size)
        .sum();
    let upload = match forecast.upload_estimate() {
        Upload::Nothing => "nothing to send".to_owned(),
        Upload::Exactly(bytes) => format!("{} to send", measure::bytes(bytes)),
        Upload::About(bytes) => format!("about {} to send", measure::bytes(bytes)),
        Upload::AtMost(bytes) => format!("at most {} to send", measure::bytes(bytes)),
        _ => String::new(),
    };
    format!(
        "against docker://{}: {} there already, {}; {} new, {upload}\n",
        name.whole(),
        measure::count(forecast.layers.len() - new, "layer"),
        measure::bytes(there_size),
        measure::count(new, "layer"),
    )
}

/// Returns the plan for people: a line for each layer, bottom first, and the
/// sums. With `forecast`, what a push would find; with `all_paths`, every store
/// path has a line of its own below.
fn table(
    spec: &ImageSpec,
    plan: &ImagePlan,
    forecast: Option<&[LayerForecast]>,
    all_paths: bool,
) -> String {
    let state = |at: usize| {
        forecast.map_or_else(String::new, |layers| {
            format!("{:<9}", layers[at].state.name())
        })
    };
    let heading = forecast.map_or_else(String::new, |_| format!("{:<9}", "state"));
    let mut text = format!(
        "{:>5}  {:>9}  {:>5}  {heading}why\n",
        "layer", "size", "paths"
    );
    for (layer, number) in plan.layers.iter().zip(1..) {
        let paths = largest_first(spec, layer);
        let size = measure::bytes(layer.nar_size);
        let _ = writeln!(
            text,
            "{number:>5}  {size:>9}  {:>5}  {}{}",
            paths.len(),
            state(number - 1),
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
