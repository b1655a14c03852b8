//! `nix2oci inspect`

use std::fmt::Write as _;
use std::path::Path;

use nix2oci::image::{ImageSummary, InspectOptions, LayerEfficiency, LayerSummary};
use nix2oci::oci::{annotation, is_tag};
use serde_json::Value;

use crate::args::InspectArgs;
use crate::display::{Talk, Verbosity, measure};
use crate::exit::{Failure, Outcome, Status};
use crate::html::{self, PageFile};
use crate::select::RecipeOrImage;
use crate::{output, select};

use super::inspect_index;
use super::recipes::Recipes;

/// Wasted paths that are printed unless more is asked for.
const WASTED_SHOWN: usize = 10;

/// Prints what an image is.
pub(crate) fn inspect(args: &InspectArgs, talk: &Talk) -> Outcome {
    let page = PageFile::new(args.page.html.as_ref())?;
    let summary = match select::recipe_or_image(&args.image)? {
        RecipeOrImage::Recipe(file) => {
            if args.raw {
                let problem = "--raw prints the manifest of an image, and this is a recipe";
                return Err(Failure::usage(problem).hint("`copy` makes the image of it"));
            }
            recipe(args, &file)?
        }
        RecipeOrImage::Image(image) => {
            let cx = select::context(None, talk)?;
            let reader = select::open_image(&cx, &image, &args.registry)?;
            if args.raw {
                let tree = reader.tree(&cx, args.platform.as_ref())?;
                output::print(&tree.root().bytes)?;
                return Ok(Status::Done);
            }
            let options = InspectOptions {
                efficiency: args.efficiency,
                store_dir: args.store_dir.clone(),
                ..InspectOptions::default()
            };
            let platform = args.platform.as_ref();
            match nix2oci::image::inspect(&cx, &reader, platform, &options) {
                Ok(summary) => summary,
                // A page and its efficiency are of one image.
                Err(error) if args.page.html.is_none() && !args.efficiency => {
                    return match inspect_index::summary(&cx, &reader, platform, &error)? {
                        Some(index) => index.print(args.json),
                        None => Err(error.into()),
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    let text = if args.json {
        output::json(&summary)
    } else {
        let mut text = to_text(&summary);
        if let Some(efficiency) = &summary.efficiency {
            let all = talk.verbosity() >= Verbosity::Verbose;
            efficiency_to_text(efficiency, all, &mut text);
        }
        text.into_bytes()
    };
    page.finish(|| html::image(&summary))?;
    output::print(&text)?;
    Ok(Status::Done)
}

/// Reads what a recipe says of its image, which nobody makes for this.
fn recipe(args: &InspectArgs, file: &Path) -> Outcome<ImageSummary> {
    if args.efficiency {
        return Err(Failure::usage(format!(
            "--efficiency reads the layers, and {} is a recipe, which has none",
            file.display()
        ))
        .hint("`nix2oci copy` makes its image"));
    }
    let recipes = Recipes::open(file, args.platform.as_ref())?;
    match &recipes[..] {
        [(name, recipe)] => Ok(recipe.summary(name)?),
        _ => Err(Failure::input(format!(
            "{} is of images for several platforms: say --platform",
            file.display()
        ))),
    }
}

fn to_text(image: &ImageSummary) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    for name in &image.names {
        // A layout may call an image by its tag alone.
        field(if is_tag(name) { "tag" } else { "name" }, name);
    }
    field("digest", &image.digest.to_string());
    field("image ID", &image.config_digest.to_string());
    field("platform", &image.platform);
    if let Some(created) = &image.created {
        field("created", created);
    }
    if let Some(author) = &image.author {
        field("author", author);
    }
    let unpacked = image
        .uncompressed_size
        .map(|size| format!(", {} unpacked", measure::bytes(size)));
    field(
        "size",
        &format!(
            "{}{}",
            measure::bytes(image.size),
            unpacked.unwrap_or_default()
        ),
    );
    for (key, value) in &image.annotations {
        // What the table of the layers says is below, in words.
        if key != annotation::LAYERS {
            field("annotation", &format!("{key}={value}"));
        }
    }
    config(&image.config, &mut text);
    for (layer, number) in image.layers.iter().zip(1..) {
        layer_to_text(number, layer, &mut text);
    }
    text
}

/// Prints the members of the config object; lists and maps get a line for each
/// of their members, so that an environment can be read.
fn config(config: &Value, text: &mut String) {
    let Some(config) = config.as_object().filter(|config| !config.is_empty()) else {
        return;
    };
    text.push_str("\nconfig\n");
    for (key, value) in config {
        match value {
            Value::Array(items) if key == "Env" => {
                for item in items {
                    let _ = writeln!(text, "  {key:<14} {}", plain(item));
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    let value = match value {
                        Value::Object(inner) if inner.is_empty() => String::new(),
                        value => format!("={}", plain(value)),
                    };
                    let _ = writeln!(text, "  {key:<14} {name}{value}");
                }
            }
            value => {
                let _ = writeln!(text, "  {key:<14} {}", plain(value));
            }
        }
    }
}

/// Returns a text without quotes and anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn layer_to_text(number: usize, layer: &LayerSummary, text: &mut String) {
    let _ = write!(
        text,
        "\nlayer {number}  {}  {}{}",
        measure::bytes(layer.size),
        layer.digest,
        match layer.is_base {
            Some(true) => "  of the base",
            _ => "",
        }
    );
    let Some(contents) = &layer.contents else {
        text.push('\n');
        for path in layer.paths.iter().flatten() {
            let _ = writeln!(text, "  {path}");
        }
        return;
    };
    let _ = writeln!(
        text,
        "\n  {} unpacked, {}, {}, {}",
        measure::bytes(contents.uncompressed_size),
        measure::count(contents.store_paths.len(), "store path"),
        measure::count(
            usize::try_from(contents.files).unwrap_or(usize::MAX),
            "file"
        ),
        measure::count(
            usize::try_from(contents.symlinks).unwrap_or(usize::MAX),
            "symlink"
        ),
    );
    for path in &contents.store_paths {
        let _ = writeln!(text, "  {path}");
    }
}

/// Prints how much of the layers nobody sees, and of what most of it is; with
/// `all`, of what all of it is.
fn efficiency_to_text(efficiency: &LayerEfficiency, all: bool, text: &mut String) {
    let _ = writeln!(
        text,
        "\nefficiency {:.1} %: {} of {} are replaced or deleted by a layer above",
        efficiency.percent(),
        measure::bytes(efficiency.wasted_bytes),
        measure::bytes(efficiency.file_bytes),
    );
    let wasted = &efficiency.wasted;
    let shown = if all { wasted.len() } else { WASTED_SHOWN };
    for wasted in wasted.iter().take(shown) {
        let layers = wasted.layers.iter().map(|at| (at + 1).to_string());
        let _ = writeln!(
            text,
            "  {:>9}  {}  (layer {})",
            measure::bytes(wasted.bytes),
            wasted.path,
            layers.collect::<Vec<_>>().join(", "),
        );
    }
    if wasted.len() > shown {
        let _ = writeln!(text, "  and {} more: -v prints all", wasted.len() - shown);
    }
}
