//! What `diff` and `explain` take.

use clap::Args;
use nix2oci::StoreDir;
use nix2oci::oci::{Platform, parse_platform};

use super::{BinaryCacheArgs, CacheDirArgs, ImageArgs, PageArgs, RegistryArgs};

/// Show what changed from one image to another
///
/// Tells which layers are kept, new and gone, how much a node that has the
/// first image pulls for the second, which store paths and packages were added,
/// removed, changed or rebuilt, and what differs in the config. Nothing is
/// written.
///
/// What is in an image of nix2oci its manifest tells, so that comparing two
/// images of a registry costs four small requests.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nix2oci diff docker://ghcr.io/team/app:1.1 docker://ghcr.io/team/app:1.2
  nix2oci diff old.tar new.tar -v
  nix2oci plan ./result --against docker://ghcr.io/team/app --json > plan.json
  nix2oci diff docker://ghcr.io/team/app plan.json
  nix2oci diff --exit-code recipe.json oci:layout:v1")]
pub(crate) struct DiffArgs {
    /// The image before
    #[arg(value_name = "IMAGE", long_help = DIFF_IMAGES)]
    pub(crate) from: String,
    /// The image after
    #[arg(
        value_name = "IMAGE",
        long_help = "The image after, given as the first"
    )]
    pub(crate) to: String,
    /// Which images, if there is one for each of several platforms
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub(crate) platform: Option<Platform>,
    /// The store directory in the images
    #[arg(long, value_name = "DIR", default_value_t = StoreDir::default())]
    pub(crate) store_dir: StoreDir,
    /// Read the layers of images in a registry, if nothing else tells what is in them
    ///
    /// It downloads them. Without it the store paths of an image that another
    /// program made are not known. Layers of images on this machine are read
    /// whenever that is needed.
    #[arg(long)]
    pub(crate) read_layers: bool,
    /// Exit with 8 if the images differ
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Print the differences as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const DIFF_IMAGES: &str = "\
The image before:

  oci:DIR[:TAG]       an OCI image layout directory
  archive:FILE[:TAG]  a tar, compressed or not, with an OCI layout or of `docker save`
  docker://HOST/REPO[:TAG][@DIGEST]
                      an image of a registry
  FILE.json           a recipe, or what `plan --json` or --metadata-file wrote
  PATH                one of these; looked at and recognised

A TAG says which, if there are several.";

/// Tell why a store path is in an image
///
/// Prints the shortest chain of references from a root to it, what refers to
/// it, and what would not be there without it.
///
/// For ROOT the closure says what refers to what. For an image on this machine
/// it is found out as Nix does it, by the hashes in the files: all layers are
/// read. For a recipe the closure of its store paths is asked for, from the Nix
/// database or --closure. The roots of an image are the store paths that its
/// entrypoint, command and environment name, those that symlinks outside the
/// store lead to, and what nothing refers to.
#[derive(Debug, Args)]
#[command(
    mut_arg("roots", |arg| arg
        .value_name("ROOT|IMAGE")
        .help("Store paths, or an image")
        .long_help(EXPLAIN_POSITIONALS)),
    after_long_help = "\
Examples:
  nix2oci explain ./result --path openssl
  nix2oci explain image.tar --path glibc --all
  nix2oci explain /nix/store/…-app --closure path-info:paths.json --path python3-3.12.4"
)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// The store path to explain
    ///
    /// In full, or its base name, its name with or without the version, the
    /// beginning of its hash, or a part of its name. If several store paths have
    /// it, they are listed.
    #[arg(long, value_name = "NAME", help_heading = "Question")]
    pub(crate) path: String,
    /// Print all chains, as a tree, and not only the shortest
    ///
    /// What is below a store path is printed once; where it comes again it is
    /// marked with (*).
    #[arg(long, help_heading = "Question")]
    pub(crate) all: bool,
    /// Read the layers of an image in a registry, which downloads all of it, twice
    #[arg(long, help_heading = "Question")]
    pub(crate) read_layers: bool,
    /// Print the answer as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) cache: CacheDirArgs,
}

const EXPLAIN_POSITIONALS: &str = "\
What the store path is in.

  ROOT...                    store paths, or symlinks to them such as ./result;
                             left out with a --closure that says the roots
  FILE.json                  a recipe that `resolve` wrote
  oci:DIR[:TAG]              an OCI image layout directory
  archive:FILE[:TAG]         a tar with an OCI layout or of `docker save`
  docker://HOST/REPO[:TAG]   an image of a registry, with --read-layers
  PATH                       a recipe, layout or archive is recognised";
