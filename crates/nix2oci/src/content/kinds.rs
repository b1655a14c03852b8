//! The kinds of content sources that a user can name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "binary-cache")]
use crate::binary_cache::{BinaryCaches, CacheOptions, CacheUrl};
use crate::closure::Closure;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::store::{ExpectedNar, StoreDir, StorePath};

#[cfg(feature = "binary-cache")]
use super::BinaryCacheContent;
use super::{ContentSource, DaemonContent, FirstOf, LocalStore, VerifiedContent};

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
    /// Whether what it reads is on this machine.
    pub is_local: bool,
    /// Makes the source from the argument, which is not empty. Reads nothing
    /// yet.
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
        name: LOCAL,
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
            let content = DaemonContent::new(Arc::new(daemon));
            Ok(Arc::new(content.expecting(&options.expected)))
        },
    },
    ContentKind {
        name: CACHE,
        argument: "URL",
        argument_is_optional: false,
        help: "a binary cache: https://…, http://…, file:///… or a folder",
        is_local: false,
        open: |_, options, argument| open_caches(options, &Vec::from_iter(argument)),
    },
];

/// The kind that checks nothing by itself.
const LOCAL: &str = "local";

/// The kind of which several make one source.
const CACHE: &str = "cache";

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
    /// What the NARs of store paths must be, hash and size, as far as somebody
    /// told it: what comes from far away is held to it.
    pub expected: HashMap<StorePath, ExpectedNar>,
    /// How binary caches are reached and believed.
    #[cfg(feature = "binary-cache")]
    pub caches: CacheOptions,
    /// Binary caches that were asked already: they are taken where the same ones
    /// are named, so that nobody is asked twice.
    #[cfg(feature = "binary-cache")]
    pub opened: Option<Arc<BinaryCaches>>,
}

impl ContentOptions {
    /// Expects what a closure tells of its store paths.
    #[must_use]
    pub fn expecting(mut self, closure: &Closure) -> Self {
        let told = closure.expected_nars();
        let told = told.map(|(path, nar)| (path.clone(), nar));
        self.expected.extend(told);
        self
    }
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
/// Those of [`content_kind`], and those of the kind:
/// [`ErrorKind::FeatureMissing`](crate::ErrorKind::FeatureMissing), and
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an argument
/// that makes no sense.
pub fn open_content(
    cx: &Context,
    options: &ContentOptions,
    text: &str,
) -> Result<Arc<dyn ContentSource>> {
    let (kind, argument) = content_kind(text)?;
    (kind.open)(cx, options, argument)
}

/// Makes one source of all that `texts` name: each store path comes from the
/// first that has it. Binary caches are asked by their priorities, all in the
/// place of the first of them.
///
/// Beside a source far away, what the local store has is held to what is
/// expected as well, which costs one more SHA-256: a folder that an interrupted
/// build left there is not what somebody signed.
///
/// # Errors
///
/// Those of [`open_content`]; [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)
/// if nothing is named.
pub fn open_contents(
    cx: &Context,
    options: &ContentOptions,
    texts: &[impl AsRef<str>],
) -> Result<Arc<dyn ContentSource>> {
    let mut sources: Vec<(String, Arc<dyn ContentSource>)> = Vec::new();
    let mut urls = Vec::new();
    let mut place = 0;
    let kinds = texts.iter().map(|text| content_kind(text.as_ref()));
    let is_any_far = kinds.flatten().any(|(kind, _)| !kind.is_local);
    for text in texts.iter().map(AsRef::as_ref) {
        match content_kind(text)? {
            (kind, Some(url)) if kind.name == CACHE => {
                if urls.is_empty() {
                    place = sources.len();
                }
                urls.push(url);
            }
            (kind, argument) => {
                let mut source = (kind.open)(cx, options, argument)?;
                if is_any_far && kind.name == LOCAL {
                    let known = options.expected.iter();
                    let known = known.map(|(path, nar)| (path, nar.nar_hash));
                    let verified = VerifiedContent::of_known(source, &options.store_dir, known);
                    source = Arc::new(verified);
                }
                sources.push((text.to_owned(), source));
            }
        }
    }
    if !urls.is_empty() {
        sources.insert(place, (urls.join(", "), open_caches(options, &urls)?));
    }
    match sources.len() {
        0 => Err(Error::invalid("content sources", "expected one at least")),
        1 => Ok(sources.remove(0).1),
        _ => Ok(Arc::new(FirstOf::new(options.store_dir.clone(), sources))),
    }
}

#[cfg(feature = "binary-cache")]
fn open_caches(options: &ContentOptions, urls: &[&str]) -> Result<Arc<dyn ContentSource>> {
    let parse = |text: &&str| {
        let url = text.parse::<CacheUrl>();
        url.map_err(|error| Error::invalid("content source \"cache\"", error.to_string()))
    };
    let urls = urls.iter().map(parse).collect::<Result<Vec<_>>>()?;
    if urls.is_empty() {
        return Err(Error::invalid("content source \"cache\"", "expected a URL"));
    }
    let caches = match &options.opened {
        Some(opened) if opened.urls() == urls => Arc::clone(opened),
        _ => BinaryCaches::new(options.store_dir.clone(), urls, options.caches.clone()),
    };
    let expected = options.expected.clone();
    Ok(Arc::new(BinaryCacheContent::new(caches, expected)))
}

#[cfg(not(feature = "binary-cache"))]
fn open_caches(_: &ContentOptions, _: &[&str]) -> Result<Arc<dyn ContentSource>> {
    Err(crate::error::ErrorKind::FeatureMissing {
        what: "reading binary caches".to_owned(),
        feature: "binary-cache",
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::NarHash;

    fn problem(texts: &[&str]) -> String {
        let options = ContentOptions::default();
        let opened = open_contents(&Context::default(), &options, texts);
        opened
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn a_kind_that_is_not_there_gets_the_list() {
        for text in ["", "store", "db", ":x", "/nix/store"] {
            let error = problem(&[text]);
            for kind in CONTENTS {
                assert!(error.contains(&kind.syntax()), "{error}");
            }
        }
        assert_eq!(problem(&[]), "content sources: expected one at least");
    }

    #[test]
    fn arguments_are_asked_for_where_they_are_needed() {
        for kind in CONTENTS {
            let empty = problem(&[&format!("{}:", kind.name)]);
            assert!(empty.contains("an argument is missing"), "{empty}");
            let without = problem(&[kind.name]);
            assert_eq!(without.is_empty(), kind.argument_is_optional, "{without}");
        }
    }

    #[test]
    fn the_first_that_has_a_store_path_gives_it() {
        let dir = tempfile::tempdir().unwrap();
        let path: StorePath = format!("{}-x", "0".repeat(32)).parse().unwrap();
        let second = dir.path().join("second");
        let file = second.join("nix/store").join(path.as_str());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "text").unwrap();
        let local = |name: &str| format!("local:{}", dir.path().join(name).display());
        let cx = Context::default();
        let visited = |texts: &[String]| {
            let content = open_contents(&cx, &ContentOptions::default(), texts).unwrap();
            let mut files = 0;
            let seen = content.visit(&cx, &path, &mut |_| {
                files += 1;
                Ok(())
            });
            seen.map(|()| files)
        };
        assert_eq!(visited(&[local("first"), local("second")]).unwrap(), 1);
        let neither = visited(&[local("first"), local("third")]).unwrap_err();
        match neither.kind() {
            ErrorKind::UnknownPath { from, .. } => {
                assert_eq!(*from, format!("{} or {}", local("first"), local("third")));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    #[cfg(feature = "binary-cache")]
    fn beside_a_cache_the_local_store_is_held_to_what_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("nix/store");
        std::fs::create_dir_all(&store).unwrap();
        let path =
            |c: char| -> StorePath { format!("{}-x", String::from(c).repeat(32)).parse().unwrap() };
        for c in ['0', '1'] {
            std::fs::write(store.join(path(c).as_str()), "half of it").unwrap();
        }
        let mut options = ContentOptions {
            store_root: Some(dir.path().to_owned()),
            ..ContentOptions::default()
        };
        let expected = ExpectedNar {
            nar_hash: NarHash::new([7; 32]),
            nar_size: None,
        };
        options.expected.insert(path('0'), expected);
        let cx = Context::default();
        let visit = |texts: &[&str], c| {
            let content = open_contents(&cx, &options, texts).unwrap();
            content.visit(&cx, &path(c), &mut |_| Ok(()))
        };
        visit(&["local"], '0').unwrap();
        let both = ["local", "cache:/no/cache"];
        visit(&both, '1').unwrap();
        let wrong = visit(&both, '0').unwrap_err();
        assert!(
            matches!(wrong.kind(), ErrorKind::NarHashMismatch { .. }),
            "{wrong}"
        );
    }
}
