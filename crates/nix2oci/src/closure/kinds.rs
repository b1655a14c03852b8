//! The kinds of sources that a user can name.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "binary-cache")]
use crate::binary_cache::{BinaryCaches, CacheOptions, CacheUrl};
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{Error, ErrorKind, Result};
use crate::input::{InputKind, read_stream};
use crate::store::StoreDir;

use super::document::Input;
use super::{AttrsJson, ClosureSource, PathInfoJson, ReferenceGraph, Registration};

/// Makes a source from what follows the colon.
pub type OpenSource = fn(&SourceOptions, Option<&str>) -> Result<Box<dyn ClosureSource>>;

/// A kind of closure source, as a user names it: `KIND` or `KIND:ARGUMENT`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SourceKind {
    /// The kind.
    pub name: &'static str,
    /// What the argument is, such as `FILE[#KEY]`.
    pub argument: &'static str,
    /// Whether the kind can go without.
    pub argument_is_optional: bool,
    /// What it reads, in one line.
    pub help: &'static str,
    /// Makes the source from the argument, which is not empty. Does not read
    /// it yet, standard input excepted.
    pub open: OpenSource,
}

impl SourceKind {
    /// Returns how the kind is written, such as `db[:NIX_STATE_DIR]`.
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
pub const SOURCES: &[SourceKind] = &[
    SourceKind {
        name: "attrs",
        argument: "FILE[#KEY]",
        argument_is_optional: false,
        help: "structured attributes: the graph KEY, or all graphs, of .attrs.json",
        open: open_attrs,
    },
    SourceKind {
        name: "graph",
        argument: "FILE|-",
        argument_is_optional: false,
        help: "the text that exportReferencesGraph writes without structured attributes",
        open: |options, argument| {
            Ok(Box::new(ReferenceGraph {
                input: options.input("graph", argument)?,
                store_dir: options.store_dir.clone(),
            }))
        },
    },
    SourceKind {
        name: "registration",
        argument: "FILE|-",
        argument_is_optional: false,
        help: "the registration of nixpkgs' closureInfo, or the output of nix-store --dump-db",
        open: |options, argument| {
            Ok(Box::new(Registration {
                input: options.input("registration", argument)?,
                store_dir: options.store_dir.clone(),
            }))
        },
    },
    SourceKind {
        name: "path-info",
        argument: "FILE|-",
        argument_is_optional: false,
        help: "the output of nix path-info --json --recursive, of any version of Nix",
        open: |options, argument| {
            Ok(Box::new(PathInfoJson {
                input: options.input("path-info", argument)?,
                store_dir: options.store_dir.clone(),
            }))
        },
    },
    SourceKind {
        name: "db",
        argument: "NIX_STATE_DIR",
        argument_is_optional: true,
        help: "the Nix database, by default of /nix/var/nix below the store root",
        open: open_db,
    },
    SourceKind {
        name: "daemon",
        argument: "SOCKET",
        argument_is_optional: true,
        help: "the Nix daemon, also for users who may not read the database",
        open: |options, argument| Ok(Box::new(options.daemon(argument.map(Path::new)))),
    },
    SourceKind {
        name: CACHE,
        argument: "URL",
        argument_is_optional: false,
        help: "a binary cache: https://…, http://…, file:///… or a folder",
        open: open_cache,
    },
];

/// The kind of which several make one source.
const CACHE: &str = "cache";

/// What standard input is called in errors.
const STDIN: &str = "standard input";

/// Opens standard input; called when a source needs it.
pub type OpenStdin = Arc<dyn Fn() -> Box<dyn Read> + Send + Sync>;

/// What all kinds of sources may need.
#[derive(Clone, Default)]
pub struct SourceOptions {
    /// The directory that store paths are in.
    pub store_dir: StoreDir,
    /// The directory that stands for `/`, for a store that lies elsewhere.
    pub store_root: Option<PathBuf>,
    /// The socket of the Nix daemon, if it is not
    /// [`Daemon::default_socket`].
    pub daemon_socket: Option<PathBuf>,
    /// Opens standard input, which the argument `-` stands for; without it `-`
    /// is refused.
    pub stdin: Option<OpenStdin>,
    /// How binary caches are reached and believed.
    #[cfg(feature = "binary-cache")]
    pub caches: CacheOptions,
}

/// What [`open_sources`] makes.
pub struct OpenedSources {
    /// The sources, in order.
    pub sources: Vec<Box<dyn ClosureSource>>,
    /// The binary caches among them, from which the contents of store paths may
    /// come as well.
    #[cfg(feature = "binary-cache")]
    pub caches: Option<Arc<BinaryCaches>>,
}

impl fmt::Debug for OpenedSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("OpenedSources")
            .field("sources", &names)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceOptions")
            .field("store_dir", &self.store_dir)
            .field("store_root", &self.store_root)
            .field("daemon_socket", &self.daemon_socket)
            .finish_non_exhaustive()
    }
}

impl SourceOptions {
    /// Returns Nix's state directory: `/nix/var/nix`, below the store root if
    /// there is one.
    pub fn state_dir(&self) -> PathBuf {
        let root = self.store_root.as_deref().unwrap_or(Path::new("/"));
        root.join("nix/var/nix")
    }

    /// Returns the Nix daemon at `socket`, by default the one of these options.
    /// Does not connect yet.
    pub fn daemon(&self, socket: Option<&Path>) -> Daemon {
        let socket = match socket.or(self.daemon_socket.as_deref()) {
            Some(socket) => socket.to_owned(),
            None => Daemon::default_socket(self.store_root.as_deref()),
        };
        Daemon::new(socket, self.store_dir.clone())
    }

    /// Returns the binary caches of these addresses, which are asked in the
    /// order of their priorities. Asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for what is no address of a cache.
    #[cfg(feature = "binary-cache")]
    pub fn binary_caches(&self, urls: &[&str]) -> Result<Arc<BinaryCaches>> {
        let parse = |text: &&str| {
            let url = text.parse::<CacheUrl>();
            url.map_err(|error| Error::invalid("closure source \"cache\"", error.to_string()))
        };
        let urls = urls.iter().map(parse).collect::<Result<Vec<_>>>()?;
        let (store_dir, options) = (self.store_dir.clone(), self.caches.clone());
        Ok(BinaryCaches::new(store_dir, urls, options))
    }

    /// Returns what the argument of `kind` stands for.
    fn input(&self, kind: &str, argument: Option<&str>) -> Result<Input> {
        match argument {
            None => Err(Error::invalid(
                format!("closure source {kind:?}"),
                "expected a file",
            )),
            Some("-") => {
                let Some(open) = &self.stdin else {
                    return Err(Error::invalid(
                        format!("closure source \"{kind}:-\""),
                        "there is no standard input to read",
                    ));
                };
                let bytes = read_stream(open(), STDIN, InputKind::Closure)?;
                Ok(Input::Bytes {
                    name: STDIN.to_owned(),
                    bytes,
                })
            }
            Some(file) => Ok(Input::File(file.into())),
        }
    }
}

/// Makes the source that `text` names: `KIND` or `KIND:ARGUMENT`, see
/// [`SOURCES`].
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`], listing the kinds if there is no such one;
/// [`ErrorKind::FeatureMissing`].
pub fn open_source(options: &SourceOptions, text: &str) -> Result<Box<dyn ClosureSource>> {
    let (name, argument) = match text.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (text, None),
    };
    let invalid = |problem| Error::invalid(format!("closure source {text:?}"), problem);
    let Some(kind) = SOURCES.iter().find(|kind| kind.name == name) else {
        let kinds: Vec<_> = SOURCES.iter().map(SourceKind::syntax).collect();
        return Err(invalid(format!("expected one of {}", kinds.join(", "))));
    };
    match argument {
        None if !kind.argument_is_optional => {}
        Some("") => {}
        _ => return (kind.open)(options, argument),
    }
    Err(invalid(format!(
        "an argument is missing, expected {}",
        kind.syntax()
    )))
}

/// Makes the sources that `texts` name, as [`open_source`] does, but one of all
/// binary caches, so that they are asked by their priorities. It has the place
/// of the first of them.
///
/// # Errors
///
/// Those of [`open_source`].
pub fn open_sources(options: &SourceOptions, texts: &[impl AsRef<str>]) -> Result<OpenedSources> {
    let mut sources = Vec::new();
    let mut caches = Vec::new();
    let mut place = 0;
    for text in texts.iter().map(AsRef::as_ref) {
        match text.split_once(':') {
            Some((CACHE, url)) if !url.is_empty() => {
                if caches.is_empty() {
                    place = sources.len();
                }
                caches.push(url);
            }
            _ => sources.push(open_source(options, text)?),
        }
    }
    join_caches(options, sources, place, &caches)
}

#[cfg(feature = "binary-cache")]
fn join_caches(
    options: &SourceOptions,
    mut sources: Vec<Box<dyn ClosureSource>>,
    place: usize,
    urls: &[&str],
) -> Result<OpenedSources> {
    let caches = match urls {
        [] => None,
        urls => Some(options.binary_caches(urls)?),
    };
    if let Some(caches) = &caches {
        let caches = Arc::clone(caches);
        sources.insert(place, Box::new(super::BinaryCacheClosure { caches }));
    }
    Ok(OpenedSources { sources, caches })
}

#[cfg(not(feature = "binary-cache"))]
fn join_caches(
    options: &SourceOptions,
    mut sources: Vec<Box<dyn ClosureSource>>,
    place: usize,
    urls: &[&str],
) -> Result<OpenedSources> {
    if let Some(url) = urls.first() {
        sources.insert(place, open_cache(options, Some(url))?);
    }
    Ok(OpenedSources { sources })
}

#[cfg(feature = "binary-cache")]
fn open_cache(options: &SourceOptions, argument: Option<&str>) -> Result<Box<dyn ClosureSource>> {
    let urls: Vec<_> = argument.into_iter().collect();
    if urls.is_empty() {
        return Err(Error::invalid("closure source \"cache\"", "expected a URL"));
    }
    let caches = options.binary_caches(&urls)?;
    Ok(Box::new(super::BinaryCacheClosure { caches }))
}

#[cfg(not(feature = "binary-cache"))]
fn open_cache(_: &SourceOptions, _: Option<&str>) -> Result<Box<dyn ClosureSource>> {
    Err(ErrorKind::FeatureMissing {
        what: "reading binary caches".to_owned(),
        feature: "binary-cache",
    }
    .into())
}

/// Returns the source to use when the user names none: the Nix database of
/// [`SourceOptions::state_dir`], and where that cannot be read, the Nix daemon
/// of [`SourceOptions::daemon`].
///
/// # Errors
///
/// If there is no daemon, why the database cannot be read:
/// [`ErrorKind::Database`] with the file and the cause, or
/// [`ErrorKind::FeatureMissing`] without the feature `db`. The caller may then
/// tell the user of [`SOURCES`]. [`ErrorKind::Daemon`] if there is a daemon, but
/// not for this user.
pub fn automatic(cx: &Context, options: &SourceOptions) -> Result<Box<dyn ClosureSource>> {
    cx.cancel.check()?;
    let no_database = match automatic_db(cx, options) {
        Ok(database) => return Ok(database),
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled) => return Err(error),
        Err(error) => error,
    };
    let daemon = options.daemon(None);
    match daemon.info(cx) {
        Ok(_) => Ok(Box::new(daemon)),
        Err(error) if is_nobody(error.kind()) => Err(no_database),
        Err(error) => Err(error),
    }
}

/// Returns whether there is no daemon at all.
fn is_nobody(kind: &ErrorKind) -> bool {
    let ErrorKind::Daemon {
        source: Some(source),
        ..
    } = kind
    else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused
    )
}

/// The key begins after the last `#`, so a file name may hold others.
fn open_attrs(options: &SourceOptions, argument: Option<&str>) -> Result<Box<dyn ClosureSource>> {
    let (file, key) = match argument.and_then(|text| text.rsplit_once('#')) {
        Some((file, key)) => (Some(file), Some(key.to_owned())),
        None => (argument, None),
    };
    if file == Some("") || key.as_deref() == Some("") {
        return Err(Error::invalid(
            "closure source \"attrs\"",
            "expected FILE or FILE#KEY, with a file and a key that are not empty",
        ));
    }
    Ok(Box::new(AttrsJson {
        input: options.input("attrs", file)?,
        key,
        store_dir: options.store_dir.clone(),
    }))
}

#[cfg(feature = "db")]
fn automatic_db(cx: &Context, options: &SourceOptions) -> Result<Box<dyn ClosureSource>> {
    let database = super::Database::in_state_dir(&options.state_dir(), options.store_dir.clone());
    database.check(cx)?;
    Ok(Box::new(database))
}

#[cfg(not(feature = "db"))]
fn automatic_db(_: &Context, options: &SourceOptions) -> Result<Box<dyn ClosureSource>> {
    open_db(options, None)
}

#[cfg(feature = "db")]
fn open_db(options: &SourceOptions, argument: Option<&str>) -> Result<Box<dyn ClosureSource>> {
    let state_dir = argument.map_or_else(|| options.state_dir(), PathBuf::from);
    let store_dir = options.store_dir.clone();
    Ok(Box::new(super::Database::in_state_dir(
        &state_dir, store_dir,
    )))
}

#[cfg(not(feature = "db"))]
fn open_db(_: &SourceOptions, _: Option<&str>) -> Result<Box<dyn ClosureSource>> {
    Err(ErrorKind::FeatureMissing {
        what: "reading the Nix database".to_owned(),
        feature: "db",
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<Box<dyn ClosureSource>> {
        open_source(&SourceOptions::default(), text)
    }

    fn problem(text: &str) -> String {
        open(text)
            .map(|source| source.name())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_kind_that_is_not_there_gets_the_list() {
        for text in ["", "database", "xx:y", ":y", "/nix/store"] {
            let error = problem(text);
            for kind in SOURCES {
                assert!(error.contains(&kind.syntax()), "{error}");
            }
        }
    }

    #[test]
    fn arguments_are_asked_for_where_they_are_needed() {
        for kind in SOURCES {
            assert_eq!(
                problem(&format!("{}:", kind.name)),
                format!(
                    "closure source \"{}:\": an argument is missing, expected {}",
                    kind.name,
                    kind.syntax()
                )
            );
            if !kind.argument_is_optional {
                assert!(problem(kind.name).contains("an argument is missing"));
                assert!((kind.open)(&SourceOptions::default(), None).is_err());
            }
        }
        for text in ["attrs:#key", "attrs:file#"] {
            assert!(problem(text).contains("not empty"), "{text}");
        }
        assert_eq!(open("attrs:a#b#key").unwrap().name(), "a#b");
        assert_eq!(open("graph:C:/x").unwrap().name(), "C:/x");
    }

    #[test]
    #[cfg(feature = "binary-cache")]
    fn caches_are_one_source_in_the_place_of_the_first() {
        let texts = [
            "graph:/no/such",
            "cache:https://one.example",
            "db",
            "cache:/two?priority=1",
        ];
        let opened = open_sources(&SourceOptions::default(), &texts).unwrap();
        let names: Vec<_> = opened.sources.iter().map(|source| source.name()).collect();
        assert_eq!(names[..2], ["/no/such", "https://one.example, file:///two"]);
        assert_eq!(names.len(), 3);
        assert_eq!(opened.caches.unwrap().name(), names[1]);
        let opened = open_sources(&SourceOptions::default(), &["graph:x"]).unwrap();
        assert!(opened.caches.is_none());
        for text in ["cache:", "cache", "cache:x", "cache:s3://x", "x:y"] {
            assert!(
                open_sources(&SourceOptions::default(), &[text]).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn standard_input_is_what_the_caller_gives() {
        assert_eq!(
            problem("path-info:-"),
            "closure source \"path-info:-\": there is no standard input to read"
        );
        let options = SourceOptions {
            stdin: Some(Arc::new(|| Box::new(&b"[1]"[..]))),
            ..SourceOptions::default()
        };
        let source = open_source(&options, "path-info:-").unwrap();
        let error = source.path_infos(&Context::default(), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "standard input, key [0]: expected an object that describes a store path, found 1"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        for kind in SOURCES {
            let source = open(&format!("{}:/no/such", kind.name)).unwrap();
            let error = source.path_infos(&Context::default(), &[]).unwrap_err();
            assert!(error.to_string().contains("/no/such"), "{error}");
            let cause = std::error::Error::source(&error).unwrap();
            assert!(cause.to_string().contains("No such file"), "{cause}");
        }
    }

    #[test]
    #[cfg(feature = "db")]
    fn without_a_database_the_automatic_choice_says_which_and_why() {
        let options = SourceOptions {
            store_root: Some("/no/root".into()),
            ..SourceOptions::default()
        };
        let chosen = automatic(&Context::default(), &options);
        let error = chosen.map(|source| source.name()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to open the Nix database /no/root/nix/var/nix/db/db.sqlite"
        );
        let cause = std::error::Error::source(&error).unwrap();
        assert!(cause.to_string().contains("No such file"), "{cause}");
    }
}
