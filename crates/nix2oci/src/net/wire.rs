//! One request to one server, with the redirects that it leads to.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Url};
use tokio::sync::OnceCell;

use super::response::connection_error;
use super::{
    Certificates, Clients, Home, HttpError, Limits, Outgoing, Progress, Proxies, ProxyOptions,
    Reach, Resolver, TlsOptions, exchange, io_problem, speaks_tls, unchecked_config,
};
use crate::error::{Error, ErrorKind, Result};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// The way to a server, the home, and to the servers that it names.
pub(crate) struct Wire {
    /// The home, as the user would name it.
    shown: String,
    address: ServerAddress,
    verify: bool,
    pub(crate) limits: Limits,
    certificates: Arc<Certificates>,
    proxies: Proxies,
    /// How near the home is.
    home: Arc<Home>,
    /// The address of the home, once its scheme is known.
    base: OnceCell<Url>,
    /// For the home itself.
    near: OnceCell<Clients>,
    /// For the servers that it names: without the client certificate, and not
    /// to addresses that it must not name.
    far: OnceCell<Clients>,
}

/// How a server is reached.
pub(crate) struct WireOptions<'a> {
    /// The server, as the user would name it.
    pub(crate) shown: &'a str,
    pub(crate) address: ServerAddress,
    /// The name of its directory among those of
    /// [`host_cert_dirs`](TlsOptions::host_cert_dirs).
    pub(crate) cert_dir: &'a str,
    pub(crate) tls: &'a TlsOptions,
    pub(crate) proxy: &'a ProxyOptions,
    pub(crate) limits: Limits,
}

/// Where a server is. All addresses have a host.
#[derive(Debug, Clone)]
pub(crate) enum ServerAddress {
    /// With its scheme.
    Known(Url),
    /// HTTPS; but where either may be meant, because the server is on this
    /// machine or its certificate does not matter, it is asked.
    AnyScheme { https: Url, http: Url },
}

/// A request on its way.
pub(crate) struct Sending<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: &'a HeaderMap,
    /// For the server of `url`; nobody else sees them.
    pub(crate) private: HeaderMap,
    pub(crate) body: &'a mut Outgoing,
    /// For errors.
    pub(crate) action: &'a str,
    /// Statuses that are not followed.
    pub(crate) accept: &'a [u16],
    /// How long the server may take to answer.
    pub(crate) answer: Duration,
    /// Whether the answer has a connection of its own, because it is large and
    /// is read as slowly as its reader likes.
    pub(crate) is_large: bool,
}

/// What a server answers, and where.
pub(crate) struct Answer {
    pub(crate) answer: reqwest::Response,
    pub(crate) url: Url,
    /// How far the body of the request is: an answer may come before its end.
    pub(crate) progress: Progress,
}

impl Wire {
    /// Prepares the way. Reads the user's certificates; opens no connection.
    pub(crate) fn new(options: WireOptions<'_>) -> Result<Self> {
        let home = Home::default();
        let (ServerAddress::Known(url) | ServerAddress::AnyScheme { https: url, .. }) =
            &options.address;
        if let Some(reach) = url.host_str().and_then(Reach::of_host) {
            home.learn(reach);
        }
        let certificates = Certificates::read(options.tls, options.cert_dir)?;
        Ok(Self {
            shown: options.shown.to_owned(),
            address: options.address,
            verify: options.tls.verify,
            limits: options.limits,
            certificates: Arc::new(certificates),
            proxies: Proxies::new(options.proxy)?,
            home: Arc::new(home),
            base: OnceCell::new(),
            near: OnceCell::new(),
            far: OnceCell::new(),
        })
    }

    /// Returns the address of the home. Finds out its scheme at the first call,
    /// if the [`ServerAddress`] leaves it open. `action` is for errors.
    pub(crate) async fn base(&self, action: &str) -> Result<&Url> {
        self.base
            .get_or_try_init(|| async {
                let (https, http) = match self.address.clone() {
                    ServerAddress::Known(url) => return Ok(url),
                    ServerAddress::AnyScheme { https, http } => (https, http),
                };
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
                Err(connection_error(&self.shown, action, error))
            })
            .await
    }

    /// Returns whether an address is on the home.
    pub(crate) fn is_home(&self, url: &Url) -> bool {
        self.base
            .get()
            .is_some_and(|base| base.origin() == url.origin())
    }

    /// Returns the server of an address, as the user would name it.
    pub(crate) fn shown(&self, url: &Url) -> String {
        if self.is_home(url) {
            return self.shown.clone();
        }
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Sends a request, follows its redirects and returns the first answer that
    /// is none. The base must be known.
    pub(crate) async fn follow(&self, sending: Sending<'_>) -> Result<Answer> {
        let Sending {
            mut method,
            mut url,
            headers,
            mut private,
            body,
            action,
            accept,
            answer: answer_limit,
            is_large,
        } = sending;
        let mut redirects = 0;
        loop {
            let clients = self.clients(&url, action).await?;
            let client = if is_large || body.is_large() {
                &clients.large
            } else {
                &clients.small
            };
            let mut request = reqwest::Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            request.headers_mut().extend(private.clone());
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
                private.clear();
            }
            if status == 303 && method != Method::HEAD {
                method = Method::GET;
            }
            url = next;
        }
    }

    /// Checks an address that a server named, as far as its text says: it must
    /// be HTTPS, unless it was named by a server `from` that speaks HTTP itself
    /// (the home if it is `None`), and not be near if the home is far.
    pub(crate) fn check_named(&self, url: &Url, from: Option<&Url>) -> Result<(), String> {
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

    /// Learns where the home is from its first answer. Through a proxy it
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

/// Makes the header that says who asks, for [`Sending::private`].
pub(crate) fn authorization(value: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = value {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// Makes the header that says a name and a password.
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let text = BASE64.encode(format!("{user}:{password}").as_bytes());
    secret_value(&format!("Basic {text}")).expect("base 64 is text")
}

/// Makes a header's value that no debug output shows.
pub(crate) fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns a header's value, if it is there and text.
pub(crate) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
