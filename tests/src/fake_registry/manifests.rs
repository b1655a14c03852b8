//! Manifests, tags and referrers.

use serde_json::{Value, json};

use crate::http_server::{Answer, Request, lock, query_values};

use super::faults::Incoming;
use super::quirks::{Quirks, Referrers, stated_type};
use super::state::{Manifest, Repository, digest_of, is_digest};
use super::{Shared, problem};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Shared {
    /// What is asked of a manifest.
    pub(super) fn manifest(
        &self,
        incoming: &mut Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
        which: &str,
    ) -> Answer {
        match incoming.request.method.as_str() {
            "HEAD" | "GET" => self.read_manifest(incoming.request, quirks, repository, which),
            "PUT" => self.write_manifest(incoming, quirks, repository, which),
            "DELETE" => self.delete_manifest(repository, which),
            _ => problem(405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }

    fn read_manifest(
        &self,
        request: &Request<'_>,
        quirks: &Quirks,
        repository: &str,
        which: &str,
    ) -> Answer {
        let state = lock(&self.state);
        let named = which.replacen('-', ":", 1);
        let unknown = || problem(404, "MANIFEST_UNKNOWN", "manifest unknown");
        let Some(repository) = state.repositories.get(repository) else {
            return unknown();
        };
        let found = repository.manifest(which).or_else(|| {
            let is_digest_tag = quirks.digest_tags && which.starts_with("sha256-");
            repository.manifest(&named).filter(|_| is_digest_tag)
        });
        let Some((digest, manifest)) = found else {
            return unknown();
        };
        // As distribution does with OCI's types; without `Accept` all are fine.
        let is_accepted = !request.headers.has("Accept")
            || request.headers.lists("Accept", &manifest.media_type)
            || request.headers.lists("Accept", "*/*");
        if !is_accepted {
            return unknown();
        }
        let answer = Answer::new(200)
            .header("Content-Type", &manifest.media_type)
            .header("ETag", format!("\"{digest}\""))
            .body(&manifest.bytes);
        quirks.name_digest(answer, digest)
    }

    fn write_manifest(
        &self,
        incoming: &mut Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
        which: &str,
    ) -> Answer {
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(&mut *incoming, quirks.manifest_max + 1);
        if std::io::Read::read_to_end(&mut limited, &mut bytes).is_err() {
            return Answer::none();
        }
        if bytes.len() as u64 > quirks.manifest_max {
            return problem(413, "MANIFEST_INVALID", "the manifest is too large");
        }
        let request = &incoming.request;
        let invalid = |message: &str| problem(400, "MANIFEST_INVALID", message);
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
            return invalid("the manifest is no JSON document");
        };
        let media_type = request.headers.get("Content-Type").unwrap_or_default();
        if stated_type(&document).is_some_and(|stated| stated != media_type) {
            return invalid("Content-Type is not the manifest's mediaType");
        }
        let digest = digest_of(&bytes);
        if which.contains(':') && which != digest {
            return problem(
                400,
                "DIGEST_INVALID",
                "provided digest did not match content",
            );
        }
        let mut tags = Vec::new();
        if which != digest {
            tags.push(which.to_owned());
        }
        let echoed = if quirks.several_tags {
            query_values(&request.query, "tag")
        } else {
            Vec::new()
        };
        tags.extend(echoed.iter().cloned());
        if !tags.iter().all(|tag| is_tag(tag)) {
            return invalid("invalid tag");
        }

        let mut state = lock(&self.state);
        let repository_found = state.make(repository);
        if !quirks.takes_incomplete_manifests
            && let Some(answer) = children_refusal(repository_found, &document)
        {
            return answer;
        }
        let manifest = Manifest {
            media_type: media_type.to_owned(),
            bytes: bytes.into(),
        };
        repository_found.manifests.insert(digest.clone(), manifest);
        for tag in tags {
            repository_found.tags.insert(tag, digest.clone());
        }
        let mut answer = Answer::new(201);
        if quirks.manifest_location {
            answer = answer.header("Location", format!("/v2/{repository}/manifests/{digest}"));
        }
        for tag in echoed {
            answer = answer.header("OCI-Tag", tag);
        }
        if let Some(subject) = document["subject"]["digest"].as_str()
            && matches!(quirks.referrers, Referrers::Api | Referrers::Unfiltered)
        {
            answer = answer.header("OCI-Subject", subject);
        }
        quirks.name_digest(answer, &digest)
    }

    fn delete_manifest(&self, repository: &str, which: &str) -> Answer {
        let mut state = lock(&self.state);
        let repository = state.make(repository);
        if repository.tags.remove(which).is_some() {
            return Answer::new(202);
        }
        if repository.manifests.remove(which).is_none() {
            return problem(404, "MANIFEST_UNKNOWN", "manifest unknown");
        }
        repository.tags.retain(|_, digest| digest != which);
        Answer::new(202)
    }

    /// `GET …/tags/list`.
    pub(super) fn tags(
        &self,
        incoming: &Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
    ) -> Answer {
        let request = &incoming.request;
        let state = lock(&self.state);
        let found = state.repositories.get(repository);
        if found.is_none() && !quirks.null_tags {
            return problem(404, "NAME_UNKNOWN", "repository name not known to registry");
        }
        let last = request.query_value("last").unwrap_or_default();
        let wanted = request.query_value("n").and_then(|n| n.parse().ok());
        if let (Some(n), Some(max)) = (wanted, quirks.tags_max)
            && n > max
        {
            return problem(400, "PAGINATION_NUMBER_INVALID", "n is too large");
        }
        let page = wanted
            .unwrap_or(usize::MAX)
            .min(quirks.tags_page.unwrap_or(usize::MAX));
        let (last, page) = match quirks.ignores_tags_page {
            true => (String::new(), usize::MAX),
            false => (last, page),
        };
        let tags = found.into_iter().flat_map(|found| found.tags.keys());
        let mut tags: Vec<_> = tags.filter(|tag| **tag > last).collect();
        let has_more = tags.len() > page;
        tags.truncate(page);
        let list = match tags.as_slice() {
            [] if quirks.null_tags => Value::Null,
            tags => json!(tags),
        };
        let answer = Answer::json(200, &json!({"name": repository, "tags": list}));
        match tags.last().filter(|_| has_more) {
            Some(last) => {
                let next = format!("/v2/{repository}/tags/list?n={page}&last={last}");
                answer.header("Link", format!("<{next}>; rel=\"next\""))
            }
            None => answer,
        }
    }

    /// `GET …/referrers/DIGEST`.
    pub(super) fn referrers(
        &self,
        incoming: &Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
        digest: &str,
    ) -> Answer {
        match quirks.referrers {
            Referrers::Api | Referrers::Unfiltered => {}
            Referrers::Absent => return Answer::new(404).body("404 page not found\n"),
            Referrers::SeeOther => {
                let url = &lock(&self.urls).storage;
                return Answer::new(303).header("Location", format!("{url}/{repository}"));
            }
        }
        if !is_digest(digest) {
            return problem(400, "DIGEST_INVALID", "provided digest is not supported");
        }
        let wanted = incoming.request.query_value("artifactType");
        let wanted = wanted.filter(|_| quirks.referrers == Referrers::Api);
        let state = lock(&self.state);
        let found = state.repositories.get(repository);
        let manifests = found.into_iter().flat_map(|found| &found.manifests);
        let mut descriptors = Vec::new();
        for (referrer, manifest) in manifests {
            let Ok(document) = serde_json::from_slice::<Value>(&manifest.bytes) else {
                continue;
            };
            if document["subject"]["digest"] != digest {
                continue;
            }
            let kind = match &document["artifactType"] {
                Value::Null => &document["config"]["mediaType"],
                kind => kind,
            };
            if wanted.as_ref().is_some_and(|wanted| kind != wanted) {
                continue;
            }
            let mut descriptor = json!({
                "mediaType": manifest.media_type,
                "digest": referrer,
                "size": manifest.bytes.len(),
                "artifactType": kind,
            });
            if document["annotations"].is_object() {
                descriptor["annotations"] = document["annotations"].clone();
            }
            descriptors.push(descriptor);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": descriptors,
        });
        let mut answer = Answer::json(200, &index);
        answer.headers.set("Content-Type", INDEX);
        match wanted {
            Some(_) => answer.header("OCI-Filters-Applied", "artifactType"),
            None => answer,
        }
    }
}

/// Returns what is wrong if not all that a manifest names is in its repository,
/// with the sizes that it names.
fn children_refusal(repository: &Repository, document: &Value) -> Option<Answer> {
    let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    let blobs = list("layers").into_iter().chain(
        // An index has none.
        Some(document["config"].clone()).filter(Value::is_object),
    );
    let blobs = blobs.map(|child| {
        let blob = repository
            .blobs
            .get(child["digest"].as_str().unwrap_or_default());
        (blob.map(|blob| blob.size), child)
    });
    let manifests = list("manifests").into_iter().map(|child| {
        let digest = child["digest"].as_str().unwrap_or_default();
        let manifest = repository.manifests.get(digest);
        (manifest.map(|manifest| manifest.bytes.len() as u64), child)
    });
    let mut missing = Vec::new();
    for (size, child) in blobs.chain(manifests) {
        match size {
            None => missing.push(json!({
                "code": "MANIFEST_BLOB_UNKNOWN",
                "message": "blob unknown to registry",
                "detail": {"digest": child["digest"]},
            })),
            Some(size) if child["size"] != size => {
                return Some(problem(
                    400,
                    "SIZE_INVALID",
                    "a descriptor has the wrong size",
                ));
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        None
    } else {
        Some(Answer::json(400, &json!({ "errors": missing })))
    }
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || b".-".contains(&byte))
}
