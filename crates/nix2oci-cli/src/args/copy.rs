//! What `copy` takes.

use std::num::NonZeroUsize;

use clap::Args;
use nix2oci::oci::{Platform, parse_platform};

use super::{BinaryCacheArgs, CacheDirArgs, ContentArgs, RecordArgs, RegistryArgs, output, values};

/// Copy images from one place to another, unchanged
///
/// Every digest stays. An image for several platforms is copied with all of
/// them unless --platform chooses one. Several images go into one layout or
/// archive under their own names; what they share is stored once. A recipe is
/// copied alone: its layers are packed, and are what it says or an error.
///
/// On success the digest of each image is on standard output; of an image that
/// went to a registry its name for ever, `HOST/REPOSITORY@sha256:…`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nix2oci copy docker://docker.io/library/debian:12 -o oci:debian:12
  nix2oci copy docker://debian:12 --platform linux/arm64 -o debian.tar
  nix2oci copy app.tar oci:tools:v2 docker://ghcr.io/team/db:1 -o all.tar
  nix2oci copy oci:app docker://ghcr.io/team/app -o - | podman load
  nix2oci copy app.tar -o docker://ghcr.io/team/app:1.2 --tag latest
  nix2oci copy recipe.json -o app.tar")]
pub(crate) struct CopyArgs {
    /// The images
    #[arg(value_name = "IMAGE", required = true, long_help = super::RECIPE_OR_IMAGE_HELP)]
    pub(crate) images: Vec<String>,
    /// Where they go
    #[arg(
        short,
        long,
        value_name = "DEST",
        help_heading = "Output",
        long_help = output::destinations_help(),
    )]
    pub(crate) output: String,
    /// What the image is called there [default: as it is called where it is]
    #[arg(long, value_name = "REF")]
    pub(crate) name: Option<String>,
    /// A tag of that name; more than one give the image several names
    #[arg(long, value_parser = values::tag)]
    pub(crate) tag: Vec<String>,
    /// Copy the image for this platform only, if there is one for each of several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub(crate) platform: Option<Platform>,
    /// The image that a recipe's is built on, for the layers that it does not make
    #[arg(long, value_name = "IMAGE", help_heading = "Recipes")]
    pub(crate) from: Option<String>,
    #[command(flatten, next_help_heading = "Recipes")]
    pub(crate) contents: ContentArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// Print what was copied as JSON instead of the digests alone
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) cache: CacheDirArgs,
    /// Worker threads [default: as many as the machine offers]
    #[arg(long, value_name = "N", value_parser = values::threads, allow_negative_numbers = true, help_heading = "Work")]
    pub(crate) threads: Option<NonZeroUsize>,
}
