//! The closure that `explain` is about.

use std::collections::BTreeMap;
use std::path::Path;

use nix2oci::build::plan;
use nix2oci::closure::PathId;
use nix2oci::content::set_nar_sizes;
use nix2oci::image::{ImageClosure, ImageTable, RootReason, image_closure};
use nix2oci::input::{InputKind, read_file};
use nix2oci::store::StorePathPrefix;
use nix2oci::{Closure, Context, Recipe, StorePath};

use crate::args::ExplainArgs;
use crate::display::Talk;
use crate::exit::{Failure, Outcome};

use super::push::{AnyImage, Pushed, source};
use super::sources::Sources;
use super::{Reach, image_of, network, refuse_options, refuse_options_but};

/// A closure, and why its roots are in it if that was found out.
pub(crate) struct Explained {
    pub(crate) closure: Closure,
    pub(crate) reasons: BTreeMap<PathId, RootReason>,
    /// The store paths that a base has; none if that is not known.
    pub(crate) base: Option<Vec<StorePathPrefix>>,
}

impl Explained {
    /// Returns whether a path is of a base, if that is known.
    pub(crate) fn is_of_base(&self, path: PathId) -> Option<bool> {
        let path = self.closure.path(path);
        let listed = self.base.as_ref()?;
        Some(listed.iter().any(|listed| listed.matches(path)))
    }

    fn of_image(image: ImageClosure, base: Option<Vec<StorePathPrefix>>) -> Self {
        Self {
            closure: image.closure,
            reasons: image.roots,
            base,
        }
    }
}

/// Finds out which closure is meant, and all that is known of it.
pub(crate) fn explained(cx: &Context, args: &ExplainArgs, talk: &Talk) -> Outcome<Explained> {
    let config = args.image.config.config.as_deref();
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    match source(&args.image.roots, config)? {
        Pushed::Roots(roots) => {
            let base = super::base(cx, &args.image, &args.registry, None)?;
            let spec = image_of(cx, &args.image, &roots, &base, &reach, talk)?;
            let below = match &spec.base {
                Some(_) => plan(cx, &spec)?.base,
                None => Vec::new(),
            };
            let below = below.into_iter().flat_map(|layer| layer.paths);
            let below = below.map(|listed| listed.path).collect();
            let mut closure = spec.closure;
            set_nar_sizes(cx, spec.content.as_ref(), &mut closure)?;
            Ok(Explained {
                closure,
                reasons: BTreeMap::new(),
                base: Some(below),
            })
        }
        Pushed::Recipe(file) => {
            refuse_options_but(&args.image, &["--closure", "--store-root"])?;
            recipe(cx, args, &file, talk)
        }
        Pushed::Image(image) => {
            refuse_options(&args.image)?;
            if let (AnyImage::Remote(reference), false) = (&image, args.read_layers) {
                return Err(Failure::usage(format!(
                    "docker://{}: what refers to what is found in the layers, and they are in a \
                     registry",
                    reference.whole()
                ))
                .hint(
                    "--read-layers downloads all of them; the ROOT that it was built of needs none",
                ));
            }
            let reader = network::open_image(cx, &image, &args.registry)?;
            let store_dir = &args.image.closure.store_dir;
            let platform = args.image.config.platform.as_ref();
            let table = ImageTable::read(&reader.image(cx, platform)?.manifest);
            let below = table.map(|table| {
                let layers = table.layers.into_iter().take(table.base_layers);
                let paths = layers.flat_map(|layer| layer.paths);
                paths.map(|listed| listed.path).collect()
            });
            let closure = image_closure(cx, &reader, platform, store_dir)?;
            Ok(Explained::of_image(closure, below))
        }
    }
}

/// Asks for the closure of a recipe's store paths.
fn recipe(cx: &Context, args: &ExplainArgs, file: &Path, talk: &Talk) -> Outcome<Explained> {
    let name = file.display().to_string();
    let bytes = read_file(file, InputKind::Recipe)?;
    let recipe = Recipe::parse(&bytes, &name)?;
    let listing = recipe.listing(&name)?;
    let paths: Vec<StorePath> = listing
        .paths()
        .filter_map(|listed| listed.path.whole())
        .collect();
    let below = listing.layers.iter().filter(|l| l.is_base == Some(true));
    let below = below.flat_map(|layer| layer.paths.iter().flatten());
    let below = below.map(|listed| listed.path.clone()).collect();
    let store_dir = &args.image.closure.store_dir;
    if recipe.store_dir != store_dir.as_str() {
        return Err(Failure::input(format!(
            "{name} is of the store {}, and {store_dir} is asked",
            recipe.store_dir
        ))
        .hint(format!("say --store-dir {}", recipe.store_dir)));
    }
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    let sources = Sources::open(cx, &args.image.closure, &reach, talk)?;
    let closure = sources.read(cx, store_dir, &paths)?;
    let config = listing.config.unwrap_or_default();
    let infos = closure.infos().to_vec();
    let closure = ImageClosure::of_known(&name, store_dir, infos, &config)?;
    Ok(Explained::of_image(closure, Some(below)))
}
