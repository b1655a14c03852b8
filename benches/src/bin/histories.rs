//! usage: histories [--layers N,...] [--each] DIRECTORY
//!
//! Measures what every layer strategy of the table would have moved over the
//! histories in DIRECTORY (`History` says of which form), with at most N layers
//! (20, 60 and 100), and prints tables:
//!
//! - bytes moved by all releases after the first, as a multiple of the lower
//!   bound, which is the bytes of the paths that are new; the geometric mean
//!   over the applications, and the worst one
//! - what small changes move: a new version of the application alone, nothing
//!   new, and one library less, each after every eighth release
//!
//! A strategy that looks at the layers of the release before is measured
//! without them and with (`NAME, kept`). With `--each`, every application gets
//! its line.

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix2oci::Closure;
use nix2oci::plan::{PlanOptions, STRATEGIES, Simulation, strategy};
use nix2oci_benches::History;

/// After every which release small changes are tried.
const STEP: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut budgets: Vec<NonZeroUsize> = vec!["20".parse()?, "60".parse()?, "100".parse()?];
    let (mut directory, mut each) = (None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--layers" => {
                let list = arguments.next().ok_or("--layers lacks its value")?;
                budgets = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--each" => each = true,
            _ => directory = Some(argument),
        }
    }
    let directory = directory.ok_or("no DIRECTORY is given")?;
    let histories = History::read_all(Path::new(&directory))?;
    let figures = measure(&histories, &budgets)?;
    moved(&histories, &budgets, &figures, each);
    small_changes(&budgets, &figures);
    Ok(())
}

/// A strategy, and whether it is shown the layers of the release before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    name: &'static str,
    keeps_layers: bool,
}

impl Way {
    fn all() -> Result<Vec<Self>, Box<dyn Error>> {
        let mut ways = Vec::new();
        for entry in STRATEGIES {
            let looks = strategy(entry.name)?.keeps_layers();
            for keeps_layers in [false, true] {
                if looks || !keeps_layers {
                    ways.push(Self {
                        name: entry.name,
                        keeps_layers,
                    });
                }
            }
        }
        Ok(ways)
    }

    fn shown(self) -> String {
        let kept = if self.keeps_layers { ", kept" } else { "" };
        format!("{}{kept}", self.name)
    }
}

/// What one way did with one history and one budget.
struct Figure {
    way: Way,
    history: usize,
    budget: NonZeroUsize,
    /// As a multiple of the lower bound.
    ratio: f64,
    /// As multiples of the application's own size.
    app_only: Vec<f64>,
    /// Bytes that were moved though nothing was new.
    unchanged: u64,
    /// Shares of the image.
    one_less: Vec<f64>,
    /// For all plans of the history.
    time: Duration,
}

/// Measures everything, on all processors.
fn measure(histories: &[History], budgets: &[NonZeroUsize]) -> Result<Vec<Figure>, Box<dyn Error>> {
    let ways = Way::all()?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(history) = histories.get(at) else {
                        break;
                    };
                    let releases = history.releases().iter();
                    let closures: Vec<_> = releases.map(|r| history.closure(r)).collect();
                    for budget in budgets {
                        for way in &ways {
                            let figure = run(history, &closures, *way, *budget);
                            let figure = figure.map(|f| Figure { history: at, ..f });
                            let mut results = results.lock().expect("no thread panics");
                            results.push(figure);
                        }
                    }
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panics");
    Ok(results.into_iter().collect::<nix2oci::Result<_>>()?)
}

fn run(
    history: &History,
    closures: &[Closure],
    way: Way,
    budget: NonZeroUsize,
) -> nix2oci::Result<Figure> {
    let options = PlanOptions::new(budget);
    let mut simulation = Simulation::new(strategy(way.name)?, way.keeps_layers);
    let mut figure = Figure {
        way,
        history: 0,
        budget,
        ratio: 0.0,
        app_only: Vec::new(),
        unchanged: 0,
        one_less: Vec::new(),
        time: Duration::ZERO,
    };
    for (at, closure) in closures.iter().enumerate() {
        let start = Instant::now();
        simulation.release(closure, &options)?;
        figure.time += start.elapsed();
        if !(at + 1).is_multiple_of(STEP) {
            continue;
        }
        let release = &history.releases()[at];
        let then = |closure: &Closure| simulation.clone().release(closure, &options);
        let app = then(&history.closure(&history.with_new_app(release)))?;
        let ratio = app.moved_size as f64 / history.app_size() as f64;
        figure.app_only.push(ratio);
        figure.unchanged += then(closure)?.moved_size;
        for without in history.without_one(release) {
            let cost = then(&history.closure(&without))?;
            let share = cost.moved_size as f64 / cost.nar_size as f64;
            figure.one_less.push(share);
        }
    }
    figure.ratio = simulation.total().ratio().unwrap_or(1.0);
    Ok(figure)
}

/// Prints what the histories moved.
fn moved(histories: &[History], budgets: &[NonZeroUsize], figures: &[Figure], each: bool) {
    let scenarios: BTreeSet<&str> = histories.iter().map(|h| h.scenario.as_str()).collect();
    let columns: Vec<(&str, NonZeroUsize)> = scenarios
        .iter()
        .flat_map(|scenario| budgets.iter().map(|budget| (*scenario, *budget)))
        .collect();
    let mut heads: Vec<String> = columns.iter().map(|(s, b)| format!("{s} {b}")).collect();
    heads.push("ms / plan".to_owned());
    println!("Moved / lower bound: geometric mean (worst application)\n");
    head("strategy", &heads);
    for way in ways(figures) {
        let of_way = || figures.iter().filter(|f| f.way == way);
        let mut row = format!("| {} |", way.shown());
        for (scenario, budget) in &columns {
            let here = of_way()
                .filter(|f| f.budget == *budget && histories[f.history].scenario == *scenario);
            let ratios: Vec<f64> = here.map(|f| f.ratio).collect();
            row += &format!(" {:.3} ({:.2}) |", geometric_mean(&ratios), worst(&ratios));
        }
        let time: Duration = of_way().map(|f| f.time).sum();
        let plans: usize = of_way()
            .map(|f| histories[f.history].releases().len())
            .sum();
        println!("{row} {:.1} |", time.as_secs_f64() * 1000.0 / plans as f64);
        if !each {
            continue;
        }
        let apps: BTreeSet<&str> = histories.iter().map(|h| h.app.as_str()).collect();
        for app in apps {
            let mut row = format!("| … {app} |");
            for (scenario, budget) in &columns {
                let here = of_way().find(|f| {
                    let history = &histories[f.history];
                    f.budget == *budget && history.scenario == *scenario && history.app == app
                });
                row += &here.map_or(" |".to_owned(), |f| format!(" {:.3} |", f.ratio));
            }
            println!("{row} |");
        }
    }
}

/// Prints what small changes moved.
fn small_changes(budgets: &[NonZeroUsize], figures: &[Figure]) {
    let mut heads: Vec<String> = Vec::new();
    heads.extend(budgets.iter().map(|b| format!("new app {b}")));
    heads.push("nothing new".to_owned());
    heads.extend(budgets.iter().map(|b| format!("one less {b}")));
    println!("\nSmall changes: mean (worst)\n");
    head("strategy", &heads);
    for way in ways(figures) {
        let at = |budget: NonZeroUsize| {
            figures
                .iter()
                .filter(move |f| f.way == way && f.budget == budget)
        };
        let mut row = format!("| {} |", way.shown());
        for budget in budgets {
            let ratios: Vec<f64> = at(*budget).flat_map(|f| f.app_only.clone()).collect();
            row += &format!(" {:.2} ({:.2}) |", mean(&ratios), worst(&ratios));
        }
        let unchanged = figures.iter().filter(|f| f.way == way);
        row += &format!(" {} |", unchanged.map(|f| f.unchanged).sum::<u64>());
        for budget in budgets {
            let shares: Vec<f64> = at(*budget).flat_map(|f| f.one_less.clone()).collect();
            let [mean, worst] = [mean(&shares), worst(&shares)].map(|share| 100.0 * share);
            row += &format!(" {mean:.2} % ({worst:.1} %) |");
        }
        println!("{row}");
    }
    let cases = |take: fn(&Figure) -> usize| -> usize {
        let one = figures.first().map(|f| (f.way, f.budget));
        let of_one = figures.iter().filter(|f| Some((f.way, f.budget)) == one);
        of_one.map(take).sum()
    };
    println!(
        "\nnew app: moved / the application's own size, {} cases; nothing new: bytes; \
         one less: moved, share of the image, {} cases",
        cases(|f| f.app_only.len()),
        cases(|f| f.one_less.len()),
    );
}

/// Returns the ways that were measured, in the order of the table.
fn ways(figures: &[Figure]) -> Vec<Way> {
    let mut ways: Vec<Way> = figures.iter().map(|f| f.way).collect();
    ways.sort_by_key(|way| (way.name, way.keeps_layers));
    ways.dedup();
    ways
}

fn head(first: &str, others: &[String]) {
    println!("| {first} | {} |", others.join(" | "));
    println!("| --- |{}", " --- |".repeat(others.len()));
}

fn geometric_mean(values: &[f64]) -> f64 {
    mean(&values.iter().map(|v| v.ln()).collect::<Vec<_>>()).exp()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
