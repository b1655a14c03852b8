//! Reading from one server, for code that is not async.

use std::fmt;
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use reqwest::{Method, Url};

use super::download::Pending;
use super::refusal::{Failure, refused};
use super::{
    Body, Limits, Outgoing, Patience, ProxyOptions, Response, Runtime, Sending, ServerAddress,
    Signer, TlsOptions, Wire, WireOptions, basic, secret_value,
};
use crate::context::Context;
use crate::credentials::Secret;
use crate::error::{Error, ErrorKind, Result};

/// What a server says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered<T> {
    /// It gives it.
    Given(T),
    /// It has no such file: 404 or 410.
    Missing,
    /// It does not say whether it has such a file: 403.
    Withheld,
}

impl<T> Answered<T> {
    /// Returns what it gives, if it does.
    pub(crate) fn given(self) -> Option<T> {
        match self {
            Self::Given(given) => Some(given),
            Self::Missing | Self::Withheld => None,
        }
    }
}

/// How a server is read from.
pub(crate) struct FetchOptions {
    /// Its address: `http://` or `https://`, a host, perhaps a path; no user, no
    /// query.
    pub(crate) base: String,
    /// The server, as the user would name it, for errors.
    pub(crate) shown: String,
    /// Further headers, for this server and nobody that it sends us to.
    pub(crate) headers: Vec<(String, Secret)>,
    /// A user and a password (RFC 7617), likewise. They are sent unasked, as
    /// curl does.
    pub(crate) user: Option<(String, Secret)>,
    /// Signs requests to this server, after all other headers.
    pub(crate) signer: Option<Signer>,
    /// Whom TLS believes.
    pub(crate) tls: TlsOptions,
    /// Which proxy is used.
    pub(crate) proxy: ProxyOptions,
    /// How often a request is repeated that failed for a reason that may pass.
    pub(crate) retries: u32,
    /// How many requests run at once at most.
    pub(crate) jobs: NonZeroUsize,
    /// How long things may take.
    pub(crate) limits: Limits,
    /// How answers are read that come with a `Content-Encoding`.
    pub(crate) decode: Decode,
}

/// Makes a reader of what a `Content-Encoding` stands for: its name in lower
/// case, and the bytes as they come. `None` if it is not known.
///
/// Nothing is asked to be encoded; but Nix stores narinfos, logs and listings
/// encoded in S3 if it is told to, and S3 then sends them so to everybody
/// (`narinfo-compression`, Nix manual, "S3 Binary Cache Store").
pub(crate) type Decode = fn(&str, Box<dyn Read + Send>) -> Option<Box<dyn Read + Send>>;

/// Reads from one server. Clones share its connections.
///
/// No call is to be made on the thread of the runtime.
#[derive(Clone)]
pub(crate) struct Fetcher {
    shared: Arc<Fetch>,
    runtime: Arc<Runtime>,
}

/// The same on the network's thread.
pub(super) struct Fetch {
    pub(super) wire: Wire,
    pub(super) patience: Patience,
    /// Ends with a slash.
    base: Url,
    shown: String,
    /// For the server itself.
    private: HeaderMap,
    signer: Option<Signer>,
    decode: Decode,
}

impl Fetcher {
    /// Prepares to read. Reads the certificates that the user names; opens no
    /// connection.
    ///
    /// Fails with [`ErrorKind::InvalidInput`] and [`ErrorKind::ReadInput`] if the
    /// options make no sense.
    pub(crate) fn new(runtime: Arc<Runtime>, options: &FetchOptions) -> Result<Self> {
        let base = base(options)?;
        let cert_dir = match (base.host_str().unwrap_or_default(), base.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let wire = Wire::new(WireOptions {
            shown: &options.shown,
            address: ServerAddress::Known(base.clone()),
            cert_dir: &cert_dir,
            tls: &options.tls,
            proxy: &options.proxy,
            limits: options.limits,
        })?;
        let shared = Arc::new(Fetch {
            wire,
            patience: Patience::new(options.retries, options.jobs.get(), options.limits.waits),
            base,
            shown: options.shown.clone(),
            private: private(options)?,
            signer: options.signer.clone(),
            decode: options.decode,
        });
        Ok(Self { shared, runtime })
    }

    /// Fetches a small answer, of at most `limit` bytes, and does not wait for it:
    /// `done` gets it, on the runtime's thread. `target` is what follows the
    /// server's address, or an address of its own, for which the rules of a
    /// redirect hold. `action` is for errors: `give the narinfo of …`. However
    /// many are begun, no more are on their way than there are jobs; over HTTP/2
    /// they share a connection.
    ///
    /// 403 is [`Answered::Withheld`] unless the server says that it is about who
    /// asks. S3 says it of what is not there to all who may not list the bucket,
    /// and Nix takes it for that as well.
    ///
    /// Fails with [`ErrorKind::Denied`] if the server wants to know who asks,
    /// [`ErrorKind::Answer`] if it says something else that is of no use,
    /// [`ErrorKind::Connection`] if it says nothing, and
    /// [`ErrorKind::Cancelled`] within 100 ms after the flag of `cx` is set.
    pub(crate) fn begin(
        &self,
        cx: &Context,
        target: String,
        action: String,
        limit: u64,
        done: impl FnOnce(Result<Answered<Bytes>>) + Send + 'static,
    ) {
        let (fetch, own) = (self.shared(), cx.clone());
        let get = async move { fetch.get(&own, &target, &action, limit).await };
        self.runtime.run(&cx.cancel, get, done);
    }

    /// Begins to fetch a large answer, whose head [`Pending::open`] waits for. At
    /// most `ahead` bytes, besides one piece of the network (a few 100 KiB), are in
    /// memory while nobody reads them. What an answer that broke lacks is fetched
    /// from there on. Errors and absence are those of [`Fetcher::begin`].
    pub(crate) fn start(&self, cx: &Context, target: &str, action: &str, ahead: usize) -> Pending {
        Pending::start(cx, self, target, action, ahead)
    }

    pub(super) fn shared(&self) -> Arc<Fetch> {
        Arc::clone(&self.shared)
    }

    pub(super) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("shown", &self.shared.shown)
            .finish_non_exhaustive()
    }
}

/// Parses the address; it ends with a slash then.
fn base(options: &FetchOptions) -> Result<Url> {
    let refuse = |problem: &str| Error::invalid(options.shown.clone(), problem);
    let mut url = Url::parse(&options.base).map_err(|_| refuse("not an address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(refuse(
            "not an address of a server; expected http[s]://HOST[:PORT][/PATH]",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(
            "has a user name in it, which would be shown; expected none",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("has a query; expected http[s]://HOST[:PORT][/PATH]"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Headers that say how a request is made and not who asks.
const OWN_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "if-range",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Makes the headers that only the server itself sees. Errors do not repeat a
/// value.
fn private(options: &FetchOptions) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let refuse = |problem: &str| {
            Err(Error::invalid(
                format!("header {name:?} for {}", options.shown),
                problem,
            ))
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return refuse("not the name of a header");
        };
        if OWN_HEADERS.contains(&name.as_str()) {
            return refuse("belongs to the connection and cannot be given");
        }
        let Some(value) = secret_value(value.reveal()) else {
            return refuse("its value has characters that no header can have");
        };
        headers.append(name, value);
    }
    if let Some((user, password)) = &options.user {
        headers
            .entry(AUTHORIZATION)
            .or_insert_with(|| basic(user, password.reveal()));
    }
    Ok(headers)
}

impl Fetch {
    /// See [`Fetcher::begin`].
    pub(super) async fn get(
        &self,
        cx: &Context,
        target: &str,
        action: &str,
        limit: u64,
    ) -> Result<Answered<Bytes>> {
        let _permit = self.patience.permit().await;
        let mut tries = self.patience.tries();
        loop {
            tries.begin().await;
            match self.try_get(cx, target, action, limit).await {
                Ok(found) => return Ok(found),
                Err(failure) => tries.failed(cx, failure, true).await?,
            }
        }
    }

    async fn try_get(
        &self,
        cx: &Context,
        target: &str,
        action: &str,
        limit: u64,
    ) -> Result<Answered<Bytes>, Failure> {
        let asked = Asked {
            target,
            action,
            headers: &HeaderMap::new(),
            accept: &[200],
            is_large: false,
        };
        let response = match self.ask(cx, asked).await? {
            Answered::Given(response) => response,
            Answered::Missing => return Ok(Answered::Missing),
            Answered::Withheld => return Ok(Answered::Withheld),
        };
        let host = response.host.clone();
        let encoding = encoding(&response.headers);
        let bytes = response.bytes(limit).await?;
        let Some(encoding) = encoding else {
            return Ok(Answered::Given(bytes));
        };
        let refuse = |problem: String| -> Error {
            ErrorKind::Answer {
                host: host.clone(),
                action: action.to_owned(),
                status: None,
                problem,
            }
            .into()
        };
        let mut decoded = Vec::new();
        self.decoded(&encoding, Box::new(Cursor::new(bytes)))
            .map_err(&refuse)?
            .take(limit + 1)
            .read_to_end(&mut decoded)
            .map_err(|error| {
                refuse(format!(
                    "it says Content-Encoding {encoding}, but is not: {error}"
                ))
            })?;
        if decoded.len() as u64 > limit {
            return Err(refuse(format!("the answer has more than {limit} bytes")).into());
        }
        Ok(Answered::Given(decoded.into()))
    }

    /// Makes a reader of encoded bytes, or says why not.
    pub(super) fn decoded(
        &self,
        encoding: &str,
        bytes: Box<dyn Read + Send>,
    ) -> Result<Box<dyn Read + Send>, String> {
        (self.decode)(encoding, bytes).ok_or_else(|| {
            format!("it comes with Content-Encoding {encoding:?}, which is not known here")
        })
    }

    /// Asks once, and follows redirects.
    pub(super) async fn ask(
        &self,
        cx: &Context,
        asked: Asked<'_>,
    ) -> Result<Answered<Response>, Failure> {
        let Asked {
            target,
            action,
            headers,
            accept,
            is_large,
        } = asked;
        // Makes known what is its own.
        self.wire.base(action).await?;
        let mut url = self.url(target, action)?;
        // Also if it is an address of its own that is of the same scheme, host and
        // port: who gave it is the server that gets them anyway. Nix sends less by
        // that rule (TLS client certificates, `HttpBinaryCacheStore::makeRequest`
        // in 2.35) and more by another: passwords of netrc go to any server that
        // an address names, if netrc has its host, whatever the port.
        let is_own = self.wire.is_home(&url);
        let mut private = HeaderMap::new();
        if is_own {
            private = self.private.clone();
            if let Some(signer) = &self.signer {
                signer.sign(&mut url, &mut private)?;
            }
        }
        let sending = Sending {
            method: Method::GET,
            url,
            headers,
            private,
            body: &mut Outgoing::new(Body::Empty),
            action,
            accept,
            answer: self.wire.limits.answer,
            is_large,
        };
        let answer = self.wire.follow(sending).await?;
        let is_home = is_own && self.wire.is_home(&answer.url);
        let host = self.wire.shown(&answer.url);
        let limits = &self.wire.limits;
        let mut response = Response::new(answer, host, action, limits, &cx.cancel);
        if accept.contains(&response.status) {
            self.patience.succeeded();
            return Ok(Answered::Given(response));
        }
        // Read to its end, so that the connection can be used again.
        let body = response.error_body().await;
        if let Some(absence) = absence(&response, &body) {
            self.patience.succeeded();
            return Ok(absence);
        }
        let is_denial = is_home && matches!(response.status, 401 | 403);
        Err(refused(&response, &body, is_denial))
    }

    /// Returns the server, as the user would name it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the address of a target.
    fn url(&self, target: &str, action: &str) -> Result<Url> {
        let refuse = |problem: String| -> Error {
            ErrorKind::Answer {
                host: self.shown.clone(),
                action: action.to_owned(),
                status: None,
                problem,
            }
            .into()
        };
        // A query may be a secret.
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let no_address = || refuse(format!("it names {path:?}, which is no address"));
        let is_absolute = ["http://", "https://"].iter().any(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let mut url;
        if is_absolute {
            url =
                Url::parse(target).map_err(|_| refuse("it names what is no address".to_owned()))?;
            self.wire.check_named(&url, None).map_err(refuse)?;
        } else {
            // Joined as texts, so that `//example.org/` is no other server.
            url = Url::parse(&format!("{}{target}", self.base)).map_err(|_| no_address())?;
            let is_below = url.path().starts_with(self.base.path());
            if !self.wire.is_home(&url) || !is_below {
                return Err(no_address());
            }
        }
        url.set_fragment(None);
        Ok(url)
    }
}

/// What is asked for once.
pub(super) struct Asked<'a> {
    pub(super) target: &'a str,
    pub(super) action: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Statuses that are an answer.
    pub(super) accept: &'a [u16],
    pub(super) is_large: bool,
}

/// Codes of S3 that are about who asks, all with 403.
///
/// Source: Amazon S3 API Reference, "Error responses".
const CREDENTIAL_CODES: &[&str] = &[
    "AccountProblem",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// Returns what an answer means that gives nothing and is no error.
fn absence<T>(response: &Response, body: &[u8]) -> Option<Answered<T>> {
    match response.status {
        404 | 410 => Some(Answered::Missing),
        403 => {
            let text = String::from_utf8_lossy(body);
            let is_code = |code: &&str| text.contains(&format!("<Code>{code}</Code>"));
            let is_of_who_asks = response.headers.contains_key(WWW_AUTHENTICATE)
                || CREDENTIAL_CODES.iter().any(is_code);
            (!is_of_who_asks).then_some(Answered::Withheld)
        }
        _ => None,
    }
}

/// Returns what an answer is encoded with, in lower case.
pub(super) fn encoding(headers: &HeaderMap) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
        .flat_map(|value| {
            let names = value.split(',').map(|name| name.trim().to_owned());
            names.collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "many_tests.rs"]
mod many_tests;
