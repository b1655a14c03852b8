//! What `index` takes.

use std::num::NonZeroUsize;

use clap::Args;

use super::{BinaryCacheArgs, ContentArgs, RecordArgs, RegistryArgs, ReuseArgs, output, values};

/// Join images of several platforms in one image index
///
/// Whoever pulls or loads it gets the image for the own platform. Each image
/// keeps its digest. An image that is an index itself gives all its images, and
/// the attestations beside them. A recipe is packed from the store. Two images
/// for one platform are refused.
///
/// On success the digest of the index is on standard output; if it went to a
/// registry its name for ever, `HOST/REPOSITORY@sha256:…`. `build` and `push`
/// make such an index themselves with --next.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nix2oci index amd64.tar arm64.tar -o app.tar --name app:1.2
  nix2oci index amd64.json arm64.json -o docker://ghcr.io/team/app:1.2
  nix2oci index docker://ghcr.io/team/app:{amd64,arm64} -o docker://ghcr.io/team/app:1.2")]
pub(crate) struct IndexArgs {
    /// The images, in the order of the index
    #[arg(value_name = "IMAGE", required = true, long_help = super::RECIPE_OR_IMAGE_HELP)]
    pub(crate) images: Vec<String>,
    /// Where the index goes, and all that is in it
    #[arg(
        short,
        long,
        value_name = "DEST",
        help_heading = "Output",
        long_help = output::destinations_help(),
    )]
    pub(crate) output: String,
    /// The name of the index, such as app, app:1.0 or ghcr.io/me/app:1.0
    #[arg(long, value_name = "REF")]
    pub(crate) name: Option<String>,
    /// A tag of that name; more than one give the index several names
    #[arg(long, value_parser = values::tag)]
    pub(crate) tag: Vec<String>,
    /// An annotation of the index
    #[arg(long, value_name = "[index:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    #[command(flatten, next_help_heading = "Store paths of recipes")]
    pub(crate) contents: ContentArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// Print what was joined as JSON instead of the digest alone
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) reuse: ReuseArgs,
    /// Worker threads [default: as many as the machine offers]
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true, help_heading = "Work")]
    pub(crate) threads: Option<NonZeroUsize>,
}
