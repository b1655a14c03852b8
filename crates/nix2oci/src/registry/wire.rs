//! One request to one server, with the redirects that it leads to.

use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Url};
use tokio::sync::OnceCell;

use super::RegistryOptions;
use super::request::Body;
use super::response::connection_error;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{
    BodyStream, Certificates, Clients, Home, HttpError, Limits, Progress, Proxies, Reach, Resolver,
    exchange, io_problem, speaks_tls, unchecked_config, watched,
};
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// Bodies up to this size go over the connection that small requests share.
const SMALL_BODY: usize = 64 * 1024;

/// The way to a registry and to the servers that it names.
pub(super) struct Wire {
    /// The registry, as the user wrote it.
    host: String,
    /// The host of its API.
    api_host: String,
    plain_http: bool,
    verify: bool,
    pub(super) limits: Limits,
    certificates: Arc<Certificates>,
    proxies: Proxies,
    /// Where the registry is.
    home: Arc<Home>,
    /// The address of its API, once its scheme is known.
    base: OnceCell<Url>,
    /// For the registry itself.
    near: OnceCell<Clients>,
    /// For the servers that it names: without the client certificate, and not
    /// to addresses that it must not name.
    far: OnceCell<Clients>,
}

/// A request on its way.
pub(super) struct Sending<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: &'a HeaderMap,
    /// For the server of `url`; nobody else sees it.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) body: &'a mut Outgoing,
    /// For errors.
    pub(super) action: &'a str,
    /// Statuses that are not followed.
    pub(super) accept: &'a [u16],
    /// How long the server may take to answer.
    pub(super) answer: Duration,
}

/// What a server answers, and where.
pub(super) struct Answer {
    pub(super) answer: reqwest::Response,
    pub(super) url: Url,
    /// How far the body of the request is: an answer may come before its end.
    pub(super) progress: Progress,
}

/// A request's body, as often as it may be sent.
pub(super) struct Outgoing {
    body: Body,
    is_spent: bool,
}

impl Outgoing {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            is_spent: false,
        }
    }

    /// Returns whether it can be sent again, or at all.
    pub(super) fn can_be_sent(&self) -> bool {
        !self.is_spent
    }

    fn is_large(&self) -> bool {
        match &self.body {
            Body::Empty => false,
            Body::Bytes(bytes) => bytes.len() > SMALL_BODY,
            Body::Replay(..) | Body::Stream(..) => true,
        }
    }

    /// Gives the body to a request.
    fn fill(&mut self, request: &mut reqwest::Request, action: &str) -> Result<Progress> {
        let (stream, length): (BodyStream, _) = match &mut self.body {
            Body::Empty => {
                // Without it a server may wait for a body.
                if matches!(
                    *request.method(),
                    Method::POST | Method::PUT | Method::PATCH
                ) {
                    request.headers_mut().insert(CONTENT_LENGTH, 0.into());
                }
                return Ok(Progress::given());
            }
            Body::Bytes(bytes) if bytes.len() <= SMALL_BODY => {
                *request.body_mut() = Some(bytes.clone().into());
                return Ok(Progress::given());
            }
            Body::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (Box::pin(Whole(Some(bytes.clone()))), Some(length))
            }
            Body::Replay(open, length) => (open()?, Some(*length)),
            Body::Stream(stream, length) => {
                self.is_spent = true;
                let nothing: BodyStream = Box::pin(Whole(None));
                let stream = stream.get_mut().unwrap_or_else(PoisonError::into_inner);
                (std::mem::replace(stream, nothing), *length)
            }
        };
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let (stream, progress) = watched(stream, length, format!("the body of {action}"));
        *request.body_mut() = Some(reqwest::Body::wrap_stream(stream));
        Ok(progress)
    }
}

/// Bytes as a body.
struct Whole(Option<bytes::Bytes>);

impl futures_core::Stream for Whole {
    type Item = Result<bytes::Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

impl Wire {
    /// Prepares the way. Reads the user's certificates; opens no connection.
    pub(super) fn new(
        host: &str,
        api_host: &str,
        options: &RegistryOptions,
        limits: Limits,
    ) -> Result<Self> {
        let home = Home::default();
        if let Some(reach) = address(host, api_host, "https")?
            .host_str()
            .and_then(Reach::of_host)
        {
            home.learn(reach);
        }
        Ok(Self {
            host: host.to_owned(),
            api_host: api_host.to_owned(),
            plain_http: options.plain_http,
            verify: options.tls.verify,
            limits,
            certificates: Arc::new(Certificates::read(&options.tls, host)?),
            proxies: Proxies::new(&options.proxy)?,
            home: Arc::new(home),
            base: OnceCell::new(),
            near: OnceCell::new(),
            far: OnceCell::new(),
        })
    }

    /// Returns the address of the API. Finds out its scheme at the first call:
    /// HTTP if the user says so, HTTPS else; where either may be meant, because
    /// the registry is on this machine or its certificate does not matter, the
    /// server is asked which it speaks. `action` is for errors.
    pub(super) async fn base(&self, action: &str) -> Result<&Url> {
        self.base
            .get_or_try_init(|| async {
                let https = address(&self.host, &self.api_host, "https")?;
                let http = address(&self.host, &self.api_host, "http")?;
                if self.plain_http {
                    return Ok(http);
                }
                let host = https.host_str().unwrap_or_default();
                let is_loopback = Reach::of_host(host) == Some(Reach::Loopback);
                // A proxy cannot be asked; it would answer in the server's place.
                let is_open = is_loopback || !self.verify;
                if !is_open || self.proxies.for_url(&https).is_some() {
                    return Ok(https);
                }
                let port = https.port_or_known_default().unwrap_or(443);
                let limit = self.limits.connect;
                let error = match speaks_tls(host, port, unchecked_config(), limit).await {
                    Ok(true) => return Ok(https),
                    Ok(false) => return Ok(http),
                    Err(error) => error,
                };
                let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                if is_refused && https.port().is_none() {
                    // Nothing at 443, but perhaps at 80.
                    return Ok(http);
                }
                let problem = io_problem(&error);
                // What does not run on this machine will not run in a second.
                let error = if is_refused && is_loopback {
                    HttpError::lasting(problem)
                } else {
                    HttpError::passing(problem)
                };
                Err(connection_error(&self.host, action, error))
            })
            .await
    }

    /// Returns whether an address belongs to the registry's API.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        self.base
            .get()
            .is_some_and(|base| base.origin() == url.origin())
    }

    /// Returns the server of an address, as the user would name it.
    pub(super) fn shown(&self, url: &Url) -> String {
        if self.is_home(url) {
            return self.host.clone();
        }
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Sends a request, follows its redirects and returns the first answer that
    /// is none. The base must be known.
    pub(super) async fn follow(&self, sending: Sending<'_>) -> Result<Answer> {
        let Sending {
            mut method,
            mut url,
            headers,
            mut authorization,
            body,
            action,
            accept,
            answer: answer_limit,
        } = sending;
        let mut redirects = 0;
        loop {
            let clients = self.clients(&url, action).await?;
            let client = if body.is_large() {
                &clients.large
            } else {
                &clients.small
            };
            let mut request = reqwest::Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            if let Some(value) = &authorization {
                request.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            let progress = body.fill(&mut request, action)?;
            let answer = exchange(client, request, &progress, self.limits.stall, answer_limit)
                .await
                .map_err(|error| {
                    let failure = progress.take_failure();
                    failure.unwrap_or_else(|| connection_error(&self.shown(&url), action, error))
                })?;
            self.learn_home(&url, &answer);

            let status = answer.status().as_u16();
            let location = answer.headers().get(LOCATION);
            let Some(location) = location.filter(|_| {
                matches!(status, 301 | 302 | 303 | 307 | 308) && !accept.contains(&status)
            }) else {
                return Ok(Answer {
                    answer,
                    url,
                    progress,
                });
            };
            progress.stop();
            let refuse = |problem: &str| -> Error {
                ErrorKind::Answer {
                    host: self.shown(&url),
                    action: action.to_owned(),
                    status: Some(status),
                    problem: problem.to_owned(),
                }
                .into()
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(refuse("more than 10 redirects, one after another"));
            }
            let next = location
                .to_str()
                .ok()
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| refuse("a redirect to what is no address"))?;
            let is_same_server = next.origin() == url.origin();
            let is_reading = matches!(method, Method::GET | Method::HEAD);
            if !is_reading && (!matches!(status, 307 | 308) || !is_same_server) {
                return Err(refuse("a redirect of a request that changes something"));
            }
            if !body.can_be_sent() {
                return Err(refuse("a redirect of a body that cannot be sent again"));
            }
            self.check_named(&next, Some(&url))
                .map_err(|problem| refuse(&problem))?;
            if !is_same_server {
                // For good: another server must not lead it back either.
                authorization = None;
            }
            if status == 303 && method != Method::HEAD {
                method = Method::GET;
            }
            url = next;
        }
    }

    /// Checks an address that a server named, as far as its text says: it must
    /// be HTTPS, unless it was named by a server `from` that speaks HTTP itself
    /// (the registry if it is `None`), and not be near if the registry is far.
    pub(super) fn check_named(&self, url: &Url, from: Option<&Url>) -> Result<(), String> {
        let from = from.or(self.base.get());
        let is_plain_allowed = from.is_some_and(|from| from.scheme() == "http");
        match url.scheme() {
            "https" => {}
            "http" if is_plain_allowed => {}
            scheme => {
                return Err(format!(
                    "it names {scheme}://{}, which is not https",
                    self.shown(url)
                ));
            }
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("it names {} with a user name", self.shown(url)));
        }
        if self.is_home(url) {
            return Ok(());
        }
        let host = url.host_str().unwrap_or_default();
        match Reach::of_host(host) {
            Some(reach) => self
                .home
                .allow(reach, host)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Learns where the registry is from its first answer. Through a proxy it
    /// stays unknown.
    fn learn_home(&self, url: &Url, answer: &reqwest::Response) {
        if self.is_home(url)
            && self.proxies.for_url(url).is_none()
            && let Some(address) = answer.remote_addr()
        {
            self.home.learn(Reach::of(address.ip()));
        }
    }

    /// Returns the clients for an address. Reads the system's authorities when
    /// they are first needed.
    async fn clients(&self, url: &Url, action: &str) -> Result<&Clients> {
        let is_home = self.is_home(url);
        let cell = if is_home { &self.near } else { &self.far };
        cell.get_or_try_init(|| async {
            let is_plain = url.scheme() == "http" && self.proxies.for_url(url).is_none();
            let tls = if is_home && is_plain {
                unchecked_config()
            } else {
                let certificates = Arc::clone(&self.certificates);
                tokio::task::spawn_blocking(move || certificates.to_config(is_home))
                    .await
                    .map_err(|error| ErrorKind::WorkerPanicked {
                        message: error.to_string(),
                    })??
            };
            let resolver = Resolver {
                home: (!is_home).then(|| Arc::clone(&self.home)),
                trusted: self.proxies.hosts(),
            };
            Clients::new(&tls, &self.proxies, resolver, &self.limits)
                .map_err(|error| connection_error(&self.shown(url), action, error))
        })
        .await
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

/// Makes a header's value that no debug output shows.
pub(super) fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns a header's value, if it is there and text.
pub(super) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tls_tests;

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod proxy_tests;
