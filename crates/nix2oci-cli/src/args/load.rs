//! What `load` takes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::error::Error;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{BinaryCacheArgs, CacheDirArgs, ImageArgs, RegistryArgs, help_table};

/// What `load` takes, with the runtime told from the ROOTs.
#[derive(Debug)]
pub(crate) struct LoadArgs {
    pub(crate) image: ImageArgs,
    pub(crate) registry: RegistryArgs,
    pub(crate) caches: BinaryCacheArgs,
    pub(crate) cache: CacheDirArgs,
    /// The last argument, or why it is no runtime.
    pub(crate) runtime: Result<Runtime, UnknownRuntime>,
}

/// Hand an image to the loader of a local container runtime
///
/// Builds the image of the ROOTs, or takes one that is stored, and streams it
/// into the runtime's own loader; nothing of it is kept beside the runtime's
/// copy. On success its manifest digest is the only thing on standard output.
///
/// The digests of a stored image stay. Of the options that say what is in an
/// image, only --name and --tag change what it is called, and --platform says
/// which of several is meant.
#[derive(Debug, Args)]
#[command(
    override_usage = "nix2oci load [OPTIONS] <ROOT...|IMAGE> <RUNTIME>",
    after_long_help = "\
Examples:
  nix2oci load ./result podman --entrypoint /nix/store/…-hello/bin/hello
  nix2oci load oci:layout:v1 docker --name app:v1
  nix2oci load image.tar containerd:k8s.io
  nix2oci load ./result k3s"
)]
struct Typed {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    caches: BinaryCacheArgs,
    #[command(flatten)]
    cache: CacheDirArgs,
}

impl Args for LoadArgs {
    /// Options may stand between the ROOTs and the runtime, which Clap's own
    /// arguments before a last one cannot.
    fn augment_args(command: Command) -> Command {
        Typed::augment_args(command).mut_arg("roots", |roots| {
            roots
                .value_name("ROOT|IMAGE|RUNTIME")
                .help("Store paths or a stored image, and as the last one the runtime")
                .long_help(arguments_help())
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LoadArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let Typed {
            mut image,
            registry,
            caches,
            cache,
        } = Typed::from_arg_matches(matches)?;
        let last = image.roots.pop();
        let last = last.map(|last| last.to_string_lossy().into_owned());
        let runtime = match last {
            None => Err(UnknownRuntime::default()),
            Some(text) => text
                .parse()
                .map_err(|problem| UnknownRuntime { text, problem }),
        };
        Ok(Self {
            image,
            registry,
            caches,
            cache,
            runtime,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Says what may be loaded, and where.
fn arguments_help() -> String {
    let forms = [
        (
            "ROOT...",
            "store paths, or symlinks to them such as ./result: their closure",
        ),
        (
            "oci:DIR[:TAG], archive:FILE[:TAG], PATH",
            "or a stored image; a path is looked at, so that it may be the ./result of buildImage",
        ),
        (
            "FILE.json, PATH",
            "or a recipe that `resolve` or resolveImage wrote, whose layers are packed",
        ),
        ("podman", "and then: podman load"),
        ("docker", "docker load"),
        (
            "containerd[:NAMESPACE]",
            "ctr images import; the namespace is default, that of Kubernetes is k8s.io",
        ),
        (
            "k3s[:DIR]",
            "a file in /var/lib/rancher/k3s/agent/images, from where k3s imports images at its \
             start and, from version 1.32, at once",
        ),
    ];
    help_table(
        "What is loaded, and as the last argument the runtime",
        forms.map(|(form, meaning)| (form.to_owned(), meaning)),
        "The loaders find their runtime as they always do, by their own settings. ROOTs may be \
         left out if --closure names a file that says what they are.",
    )
}

/// The directory from which k3s imports images.
///
/// Source: <https://docs.k3s.io/installation/airgap>.
const K3S_IMAGES: &str = "/var/lib/rancher/k3s/agent/images";

/// What stands in the place of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnknownRuntime {
    /// What was typed; empty if nothing was.
    pub(crate) text: String,
    /// Why it is none, if there is more to say than that it is unknown.
    pub(crate) problem: String,
}

/// A container runtime with a loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Runtime {
    Podman,
    Docker,
    Containerd {
        namespace: String,
    },
    K3s {
        /// Where it looks for images.
        dir: PathBuf,
        /// Whether that is where it looks by default.
        is_default: bool,
    },
}

impl Runtime {
    /// Returns what people call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Containerd { .. } => "containerd",
            Self::K3s { .. } => "k3s",
        }
    }
}

impl FromStr for Runtime {
    /// Why not, if there is more to say than that it is unknown.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            (_, Some("")) => Err(", as nothing is behind its colon".to_owned()),
            ("podman", None) => Ok(Self::Podman),
            ("docker", None) => Ok(Self::Docker),
            ("containerd", namespace) => Ok(Self::Containerd {
                namespace: namespace.unwrap_or("default").to_owned(),
            }),
            ("k3s", dir) => Ok(Self::K3s {
                dir: dir.unwrap_or(K3S_IMAGES).into(),
                is_default: dir.is_none(),
            }),
            ("podman" | "docker", Some(_)) => Err(format!(", as {name} takes nothing behind it")),
            _ => Err(String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_known_by_name() {
        let containerd = |namespace: &str| Runtime::Containerd {
            namespace: namespace.to_owned(),
        };
        let k3s = |dir: &str, is_default| Runtime::K3s {
            dir: dir.into(),
            is_default,
        };
        for (text, runtime) in [
            ("podman", Runtime::Podman),
            ("docker", Runtime::Docker),
            ("containerd", containerd("default")),
            ("containerd:k8s.io", containerd("k8s.io")),
            ("k3s", k3s("/var/lib/rancher/k3s/agent/images", true)),
            ("k3s:images", k3s("images", false)),
        ] {
            assert_eq!(text.parse(), Ok(runtime), "{text}");
        }
        for text in ["", "runc", "podman:x", "docker:", "k3s:", "./result"] {
            assert!(text.parse::<Runtime>().is_err(), "{text}");
        }
    }
}
