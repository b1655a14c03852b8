//! Manifests and indexes, as the bytes that have the digest.

use std::borrow::Cow;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::repository::{Repository, check_digest};
use super::request::Request;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Body, HttpError, Response, problem};
use crate::oci::{Descriptor, MediaType, descriptor, is_tag};

/// Bytes that a manifest may have. Registries must take as many.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;

/// Tags that are asked for in one request.
const TAGS_TOGETHER: usize = 10;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a manifest may be: those of OCI and, the same with other names, of
/// docker.
const MEDIA_TYPES: &[&str] = &[
    OCI_MANIFEST,
    OCI_INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A manifest or an index as a registry gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedManifest {
    /// What it is, its digest and its size.
    pub descriptor: Descriptor,
    /// The bytes, which have that digest.
    pub bytes: Vec<u8>,
}

/// A manifest that was put.
pub(super) struct Put {
    pub(super) headers: HeaderMap,
}

impl Repository {
    /// Reads the manifest or index of a tag or a digest, or `None` if there is
    /// none. One request; at most 4 MiB.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DigestMismatch`] if it is not what was asked for, or not
    /// what the registry calls it; [`ErrorKind::Answer`] if it is nothing that
    /// can be taken for a manifest, or for two things at once.
    pub async fn manifest(&self, which: &str) -> Result<Option<FetchedManifest>> {
        Ok(self
            .manifest_answer(which)
            .await?
            .map(|(manifest, _)| manifest))
    }

    /// The same with the answer's headers.
    pub(super) async fn manifest_answer(
        &self,
        which: &str,
    ) -> Result<Option<(FetchedManifest, HeaderMap)>> {
        let asked = parse_which(which)?;
        let action = || self.action(format_args!("give manifest {which}"));
        let request = || {
            let mut request = self.request(Method::GET, &format!("manifests/{which}"), action())?;
            let accept = HeaderValue::from_str(&MEDIA_TYPES.join(", "));
            request
                .headers
                .insert(ACCEPT, accept.expect("media types are plain text"));
            request.accept = &[200, 404];
            Ok(request)
        };
        let read = self.read(request, MAX_MANIFEST).await?;
        if read.status == 404 {
            return Ok(None);
        }
        if is_page(&read.headers) {
            return Err(self.no_registry(action()));
        }
        let media_type = media_type(read.header("content-type"), &read.bytes)
            .map_err(|problem| self.answered(action(), Some(read.status), problem))?;
        let digest = Digest::of(&read.bytes);
        let what = || format!("manifest {which} of {}", self.place());
        if let Some(asked) = asked {
            check_digest(&what(), asked, digest)?;
        } else if MEDIA_TYPES.contains(&&*media_type)
            && let Some(said) = content_digest(&read.headers)
        {
            // A manifest of another type may be signed, and its digest be one
            // of a part of it.
            check_digest(&what(), said, digest)?;
        }
        let size = read.bytes.len() as u64;
        let manifest = FetchedManifest {
            descriptor: descriptor(MediaType::from(&*media_type), digest, size),
            bytes: read.bytes.into(),
        };
        Ok(Some((manifest, read.headers)))
    }

    /// Puts a manifest or an index under tags, its digest, or both; under its
    /// digest if `which` is empty. All blobs and manifests that it names must
    /// be there.
    ///
    /// One name is one request. Several tags are one request for each ten
    /// where the registry sets them so (zot does), else one each and one that
    /// finds out, once for each [`Client`](super::Client).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BlobsMissing`] if the registry lacks what the manifest
    /// names; [`ErrorKind::DigestMismatch`] if it took it for something else.
    pub async fn put_manifest(
        &self,
        manifest: &[u8],
        media_type: &MediaType,
        which: &[&str],
    ) -> Result<()> {
        let digest = Digest::of(manifest);
        let bytes = Bytes::copy_from_slice(manifest);
        let mut tags = Vec::new();
        for name in which {
            match parse_which(name)? {
                Some(asked) => check_digest(&format!("manifest {name}"), asked, digest)?,
                None => tags.push(*name),
            }
        }
        let by_digest = tags.len() < which.len() || which.is_empty();
        if let [tag] = tags[..]
            && !by_digest
        {
            self.put_one(tag, None, &bytes, media_type, digest).await?;
            return Ok(());
        }
        let digest_text = digest.to_string();
        let mut rest = tags;
        if rest.is_empty() {
            self.put_one(&digest_text, None, &bytes, media_type, digest)
                .await?;
        } else if !self.registry.seen.refuses_tags() {
            rest = self.put_tags(&bytes, media_type, digest, rest).await?;
        } else if by_digest {
            self.put_one(&digest_text, None, &bytes, media_type, digest)
                .await?;
        }
        for tag in rest {
            self.put_one(tag, None, &bytes, media_type, digest).await?;
        }
        Ok(())
    }

    /// Puts a manifest under its digest with several tags in each request;
    /// returns the tags that the registry did not set.
    async fn put_tags<'a>(
        &self,
        bytes: &Bytes,
        media_type: &MediaType,
        digest: Digest,
        tags: Vec<&'a str>,
    ) -> Result<Vec<&'a str>> {
        let by_digest = digest.to_string();
        let mut left = Vec::new();
        let mut groups = tags.chunks(TAGS_TOGETHER);
        for group in groups.by_ref() {
            let query = format!("?tag={}", group.join("&tag="));
            let put = match self
                .put_one(&by_digest, Some(&query), bytes, media_type, digest)
                .await
            {
                Ok(put) => put,
                // Plain requests follow, and say what is wrong with them.
                Err(error) if is_unwelcome(&error) => {
                    self.registry.seen.refused_tags();
                    left.extend_from_slice(group);
                    break;
                }
                Err(error) => return Err(error),
            };
            let set = tags_set(&put.headers);
            let missed = group.iter().filter(|tag| !set.contains(*tag));
            left.extend(missed);
            if set.is_empty() {
                // docker-registry 2.8.2 does not look at the query.
                self.registry.seen.refused_tags();
                break;
            }
        }
        left.extend(groups.flatten());
        Ok(left)
    }

    /// Sends one `PUT`.
    pub(super) async fn put_one(
        &self,
        which: &str,
        query: Option<&str>,
        bytes: &Bytes,
        media_type: &MediaType,
        digest: Digest,
    ) -> Result<Put> {
        self.put_if(which, query, bytes, media_type, digest, |_| {})
            .await
    }

    /// Sends one `PUT` with more headers.
    pub(super) async fn put_if(
        &self,
        which: &str,
        query: Option<&str>,
        bytes: &Bytes,
        media_type: &MediaType,
        digest: Digest,
        more: impl FnOnce(&mut Request),
    ) -> Result<Put> {
        let path = format!("manifests/{which}{}", query.unwrap_or_default());
        let action = self.action(format_args!("take manifest {which}"));
        let mut request = self.write_request(Method::PUT, &path, action.clone())?;
        let content_type = HeaderValue::from_str(media_type.as_ref())
            .map_err(|_| Error::invalid(format!("media type {media_type:?}"), "it is none"))?;
        request.headers.insert(CONTENT_TYPE, content_type);
        request.body = Body::Bytes(bytes.clone());
        // ECR names no Location (rust-oci-client, push_manifest_raw), and none
        // is needed. 400 and 404 are looked at for what is missing.
        request.accept = &[200, 201, 202, 204, 400, 404];
        more(&mut request);
        let response = self.transport().send(request, None).await?;
        if matches!(response.status, 400 | 404) {
            return Err(self.refused(action, response).await);
        }
        if is_page(&response.headers) {
            return Err(self.no_registry(action));
        }
        if let Some(said) = content_digest(&response.headers) {
            let what = format!("manifest {which} that {} took", self.place());
            check_digest(&what, digest, said)?;
        }
        Ok(Put {
            headers: response.headers,
        })
    }

    /// Makes the error of something that is no registry, whatever it says to
    /// have done: a portal on the way, or a site that answers all with one page.
    fn no_registry(&self, action: String) -> Error {
        ErrorKind::Connection {
            host: self.host().to_owned(),
            action,
            source: HttpError::lasting("a page for people answers, and no registry").into(),
        }
        .into()
    }

    /// Makes the error of an answer that was accepted to be looked at.
    pub(super) async fn refused(&self, action: String, mut response: Response) -> Error {
        let body = response.error_body().await;
        let problem = problem(response.status, response.header("content-type"), &body);
        let missing = match response.status {
            400 | 404 => missing_blobs(&body),
            _ => None,
        };
        match missing {
            Some(digests) => ErrorKind::BlobsMissing {
                host: self.host().to_owned(),
                action,
                problem,
                digests,
            }
            .into(),
            None => self.answered(action, Some(response.status), problem),
        }
    }
}

/// Returns the digest that names a manifest, or `None` for a tag.
pub(super) fn parse_which(which: &str) -> Result<Option<Digest>> {
    if is_tag(which) {
        return Ok(None);
    }
    which.parse().map(Some).map_err(|_| {
        Error::invalid(
            format!("manifest {which:?}"),
            "expected a tag or sha256: and 64 hexadecimal digits",
        )
    })
}

/// Returns the digest of `Docker-Content-Digest`, unless it is of another
/// algorithm.
fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    let said = headers.get("docker-content-digest")?.to_str().ok()?;
    said.trim().parse().ok()
}

/// Returns whether an answer is HTML.
fn is_page(headers: &HeaderMap) -> bool {
    let said = headers
        .get(CONTENT_TYPE)
        .and_then(|said| said.to_str().ok());
    said.is_some_and(|said| {
        said.trim_start()
            .to_ascii_lowercase()
            .starts_with("text/html")
    })
}

/// Returns the tags that a registry says it set: in one `OCI-Tag` or several.
fn tags_set(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all("oci-tag")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect()
}

/// Returns whether a registry may have refused the query and not the manifest.
fn is_unwelcome(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Answer {
            status: Some(400 | 404 | 405 | 414 | 501),
            ..
        }
    )
}

/// What tells the types of manifest apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(borrow, default)]
    media_type: Option<Cow<'a, str>>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
}

/// Decides what a manifest is: what the answer's header and its own
/// `mediaType` say, which must agree, else what it looks like.
fn media_type(content_type: Option<&str>, bytes: &[u8]) -> Result<String, String> {
    let said = content_type
        .map(|text| text.split(';').next().unwrap_or(text).trim())
        .map(str::to_ascii_lowercase)
        .filter(|text| {
            // What servers say that do not know.
            !matches!(
                &**text,
                "" | "application/json" | "text/plain" | "application/octet-stream"
            )
        });
    if let Some(said) = &said
        && !MEDIA_TYPES.contains(&&**said)
    {
        if said.starts_with("text/") {
            return Err(format!("what it answers is {said}, expected a manifest"));
        }
        return Ok(said.clone());
    }
    let shape: Shape<'_> = serde_json::from_slice(bytes)
        .map_err(|error| format!("what it answers is no manifest: {error}"))?;
    let is_index = shape.manifests.is_some();
    let is_manifest = shape.layers.is_some() || shape.config.is_some();
    if is_index && is_manifest {
        // Readers would disagree on it (CVE-2021-41190).
        return Err("what it answers is a manifest and an index at once".to_owned());
    }
    match (said, shape.media_type) {
        (Some(said), Some(own)) if said != own => Err(format!(
            "it sends a manifest as {said} that calls itself {own:?}"
        )),
        (Some(said), _) => Ok(said),
        (None, Some(own)) => Ok(own.into_owned()),
        (None, None) if is_index => Ok(OCI_INDEX.to_owned()),
        (None, None) if is_manifest => Ok(OCI_MANIFEST.to_owned()),
        (None, None) => Err("what it answers is neither a manifest nor an index".to_owned()),
    }
}

#[derive(Deserialize)]
struct Problems {
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: serde_json::Value,
}

/// Returns the blobs that an error answer calls missing, as far as it names
/// them, or `None` if it speaks of something else.
fn missing_blobs(body: &[u8]) -> Option<Vec<Digest>> {
    let problems: Problems = serde_json::from_slice(body).ok()?;
    let mut missing = problems
        .errors
        .iter()
        .filter(|problem| matches!(&*problem.code, "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN"))
        .peekable();
    missing.peek()?;
    let mut digests = Vec::new();
    for problem in missing {
        collect_digests(&problem.detail, &mut digests);
    }
    Some(digests)
}

/// Registries put the digest into `detail` as it is, or into some object.
fn collect_digests(detail: &serde_json::Value, digests: &mut Vec<Digest>) {
    match detail {
        serde_json::Value::String(text) => digests.extend(text.parse::<Digest>().ok()),
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| collect_digests(item, digests));
        }
        serde_json::Value::Object(map) => {
            map.values().for_each(|item| collect_digests(item, digests));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_what_header_and_body_agree_on() {
        let plain = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let own = format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        for (content_type, body, expected) in [
            (Some(OCI_MANIFEST), plain, OCI_MANIFEST),
            (Some(OCI_INDEX), own.as_str(), OCI_INDEX),
            (
                Some("Application/vnd.oci.image.index.v1+json; charset=utf-8"),
                index,
                OCI_INDEX,
            ),
            (Some(MEDIA_TYPES[2]), plain, MEDIA_TYPES[2]),
            (Some("application/json"), &own, OCI_INDEX),
            (Some("text/plain; charset=utf-8"), plain, OCI_MANIFEST),
            (None, index, OCI_INDEX),
            (
                Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
                "not looked at",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            ),
        ] {
            let found = media_type(content_type, body.as_bytes());
            assert_eq!(found.as_deref(), Ok(expected), "{content_type:?} {body}");
        }
        for (content_type, body, expected) in [
            (Some(OCI_MANIFEST), own.as_str(), "calls itself"),
            (
                Some(OCI_MANIFEST),
                r#"{"layers":[],"manifests":[]}"#,
                "at once",
            ),
            (None, r#"{"config":{},"manifests":[]}"#, "at once"),
            (None, "{}", "neither"),
            (Some("application/json"), "<html>", "no manifest"),
            (Some("text/html"), "<html>", "text/html"),
        ] {
            let problem = media_type(content_type, body.as_bytes()).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    /// docker-registry 2.8.2 puts the digest into `detail` as it is; others
    /// wrap it.
    #[test]
    fn missing_blobs_are_named() {
        let digest = Digest::of(b"layer");
        for (body, expected) in [
            (
                format!(
                    r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry","detail":"{digest}"}}]}}"#
                ),
                Some(vec![digest]),
            ),
            (
                format!(
                    r#"{{"errors":[{{"code":"DENIED"}},{{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"blobs":["{digest}"]}}}}]}}"#
                ),
                Some(vec![digest]),
            ),
            (
                r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#.to_owned(),
                Some(vec![]),
            ),
            (
                r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#.to_owned(),
                None,
            ),
            (r#"{"errors":[]}"#.to_owned(), None),
            ("<html>404</html>".to_owned(), None),
        ] {
            assert_eq!(missing_blobs(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn tags_are_read_from_one_header_or_several() {
        let mut headers = HeaderMap::new();
        headers.append("OCI-Tag", HeaderValue::from_static("a, b"));
        headers.append("OCI-Tag", HeaderValue::from_static("c"));
        assert_eq!(tags_set(&headers), ["a", "b", "c"]);
    }
}
