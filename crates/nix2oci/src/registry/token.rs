//! Tokens: how they are asked for, and what a token server answers.
//!
//! Sources: distribution, "Token Authentication Specification" (GET) and
//! "OAuth2 Token Authentication" (POST).

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::request::Scope;
use crate::context::CancelFlag;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{
    Body, Failure, Outgoing, Response, Sending, Wire, authorization, basic, refusal, secret_value,
};

/// Bytes of a token server's answer.
const MAX_ANSWER: u64 = 1024 * 1024;

/// What a token lives at least, and if nothing is said.
const MIN_LIFE: Duration = Duration::from_secs(60);

/// What is believed at most, so that times do not overflow.
const MAX_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where tokens are had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenServer {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
}

/// A token, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// `Bearer …`; marked so that it is not shown.
    pub(super) value: HeaderValue,
    /// When it ends.
    pub(super) until: Instant,
}

/// Fetches a token for several scopes, in this order.
pub(super) async fn fetch_token(
    wire: &Wire,
    cancel: &CancelFlag,
    server: &TokenServer,
    credentials: &Credentials,
    scope: &Scope,
    scopes: &[String],
) -> Result<Token, Failure> {
    let asked = Instant::now();
    let host = wire.shown(&server.realm);
    let what = if scope.push { "push to" } else { "read" };
    let action = format!("give a token to {what} repository {}", scope.repository);
    let fetch = Fetch {
        wire,
        cancel,
        server,
        scopes,
        host: &host,
        action: &action,
    };
    let answer = match credentials {
        Credentials::IdentityToken(token) => match fetch.post(token.reveal()).await {
            // Servers that do not know OAuth2 say so in these ways: 404
            // Google, 401 Artifactory, 400 Azure, 405 others (containerd,
            // `remotes/docker/authorizer.go`).
            Err(error) if matches!(error.status, Some(400 | 401 | 404 | 405)) => {
                fetch.get(Some(("<token>", token.reveal()))).await?
            }
            answer => answer?,
        },
        Credentials::Password { user, password } => {
            fetch.get(Some((user, password.reveal()))).await?
        }
        Credentials::Anonymous | Credentials::RegistryToken(_) => fetch.get(None).await?,
    };
    let (text, life) = parse_token(&answer).map_err(|problem| fetch.senseless(problem))?;
    let value = secret_value(&format!("Bearer {text}"))
        .ok_or_else(|| fetch.senseless("the token has characters that no header can have"))?;
    Ok(Token {
        value,
        until: asked + life,
    })
}

struct Fetch<'a> {
    wire: &'a Wire,
    cancel: &'a CancelFlag,
    server: &'a TokenServer,
    scopes: &'a [String],
    host: &'a str,
    action: &'a str,
}

impl Fetch<'_> {
    /// Asks with a name and a password, or as nobody.
    async fn get(&self, login: Option<(&str, &str)>) -> Result<Vec<u8>, Failure> {
        let mut url = self.server.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &self.server.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
        }
        let login = login.map(|(user, password)| basic(user, password));
        self.ask(Method::GET, url, HeaderMap::new(), login, Body::Empty)
            .await
    }

    /// Asks with a refresh token, as OAuth2 does.
    async fn post(&self, refresh_token: &str) -> Result<Vec<u8>, Failure> {
        // A form is written as a query is.
        let mut form = self.server.realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair(
                "service",
                self.server.service.as_deref().unwrap_or_default(),
            )
            .append_pair("client_id", "nix2oci")
            .append_pair("scope", &self.scopes.join(" "))
            .append_pair("refresh_token", refresh_token);
        let body = form.query().unwrap_or_default().to_owned();
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        let url = self.server.realm.clone();
        self.ask(Method::POST, url, headers, None, Body::Bytes(body.into()))
            .await
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        login: Option<HeaderValue>,
        body: Body,
    ) -> Result<Vec<u8>, Failure> {
        let sending = Sending {
            method,
            url,
            headers: &headers,
            private: authorization(login),
            body: &mut Outgoing::new(body),
            action: self.action,
            accept: &[],
            answer: self.wire.limits.answer,
            is_large: false,
        };
        let answer = self.wire.follow(sending).await?;
        let host = self.wire.shown(&answer.url);
        let limits = &self.wire.limits;
        let mut response = Response::new(answer, host, self.action, limits, self.cancel);
        if response.status != 200 {
            let is_denial = matches!(response.status, 401 | 403);
            return Err(refusal(&mut response, is_denial).await);
        }
        Ok(response.bytes(MAX_ANSWER).await?.into())
    }

    fn senseless(&self, problem: &str) -> Error {
        ErrorKind::Answer {
            host: self.host.to_owned(),
            action: self.action.to_owned(),
            status: None,
            problem: problem.to_owned(),
        }
        .into()
    }
}

/// Parses a token server's answer: the token, and how long it lives.
fn parse_token(answer: &[u8]) -> Result<(String, Duration), &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        #[serde(default)]
        expires_in: serde_json::Value,
    }
    // The parser's own words would show a part of the token.
    let answer: Answer =
        serde_json::from_slice(answer).map_err(|_| "its answer is not the JSON of a token")?;
    let is_there = |token: &String| !token.is_empty();
    let token = answer
        .token
        .filter(is_there)
        .or(answer.access_token.filter(is_there))
        .ok_or("its answer has no token")?;
    // A number by the specification, a text by some.
    let seconds = match &answer.expires_in {
        serde_json::Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    // `max` and `min` pass over what is no number.
    let life = seconds
        .unwrap_or_default()
        .max(MIN_LIFE.as_secs_f64())
        .min(MAX_LIFE.as_secs_f64());
    Ok((token, Duration::from_secs_f64(life)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_understood() {
        for (answer, expected) in [
            (r#"{"token":"a"}"#, Ok(("a", 60))),
            (r#"{"access_token":"b","expires_in":300}"#, Ok(("b", 300))),
            (r#"{"token":"","access_token":"b"}"#, Ok(("b", 60))),
            (r#"{"token":"a","access_token":"b"}"#, Ok(("a", 60))),
            (r#"{"token":"a","expires_in":5}"#, Ok(("a", 60))),
            (r#"{"token":"a","expires_in":-5}"#, Ok(("a", 60))),
            (r#"{"token":"a","expires_in":null}"#, Ok(("a", 60))),
            (r#"{"token":"a","expires_in":"300"}"#, Ok(("a", 300))),
            (r#"{"token":"a","expires_in":3600.5}"#, Ok(("a", 3600))),
            (r#"{"token":"a","expires_in":"NaN"}"#, Ok(("a", 60))),
            (
                r#"{"token":"a","expires_in":1e300}"#,
                Ok(("a", 365 * 24 * 3600)),
            ),
            (
                r#"{"token":"a","expires_in":18446744073709551615}"#,
                Ok(("a", 365 * 24 * 3600)),
            ),
            ("{}", Err("its answer has no token")),
            (r#"{"token":null}"#, Err("its answer has no token")),
            ("<html>", Err("its answer is not the JSON of a token")),
            (
                r#"{"token":["hunter2"]}"#,
                Err("its answer is not the JSON of a token"),
            ),
        ] {
            let found = parse_token(answer.as_bytes());
            let found = found
                .as_ref()
                .map(|(token, life)| (&**token, life.as_secs()))
                .map_err(|problem| *problem);
            assert_eq!(found, expected, "{answer}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token {
            value: secret_value("Bearer hunter2").unwrap(),
            until: Instant::now(),
        };
        assert!(!format!("{token:?}{:?}", basic("user", "hunter2")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_answer_is_read(answer in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_token(&answer);
        }
    }
}
