//! `nix2oci inspect`

use std::fmt::Write as _;

use nix2oci::image::{ImageSummary, InspectOptions, LayerSummary};
use nix2oci::oci::is_tag;
use serde_json::Value;

use crate::args::InspectArgs;
use crate::display::{Talk, measure};
use crate::exit::{Outcome, Status};
use crate::{output, select};

/// Prints what an image is.
pub(crate) fn inspect(args: &InspectArgs, talk: &Talk) -> Outcome {
    let image = select::any_image(&args.image)?;
    let cx = select::context(None, talk)?;
    let reader = select::open_image(&cx, &image, &args.registry)?;
    let options = InspectOptions {
        store_dir: args.store_dir.clone(),
        ..InspectOptions::default()
    };
    let summary = nix2oci::image::inspect(&cx, &reader, args.platform.as_ref(), &options)?;
    let text = if args.json {
        output::json(&summary)
    } else {
        to_text(&summary).into_bytes()
    };
    output::print(&text)?;
    Ok(Status::Done)
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
        field("annotation", &format!("{key}={value}"));
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
        "\nlayer {number}  {}  {}",
        measure::bytes(layer.size),
        layer.digest
    );
    let Some(contents) = &layer.contents else {
        text.push('\n');
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
