//! The order in which credentials are looked for.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::context::CancelFlag;
use crate::credentials::auth_file::{AuthFile, AuthFileForm, Finding};
use crate::credentials::helper::{HelperFailure, Helpers, PREFIX};
use crate::credentials::netrc::Netrc;
use crate::credentials::{CredentialSource, Credentials, Secret, server};
use crate::error::{Error, ErrorKind, Result};
use crate::input::{InputKind, read_file, read_open};

/// How long a credential helper may take, if nothing else is said.
pub const DEFAULT_HELPER_TIME_LIMIT: Duration = Duration::from_secs(30);

/// The name that errors have for [`CredentialFiles::auth_config`].
const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// Where credentials are looked for, in the order of the fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct CredentialFiles {
    /// What was given for one registry: its host, and its credentials.
    pub given: Option<(String, Credentials)>,
    /// The file that the user named: it must be there, and no other place of
    /// this list is asked, as with podman's `--authfile`.
    pub named: Option<PathBuf>,
    /// The files where podman and docker keep credentials, in order. They need
    /// not be there.
    pub defaults: Vec<PathBuf>,
    /// Docker's file of old, `.dockercfg`. It need not be there.
    pub legacy: Option<PathBuf>,
    /// A text as the environment variable `DOCKER_AUTH_CONFIG` has it: the
    /// content of a file of docker.
    pub auth_config: Option<Secret>,
    /// A netrc file. It need not be there.
    pub netrc: Option<PathBuf>,
    /// Directories in which `docker-credential-NAME` is searched, in order:
    /// those of `PATH`. What is not absolute is passed over.
    pub helper_dirs: Vec<PathBuf>,
    /// How long a credential helper may take.
    pub helper_time_limit: Duration,
    /// Stops the wait for a credential helper when set.
    pub cancel: CancelFlag,
}

impl Default for CredentialFiles {
    /// Nowhere.
    fn default() -> Self {
        Self {
            given: None,
            named: None,
            defaults: Vec::new(),
            legacy: None,
            auth_config: None,
            netrc: None,
            helper_dirs: Vec::new(),
            helper_time_limit: DEFAULT_HELPER_TIME_LIMIT,
            cancel: CancelFlag::default(),
        }
    }
}

impl fmt::Debug for CredentialFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFiles")
            .field("named", &self.named)
            .field("defaults", &self.defaults)
            .field("legacy", &self.legacy)
            .field("netrc", &self.netrc)
            .finish_non_exhaustive()
    }
}

/// Looks for credentials as docker and podman do: the first place that knows
/// some wins.
///
/// A file is read once, when it is first needed. A helper is asked once for
/// each address, and by one thread at a time; an answer is kept as long as this
/// value, a failure is not.
pub struct Lookup {
    given: Option<(String, Credentials)>,
    places: Vec<Place>,
    helpers: Helpers,
    /// What helpers answered, by name and address.
    answers: Mutex<BTreeMap<(String, String), Option<Credentials>>>,
}

/// A place to look at; what is read of it once is kept, `None` if it is not
/// there.
enum Place {
    Auths {
        path: PathBuf,
        form: AuthFileForm,
        read: OnceLock<Option<AuthFile>>,
    },
    Netrc {
        path: PathBuf,
        read: OnceLock<Option<Netrc>>,
    },
}

impl Lookup {
    /// Makes the list of places; reads what was named or given as text.
    ///
    /// # Errors
    ///
    /// If the named file is not there, or that or the text is not what it
    /// should be.
    pub fn new(files: CredentialFiles) -> Result<Self> {
        let mut places = Vec::new();
        if let Some(path) = files.named {
            let document = path.display().to_string();
            let bytes = read_file(&path, InputKind::Credentials)?;
            let file = AuthFile::parse(&bytes, &document, AuthFileForm::Current)?;
            places.push(Place::known(path, file));
        } else {
            let defaults = files.defaults.into_iter();
            places.extend(defaults.map(|path| Place::auths(path, AuthFileForm::Current)));
            let legacy = files.legacy.into_iter();
            places.extend(legacy.map(|path| Place::auths(path, AuthFileForm::Legacy)));
            if let Some(text) = files.auth_config {
                let text = text.reveal().as_bytes();
                let file = AuthFile::parse(text, AUTH_CONFIG, AuthFileForm::Current)?;
                places.push(Place::known(AUTH_CONFIG.into(), file));
            }
            places.extend(files.netrc.map(|path| Place::Netrc {
                path,
                read: OnceLock::new(),
            }));
        }
        Ok(Self {
            given: files.given,
            places,
            helpers: Helpers {
                dirs: files.helper_dirs,
                time_limit: files.helper_time_limit,
                cancel: files.cancel,
            },
            answers: Mutex::default(),
        })
    }

    /// Asks a helper that a file names, unless it answered before.
    fn ask(&self, host: &str, helper: &str, address: &str, file: &str) -> Result<Answer> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (helper.to_owned(), address.to_owned());
        if let Some(known) = answers.get(&key) {
            return Ok(Answer::Is(known.clone()));
        }
        let fail = |problem: String| -> Error {
            ErrorKind::Credentials {
                host: host.to_owned(),
                from: format!("{PREFIX}{helper}, which {file} names"),
                problem,
            }
            .into()
        };
        match self.helpers.ask(helper, address) {
            Ok(answer) => {
                answers.insert(key, answer.clone());
                Ok(Answer::Is(answer))
            }
            Err(HelperFailure::Cancelled) => Err(ErrorKind::Cancelled.into()),
            Err(HelperFailure::Failed(problem)) => Err(fail(problem)),
            Err(HelperFailure::Missing) => Ok(Answer::Missing(fail(
                "there is no such program in PATH".to_owned(),
            ))),
        }
    }
}

/// What came of asking a helper.
enum Answer {
    Is(Option<Credentials>),
    Missing(Error),
}

impl CredentialSource for Lookup {
    fn find(&self, host: &str, repository: &str) -> Result<Credentials> {
        if let Some((server, credentials)) = &self.given
            && server::is_same_host(server, host)
        {
            return Ok(credentials.clone());
        }
        // A configuration is often carried to machines that lack its store,
        // which podman does not look at anyway: other places may know. docker
        // would fail, and so do we if none does.
        let mut missing_store = None;
        for place in &self.places {
            let file = match place {
                Place::Auths { path, form, read } => once(read, || auths(path, *form))?,
                Place::Netrc { path, read } => {
                    match once(read, || netrc(path))?.and_then(|netrc| netrc.find(host)) {
                        Some(credentials) => return Ok(credentials),
                        None => continue,
                    }
                }
            };
            let Some(file) = file else { continue };
            match file.find(host, repository)? {
                Some(Finding::Known(credentials)) => return Ok(credentials),
                Some(Finding::Ask {
                    helper,
                    address,
                    is_store,
                }) => match self.ask(host, &helper, &address, file.document())? {
                    Answer::Is(Some(credentials)) => return Ok(credentials),
                    Answer::Is(None) => {}
                    Answer::Missing(error) if is_store => {
                        missing_store.get_or_insert(error);
                    }
                    Answer::Missing(error) => return Err(error),
                },
                None => {}
            }
        }
        match missing_store {
            Some(error) => Err(error),
            None => Ok(Credentials::Anonymous),
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<&Path> = self.places.iter().map(Place::path).collect();
        f.debug_struct("Lookup")
            .field("places", &places)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn auths(path: PathBuf, form: AuthFileForm) -> Self {
        Self::Auths {
            path,
            form,
            read: OnceLock::new(),
        }
    }

    fn known(path: PathBuf, file: AuthFile) -> Self {
        Self::Auths {
            path,
            form: AuthFileForm::Current,
            read: OnceLock::from(Some(file)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Auths { path, .. } | Self::Netrc { path, .. } => path,
        }
    }
}

/// Returns what is kept, and reads it before if it is not there. Two threads
/// may both read; one of the equal results is kept.
fn once<T>(
    kept: &OnceLock<Option<T>>,
    read: impl FnOnce() -> Result<Option<T>>,
) -> Result<Option<&T>> {
    if kept.get().is_none() {
        let value = read()?;
        return Ok(kept.get_or_init(|| value).as_ref());
    }
    Ok(kept.get().and_then(Option::as_ref))
}

fn auths(path: &Path, form: AuthFileForm) -> Result<Option<AuthFile>> {
    let bytes = read_default(path)?;
    bytes
        .map(|bytes| AuthFile::parse(&bytes, &path.display().to_string(), form))
        .transpose()
}

fn netrc(path: &Path) -> Result<Option<Netrc>> {
    let bytes = read_default(path)?;
    bytes
        .map(|bytes| Netrc::parse(&bytes, &path.display().to_string()))
        .transpose()
}

/// Reads a file that need not be there.
fn read_default(path: &Path) -> Result<Option<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => read_open(&file, path, InputKind::Credentials).map(Some),
        Err(error) if is_absent(path, &error) => Ok(None),
        Err(error) => Err(Error::reading(path)(error)),
    }
}

/// Returns whether a file is not there for this user.
///
/// A file that can be seen and not read is an error. One in a directory that
/// is closed to the user is somebody else's: root's podman makes
/// `/run/containers` so.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => true,
        io::ErrorKind::PermissionDenied => fs::symlink_metadata(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied),
        _ => false,
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
