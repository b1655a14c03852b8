//! `nix2oci completions`

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::{Outcome, Status};
use crate::output;

/// Prints what a shell completes `nix2oci` with.
pub(crate) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nix2oci", &mut script);
    output::print(&script)?;
    Ok(Status::Done)
}
