//! The files in which docker and podman keep credentials.
//!
//! `config.json` of docker and `auth.json` of podman have the same form:
//!
//! ```json
//! { "auths": { "ghcr.io": { "auth": "base64 of USER:PASSWORD" },
//!              "quay.io/team": { "identitytoken": "…" } },
//!   "credHelpers": { "example.org": "ecr-login" },
//!   "credsStore": "secretservice" }
//! ```
//!
//! Where the two programs read it differently, this is what is done:
//!
//! | case | docker | podman | here |
//! | --- | --- | --- | --- |
//! | key of a part of a registry in `auths` | not known | the longest that fits | the longest that fits |
//! | the same in `credHelpers` | not known | not known | the longest that fits, as GitLab runner |
//! | `credHelpers` and `auths` have the registry | helper | helper | helper |
//! | `credsStore` and credentials in `auths` | store | `auths`; knows no store | `auths` |
//! | `auth` that is not USER:PASSWORD | error | warning | error, if it is the one asked for |
//!
//! The credentials win over `credsStore` because docker takes them out of
//! `auths` when it gives them to the store: those that are there were put there
//! on purpose, as CI does.
//!
//! Sources: <https://docs.docker.com/reference/cli/docker/login/>,
//! containers-auth.json(5), and the code that `server.rs` names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use data_encoding::{BASE64, Specification};
use serde_json::{Map, Value};

use crate::credentials::server::{self, fit};
use crate::credentials::{Credentials, Secret};
use crate::error::{Error, Location, Result};
use crate::store::Quoted;

/// Which of two forms a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFileForm {
    /// `config.json` and `auth.json`.
    Current,
    /// `.dockercfg`, as docker wrote it before 1.7: what is `auths` today is
    /// the whole file.
    Legacy,
}

/// A credential file of docker or podman.
pub struct AuthFile {
    document: String,
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// What a file says about a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// These credentials.
    Known(Credentials),
    /// The program `docker-credential-HELPER` knows.
    Ask {
        /// Its name, without `docker-credential-`.
        helper: String,
        /// What it is asked for.
        address: String,
        /// Whether it is the store for all registries, and not a helper for
        /// this one.
        is_store: bool,
    },
}

/// One entry of `auths`. A text that is not there is empty.
struct Entry {
    auth: Secret,
    username: Secret,
    password: Secret,
    identity_token: Secret,
    registry_token: Secret,
}

impl AuthFile {
    /// Reads a file's bytes; `document` names it in errors. An empty file knows
    /// nothing.
    ///
    /// # Errors
    ///
    /// Says where the text is not JSON, or which key holds something else than
    /// it should. Values are not shown.
    pub fn parse(bytes: &[u8], document: &str, form: AuthFileForm) -> Result<Self> {
        let mut file = Self {
            document: document.to_owned(),
            auths: BTreeMap::new(),
            helpers: BTreeMap::new(),
            store: None,
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(file);
        }
        // Not into a type of ours: what serde says of a wrong type has the
        // value in it.
        let whole: Value =
            serde_json::from_slice(bytes).map_err(|error| Error::json_syntax(document, &error))?;
        let whole = file.object("", &whole)?;
        let auths = match form {
            AuthFileForm::Current => match whole.get("auths") {
                Some(auths) => file.object("auths", auths)?,
                None => &Map::new(),
            },
            AuthFileForm::Legacy => whole,
        };
        for (key, entry) in auths {
            let place = match form {
                AuthFileForm::Current => place("auths", key),
                AuthFileForm::Legacy => place("", key),
            };
            let entry = file.entry(&place, entry)?;
            file.auths.insert(key.clone(), entry);
        }
        if form == AuthFileForm::Current {
            if let Some(helpers) = whole.get("credHelpers") {
                for (key, helper) in file.object("credHelpers", helpers)? {
                    let helper = file.text(&place("credHelpers", key), Some(helper))?;
                    file.helpers.insert(key.clone(), helper);
                }
            }
            let store = file.text("credsStore", whole.get("credsStore"))?;
            file.store = (!store.is_empty()).then_some(store);
        }
        Ok(file)
    }

    /// Returns the name that errors have for it.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Returns what the file says about a repository of a registry, or `None`
    /// if it says nothing.
    ///
    /// # Errors
    ///
    /// If the entry that fits cannot be read as credentials.
    pub fn find(&self, host: &str, repository: &str) -> Result<Option<Finding>> {
        let helper = best(self.helpers.iter(), host, repository);
        // An empty name takes the registry away from the store, as in docker.
        let has_no_helper = helper.is_some_and(|(_, helper)| helper.is_empty());
        if let Some((key, helper)) = helper.filter(|_| !has_no_helper) {
            return Ok(Some(Finding::Ask {
                helper: helper.clone(),
                address: key.clone(),
                is_store: false,
            }));
        }
        // docker leaves an empty entry behind where a store has the credentials.
        let entries = self.auths.iter().filter(|(_, entry)| !entry.is_empty());
        if let Some((key, entry)) = best(entries, host, repository)
            && let Some(credentials) = entry.credentials().map_err(|problem| {
                let key = format!("{}.auth", place("auths", key));
                Error::document(&self.document, Location::Key(key), problem)
            })?
        {
            return Ok(Some(Finding::Known(credentials)));
        }
        let store = self.store.as_ref().filter(|_| !has_no_helper);
        Ok(store.map(|store| Finding::Ask {
            helper: store.clone(),
            address: server::store_address(host).to_owned(),
            is_store: true,
        }))
    }

    fn entry(&self, place: &str, value: &Value) -> Result<Entry> {
        let entry = self.object(place, value)?;
        let text = |name: &str| -> Result<Secret> {
            let place = format!("{place}.{name}");
            Ok(Secret::new(self.text(&place, entry.get(name))?))
        };
        Ok(Entry {
            auth: text("auth")?,
            username: text("username")?,
            password: text("password")?,
            identity_token: text("identitytoken")?,
            registry_token: text("registrytoken")?,
        })
    }

    /// Returns an object; `null` is an empty one.
    fn object<'v>(&self, place: &str, value: &'v Value) -> Result<&'v Map<String, Value>> {
        static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        match value {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(&EMPTY),
            _ => Err(self.error(place, "an object")),
        }
    }

    /// Returns a text; one that is not there is empty.
    fn text(&self, place: &str, value: Option<&Value>) -> Result<String> {
        match value {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) | None => Ok(String::new()),
            Some(_) => Err(self.error(place, "a string")),
        }
    }

    fn error(&self, place: &str, expected: &str) -> Error {
        let location = match place {
            "" => Location::Whole,
            place => Location::Key(place.to_owned()),
        };
        Error::document(&self.document, location, format!("expected {expected}"))
    }
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.auths.keys().map(|key| server::shown(key)).collect();
        f.debug_struct("AuthFile")
            .field("document", &self.document)
            .field("auths", &keys)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        let Self {
            auth,
            username,
            password,
            identity_token,
            registry_token,
        } = self;
        [auth, username, password, identity_token, registry_token]
            .into_iter()
            .all(|text| text.reveal().is_empty())
    }

    /// Returns what is to be sent, or why that cannot be told.
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.registry_token.reveal().is_empty() {
            return Ok(Some(Credentials::RegistryToken(
                self.registry_token.clone(),
            )));
        }
        // Azure's entries have a name without a password beside the token.
        if !self.identity_token.reveal().is_empty() {
            return Ok(Some(Credentials::IdentityToken(
                self.identity_token.clone(),
            )));
        }
        if self.auth.reveal().is_empty() {
            let user = self.username.reveal();
            return Ok((!user.is_empty()).then(|| Credentials::new(user, self.password.clone())));
        }
        decode_auth(self.auth.reveal())
    }
}

/// Reads `auth`; `None` if neither name nor password is in it.
fn decode_auth(auth: &str) -> Result<Option<Credentials>, &'static str> {
    const EXPECTED: &str = "expected the base64 of USER:PASSWORD";
    let digits: String = auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = lenient_base64()
        .decode(digits.trim_end_matches('=').as_bytes())
        .map_err(|_| EXPECTED)?;
    let text = String::from_utf8(bytes).map_err(|_| EXPECTED)?;
    let (user, password) = text.split_once(':').ok_or(EXPECTED)?;
    // Versions of docker padded the password with zeros.
    let password = password.trim_matches('\0');
    match (user.is_empty(), password.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err("has a password and no user name"),
        (false, _) => Ok(Some(Credentials::new(user, Secret::new(password)))),
    }
}

/// Returns base64 as Go's decoder takes it, which does not look at bits that
/// mean nothing, and without the padding.
fn lenient_base64() -> data_encoding::Encoding {
    let mut lenient: Specification = BASE64.specification();
    lenient.padding = None;
    lenient.check_trailing_bits = false;
    lenient
        .encoding()
        .expect("base64 without padding is an encoding")
}

/// Returns the entry whose key fits best; of equals the last, so that
/// `https://…` comes before `http://…`.
fn best<'e, T>(
    entries: impl Iterator<Item = (&'e String, &'e T)>,
    host: &str,
    repository: &str,
) -> Option<(&'e String, &'e T)> {
    entries
        .filter_map(|entry| Some((fit(entry.0, host, repository)?, entry)))
        .max_by_key(|(fit, _)| *fit)
        .map(|(_, entry)| entry)
}

/// Returns how errors call a member of an object.
fn place(object: &str, key: &str) -> String {
    format!("{object}[{}]", Quoted(server::shown(key)))
}

#[cfg(test)]
#[path = "auth_file_tests.rs"]
mod tests;
