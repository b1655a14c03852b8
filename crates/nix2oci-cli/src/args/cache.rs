//! What is kept for the next time.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Look after what is kept for the next time
///
/// `push` notes which blob each layer became. A layer that a later push needs
/// again is then not packed if the registry has it. An entry is some 350 bytes:
/// the cache holds no layer, and without it nothing is lost but time.
///
/// Beside it is what binary caches said of store paths, so that they are not
/// asked again: for 30 days, and for an hour where they had nothing.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    Info(CacheInfoArgs),
    Prune(CachePruneArgs),
    Clear(CacheClearArgs),
}

impl CacheCommand {
    /// Returns which cache is meant.
    pub(crate) fn place(&self) -> &CachePlaceArgs {
        match self {
            Self::Info(args) => &args.place,
            Self::Prune(args) => &args.place,
            Self::Clear(args) => &args.place,
        }
    }
}

/// Show where the cache is, its size, and when it was used
#[derive(Debug, Args)]
pub(crate) struct CacheInfoArgs {
    #[command(flatten)]
    pub(crate) place: CachePlaceArgs,
}

/// Remove what was not used for long
///
/// When an entry was used last is known to a day. What binary caches said goes
/// when it does not count any more, or was asked for before that.
#[derive(Debug, Args)]
pub(crate) struct CachePruneArgs {
    #[command(flatten)]
    pub(crate) place: CachePlaceArgs,
    /// Remove what was not used for so many days
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub(crate) unused_for: u32,
    /// Of the layers that are left, keep so many: those that were used last
    #[arg(long, value_name = "N")]
    pub(crate) max_entries: Option<u64>,
}

/// Remove all entries
///
/// Files that are not the cache's stay, and so does the directory.
#[derive(Debug, Args)]
pub(crate) struct CacheClearArgs {
    #[command(flatten)]
    pub(crate) place: CachePlaceArgs,
}

/// Which cache, and how to tell of it.
#[derive(Debug, Args)]
pub(crate) struct CachePlaceArgs {
    /// The directory of the cache [default: $XDG_CACHE_HOME/nix2oci, else ~/.cache/nix2oci]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
