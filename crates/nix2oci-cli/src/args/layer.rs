//! What `layer` takes.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{BinaryCacheArgs, CacheDirArgs, ImageArgs, RegistryArgs};

/// Options of an image's config and its base, which a layer has no part in.
const IMAGE_OPTIONS: [&str; 16] = [
    "name",
    "tag",
    "config",
    "entrypoint",
    "cmd",
    "env",
    "workdir",
    "user",
    "label",
    "expose",
    "volume",
    "stop_signal",
    "annotation",
    "created",
    "from",
    "from_platform",
];

/// Make layers by themselves, for images that will use them
///
/// Packs the closure of the roots into layers and writes what they became to
/// DIR/layer.json, without an image around them. `build`, `push`, `resolve`,
/// `plan` and `layer` take DIR with --use-layer: such an image has these layers
/// as they are, and only the rest of its closure is packed. As a derivation, a
/// layer is packed once and used by many images.
///
/// Layers may use others in turn. DIR names those and does not repeat them.
#[derive(Debug, Args)]
#[command(
    mut_args(|arg| {
        let is_of_image = IMAGE_OPTIONS.contains(&arg.get_id().as_str());
        arg.hide(is_of_image)
    }),
    mut_arg("max_layers", |arg| arg
        .default_value("1")
        .help("The most layers that are made, beside those that are used")),
    after_long_help = "\
Examples:
  nix2oci layer ./python -o layers/python
  nix2oci layer ./libs --use-layer layers/python -o layers/libs --max-layers 3
  nix2oci push ./app docker://ghcr.io/team/app --use-layer layers/libs"
)]
pub(crate) struct MakeLayerArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The directory to write, which is made
    #[arg(short, long, value_name = "DIR", help_heading = "Output", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// Keep the blobs as well, so that images need not pack them again
    ///
    /// Without them an image needs the store paths when it is built, and gets
    /// the same bytes.
    #[arg(long, help_heading = "Output")]
    pub(crate) with_blob: bool,
    /// What made the layers, for the history of images [default: nix2oci and what is in them]
    #[arg(long, value_name = "TEXT", help_heading = "History")]
    pub(crate) created_by: Option<String>,
    /// A comment for the history of images
    #[arg(long, value_name = "TEXT", help_heading = "History")]
    pub(crate) comment: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) cache: CacheDirArgs,
}
