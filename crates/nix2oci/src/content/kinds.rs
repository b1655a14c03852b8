//! The kinds of content sources that a user can name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::store::StoreDir;

use super::{ContentSource, DaemonContent, LocalStore};

/// Makes a source from what follows the colon.
pub type OpenContent =
    fn(&Context, &ContentOptions, Option<&str>) -> Result<Arc<dyn ContentSource>>;

/// A kind of content source, as a user names it: `KIND` or `KIND:ARGUMENT`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ContentKind {
    /// The kind.
    pub name: &'static str,
    /// What the argument is, such as `ROOT`.
    pub argument: &'static str,
    /// Whether the kind can go without.
    pub argument_is_optional: bool,
    /// What it reads, in one line.
    pub help: &'static str,
    /// Whether what it reads is on this machine's disk.
    pub is_local: bool,
    /// Makes the source from the argument, which is not empty.
    pub open: OpenContent,
}

impl ContentKind {
    /// Returns how the kind is written, such as `local[:ROOT]`.
    pub fn syntax(&self) -> String {
        let Self { name, argument, .. } = self;
        if self.argument_is_optional {
            format!("{name}[:{argument}]")
        } else {
            format!("{name}:{argument}")
        }
    }
}

/// All kinds, in the order of the help.
pub const CONTENTS: &[ContentKind] = &[
    ContentKind {
        name: "local",
        argument: "ROOT",
        argument_is_optional: true,
        help: "the store on this machine's disk, below ROOT or the store root if there is one",
        is_local: true,
        open: |_, options, argument| {
            let root = argument.map(Path::new).or(options.store_root.as_deref());
            Ok(Arc::new(match root {
                Some(root) => LocalStore::below(root, &options.store_dir),
                None => LocalStore::new(&options.store_dir),
            }))
        },
    },
    ContentKind {
        name: "daemon",
        argument: "SOCKET",
        argument_is_optional: true,
        help: "the Nix daemon, also for users who may not read the store",
        is_local: true,
        open: |_, options, argument| {
            let socket = argument.map(Path::new).or(options.daemon_socket.as_deref());
            let socket = match socket {
                Some(socket) => socket.to_owned(),
                None => Daemon::default_socket(options.store_root.as_deref()),
            };
            let daemon = Daemon::new(socket, options.store_dir.clone());
            Ok(Arc::new(DaemonContent::new(Arc::new(daemon))))
        },
    },
];

/// What all kinds of content sources may need.
#[derive(Debug, Clone, Default)]
pub struct ContentOptions {
    /// The directory that store paths are in.
    pub store_dir: StoreDir,
    /// The directory that stands for `/`, for a store that lies elsewhere.
    pub store_root: Option<PathBuf>,
    /// The socket of the Nix daemon, if it is not
    /// [`Daemon::default_socket`].
    pub daemon_socket: Option<PathBuf>,
}

/// Returns the kind that `text` names, and its argument: `KIND` or
/// `KIND:ARGUMENT`, see [`CONTENTS`].
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), listing the kinds
/// if there is no such one, or if an argument is missing.
pub fn content_kind(text: &str) -> Result<(&'static ContentKind, Option<&str>)> {
    let (name, argument) = match text.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (text, None),
    };
    let invalid = |problem| Error::invalid(format!("content source {text:?}"), problem);
    let Some(kind) = CONTENTS.iter().find(|kind| kind.name == name) else {
        let kinds: Vec<_> = CONTENTS.iter().map(ContentKind::syntax).collect();
        return Err(invalid(format!("expected one of {}", kinds.join(", "))));
    };
    match argument {
        None if kind.argument_is_optional => Ok((kind, None)),
        None | Some("") => Err(invalid(format!(
            "an argument is missing, expected {}",
            kind.syntax()
        ))),
        argument => Ok((kind, argument)),
    }
}

/// Makes the source that `text` names, see [`CONTENTS`].
///
/// # Errors
///
/// Those of [`content_kind`], and those of the kind.
pub fn open_content(
    cx: &Context,
    options: &ContentOptions,
    text: &str,
) -> Result<Arc<dyn ContentSource>> {
    let (kind, argument) = content_kind(text)?;
    (kind.open)(cx, options, argument)
}
