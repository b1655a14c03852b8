//! What was typed.
//!
//! The first of two steps: these types hold the options as they are given and
//! check each by itself. [`select`](crate::select) makes of them what is meant.
//!
//! - one file for each group of options that several verbs share
//! - [`values`]: what a single value must look like

mod base;
mod binary_cache;
mod cache;
mod closure;
mod contents;
mod copy;
mod diff;
mod image;
mod index;
mod layer;
mod layers;
mod load;
mod lock;
mod next;
mod output;
mod push;
mod registry;
mod root;
mod simulate;
pub(crate) mod values;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use nix2oci::StoreDir;
use nix2oci::oci::{Platform, parse_platform};

pub(crate) use base::BaseArgs;
pub(crate) use binary_cache::{BinaryCacheArgs, CacheDirArgs, HeaderArg, parse_header};
pub(crate) use cache::{CacheArgs, CacheCommand};
pub(crate) use closure::{ClosureArgs, is_whole_store};
pub(crate) use contents::ContentArgs;
pub(crate) use copy::CopyArgs;
pub(crate) use diff::{DiffArgs, ExplainArgs};
pub(crate) use image::ConfigArgs;
pub(crate) use index::IndexArgs;
pub(crate) use layer::MakeLayerArgs;
pub(crate) use layers::LayerArgs;
pub(crate) use load::{LoadArgs, Runtime, UnknownRuntime};
pub(crate) use lock::LockArgs;
pub(crate) use next::NextParts;
pub(crate) use output::{PageArgs, RecordArgs, RunArgs};
pub(crate) use push::PushArgs;
pub(crate) use registry::{RegistryArgs, ReuseArgs};
pub(crate) use root::RootArgs;
pub(crate) use simulate::{PathName, SimulateArgs};

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  internal error
    2  wrong usage
    3  bad input: a broken file, a path not in the store, a bad reference
    4  the output could not be written
    5  an integrity check failed
    6  a registry refused the sign-in
    7  a registry failed or could not be reached
    8  `check` found problems, `diff --exit-code` differences, `lock --check` a name that stands
       for another image, or a gate of `plan` is closed
  130  interrupted";

/// Turn Nix store closures into OCI images: layered, reproducible, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "nix2oci",
    version,
    after_help = EXIT_CODES,
    disable_help_subcommand = false,
    subcommand_required = true,
    arg_required_else_help = true,
    // Programs that come with images have options, and who runs them adds others.
    args_override_self = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How to talk.
    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(Box<BuildArgs>),
    Push(Box<PushArgs>),
    Resolve(Box<ResolveArgs>),
    Layer(Box<MakeLayerArgs>),
    Plan(Box<PlanArgs>),
    Simulate(SimulateArgs),
    Load(Box<LoadArgs>),
    Copy(Box<CopyArgs>),
    Index(Box<IndexArgs>),
    Lock(Box<LockArgs>),
    Inspect(InspectArgs),
    Diff(DiffArgs),
    Explain(Box<ExplainArgs>),
    Check(CheckArgs),
    Cache(CacheArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

impl Command {
    /// Returns whether layers are sent to a registry, which shows in how
    /// progress is told.
    pub(crate) fn sends(&self) -> bool {
        match self {
            Self::Build(args) => args.output.starts_with("docker://"),
            Self::Copy(args) => args.output.starts_with("docker://"),
            Self::Index(args) => args.output.starts_with("docker://"),
            Self::Push(_) => true,
            _ => false,
        }
    }
}

/// Build an image from the closure of store paths
///
/// Reads the closure of the roots, decides which store paths share a layer,
/// packs the layers, and writes the image. On success its manifest digest is
/// the only thing on standard output, unless the image goes there.
///
/// The same inputs and options give the same bytes, whatever the machine.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nix2oci build ./result -o image.tar --name hello --cmd /bin/hello --contents ./result
  nix2oci build ./result -o oci:layout:v1 --compression zstd
  nix2oci build ./result -o - | podman load
  nix2oci build ./result -o docker://ghcr.io/team/app:1.2
  nix2oci build --closure attrs:\"$NIX_ATTRS_JSON_FILE#graph\" -o \"$out\"
  nix2oci build ./amd64 --platform linux/amd64 --next ./arm64 --platform linux/arm64 -o app.tar")]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Where the image goes
    #[arg(
        short,
        long,
        value_name = "DEST",
        help_heading = "Output",
        long_help = output::destinations_help(),
    )]
    pub(crate) output: String,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// Print what was built as JSON instead of the digest alone
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) reuse: ReuseArgs,
    /// Begin another image, for another platform: the result is an index of all
    ///
    /// What stands before and after it are parts of the command line. Each has
    /// its own ROOTs and options of the image, such as --platform; what is of
    /// all, such as --output, --name and the options of the registry, stands in
    /// any of them. --annotation index:KEY=VALUE is of the index.
    #[arg(long = "next", help_heading = "Several platforms")]
    pub(crate) next: bool,
    /// The parts behind it.
    #[arg(skip)]
    pub(crate) next_parts: NextParts,
}

/// Find out every digest of an image and write the recipe, but no layer
///
/// Does all the work of `build` except writing the layers: they are packed,
/// hashed and thrown away. The recipe is a small JSON file, its form the same
/// whether it goes to a file or to standard output.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) cache: CacheDirArgs,
    /// Where the recipe goes; standard output by default
    #[arg(
        short,
        long,
        value_name = "FILE",
        help_heading = "Output",
        default_value = "-",
        hide_default_value = true,
        value_hint = ValueHint::FilePath
    )]
    pub(crate) output: PathBuf,
    /// Write the manifest's digest, sha256:…
    #[arg(long, value_name = "FILE", help_heading = "Output", value_hint = ValueHint::FilePath)]
    pub(crate) digest_file: Option<PathBuf>,
    /// Begin another image, for another platform: the recipe is of an index of all
    ///
    /// As `build` takes it. `push` and `index` take the recipe.
    #[arg(long = "next", help_heading = "Several platforms")]
    pub(crate) next: bool,
    /// The parts behind it.
    #[arg(skip)]
    pub(crate) next_parts: NextParts,
}

/// Show which store paths would share a layer, and why
///
/// Reads no file's content, so it answers at once; where the closure has no
/// sizes, as graph: has none, those of the files are added up. Takes all options
/// of `build` that shape an image; sizes are those of the NAR serialisation,
/// before compression.
///
/// With --against it tells what `push` would find there and what it would send.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Tell what a push to there would send; writes nothing
    ///
    /// The size of a layer that was never packed is not known before it is: it
    /// is estimated from the layers that are there.
    /// For an image that is not in a registry it tells what a node would fetch
    /// that has it.
    #[arg(long, value_name = "IMAGE", help_heading = "Output")]
    pub(crate) against: Option<String>,
    /// Exit with 8 if more bytes of layers would be sent or fetched than this, such as 50MB
    ///
    /// Needs --against. The number is the one that the plan tells: an estimate
    /// where a layer was never packed.
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, requires = "against", help_heading = "Output")]
    pub(crate) max_upload: Option<u64>,
    /// Exit with 8 if the store paths have more bytes than this before compression
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, help_heading = "Output")]
    pub(crate) max_size: Option<u64>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) caches: BinaryCacheArgs,
    #[command(flatten)]
    pub(crate) reuse: ReuseArgs,
    /// Print the plan as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Begin another image, for another platform: each one's plan is shown
    ///
    /// As `build` takes it. With --against each is compared with the image for its
    /// platform, and --max-upload and --max-size are for each.
    #[arg(long = "next", help_heading = "Several platforms")]
    pub(crate) next: bool,
    /// The parts behind it.
    #[arg(skip)]
    pub(crate) next_parts: NextParts,
}

/// Show what an image is: manifest, config, layers and the store paths in them
///
/// Of an image for several platforms it shows the index, with the digest and the
/// size of each, unless --platform says which one is meant.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The image
    #[arg(value_name = "IMAGE", long_help = IMAGE_HELP)]
    pub(crate) image: String,
    /// Which image, if there is one for each of several platforms
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub(crate) platform: Option<Platform>,
    /// The store directory in the image
    #[arg(long, value_name = "DIR", default_value_t = StoreDir::default())]
    pub(crate) store_dir: StoreDir,
    /// Tell how many bytes a layer above replaces or deletes; reads the layers twice
    #[arg(long)]
    pub(crate) efficiency: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the manifest, or the index, as it is, byte by byte
    ///
    /// Without --platform it is the index of an image that is for several.
    #[arg(long, conflicts_with_all = ["json", "efficiency", "html"])]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// Verify every digest, size, diff ID and tar rule of an image
///
/// Prints `ok`, or every problem it finds and exits with 8. Warnings alone leave
/// it at `ok`: programs that the image's platform cannot run, links into the
/// store that lead to nothing in the image, modes that Nix does not give, and
/// directories that others than their owner may write to. What cannot be read
/// as an image at all, such as an archive that is cut short, exits with 3.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The image
    #[arg(value_name = "IMAGE", long_help = IMAGE_HELP)]
    pub(crate) image: String,
    /// Compare each file of its store paths with the store of this machine
    ///
    /// Names files with other bytes, modes or link targets, those that the store
    /// has and the image has not, and the other way round. Reads all of these
    /// store paths.
    #[arg(long)]
    pub(crate) against_store: bool,
    /// Look for the store below DIR, as in `nix --store DIR`
    #[arg(long, value_name = "DIR", requires = "against_store", value_hint = ValueHint::DirPath)]
    pub(crate) store_root: Option<PathBuf>,
    /// Which image to compare, if there are several platforms
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "against_store", value_parser = parse_platform)]
    pub(crate) platform: Option<Platform>,
    /// Print the findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

const RECIPE_OR_IMAGE_HELP: &str = "\
The images:

  oci:DIR[:TAG]       an OCI image layout directory
  archive:FILE[:TAG]  a tar, compressed or not, with an OCI layout or of `docker save`
  docker://HOST/REPO[:TAG][@DIGEST]
                      an image of a registry
  lock:FILE[:TAG]     what `lock` pinned; layers of --blob, else of the registry
  FILE.json           a recipe that `resolve` wrote, whose layers are packed
  PATH                one of these; looked at and recognised

A TAG says which, if there are several.";

const IMAGE_HELP: &str = "\
The image:

  oci:DIR[:TAG]       an OCI image layout directory
  archive:FILE[:TAG]  a tar, compressed or not, with an OCI layout or of `docker save`
  docker://HOST/REPO[:TAG][@DIGEST]
                      an image of a registry
  lock:FILE[:TAG]     what `lock` pinned; layers of --blob, else of the registry
  PATH                one of these files or directories; looked at and recognised

A TAG says which, if there are several.";

/// Print the completions of a shell
///
/// For bash, for example, put them into
/// ~/.local/share/bash-completion/completions/nix2oci.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Write the man pages of all verbs into a directory
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory, which is made if it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
}

/// What `build`, `resolve`, `plan` and `load` take: everything that says which image
/// is meant.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Store paths, or symlinks to them such as ./result
    ///
    /// The image gets them and everything they refer to. They may be left out
    /// if --closure names a file that says what the roots are. A single ROOT may
    /// also be a JSON file that describes an image: the `conf` of dockerTools'
    /// streamed images, or what nix2container's buildImage makes. The options
    /// are on top of what it says.
    #[arg(value_name = "ROOT", value_hint = ValueHint::AnyPath)]
    pub(crate) roots: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) base: BaseArgs,
    #[command(flatten)]
    pub(crate) closure: ClosureArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) root: RootArgs,
    #[command(flatten)]
    pub(crate) layers: LayerArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Returns a help text with a table of the library in it: each form, and below
/// it what it means. Both terminals and man pages keep such lines apart.
fn help_table<'a>(
    intro: &str,
    rows: impl IntoIterator<Item = (String, &'a str)>,
    outro: &str,
) -> String {
    let mut help = format!("{intro}:\n\n");
    for (form, meaning) in rows {
        help.push_str(&format!("  {form}\n    {meaning}\n"));
    }
    if !outro.is_empty() {
        help.push_str(&format!("\n{outro}"));
    }
    help
}

/// How much is said on standard error, and in which form.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct TalkArgs {
    /// How progress is shown
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "HOW",
        default_value_t = ProgressArg::Auto
    )]
    pub(crate) progress: ProgressArg,
    /// Say nothing but errors
    #[arg(short, long, global = true, overrides_with = "quiet")]
    pub(crate) quiet: bool,
    /// Say more: what was chosen; twice: `plan` lists every store path
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Lines, as for a log
    Plain,
    /// One JSON object a line, errors as well
    Json,
    /// None; warnings are still printed
    None,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_fit_together() {
        Cli::command().debug_assert();
    }
}
