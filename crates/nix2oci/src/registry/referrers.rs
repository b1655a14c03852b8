//! What refers to a manifest: signatures, bills of materials, provenance.
//!
//! A manifest with a `subject` is listed by the registry's referrers API. Where
//! there is none, clients keep the list themselves, as an index under the
//! *fallback tag*: the subject's digest with `-` in place of `:`
//! (distribution-spec, "Referrers Tag Schema").

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ETAG, HeaderValue, IF_MATCH};
use serde::Deserialize;
use serde_json::{Value, json};

use super::manifest::FetchedManifest;
use super::repository::{Read, Repository, sha256_of};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::oci::{Descriptor, MediaType, canonical_json};

/// How often the list is written again after somebody else wrote it.
const WRITES: usize = 5;

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// What a manifest says of itself that a list of referrers repeats.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

impl Repository {
    /// Lists what refers to a manifest, all of it or what has an artifact
    /// type, from the referrers API or the fallback tag. One request for each
    /// page, and one for the tag.
    pub async fn referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut referrers = match self.referrers_by_api(subject, artifact_type).await? {
            Some(referrers) => referrers,
            None => self.referrers_by_tag(subject).await?,
        };
        // Few registries do it themselves, and a tag cannot.
        if let Some(wanted) = artifact_type {
            referrers.retain(|referrer| {
                let found = referrer.artifact_type().as_ref();
                found.is_some_and(|found| found.to_string() == wanted)
            });
        }
        Ok(referrers)
    }

    /// Returns `None` where there is no such API.
    async fn referrers_by_api(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>> {
        if !self.registry.quirks.referrers {
            return Ok(None);
        }
        let action = || self.listing(subject);
        let path = match artifact_type {
            Some(wanted) => format!("referrers/{subject}?artifactType={}", escaped(wanted)),
            None => format!("referrers/{subject}"),
        };
        let first = || {
            let mut request = self.request(Method::GET, &path, action())?;
            // distribution 2.8.2 says "404 page not found"; the others are how
            // servers say that they know no such path.
            request.accept = &[200, 400, 404, 405, 406, 410, 501];
            Ok(request)
        };
        let mut referrers = Some(Vec::new());
        self.read_pages(first, |page| {
            if !is_list(page) {
                referrers = None;
                return Ok(false);
            }
            let list = parse(&page.bytes)
                .map_err(|problem| self.answered(action(), Some(page.status), problem))?;
            if let Some(referrers) = &mut referrers {
                referrers.extend(list);
            }
            Ok(true)
        })
        .await?;
        Ok(referrers)
    }

    async fn referrers_by_tag(&self, subject: Digest) -> Result<Vec<Descriptor>> {
        match self.fallback_list(subject).await? {
            Some((list, _)) if is_index(&list) => parse(&list.bytes)
                .map_err(|problem| self.answered(self.listing(subject), None, problem)),
            // Somebody else's tag that happens to have such a name.
            _ => Ok(Vec::new()),
        }
    }

    fn listing(&self, subject: Digest) -> String {
        self.action(format_args!("list what refers to {subject}"))
    }

    /// Reads what is under the fallback tag, with its `ETag`.
    async fn fallback_list(
        &self,
        subject: Digest,
    ) -> Result<Option<(FetchedManifest, Option<HeaderValue>)>> {
        let found = self.manifest_answer(&fallback_tag(subject)).await?;
        Ok(found
            // GitLab takes the tag for the digest, so it gives the subject,
            // whose own manifests are no referrers (oras-go#1396).
            .filter(|(list, _)| Digest::of(&list.bytes) != subject)
            .map(|(list, headers)| (list, headers.get(ETAG).cloned())))
    }

    /// Puts a manifest that has a `subject`, under its digest, and sees to it
    /// that it is found from there: where the registry does not confirm that
    /// (`OCI-Subject`), the list under the fallback tag is written.
    ///
    /// One request, or three. Two processes that write the list at once may
    /// lose one entry, unless the registry gives `ETag`s.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it has no subject; [`ErrorKind::Answer`]
    /// if the fallback tag is something else than a list; those of
    /// [`put_manifest`](Self::put_manifest).
    pub async fn put_referrer(&self, manifest: &[u8], media_type: &MediaType) -> Result<()> {
        let digest = Digest::of(manifest);
        let invalid = |problem: String| Error::invalid(format!("manifest {digest}"), problem);
        let referrer: Referrer = serde_json::from_slice(manifest)
            .map_err(|error| invalid(format!("it is no manifest: {error}")))?;
        let subject = referrer
            .subject
            .as_ref()
            .ok_or_else(|| invalid("it has no subject".to_owned()))?;
        let subject = sha256_of(subject)?;
        let bytes = Bytes::copy_from_slice(manifest);
        let put = self
            .put_one(&digest.to_string(), None, &bytes, media_type, digest)
            .await?;
        if put.headers.contains_key("oci-subject") {
            return Ok(());
        }
        let entry = entry(&referrer, digest, manifest.len() as u64, media_type);
        let _alone = self.registry.referrers.lock().await;
        for _ in 1..WRITES {
            match self.list_referrer(subject, &entry).await {
                Err(error) if is_overtaken(&error) => {}
                result => return result,
            }
        }
        self.list_referrer(subject, &entry).await
    }

    /// Reads the list, adds an entry and writes it.
    async fn list_referrer(&self, subject: Digest, entry: &Value) -> Result<()> {
        let tag = fallback_tag(subject);
        let found = self.fallback_list(subject).await?;
        let (list, etag) = match &found {
            None => (None, None),
            Some((list, etag)) if is_index(list) => (Some(&*list.bytes), etag.clone()),
            Some((other, _)) => {
                let problem = format!(
                    "its tag {tag} is {}, expected a list of referrers",
                    other.descriptor.media_type()
                );
                return Err(self.answered(self.listing(subject), None, problem));
            }
        };
        let list = with_entry(list, entry)
            .map_err(|problem| self.answered(self.listing(subject), None, problem))?;
        let Some(list) = list else {
            return Ok(());
        };
        let (bytes, digest) = (Bytes::from(list.clone()), Digest::of(&list));
        self.put_if(&tag, None, &bytes, &MediaType::ImageIndex, digest, |put| {
            if let Some(etag) = etag {
                put.headers.insert(IF_MATCH, etag);
            }
        })
        .await?;
        Ok(())
    }
}

/// Returns the tag that lists what refers to a manifest.
pub(super) fn fallback_tag(subject: Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn is_index(manifest: &FetchedManifest) -> bool {
    *manifest.descriptor.media_type() == MediaType::ImageIndex
}

/// Returns whether an answer is a list of referrers and not the page of a
/// server that knows none, or of a site it was sent on to.
fn is_list(page: &Read) -> bool {
    let kind = page.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    page.status == 200
        && (kind.eq_ignore_ascii_case("application/vnd.oci.image.index.v1+json")
            || kind.eq_ignore_ascii_case("application/json"))
}

fn parse(list: &[u8]) -> Result<Vec<Descriptor>, String> {
    serde_json::from_slice::<Listed>(list)
        .map(|list| list.manifests.unwrap_or_default())
        .map_err(|error| format!("what it answers is no list of referrers: {error}"))
}

/// Makes the list's entry of a manifest.
fn entry(referrer: &Referrer, digest: Digest, size: u64, media_type: &MediaType) -> Value {
    let mut entry = json!({
        "mediaType": media_type.to_string(),
        "digest": digest.to_string(),
        "size": size,
    });
    let config = referrer.config.as_ref().map(|config| &config.media_type);
    let own = referrer
        .artifact_type
        .as_ref()
        .filter(|kind| !kind.is_empty());
    if let Some(kind) = own.or(config) {
        entry["artifactType"] = json!(kind);
    }
    if let Some(annotations) = &referrer.annotations {
        entry["annotations"] = annotations.clone();
    }
    entry
}

/// Adds an entry to a list, or to a new one; `None` if it is there already.
/// What else is in the list stays as it is.
fn with_entry(list: Option<&[u8]>, entry: &Value) -> Result<Option<Vec<u8>>, String> {
    let mut list = match list {
        Some(list) => serde_json::from_slice(list)
            .map_err(|error| format!("its list of referrers is no JSON: {error}"))?,
        None => json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageIndex.to_string(),
            "manifests": [],
        }),
    };
    let manifests = list
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or("its list of referrers has no manifests")?;
    if manifests
        .iter()
        .any(|there| there["digest"] == entry["digest"])
    {
        return Ok(None);
    }
    manifests.push(entry.clone());
    Ok(Some(canonical_json(&list)))
}

/// Returns whether somebody else wrote what was to be written.
fn is_overtaken(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Answer {
            status: Some(409 | 412),
            ..
        }
    )
}

/// Writes a value for a query.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(manifest: &Value) -> Value {
        let referrer = serde_json::from_value(manifest.clone()).unwrap();
        entry(&referrer, Digest::of(b"x"), 1, &MediaType::ImageManifest)
    }

    #[test]
    fn an_entry_says_what_the_manifest_is() {
        let own = referrer(&json!({
            "artifactType": "application/spdx+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json"},
            "annotations": {"b": "2", "a": "1"},
        }));
        assert_eq!(own["artifactType"], "application/spdx+json");
        assert_eq!(own["annotations"], json!({"a": "1", "b": "2"}));
        assert_eq!(own["size"], 1);
        let config = referrer(&json!({
            "artifactType": "",
            "config": {"mediaType": "application/x"},
        }));
        assert_eq!(config["artifactType"], "application/x");
        let none = referrer(&json!({}));
        assert_eq!(none.as_object().unwrap().len(), 3);
    }

    #[test]
    fn an_entry_is_added_once_and_the_rest_stays() {
        let first = referrer(&json!({}));
        let list = with_entry(None, &first).unwrap().unwrap();
        assert_eq!(with_entry(Some(&list), &first), Ok(None));

        let theirs = br#"{"schemaVersion":2,"x":1,"manifests":[{"digest":"sha256:aa","y":2}]}"#;
        let list = with_entry(Some(theirs), &first).unwrap().unwrap();
        let list: Value = serde_json::from_slice(&list).unwrap();
        assert_eq!(list["x"], 1);
        assert_eq!(list["manifests"][0], json!({"digest":"sha256:aa","y":2}));
        assert_eq!(list["manifests"][1], first);
        for rubbish in ["{}", "[]", "<html>", r#"{"manifests":{}}"#] {
            assert!(with_entry(Some(rubbish.as_bytes()), &first).is_err());
        }
    }

    #[test]
    fn a_list_without_manifests_is_empty() {
        assert_eq!(parse(br#"{"manifests":null}"#), Ok(Vec::new()));
        assert!(parse(b"404 page not found").is_err());
    }

    #[test]
    fn values_of_a_query_are_escaped() {
        assert_eq!(
            escaped("application/spdx+json&x"),
            "application/spdx%2Bjson%26x"
        );
    }
}
