//! How registries are reached, who asks, and what is not sent again.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueHint};
use nix2oci::registry::DEFAULT_RETRIES;

use super::CacheDirArgs;
use super::values::{self, Creds};

/// How a registry is reached, and who asks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry")]
pub(crate) struct RegistryArgs {
    /// Take credentials from this file alone [default: $REGISTRY_AUTH_FILE, else where podman and docker keep them]
    ///
    /// A file as `podman login --authfile` and `docker login` write it. No other
    /// place is asked. Without this option and $REGISTRY_AUTH_FILE, the first of
    /// these that knows the registry:
    /// $XDG_RUNTIME_DIR/containers/auth.json (else /run/containers/UID/auth.json),
    /// ~/.config/containers/auth.json, $DOCKER_CONFIG/config.json (else
    /// ~/.docker/config.json), ~/.dockercfg, $DOCKER_AUTH_CONFIG, and
    /// $NETRC (else ~/.netrc). Credential helpers and stores that these files
    /// name are run as docker runs them, for at most 30 seconds.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) authfile: Option<PathBuf>,
    /// Sign in with these credentials; better with --creds-stdin
    ///
    /// They go to the registry of the image that is read or written, to no
    /// other. A password on the command line can be read by everybody on this
    /// machine while the command runs, and stays in the history of the shell;
    /// --creds-stdin takes it from standard input.
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<Creds>,
    /// Read USER:PASSWORD from standard input, or the password of --creds USER
    #[arg(long)]
    pub(crate) creds_stdin: bool,
    /// Directories with certificates for the registry
    ///
    /// Every *.crt is an authority to believe in addition, NAME.cert and
    /// NAME.key are a client certificate and its key. They are used instead of
    /// what ~/.config/containers/certs.d, /etc/containers/certs.d and
    /// /etc/docker/certs.d have in a directory named HOST:PORT.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cert_dir: Vec<PathBuf>,
    /// Authorities to believe in addition to the system's, in PEM; of binary caches too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Vec<PathBuf>,
    /// Whether the registry, or a binary cache, must prove who it is
    ///
    /// --tls-verify=false believes any certificate, and speaks plain HTTP if the
    /// registry does not know TLS: whoever is on the way can read the
    /// credentials and change the image. --ca-file is nearly always what is
    /// meant.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        hide_default_value = true,
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
    )]
    pub(crate) tls_verify: bool,
    /// Speak HTTP without TLS: credentials can be read on the way
    ///
    /// Not needed for a registry on this machine (localhost).
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// A file or directory with layers of images that a lock pins
    ///
    /// A directory is an OCI image layout, or has the layers under their
    /// digests, as HEX, sha256-HEX or sha256:HEX. A file may have any name; it
    /// is looked at. What is in none of them comes from the registry.
    #[arg(long, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath, help_heading = "Image")]
    pub(crate) blob: Vec<PathBuf>,
    /// Another repository of the registry that has some of the layers
    ///
    /// The registry is asked to link layers from there, so that nothing is
    /// sent. Costs a request for each layer that is not there, and needs the
    /// right to read that repository.
    #[arg(long, value_name = "REPO", value_parser = values::repository)]
    pub(crate) mount_from: Vec<String>,
    /// How often a request is repeated that failed for a reason that may pass
    #[arg(long, value_name = "N", default_value_t = DEFAULT_RETRIES, allow_negative_numbers = true)]
    pub(crate) retry: u32,
    /// How many requests run at once, fewer while the server asks for patience [default: 8; 32 of a binary cache]
    #[arg(long, value_name = "N", value_parser = values::jobs, allow_negative_numbers = true)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Send blobs in chunks of this size, such as 16M
    ///
    /// For registries behind a proxy that takes no large bodies. Slower: each
    /// chunk is a request that waits for the one before. Without it a blob is
    /// one request, and chunks are what is tried after a large one broke.
    #[arg(long, value_name = "SIZE", value_parser = values::chunk_size)]
    pub(crate) chunk_size: Option<NonZeroU64>,
}

/// Which layers are taken over from what is there already.
#[derive(Debug, Args)]
#[command(next_help_heading = "Layers")]
pub(crate) struct ReuseArgs {
    /// Take layers over from this image in a registry
    ///
    /// A layer of the same store paths that the image has is not packed. In the
    /// repository that is pushed to, it is not sent either; from another one of
    /// the same registry it is linked. The image that the destination's tag has
    /// now is looked at without this option. Whoever can push to the image that
    /// is named here decides what is in such a layer: name only images that you
    /// trust as you trust your own.
    #[arg(long, value_name = "docker://IMAGE", conflicts_with = "no_reuse")]
    pub(crate) reuse_from: Vec<String>,
    /// Take no layer over: pack everything, and send what the registry lacks
    ///
    /// Protects from layers that somebody else put into the repository under the
    /// key of other store paths. Costs the time to pack all layers; what the
    /// registry has by digest is still not sent. The same of an OCI layout that
    /// is there: without this option, layers that an image of the same tag or
    /// repository has are only hashed.
    #[arg(long)]
    pub(crate) no_reuse: bool,
    /// Make every layer that is taken over all the same, and compare
    ///
    /// Protects from layers that somebody else put into the repository under the
    /// key of other store paths: it is an error that names the layer. Costs the
    /// time to pack them and a request for each, which also finds blobs that the
    /// registry lost.
    #[arg(long, conflicts_with = "no_reuse")]
    pub(crate) verify_reused: bool,
    #[command(flatten)]
    pub(crate) cache: CacheDirArgs,
}

impl ReuseArgs {
    /// Returns whether a sink's layers are taken over as they are.
    pub(crate) fn reuses(&self) -> bool {
        !self.no_reuse && !self.verify_reused
    }
}
