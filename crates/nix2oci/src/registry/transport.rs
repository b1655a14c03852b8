//! Sends requests to one registry, and sees to everything that all requests
//! have in common: the scheme, who asks, redirects, repetition, patience.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, Url};

use super::RegistryOptions;
use super::auth::Auth;
use super::request::{Request, Target};
use super::warning::parse_warnings;
use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{
    Body, Failure, Limits, Outgoing, Patience, Permit, Response, Sending, ServerAddress, Wire,
    WireOptions, authorization, refusal, until_cancelled,
};

/// Different warnings of one registry that are told.
const MAX_WARNINGS: usize = 64;

/// One registry as this process sees it. Clones share everything.
#[derive(Clone)]
pub(crate) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    cx: Context,
    host: String,
    wire: Wire,
    auth: Auth,
    patience: Patience,
    /// Those that were told.
    warnings: Mutex<HashSet<String>>,
}

impl Transport {
    /// Prepares for a registry, whose host is as in a reference: `docker.io`,
    /// `localhost:5000`. Reads the certificates that the user names; opens no
    /// connection.
    pub(crate) fn new(cx: &Context, host: &str, options: &RegistryOptions) -> Result<Self> {
        Self::with_limits(cx, host, options, Limits::default())
    }

    pub(super) fn with_limits(
        cx: &Context,
        host: &str,
        options: &RegistryOptions,
        limits: Limits,
    ) -> Result<Self> {
        let http = address(host, api_host(host), "http")?;
        let server = if options.plain_http {
            ServerAddress::Known(http)
        } else {
            let https = address(host, api_host(host), "https")?;
            ServerAddress::AnyScheme { https, http }
        };
        let wire = Wire::new(WireOptions {
            shown: host,
            address: server,
            cert_dir: host,
            tls: &options.tls,
            proxy: &options.proxy,
            limits,
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                cx: cx.clone(),
                host: host.to_owned(),
                wire,
                auth: Auth::new(host, Arc::clone(&options.credentials)),
                patience: Patience::new(options.retries, options.jobs.get(), limits.waits),
                warnings: Mutex::default(),
            }),
        })
    }

    /// Returns the host as the user wrote it.
    pub(crate) fn host(&self) -> &str {
        &self.shared.host
    }

    /// Returns the host that the API is on.
    pub(crate) fn api_host(&self) -> &str {
        api_host(&self.shared.host)
    }

    /// Returns how often a request is repeated at most.
    pub(crate) fn retries(&self) -> u32 {
        self.shared.patience.retries()
    }

    /// Waits for the right to send requests. It is held over all requests of
    /// one blob.
    pub(crate) async fn permit(&self) -> Permit {
        self.shared.patience.permit().await
    }

    /// Tells the observer that something is repeated, as repetition `attempt`
    /// counted from 1, and waits: as long as `told`, else longer each time; in
    /// any case until requests may be sent again. Returns early if the call is
    /// cancelled.
    pub(crate) async fn pause_before_retry(
        &self,
        error: &Error,
        attempt: u32,
        told: Option<Duration>,
    ) {
        let Shared { cx, patience, .. } = &*self.shared;
        patience.pause_before_retry(cx, error, attempt, told).await;
    }

    /// Sends a request and returns the answer, if it is one of those that the
    /// request accepts. Waits for a permit if the caller holds none.
    ///
    /// Fails with [`ErrorKind::Denied`] if the registry does not let us,
    /// [`ErrorKind::Answer`] if it says something else that is not accepted,
    /// [`ErrorKind::Connection`] if it says nothing, [`ErrorKind::Cancelled`]
    /// within 100 ms after the cancel flag is set. An error of the body itself
    /// is returned as it is.
    pub(crate) async fn send(&self, request: Request, permit: Option<&Permit>) -> Result<Response> {
        let Shared { cx, patience, .. } = &*self.shared;
        let mut request = request;
        let mut body = Outgoing::new(std::mem::replace(&mut request.body, Body::Empty));
        until_cancelled(&cx.cancel, async {
            let _own = match permit {
                Some(_) => None,
                None => Some(patience.permit().await),
            };
            let mut tries = patience.tries();
            loop {
                tries.begin().await;
                let failure = match self.attempt(&mut request, &mut body).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                };
                let is_repeatable = request.retry && body.can_be_sent();
                tries.failed(cx, failure, is_repeatable).await?;
            }
        })
        .await
    }

    /// Sends a request once, and again if the registry wants to know who asks.
    ///
    /// The request is not changed: a `&` would have to be shared between
    /// threads, which a body that is a stream cannot be.
    async fn attempt(
        &self,
        request: &mut Request,
        body: &mut Outgoing,
    ) -> Result<Response, Failure> {
        let Shared { cx, wire, auth, .. } = &*self.shared;
        let began = Instant::now();
        let base = wire.base(&request.action).await?;
        let url = self.url(base, request)?;
        let is_ours = wire.is_home(&url);
        let mut is_second = false;
        loop {
            let shown = if is_ours {
                auth.authorization(wire, &cx.cancel, &request.scope, began)
                    .await?
            } else {
                None
            };
            let sending = Sending {
                method: request.method.clone(),
                url: url.clone(),
                headers: &request.headers,
                private: authorization(shown.clone()),
                body,
                action: &request.action,
                accept: request.accept,
                answer: self.answer_limit(request),
                is_large: false,
            };
            let answer = wire.follow(sending).await?;
            let host = wire.shown(&answer.url);
            let is_home = is_ours && wire.is_home(&answer.url);
            let limits = &wire.limits;
            let mut response = Response::new(answer, host, &request.action, limits, &cx.cancel);
            self.warn(&response.headers);

            let status = response.status;
            let is_accepted = request.accept.contains(&status);
            if status == 401 && is_home && !is_second {
                let may_help = auth
                    .learn(wire, &response.headers, &request.scope, shown.as_ref())
                    .await?;
                if may_help && body.can_be_sent() {
                    is_second = true;
                    // Read to its end, so that the connection can be used again.
                    response.error_body().await;
                    continue;
                }
            }
            if is_accepted {
                self.shared.patience.succeeded();
                return Ok(response);
            }
            // What could not be sent again with a new token was not refused.
            let is_denial = is_home && matches!(status, 401 | 403) && body.can_be_sent();
            return Err(refusal(&mut response, is_denial).await);
        }
    }

    /// Returns the address of a request.
    fn url(&self, base: &Url, request: &Request) -> Result<Url> {
        let (url, is_named) = match &request.target {
            // A path such as `//example.org/` would lead to another server.
            Target::Api(path) => {
                let url = base.join(path).ok();
                (url.filter(|url| self.shared.wire.is_home(url)), false)
            }
            Target::Session(url) => (Some(url.clone()), true),
        };
        let refuse = |problem: String| -> Error {
            ErrorKind::Answer {
                host: self.shared.host.clone(),
                action: request.action.clone(),
                status: None,
                problem,
            }
            .into()
        };
        let mut url = url.ok_or_else(|| refuse("the request has no address".to_owned()))?;
        if !is_named {
            return Ok(url);
        }
        // A registry behind a proxy that ends TLS names itself by http: it is
        // meant as it was asked (go-containerregistry, `transport/schemer.go`).
        if url.host_str() == base.host_str()
            && url.port() == base.port()
            && matches!(url.scheme(), "http" | "https")
        {
            // Both are schemes of which the one can be changed into the other.
            let _ = url.set_scheme(base.scheme());
        }
        self.shared.wire.check_named(&url, None).map_err(refuse)?;
        Ok(url)
    }

    /// Returns how long the registry may take to answer after a request.
    /// Registries move a blob to its place before they answer to its end.
    fn answer_limit(&self, request: &Request) -> Duration {
        let limits = &self.shared.wire.limits;
        let ends_a_blob = matches!(request.target, Target::Session(_))
            && matches!(request.method, Method::PUT | Method::PATCH);
        if ends_a_blob {
            limits.blob_answer
        } else {
            limits.answer
        }
    }

    /// Tells the observer what the registry wants the user to know, once.
    fn warn(&self, headers: &HeaderMap) {
        let name = HeaderName::from_static("warning");
        let texts = headers
            .get_all(name)
            .iter()
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .flat_map(parse_warnings);
        for text in texts {
            // Nothing panics while it holds the lock.
            let mut told = self
                .shared
                .warnings
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if told.len() < MAX_WARNINGS && told.insert(text.clone()) {
                drop(told);
                let message = format!("{} says: {text}", self.shared.host);
                self.shared
                    .cx
                    .observer
                    .event(&Event::Warning { message: &message });
            }
        }
    }
}

/// Makes the address of an API of its host, and checks the host.
fn address(host: &str, api_host: &str, scheme: &str) -> Result<Url> {
    let refuse = || {
        Error::invalid(
            format!("registry {host:?}"),
            "not a host; expected a name or an address, with :PORT or without",
        )
    };
    // A parser of URLs would read other things out of these.
    if api_host.is_empty() || api_host.contains(['/', '\\', '?', '#', '@', '%']) {
        return Err(refuse());
    }
    Url::parse(&format!("{scheme}://{api_host}/")).map_err(|_| refuse())
}

/// Returns the host that the API is on: Docker Hub's name for people is not
/// where its API is.
fn api_host(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        host => host,
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "redirect_tests.rs"]
mod redirect_tests;

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tls_tests;

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod proxy_tests;
