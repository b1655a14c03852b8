//! Where what is inside store paths comes from.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use nix2oci::content::{CONTENTS, ContentKind};

use super::help_table;

/// Where what is inside store paths comes from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ContentArgs {
    /// Where the files in store paths are read from; the first that has a store path gives it
    #[arg(long, value_name = "KIND[:ARG]", long_help = contents_help())]
    pub(crate) content: Vec<String>,
    /// The root below which the store really lies, as in `nix --store DIR`
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) store_root: Option<PathBuf>,
}

/// Lists the kinds of the library.
fn contents_help() -> String {
    help_table(
        "Where the files in store paths are read from; the first that has a store path gives it",
        CONTENTS
            .iter()
            .map(|kind: &ContentKind| (kind.syntax(), kind.help)),
        "Without this option it is what goes with --closure: of cache: the same caches, of daemon \
         local and, for what is not there, daemon, of all else local.",
    )
}
