//! What the tests of the transport share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;

use super::RegistryOptions;
use super::request::{Body, Request, Scope, Target};
use super::transport::Transport;
use crate::context::{Context, Event, Observer};
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::error::Result;
use crate::net::{Limits, Runtime};

/// A runtime, and a context that keeps what it is told.
pub(super) struct Bed {
    pub(super) runtime: Runtime,
    pub(super) cx: Context,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// An answer that was accepted.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) status: u16,
    pub(super) path: String,
    pub(super) body: Bytes,
}

/// Short enough to wait for.
pub(super) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    stall: Duration::from_millis(400),
    answer: Duration::from_millis(400),
    blob_answer: Duration::from_millis(1500),
};

/// Long enough to be cancelled.
pub(super) const PATIENT: Limits = Limits {
    connect: Duration::from_secs(60),
    stall: Duration::from_secs(60),
    answer: Duration::from_secs(60),
    blob_answer: Duration::from_secs(60),
};

impl Bed {
    pub(super) fn new() -> Self {
        let told = Arc::new(Told::default());
        Self {
            runtime: Runtime::start().unwrap(),
            cx: Context {
                observer: Arc::clone(&told) as Arc<dyn Observer>,
                ..Context::default()
            },
            told,
        }
    }

    pub(super) fn transport(&self, host: &str, options: &RegistryOptions) -> Transport {
        Transport::with_limits(&self.cx, host, options, LIMITS).unwrap()
    }

    pub(super) fn send(&self, transport: &Transport, request: Request) -> Result<Taken> {
        let transport = transport.clone();
        self.runtime
            .block_on(&self.cx, async move { take(&transport, request).await })
    }

    /// Returns the events so far, and checks that they show no secret.
    pub(super) fn told(&self) -> Vec<String> {
        let told = self.told.0.lock().unwrap().clone();
        assert!(!told.iter().any(|event| event.contains(PASSWORD)));
        told
    }
}

/// Sends a request and reads the answer.
pub(super) async fn take(transport: &Transport, request: Request) -> Result<Taken> {
    let response = transport.send(request, None).await?;
    Ok(Taken {
        status: response.status,
        path: response.url.path().to_owned(),
        body: response.bytes(1024 * 1024).await?,
    })
}

pub(super) fn scope() -> Scope {
    Scope {
        repository: "app".to_owned(),
        push: true,
        mount_from: None,
    }
}

/// Makes a request for a path.
pub(super) fn get(path: &str) -> Request {
    let target = Target::Api(path.to_owned());
    Request::new(Method::GET, target, scope(), "give the thing".to_owned())
}

/// Makes a request with a body.
pub(super) fn put(path: &str, body: Body) -> Request {
    Request {
        method: Method::PUT,
        body,
        accept: &[201],
        action: "take the thing".to_owned(),
        ..get(path)
    }
}

/// Always says the same.
pub(super) struct Known(pub(super) Credentials);

impl CredentialSource for Known {
    fn find(&self, host: &str, repository: &str) -> Result<Credentials> {
        assert_eq!(repository, "app", "{host}");
        Ok(self.0.clone())
    }
}

/// The password of all tests: it must be nowhere to be seen.
pub(super) const PASSWORD: &str = "hunter2";

pub(super) fn with_password() -> RegistryOptions {
    with(Credentials::Password {
        user: "user".to_owned(),
        password: Secret::new(PASSWORD),
    })
}

pub(super) fn with(credentials: Credentials) -> RegistryOptions {
    RegistryOptions {
        credentials: Arc::new(Known(credentials)),
        ..RegistryOptions::default()
    }
}

/// Shows an error with its causes, and checks that it shows no secret.
pub(super) fn shown(error: &crate::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    let all = format!("{text} {error:?}");
    assert!(!all.contains(PASSWORD), "{all}");
    text
}
