//! `nix2oci simulate`

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use nix2oci::Context;
use nix2oci::plan::{self, HistoryCost, PlanOptions, ReleaseCost, STRATEGIES, Simulation};
use serde::Serialize;

use crate::args::{PathName, SimulateArgs};
use crate::display::{Talk, measure};
use crate::exit::{Failure, Outcome, Status};
use crate::{output, select};

/// What `simulate --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: u32,
    /// The oldest first.
    releases: Vec<Release<'a>>,
    /// Those that move least first.
    simulations: Vec<Simulated>,
}

/// What is the same for all strategies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Release<'a> {
    history: &'a str,
    paths: usize,
    nar_size: u64,
    new_paths: usize,
    new_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulated {
    strategy: String,
    keeps_layers: bool,
    max_layers: usize,
    /// Sums over all releases but the first.
    moved_layers: usize,
    moved_size: u64,
    /// `null` if no release has anything new.
    ratio: Option<f64>,
    releases: Vec<Moved>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    layers: usize,
    moved_layers: usize,
    moved_size: u64,
}

/// One strategy with one budget.
struct Run {
    max_layers: NonZeroUsize,
    simulation: Simulation,
}

/// Prints what each strategy would have moved.
pub(crate) fn simulate(args: &SimulateArgs, talk: &Talk) -> Outcome {
    select::check_histories(args)?;
    let mut runs = runs(args)?;
    let mut cx = select::context(None, talk)?;
    // A line for each of a hundred closures would hide the table.
    cx.observer = Context::default().observer;
    let mut paths = Vec::new();
    let volatile = args.volatile.iter().map(|name| ("--volatile", name));
    let in_layers = args.layer.iter().flat_map(|layer| &layer.paths);
    let mut unknown: Vec<(&str, &PathName)> = volatile
        .chain(in_layers.map(|name| ("--layer", name)))
        .collect();
    for history in &args.histories {
        let closure = select::history(&cx, args, history)?;
        talk.note(|| format!("{history}: {}", measure::count(closure.len(), "store path")));
        paths.push(closure.len());
        let volatile = select::named_paths(&closure, &args.volatile);
        unknown.retain(|(_, name)| {
            let mut paths = closure.infos().iter().map(|info| &info.path);
            !paths.any(|path| name.fits(path.name()))
        });
        let explicit = select::named_layers(&closure, args);
        for run in &mut runs {
            cx.cancel.check()?;
            let options = PlanOptions {
                explicit: &explicit,
                volatile: &volatile,
                ..PlanOptions::new(run.max_layers)
            };
            run.simulation.release(&closure, &options)?;
        }
    }
    if let Some((option, name)) = unknown.first() {
        return Err(Failure::input(format!(
            "{option} {}: no release has a store path of this name",
            name.as_str()
        )));
    }
    runs.sort_by_key(|run| (run.max_layers, run.simulation.total().moved_size));
    let text = if args.json {
        output::json(&document(args, &paths, &runs))
    } else {
        table(&paths, &runs).into_bytes()
    };
    output::print(&text)?;
    Ok(Status::Done)
}

/// Prepares all strategies with all budgets; those that can keep layers twice.
fn runs(args: &SimulateArgs) -> Outcome<Vec<Run>> {
    let all = STRATEGIES.iter().map(|entry| entry.name.to_owned());
    let named = if args.layers.is_empty() {
        all.collect()
    } else {
        args.layers.clone()
    };
    let mut runs = Vec::new();
    for max_layers in &args.max_layers {
        let max_layers = NonZeroUsize::new(*max_layers).expect("the option refuses 0");
        for name in &named {
            let strategy = plan::strategy(name).map_err(Failure::misuse)?;
            let both: &[bool] = match strategy.keeps_layers() {
                true => &[true, false],
                false => &[false],
            };
            runs.extend(both.iter().map(|keeps_layers| Run {
                max_layers,
                simulation: Simulation::new(strategy.clone(), *keeps_layers),
            }));
        }
    }
    Ok(runs)
}

fn document<'a>(args: &'a SimulateArgs, paths: &[usize], runs: &[Run]) -> Document<'a> {
    let costs = runs
        .first()
        .map_or(&[][..], |run| run.simulation.releases());
    let releases = args.histories.iter().zip(paths).zip(costs);
    Document {
        version: 1,
        releases: releases
            .map(|((history, paths), cost)| Release {
                history,
                paths: *paths,
                nar_size: cost.nar_size,
                new_paths: cost.new_paths,
                new_size: cost.new_size,
            })
            .collect(),
        simulations: runs.iter().map(simulated).collect(),
    }
}

fn simulated(run: &Run) -> Simulated {
    let total = run.simulation.total();
    let moved = |cost: &ReleaseCost| Moved {
        layers: cost.layers,
        moved_layers: cost.moved_layers,
        moved_size: cost.moved_size,
    };
    Simulated {
        strategy: run.simulation.strategy(),
        keeps_layers: run.simulation.keeps_layers(),
        max_layers: run.max_layers.get(),
        moved_layers: total.moved_layers,
        moved_size: total.moved_size,
        ratio: total.ratio(),
        releases: run.simulation.releases().iter().map(moved).collect(),
    }
}

/// Returns the figures for people: a line for each strategy, and the bound.
fn table(paths: &[usize], runs: &[Run]) -> String {
    let total = runs
        .first()
        .map_or_else(HistoryCost::default, |run| run.simulation.total());
    let updates = total.releases.max(1);
    let mean = |sum: u64| measure::bytes(sum / updates as u64);
    let mut text = format!(
        "{} after the first, of {} and {} on average\n",
        measure::count(total.releases, "release"),
        measure::count(paths[1..].iter().sum::<usize>() / updates, "store path"),
        mean(total.nar_size),
    );
    let _ = writeln!(
        text,
        "new in all: {}, {} a release: no layers can move less\n",
        measure::bytes(total.new_size),
        mean(total.new_size)
    );
    let width = runs.iter().map(|run| shown(run).len()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{:<width$}  {:>7}  {:>9}  {:>9}  {:>7}  {:>14}",
        "strategy", "at most", "moved", "a release", "/ least", "layers changed"
    );
    for run in runs {
        let total = run.simulation.total();
        let ratio = total.ratio().map(|ratio| match ratio {
            0.0..100.0 => format!("{ratio:.3}"),
            _ => format!("{ratio:.0}"),
        });
        let _ = writeln!(
            text,
            "{:<width$}  {:>7}  {:>9}  {:>9}  {:>7}  {:>14.1}",
            shown(run),
            run.max_layers,
            measure::bytes(total.moved_size),
            mean(total.moved_size),
            ratio.as_deref().unwrap_or("-"),
            total.moved_layers as f64 / updates as f64,
        );
    }
    text
}

fn shown(run: &Run) -> String {
    let kept = if run.simulation.keeps_layers() {
        ", layers kept"
    } else {
        ""
    };
    format!("{}{kept}", run.simulation.strategy())
}
