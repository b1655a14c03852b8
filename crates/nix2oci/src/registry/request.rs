//! What is asked of a registry.

use std::fmt;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use crate::net::Body;

/// One request, as often as it is sent.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Target,
    /// Without `Authorization`, `Host`, `Content-Length`, `User-Agent`.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// What the token is asked to allow.
    pub(crate) scope: Scope,
    /// For errors, after "HOST failed to": `take blob sha256:… of repository
    /// app`.
    pub(crate) action: String,
    /// Statuses that are an answer and no error. All others become errors.
    pub(crate) accept: &'static [u16],
    /// Whether the request is repeated after a failure that may pass. `false`
    /// where the caller repeats on a higher level; a body that cannot be
    /// repeated never is.
    pub(crate) retry: bool,
}

impl Request {
    /// Makes a request without headers and body that is repeated and whose
    /// only answer is 200.
    pub(crate) fn new(method: Method, target: Target, scope: Scope, action: String) -> Self {
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            body: Body::Empty,
            scope,
            action,
            accept: &[200],
            retry: true,
        }
    }
}

/// Where a request goes.
#[derive(Clone)]
pub(crate) enum Target {
    /// A path and query of the registry's API: `/v2/app/blobs/uploads/`.
    Api(String),
    /// An address that the registry named. It may be on another host, which
    /// then sees no credentials, and its query may be a secret.
    Session(Url),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(path) => f.debug_tuple("Api").field(path).finish(),
            Self::Session(url) => f.debug_tuple("Session").field(&url.host_str()).finish(),
        }
    }
}

/// What a token is asked to allow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) repository: String,
    /// Whether it is written to.
    pub(crate) push: bool,
    /// A repository that blobs are mounted from.
    pub(crate) mount_from: Option<String>,
}
