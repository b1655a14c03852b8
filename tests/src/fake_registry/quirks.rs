//! How registries deviate from the specification.

use std::time::Duration;

use serde_json::Value;

use crate::http_server::Answer;

use super::body_bytes;

/// Deviations, and choices that the specification leaves open. By default there
/// are none; names of registries say where each was seen.
#[derive(Debug, Clone)]
pub struct Quirks {
    /// The form of an upload's `Location`.
    pub location: LocationForm,
    /// Whether `Location` carries a query which must come back.
    pub location_state: bool,
    /// The status of a PATCH that was taken: 202. ECR: 201.
    pub patch_status: u16,
    /// What PATCH is good for.
    pub patch: PatchSupport,
    /// An upload whose body broke off is unknown under the location given
    /// before: distribution 2.8. (Otherwise that location tells where to go on.)
    pub forgets_broken_uploads: bool,
    /// A PATCH with `Content-Range` and more bytes gets a 416. ghcr.io: 4 MiB.
    pub chunk_max: Option<u64>,
    /// `OCI-Chunk-Min-Length` in the answer to a POST; smaller chunks but the
    /// last are refused.
    pub chunk_min: Option<u64>,
    /// `Content-Range` is not looked at: distribution 2.8.
    pub ignores_content_range: bool,
    /// What the `Range` of a chunk's answer says.
    pub range: RangeAnswer,
    /// What a POST with `mount` gets.
    pub mount: MountAnswer,
    /// Whether a POST with `digest` and the whole blob completes it. False:
    /// a 202 as of distribution 2.8, the body is forgotten.
    pub single_post: bool,
    /// A request with more bytes of a blob gets a 413, at its start if it tells
    /// its length. Cloudflare: 100 MB.
    pub body_max: Option<u64>,
    /// `GET` and `HEAD` of a blob lead to the storage by a 307.
    pub redirects_blobs: bool,
    /// `Docker-Content-Digest` in answers.
    pub content_digest: ContentDigest,
    /// Whether the answer to a manifest has a `Location`. ECR: no.
    pub manifest_location: bool,
    /// Manifests above get a 413: 4 MiB.
    pub manifest_max: u64,
    /// Whether `?tag=` at the PUT of a manifest by digest is obeyed and echoed
    /// as `OCI-Tag`. zot: yes. distribution: no.
    pub several_tags: bool,
    /// Whether manifests are taken whose blobs are missing.
    pub takes_incomplete_manifests: bool,
    /// A list of no tags is `null`, and a repository without tags has one.
    pub null_tags: bool,
    /// Tags come in pages of at most so many.
    pub tags_page: Option<usize>,
    /// All tags come at once, whatever was asked for: distribution 2.8.
    pub ignores_tags_page: bool,
    /// More tags than this at once are refused with a 400. ECR: 1000.
    pub tags_max: Option<usize>,
    /// What there is of the referrers API.
    pub referrers: Referrers,
    /// A tag `sha256-HEX` that is not there names the manifest of that digest:
    /// GitLab.
    pub digest_tags: bool,
    /// The bodies of errors.
    pub error_bodies: ErrorBodies,
    /// The text of a `Warning` in every answer.
    pub warning: Option<String>,
    /// More requests than this at once that bring bytes of blobs get a 429.
    pub uploads_at_once: Option<usize>,
    /// `Retry-After` of that 429, in seconds.
    pub retry_after: Option<u64>,
    /// How much later every answer comes, as over a long way.
    pub latency: Duration,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            location: LocationForm::Path,
            location_state: true,
            patch_status: 202,
            patch: PatchSupport::All,
            forgets_broken_uploads: false,
            chunk_max: None,
            chunk_min: None,
            ignores_content_range: false,
            range: RangeAnswer::Right,
            mount: MountAnswer::Works,
            single_post: true,
            body_max: None,
            redirects_blobs: false,
            content_digest: ContentDigest::Right,
            manifest_location: true,
            manifest_max: 4 * 1024 * 1024,
            several_tags: false,
            takes_incomplete_manifests: false,
            null_tags: false,
            tags_page: None,
            ignores_tags_page: false,
            tags_max: None,
            referrers: Referrers::Api,
            digest_tags: false,
            error_bodies: ErrorBodies::Json,
            warning: None,
            uploads_at_once: None,
            retry_after: None,
            latency: Duration::ZERO,
        }
    }
}

impl Quirks {
    /// Those of distribution 2.8, which a test compares with the real one.
    pub fn distribution() -> Self {
        Self {
            location: LocationForm::Absolute,
            forgets_broken_uploads: true,
            ignores_content_range: true,
            single_post: false,
            ignores_tags_page: true,
            referrers: Referrers::Absent,
            ..Self::default()
        }
    }
}

/// The form of an upload's `Location`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationForm {
    /// `/v2/app/blobs/uploads/…`
    Path,
    /// `http://HOST/v2/app/blobs/uploads/…`
    Absolute,
    /// Without a slash in front, to be resolved against the request's URL.
    Relative,
    /// `//HOST/v2/app/blobs/uploads/…`
    WithoutScheme,
    /// Absolute, at the port of the storage.
    Storage,
    /// Absolute, by the name `localhost` if the registry was called by its
    /// address.
    Localhost,
    /// There is none.
    Absent,
}

/// What PATCH is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchSupport {
    /// Streams and chunks.
    All,
    /// Only requests with `Content-Range`; others get a 400.
    Chunks,
    /// Only requests without `Content-Range`; others get a 400.
    Streams,
    /// Nothing: it gets a 405. GAR.
    None,
}

/// What the `Range` of a chunk's answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeAnswer {
    /// What was taken.
    Right,
    /// Always the end of the first chunk, though all were taken: ECR.
    Sticks,
    /// One byte less than was taken.
    Short,
    /// There is none.
    Absent,
}

/// What a POST with `mount` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountAnswer {
    /// 201 if the blob is there, else a session.
    Works,
    /// A session (202) in any case.
    Session,
    /// This error in any case. Harbor: 401 for unknown projects.
    Refused(u16),
}

/// `Docker-Content-Digest` in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentDigest {
    /// As it should be.
    Right,
    /// It is not there.
    Absent,
    /// It is that of other bytes.
    Wrong,
}

/// What there is of the referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referrers {
    /// All of it, and `OCI-Subject` for manifests with a subject.
    Api,
    /// The list without the filter.
    Unfiltered,
    /// A 404 as of distribution.
    Absent,
    /// A 303 to a host that answers with HTML: ghcr.io.
    SeeOther,
}

/// The bodies of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorBodies {
    /// As the specification has them.
    Json,
    /// A page as of a proxy in front.
    Html,
    /// The first half of the JSON.
    Truncated,
    /// None.
    Empty,
}

impl ErrorBodies {
    pub(super) fn apply(self, answer: Answer) -> Answer {
        match self {
            Self::Json => answer,
            Self::Html => {
                let status = answer.status;
                let mut answer = answer.body(format!(
                    "<html>\r\n<head><title>{status} Sorry</title></head>\r\n<body>\r\n\
                     <center><h1>{status} Sorry</h1></center>\r\n</body>\r\n</html>\r\n"
                ));
                answer.headers.set("Content-Type", "text/html");
                answer
            }
            Self::Truncated => {
                let bytes = body_bytes(&answer).unwrap_or_default();
                let half = bytes[..bytes.len() / 2].to_vec();
                answer.body(half)
            }
            Self::Empty => {
                let mut answer = answer.body("");
                answer.headers.remove("Content-Type");
                answer
            }
        }
    }
}

/// Returns the media type that a manifest states, if it does.
pub(super) fn stated_type(manifest: &Value) -> Option<&str> {
    manifest["mediaType"].as_str()
}
