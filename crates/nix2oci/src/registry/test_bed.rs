//! What the tests of the transport share.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::Method;

use super::RegistryOptions;
use super::request::{Request, Scope, Target};
use super::transport::Transport;
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::error::Result;
pub(super) use crate::net::test_bed::{Authority, Bed, LIMITS, PASSWORD, PATIENT, shown};
use crate::net::test_server::TestServer;
use crate::net::{Body, ProxyOptions, TlsOptions};

/// An answer that was accepted.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) status: u16,
    pub(super) path: String,
    pub(super) body: Bytes,
}

impl Bed {
    pub(super) fn transport(&self, host: &str, options: &RegistryOptions) -> Transport {
        Transport::with_limits(&self.cx, host, options, LIMITS).unwrap()
    }

    pub(super) fn send(&self, transport: &Transport, request: Request) -> Result<Taken> {
        let transport = transport.clone();
        self.runtime
            .block_on(&self.cx, async move { take(&transport, request).await })
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

pub(super) fn with_tls(tls: TlsOptions) -> RegistryOptions {
    RegistryOptions {
        tls,
        retries: 5,
        ..RegistryOptions::default()
    }
}

pub(super) fn ca_file(directory: &Path, authority: &Authority) -> TlsOptions {
    TlsOptions {
        ca_files: vec![authority.file(directory)],
        ..TlsOptions::default()
    }
}

pub(super) fn with_proxy(proxy: &TestServer) -> RegistryOptions {
    let address = Secret::new(format!("http://proxy-user:{PASSWORD}@{}", proxy.host()));
    RegistryOptions {
        proxy: ProxyOptions {
            https: Some(address.clone()),
            http: Some(address),
            none: None,
        },
        retries: 0,
        ..RegistryOptions::default()
    }
}
