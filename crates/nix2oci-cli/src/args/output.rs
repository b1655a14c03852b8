//! What is written besides the image, and how hard the machine works.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use nix2oci::sink::SINKS;

use super::{help_table, values};

/// Files that tell scripts what was made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct RecordArgs {
    /// Write name, digest, and the layers with digests and sizes as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the manifest's digest, sha256:…
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) digest_file: Option<PathBuf>,
}

/// A page for a browser.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// Also write a page for a browser: a map of layers and store paths, and tables
    ///
    /// The page is one file that loads nothing from anywhere.
    #[arg(long, value_name = "FILE", help_heading = "Output", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
}

/// How the work is done; none of it changes a byte of the image.
#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
pub(crate) struct RunArgs {
    /// Check the NAR hash of every store path while it is read
    #[arg(long)]
    pub(crate) verify: bool,
    /// Fail where a program cannot run on the image's platform
    ///
    /// Without it there is a warning. Looked at are executable files in bin,
    /// sbin and libexec of each store path while it is packed, and what the
    /// image starts: whether that is there, the interpreter of a script, and
    /// whether the image knows --user. Of a layer that is not packed the cache
    /// knows what was found before; where it does not, --strict looks into it,
    /// unless its store paths would have to be downloaded. Not looked at are the
    /// layers of a base and those of --layer-tar: `check` looks at all.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Worker threads [default: as many as the machine offers]
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true)]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// Lists the sinks of the library.
pub(super) fn destinations_help() -> String {
    let sinks = SINKS.iter().map(|sink| (sink.syntax.to_owned(), sink.help));
    let plain = [
        ("-".to_owned(), "archive: on standard output"),
        ("FILE".to_owned(), "archive:FILE"),
        (
            "docker://HOST/REPO[:TAG]".to_owned(),
            "a registry, as `push` does it",
        ),
    ];
    help_table("Where the image goes", sinks.chain(plain), "")
}
