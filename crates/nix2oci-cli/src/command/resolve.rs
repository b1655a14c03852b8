//! `nix2oci resolve`

use std::time::Instant;

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
    talk.done(&Summary {
        verb: "wrote",
        destination: match args.output.to_str() {
            Some("-") => "standard output".to_owned(),
            _ => args.output.display().to_string(),
        },
        names: spec
            .names
            .iter()
            .map(nix2oci::oci::Reference::whole)
            .collect(),
        digest: recipe.manifest_digest,
        layers: recipe.layers.len(),
        // A base may claim any sizes.
        size: recipe
            .layers
            .iter()
            .fold(0, |size: u64, layer| size.saturating_add(layer.size)),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    });
    Ok(Status::Done)
}
