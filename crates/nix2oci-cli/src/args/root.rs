//! What is at the root of the image beside the store.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Files outside the store.
#[derive(Debug, Args)]
#[command(next_help_heading = "Root")]
pub(crate) struct RootArgs {
    /// Store paths whose files get a symlink at the image's root
    ///
    /// --contents /nix/store/…-hello makes /bin/hello a symlink to
    /// /nix/store/…-hello/bin/hello, as `contents` of dockerTools does. The
    /// path becomes a root of the closure.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) contents: Vec<PathBuf>,
    /// Store paths whose files are copied to the image's root
    ///
    /// --copy-to-root /nix/store/…-site makes /index.html a file, as
    /// `copyToRoot` of nix2container does. What the path refers to is in the
    /// image; the path itself only if something else needs it.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) copy_to_root: Vec<PathBuf>,
    /// What is at the root, as JSON: files, directories, users, modes, owners
    ///
    /// Also certificates, /bin/sh, /usr/bin/env, time zone, /tmp, capabilities
    /// and rules for modes and owners of store paths. ROOT-TREE.md tells the
    /// format. May be given more than once; - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) root_tree: Vec<PathBuf>,
    /// Modes, owners and attributes of store paths, as JSON
    ///
    /// The `rules` of a document of --root-tree, of which all else is left out:
    /// for an image whose root comes from elsewhere, such as --layer-tar. May be
    /// given more than once; rules of --root-tree win.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) rules: Vec<PathBuf>,
    /// Put a Nix database into the image, so that Nix works in a container
    ///
    /// /nix/var/nix gets a database in which all store paths of the image are
    /// valid, registered at the time of --mtime, and a garbage collector root
    /// for each ROOT. What the database of a base has is in it too. Nix itself
    /// and a user that it knows, in $USER or /etc/passwd, are for the image to
    /// bring. Needs the NAR hash of every path: --closure graph: has none.
    #[arg(long)]
    pub(crate) with_nix_db: bool,
}
