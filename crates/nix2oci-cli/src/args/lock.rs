//! What `lock` takes.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use nix2oci::Digest;
use nix2oci::oci::{Platform, parse_platform};

use super::RegistryArgs;

/// Pin images of registries in a small file
///
/// The lock has their manifests and configs to the byte, and of each layer the
/// digest, the size and where it is. It is an IMAGE for every verb: layers are
/// taken from --blob, and what is not there from the registry. So a Nix build
/// fetches each layer as a fixed output by itself, once for all images that
/// have it, and reads the image without a network.
///
/// No layer is read. The same images give the same bytes, in lines that a review
/// can follow.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nix2oci lock docker://debian:12 --platform linux/amd64 -o debian.lock.json
  nix2oci lock --check debian.lock.json                 # 8 if the tag has moved
  nix2oci lock --update debian.lock.json
  nix2oci lock --fetch sha256:… debian.lock.json -o \"$out\"
  nix2oci copy debian.lock.json --blob ./layers -o debian.tar")]
pub(crate) struct LockArgs {
    /// The images, docker://HOST/REPO[:TAG][@DIGEST], or one lock
    #[arg(value_name = "IMAGE|FILE", required = true)]
    pub(crate) images: Vec<String>,
    /// Where the lock goes, or the layer; standard output by default
    #[arg(
        short,
        long,
        value_name = "FILE",
        help_heading = "Output",
        value_hint = ValueHint::FilePath
    )]
    pub(crate) output: Option<PathBuf>,
    /// Pin the image for this platform; several may be chosen [default: all of them]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        value_parser = parse_platform,
        conflicts_with_all = ["check", "update", "fetch"]
    )]
    pub(crate) platform: Vec<Platform>,
    /// Exit with 8 if a name in this lock stands for another image by now
    #[arg(long, conflicts_with_all = ["update", "fetch", "output"])]
    pub(crate) check: bool,
    /// Pin what the names in this lock stand for now; without --output in its place
    #[arg(long, conflicts_with = "fetch")]
    pub(crate) update: bool,
    /// Fetch one layer of this lock, and verify it
    #[arg(long, value_name = "DIGEST")]
    pub(crate) fetch: Option<Digest>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}
