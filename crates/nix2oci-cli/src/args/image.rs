//! What the image's config says, and what it is called.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use nix2oci::oci::{Platform, parse_platform};

use super::values::{self, Created, Words};

/// Names, platform and config of the image.
#[derive(Debug, Args)]
#[command(next_help_heading = "Image")]
pub(crate) struct ConfigArgs {
    /// The image's name, such as hello, hello:1.0 or ghcr.io/me/hello:1.0 [default: localhost/ and the name of the root]
    #[arg(long, value_name = "REF")]
    pub(crate) name: Option<String>,
    /// A tag of that name; more than one give the image several names
    #[arg(long, value_parser = values::tag)]
    pub(crate) tag: Vec<String>,
    /// The platform of the programs [default: Linux on this machine's processor]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub(crate) platform: Option<Platform>,
    /// A config to start from, as JSON
    ///
    /// An OCI image config, its `config` object alone, or what docker and
    /// dockerTools write. Unknown fields are kept, and Healthcheck has no option. The
    /// options below are applied on top.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// The program to start
    ///
    /// One word for each option, in order, or all as a JSON array:
    /// --entrypoint /bin/app --entrypoint serve, or
    /// --entrypoint '["/bin/app","serve"]'. It is never split at spaces and no
    /// shell is put around it. It takes the Cmd of --config away, as in docker,
    /// since that was meant for the old entrypoint. --entrypoint '' removes both.
    #[arg(long, value_name = "WORD|JSON", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<Words>,
    /// Arguments of the program, or the program if there is no entrypoint
    ///
    /// Given as --entrypoint is: one word for each option, or a JSON array.
    /// --cmd '' removes that of --config.
    #[arg(long, value_name = "WORD|JSON", allow_hyphen_values = true)]
    pub(crate) cmd: Vec<Words>,
    /// An environment variable of the program
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Environment variables in a file, one on each line, as docker reads it
    ///
    /// Lines that begin with # are left out, quotes are a part of the value. Those
    /// of --env win.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) env_file: Vec<PathBuf>,
    /// The program's working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Who the program runs as, by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// A label
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// A port that the program listens on, or several, such as 8000-8010
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) expose: Vec<String>,
    /// A directory of the image for data that outlives the container
    #[arg(long, value_name = "DIR")]
    pub(crate) volume: Vec<String>,
    /// The signal that asks the program to stop, such as SIGINT
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// An annotation of the manifest
    ///
    /// index:KEY=VALUE is one of the index, which comes with images of several
    /// platforms only: those of `index`, and of --next.
    #[arg(long, value_name = "[index:|manifest:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Who made the image
    #[arg(long, value_name = "WHO")]
    pub(crate) author: Option<String>,
    /// When the image was made, or now [default: $SOURCE_DATE_EPOCH, else 1970-01-01T00:00:01Z]
    ///
    /// RFC 3339 such as 2024-05-01T12:00:00Z; a date, 2024-05-01 or 20240501, with
    /// a time of day or without, in UTC; the lastModifiedDate of a flake; or
    /// seconds since 1970, @1714564800. `now` gives every build another digest,
    /// but the layers stay the same.
    #[arg(long, value_name = "TIME|now")]
    pub(crate) created: Option<Created>,
}
