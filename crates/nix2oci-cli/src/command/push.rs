//! `nix2oci push`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use nix2oci::build::{IndexRecipe, PushReport, PushSource};
use nix2oci::input::{InputKind, read_file};
use nix2oci::oci::Reference;
use nix2oci::store::ExpectedNar;
use nix2oci::{ContentSource, Context, Recipe, StoreDir};

use crate::args::{
    BinaryCacheArgs, ContentArgs, ImageArgs, PushArgs, RecordArgs, RegistryArgs, ReuseArgs,
};
use crate::display::{Summary, Talk};
use crate::exit::{Failure, Outcome, Status};
use crate::output::{self, Records};
use crate::report::Report;
use crate::select::{self, Loaders, Network, Pushed, Reach};
use crate::{host, stdout};

use super::recipes::Recipes;
use super::several::{Output, Parts, Whole};

/// Pushes an image. Everything that can be wrong with where the results go is
/// found out before the work.
pub(crate) fn push(args: &PushArgs, talk: &Talk) -> Outcome {
    let has_closure = !args.image.closure.needs_roots();
    let config = args.image.config.config.as_deref();
    let (what, names) = select::push(&args.image.roots, has_closure, config)?;
    if !args.next_parts.images.is_empty() {
        return push_several(args, what, names, talk);
    }
    if let Pushed::Recipe(file) = &what
        && IndexRecipe::is_one(&read_file(file, InputKind::Recipe)?)
    {
        return push_index_recipe(args, file, names, talk);
    }
    let push = Push {
        what: &what,
        names: &names,
        image: &args.image,
        registry: &args.registry,
        caches: &args.caches,
        reuse: &args.reuse,
        record: &args.record,
        json: args.json,
        result: &|pushed| pushed.pinned.clone(),
    };
    run(&push, talk)
}

/// Pushes images for several platforms.
fn push_several(args: &PushArgs, first: Pushed, names: Vec<Reference>, talk: &Talk) -> Outcome {
    refuse_names(&args.image)?;
    let mut sources = vec![(first, &args.image)];
    for part in &args.next_parts.images {
        let source = select::pushed(&part.roots, part.config.config.as_deref())?;
        sources.push((source, part));
    }
    let parts = Parts {
        sources,
        next: &args.next_parts,
        registry: &args.registry,
        caches: &args.caches,
        reuse: &args.reuse,
        result: &|pushed| pushed.pinned.clone(),
    };
    let output = Output::of_registry(names, &args.record, args.json)?;
    super::several::run(&parts, output, talk)
}

/// Pushes the index that a recipe is of.
fn push_index_recipe(args: &PushArgs, file: &Path, names: Vec<Reference>, talk: &Talk) -> Outcome {
    refuse_names(&args.image)?;
    select::refuse_options_but(&args.image, &["--content", "--store-root"])?;
    let output = Output::of_registry(names, &args.record, args.json)?;
    let cx = select::context(args.image.run.threads, talk)?;
    let (reuse, host) = (Some(&args.reuse), output.host());
    let network = select::network_of(&cx, &[], &args.registry, reuse, host, None)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.reuse.cache);
    let recipes = Recipes::read(&cx, file, &args.image.closure.contents, &reach)?;
    let parts: Vec<_> = recipes.parts().collect();
    let whole = Whole {
        parts: &parts,
        annotations: recipes.annotations(),
        store_dir: args.image.closure.store_dir.clone(),
        names: Vec::new(),
        network: network.as_ref(),
        result: &|pushed| pushed.pinned.clone(),
        download_size: reach.download_size(),
    };
    output.write(&cx, &whole, talk)
}

/// What is pushed, where to and how.
pub(super) struct Push<'a> {
    pub(super) what: &'a Pushed,
    pub(super) names: &'a [Reference],
    pub(super) image: &'a ImageArgs,
    pub(super) registry: &'a RegistryArgs,
    pub(super) caches: &'a BinaryCacheArgs,
    pub(super) reuse: &'a ReuseArgs,
    pub(super) record: &'a RecordArgs,
    pub(super) json: bool,
    /// What goes to standard output.
    pub(super) result: &'a dyn Fn(&PushReport) -> String,
}

/// Pushes an image and tells of it.
pub(super) fn run(args: &Push<'_>, talk: &Talk) -> Outcome {
    let start = Instant::now();
    let is_stdout_taken = stdout::claim(&[
        ("--json", args.json),
        (
            "--metadata-file",
            stdout::is_wanted(args.record.metadata_file.as_deref()),
        ),
        (
            "--digest-file",
            stdout::is_wanted(args.record.digest_file.as_deref()),
        ),
    ])?;
    refuse_names(args.image)?;
    match args.what {
        Pushed::Roots(_) => {}
        // The store may lie elsewhere than where the recipe was made.
        Pushed::Recipe(_) => {
            select::refuse_options_but(args.image, &["--content", "--store-root", "--from"])?;
        }
        Pushed::Image(_) => select::refuse_options(args.image)?,
    }
    let records = Records::new(args.record)?;
    let cx = select::context(args.image.run.threads, talk)?;
    let network = network(&cx, args.registry, args.reuse, args.image, args.names)?;
    let push = |source| network.push(&cx, source, args.names);
    let reach = Reach::new(args.registry, args.caches, &args.reuse.cache);
    let mut platform = None;
    let pushed = match args.what {
        Pushed::Roots(roots) => {
            let base = select::base(&cx, args.image, args.registry, Some(&network))?;
            let mut spec = select::image_of(&cx, args.image, roots, &base, &reach, talk)?;
            let layers = &args.image.layers;
            select::keep_layers(&cx, &mut spec, layers, args.registry, Some(&network))?;
            let store_root = args.image.closure.contents.store_root.as_deref();
            select::warn(&cx, &spec, store_root, Loaders::None)?;
            platform = Some(spec.config.platform.clone());
            push(PushSource::Image(&spec))?
        }
        Pushed::Recipe(file) => {
            let name = file.display().to_string();
            let bytes = read_file(file, InputKind::Recipe)?;
            let recipe = Recipe::parse(&bytes, &name)?;
            let content = content_of(&cx, &recipe, &name, &args.image.closure.contents, &reach)?;
            let base = select::base(&cx, args.image, args.registry, Some(&network))?;
            push(PushSource::Recipe {
                recipe: &recipe,
                name: &name,
                content,
                base: base.image.as_ref(),
            })?
        }
        Pushed::Image(image) => {
            let image = Arc::new(network.open(&cx, image)?);
            push(PushSource::Stored {
                image: &image,
                platform: args.image.config.platform.as_ref(),
            })?
        }
    };
    let report = Report::pushed(
        platform.as_ref(),
        &args.image.closure.store_dir,
        args.names,
        &pushed,
    )
    .planned_with(reach.download_size());
    records.finish(&report, pushed.manifest_digest)?;
    talk.done(&summary(&pushed, args.names, start));
    if args.json {
        stdout::deliver(&output::json(&report))?;
    } else if !is_stdout_taken {
        stdout::deliver(format!("{}\n", (args.result)(&pushed)).as_bytes())?;
    }
    Ok(Status::Done)
}

/// Refuses names beside those that say where the image goes.
fn refuse_names(args: &ImageArgs) -> Outcome<()> {
    let option = match (&args.config.name, args.config.tag.is_empty()) {
        (Some(_), _) => "--name",
        (None, false) => "--tag",
        (None, true) => return Ok(()),
    };
    Err(Failure::usage(format!(
        "{option} has no meaning here: the destination names the image"
    ))
    .hint("give docker://HOST/REPOSITORY:TAG once for each tag"))
}

/// Returns the line at the end.
pub(super) fn summary(pushed: &PushReport, names: &[Reference], start: Instant) -> Summary {
    Summary {
        verb: if pushed.changed_tags.is_empty() {
            "unchanged:"
        } else {
            "pushed"
        },
        destination: format!("docker://{}", pushed.pinned),
        names: names.iter().map(Reference::whole).collect(),
        digest: pushed.manifest_digest.to_string(),
        layers: pushed.layers.len(),
        size: pushed.layers.iter().map(|l| l.descriptor.size()).sum(),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    }
}

/// Finds out how the registry is reached and what is taken over.
pub(super) fn network(
    cx: &Context,
    registry: &RegistryArgs,
    reuse: &ReuseArgs,
    image: &ImageArgs,
    names: &[Reference],
) -> Outcome<Network> {
    let stdin_taken = select::claim_stdin(image)?;
    let host = names.first().map_or("", Reference::registry);
    let keep_layers = select::is_kept_by_itself(&image.layers);
    let stdin_taken = stdin_taken.as_deref();
    Network::new(cx, registry, Some(reuse), keep_layers, host, stdin_taken)
}

/// Returns what is inside the recipe's store paths.
pub(super) fn content_of(
    cx: &Context,
    recipe: &Recipe,
    name: &str,
    args: &ContentArgs,
    reach: &Reach<'_>,
) -> Outcome<Arc<dyn ContentSource>> {
    let store_dir: StoreDir = recipe
        .store_dir
        .parse()
        .map_err(|error| Failure::input(format!("{name}, key storeDir: {error}")))?;
    let layers = recipe.parts(name)?.layers;
    let paths = layers
        .iter()
        .flat_map(|(spec, _)| spec.content.store_paths());
    let expected = paths.filter_map(|(path, nar_hash)| {
        let expected = ExpectedNar {
            nar_hash: (*nar_hash)?,
            nar_size: None,
        };
        Some((path.clone(), expected))
    });
    select::content(cx, args, reach, &store_dir, expected.collect())
}
