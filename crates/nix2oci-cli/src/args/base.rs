//! The image that another one is built on.

use clap::Args;
use nix2oci::oci::{Platform, parse_platform};

/// What an image is built on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Base image")]
pub(crate) struct BaseArgs {
    /// Build on this image, as a Dockerfile's FROM does
    ///
    /// Its layers are at the bottom of the new image, as they are, and count in
    /// --max-layers. Its config is the beginning of the new one's: variables,
    /// labels, ports and volumes are joined, --entrypoint takes its Cmd away,
    /// and the rest is replaced by what is said. Store paths that it has are not
    /// added again. IMAGE is as for `inspect`: oci:DIR, archive:FILE, a PATH or
    /// docker://HOST/REPO[:TAG][@DIGEST].
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,
    /// Which image of --from, if there is one for each of several platforms [default: --platform, else Linux on this machine's processor]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform, requires = "from")]
    pub(crate) from_platform: Option<Platform>,
}
