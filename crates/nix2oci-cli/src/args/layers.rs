//! Which store paths share a layer, and how layers are packed.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use nix2oci::Compression;
use nix2oci::build::DEFAULT_MAX_LAYERS;
use nix2oci::layer::Owner;
use nix2oci::oci::Timestamp;
use nix2oci::plan::{DEFAULT_STRATEGY, STRATEGIES, StrategyEntry};

use super::help_table;
use super::values::{self, NamedLayer};

/// How the closure becomes layers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Layers")]
pub(crate) struct LayerArgs {
    /// The most layers there may be, at most 125
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_LAYERS.get(), value_parser = values::max_layers, allow_negative_numbers = true)]
    pub(crate) max_layers: usize,
    /// Of these, the most for store paths that no base and no other layer has
    ///
    /// What is at the root is not counted either. Without this option there are
    /// as many as --max-layers leaves.
    #[arg(long, value_name = "N", value_parser = values::max_layers, allow_negative_numbers = true)]
    pub(crate) max_store_layers: Option<usize>,
    /// How store paths are grouped
    #[arg(
        long,
        value_name = "STRATEGY[:ARG]",
        long_help = strategies_help(
            "How store paths are grouped",
            &format!("[default: {DEFAULT_STRATEGY}]"),
        ),
    )]
    pub(crate) layers: Option<String>,
    /// A layer of its own for these store paths, without what they refer to
    #[arg(long, value_name = "NAME=PATH,PATH…")]
    pub(crate) layer: Vec<NamedLayer>,
    /// Plan on from this earlier image: its layers stay where they can
    ///
    /// A layer whose store paths are all still wanted is kept as it is, unless
    /// that costs more than it saves, so that registries and nodes have it
    /// already. IMAGE is an image as `inspect` takes it, a recipe, or what
    /// `plan --json` printed: the last two are files that a derivation can
    /// read. `push` and `plan --against` plan on from the image that they
    /// replace by themselves; `none` stops that.
    #[arg(long, value_name = "IMAGE|none")]
    pub(crate) keep_layers: Option<String>,
    /// Layers that `nix2oci layer` made, and all that they are built on
    ///
    /// They are at the bottom of the image, with the digests that they have, and
    /// their store paths are in no other layer. Their blobs are taken from DIR,
    /// or packed again, as they were, and checked.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) use_layer: Vec<PathBuf>,
    /// Prefer layers that this other image has, such as one of the same fleet
    ///
    /// A node that has that image need not fetch them. May be given more than
    /// once; IMAGE is as for --keep-layers.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) share_layers: Vec<String>,
    /// A store path that changes with every release
    ///
    /// All of them share the top layer. Without this option they are found:
    /// those that need nearly all others, as an application and its
    /// configuration do.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) volatile: Vec<PathBuf>,
    /// A tar that becomes a layer as it is, on top of all others
    ///
    /// Compressed or not (gzip, zstd). It may hold what no store path can: users,
    /// owners, modes, devices, whiteouts. May be given more than once; each is a
    /// layer of its own, in this order. A store path that it lies in may be a
    /// ROOT: then what that refers to is in the image, and it itself is left
    /// out.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) layer_tar: Vec<PathBuf>,
    /// Leave the store paths out, for containers that mount the host's store
    #[arg(long)]
    pub(crate) no_store_paths: bool,
    /// none, gzip[:1-9] or zstd[:1-19]
    ///
    /// gzip is read by every loader. zstd is faster and smaller; Docker
    /// 20.10 and umoci before 0.5 do not read it.
    #[arg(long, value_name = "CODEC[:LEVEL]", default_value_t = Compression::default())]
    pub(crate) compression: Compression,
    /// The time of every file [default: $SOURCE_DATE_EPOCH, else 1970-01-01T00:00:01Z]
    #[arg(long, value_name = "TIME", value_parser = values::mtime)]
    pub(crate) mtime: Option<Timestamp>,
    /// The owner of every file, in numbers; a UID alone is also the GID
    #[arg(long, value_name = "UID[:GID]", default_value = "0:0")]
    pub(crate) owner: Owner,
}

/// Lists the strategies of the library, between two sentences.
pub(super) fn strategies_help(intro: &str, outro: &str) -> String {
    let syntax = |entry: &StrategyEntry| match entry.argument {
        Some(argument) => format!("{}[:{argument}]", entry.name),
        None => entry.name.to_owned(),
    };
    let rows = STRATEGIES.iter().map(|entry| (syntax(entry), entry.help));
    help_table(intro, rows, outro)
}
