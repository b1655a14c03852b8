//! An image that the build of another tool describes: dockerTools' and
//! nix2container's JSON as ROOT.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix2oci::build::{
    DEFAULT_MAX_LAYERS, ForeignFormat, ForeignImage, ForeignOptions, described_layers,
};
use nix2oci::image::{ImageForm, recognise};
use nix2oci::input::{InputKind, read_file};
use nix2oci::layer::Owner;
use nix2oci::{Context, ImageSpec, StorePath, plan};

use crate::args::ImageArgs;
use crate::display::Talk;
use crate::exit::{Failure, Outcome};
use crate::host;

use super::roots::Store;
use super::sources::Sources;
use super::stored::{given_option_but, tagged_names};
use super::{Reach, add_nix_db, config, content, layer_tars, tell};

/// The options that say something else than the description does, or add to it.
/// The others are about store paths that were not described.
const ALLOWED: &[&str] = &[
    "--closure",
    "--content",
    "--store-root",
    "--entrypoint",
    "--cmd",
    "--env",
    "--env-file",
    "--workdir",
    "--user",
    "--label",
    "--expose",
    "--volume",
    "--stop-signal",
    "--annotation",
    "--author",
    "--created",
    "--max-layers",
    "--layers",
    "--keep-layers",
    "--share-layers",
    "--layer-tar",
    "--with-nix-db",
    "--no-store-paths",
    "--compression",
    "--mtime",
    "--owner",
    "--verify",
    "--strict",
];

/// Returns whether a file describes an image as another tool's build does.
pub(super) fn is_foreign(path: &Path) -> bool {
    matches!(recognise(path), Ok(ImageForm::Recipe))
        && read_file(path, InputKind::ForeignImage)
            .is_ok_and(|bytes| ForeignFormat::recognise(&bytes).is_some())
}

/// Reads the description that the one ROOT is, if it is one. The file of
/// `--config` stands for what it mentions, whatever it says.
pub(super) fn foreign(args: &ImageArgs, roots: &[PathBuf]) -> Outcome<Option<ForeignImage>> {
    let [root] = roots else {
        // A package may have such a file, but nobody names two by accident.
        return match roots.iter().find(|root| is_foreign(root)) {
            Some(root) => Err(Failure::usage(format!(
                "{} describes a whole image, with no ROOT beside it",
                root.display()
            ))),
            None => Ok(None),
        };
    };
    if args.config.config.as_ref() == Some(root) || !is_foreign(root) {
        return Ok(None);
    }
    let name = root.display().to_string();
    if let Some(option) = given_option_but(args, ALLOWED) {
        return Err(Failure::usage(format!(
            "{option} is for store paths, and {name} describes a whole image"
        )));
    }
    let bytes = read_file(root, InputKind::ForeignImage)?;
    Ok(Some(ForeignImage::parse(&bytes, &name)?))
}

/// Finds out which image is meant by a description with the options on top.
pub(super) fn spec(
    cx: &Context,
    image: &ForeignImage,
    args: &ImageArgs,
    reach: &Reach<'_>,
    talk: &Talk,
) -> Outcome<ImageSpec> {
    let root = args.closure.contents.store_root.as_deref();
    let store = Store::new(image.store_dir.clone(), root);
    let mut options = ForeignOptions::new(host::now());
    options.store_root = root.map(Path::to_owned);
    options.compression = args.layers.compression;
    let content = if args.closure.closure.is_empty() {
        content(
            cx,
            &args.closure.contents,
            reach,
            store.dir(),
            HashMap::new(),
        )?
    } else {
        let sources = Sources::open(cx, &args.closure, reach, talk)?;
        let paths: Vec<StorePath> = image.layers.iter().flatten().cloned().collect();
        let known = sources.read(cx, store.dir(), &paths)?;
        options.infos = known.infos().to_vec();
        sources.content(cx, &args.closure.contents, &known, reach)?
    };
    let mut spec = image.spec(cx, Arc::clone(&content), &options)?;
    config::apply(&args.config, &mut spec.config, None)?;
    if let Some(mtime) = args.layers.mtime {
        let seconds = mtime.unix_seconds();
        spec.packing.mtime = u64::try_from(seconds).expect("the option refuses negative times");
    }
    if args.layers.owner != Owner::default() {
        spec.packing.owner = args.layers.owner;
    }
    spec.layer_tars.extend(layer_tars(cx, args, &store)?);
    if args.root.with_nix_db {
        let time = spec.packing.mtime;
        let (tree, closure) = (&mut spec.root_tree, &mut spec.closure);
        add_nix_db(cx, tree, closure, &*content, time, spec.base.as_ref())?;
    }
    layers(&mut spec, args)?;
    let names = config::names(&args.config)?;
    spec.names = match names.is_empty() {
        true => tagged_names(std::mem::take(&mut spec.names), &args.config.tag)?,
        false => names,
    };
    spec.store_paths = !args.layers.no_store_paths;
    spec.verify = args.run.verify;
    spec.strict = args.run.strict;
    tell(&spec, talk);
    Ok(spec)
}

/// Keeps to the layers that were described, as many as they are, or groups the
/// store paths anew if the user asks for it.
fn layers(spec: &mut ImageSpec, args: &ImageArgs) -> Outcome<()> {
    if let Some(strategy) = &args.layers.layers {
        spec.strategy = plan::strategy(strategy).map_err(Failure::misuse)?;
        spec.explicit_layers.clear();
        spec.max_layers = DEFAULT_MAX_LAYERS;
    } else {
        spec.max_layers = described_layers(spec);
    }
    if args.layers.max_layers != DEFAULT_MAX_LAYERS.get() {
        let most = NonZeroUsize::new(args.layers.max_layers);
        spec.max_layers = most.expect("the option refuses 0");
    }
    Ok(())
}
