//! Which store paths are in which layer: of an image, a recipe or a plan.

use std::path::{Path, PathBuf};

use nix2oci::image::{
    ImageForm, ImageListing, ImageSource, ListedLayer, ListingOptions, TablePath, recognise,
};
use nix2oci::input::{InputKind, read_file};
use nix2oci::oci::Platform;
use nix2oci::store::StorePathPrefix;
use nix2oci::{Context, Recipe, StoreDir};
use serde::Deserialize;

use crate::args::DiffArgs;
use crate::exit::{Failure, Outcome};

use super::network::{Network, open_image};
use super::push::{AnyImage, any_image};

/// What is compared.
#[derive(Debug)]
pub(super) enum Listed {
    /// A recipe or a plan.
    Document(PathBuf),
    /// An image that is there.
    Image(AnyImage),
}

/// What a JSON file says.
pub(super) enum Document {
    /// An image that was resolved.
    Recipe(Box<Recipe>),
    /// An image that was planned, or built.
    Plan(ImageListing),
}

/// The version of the plans that are read.
const PLAN_VERSION: u64 = 1;

/// What `plan --json` and `--metadata-file` write, as far as it is needed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    version: u64,
    digest: Option<String>,
    platform: Option<String>,
    layers: Vec<PlannedLayer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlannedLayer {
    paths: Vec<String>,
    nar_size: Option<u64>,
    #[serde(default)]
    base: bool,
    digest: Option<String>,
    diff_id: Option<String>,
    size: Option<u64>,
}

/// Reads what is in the two images of `diff`.
pub(crate) fn listings(cx: &Context, args: &DiffArgs) -> Outcome<[ImageListing; 2]> {
    let images = [listed(&args.from)?, listed(&args.to)?];
    let mut hosts = images.iter().filter_map(|image| match image {
        Listed::Image(AnyImage::Remote(reference)) => Some(reference.registry()),
        _ => None,
    });
    let (first, second) = (hosts.next(), hosts.next());
    let has_creds = args.registry.creds.is_some() || args.registry.creds_stdin;
    if let (Some(first), Some(second)) = (first, second)
        && first != second
        && has_creds
    {
        return Err(Failure::usage(format!(
            "--creds are for one registry, and the images are of {first} and {second}"
        ))
        .hint("`podman login` or `docker login` at both does without"));
    }
    let network = first
        .map(|host| Network::new(cx, &args.registry, None, false, host, None))
        .transpose()?;
    let [from, to] = &images;
    Ok([
        listing(cx, args, network.as_ref(), from)?,
        listing(cx, args, network.as_ref(), to)?,
    ])
}

/// Finds out what is meant.
pub(super) fn listed(text: &str) -> Outcome<Listed> {
    Ok(match any_image(text)? {
        AnyImage::Stored(ImageSource::Path(path))
            if matches!(recognise(&path), Ok(ImageForm::Recipe)) =>
        {
            Listed::Document(path)
        }
        image => Listed::Image(image),
    })
}

fn listing(
    cx: &Context,
    args: &DiffArgs,
    network: Option<&Network>,
    image: &Listed,
) -> Outcome<ImageListing> {
    let image = match image {
        Listed::Document(path) => {
            let listing = match document(path, &args.store_dir)? {
                Document::Recipe(recipe) => recipe.listing(&path.display().to_string())?,
                Document::Plan(listing) => listing,
            };
            check_platform(&listing, args.platform.as_ref())?;
            return Ok(listing);
        }
        Listed::Image(image) => image,
    };
    let is_remote = matches!(image, AnyImage::Remote(_));
    let reader = match (network, image) {
        (Some(network), image) => network.open(cx, image)?,
        (None, image) => open_image(cx, image, &args.registry)?,
    };
    let options = ListingOptions {
        read_layers: args.read_layers || !is_remote,
        store_dir: args.store_dir.clone(),
    };
    Ok(ImageListing::read(
        cx,
        &reader,
        args.platform.as_ref(),
        &options,
    )?)
}

/// Reads a recipe or a plan.
pub(super) fn document(path: &Path, store_dir: &StoreDir) -> Outcome<Document> {
    let name = path.display().to_string();
    let bytes = read_file(path, InputKind::Recipe)?;
    let is_recipe = serde_json::from_slice::<serde_json::Value>(&bytes)
        .is_ok_and(|value| value.get("manifest").or(value.get("recipes")).is_some());
    Ok(match is_recipe {
        true => Document::Recipe(Box::new(Recipe::parse(&bytes, &name)?)),
        false => Document::Plan(plan(&bytes, &name, store_dir)?),
    })
}

fn plan(bytes: &[u8], name: &str, store_dir: &StoreDir) -> Outcome<ImageListing> {
    let refuse = |problem: &dyn std::error::Error| {
        Failure::input(format!("{name} is neither a recipe nor a plan")).because(problem)
    };
    let plan: Plan = serde_json::from_slice(bytes).map_err(|error| refuse(&error))?;
    if plan.version != PLAN_VERSION {
        return Err(Failure::input(format!(
            "{name} is a plan of version {}, expected {PLAN_VERSION}",
            plan.version
        )));
    }
    let mut layers = Vec::with_capacity(plan.layers.len());
    for layer in plan.layers {
        let paths = layer.paths.iter().map(|path| {
            let path = store_dir.parse_path(path).map_err(|error| refuse(&error))?;
            Ok(TablePath {
                path: StorePathPrefix::from(&path),
                nar_size: None,
            })
        });
        let digest = layer.digest.as_deref().map(str::parse);
        let diff_id = layer.diff_id.as_deref().map(str::parse);
        layers.push(ListedLayer {
            digest: digest.transpose().map_err(|error| refuse(&error))?,
            size: layer.size,
            media_type: None,
            diff_id: diff_id.transpose().map_err(|error| refuse(&error))?,
            nar_size: layer.nar_size,
            paths: Some(paths.collect::<Outcome<_>>()?),
            is_base: Some(layer.base),
        });
    }
    let digest = plan.digest.as_deref().map(str::parse);
    Ok(ImageListing {
        name: name.to_owned(),
        digest: digest.transpose().map_err(|error| refuse(&error))?,
        platform: plan.platform,
        config: None,
        layers,
    })
}

/// Refuses a document that is for another platform than the one asked for.
fn check_platform(listing: &ImageListing, platform: Option<&Platform>) -> Outcome<()> {
    let wanted = platform.map(nix2oci::oci::display_platform);
    match (wanted, &listing.platform) {
        (Some(wanted), Some(found)) if wanted != *found => Err(Failure::input(format!(
            "{} is for {found}, not for {wanted}",
            listing.name
        ))),
        _ => Ok(()),
    }
}
