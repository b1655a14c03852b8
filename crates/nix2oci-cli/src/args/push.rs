//! What `push` takes.

use clap::Args;

use super::{BinaryCacheArgs, ImageArgs, NextParts, RecordArgs, RegistryArgs, ReuseArgs};

/// Push an image to a registry: only what it lacks
///
/// Sends to `docker://HOST/REPOSITORY[:TAG]` what is given before it: store
/// paths, whose image is built on the way; or an image, which is a recipe, a
/// layout, an archive, or an image of a registry. Several destinations are
/// tags of one repository.
///
/// The image that the tag has now is looked at first. Layers that it has
/// already are not read, packed or asked for, on any machine, so that a push of
/// a small change sends the change.
///
/// On success the image's name for ever, `HOST/REPOSITORY@sha256:…`, is the
/// only thing on standard output.
#[derive(Debug, Args)]
#[command(
    mut_arg("roots", |arg| arg
        .value_name("ROOT|IMAGE")
        .help("Store paths or an image, then docker://HOST/REPOSITORY[:TAG], once for each tag")
        .long_help(POSITIONALS)
        .required(true)),
    after_long_help = "\
Examples:
  nix2oci push ./result docker://ghcr.io/team/app:1.2 docker://ghcr.io/team/app:latest
  nix2oci push ./result docker://ghcr.io/team/app:$SHA --reuse-from docker://ghcr.io/team/app:main
  nix2oci push recipe.json docker://localhost:5000/app
  nix2oci push ./amd64 --platform linux/amd64 --next ./arm64 --platform linux/arm64 docker://ghcr.io/team/app
  nix2oci push docker://staging.example.org/app:1 docker://prod.example.org/app:1
  kubectl set image deploy/app app=$(nix2oci push ./result docker://ghcr.io/team/app)"
)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) reuse: ReuseArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// Print what was pushed as JSON instead of the name alone
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Begin another image, for another platform: an index of all is pushed
    ///
    /// What stands before and after it are parts of the command line. Each has
    /// its own ROOTs, or an image, and options of the image, such as --platform;
    /// what is of all stands in any of them, and the destinations at the end.
    /// --annotation index:KEY=VALUE is of the index.
    #[arg(long = "next", help_heading = "Several platforms")]
    pub(crate) next: bool,
    /// The parts behind it.
    #[arg(skip)]
    pub(crate) next_parts: NextParts,
}

const POSITIONALS: &str = "\
What is pushed, and at the end where it goes.

  ROOT...                    store paths, or symlinks to them such as ./result;
                             left out with a --closure that says the roots
  FILE.json                  a recipe that `resolve` wrote
  oci:DIR[:TAG]              an OCI image layout directory
  archive:FILE[:TAG]         a tar with an OCI layout or of `docker save`
  docker://HOST/REPO[:TAG]   an image of a registry, or of several platforms
  PATH                       a recipe, layout or archive is recognised
  docker://HOST/REPO[:TAG]   at the end: where it goes; latest without a TAG";
