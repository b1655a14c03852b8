//! Which store paths, and from where their references are known.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use nix2oci::StoreDir;
use nix2oci::closure::SOURCES;

use super::{ContentArgs, help_table};

/// Where the closure comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Closure")]
pub(crate) struct ClosureArgs {
    /// Where references are read from; more than one are joined
    #[arg(long, value_name = "KIND[:ARG]", long_help = sources_help())]
    pub(crate) closure: Vec<String>,
    /// A store path to leave out; what it refers to stays
    ///
    /// For a file that is a ROOT only for what it mentions. Nothing else may
    /// refer to it.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) leave_out: Vec<PathBuf>,
    /// The store directory that the paths say
    #[arg(long, value_name = "DIR", default_value_t = StoreDir::default(), value_hint = ValueHint::DirPath)]
    pub(crate) store_dir: StoreDir,
    #[command(flatten)]
    pub(crate) contents: ContentArgs,
}

impl ClosureArgs {
    /// Returns whether roots must be given: a file lists the store paths of one
    /// closure, all else those of a whole store or of many.
    pub(crate) fn needs_roots(&self) -> bool {
        self.closure.iter().all(|source| is_whole_store(source))
    }
}

/// Returns whether a closure source holds more than one closure.
pub(crate) fn is_whole_store(source: &str) -> bool {
    matches!(source.split(':').next(), Some("cache" | "daemon" | "db"))
}

/// Lists the sources of the library.
fn sources_help() -> String {
    help_table(
        "Where references are read from; more than one are joined",
        SOURCES.iter().map(|kind| (kind.syntax(), kind.help)),
        "Without this option it is db, or daemon where db cannot be read.",
    )
}
