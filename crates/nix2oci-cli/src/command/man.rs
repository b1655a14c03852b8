//! `nix2oci man`

use std::fs;

use clap::CommandFactory as _;
use nix2oci::Error;

use crate::args::{Cli, ManArgs};
use crate::exit::{Outcome, Status};

/// Writes `nix2oci.1` and one page for each verb.
pub(crate) fn man(args: &ManArgs) -> Outcome {
    fs::create_dir_all(&args.dir).map_err(Error::writing("create", &args.dir))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .map_err(Error::writing("write man pages to", &args.dir))?;
    Ok(Status::Done)
}
