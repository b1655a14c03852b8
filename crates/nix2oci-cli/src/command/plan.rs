//! `nix2oci plan`

use std::cmp::Reverse;
use std::fmt::Write as _;

use nix2oci::build::{
    ImagePlan, IndexPart, IndexSource, LayerOutline, LayerState, PushForecast, UploadEstimate,
};
use nix2oci::oci::{Reference, display_platform};
use nix2oci::{Context, ImageSpec, StorePath};

use crate::args::{ImageArgs, PlanArgs};
use crate::display::{Talk, Verbosity, measure};
use crate::exit::{Failure, Outcome, Status};
use crate::html::{self, Moved, Page, PageFile, State};
use crate::report::Report;
use crate::select::{Network, Reach};
use crate::{output, select};

use super::push::network;

/// Prints which store paths would share a layer.
pub(crate) fn plan(args: &PlanArgs, talk: &Talk) -> Outcome {
    let page = PageFile::new(args.page.html.as_ref())?;
    let parts: Vec<&ImageArgs> = [&args.image]
        .into_iter()
        .chain(&args.next_parts.images)
        .collect();
    let is_index = parts.len() > 1;
    if is_index && args.page.html.is_some() {
        return Err(
            Failure::usage("--html draws one image, and --next begins another one")
                .hint("draw each platform by itself"),
        );
    }
    let against = args.against.as_deref().map(Against::new).transpose()?;
    let cx = select::context(args.image.run.threads, talk)?;
    let network = network_for(&cx, args, &parts, against.as_ref())?;
    let mut reach = Reach::new(&args.registry, &args.caches, &args.reuse.cache);
    for part in parts.iter().filter(|_| is_index) {
        reach.add(&part.closure);
    }
    let mut planned = Vec::with_capacity(parts.len());
    for part in parts {
        planned.push(plan_part(
            &cx,
            args,
            part,
            (&reach, network.as_ref()),
            against.as_ref(),
            talk,
        )?);
    }
    check_platforms(&cx, &planned)?;
    let first = planned.first().expect("there is one image or more");
    page.finish(|| first.page())?;
    let all_paths = talk.verbosity() >= Verbosity::Detailed;
    let moved = reach.download_size();
    let text = match (args.json, is_index) {
        (true, false) => output::json(&first.report().planned_with(moved)),
        (true, true) => {
            let images = planned.iter().map(Planned::report).collect();
            output::json(&Report::several(None, images).planned_with(moved))
        }
        (false, false) => first.to_text(all_paths).into_bytes(),
        (false, true) => {
            let part = |planned: &Planned| {
                let platform = display_platform(&planned.spec.config.platform);
                format!("{platform}\n\n{}", planned.to_text(all_paths))
            };
            let parts: Vec<String> = planned.iter().map(part).collect();
            parts.join("\n").into_bytes()
        }
    };
    output::print(&text)?;
    let problems = planned.iter().flat_map(|planned| {
        let platform = is_index.then(|| display_platform(&planned.spec.config.platform));
        let problems = limits(args, &planned.plan, planned.forecast.as_ref());
        problems.into_iter().map(move |problem| match &platform {
            Some(platform) => format!("{platform}: {problem}"),
            None => problem,
        })
    });
    let problems: Vec<String> = problems.collect();
    match problems.is_empty() {
        true => Ok(Status::Done),
        false => Err(Failure::gate(problems.join("; "))),
    }
}

/// Finds out how registries are reached, if any is asked.
fn network_for(
    cx: &Context,
    args: &PlanArgs,
    parts: &[&ImageArgs],
    against: Option<&Against>,
) -> Outcome<Option<Network>> {
    let [_] = parts else {
        let stdin_taken = select::claim_stdin_once(parts.iter().copied())?;
        let mut images = Vec::new();
        for part in parts {
            images.extend(select::named_images(part)?);
        }
        return select::network_of(
            cx,
            &images,
            &args.registry,
            Some(&args.reuse),
            against.and_then(Against::host),
            stdin_taken.as_deref(),
        );
    };
    let network = against.map(|against| against.network(cx, args));
    Ok(network.transpose()?.flatten())
}

/// Refuses two images for one platform, as `build` does.
fn check_platforms(cx: &Context, planned: &[Planned]) -> Outcome<()> {
    if planned.len() < 2 {
        return Ok(());
    }
    let parts: Vec<IndexPart<'_>> = planned
        .iter()
        .zip(1..)
        .map(|(planned, number)| IndexPart {
            name: format!("part {number}"),
            source: IndexSource::Image(&planned.spec),
        })
        .collect();
    Ok(nix2oci::build::check_index(cx, &parts)?)
}

/// What would be built for one platform.
struct Planned {
    spec: ImageSpec,
    plan: ImagePlan,
    forecast: Option<PushForecast>,
    downloads: Downloads,
    states: Option<Vec<State>>,
    /// The last lines.
    outcome: String,
}

fn plan_part(
    cx: &Context,
    args: &PlanArgs,
    image: &ImageArgs,
    (reach, network): (&Reach<'_>, Option<&Network>),
    against: Option<&Against>,
    talk: &Talk,
) -> Outcome<Planned> {
    let base = select::base(cx, image, &args.registry, network)?;
    let mut spec = select::image(cx, image, &base, reach, talk)?;
    let network = base.network(network);
    select::keep_layers(cx, &mut spec, &image.layers, &args.registry, network)?;
    let forecast = against
        .map(|against| against.forecast(cx, &spec, (args, image), network))
        .transpose()?;
    let plan = match &forecast {
        Some(forecast) => forecast.plan.clone(),
        None => nix2oci::build::plan(cx, &spec)?,
    };
    let downloads = match &forecast {
        Some(forecast) => forecast.layers.iter().map(|l| l.download_size).collect(),
        None => nix2oci::build::download_sizes(cx, &spec, &plan)?,
    };
    let downloads = Downloads {
        is_far: select::is_far(&image.closure),
        layers: downloads,
    };
    let states = states(&plan, &spec, forecast.as_ref());
    let outcome = match (&forecast, against) {
        (Some(forecast), Some(against)) => against.outcome(forecast, &downloads),
        _ => downloads.of_build(),
    };
    Ok(Planned {
        spec,
        plan,
        forecast,
        downloads,
        states,
        outcome,
    })
}

impl Planned {
    fn page(&self) -> Page {
        let moved = Moved {
            forecast: self.forecast.as_ref(),
            downloads: self.downloads.is_far.then(|| self.downloads.bytes()),
            outcome: &self.outcome,
        };
        html::plan(&self.spec, &self.plan, self.states.as_deref(), &moved)
    }

    fn report(&self) -> Report {
        match &self.forecast {
            Some(forecast) => Report::forecast(&self.spec, forecast),
            None => Report::planned(&self.spec, &self.plan, &self.downloads.layers),
        }
    }

    fn to_text(&self, all_paths: bool) -> String {
        let mut text = table(&self.spec, &self.plan, self.states.as_deref(), all_paths);
        text.push_str(&self.outcome);
        text
    }
}

/// Returns in what the plan of an image is larger than the user allows.
fn limits(args: &PlanArgs, plan: &ImagePlan, forecast: Option<&PushForecast>) -> Vec<String> {
    let exceeds = |size: u64, limit: Option<u64>| limit.is_some_and(|limit| size > limit);
    let upload = forecast.map(PushForecast::upload_estimate);
    let mut problems = Vec::new();
    if let (Some(limit), true) = (args.max_size, exceeds(plan.nar_size, args.max_size)) {
        let (size, limit) = told_apart(measure::bytes, plan.nar_size, limit);
        problems.push(format!(
            "the store paths have {size} before compression, --max-size allows {limit}"
        ));
    }
    if let (Some(limit), Some(upload)) = (args.max_upload, upload)
        && exceeds(upload.bytes(), args.max_upload)
    {
        let about = |_| about(upload);
        let (size, limit) = told_apart(about, upload.bytes(), limit);
        problems.push(format!(
            "{size} of layers would move, --max-upload allows {limit}"
        ));
    }
    problems
}

/// Returns a size and the limit that it exceeds: to the byte, if they look the
/// same otherwise.
fn told_apart(show: impl Fn(u64) -> String, size: u64, limit: u64) -> (String, String) {
    let shown = (show(size), measure::bytes(limit));
    if shown.0.ends_with(&shown.1) {
        (format!("{size} bytes"), format!("{limit} bytes"))
    } else {
        shown
    }
}

/// The image that the plan is compared with.
enum Against {
    /// It would be pushed over.
    Registry(Reference),
    /// It is somewhere else, under this name.
    Other(String),
}

impl Against {
    /// Reads `--against`.
    fn new(text: &str) -> Outcome<Self> {
        Ok(match select::destinations(text)? {
            Some(mut names) => Self::Registry(names.pop().expect("one was given")),
            None => Self::Other(text.to_owned()),
        })
    }

    /// Returns the registry that it is in.
    fn host(&self) -> Option<&str> {
        match self {
            Self::Registry(name) => Some(name.registry()),
            Self::Other(_) => None,
        }
    }

    /// Finds out how registries are reached; nothing if it is in none.
    fn network(&self, cx: &Context, args: &PlanArgs) -> Outcome<Option<Network>> {
        let Self::Registry(name) = self else {
            return Ok(None);
        };
        let names = std::slice::from_ref(name);
        network(cx, &args.registry, &args.reuse, &args.image, names).map(Some)
    }

    /// Finds out what would move.
    fn forecast(
        &self,
        cx: &Context,
        spec: &ImageSpec,
        (args, image): (&PlanArgs, &ImageArgs),
        network: Option<&Network>,
    ) -> Outcome<PushForecast> {
        match self {
            Self::Registry(name) => {
                let network = network.expect("made for a registry");
                Ok(network.forecast(cx, spec, std::slice::from_ref(name))?)
            }
            Self::Other(text) => {
                let known = select::known_image(cx, spec, text, &args.registry, network)?;
                let keep = select::is_kept_by_itself(&image.layers);
                Ok(nix2oci::build::forecast_over(cx, spec, &known, keep)?)
            }
        }
    }

    /// Returns the last lines: what would move.
    fn outcome(&self, forecast: &PushForecast, downloads: &Downloads) -> String {
        let pull = match forecast.pull_estimate() {
            UploadEstimate::Nothing => "nothing".to_owned(),
            estimate => about(estimate),
        };
        match self {
            Self::Registry(name) => {
                let new = count(forecast, |state| state == LayerState::New);
                let upload = match forecast.upload_estimate() {
                    UploadEstimate::Nothing => "nothing".to_owned(),
                    estimate => format!("{}, {}", about(estimate), measure::count(new, "layer")),
                };
                let node = match forecast.is_first {
                    true => "there is no image to compare with yet: a node fetches",
                    false => "a node that has the image that is there fetches",
                };
                let downloads = match downloads.is_far {
                    true => format!("downloads {} and ", downloads.to_text()),
                    false => String::new(),
                };
                format!(
                    "a push to docker://{} {downloads}sends {upload}\n{node} {pull}\n",
                    name.whole()
                )
            }
            Self::Other(text) => format!("a node that has {text} fetches {pull}\n"),
        }
    }
}

/// What making the layers brings over the network.
struct Downloads {
    /// Whether content comes from anywhere but this machine's disk.
    is_far: bool,
    /// Bytes for each layer on the base.
    layers: Vec<u64>,
}

impl Downloads {
    fn bytes(&self) -> u64 {
        self.layers.iter().copied().fold(0, u64::saturating_add)
    }

    fn to_text(&self) -> String {
        match self.layers.iter().filter(|bytes| **bytes > 0).count() {
            0 => "nothing".to_owned(),
            layers => format!(
                "{} for {}",
                measure::bytes(self.bytes()),
                measure::count(layers, "layer")
            ),
        }
    }

    /// Returns the last line of a plan that is compared with nothing; none if
    /// there is nothing to say.
    fn of_build(&self) -> String {
        match self.is_far {
            true => format!("a build downloads {}\n", self.to_text()),
            false => String::new(),
        }
    }
}

fn about(estimate: UploadEstimate) -> String {
    let bytes = measure::bytes(estimate.bytes());
    match estimate {
        UploadEstimate::About(_) => format!("about {bytes}"),
        UploadEstimate::AtMost(_) => format!("at most {bytes}"),
        _ => bytes,
    }
}

fn count(forecast: &PushForecast, is_counted: impl Fn(LayerState) -> bool) -> usize {
    let states = forecast.layers.iter().map(|layer| layer.state);
    states.filter(|state| is_counted(*state)).count()
}

/// Returns what becomes of each layer on the base, if that is known.
fn states(
    plan: &ImagePlan,
    spec: &ImageSpec,
    forecast: Option<&PushForecast>,
) -> Option<Vec<State>> {
    if let Some(forecast) = forecast {
        let states = forecast.layers.iter().map(|layer| layer.state.into());
        return Some(states.collect());
    }
    let is_compared = spec.keep_layers.is_some() || !spec.share_layers.is_empty();
    let states = plan.layers.iter().map(|layer| layer.origin.into());
    is_compared.then(|| states.collect())
}

/// Returns the plan for people: a line for each layer, bottom first, and the
/// sums. With `all_paths`, every store path has a line of its own below.
fn table(spec: &ImageSpec, plan: &ImagePlan, states: Option<&[State]>, all_paths: bool) -> String {
    let state = |at: usize| states.map_or_else(String::new, |all| format!("{:<9}", all[at].name()));
    let heading = states.map_or_else(String::new, |_| format!("{:<9}", "state"));
    let mut text = format!(
        "{:>5}  {:>9}  {:>5}  {heading}why\n",
        "layer", "size", "paths"
    );
    let base = spec.base.as_ref().map_or("", |base| base.name());
    for (layer, number) in plan.base.iter().zip(1..) {
        let size = measure::bytes(layer.descriptor().size());
        let state = states.map_or_else(String::new, |_| format!("{:<9}", "base"));
        let paths = layer.paths.len();
        let _ = writeln!(
            text,
            "{number:>5}  {size:>9}  {paths:>5}  {state}of the base {base}, compressed, {}",
            measure::short(layer.digest())
        );
    }
    let below = plan.base.len();
    for (layer, number) in plan.layers.iter().zip(1..) {
        let paths = largest_first(spec, layer);
        let size = measure::bytes(layer.nar_size);
        let _ = writeln!(
            text,
            "{:>5}  {size:>9}  {:>5}  {}{}",
            below + number,
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
        measure::count(below + plan.layers.len(), "layer"),
        spec.max_layers,
        measure::count(plan.paths, "store path"),
        measure::bytes(plan.nar_size),
    );
    if below > 0 {
        let sizes = plan.base.iter().map(|layer| layer.descriptor().size());
        let size = measure::bytes(sizes.fold(0, u64::saturating_add));
        let layers = measure::count(below, "layer");
        let _ = writeln!(text, "{layers} of them the base's, {size} compressed");
    }
    if let Some(states) = states {
        let _ = writeln!(text, "{}", sums(plan, states));
    }
    text
}

/// Returns how many layers have each state, and their sizes.
fn sums(plan: &ImagePlan, states: &[State]) -> String {
    let mut sums: Vec<(State, usize, u64)> = Vec::new();
    for (state, layer) in states.iter().zip(&plan.layers) {
        match sums.iter_mut().find(|(name, ..)| name == state) {
            Some((_, layers, size)) => {
                *layers += 1;
                *size += layer.nar_size;
            }
            None => sums.push((*state, 1, layer.nar_size)),
        }
    }
    let sum = |(state, layers, size): &(State, usize, u64)| {
        let layers = measure::count(*layers, "layer");
        format!("{layers} {}, {}", state.name(), measure::bytes(*size))
    };
    let sums: Vec<String> = sums.iter().map(sum).collect();
    sums.join("; ")
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
