//! Sends requests to one registry, and sees to everything that all requests
//! have in common.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use reqwest::{Client, Url};

use super::RegistryOptions;
use super::problem::problem;
use super::request::{Body, Request, Target};
use super::response::Response;
use super::throttle::{Permit, Throttle};
use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{client_config, until_cancelled};

/// One registry as this process sees it. Clones share everything.
#[derive(Clone)]
pub(crate) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    cx: Context,
    host: String,
    api_host: String,
    client: Client,
    throttle: Throttle,
    retries: u32,
}

impl Transport {
    /// Prepares for a registry, whose host is as in a reference: `docker.io`,
    /// `localhost:5000`. Opens no connection.
    pub(crate) fn new(cx: &Context, host: &str, options: &RegistryOptions) -> Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(client_config(&options.tls, host)?)
            .build()
            .map_err(|error| Error::invalid(host, error.to_string()))?;
        Ok(Self {
            shared: Arc::new(Shared {
                cx: cx.clone(),
                host: host.to_owned(),
                api_host: match host {
                    "docker.io" => "registry-1.docker.io".to_owned(),
                    host => host.to_owned(),
                },
                client,
                throttle: Throttle::new(options.jobs.get()),
                retries: options.retries,
            }),
        })
    }

    /// Returns the host as the user wrote it.
    pub(crate) fn host(&self) -> &str {
        &self.shared.host
    }

    /// Returns the host that the API is on.
    pub(crate) fn api_host(&self) -> &str {
        &self.shared.api_host
    }

    /// Returns how often a request is repeated at most.
    pub(crate) fn retries(&self) -> u32 {
        self.shared.retries
    }

    /// Waits for the right to send requests. It is held over all requests of
    /// one blob.
    pub(crate) async fn permit(&self) -> Permit {
        self.shared.throttle.permit().await
    }

    /// Tells the observer that something is repeated, as attempt `attempt`
    /// counted from 1, and waits: as long as `told`, else longer each time.
    pub(crate) async fn pause_before_retry(
        &self,
        error: &Error,
        attempt: u32,
        told: Option<Duration>,
    ) {
        let wait = told.unwrap_or(Duration::from_millis(500));
        self.shared.cx.observer.event(&Event::Retry {
            message: &error.to_string(),
            wait,
            attempt,
            attempts: self.shared.retries,
        });
        tokio::time::sleep(wait).await;
    }

    /// Sends a request and returns the answer, if it is one of those that the
    /// request accepts. Waits for a permit if the caller holds none.
    pub(crate) async fn send(&self, request: Request, permit: Option<&Permit>) -> Result<Response> {
        let shared = &self.shared;
        until_cancelled(&shared.cx.cancel, async {
            let _own = match permit {
                Some(_) => None,
                None => Some(shared.throttle.permit().await),
            };
            self.once(request).await
        })
        .await
    }

    async fn once(&self, request: Request) -> Result<Response> {
        let shared = &self.shared;
        let url = match request.target {
            Target::Session(url) => url,
            Target::Api(path) => Url::parse(&format!("http://{}{path}", shared.api_host))
                .map_err(|error| Error::invalid(&*shared.host, error.to_string()))?,
        };
        let mut sent = shared
            .client
            .request(request.method, url)
            .headers(request.headers);
        let length = match &request.body {
            Body::Replay(_, length) => Some(*length),
            Body::Stream(_, length) => *length,
            Body::Empty | Body::Bytes(_) => None,
        };
        if let Some(length) = length {
            sent = sent.header("content-length", length);
        }
        let sent = match request.body {
            Body::Empty => sent,
            Body::Bytes(bytes) => sent.body(bytes),
            Body::Replay(open, _) => sent.body(reqwest::Body::wrap_stream(open()?)),
            Body::Stream(stream, _) => sent.body(reqwest::Body::wrap_stream(stream)),
        };
        let failed = |source: reqwest::Error| -> Error {
            ErrorKind::Connection {
                host: shared.host.clone(),
                action: request.action.clone(),
                source: source.without_url().into(),
            }
            .into()
        };
        let answer = sent.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        if !request.accept.contains(&status) {
            return Err(ErrorKind::Answer {
                host: shared.host.clone(),
                action: request.action,
                status: Some(status),
                problem: problem(status, None, &[]),
            }
            .into());
        }
        Ok(Response {
            status,
            headers: answer.headers().clone(),
            url: answer.url().clone(),
            host: shared.host.clone(),
            action: request.action.clone(),
            body: Box::pin(AnswerBody {
                host: shared.host.clone(),
                action: request.action,
                pieces: Box::pin(answer.bytes_stream()),
            }),
        })
    }
}

struct AnswerBody {
    host: String,
    action: String,
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
}

impl Stream for AnswerBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let piece = std::task::ready!(self.pieces.as_mut().poll_next(task));
        Poll::Ready(piece.map(|piece| {
            piece.map_err(|error| {
                ErrorKind::Connection {
                    host: self.host.clone(),
                    action: self.action.clone(),
                    source: error.without_url().into(),
                }
                .into()
            })
        }))
    }
}
