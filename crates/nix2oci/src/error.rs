//! What can go wrong, in words that name the thing.
//!
//! [`Error`] is one pointer. [`Error::kind`] says what happened, for code that
//! matches; [`Error::class`] says what the caller can do about it, for code
//! that acts. The message names what was being done and to which thing; the
//! cause, if there is one, is only in [`std::error::Error::source`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::digest::Digest;
use crate::store::{NarHash, StorePath};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// What an embedder can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Something the caller gave is wrong: a file, an option, a reference.
    Input,
    /// The store does not hold what its metadata says, or cannot be read.
    Store,
    /// The output could not be written.
    Output,
    /// Bytes are not what a digest, hash or size says they are.
    Integrity,
    /// A registry refused the credentials.
    Denied,
    /// A registry or a binary cache failed or could not be reached.
    Remote,
    /// The operation was cancelled.
    Cancelled,
    /// A defect of this library or of a strategy, source or sink passed to it.
    Internal,
}

/// Where in a document something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// The document as a whole.
    Whole,
    /// A line, counted from 1.
    Line(u64),
    /// A line and a column, both counted from 1, in a text that is not well
    /// formed.
    Position {
        /// The line.
        line: u64,
        /// The column.
        column: u64,
    },
    /// A key or an index path in a JSON document, such as `graph[3].narHash`.
    Key(String),
    /// A row of a database table, such as `ValidPaths row 12`.
    Row(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Line(n) => write!(f, ", line {n}"),
            Self::Position { line, column } => write!(f, ", line {line}, column {column}"),
            Self::Key(key) => write!(f, ", key {key}"),
            Self::Row(row) => write!(f, ", {row}"),
        }
    }
}

/// A cause from below, of any type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An input file (not a store file) could not be read.
    #[error("failed to read {}", path.display())]
    ReadInput {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An input document is not what its format asks for.
    #[error("{document}{location}: {problem}")]
    Document {
        /// The file or stream, as the user named it.
        document: String,
        /// Where in it.
        location: Location,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The Nix database could not be opened or read.
    #[error("failed to {action} the Nix database {}", path.display())]
    Database {
        /// What was being done.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite or the system said.
        source: Cause,
    },
    /// A path was asked for that the closure source does not know.
    #[error("{path} is not known to {from}")]
    UnknownPath {
        /// The store path, in full.
        path: String,
        /// The source that was asked.
        from: String,
    },
    /// A path refers to another one that is not in the closure.
    #[error("{path} refers to {reference}, which is not in {from}")]
    MissingReference {
        /// The referrer, in full.
        path: String,
        /// The missing store path, in full.
        reference: String,
        /// The source that was read.
        from: String,
    },
    /// Store paths refer to each other in a ring.
    #[error("store paths refer to each other in a cycle: {}", display_cycle(cycle))]
    Cycle {
        /// The ring, in order; the last refers to the first.
        cycle: Vec<StorePath>,
    },
    /// Two entries for one store path disagree.
    #[error("two entries for {path} differ: {difference}")]
    ConflictingPathInfo {
        /// The store path.
        path: StorePath,
        /// In what they differ.
        difference: String,
    },
    /// A value given by the caller cannot be used.
    #[error("{what}: {problem}")]
    InvalidInput {
        /// The option or the thing.
        what: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// A store object could not be read.
    #[error("failed to {action} {}", path.display())]
    ReadStore {
        /// What was being done: `open`, `read`, `list`, …
        action: &'static str,
        /// The file in the store.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A store object holds something that Nix does not allow there.
    #[error("{} is {found}; a store path holds only directories, regular files and symbolic links", path.display())]
    UnsupportedFile {
        /// The file in the store.
        path: PathBuf,
        /// What it is: `a socket`, `a device`, …
        found: &'static str,
    },
    /// A store object changed while it was read.
    #[error("{} changed while it was read: expected {expected} bytes, found {found}", path.display())]
    FileChanged {
        /// The file in the store.
        path: PathBuf,
        /// Bytes that it had when it was opened.
        expected: u64,
        /// Bytes that were there.
        found: u64,
    },
    /// A store object's name cannot be used in an image.
    #[error("{}: {problem}", path.display())]
    UnsupportedName {
        /// The file in the store.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A store path is not what its NAR hash says.
    #[error(
        "{path} has NAR hash {found}, expected {expected}{}",
        display_also(also)
    )]
    NarHashMismatch {
        /// The store path, in full.
        path: String,
        /// The registered hash.
        expected: NarHash,
        /// The hash of what is in the store.
        found: NarHash,
        /// Further store paths that are not what their NAR hashes say, as far
        /// as they were looked at.
        also: Vec<String>,
    },
    /// A store path has a program that the image's platform cannot run.
    #[error("{file} is a program for {found}, expected one for {expected}")]
    ForeignProgram {
        /// The program, as the image would have it.
        file: String,
        /// What it is for.
        found: String,
        /// The image's platform.
        expected: String,
    },
    /// The strategy's layers break the contract of a plan.
    #[error("layer strategy {strategy}: {problem}")]
    Plan {
        /// The strategy.
        strategy: String,
        /// What is wrong.
        problem: String,
    },
    /// Two sources give one path of the root tree, with different contents.
    #[error("{path} {}", origins(first, second))]
    RootTreeConflict {
        /// The path in the image.
        path: String,
        /// Where it came from first.
        first: String,
        /// Where it came from again.
        second: String,
    },
    /// A codec failed.
    #[error("{codec} failed: {problem}")]
    Codec {
        /// The codec.
        codec: &'static str,
        /// What it said.
        problem: String,
    },
    /// An output could not be written.
    #[error("failed to {action} {}", path.display())]
    WriteOutput {
        /// What was being done: `create`, `write`, `rename`, …
        action: &'static str,
        /// The file, or a name such as `standard output`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output's place is taken by something that will not be overwritten.
    #[error("{} is {problem}", path.display())]
    OutputTaken {
        /// The place.
        path: PathBuf,
        /// What is there.
        problem: String,
    },
    /// An image could not be read as one.
    #[error("{image}: {problem}")]
    Image {
        /// The image, as the user named it.
        image: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// Bytes do not have the digest that they must have.
    #[error("{what} has digest {found}, expected {expected}")]
    DigestMismatch {
        /// What was read or made.
        what: String,
        /// The digest that it must have.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// Bytes do not have the size that they must have.
    #[error("{what} has {found} bytes, expected {expected}")]
    SizeMismatch {
        /// What was read or made.
        what: String,
        /// Bytes that it must have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// Credentials could not be had, or a registry refused those that it was
    /// given.
    #[error("{host} refused to {action}: {problem}")]
    Denied {
        /// The registry or the token server, as the user would name it.
        host: String,
        /// What was asked for: `push to repository app`.
        action: String,
        /// What it answered, in words.
        problem: String,
    },
    /// A credential helper or a credential file failed to give credentials.
    #[error("no credentials for {host} from {from}: {problem}")]
    Credentials {
        /// For which registry.
        host: String,
        /// The helper or the file that was asked.
        from: String,
        /// What is wrong. Never a secret.
        problem: String,
    },
    /// A server answered with an error, or with something that makes no sense.
    #[error("{host} failed to {action}: {problem}")]
    Answer {
        /// The server, as the user would name it.
        host: String,
        /// What was asked for: `take blob sha256:… of repository app`.
        action: String,
        /// The HTTP status, if the answer had one that counts.
        status: Option<u16>,
        /// What it answered, in words.
        problem: String,
    },
    /// What a binary cache says of a store path makes no sense.
    #[error("{from}: the narinfo of {path}: {problem}")]
    NarInfo {
        /// The cache, as the user would name it.
        from: String,
        /// The store path, in full.
        path: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// Nobody who is trusted vouches for what a binary cache says of a store
    /// path.
    #[error("{path} of {from} {problem}")]
    Untrusted {
        /// The store path, in full.
        path: String,
        /// The cache, as the user would name it.
        from: String,
        /// Why, after its name: `is not signed by a trusted key`.
        problem: String,
    },
    /// The content that was fetched for a store path is not what it must be.
    #[error("{from}: the NAR of {path}: {problem}")]
    Nar {
        /// Where it came from: a cache, the daemon.
        from: String,
        /// The store path, in full.
        path: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The Nix daemon refused, failed or made no sense.
    #[error("the Nix daemon at {socket} failed to {action}: {problem}")]
    Daemon {
        /// Its socket.
        socket: String,
        /// What was asked for: `tell of /nix/store/…`.
        action: String,
        /// What it said, in words.
        problem: String,
        /// What the system said, if it is the system that failed.
        source: Option<io::Error>,
    },
    /// A registry did not take a manifest because it lacks what it names.
    #[error("{host} failed to {action}: {problem}")]
    BlobsMissing {
        /// The registry, as the user would name it.
        host: String,
        /// What was asked for: `take manifest latest of repository app`.
        action: String,
        /// What it answered, in words.
        problem: String,
        /// The digests of what is missing, as far as it named them.
        digests: Vec<Digest>,
    },
    /// A server could not be reached, or the connection broke.
    #[error("{host} did not answer when asked to {action}")]
    Connection {
        /// The server, as the user would name it.
        host: String,
        /// What was asked for: `give blob sha256:… of repository app`.
        action: String,
        /// What the system, TLS or HTTP said.
        source: Cause,
    },
    /// This build of the library lacks a feature.
    #[error("{what} needs the feature {feature}, which this build does not have")]
    FeatureMissing {
        /// What was asked for.
        what: String,
        /// The cargo feature.
        feature: &'static str,
    },
    /// The operation was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A worker thread panicked: a defect here, or in an observer or a trait
    /// that the caller implements.
    #[error("a worker thread panicked: {message}")]
    WorkerPanicked {
        /// The panic's message.
        message: String,
    },
}

fn origins(first: &str, second: &str) -> String {
    if first == second {
        format!("is twice in {first}, and not the same")
    } else {
        format!("comes from both {first} and {second}, which differ")
    }
}

fn display_also(also: &[String]) -> String {
    match also {
        [] => String::new(),
        [one] => format!("; {one} is not what it was either"),
        more => format!("; nor are {} what they were", more.join(", ")),
    }
}

fn display_cycle(cycle: &[StorePath]) -> String {
    let mut out = String::new();
    for path in cycle.iter().chain(cycle.first()) {
        if !out.is_empty() {
            out.push_str(" → ");
        }
        out.push_str(path.as_str());
    }
    out
}

/// Returns the system's error without the path of a temporary file, whose name
/// means nothing to the user and which is gone when it is told.
///
/// Of such an error `tempfile` shows the kind only; where one number of the
/// system has that kind, it is used, because its text is better known.
pub(crate) fn without_temporary(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::NOENT.into(),
        io::ErrorKind::NotADirectory => Errno::NOTDIR.into(),
        io::ErrorKind::StorageFull => Errno::NOSPC.into(),
        io::ErrorKind::ReadOnlyFilesystem => Errno::ROFS.into(),
        kind @ (io::ErrorKind::PermissionDenied | io::ErrorKind::QuotaExceeded) => kind.into(),
        _ => error,
    }
}

impl Error {
    /// Returns what happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Returns what happened, to be changed into another error.
    #[cfg(any(feature = "binary-cache", feature = "registry"))]
    pub(crate) fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// Returns what the caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self.kind() {
            ErrorKind::ReadInput { .. }
            | ErrorKind::Document { .. }
            | ErrorKind::UnknownPath { .. }
            | ErrorKind::MissingReference { .. }
            | ErrorKind::Cycle { .. }
            | ErrorKind::ConflictingPathInfo { .. }
            | ErrorKind::InvalidInput { .. }
            | ErrorKind::RootTreeConflict { .. }
            | ErrorKind::ForeignProgram { .. }
            | ErrorKind::Image { .. }
            | ErrorKind::FeatureMissing { .. } => ErrorClass::Input,
            ErrorKind::Database { .. }
            | ErrorKind::ReadStore { .. }
            | ErrorKind::UnsupportedFile { .. }
            | ErrorKind::UnsupportedName { .. }
            | ErrorKind::FileChanged { .. }
            | ErrorKind::Daemon { .. } => ErrorClass::Store,
            ErrorKind::WriteOutput { .. } | ErrorKind::OutputTaken { .. } => ErrorClass::Output,
            ErrorKind::NarHashMismatch { .. }
            | ErrorKind::Untrusted { .. }
            | ErrorKind::Nar { .. }
            | ErrorKind::DigestMismatch { .. }
            | ErrorKind::SizeMismatch { .. } => ErrorClass::Integrity,
            ErrorKind::Denied { .. } | ErrorKind::Credentials { .. } => ErrorClass::Denied,
            ErrorKind::Answer { .. }
            | ErrorKind::NarInfo { .. }
            | ErrorKind::BlobsMissing { .. }
            | ErrorKind::Connection { .. } => ErrorClass::Remote,
            ErrorKind::Cancelled => ErrorClass::Cancelled,
            ErrorKind::Plan { .. } | ErrorKind::Codec { .. } | ErrorKind::WorkerPanicked { .. } => {
                ErrorClass::Internal
            }
        }
    }

    /// Makes an [`ErrorKind::InvalidInput`].
    pub fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Self {
        ErrorKind::InvalidInput {
            what: what.into(),
            problem: problem.into(),
        }
        .into()
    }

    /// Makes an [`ErrorKind::Document`].
    pub fn document(
        document: impl Into<String>,
        location: Location,
        problem: impl Into<String>,
    ) -> Self {
        ErrorKind::Document {
            document: document.into(),
            location,
            problem: problem.into(),
        }
        .into()
    }

    /// Makes an [`ErrorKind::Image`].
    pub fn image(image: impl Into<String>, problem: impl Into<String>) -> Self {
        ErrorKind::Image {
            image: image.into(),
            problem: problem.into(),
        }
        .into()
    }

    /// Returns a function that makes an [`ErrorKind::WriteOutput`], for
    /// `map_err`.
    pub fn writing(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            ErrorKind::WriteOutput {
                action,
                path,
                source,
            }
            .into()
        }
    }

    /// Makes an [`ErrorKind::Document`] of a JSON parser's error, with the
    /// place where it stopped.
    pub(crate) fn json_syntax(document: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let said = error.to_string();
        let what = said
            .strip_suffix(&format!(" at line {line} column {column}"))
            .unwrap_or(&said);
        let location = Location::Position {
            line: line as u64,
            column: column as u64,
        };
        // What is JSON may still lack a member, or have one of another form.
        let problem = match error.is_data() {
            true => what.to_owned(),
            false => format!("not JSON: {what}"),
        };
        Self::document(document, location, problem)
    }

    /// Returns a function that makes an [`ErrorKind::ReadInput`], for
    /// `map_err`.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| ErrorKind::ReadInput { path, source }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
