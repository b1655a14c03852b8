//! The layers of images that exist, for the plan of another one.

use nix2oci::build::KnownImage;
use nix2oci::image::{ImageListing, ImageReader, ImageSource, ListingOptions};
use nix2oci::oci::display_platform;
use nix2oci::plan::{self, DEFAULT_STRATEGY, EarlierImage};
use nix2oci::{Context, Event, ImageSpec};

use crate::args::{LayerArgs, RegistryArgs};
use crate::exit::{Failure, Outcome};

use super::listing::{Document, Listed, document, listed};
use super::network::Network;
use super::push::AnyImage;

/// What stands for no image.
const NONE: &str = "none";

/// Returns whether a push plans on from the image that it replaces.
pub(crate) fn is_kept_by_itself(args: &LayerArgs) -> bool {
    args.keep_layers.as_deref() != Some(NONE)
}

/// Reads the images whose layers are kept or shared into the spec. `network` is
/// what the verb talks to registries with, if it does: `--creds` are for its
/// registry, and standard input can be read once.
pub(crate) fn keep_layers(
    cx: &Context,
    spec: &mut ImageSpec,
    args: &LayerArgs,
    registry: &RegistryArgs,
    network: Option<&Network>,
) -> Outcome<()> {
    let named = args.keep_layers.as_deref().filter(|text| *text != NONE);
    let given = [
        ("--keep-layers", named.is_some()),
        ("--share-layers", !args.share_layers.is_empty()),
        ("--volatile", !args.volatile.is_empty()),
    ];
    if !spec.strategy.keeps_layers()
        && let Some((option, _)) = given.iter().find(|(_, is_given)| *is_given)
    {
        let name = spec.strategy.name();
        let mut failure = Failure::usage(format!("--layers {name} does not look at {option}"));
        if plan::strategy(DEFAULT_STRATEGY).is_ok_and(|default| default.keeps_layers()) {
            failure = failure.hint(format!("{DEFAULT_STRATEGY} does, the default"));
        }
        return Err(failure);
    }
    let shared = || args.share_layers.iter().map(String::as_str);
    let own = match network {
        Some(_) => None,
        None => network_of(cx, named.into_iter().chain(shared()), registry)?,
    };
    let network = network.or(own.as_ref());
    let read = |option: &str, text: &str| earlier_image(cx, spec, option, text, network);
    let kept = named.map(|text| read("--keep-layers", text)).transpose()?;
    let shared = shared().filter_map(|text| read("--share-layers", text).transpose());
    spec.share_layers = shared.collect::<Outcome<_>>()?;
    spec.keep_layers = kept.flatten();
    Ok(())
}

/// Returns the images that are asked for their layers, of whatever kind.
pub(super) fn earlier_images(args: &LayerArgs) -> Outcome<Vec<AnyImage>> {
    let named = args.keep_layers.iter().filter(|text| *text != NONE);
    let mut images = Vec::new();
    for text in named.chain(&args.share_layers) {
        if let Listed::Image(image) = listed(text)? {
            images.push(image);
        }
    }
    Ok(images)
}

/// Finds out how registries are reached if images are of one; none are if no
/// image is.
fn network_of<'a>(
    cx: &Context,
    images: impl Iterator<Item = &'a str>,
    registry: &RegistryArgs,
) -> Outcome<Option<Network>> {
    let mut hosts: Vec<String> = Vec::new();
    for text in images {
        if let Listed::Image(image) = listed(text)? {
            hosts.extend(image.host());
        }
    }
    let Some(host) = hosts.first() else {
        return Ok(None);
    };
    let has_creds = registry.creds.is_some() || registry.creds_stdin;
    if let (Some(other), true) = (hosts.iter().find(|other| *other != host), has_creds) {
        return Err(Failure::usage(format!(
            "--creds are for one registry, and the images are of {host} and {other}"
        ))
        .hint("`podman login` or `docker login` at both does without"));
    }
    Network::new(cx, registry, None, false, host, None).map(Some)
}

/// Reads which store paths share a layer in an image that exists, or would.
/// Nothing, with a warning, if a registry does not have it: the first release
/// has none to go on from.
fn earlier_image(
    cx: &Context,
    spec: &ImageSpec,
    option: &str,
    text: &str,
    network: Option<&Network>,
) -> Outcome<Option<EarlierImage>> {
    let known = read(cx, spec, option, text, network)?;
    if known.is_none() {
        let message = format!("{option} {text} is not there: its layers are not looked at");
        cx.observer.event(&Event::Warning { message: &message });
    }
    Ok(known.map(|known| known.layers().clone()))
}

/// Reads `--against` an image that is not pushed over. `network` is as in
/// [`keep_layers`].
pub(crate) fn known_image(
    cx: &Context,
    spec: &ImageSpec,
    text: &str,
    registry: &RegistryArgs,
    network: Option<&Network>,
) -> Outcome<KnownImage> {
    let own = match network {
        Some(_) => None,
        None => network_of(cx, [text].into_iter(), registry)?,
    };
    let known = read(cx, spec, "--against", text, network.or(own.as_ref()))?;
    known.ok_or_else(|| Failure::input(format!("--against {text} is not there")))
}

/// Reads what an image says of its layers; nothing if a registry has no such
/// image. An image of a registry needs a `network`.
fn read(
    cx: &Context,
    spec: &ImageSpec,
    option: &str,
    text: &str,
    network: Option<&Network>,
) -> Outcome<Option<KnownImage>> {
    let store_dir = spec.closure.store_dir();
    let reader = match listed(text)? {
        Listed::Document(path) => {
            return Ok(Some(match document(&path, store_dir)? {
                Document::Recipe(recipe) => {
                    KnownImage::of_recipe(&recipe, &path.display().to_string())?
                }
                Document::Plan(listing) => KnownImage::of_plan(listing.earlier_image()),
            }));
        }
        Listed::Image(AnyImage::Remote(reference)) => {
            let network = network.expect("made for images of a registry");
            match network.registries.find(&reference)? {
                Some(reader) => reader,
                None => return Ok(None),
            }
        }
        Listed::Image(image @ AnyImage::Stored(ImageSource::Lock { .. })) => {
            let network = network.expect("made for images of a registry");
            network
                .open(cx, &image)
                .map_err(|failure| failure.hint(format!("{option} names this image")))?
        }
        Listed::Image(AnyImage::Stored(source)) => ImageReader::open(cx, &source)?,
    };
    let platform = &spec.config.platform;
    let stored = reader.image(cx, Some(platform))?;
    if let Some(known) = KnownImage::of_image(&stored) {
        return Ok(Some(known));
    }
    if reader.registry_repository().is_some() {
        return Err(Failure::input(format!(
            "{option} {text}: the image for {} does not tell which store paths are in its layers",
            display_platform(platform)
        ))
        .hint("images of nix2oci do, unless another program changed them")
        .hint("`skopeo copy` it to an oci: layout, and its layers are read"));
    }
    let options = ListingOptions {
        read_layers: true,
        store_dir: store_dir.clone(),
    };
    let listing = ImageListing::read(cx, &reader, Some(platform), &options)?;
    Ok(Some(KnownImage::of_listing(&listing)))
}
