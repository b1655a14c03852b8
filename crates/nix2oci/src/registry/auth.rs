//! Who asks: what a registry wants to know, and the tokens that say it.
//!
//! Nothing is asked in advance. A request goes out with what is known; a 401
//! says what else is wanted, for that request and for those that follow. There
//! is one token for each [`Scope`], fetched once however many requests wait for
//! it, and again before it ends or when the registry no longer takes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::OnceCell;

use super::challenge::{Challenge, parse_challenges};
use super::request::Scope;
use super::token::{Token, TokenServer, fetch_token};
use crate::context::CancelFlag;
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Failure, HttpError, Wire, basic, secret_value};

/// A token with less life than this is not used any more.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// Scopes that a registry may add to one of ours.
const MAX_FURTHER_SCOPES: usize = 8;

/// What is known about who asks at one registry.
pub(super) struct Auth {
    host: String,
    source: Arc<dyn CredentialSource>,
    /// What the registry wants, once it said so.
    wanted: Mutex<Option<Wanted>>,
    /// By repository.
    credentials: Mutex<HashMap<String, Arc<OnceCell<Credentials>>>>,
    tokens: Mutex<HashMap<Scope, Arc<tokio::sync::Mutex<Slot>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Basic,
    Bearer(TokenServer),
}

/// The token for one scope. Who holds the lock fetches it; the others wait for
/// the lock.
#[derive(Default)]
struct Slot {
    token: Option<(Token, TokenServer)>,
    /// What the registry asked for beyond the scope itself.
    further: Vec<String>,
    /// When the last fetch failed, and how: those who waited for it share it.
    failed: Option<(Instant, Failure)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Auth {
    pub(super) fn new(host: &str, source: Arc<dyn CredentialSource>) -> Self {
        Self {
            host: host.to_owned(),
            source,
            wanted: Mutex::default(),
            credentials: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// Returns the header for a request to the registry itself; `None` as long
    /// as it wants none, or if there is nothing to say. A fetch of the token
    /// that failed after `began`, when the request was begun, counts for it too.
    pub(super) async fn authorization(
        &self,
        wire: &Wire,
        cancel: &CancelFlag,
        scope: &Scope,
        began: Instant,
    ) -> Result<Option<HeaderValue>, Failure> {
        let Some(wanted) = lock(&self.wanted).clone() else {
            return Ok(None);
        };
        let credentials = self.credentials(&scope.repository).await?;
        match (credentials, wanted) {
            (Credentials::RegistryToken(token), _) => {
                let value = secret_value(&format!("Bearer {}", token.reveal()));
                let value = value.ok_or_else(|| self.unusable("the registry token"))?;
                Ok(Some(value))
            }
            (Credentials::Anonymous, Wanted::Basic) => Ok(None),
            (Credentials::Password { user, password }, Wanted::Basic) => {
                Ok(Some(basic(&user, password.reveal())))
            }
            (Credentials::IdentityToken(token), Wanted::Basic) => {
                Ok(Some(basic("<token>", token.reveal())))
            }
            (credentials, Wanted::Bearer(server)) => self
                .token(wire, cancel, &server, &credentials, scope, began)
                .await
                .map(Some),
        }
    }

    /// Learns from a 401 of the registry itself. Returns whether the request
    /// may be let through with what [`Self::authorization`] says now; `shown`
    /// is what it said before.
    pub(super) async fn learn(
        &self,
        wire: &Wire,
        headers: &HeaderMap,
        scope: &Scope,
        shown: Option<&HeaderValue>,
    ) -> Result<bool> {
        let challenges: Vec<_> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse_challenges)
            .collect();
        let of = |scheme| challenges.iter().find(move |found| found.scheme == scheme);
        let wanted = match (of("bearer"), of("basic")) {
            (Some(challenge), _) if challenge.parameter("realm").is_some() => {
                let server = self.token_server(wire, challenge)?;
                self.renew(challenge.parameter("scope"), scope, shown).await;
                Wanted::Bearer(server)
            }
            (_, Some(_)) => Wanted::Basic,
            // It no longer takes the token and does not say why.
            _ => return Ok(self.renew(None, scope, shown).await),
        };
        let is_news = lock(&self.wanted).replace(wanted.clone()).as_ref() != Some(&wanted);
        Ok(match self.credentials(&scope.repository).await? {
            // There is only this one.
            Credentials::RegistryToken(_) => shown.is_none(),
            Credentials::Anonymous if wanted == Wanted::Basic => false,
            _ if wanted == Wanted::Basic => is_news || shown.is_none(),
            _ => true,
        })
    }

    /// Checks the token server that a registry names: it will be shown the
    /// credentials.
    fn token_server(&self, wire: &Wire, challenge: &Challenge) -> Result<TokenServer> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let refuse = |problem: String| -> Error {
            ErrorKind::Answer {
                host: self.host.clone(),
                action: "name a token server".to_owned(),
                status: Some(401),
                problem,
            }
            .into()
        };
        let mut realm = Url::parse(realm)
            .ok()
            .filter(Url::has_host)
            .ok_or_else(|| refuse("its challenge has a realm that is no address".to_owned()))?;
        realm.set_fragment(None);
        wire.check_named(&realm, None).map_err(refuse)?;
        let service = challenge.parameter("service").map(str::to_owned);
        Ok(TokenServer { realm, service })
    }

    /// Drops the token that the registry did not take, and remembers what it
    /// asks for beyond the scope. Returns whether there was such a token.
    async fn renew(&self, asked: Option<&str>, scope: &Scope, shown: Option<&HeaderValue>) -> bool {
        let slot = self.slot(scope);
        let mut slot = slot.lock().await;
        // Another request may have fetched a new one in the meantime.
        let is_current = |(token, _): &(Token, _)| Some(&token.value) == shown;
        let is_dropped = slot.token.as_ref().is_some_and(is_current);
        if is_dropped {
            slot.token = None;
        }
        let own = scopes_of(scope);
        for asked in asked.unwrap_or_default().split_whitespace() {
            let is_known = slot.further.iter().any(|known| known == asked)
                || own.iter().any(|own| covers(own, asked));
            if !is_known && slot.further.len() < MAX_FURTHER_SCOPES {
                slot.further.push(asked.to_owned());
                slot.token = None;
            }
        }
        is_dropped
    }

    fn slot(&self, scope: &Scope) -> Arc<tokio::sync::Mutex<Slot>> {
        Arc::clone(lock(&self.tokens).entry(scope.clone()).or_default())
    }

    async fn token(
        &self,
        wire: &Wire,
        cancel: &CancelFlag,
        server: &TokenServer,
        credentials: &Credentials,
        scope: &Scope,
        began: Instant,
    ) -> Result<HeaderValue, Failure> {
        let slot = self.slot(scope);
        let mut slot = slot.lock().await;
        if let Some((token, from)) = &slot.token
            && from == server
            && token.until.saturating_duration_since(Instant::now()) >= RENEW_BEFORE
        {
            return Ok(token.value.clone());
        }
        if let Some((at, failure)) = &slot.failed
            && *at >= began
            && let Some(failure) = copy(failure)
        {
            return Err(failure);
        }
        // Some registries look at the first scope only (go-containerregistry,
        // `transport/bearer.go`), so theirs comes first.
        let mut scopes = slot.further.clone();
        scopes.extend(scopes_of(scope));
        match fetch_token(wire, cancel, server, credentials, scope, &scopes).await {
            Ok(token) => {
                let value = token.value.clone();
                slot.token = Some((token, server.clone()));
                slot.failed = None;
                Ok(value)
            }
            Err(failure) => {
                slot.failed = copy(&failure).map(|failure| (Instant::now(), failure));
                Err(failure)
            }
        }
    }

    /// Returns the credentials for a repository; the source is asked once.
    async fn credentials(&self, repository: &str) -> Result<Credentials> {
        let cell = Arc::clone(
            lock(&self.credentials)
                .entry(repository.to_owned())
                .or_default(),
        );
        let found = cell.get_or_try_init(|| async {
            let source = Arc::clone(&self.source);
            let (host, repository) = (self.host.clone(), repository.to_owned());
            // It may read files and run programs.
            let found = tokio::task::spawn_blocking(move || source.find(&host, &repository))
                .await
                .map_err(|error| ErrorKind::WorkerPanicked {
                    message: error.to_string(),
                })??;
            Ok::<_, Error>(match found {
                // How docker's credential helpers mark an identity token.
                Credentials::Password { user, password } if user == "<token>" => {
                    Credentials::IdentityToken(Secret::new(password.reveal()))
                }
                found => found,
            })
        });
        found.await.cloned()
    }

    fn unusable(&self, what: &str) -> Error {
        ErrorKind::Credentials {
            host: self.host.clone(),
            from: what.to_owned(),
            problem: "it has characters that no header can have".to_owned(),
        }
        .into()
    }
}

/// Returns what a token server is asked for. A mount needs the right to read
/// its source in the same token: Docker Hub answers 401 else
/// (`rust-oci-client#235`).
fn scopes_of(scope: &Scope) -> Vec<String> {
    let actions = if scope.push { "pull,push" } else { "pull" };
    let own = format!("repository:{}:{actions}", scope.repository);
    let source = scope.mount_from.iter();
    let source = source.map(|source| format!("repository:{source}:pull"));
    std::iter::once(own).chain(source).collect()
}

/// Returns whether a scope allows all that another one does.
fn covers(scope: &str, other: &str) -> bool {
    let split = |scope| str::rsplit_once(scope, ':');
    let (Some((thing, actions)), Some((other_thing, other_actions))) = (split(scope), split(other))
    else {
        return scope == other;
    };
    let is_allowed = |action| actions.split(',').any(|allowed| allowed == action);
    thing == other_thing && other_actions.split(',').all(is_allowed)
}

/// Says the same again to another request that waited; `None` for what each
/// request finds out for itself.
fn copy(failure: &Failure) -> Option<Failure> {
    let kind = match failure.error.kind() {
        ErrorKind::Denied {
            host,
            action,
            problem,
        } => ErrorKind::Denied {
            host: host.clone(),
            action: action.clone(),
            problem: problem.clone(),
        },
        ErrorKind::Answer {
            host,
            action,
            status,
            problem,
        } => ErrorKind::Answer {
            host: host.clone(),
            action: action.clone(),
            status: *status,
            problem: problem.clone(),
        },
        ErrorKind::Connection {
            host,
            action,
            source,
        } => ErrorKind::Connection {
            host: host.clone(),
            action: action.clone(),
            source: source.downcast_ref::<HttpError>()?.clone().into(),
        },
        _ => return None,
    };
    Some(Failure {
        error: kind.into(),
        told: failure.told,
        status: failure.status,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mount_asks_for_both_repositories_in_one_token() {
        let scope = |push, mount_from: Option<&str>| {
            scopes_of(&Scope {
                repository: "team/app".to_owned(),
                push,
                mount_from: mount_from.map(str::to_owned),
            })
        };
        assert_eq!(scope(false, None), ["repository:team/app:pull"]);
        assert_eq!(
            scope(true, Some("base")),
            ["repository:team/app:pull,push", "repository:base:pull"]
        );
    }

    #[test]
    fn a_scope_covers_what_it_allows() {
        let own = "repository:app:pull,push";
        for (other, expected) in [
            ("repository:app:pull", true),
            ("repository:app:push,pull", true),
            ("repository:app:pull,push", true),
            ("repository:app:delete", false),
            ("repository:app:pull,delete", false),
            ("repository:other:pull", false),
            ("registry:catalog:*", false),
            ("aws", false),
        ] {
            assert_eq!(covers(own, other), expected, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_scope_covers_itself(scope in "[a-z:,]{0,12}") {
            prop_assert!(covers(&scope, &scope));
        }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod server_tests;
