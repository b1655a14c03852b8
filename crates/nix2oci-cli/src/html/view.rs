//! The page's texts, for the template.

use std::cmp::Reverse;

use askama::Template;

use crate::display::measure;

use super::places;
use super::policy::policy;
use super::words::{parts, visible};
use super::{Kind, Layer, Package, Page, Path, State};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Colours for layers that nothing became of; `page.css` has as many.
const COLOURS: usize = 8;
/// A longer name is cut where there is no room for it.
const LONGEST_WHOLE_NAME: usize = 12;

/// The template's variables. It escapes all but `policy`, `style`, `places` and
/// `script`, which have no text of an image in them.
#[derive(Template)]
#[template(path = "page.html")]
struct View<'a> {
    policy: String,
    style: &'a str,
    places: &'a str,
    script: &'a str,
    kind: &'a str,
    heading: String,
    summary: String,
    figures: Vec<(String, String)>,
    facts: Vec<(String, String)>,
    measure: &'a str,
    has_states: bool,
    lacks_sizes: bool,
    lacks_layer_sizes: bool,
    has_versions: bool,
    legend: Vec<LegendView>,
    layers: Vec<LayerView>,
    rows: Vec<RowView>,
    count: String,
    is_difference: bool,
    /// The heading of what is told of a layer.
    why: &'a str,
    packages: Vec<PackageView>,
}

/// A colour and what it means.
struct LegendView {
    state: &'static str,
    meaning: &'static str,
    amount: String,
}

struct LayerView {
    at: usize,
    label: String,
    size: String,
    bytes: i128,
    colour: String,
    state: &'static str,
    why: String,
    cells: Vec<CellView>,
}

/// A store path in the map.
struct CellView {
    number: usize,
    /// The class of its colour, if that is not its layer's.
    colour: String,
    /// How many letters wide it must be to show its name.
    room: usize,
    name: String,
    size: String,
}

/// A store path in the table.
struct RowView {
    name: String,
    version: String,
    hash: String,
    size: String,
    bytes: i128,
    state: &'static str,
    layer_at: usize,
    layer: String,
}

struct PackageView {
    change: &'static str,
    name: String,
    before: String,
    after: String,
    growth: String,
    bytes: i64,
}

impl Page {
    /// Returns the page as HTML.
    pub(crate) fn to_html(&self) -> String {
        let order = self.order();
        let mut numbers: Vec<Vec<usize>> = self
            .layers
            .iter()
            .map(|layer| vec![0; layer.paths.len()])
            .collect();
        for (number, (layer, path)) in order.iter().enumerate() {
            numbers[*layer][*path] = number;
        }
        let places = places::stylesheet(&self.layers, &numbers);
        let rows: Vec<RowView> = order
            .iter()
            .map(|(layer, path)| self.row(*layer, &self.layers[*layer].paths[*path]))
            .collect();
        let both = |(name, value): &(String, String)| (visible(name), visible(value));
        let view = View {
            policy: policy(&[STYLE, &places], SCRIPT),
            style: STYLE,
            places: &places,
            script: SCRIPT,
            kind: match self.kind {
                Kind::Image => "image",
                Kind::Plan => "plan",
                Kind::Difference => "difference",
            },
            heading: visible(&self.heading),
            summary: visible(&self.summary),
            figures: self.figures.iter().map(both).collect(),
            facts: self.facts.iter().map(both).collect(),
            measure: self.measure,
            has_states: self.layers.iter().any(|layer| layer.state.is_some()),
            lacks_sizes: self.paths().any(|(_, path)| path.size.is_none()),
            lacks_layer_sizes: self.layers.iter().any(|layer| layer.size.is_none()),
            has_versions: rows.iter().any(|row| !row.version.is_empty()),
            legend: self.legend(),
            layers: self.layer_views(&numbers),
            count: measure::number(rows.len()),
            rows,
            why: if self.kind == Kind::Plan {
                "Why"
            } else {
                "Contents"
            },
            is_difference: self.kind == Kind::Difference,
            packages: self.packages.iter().map(PackageView::new).collect(),
        };
        let mut html = view.render().expect("writing to memory does not fail");
        html.push('\n');
        html
    }

    fn paths(&self) -> impl Iterator<Item = (&Layer, &Path)> + Clone {
        self.layers
            .iter()
            .flat_map(|layer| layer.paths.iter().map(move |path| (layer, path)))
    }

    /// Returns the store paths as layer and place in it, as the table has them:
    /// largest first, then by path.
    fn order(&self) -> Vec<(usize, usize)> {
        let mut order: Vec<(usize, usize)> = (0..self.layers.len())
            .flat_map(|layer| (0..self.layers[layer].paths.len()).map(move |path| (layer, path)))
            .collect();
        order.sort_by_key(|(layer, path)| {
            let path = &self.layers[*layer].paths[*path];
            (Reverse(path.size), &path.path, *layer)
        });
        order
    }

    fn row(&self, layer_at: usize, path: &Path) -> RowView {
        let layer = &self.layers[layer_at];
        let parts = parts(&path.path);
        RowView {
            name: visible(parts.name),
            version: visible(parts.version),
            hash: visible(parts.hash),
            size: path.size.map_or_else(String::new, measure::bytes),
            bytes: for_sorting(path.size),
            state: path.state.or(layer.state).map_or("", State::name),
            layer_at,
            layer: visible(&layer.label),
        }
    }

    fn layer_views(&self, numbers: &[Vec<usize>]) -> Vec<LayerView> {
        let view = |(at, layer): (usize, &Layer)| LayerView {
            at,
            label: visible(&layer.label),
            size: layer.size.map_or_else(String::new, measure::bytes),
            bytes: for_sorting(layer.size),
            colour: match layer.state {
                Some(state) => format!("is-{}", state.name()),
                None => format!("hue{}", at % COLOURS),
            },
            state: layer.state.map_or("", State::name),
            why: visible(&layer.why),
            cells: layer
                .paths
                .iter()
                .zip(&numbers[at])
                .map(|(path, number)| CellView::new(path, *number))
                .collect(),
        };
        self.layers.iter().enumerate().map(view).collect()
    }

    fn legend(&self) -> Vec<LegendView> {
        let entry = |state: State| {
            let layers = self.layers.iter().filter(|l| l.state == Some(state));
            let paths = self.paths().filter(|(_, path)| path.state == Some(state));
            let amount = match (layers.clone().count(), paths.clone().count()) {
                (0, 0) => return None,
                (0, n) => {
                    let size = sum(paths.map(|(_, path)| path.size));
                    with_size(measure::count(n, "store path"), size)
                }
                (n, _) => with_size(
                    measure::count(n, "layer"),
                    sum(layers.map(|layer| layer.size)),
                ),
            };
            Some(LegendView {
                state: state.name(),
                meaning: state.meaning(),
                amount,
            })
        };
        State::ALL.into_iter().filter_map(entry).collect()
    }
}

impl CellView {
    fn new(path: &Path, number: usize) -> Self {
        let name = visible(parts(&path.path).name);
        Self {
            number,
            colour: path
                .state
                .map_or_else(String::new, |state| format!(" is-{}", state.name())),
            room: name.chars().count().clamp(2, LONGEST_WHOLE_NAME),
            name,
            size: path.size.map_or_else(String::new, measure::bytes),
        }
    }
}

impl PackageView {
    fn new(package: &Package) -> Self {
        Self {
            change: package.change.name(),
            name: visible(&package.name),
            before: visible(&package.before.join(", ")),
            after: visible(&package.after.join(", ")),
            growth: package.growth.map_or_else(String::new, growth),
            bytes: package.growth.unwrap_or(0),
        }
    }
}

fn growth(bytes: i64) -> String {
    let sign = match bytes {
        0 => "",
        1.. => "+",
        // A minus, which is as wide as a plus.
        _ => "\u{2212}",
    };
    format!("{sign}{}", measure::bytes(bytes.unsigned_abs()))
}

/// Returns −1 for what is not known, so that it is sorted below 0.
fn for_sorting(size: Option<u64>) -> i128 {
    size.map_or(-1, i128::from)
}

/// Returns the sum if all are known. What an image says may be too much to add.
fn sum(mut sizes: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    sizes.try_fold(0u64, |sum, size| Some(sum.saturating_add(size?)))
}

fn with_size(amount: String, size: Option<u64>) -> String {
    match size {
        Some(size) => format!("{amount}, {}", measure::bytes(size)),
        None => amount,
    }
}
