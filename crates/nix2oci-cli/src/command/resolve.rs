//! `nix2oci resolve`

use std::collections::BTreeMap;
use std::time::Instant;

use nix2oci::Context;
use nix2oci::build::{IndexRecipe, RecipeLayer, resolve_index};
use nix2oci::oci::Reference;

use crate::args::ResolveArgs;
use crate::display::{Summary, Talk};
use crate::exit::{Outcome, Status};
use crate::output::PendingFile;
use crate::select::{Loaders, Reach};
use crate::{host, select, stdout};

/// Writes the recipe of an image.
pub(crate) fn resolve(args: &ResolveArgs, talk: &Talk) -> Outcome {
    let start = Instant::now();
    stdout::claim(&[
        ("--output", stdout::is_stdout(&args.output)),
        (
            "--digest-file",
            args.digest_file.as_deref().is_some_and(stdout::is_stdout),
        ),
    ])?;
    let recipe_file = PendingFile::new(&args.output)?;
    let digest_file = args.digest_file.as_deref().map(PendingFile::new);
    let digest_file = digest_file.transpose()?;
    let cx = select::context(args.image.run.threads, talk)?;
    if !args.next_parts.images.is_empty() {
        let recipe = several(&cx, args, talk)?;
        recipe_file.finish(&recipe.to_json())?;
        if let Some(file) = digest_file {
            file.finish(format!("{}\n", recipe.index_digest).as_bytes())?;
        }
        let layers = recipe.recipes.iter().flat_map(|recipe| &recipe.layers);
        let names = recipe.names.clone();
        tell(
            args,
            (names, recipe.index_digest.clone()),
            layers,
            start,
            talk,
        );
        return Ok(Status::Done);
    }
    let base = select::base(&cx, &args.image, &args.registry, None)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    let mut spec = select::image(&cx, &args.image, &base, &reach, talk)?;
    let (layers, network) = (&args.image.layers, base.network(None));
    select::keep_layers(&cx, &mut spec, layers, &args.registry, network)?;
    let store_root = args.image.closure.contents.store_root.as_deref();
    select::warn(&cx, &spec, store_root, Loaders::None)?;
    let recipe = nix2oci::resolve(&cx, &spec)?;
    recipe_file.finish(&recipe.to_json())?;
    if let Some(file) = digest_file {
        file.finish(format!("{}\n", recipe.manifest_digest).as_bytes())?;
    }
    let names = spec.names.iter().map(Reference::whole).collect();
    let digest = recipe.manifest_digest.clone();
    tell(args, (names, digest), recipe.layers.iter(), start, talk);
    Ok(Status::Done)
}

/// Finds out every digest of images for several platforms.
fn several(cx: &Context, args: &ResolveArgs, talk: &Talk) -> Outcome<IndexRecipe> {
    let parts = [&args.image].into_iter().chain(&args.next_parts.images);
    let stdin_taken = select::claim_stdin_once(parts.clone())?;
    let mut images = Vec::new();
    let mut reach = Reach::new(&args.registry, &args.caches, &args.cache);
    for part in parts.clone() {
        images.extend(select::named_images(part)?);
        reach.add(&part.closure);
    }
    let stdin_taken = stdin_taken.as_deref();
    let network = select::network_of(cx, &images, &args.registry, None, None, stdin_taken)?;
    let mut specs = Vec::new();
    for (part, number) in parts.zip(1..) {
        let base = select::base(cx, part, &args.registry, network.as_ref())?;
        let mut spec = select::image(cx, part, &base, &reach, talk)?;
        let network = base.network(network.as_ref());
        select::keep_layers(cx, &mut spec, &part.layers, &args.registry, network)?;
        let store_root = part.closure.contents.store_root.as_deref();
        select::warn(cx, &spec, store_root, Loaders::None)?;
        specs.push((format!("part {number}"), spec));
    }
    let annotations = select::assignments(&args.next_parts.annotations)?;
    let images: Vec<_> = specs
        .iter()
        .map(|(part, spec)| (part.clone(), spec))
        .collect();
    let names = specs.first().map(|(_, spec)| spec.names.clone());
    Ok(resolve_index(
        cx,
        &images,
        &annotations,
        &names.unwrap_or_default(),
    )?)
}

/// Says what was written.
fn tell<'a>(
    args: &ResolveArgs,
    (names, digest): (Vec<String>, String),
    layers: impl Iterator<Item = &'a RecipeLayer>,
    start: Instant,
    talk: &Talk,
) {
    let layers: BTreeMap<&str, u64> = layers.map(|l| (&*l.digest, l.size)).collect();
    talk.done(&Summary {
        verb: "wrote",
        destination: match args.output.to_str() {
            Some("-") => "standard output".to_owned(),
            _ => args.output.display().to_string(),
        },
        names,
        digest,
        layers: layers.len(),
        // A base may claim any sizes.
        size: layers
            .values()
            .fold(0, |sum: u64, size| sum.saturating_add(*size)),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    });
}
