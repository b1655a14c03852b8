//! HTTP clients, and one exchange with them.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response};
use rustls::{CertificateError, ClientConfig};
use tokio::time::MissedTickBehavior;

use super::proxy::Proxies;
use super::reach::{Refused, Resolver};
use super::tls::is_authority_itself;
use super::{Progress, Slowest};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To look up a name, connect, go through a proxy and agree on TLS.
    pub(crate) connect: Duration,
    /// Without one byte taken or given.
    pub(crate) stall: Duration,
    /// From the end of a request to the answer.
    pub(crate) answer: Duration,
    /// The same where the registry has to move a blob before it answers.
    pub(crate) blob_answer: Duration,
    /// All waits together that a server asks for with one request.
    pub(crate) waits: Duration,
    /// How slow an answer may come.
    pub(crate) slowest: Slowest,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            answer: Duration::from_secs(60),
            blob_answer: Duration::from_secs(600),
            waits: Duration::from_secs(600),
            slowest: Slowest::default(),
        }
    }
}

/// Two clients that differ in how they use connections.
#[derive(Clone)]
pub(crate) struct Clients {
    /// HTTP/2 where the server has it: many small requests on one connection.
    pub(crate) small: Client,
    /// HTTP/1.1: a connection for each large body. Go's HTTP/2 server lets all
    /// bodies on a connection together have 1 MiB on their way
    /// (`http2.Server.MaxUploadBufferPerConnection`), which is slow over a long
    /// line however many uploads run.
    pub(crate) large: Client,
}

impl Clients {
    /// Makes the clients. They follow no redirect and read no environment.
    pub(crate) fn new(
        tls: &ClientConfig,
        proxies: &Proxies,
        resolver: Resolver,
        limits: &Limits,
    ) -> Result<Self, HttpError> {
        let resolver = Arc::new(resolver);
        let build = |is_large: bool| {
            let mut tls = tls.clone();
            tls.alpn_protocols = if is_large {
                vec![b"http/1.1".to_vec()]
            } else {
                vec![b"h2".to_vec(), b"http/1.1".to_vec()]
            };
            let builder = Client::builder()
                .user_agent(concat!("nix2oci/", env!("CARGO_PKG_VERSION")))
                .tls_backend_preconfigured(tls)
                .no_proxy()
                .proxy(proxies.to_proxy())
                .dns_resolver(Arc::clone(&resolver))
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(limits.connect)
                .tcp_keepalive(Duration::from_secs(15))
                // What stands between closes idle connections after a minute,
                // and a body that is sent once must not meet such a one.
                .pool_idle_timeout(Duration::from_secs(30))
                // A dead connection would be chosen again by each repetition.
                .http2_keep_alive_interval(Duration::from_secs(15))
                .http2_keep_alive_timeout(Duration::from_secs(15));
            let builder = if is_large {
                builder.http1_only()
            } else {
                builder
            };
            builder.build().map_err(|error| explain(&error))
        };
        Ok(Self {
            small: build(false)?,
            large: build(true)?,
        })
    }
}

/// Sends a request and waits for the head of the answer. Fails if the body
/// stands still for `stall`, or if nothing comes for `answer` after its end.
pub(crate) async fn exchange(
    client: &Client,
    request: Request,
    progress: &Progress,
    stall: Duration,
    answer: Duration,
) -> Result<Response, HttpError> {
    let mut sending = pin!(client.execute(request));
    let mut ticks = tokio::time::interval((stall.min(answer) / 8).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    poll_fn(|task| {
        if let Poll::Ready(result) = sending.as_mut().poll(task) {
            return Poll::Ready(result.map_err(|error| explain(&error)));
        }
        while ticks.poll_tick(task).is_ready() {
            if let Some(problem) = progress.overdue(stall, answer) {
                return Poll::Ready(Err(HttpError::passing(problem)));
            }
        }
        Poll::Pending
    })
    .await
}

/// A request or the body of an answer failed. The text names no address: a
/// query may be a secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct HttpError {
    problem: String,
    passes: bool,
    is_slow: bool,
}

impl HttpError {
    /// Makes an error that may be gone at the next try.
    pub(crate) fn passing(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            passes: true,
            is_slow: false,
        }
    }

    /// Makes an error of an answer that comes too slowly, though it comes; it may
    /// be gone at the next try.
    pub(crate) fn slow(problem: impl Into<String>) -> Self {
        Self {
            is_slow: true,
            ..Self::passing(problem)
        }
    }

    /// Makes an error that stays.
    pub(crate) fn lasting(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            passes: false,
            is_slow: false,
        }
    }

    /// Returns whether it may be gone at the next try.
    pub(crate) fn passes(&self) -> bool {
        self.passes
    }

    /// Returns whether an answer came too slowly.
    #[cfg(feature = "binary-cache")]
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow
    }
}

/// Puts the innermost cause into words; what is around it says "error sending
/// request" three times.
pub(crate) fn explain(error: &reqwest::Error) -> HttpError {
    let mut innermost = None;
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(refused) = find::<Refused>(cause) {
            return HttpError::lasting(refused.to_string());
        }
        if let Some(error) = find::<rustls::Error>(cause) {
            return HttpError::lasting(tls_problem(error));
        }
        innermost = Some(cause);
        next = cause.source();
    }
    if error.is_timeout() {
        return HttpError::passing("no connection in time");
    }
    let problem = match innermost {
        Some(cause) => match cause.downcast_ref::<io::Error>() {
            Some(error) => io_problem(error),
            None => cause.to_string(),
        },
        None if error.is_builder() => return HttpError::lasting("the request cannot be made"),
        None => "the connection broke".to_owned(),
    };
    let passes = !LASTING.iter().any(|words| problem.contains(words));
    match passes {
        true => HttpError::passing(problem),
        false => HttpError::lasting(problem),
    }
}

/// What does not pass and is told by text only: the one answer of a proxy that
/// hyper tells apart, and how glibc, musl and macOS say that there is no such
/// host. That a name server does not answer they say in other words.
const LASTING: &[&str] = &[
    "proxy authorization required",
    "Name or service not known",
    "Name does not resolve",
    "nodename nor servname provided",
];

/// Returns the cause if it is of a type, also from inside an [`io::Error`],
/// which does not name its content as its source.
fn find<'a, T: StdError + 'static>(cause: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    cause.downcast_ref().or_else(|| {
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        find(inner)
    })
}

/// Puts an error of a connection into words that do not depend on the system.
pub(crate) fn io_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no connection in time".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by the server".to_owned(),
        io::ErrorKind::BrokenPipe => "connection closed by the server".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_problem(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
            error => format!("TLS failed: {error}"),
        };
    };
    match certificate {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by an authority that is not trusted".to_owned()
        }
        _ if is_authority_itself(error) => {
            "its certificate is its own authority, which is not trusted".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        other => format!("its certificate is not valid: {other}"),
    }
}
