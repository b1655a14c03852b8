//! Whether a stored image is meant by ROOT, and what it is called.

use std::path::{Path, PathBuf};

use nix2oci::Compression;
use nix2oci::build::DEFAULT_MAX_LAYERS;
use nix2oci::image::{ImageForm, ImageSource, StoredImage, recognise};
use nix2oci::input::{InputKind, read_file};
use nix2oci::layer::Owner;
use nix2oci::oci::{self, Reference, is_tag};

use crate::args::{
    BaseArgs, ClosureArgs, ConfigArgs, ContentArgs, ImageArgs, LayerArgs, RootArgs, RunArgs,
};
use crate::exit::{Failure, Outcome};

use super::{config, foreign, image_source};

/// How a ROOT begins that says what it is.
const TRANSPORTS: [&str; 5] = [
    "oci:",
    "archive:",
    "oci-archive:",
    "docker-archive:",
    "lock:",
];

/// What can be done with a recipe.
pub(super) const RECIPE_HINT: &str =
    "push, copy, load and index make a recipe's image; inspect, diff and explain read it";

/// Returns the stored image that is meant by the arguments, if it is not store
/// paths.
///
/// A single path is looked at: a layout, an archive or a recipe is meant itself
/// and not as a file in an image, also where it is a store path.
pub(crate) fn stored_image(args: &ImageArgs) -> Outcome<Option<ImageSource>> {
    let is_transport = |root: &PathBuf| {
        let root = root.to_string_lossy();
        TRANSPORTS.iter().any(|name| root.starts_with(name))
    };
    let [root] = args.roots.as_slice() else {
        return match args.roots.iter().find(|root| is_transport(root)) {
            Some(image) => Err(Failure::usage(format!(
                "{} is an image, and only one is taken, with no ROOT beside it",
                image.display()
            ))),
            None => Ok(None),
        };
    };
    if is_transport(root) {
        refuse_options(args)?;
        return image_source(&root.to_string_lossy()).map(Some);
    }
    // As a ROOT it stands for what it mentions.
    let is_config = args.config.config.as_ref() == Some(root) || args.root.root_tree.contains(root);
    match recognise(root) {
        _ if is_config => Ok(None),
        Ok(ImageForm::Layout | ImageForm::Archive(_) | ImageForm::Lock) => {
            refuse_options(args)?;
            image_source(&root.to_string_lossy()).map(Some)
        }
        Ok(ImageForm::Recipe) if foreign::is_foreign(root) => Ok(None),
        Ok(ImageForm::Recipe) if root.extension().is_some_and(|e| e == "json") => {
            Err(Failure::input(format!(
                "{} is a recipe, which has no layers in it: expected store paths, a layout or an \
                 archive",
                root.display()
            ))
            .hint(RECIPE_HINT))
        }
        _ => Ok(None),
    }
}

/// Returns the recipe that is meant by the arguments, if it is one.
///
/// A JSON file of a package is none unless it says what a recipe does.
pub(crate) fn stored_recipe(args: &ImageArgs) -> Outcome<Option<PathBuf>> {
    let [root] = args.roots.as_slice() else {
        return Ok(None);
    };
    let is_config = args.config.config.as_ref() == Some(root) || args.root.root_tree.contains(root);
    if is_config || !is_recipe(root) {
        return Ok(None);
    }
    refuse_options_but(args, &["--content", "--store-root", "--from"])?;
    Ok(Some(root.clone()))
}

/// Returns whether a file is a recipe, of an image or of an index.
pub(super) fn is_recipe(path: &Path) -> bool {
    matches!(recognise(path), Ok(ImageForm::Recipe))
        && read_file(path, InputKind::Recipe)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
            .is_some_and(|value| value.get("manifest").or(value.get("recipes")).is_some())
}

/// Refuses options that would change what is in an image.
pub(crate) fn refuse_options(args: &ImageArgs) -> Outcome<()> {
    refuse_options_but(args, &[])
}

/// Refuses options that would change what is in an image, but for some that
/// mean something else.
pub(crate) fn refuse_options_but(args: &ImageArgs, allowed: &[&str]) -> Outcome<()> {
    match given_option_but(args, allowed) {
        Some(option) => Err(Failure::usage(format!(
            "{option} changes what is in an image, and a stored one keeps its digests"
        ))
        .hint("give the store paths to build another image")),
        None => Ok(()),
    }
}

/// Returns the first option that was given and shapes an image, but for some.
pub(super) fn given_option_but(args: &ImageArgs, allowed: &[&str]) -> Option<&'static str> {
    // Every field is named, so that a new option is not forgotten here.
    let ImageArgs {
        roots: _,
        base: BaseArgs {
            from,
            from_platform: _,
        },
        closure:
            ClosureArgs {
                closure,
                leave_out,
                store_dir: _,
                contents:
                    ContentArgs {
                        content,
                        store_root,
                    },
            },
        config:
            ConfigArgs {
                name: _,
                tag: _,
                platform: _,
                config,
                entrypoint,
                cmd,
                env,
                env_file,
                workdir,
                user,
                label,
                expose,
                volume,
                stop_signal,
                annotation,
                author,
                created,
            },
        root:
            RootArgs {
                contents,
                with_nix_db,
                copy_to_root,
                root_tree,
                rules,
            },
        layers:
            LayerArgs {
                max_layers,
                max_store_layers,
                layers,
                layer,
                keep_layers,
                share_layers,
                use_layer,
                volatile,
                layer_tar,
                no_store_paths,
                compression,
                mtime,
                owner,
            },
        run: RunArgs {
            verify,
            strict,
            threads: _,
        },
    } = args;
    let given = [
        ("--from", from.is_some()),
        ("--closure", !closure.is_empty()),
        ("--leave-out", !leave_out.is_empty()),
        ("--content", !content.is_empty()),
        ("--store-root", store_root.is_some()),
        ("--config", config.is_some()),
        ("--entrypoint", !entrypoint.is_empty()),
        ("--cmd", !cmd.is_empty()),
        ("--env", !env.is_empty()),
        ("--env-file", !env_file.is_empty()),
        ("--workdir", workdir.is_some()),
        ("--user", user.is_some()),
        ("--label", !label.is_empty()),
        ("--expose", !expose.is_empty()),
        ("--volume", !volume.is_empty()),
        ("--stop-signal", stop_signal.is_some()),
        ("--annotation", !annotation.is_empty()),
        ("--author", author.is_some()),
        ("--created", created.is_some()),
        ("--contents", !contents.is_empty()),
        ("--with-nix-db", *with_nix_db),
        ("--copy-to-root", !copy_to_root.is_empty()),
        ("--root-tree", !root_tree.is_empty()),
        ("--rules", !rules.is_empty()),
        ("--max-layers", *max_layers != DEFAULT_MAX_LAYERS.get()),
        ("--max-store-layers", max_store_layers.is_some()),
        ("--layers", layers.is_some()),
        ("--layer", !layer.is_empty()),
        ("--keep-layers", keep_layers.is_some()),
        ("--share-layers", !share_layers.is_empty()),
        ("--use-layer", !use_layer.is_empty()),
        ("--volatile", !volatile.is_empty()),
        ("--layer-tar", !layer_tar.is_empty()),
        ("--no-store-paths", *no_store_paths),
        ("--compression", *compression != Compression::default()),
        ("--mtime", mtime.is_some()),
        ("--owner", *owner != Owner::default()),
        ("--verify", *verify),
        ("--strict", *strict),
    ];
    let refused = |(option, is_given): &&(&str, bool)| *is_given && !allowed.contains(option);
    given.iter().find(refused).map(|(option, _)| *option)
}

/// Returns the names that a stored image gets: those of the options, else those
/// it has. A tag alone, as layouts have it, is no name, but `--name` may be
/// completed by `--tag`.
pub(crate) fn stored_names(image: &StoredImage, args: &ConfigArgs) -> Outcome<Vec<Reference>> {
    let names = config::names(args)?;
    if !names.is_empty() {
        return Ok(names);
    }
    let own: Vec<Reference> = image
        .names
        .iter()
        .filter(|name| !is_tag(name))
        .filter_map(|name| oci::parse_name(name).ok())
        .collect();
    tagged_names(own, &args.tag)
}

/// Returns the names that an image has, with the tags of the options if there
/// are some.
pub(super) fn tagged_names(own: Vec<Reference>, tags: &[String]) -> Outcome<Vec<Reference>> {
    if tags.is_empty() {
        return Ok(own);
    }
    let Some(first) = own.first() else {
        return Err(
            Failure::usage("--tag is given, but no name that it could belong to")
                .hint("say --name as well: the image has none"),
        );
    };
    let tagged = |tag: &String| {
        let (host, repository) = (first.registry(), first.repository());
        Reference::with_tag(host.to_owned(), repository.to_owned(), tag.clone())
    };
    Ok(tags.iter().map(tagged).collect())
}
