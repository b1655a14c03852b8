//! `nix2oci diff`

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use nix2oci::image::{
    ConfigChange, DiffSide, ImageDiff, LayerChange, LayerDifference, PackageChange,
    PackageDifference, SizedPath, Transfer, diff as compare,
};
use nix2oci::store::StorePathPrefix;
use serde_json::Value;

use crate::args::DiffArgs;
use crate::display::{Talk, Verbosity, measure};
use crate::exit::{Outcome, Status};
use crate::html::{self, PageFile};
use crate::{output, select};

/// Lines of one kind that are printed unless more is asked for.
const SHOWN: usize = 20;

/// Names of store paths that stand for a layer.
const NAMES: usize = 3;

/// Prints what changed from one image to another.
pub(crate) fn diff(args: &DiffArgs, talk: &Talk) -> Outcome {
    let page = PageFile::new(args.page.html.as_ref())?;
    let cx = select::context(None, talk)?;
    let [from, to] = select::listings(&cx, args)?;
    let found = compare(&from, &to);
    let text = if args.json {
        output::json(&found)
    } else {
        to_text(&found, talk.verbosity() >= Verbosity::Verbose).into_bytes()
    };
    page.finish(|| html::difference(&found, transfer(&found.pull), transfer(&found.pull_back)))?;
    output::print(&text)?;
    Ok(if args.exit_code && !found.is_same {
        Status::Problems
    } else {
        Status::Done
    })
}

/// Returns the differences for people; with `all`, each of them.
fn to_text(diff: &ImageDiff, all: bool) -> String {
    if diff.is_same {
        return "the images are the same\n".to_owned();
    }
    let mut text = String::new();
    let _ = writeln!(text, "from    {}", side(&diff.from));
    let _ = writeln!(text, "to      {}", side(&diff.to));
    text.push('\n');
    summary(diff, &mut text);
    let mut printed = Printed { text, all };
    printed.layers(diff);
    if let Some(packages) = &diff.packages {
        printed.packages(packages);
    }
    if let Some(config) = &diff.config {
        printed.config(config);
    }
    printed.text
}

fn side(side: &DiffSide) -> String {
    let mut text = format!("{}, {}", side.image, measure::count(side.layers, "layer"));
    if let Some(paths) = side.store_paths {
        let _ = write!(text, ", {}", measure::count(paths, "store path"));
    }
    if let Some(size) = side.size {
        let _ = write!(text, ", {}", measure::bytes(size));
    }
    text
}

fn summary(diff: &ImageDiff, text: &mut String) {
    let count = |state| diff.layers.iter().filter(|l| l.state == state).count();
    let (new, gone) = (count(LayerDifference::New), count(LayerDifference::Gone));
    let recompressed = match diff.recompressed {
        0 => String::new(),
        n => format!(" ({n} only compressed otherwise)"),
    };
    let _ = writeln!(
        text,
        "layers  {} kept, {new} new{recompressed}, {gone} gone; {} the same from the bottom on",
        count(LayerDifference::Kept),
        match diff.common_prefix {
            0 => "none".to_owned(),
            n => n.to_string(),
        },
    );
    if let repacked @ 1.. = repacked(diff) {
        let _ = writeln!(
            text,
            "        {} with the store paths of one that is gone, but another tar: another --owner, \
             --mtime or rules, or other files in the store",
            measure::count(repacked, "new layer"),
        );
    }
    let _ = writeln!(
        text,
        "pull    {}, and {} the other way round",
        transfer(&diff.pull),
        transfer(&diff.pull_back)
    );
    match &diff.store_paths {
        Some(paths) => {
            let _ = writeln!(
                text,
                "paths   {} kept, {} added, {} removed",
                paths.kept,
                paths.added.len(),
                paths.removed.len()
            );
        }
        None => text.push_str(
            "paths   not known: a manifest does not tell them; --read-layers looks into the layers\n",
        ),
    }
    if diff.packages.is_some() && has_only_config(diff) {
        text.push_str("\nthe store paths are the same\n");
    }
}

/// Returns how many new layers have the same store paths as one that is gone, and
/// not the same tar.
fn repacked(diff: &ImageDiff) -> usize {
    let of = |state| diff.layers.iter().filter(move |layer| layer.state == state);
    let paths = |layer: &LayerChange| -> Option<BTreeSet<StorePathPrefix>> {
        let paths = layer.store_paths.iter().flatten();
        let paths: BTreeSet<_> = paths.map(|path| path.path.clone()).collect();
        (!paths.is_empty()).then_some(paths)
    };
    let gone: Vec<_> = of(LayerDifference::Gone)
        .filter_map(|layer| Some((paths(layer)?, layer.diff_id)))
        .collect();
    let is_repacked = |layer: &&LayerChange| {
        paths(layer).is_some_and(|own| {
            let mut gone = gone.iter();
            gone.any(|(paths, diff_id)| *paths == own && *diff_id != layer.diff_id)
        })
    };
    of(LayerDifference::New).filter(is_repacked).count()
}

/// Returns whether the store paths do not differ.
fn has_only_config(diff: &ImageDiff) -> bool {
    diff.store_paths
        .as_ref()
        .is_some_and(|paths| paths.added.is_empty() && paths.removed.is_empty())
}

fn transfer(transfer: &Transfer) -> String {
    match (transfer.layers, transfer.size, transfer.nar_size) {
        (0, ..) => "nothing".to_owned(),
        (_, Some(size), _) => measure::bytes(size),
        (_, None, Some(nar_size)) => {
            format!("{} before compression", measure::bytes(nar_size))
        }
        (layers, None, None) => format!("{} of unknown size", measure::count(layers, "layer")),
    }
}

/// The text so far, and whether nothing is left out.
struct Printed {
    text: String,
    all: bool,
}

impl Printed {
    /// Prints lines under a heading, or a part of them.
    fn section(&mut self, heading: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(self.text, "\n{heading}");
        let shown = if self.all { lines.len() } else { SHOWN };
        for line in lines.iter().take(shown) {
            let _ = writeln!(self.text, "  {}", line.trim_end());
        }
        if let Some(more) = lines.len().checked_sub(shown).filter(|more| *more > 0) {
            let _ = writeln!(self.text, "  and {more} more: -v prints all");
        }
    }

    fn layers(&mut self, diff: &ImageDiff) {
        let paths = diff.store_paths.iter();
        let changed = paths.flat_map(|paths| paths.added.iter().chain(&paths.removed));
        let changed: BTreeSet<&StorePathPrefix> = changed.map(|path| &path.path).collect();
        let layers = diff.layers.iter();
        let lines: Vec<String> = layers
            .filter(|layer| layer.state != LayerDifference::Kept)
            .map(|one| layer(one, &changed))
            .collect();
        self.section("layers", &lines);
    }

    fn packages(&mut self, packages: &[PackageChange]) {
        let of = |change: PackageDifference| packages.iter().filter(move |p| p.change == change);
        let listed: Vec<&PackageChange> = [
            PackageDifference::Changed,
            PackageDifference::Added,
            PackageDifference::Removed,
        ]
        .into_iter()
        .flat_map(of)
        .collect();
        let width = |packages: &[&PackageChange]| {
            let widths = packages.iter().map(|p| p.name.chars().count());
            widths.max().unwrap_or(0)
        };
        let names = width(&listed);
        let lines: Vec<String> = listed.iter().map(|p| package(p, names)).collect();
        self.section("packages", &lines);
        let rebuilt: Vec<&PackageChange> = of(PackageDifference::Rebuilt).collect();
        let heading = format!(
            "rebuilt: {} of the same version",
            measure::count(rebuilt.len(), "package")
        );
        if self.all {
            let names = width(&rebuilt);
            let lines: Vec<String> = rebuilt.iter().map(|p| package(p, names)).collect();
            self.section(&heading, &lines);
        } else if !rebuilt.is_empty() {
            let _ = writeln!(self.text, "\n{heading} (-v lists them)");
        }
    }

    fn config(&mut self, changes: &[ConfigChange]) {
        let lines: Vec<String> = changes.iter().map(config).collect();
        self.section("config", &lines);
    }
}

/// Returns the line of a layer; `changed` are the store paths that one image has.
fn layer(layer: &LayerChange, changed: &BTreeSet<&StorePathPrefix>) -> String {
    let state = match layer.state {
        LayerDifference::New => "new ",
        LayerDifference::Gone => "gone",
        LayerDifference::Kept => "kept",
    };
    let size = layer.size.or(layer.nar_size);
    let size = size.map_or_else(|| "?".to_owned(), measure::bytes);
    let number = layer.to.or(layer.from).map_or(0, |at| at + 1);
    let names = match layer.store_paths.as_deref() {
        None => String::new(),
        Some([]) => "no store paths".to_owned(),
        Some(paths) => names_of(paths, changed),
    };
    let base = match (layer.is_base, names.as_str()) {
        (Some(true), "") => "of the base",
        (Some(true), _) => "of the base, ",
        _ => "",
    };
    format!("{state} {number:>3}  {size:>9}  {base}{names}")
}

/// Returns the names of the store paths that changed or else are the largest,
/// and how many more there are.
fn names_of(paths: &[SizedPath], changed: &BTreeSet<&StorePathPrefix>) -> String {
    let mut largest: Vec<&SizedPath> = paths.iter().collect();
    largest.sort_by_key(|path| Reverse((changed.contains(&path.path), path.nar_size)));
    let names: Vec<&str> = largest.iter().take(NAMES).map(|p| p.path.name()).collect();
    let more = match paths.len().saturating_sub(NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

fn package(package: &PackageChange, width: usize) -> String {
    let versions = |versions: &[String]| {
        let named = versions.iter().map(|version| match version.as_str() {
            "" => "(no version)",
            version => version,
        });
        named.collect::<Vec<_>>().join(", ")
    };
    let (from, to) = (versions(&package.from), versions(&package.to));
    let told = match package.change {
        PackageDifference::Added if package.to == [""] => "added".to_owned(),
        PackageDifference::Removed if package.from == [""] => "removed".to_owned(),
        PackageDifference::Added => format!("added {to}"),
        PackageDifference::Removed => format!("removed {from}"),
        PackageDifference::Rebuilt => to,
        PackageDifference::Changed => format!("{from} → {to}"),
    };
    let growth = growth(package.from_size, package.to_size);
    format!("{:<width$}  {told}{growth}", package.name)
}

/// Returns by how much something grew, if that is known and anything.
fn growth(from: Option<u64>, to: Option<u64>) -> String {
    match (from, to) {
        (Some(from), Some(to)) if to > from => format!("  (+{})", measure::bytes(to - from)),
        (Some(from), Some(to)) if to < from => format!("  (-{})", measure::bytes(from - to)),
        _ => String::new(),
    }
}

fn config(change: &ConfigChange) -> String {
    let plain = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    format!(
        "{}: {} → {}",
        change.field,
        plain(&change.from),
        plain(&change.to)
    )
}
