//! A registry in memory that does what it is told to, also what is wrong.
//!
//! Untouched it is faithful to the OCI distribution specification 1.1: blobs by
//! one PUT, by a stream (docker's PATCH without `Content-Range`) or by chunks,
//! mounts, manifests whose blobs are checked, paged tags, referrers, deletion,
//! ranges. Blobs belong to a repository, so a mount matters. An upload's
//! `Location` carries a state that must be the newest, as distribution has it.
//! skopeo takes it for a registry (see the tests).
//!
//! [`Quirks`] make it behave like registries that deviate, [`Fault`]s break
//! single requests, [`FakeAuth`] asks for credentials, and the [`Log`] tells
//! what came in.
//!
//! It answers on two ports: the registry's and that of its storage
//! ([`FakeRegistry::storage_host`]), to which locations and redirects can lead
//! and which refuses every request with an `Authorization`.

mod auth;
mod blobs;
pub(crate) mod faults;
mod manifests;
mod quirks;
mod state;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::json;

use crate::http_server::{Answer, AnswerBody, HttpServer, Request, lock};

pub use crate::request_log::{Entry, Log};

pub use auth::{AuthScheme, FakeAuth, PostTokens, Realm};
pub use faults::Fault;
pub use quirks::{
    ContentDigest, ErrorBodies, LocationForm, MountAnswer, PatchSupport, Quirks, RangeAnswer,
    Referrers,
};

use faults::{End, Faults, Incoming};
use state::{Blob, Manifest, State, digest_of};

/// An OCI registry in memory, on the loopback interface. It ends when it is
/// dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    server: HttpServer,
    storage: HttpServer,
    shared: Arc<Shared>,
}

/// What a [`FakeRegistry`] starts with; all can be left at its default.
#[derive(Debug, Clone, Default)]
pub struct FakeOptions {
    /// Who may do what. By default everyone everything.
    pub auth: FakeAuth,
    /// How it deviates from the specification. By default not at all.
    pub quirks: Quirks,
    /// Makes both ports speak TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// Blobs above 1 MiB are kept as well, and can be downloaded. Otherwise
    /// only digest and size are.
    pub keeps_large_blobs: bool,
}

/// Larger blobs are not kept unless asked for.
const SMALL_BLOB: u64 = 1024 * 1024;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    auth: Mutex<auth::Tokens>,
    quirks: Mutex<Quirks>,
    faults: Faults,
    log: Log,
    /// URLs without a slash at the end; known once both ports are open.
    urls: Mutex<Urls>,
    blob_limit: u64,
    /// How many requests bring bytes of blobs now.
    uploads_at_work: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
struct Urls {
    registry: String,
    storage: String,
}

/// Which of the two ports a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Registry,
    Storage,
}

impl FakeRegistry {
    /// Starts one that keeps to the specification and lets everyone in.
    pub fn start() -> Self {
        Self::start_with(FakeOptions::default())
    }

    /// Starts one that asks for credentials.
    pub fn start_with_auth(auth: FakeAuth) -> Self {
        Self::start_with(FakeOptions {
            auth,
            ..FakeOptions::default()
        })
    }

    /// Starts one that deviates from the specification.
    pub fn start_with_quirks(quirks: Quirks) -> Self {
        Self::start_with(FakeOptions {
            quirks,
            ..FakeOptions::default()
        })
    }

    /// Starts one.
    pub fn start_with(options: FakeOptions) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            auth: Mutex::new(auth::Tokens::new(options.auth)),
            quirks: Mutex::new(options.quirks),
            faults: Faults::default(),
            log: Log::default(),
            urls: Mutex::default(),
            blob_limit: if options.keeps_large_blobs {
                u64::MAX
            } else {
                SMALL_BLOB
            },
            uploads_at_work: AtomicUsize::new(0),
        });
        let serve = |port| {
            let shared = shared.clone();
            HttpServer::start_with(options.tls.clone(), move |request| {
                shared.handle(request, port)
            })
        };
        let server = serve(Port::Registry);
        let storage = serve(Port::Storage);
        *lock(&shared.urls) = Urls {
            registry: server.url(),
            storage: storage.url(),
        };
        Self {
            server,
            storage,
            shared,
        }
    }

    /// Returns the host as in a reference: `127.0.0.1:12345`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Returns the same host by name: `localhost:12345`.
    pub fn localhost(&self) -> String {
        self.server.localhost()
    }

    /// Returns the host of the second port.
    pub fn storage_host(&self) -> String {
        self.storage.host()
    }

    /// Returns the server of the registry's port, for its connections.
    pub fn server(&self) -> &HttpServer {
        &self.server
    }

    /// Returns what came in so far.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Adds a fault. Of several that fit a request, the first that was added
    /// takes effect.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Changes how it deviates from the specification, for requests to come.
    pub fn change_quirks(&self, change: impl FnOnce(&mut Quirks)) {
        change(&mut lock(&self.shared.quirks));
    }

    /// Changes who may do what; tokens given out remain valid.
    pub fn change_auth(&self, change: impl FnOnce(&mut FakeAuth)) {
        change(&mut lock(&self.shared.auth).options);
    }

    /// Makes all tokens that were given out invalid.
    pub fn revoke_tokens(&self) {
        lock(&self.shared.auth).revoke();
    }

    /// Stores a blob and returns its digest.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let blob = Blob {
            size: bytes.len() as u64,
            bytes: Some(bytes.into()),
        };
        let mut state = lock(&self.shared.state);
        let repository = state.make(repository);
        repository.blobs.insert(digest.clone(), blob);
        digest
    }

    /// Stores a manifest unchecked, under a tag or, if `which` is none, by its
    /// digest alone; returns the digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
    ) -> String {
        let digest = digest_of(bytes);
        let manifest = Manifest {
            media_type: media_type.to_owned(),
            bytes: bytes.into(),
        };
        let mut state = lock(&self.shared.state);
        let repository = state.make(repository);
        repository.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    /// Forgets a blob. Manifests that name it stay, as after a careless garbage
    /// collection.
    pub fn delete_blob(&self, repository: &str, digest: &str) {
        let mut state = lock(&self.shared.state);
        state.make(repository).blobs.remove(digest);
    }

    /// Returns the sizes of a repository's blobs by digest.
    pub fn blobs(&self, repository: &str) -> std::collections::BTreeMap<String, u64> {
        let state = lock(&self.shared.state);
        let Some(repository) = state.repositories.get(repository) else {
            return Default::default();
        };
        let blobs = repository.blobs.iter();
        blobs
            .map(|(digest, blob)| (digest.clone(), blob.size))
            .collect()
    }

    /// Returns the bytes of a blob, if it is there and was kept.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let state = lock(&self.shared.state);
        let blob = state.repositories.get(repository)?.blobs.get(digest)?;
        Some(blob.bytes.as_ref()?.to_vec())
    }

    /// Returns the bytes of a manifest by tag or digest.
    pub fn manifest(&self, repository: &str, which: &str) -> Option<Vec<u8>> {
        let state = lock(&self.shared.state);
        let (_, manifest) = state.repositories.get(repository)?.manifest(which)?;
        Some(manifest.bytes.to_vec())
    }

    /// Returns the tags of a repository with the digests they name.
    pub fn tags(&self, repository: &str) -> std::collections::BTreeMap<String, String> {
        let state = lock(&self.shared.state);
        let repository = state.repositories.get(repository);
        repository.map(|r| r.tags.clone()).unwrap_or_default()
    }

    /// Returns how many uploads were begun and neither completed nor cancelled.
    pub fn open_uploads(&self) -> usize {
        lock(&self.shared.state).uploads.len()
    }
}

impl Shared {
    fn handle(&self, request: &mut Request<'_>, port: Port) -> Answer {
        let entry = self.log.begin(request, port == Port::Storage);
        let quirks = lock(&self.quirks).clone();
        request.wait(quirks.latency);
        let mut incoming = Incoming::new(request, &self.faults, Some(&self.auth));
        let mut answer = match incoming.early() {
            Some(answer) => answer,
            None => self.answer(&mut incoming, &quirks, port),
        };
        let received = incoming.request.received();
        match incoming.take_end() {
            Some(End::Answer(end)) => answer = end,
            Some(End::Refusal) => {
                let path = incoming.request.path.strip_prefix("/v2/");
                let place = path.and_then(Place::parse);
                // Without authentication nobody is refused.
                let refusal = place.and_then(|place| self.refusal(incoming.request, &place));
                answer = refusal.unwrap_or(answer);
            }
            None if answer.status >= 400 => answer = quirks.error_bodies.apply(answer),
            None => {}
        }
        answer = incoming.late(answer);
        if let Some(warning) = &quirks.warning {
            answer = answer.header("Warning", format!("299 - \"{warning}\""));
        }
        self.log.end(entry, received, answer.sent_status());
        answer
    }

    fn answer(&self, incoming: &mut Incoming<'_, '_>, quirks: &Quirks, port: Port) -> Answer {
        let request = &incoming.request;
        if port == Port::Storage && request.headers.has("Authorization") {
            // As S3 does with signed URLs.
            return problem(400, "UNSUPPORTED", "only one way to authorize is allowed");
        }
        if request.path == "/token" {
            return self.token(incoming);
        }
        let Some(path) = request.path.strip_prefix("/v2/") else {
            return Answer::new(404).body("404 page not found\n");
        };
        let Some(place) = Place::parse(path) else {
            return match path {
                "" => self.ping(incoming, port),
                _ => Answer::new(404).body("404 page not found\n"),
            };
        };
        if !is_name(&place.repository) {
            // As distribution's router has it.
            return Answer::new(404).body("404 page not found\n");
        }
        if port == Port::Registry
            && let Some(refusal) = self.refusal(incoming.request, &place)
        {
            return refusal;
        }
        match &place.thing {
            Thing::Blob(digest) => self.blob(incoming, quirks, port, &place.repository, digest),
            Thing::Uploads => self.begin_upload(incoming, quirks, &place.repository),
            Thing::Upload(id) => {
                let at_work = self.uploads_at_work.fetch_add(1, Ordering::SeqCst);
                let answer = if quirks.uploads_at_once.is_some_and(|most| at_work >= most) {
                    too_many(quirks)
                } else {
                    self.upload(incoming, quirks, &place.repository, id)
                };
                self.uploads_at_work.fetch_sub(1, Ordering::SeqCst);
                answer
            }
            Thing::Manifest(which) => self.manifest(incoming, quirks, &place.repository, which),
            Thing::Tags => self.tags(incoming, quirks, &place.repository),
            Thing::Referrers(digest) => self.referrers(incoming, quirks, &place.repository, digest),
        }
    }

    fn ping(&self, incoming: &Incoming<'_, '_>, port: Port) -> Answer {
        if port == Port::Registry
            && let Some(refusal) = self.ping_refusal(incoming.request)
        {
            return refusal;
        }
        Answer::json(200, &json!({})).header("Docker-Distribution-API-Version", "registry/2.0")
    }
}

/// What a path below `/v2/` names.
#[derive(Debug)]
struct Place {
    repository: String,
    thing: Thing,
}

#[derive(Debug)]
enum Thing {
    Blob(String),
    Uploads,
    Upload(String),
    Manifest(String),
    Tags,
    Referrers(String),
}

impl Place {
    fn parse(path: &str) -> Option<Self> {
        let path = crate::http_server::percent_decode(path);
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Some(Self {
                repository: repository.to_owned(),
                thing: Thing::Tags,
            });
        }
        if let Some((repository, id)) = path.rsplit_once("/blobs/uploads/") {
            return Some(Self {
                repository: repository.to_owned(),
                thing: match id {
                    "" => Thing::Uploads,
                    id => Thing::Upload(id.to_owned()),
                },
            });
        }
        let (rest, last) = path.rsplit_once('/')?;
        let (repository, kind) = rest.rsplit_once('/')?;
        let last = last.to_owned();
        Some(Self {
            repository: repository.to_owned(),
            thing: match kind {
                "blobs" => Thing::Blob(last),
                "manifests" => Thing::Manifest(last),
                "referrers" => Thing::Referrers(last),
                _ => return None,
            },
        })
    }
}

/// Whether this may name a repository (distribution specification, "Pulling
/// manifests"), but for how separators may follow each other.
fn is_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split('/').all(|part| {
        part.bytes().all(|b| is_word(b) || b"._-".contains(&b))
            && part.bytes().next().is_some_and(is_word)
            && part.bytes().last().is_some_and(is_word)
    })
}

/// An answer in the form of the specification's errors.
fn problem(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(
        status,
        &json!({"errors": [{"code": code, "message": message, "detail": null}]}),
    )
}

fn too_many(quirks: &Quirks) -> Answer {
    let answer = problem(429, "TOOMANYREQUESTS", "too many requests");
    match quirks.retry_after {
        Some(seconds) => answer.header("Retry-After", seconds.to_string()),
        None => answer,
    }
}

/// The bytes of an answer's body, if it has no reader.
fn body_bytes(answer: &Answer) -> Option<&[u8]> {
    match &answer.body {
        AnswerBody::Bytes(bytes) => Some(bytes),
        AnswerBody::Reader(..) => None,
    }
}

#[cfg(test)]
mod quirk_tests;
#[cfg(test)]
mod same_as_real;
#[cfg(test)]
mod tests;
