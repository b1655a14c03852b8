//! Blobs on their way to a registry.
//!
//! A blob is taken in a *session*: a `POST` opens it, `Location` says where it
//! goes on, a `PUT` with the digest closes it. What is tried after a failure is
//! decided in `way`; bytes are never sent from the first again in a session
//! that took some, because registries answer that with 416 for good
//! (apple/containerization#790): a new one is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use super::chunks::LEAST_CHUNK;
use super::location::{closing, resolve};
use super::repository::{Repository, check_digest, check_name, said_size, sha256_of};
use super::request::{Request, Target};
use super::source::{Replayable, Source};
use super::way::{Trouble, Way, Ways, trouble};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Body, Permit, Response, gave_up};
use crate::oci::Descriptor;

/// How long the end of a session that is given up may take.
const CANCEL_TIME: Duration = Duration::from_secs(5);

/// So many bytes more than before are progress, or a chunk if that is less: a
/// registry that takes a byte each time does not keep us for good.
const PROGRESS: u64 = 1 << 20;

/// What a blob's upload tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// So many more bytes were given to the network.
    Bytes(u64),
    /// What was sent is lost: it starts from the first byte again.
    Again,
}

/// Hears how an upload goes, from any thread. It must return quickly.
pub type SentFn = Arc<dyn Fn(Sent) + Send + Sync>;

/// A place where a registry waits for a blob.
///
/// Its address may hold a secret of the registry's, so nothing shows it.
pub struct UploadSession {
    pub(super) url: Url,
    /// Bytes that every chunk but the last must have.
    pub(super) min_chunk: u64,
    /// Bytes that a chunk may have.
    pub(super) max_chunk: u64,
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadSession")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What became of a mount.
#[derive(Debug)]
#[non_exhaustive]
pub enum Mounted {
    /// The repository has the blob.
    Done,
    /// It does not, but waits for it here: to be given to
    /// [`Repository::put_blob`].
    Session(UploadSession),
    /// It does not, and the registry said why, in words.
    Refused(String),
}

/// What the registry answers to one who wants to upload.
pub(super) enum Opened {
    Session(UploadSession),
    /// It has the blob and wants nothing.
    Exists,
}

/// What answers to bytes in a session are good ones. ECR says 201 to a `PATCH`
/// (openai/tart#273, jdx/mise#11376).
pub(super) const TAKEN: &[u16] = &[200, 201, 202, 204];

/// What answers to the closing `PUT` are good ones. 202 is none: the blob is
/// not there then.
pub(super) const CLOSED: &[u16] = &[200, 201, 204];

impl Repository {
    /// Makes a blob of another repository of the same registry one of this.
    /// One request.
    ///
    /// Registries that refuse do it in many ways (Harbor and GitLab by 401:
    /// harbor#17097, manifest-tool#53); all mean that the blob has to be sent.
    pub async fn mount(&self, descriptor: &Descriptor, from: &str) -> Result<Mounted> {
        check_name(from)?;
        let digest = sha256_of(descriptor)?;
        let action = self.action(format_args!("mount blob {digest} from {from}"));
        // Always with `from`: quay fails without (go-containerregistry,
        // write.go).
        let path = format!(
            "blobs/uploads/?mount=sha256%3A{}&from={}",
            digest.hex(),
            from.replace('/', "%2F")
        );
        let mut request = self.write_request(Method::POST, &path, action.clone())?;
        request.accept = &[201, 202];
        // Docker Hub wants one token that allows both (rust-oci-client#235).
        request.scope.mount_from = Some(from.to_owned());
        match self.transport().send(request, None).await {
            Ok(response) if response.status == 201 => Ok(Mounted::Done),
            Ok(response) => Ok(Mounted::Session(self.session(&response, action)?)),
            Err(error) => match error.kind() {
                ErrorKind::Denied { problem, .. }
                | ErrorKind::Answer {
                    status: Some(400..=428 | 430..=499 | 501),
                    problem,
                    ..
                } => Ok(Mounted::Refused(problem.clone())),
                _ => Err(error),
            },
        }
    }

    /// Takes a blob to the registry, in a session that is open already or in a
    /// new one.
    ///
    /// It is one `PUT` where nothing goes wrong. After a failure it is sent
    /// again, a large one in chunks from where it broke off; how often is
    /// counted anew whenever the registry got a good deal further. It holds
    /// one of the registry's [jobs](super::RegistryOptions::jobs) and a few
    /// pieces of 256 KiB.
    ///
    /// # Errors
    ///
    /// Those of the blob's reader; [`ErrorKind::SizeMismatch`] if it has other
    /// bytes than its descriptor says; else what the registry said last.
    pub async fn put_blob(
        &self,
        blob: &Replayable,
        session: Option<UploadSession>,
        sent: &SentFn,
    ) -> Result<()> {
        let source = Source::new(blob, sent)?;
        let permit = self.transport().permit().await;
        let mut upload = Upload {
            repository: self,
            permit: &permit,
            action: self.taking(source.digest),
            source,
            chunk: self.first_chunk(),
        };
        upload.run(session).await
    }

    /// Fails unless the registry takes blobs of this user: opens an upload and
    /// gives it up.
    pub(crate) async fn check_push(&self) -> Result<()> {
        let permit = self.permit().await;
        let action = self.action(format_args!("take a layer"));
        let opened = self.open_session(&permit, &action).await?;
        if let Opened::Session(session) = opened {
            self.cancel_session(&session.url, &permit).await;
        }
        Ok(())
    }

    pub(super) fn taking(&self, digest: Digest) -> String {
        self.action(format_args!("take blob {digest}"))
    }

    /// Opens a session.
    pub(super) async fn open_session(&self, permit: &Permit, action: &str) -> Result<Opened> {
        let mut request = self.write_request(Method::POST, "blobs/uploads/", action.to_owned())?;
        request.accept = TAKEN;
        let response = self.transport().send(request, Some(permit)).await?;
        if response.status == 201 {
            return Ok(Opened::Exists);
        }
        let session = self.session(&response, action.to_owned())?;
        Ok(Opened::Session(session))
    }

    fn session(&self, response: &Response, action: String) -> Result<UploadSession> {
        let number = |name: &str| response.header(name)?.trim().parse::<u64>().ok();
        let url = self
            .next_url(response, None)
            .map_err(|problem| self.answered(action, Some(response.status), problem))?;
        Ok(UploadSession {
            url,
            min_chunk: number("oci-chunk-min-length").unwrap_or(1),
            // Of no specification; proxies that cap bodies are behind it
            // (distribution-spec#485). A request for each byte is not meant.
            max_chunk: number("oci-chunk-max-length")
                .unwrap_or(u64::MAX)
                .max(LEAST_CHUNK),
        })
    }

    /// Returns where the session goes on; where it is if the answer names no
    /// other place.
    pub(super) fn next_url(
        &self,
        response: &Response,
        now: Option<&Url>,
    ) -> Result<Url, &'static str> {
        match (response.header("location"), now) {
            (Some(location), _) => resolve(&response.url, location),
            (None, Some(now)) => Ok(now.clone()),
            (None, None) => Err("it opens an upload session without saying where"),
        }
    }

    /// Makes a request to a session. It is not repeated: whoever sends bytes
    /// has to know what became of them.
    pub(super) fn session_request(&self, method: Method, url: Url, action: &str) -> Request {
        let mut request = Request::new(
            method,
            Target::Session(url),
            self.scope(true),
            action.to_owned(),
        );
        request.retry = false;
        request
    }

    /// Closes a session that has all bytes.
    pub(super) async fn close_session(
        &self,
        url: &Url,
        digest: Digest,
        permit: &Permit,
        action: &str,
    ) -> Result<()> {
        let mut request = self.session_request(Method::PUT, closing(url, digest), action);
        request.headers = octets();
        request.accept = CLOSED;
        let response = self.transport().send(request, Some(permit)).await?;
        self.check_closed(&response, digest)
    }

    pub(super) fn check_closed(&self, response: &Response, digest: Digest) -> Result<()> {
        let said = response.header("docker-content-digest");
        match said.and_then(|said| said.trim().parse().ok()) {
            Some(said) => {
                let what = format!("blob {digest} that {} took", self.place());
                check_digest(&what, digest, said)
            }
            None => Ok(()),
        }
    }

    /// Returns whether the registry has a blob after all: its answer may have
    /// been lost where the request was not. Asked once, because sending the
    /// blob again is always right.
    pub(super) async fn has(&self, digest: Digest, size: u64, permit: &Permit) -> bool {
        let Ok(mut request) = self.ask_for_blob(Method::HEAD, digest) else {
            return false;
        };
        request.retry = false;
        let found = self.transport().send(request, Some(permit)).await;
        found.is_ok_and(|found| said_size(&found, digest) == Some(size))
    }

    /// Tells the registry that a session is given up. Nobody relies on it:
    /// tokens rarely allow it, and registries forget sessions by themselves.
    pub(super) async fn cancel_session(&self, url: &Url, permit: &Permit) {
        let action = self.action(format_args!("end an upload"));
        let mut request = self.session_request(Method::DELETE, url.clone(), &action);
        request.accept = TAKEN;
        let ended = self.transport().send(request, Some(permit));
        let _ = tokio::time::timeout(CANCEL_TIME, ended).await;
    }
}

/// The headers of a request with bytes of a blob.
pub(super) fn octets() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers
}

/// One blob on its way.
pub(super) struct Upload<'a> {
    pub(super) repository: &'a Repository,
    pub(super) permit: &'a Permit,
    pub(super) source: Arc<Source>,
    pub(super) action: String,
    /// Bytes of a chunk. It shrinks when the registry says so.
    pub(super) chunk: u64,
}

/// An upload that did not go on.
pub(super) struct Stopped {
    pub(super) error: Error,
    /// Where the session is.
    pub(super) session: UploadSession,
    /// Bytes that the registry said it has.
    pub(super) taken: u64,
}

impl Upload<'_> {
    async fn run(&mut self, mut session: Option<UploadSession>) -> Result<()> {
        let registry = &self.repository.registry;
        let transport = self.repository.transport();
        let wants_chunks = registry.chunk_size.is_some();
        let mut ways = Ways::new(
            self.source.size,
            wants_chunks,
            &registry.quirks,
            &registry.seen,
        );
        // What the registry has of the session, and had of any.
        let (mut taken, mut furthest) = (0, 0);
        let mut attempt = 0;
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => {
                    taken = 0;
                    let opened = self.repository.open_session(self.permit, &self.action);
                    match opened.await? {
                        Opened::Session(session) => session,
                        Opened::Exists => return Ok(()),
                    }
                }
            };
            let way = ways.way();
            let Err(stopped) = self.send(way, current, taken).await else {
                if way == Way::Stream {
                    // What nobody tries first worked in the end.
                    registry.seen.refused_whole();
                }
                return Ok(());
            };
            let stopped = *stopped;
            let trouble = trouble(&stopped.error);
            if self.is_there_after_all(trouble).await {
                return Ok(());
            }
            self.remember(way, trouble, &stopped.error);
            if stopped.taken >= furthest + PROGRESS.min(self.chunk) {
                furthest = stopped.taken;
                attempt = 0;
            }
            // Another way is no repetition, and there are few of them.
            let is_refused = matches!(trouble, Trouble::TooLarge | Trouble::Unwelcome);
            attempt += u32::from(!is_refused);
            let next = ways.after(trouble);
            let Some(next) = next.filter(|_| attempt <= transport.retries()) else {
                if !matches!(trouble, Trouble::Broken | Trouble::Lost) {
                    let url = &stopped.session.url;
                    self.repository.cancel_session(url, self.permit).await;
                }
                return Err(gave_up(stopped.error, attempt));
            };
            if is_refused {
                continue;
            }
            transport
                .pause_before_retry(&stopped.error, attempt, None)
                .await;
            if next == Way::Chunks {
                (session, taken) = self.resume(stopped, trouble).await;
            }
        }
    }

    /// Sends the bytes from `taken` on and closes the session.
    async fn send(
        &mut self,
        way: Way,
        session: UploadSession,
        taken: u64,
    ) -> Result<(), Box<Stopped>> {
        match way {
            Way::Chunks => self.send_chunks(session, taken).await,
            Way::Whole | Way::Stream => {
                let sent = match way {
                    Way::Whole => self.send_whole(&session).await,
                    _ => self.send_stream(&session).await,
                };
                sent.map_err(|error| {
                    Box::new(Stopped {
                        error,
                        session,
                        taken: 0,
                    })
                })
            }
        }
    }

    /// Sends one `PUT`.
    async fn send_whole(&self, session: &UploadSession) -> Result<()> {
        let digest = self.source.digest;
        let url = closing(&session.url, digest);
        let mut request = self
            .repository
            .session_request(Method::PUT, url, &self.action);
        request.headers = octets();
        request.accept = CLOSED;
        request.body = self.body(0, self.source.size);
        let response = self.send_request(request).await?;
        self.repository.check_closed(&response, digest)
    }

    /// Sends one `PATCH` and the `PUT` that closes the session.
    async fn send_stream(&self, session: &UploadSession) -> Result<()> {
        let mut request =
            self.repository
                .session_request(Method::PATCH, session.url.clone(), &self.action);
        request.headers = octets();
        request.accept = TAKEN;
        request.body = self.body(0, self.source.size);
        let response = self.send_request(request).await?;
        let url = self.next_url(&response, &session.url)?;
        self.close(&url).await
    }

    pub(super) async fn close(&self, url: &Url) -> Result<()> {
        self.repository
            .close_session(url, self.source.digest, self.permit, &self.action)
            .await
    }

    pub(super) fn next_url(&self, response: &Response, now: &Url) -> Result<Url> {
        self.repository
            .next_url(response, Some(now))
            .map_err(|problem| {
                let status = Some(response.status);
                self.repository
                    .answered(self.action.clone(), status, problem)
            })
    }

    pub(super) async fn send_request(&self, request: Request) -> Result<Response> {
        self.repository
            .transport()
            .send(request, Some(self.permit))
            .await
    }

    /// Makes a body of a part of the blob.
    pub(super) fn body(&self, start: u64, length: u64) -> Body {
        if length == 0 {
            return Body::Empty;
        }
        let source = Arc::clone(&self.source);
        Body::Replay(Arc::new(move || Ok(source.body(start, length))), length)
    }

    /// Returns whether the registry has the blob although it did not say so:
    /// its answer may have been lost, or something before it lost patience.
    async fn is_there_after_all(&self, trouble: Trouble) -> bool {
        let was_sent = self.source.is_used_up();
        let may_be = matches!(trouble, Trouble::Broken | Trouble::Failed | Trouble::Lost);
        was_sent
            && may_be
            && self
                .repository
                .has(self.source.digest, self.source.size, self.permit)
                .await
    }

    /// Remembers what no other blob needs to try.
    fn remember(&self, way: Way, trouble: Trouble, error: &Error) {
        let seen = &self.repository.registry.seen;
        match way {
            Way::Whole | Way::Stream if trouble == Trouble::TooLarge => {
                seen.refused_size(self.source.size);
            }
            Way::Stream if is_no_such_way(error) => seen.refused_stream(),
            Way::Chunks if is_no_such_way(error) => seen.refused_chunk(),
            _ => {}
        }
    }
}

/// Returns whether a registry said that it takes no bytes in this way. It may
/// say 400 for it, but says that of wrong bytes as well.
pub(super) fn is_no_such_way(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Answer {
            status: Some(405 | 411 | 415 | 501),
            ..
        }
    )
}
