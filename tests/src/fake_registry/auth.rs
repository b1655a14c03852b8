//! Who may do what.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::json;

use crate::http_server::{Answer, Request, lock, query_values};

use super::faults::Incoming;
use super::{Place, Shared, Thing, problem};

/// How the registry asks for credentials. There is one user.
#[derive(Debug, Clone)]
pub struct FakeAuth {
    /// What is asked for.
    pub scheme: AuthScheme,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// The refresh token that stands for the user when it is sent by POST.
    pub identity_token: Option<String>,
    /// Whether anyone may read.
    pub anonymous_pull: bool,
    /// Whether the user may write. If not, tokens are without `push`.
    pub may_push: bool,
    /// What the answer of the token server says on how long a token lives, in
    /// seconds; nothing means 60.
    pub expires_in: Option<u64>,
    /// How long a token lives.
    pub token_lives: Duration,
    /// Whether the token is in the field `access_token`, instead of `token`.
    pub access_token_field: bool,
    /// What a POST to the token server gets.
    pub post: PostTokens,
    /// Where the token server is.
    pub realm: Realm,
    /// Whether the 401 also offers Basic (which is not taken), in the same
    /// header field, before Bearer.
    pub offers_basic: bool,
    /// Whether a 401 says which scope is needed.
    pub names_scope: bool,
    /// What a valid token gets that does not allow the request: 401, or 403.
    pub insufficient: u16,
}

/// What the registry asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// Nothing.
    None,
    /// User and password in each request.
    Basic,
    /// Tokens from a token server.
    Bearer,
}

/// What a POST to the token server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostTokens {
    /// A token.
    Taken,
    /// This error: 404 GCR, 401 Artifactory, 400 ACR, 405.
    Refused(u16),
}

/// Where the token server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Realm {
    /// `/token` at the registry's port.
    Same,
    /// `/token` at the registry's port, by the name `localhost`.
    Localhost,
    /// This URL.
    Url(String),
}

impl Default for FakeAuth {
    fn default() -> Self {
        Self {
            scheme: AuthScheme::None,
            user: "user".into(),
            password: "secret".into(),
            identity_token: None,
            anonymous_pull: false,
            may_push: true,
            expires_in: Some(300),
            token_lives: Duration::from_secs(300),
            access_token_field: false,
            post: PostTokens::Taken,
            realm: Realm::Same,
            offers_basic: false,
            names_scope: true,
            insufficient: 401,
        }
    }
}

impl FakeAuth {
    /// User `user` with password `secret` by Basic.
    pub fn basic() -> Self {
        Self {
            scheme: AuthScheme::Basic,
            ..Self::default()
        }
    }

    /// User `user` with password `secret` by tokens.
    pub fn bearer() -> Self {
        Self {
            scheme: AuthScheme::Bearer,
            ..Self::default()
        }
    }
}

/// The tokens that were given out.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(super) options: FakeAuth,
    given: BTreeMap<String, Token>,
    count: u64,
}

#[derive(Debug)]
struct Token {
    /// `repository:NAME:ACTION`.
    access: BTreeSet<String>,
    ends: Instant,
}

impl Tokens {
    pub(super) fn new(options: FakeAuth) -> Self {
        Self {
            options,
            given: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn revoke(&mut self) {
        self.given.clear();
    }
}

/// Who shows themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anyone,
    User,
    Impostor,
}

impl FakeAuth {
    /// Who shows user and password, as Basic has them.
    fn who(&self, authorization: Option<&str>) -> Who {
        let Some(value) = authorization else {
            return Who::Anyone;
        };
        let pair = format!("{}:{}", self.user, self.password);
        let is_user = value.strip_prefix("Basic ") == Some(&BASE64.encode(pair.as_bytes()));
        if is_user { Who::User } else { Who::Impostor }
    }
}

impl Shared {
    /// Returns the 401 or 403 if the request is not allowed.
    pub(super) fn refusal(&self, request: &Request<'_>, place: &Place) -> Option<Answer> {
        let action = match (request.method.as_str(), &place.thing) {
            ("GET" | "HEAD", Thing::Upload(_)) => "push",
            ("GET" | "HEAD", _) => "pull",
            ("DELETE", _) => "delete",
            _ => "push",
        };
        let mut needed = vec![format!("repository:{}:{action}", place.repository)];
        if let (Thing::Uploads, Some(from), Some(_)) = (
            &place.thing,
            request.query_value("from"),
            request.query_value("mount"),
        ) {
            needed.push(format!("repository:{from}:pull"));
        }
        self.refuse_without(request, &needed)
    }

    /// Returns the 401 if the request does not show who sends it.
    pub(super) fn ping_refusal(&self, request: &Request<'_>) -> Option<Answer> {
        self.refuse_without(request, &[])
    }

    fn refuse_without(&self, request: &Request<'_>, needed: &[String]) -> Option<Answer> {
        let tokens = lock(&self.auth);
        let options = &tokens.options;
        let shown = request.headers.get("Authorization");
        match options.scheme {
            AuthScheme::None => None,
            AuthScheme::Basic => {
                let only_reads = needed.iter().all(|n| n.ends_with(":pull"));
                match options.who(shown) {
                    Who::Anyone if options.anonymous_pull && only_reads => None,
                    Who::User if options.may_push || only_reads => None,
                    Who::User => Some(denied(403)),
                    Who::Anyone | Who::Impostor => Some(
                        unauthorized().header("WWW-Authenticate", "Basic realm=\"Registry Realm\""),
                    ),
                }
            }
            AuthScheme::Bearer => {
                let token = shown.and_then(|shown| shown.strip_prefix("Bearer "));
                let token = token.and_then(|token| tokens.given.get(token));
                let token = token.filter(|token| token.ends > Instant::now());
                let error = match token {
                    Some(token) if needed.iter().all(|n| token.access.contains(n)) => return None,
                    Some(_) if options.insufficient != 401 => {
                        return Some(denied(options.insufficient));
                    }
                    Some(_) => Some("insufficient_scope"),
                    None => shown.map(|_| "invalid_token"),
                };
                Some(unauthorized().header(
                    "WWW-Authenticate",
                    self.challenge(options, request, needed, error),
                ))
            }
        }
    }

    fn challenge(
        &self,
        options: &FakeAuth,
        request: &Request<'_>,
        needed: &[String],
        error: Option<&str>,
    ) -> String {
        let url = lock(&self.urls).registry.clone();
        let realm = match &options.realm {
            // By the name that the client used, as Host has it.
            Realm::Same => {
                let scheme = url.split("://").next().unwrap_or_default();
                let host = request.headers.get("Host").unwrap_or_default();
                format!("{scheme}://{host}/token")
            }
            Realm::Localhost => format!("{}/token", url.replace("127.0.0.1", "localhost")),
            Realm::Url(url) => url.clone(),
        };
        let mut text = String::new();
        if options.offers_basic {
            text += "Basic realm=\"Registry Realm\", ";
        }
        text += &format!("Bearer realm=\"{realm}\",service=\"fake\"");
        if options.names_scope && !needed.is_empty() {
            // As distribution asks for: writing needs reading as well.
            let scopes: Vec<_> = needed
                .iter()
                .map(|n| n.replace(":push", ":pull,push"))
                .collect();
            text += &format!(",scope=\"{}\"", scopes.join(" "));
        }
        if let Some(error) = error {
            text += &format!(",error=\"{error}\"");
        }
        text
    }

    /// The token server.
    ///
    /// Source: distribution's `docs/spec/auth/token.md` and `oauth.md`.
    pub(super) fn token(&self, incoming: &mut Incoming<'_, '_>) -> Answer {
        let mut form = Vec::new();
        if incoming.read_to_end(&mut form).is_err() {
            return Answer::none();
        }
        let form = String::from_utf8_lossy(&form);
        let mut tokens = lock(&self.auth);
        let options = &tokens.options;
        let (who, scopes) = match incoming.request.method.as_str() {
            "GET" => {
                let who = options.who(incoming.request.headers.get("Authorization"));
                (who, query_values(&incoming.request.query, "scope"))
            }
            "POST" => {
                if let PostTokens::Refused(status) = options.post {
                    return problem(status, "UNSUPPORTED", "no tokens by POST");
                }
                let value = |name| query_values(&form, name).into_iter().next();
                let is_user = match value("grant_type").as_deref() {
                    Some("refresh_token") => {
                        options.identity_token.is_some()
                            && value("refresh_token") == options.identity_token
                    }
                    Some("password") => {
                        value("username").as_ref() == Some(&options.user)
                            && value("password").as_ref() == Some(&options.password)
                    }
                    _ => false,
                };
                let who = if is_user { Who::User } else { Who::Impostor };
                (who, query_values(&form, "scope"))
            }
            _ => return problem(405, "UNSUPPORTED", "the operation is unsupported"),
        };
        if who == Who::Impostor {
            return unauthorized();
        }
        let mut access = BTreeSet::new();
        for scope in scopes.iter().flat_map(|scopes| scopes.split(' ')) {
            let Some((resource, actions)) = scope.rsplit_once(':') else {
                continue;
            };
            for action in actions.split(',') {
                let is_granted = match action {
                    "pull" => who == Who::User || options.anonymous_pull,
                    _ => who == Who::User && options.may_push,
                };
                if is_granted {
                    access.insert(format!("{resource}:{action}"));
                }
            }
        }
        let field = if options.access_token_field {
            "access_token"
        } else {
            "token"
        };
        let mut document = json!({});
        if let Some(seconds) = options.expires_in {
            document["expires_in"] = json!(seconds);
        }
        let ends = Instant::now() + options.token_lives;
        tokens.count += 1;
        let token = format!("token-{}", tokens.count);
        document[field] = json!(token);
        tokens.given.insert(token, Token { access, ends });
        Answer::json(200, &document)
    }
}

fn unauthorized() -> Answer {
    problem(401, "UNAUTHORIZED", "authentication required")
}

fn denied(status: u16) -> Answer {
    problem(
        status,
        "DENIED",
        "requested access to the resource is denied",
    )
}
