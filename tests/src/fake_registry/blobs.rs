//! Blobs and uploads.

use std::io::Read;
use std::sync::{Arc, Mutex};

use crate::http_server::{Answer, Request, lock};

use super::faults::Incoming;
use super::quirks::{ContentDigest, LocationForm, MountAnswer, PatchSupport, Quirks, RangeAnswer};
use super::state::{Blob, Upload, digest_of, is_digest};
use super::{Port, Shared, problem};

impl Shared {
    /// `HEAD`, `GET` and `DELETE` of a blob.
    pub(super) fn blob(
        &self,
        incoming: &Incoming<'_, '_>,
        quirks: &Quirks,
        port: Port,
        repository: &str,
        digest: &str,
    ) -> Answer {
        if !is_digest(digest) {
            return problem(400, "DIGEST_INVALID", "provided digest is not supported");
        }
        let request = &incoming.request;
        let mut state = lock(&self.state);
        let found = state.repositories.get_mut(repository);
        let Some(repository_found) = found.filter(|found| found.blobs.contains_key(digest)) else {
            return problem(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        let blobs = &mut repository_found.blobs;
        match request.method.as_str() {
            "DELETE" => {
                blobs.remove(digest);
                Answer::new(202)
            }
            "HEAD" | "GET" if quirks.redirects_blobs && port == Port::Registry => {
                let url = &lock(&self.urls).storage;
                let to = format!("{url}/v2/{repository}/blobs/{digest}?signature=secret");
                Answer::new(307).header("Location", to)
            }
            "HEAD" | "GET" => {
                let blob = blobs[digest].clone();
                drop(state);
                quirks.name_digest(read_blob(request, &blob), digest)
            }
            _ => problem(405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }

    /// `POST …/blobs/uploads/`: a mount, a whole blob or a session.
    pub(super) fn begin_upload(
        &self,
        incoming: &mut Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
    ) -> Answer {
        if incoming.request.method != "POST" {
            return problem(405, "UNSUPPORTED", "the operation is unsupported");
        }
        if let Some(digest) = incoming.request.query_value("mount") {
            let from = incoming.request.query_value("from");
            if let Some(answer) = self.mount(quirks, repository, &digest, from.as_deref()) {
                return answer;
            }
        }
        let id = {
            let mut state = lock(&self.state);
            state.begun += 1;
            let id = format!("upload-{}", state.begun);
            let upload = Arc::new(Mutex::new(Upload::new(repository)));
            state.uploads.insert(id.clone(), upload);
            id
        };
        if let Some(digest) = incoming.request.query_value("digest") {
            if quirks.single_post {
                return self.upload_rest(incoming, quirks, repository, &id, Some(&digest));
            }
            if incoming.request.discard().is_err() {
                return Answer::none();
            }
        }
        let answer = Answer::new(202)
            .header("Range", "0-0")
            .header("Docker-Upload-UUID", &id);
        let answer = match quirks.chunk_min {
            Some(min) => answer.header("OCI-Chunk-Min-Length", min.to_string()),
            None => answer,
        };
        self.locate(answer, incoming.request, quirks, repository, &id)
    }

    /// Returns nothing if a session is to be begun instead.
    fn mount(
        &self,
        quirks: &Quirks,
        repository: &str,
        digest: &str,
        from: Option<&str>,
    ) -> Option<Answer> {
        match quirks.mount {
            MountAnswer::Refused(404) => {
                return Some(problem(404, "NAME_UNKNOWN", "repository not known"));
            }
            MountAnswer::Refused(status @ 401) => {
                return Some(problem(status, "UNAUTHORIZED", "authentication required"));
            }
            MountAnswer::Refused(status) => {
                return Some(problem(status, "DENIED", "mounting is not allowed"));
            }
            MountAnswer::Session => return None,
            MountAnswer::Works => {}
        }
        let mut state = lock(&self.state);
        let blob = state.repositories.get(from?)?.blobs.get(digest)?.clone();
        let blobs = &mut state.make(repository).blobs;
        blobs.insert(digest.to_owned(), blob);
        Some(completed(quirks, repository, digest))
    }

    /// What is asked of an upload that was begun.
    pub(super) fn upload(
        &self,
        incoming: &mut Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
        id: &str,
    ) -> Answer {
        let Some(upload) = lock(&self.state).uploads.get(id).cloned() else {
            return unknown_upload();
        };
        let request = &incoming.request;
        {
            let upload = lock(&upload);
            let state = request.query_value("_state");
            let is_newest = state == Some(upload.state.to_string());
            if upload.repository != repository {
                return unknown_upload();
            }
            if quirks.location_state && !is_newest {
                return problem(404, "BLOB_UPLOAD_INVALID", "blob upload invalid");
            }
        }
        match request.method.as_str() {
            "GET" => {
                let upload = lock(&upload).size;
                let answer = Answer::new(204).header("Range", range(upload));
                self.locate(answer, request, quirks, repository, id)
            }
            "DELETE" => {
                lock(&self.state).uploads.remove(id);
                Answer::new(204)
            }
            "PATCH" => self.upload_rest(incoming, quirks, repository, id, None),
            "PUT" => match request.query_value("digest").filter(|d| is_digest(d)) {
                Some(digest) => self.upload_rest(incoming, quirks, repository, id, Some(&digest)),
                None => problem(400, "DIGEST_INVALID", "the query names no digest"),
            },
            _ => problem(405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }

    /// Takes a body, and completes the upload if the digest is known.
    fn upload_rest(
        &self,
        incoming: &mut Incoming<'_, '_>,
        quirks: &Quirks,
        repository: &str,
        id: &str,
        digest: Option<&str>,
    ) -> Answer {
        let Some(upload) = lock(&self.state).uploads.get(id).cloned() else {
            return unknown_upload();
        };
        if let Some(answer) = chunk_refusal(incoming.request, quirks, &upload, digest.is_some()) {
            // The newest place of the upload is part of the answer.
            return match answer.status {
                416 => self.locate(answer, incoming.request, quirks, repository, id),
                _ => answer,
            };
        }
        if let Some(answer) = self.append(incoming, quirks, &upload) {
            return answer;
        }
        let mut upload = lock(&upload);
        let size = upload.size;
        let Some(digest) = digest else {
            upload.state += 1;
            let first = *upload.first.get_or_insert(size);
            drop(upload);
            let answer = Answer::new(quirks.patch_status).header("Docker-Upload-UUID", id);
            let answer = match quirks.range {
                RangeAnswer::Right => answer.header("Range", range(size)),
                RangeAnswer::Short => answer.header("Range", range(size.saturating_sub(1))),
                RangeAnswer::Sticks => answer.header("Range", range(first)),
                RangeAnswer::Absent => answer,
            };
            return self.locate(answer, incoming.request, quirks, repository, id);
        };
        let (actual, blob) = upload.finish();
        drop(upload);
        let mut state = lock(&self.state);
        state.uploads.remove(id);
        if actual != digest {
            return problem(
                400,
                "DIGEST_INVALID",
                "provided digest did not match uploaded content",
            );
        }
        let blobs = &mut state.make(repository).blobs;
        blobs.insert(actual, blob);
        completed(quirks, repository, digest)
    }

    /// Appends the body and returns what is wrong with it. What came in before
    /// it broke off stays.
    fn append(
        &self,
        incoming: &mut Incoming<'_, '_>,
        quirks: &Quirks,
        upload: &Mutex<Upload>,
    ) -> Option<Answer> {
        let too_large = || problem(413, "SIZE_INVALID", "the body is too large");
        let limit = quirks.body_max.unwrap_or(u64::MAX);
        if incoming.request.length().is_some_and(|n| n > limit) {
            return Some(too_large());
        }
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // The lock is not held while the client may keep us waiting.
            let read = match incoming.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => read,
                Err(_) => {
                    if quirks.forgets_broken_uploads {
                        lock(upload).state += 1;
                    }
                    return Some(Answer::none());
                }
            };
            if incoming.request.received() > limit {
                return Some(too_large());
            }
            lock(upload).append(&buffer[..read], self.blob_limit);
        }
    }

    /// Adds the `Location` of an upload.
    fn locate(
        &self,
        answer: Answer,
        request: &Request<'_>,
        quirks: &Quirks,
        repository: &str,
        id: &str,
    ) -> Answer {
        let mut last = id.to_owned();
        if quirks.location_state
            && let Some(upload) = lock(&self.state).uploads.get(id)
        {
            last += &format!("?_state={}", lock(upload).state);
        }
        let path = format!("/v2/{repository}/blobs/uploads/{last}");
        let urls = lock(&self.urls).clone();
        let host = request.headers.get("Host").unwrap_or_default();
        let scheme = urls.registry.split("://").next().unwrap_or_default();
        let location = match quirks.location {
            LocationForm::Absent => return answer,
            LocationForm::Path => path,
            LocationForm::Relative => last,
            LocationForm::Absolute => format!("{scheme}://{host}{path}"),
            LocationForm::WithoutScheme => format!("//{host}{path}"),
            LocationForm::Storage => format!("{}{path}", urls.storage),
            LocationForm::Localhost => {
                let url = urls.registry.replace("127.0.0.1", "localhost");
                format!("{url}{path}")
            }
        };
        answer.header("Location", location)
    }
}

impl Quirks {
    /// Adds `Docker-Content-Digest`.
    pub(super) fn name_digest(&self, answer: Answer, digest: &str) -> Answer {
        match self.content_digest {
            ContentDigest::Right => answer.header("Docker-Content-Digest", digest),
            ContentDigest::Absent => answer,
            ContentDigest::Wrong => {
                answer.header("Docker-Content-Digest", digest_of(b"something else"))
            }
        }
    }
}

fn completed(quirks: &Quirks, repository: &str, digest: &str) -> Answer {
    let answer = Answer::new(201).header("Location", format!("/v2/{repository}/blobs/{digest}"));
    quirks.name_digest(answer, digest)
}

fn unknown_upload() -> Answer {
    problem(
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "blob upload unknown to registry",
    )
}

/// The value of `Range` when so many bytes are there. For none there is no right
/// one; this is distribution's.
fn range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

/// Returns what is wrong with what the head says of the body.
fn chunk_refusal(
    request: &Request<'_>,
    quirks: &Quirks,
    upload: &Mutex<Upload>,
    is_last: bool,
) -> Option<Answer> {
    let chunk = request.headers.get("Content-Range");
    let size = lock(upload).size;
    let unsatisfiable = |message: &str| {
        Some(problem(416, "BLOB_UPLOAD_INVALID", message).header("Range", range(size)))
    };
    if request.method == "PATCH" {
        match (quirks.patch, chunk) {
            (PatchSupport::None, _) => {
                return Some(problem(405, "UNSUPPORTED", "the operation is unsupported"));
            }
            (PatchSupport::Chunks, None) | (PatchSupport::Streams, Some(_)) => {
                return Some(problem(400, "UNSUPPORTED", "uploads are not taken so"));
            }
            _ => {}
        }
    }
    let chunk = chunk?;
    let length = request.length();
    if let (Some(max), Some(length)) = (quirks.chunk_max, length)
        && length > max
    {
        return unsatisfiable("the chunk exceeds the maximum permissible limit");
    }
    if let (Some(min), Some(length), false) = (quirks.chunk_min, length, is_last)
        && length < min
    {
        return unsatisfiable("the chunk is smaller than OCI-Chunk-Min-Length");
    }
    if quirks.ignores_content_range {
        return None;
    }
    let bounds = chunk.split_once('-');
    let bounds = bounds.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
    let Some((from, to)) = bounds.filter(|(a, b)| a <= b) else {
        return Some(problem(
            400,
            "BLOB_UPLOAD_INVALID",
            "Content-Range is malformed",
        ));
    };
    if length.is_some_and(|length| to - from + 1 != length) {
        return Some(problem(
            400,
            "SIZE_INVALID",
            "Content-Range is not as long as the body",
        ));
    }
    if from != size {
        return unsatisfiable("the chunk does not follow the one before");
    }
    None
}

fn read_blob(request: &Request<'_>, blob: &Blob) -> Answer {
    let answer = Answer::new(200).header("Content-Type", "application/octet-stream");
    if request.method == "HEAD" {
        return answer.header("Content-Length", blob.size.to_string());
    }
    let Some(bytes) = &blob.bytes else {
        return problem(500, "UNKNOWN", "this fake keeps small blobs only");
    };
    let wanted = request.headers.get("Range");
    let wanted = wanted.and_then(|range| range.strip_prefix("bytes="));
    let Some((from, to)) = wanted.and_then(|range| range.split_once('-')) else {
        return answer.body(bytes);
    };
    let last = blob.size.saturating_sub(1);
    let from = from.parse().unwrap_or(0);
    let to = to.parse().unwrap_or(last).min(last);
    if from > to || from >= blob.size {
        return Answer::new(416).header("Content-Range", format!("bytes */{}", blob.size));
    }
    // What is kept fits into memory, so its bounds fit into `usize`.
    let part = bytes[from as usize..=to as usize].to_vec();
    let mut answer = answer.header("Content-Range", format!("bytes {from}-{to}/{}", blob.size));
    answer.status = 206;
    answer.body(part)
}
