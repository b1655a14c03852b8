//! Who the user is, for registries and binary caches.
//!
//! - [`Credentials`]: what is sent; [`Secret`]: text that is never shown
//! - [`CredentialSource`]: where they come from
//! - [`Lookup`]: the places where docker, podman and curl keep them
//! - [`AuthFile`], [`Netrc`]: one such file; `server`: what its keys mean
//! - [`AwsLookup`], [`AwsCredentialsFile`]: keys for S3
//! - `helper`: programs that are asked; `redact`: what they may be quoted with

mod auth_file;
mod aws;
mod helper;
mod lookup;
mod netrc;
mod redact;
#[cfg(test)]
mod script;
mod secret;
mod server;

pub use auth_file::{AuthFile, AuthFileForm, Finding};
pub use aws::{AwsCredentials, AwsCredentialsFile, AwsLookup};
pub use lookup::{CredentialFiles, DEFAULT_HELPER_TIME_LIMIT, Lookup};
pub use netrc::Netrc;
pub use secret::Secret;

use crate::error::Result;

/// What a registry is told about who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user name and a password, or a token in its place.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, which a token server turns into an access
    /// token: `identitytoken` in docker's files.
    IdentityToken(Secret),
    /// A token that is sent to the registry as it is: `registrytoken` in
    /// docker's files.
    RegistryToken(Secret),
}

/// The user name that stands for an identity token in place of a password.
///
/// Source: `tokenUsername` of
/// <https://github.com/docker/cli/blob/master/cli/config/credentials/native_store.go>.
const TOKEN_USER: &str = "<token>";

impl Credentials {
    /// Makes them of a user name and a password. The name `<token>` says that
    /// the password is an identity token, as docker has it.
    pub fn new(user: impl Into<String>, password: Secret) -> Self {
        match user.into() {
            user if user == TOKEN_USER => Self::IdentityToken(password),
            user => Self::Password { user, password },
        }
    }
}

/// Knows credentials.
///
/// It is asked once for each repository of a registry that is talked to, from
/// any thread, and may take its time.
pub trait CredentialSource: Send + Sync {
    /// Returns the credentials for a repository (`library/app`) of a registry:
    /// its host, with the port if one is written (`docker.io`,
    /// `localhost:5000`). [`Credentials::Anonymous`] if there are none.
    fn find(&self, host: &str, repository: &str) -> Result<Credentials>;
}

/// The source that knows none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn find(&self, _: &str, _: &str) -> Result<Credentials> {
        Ok(Credentials::Anonymous)
    }
}
