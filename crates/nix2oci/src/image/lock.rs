//! Images of registries, pinned: a small file from which they are read as they
//! were.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, Location, Result};
use crate::oci::canonical_json;

/// The version of the lock format that is written.
pub const LOCK_VERSION: u64 = 1;

/// Images of registries, pinned.
///
/// A JSON document that has the manifests, indexes and configs, to the byte, and
/// of each layer its digest and where it is. With the layers at hand, images are
/// read from it without a network. A reader must refuse a `version` that it does
/// not know and ignore fields that it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageLock {
    /// [`LOCK_VERSION`].
    pub version: u64,
    /// The images, in the order in which they were asked for.
    pub images: Vec<LockedImage>,
    /// Their manifests, indexes and configs, in the order of their digests.
    pub documents: Vec<LockedDocument>,
    /// Their layers, in the order of their digests.
    pub blobs: Vec<LockedBlob>,
}

/// A pinned image, or an index with those of several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LockedImage {
    /// The name that it was asked for by: `docker.io/library/debian:12`.
    pub name: String,
    /// The platform that was asked for; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The digest of what the name stood for. It is that of an index if a
    /// platform was chosen of several.
    pub resolved: String,
    /// The digest of the image.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
}

/// A manifest, an index or a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LockedDocument {
    /// Its digest.
    pub digest: String,
    /// These bytes exactly.
    pub text: String,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LockedBlob {
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// The repositories that have it: `docker.io/library/debian`.
    pub from: Vec<String>,
}

impl ImageLock {
    /// Returns the document: keys and lists in a fixed order, indented, so that
    /// a change of it can be reviewed; the same for the same lock.
    pub fn to_json(&self) -> Vec<u8> {
        let sorted: Value =
            serde_json::from_slice(&canonical_json(self)).expect("canonical JSON is JSON");
        let mut json = serde_json::to_vec_pretty(&sorted).expect("a JSON value can be written");
        json.push(b'\n');
        json
    }

    /// Reads a document; `name` names it in errors. Checks the version, that
    /// each document has its digest, and that digests are well-formed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`](crate::ErrorKind::Document).
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::json_syntax(name, &e))?;
        let refuse =
            |key: String, problem: String| Error::document(name, Location::Key(key), problem);
        match value.get("version").and_then(Value::as_u64) {
            Some(LOCK_VERSION) => {}
            Some(version) => {
                let problem = format!("{version} is not a version that is known: expected 1");
                return Err(refuse("version".to_owned(), problem));
            }
            None => {
                let problem = "it is missing: this is not a lock".to_owned();
                return Err(refuse("version".to_owned(), problem));
            }
        }
        let lock: Self = serde_json::from_value(value).map_err(|e| {
            Error::document(name, Location::Whole, format!("this is not a lock: {e}"))
        })?;
        for (at, document) in lock.documents.iter().enumerate() {
            let found = Digest::of(document.text.as_bytes()).to_string();
            if found != document.digest {
                let problem = format!("it has digest {found}, expected {}", document.digest);
                return Err(refuse(format!("documents[{at}].text"), problem));
            }
        }
        for (at, blob) in lock.blobs.iter().enumerate() {
            let digest = blob.digest.parse::<Digest>();
            digest.map_err(|e| refuse(format!("blobs[{at}].digest"), e.to_string()))?;
        }
        let documents: BTreeSet<&str> = lock.documents.iter().map(|d| &*d.digest).collect();
        for (at, image) in lock.images.iter().enumerate() {
            if !documents.contains(&*image.digest) {
                let problem = format!("{} is not among the documents", image.digest);
                return Err(refuse(format!("images[{at}].digest"), problem));
            }
        }
        Ok(lock)
    }

    /// Returns a layer.
    pub fn blob(&self, digest: Digest) -> Option<&LockedBlob> {
        let digest = digest.to_string();
        self.blobs.iter().find(|blob| blob.digest == digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> ImageLock {
        let text = "{}".to_owned();
        let digest = Digest::of(text.as_bytes()).to_string();
        ImageLock {
            version: LOCK_VERSION,
            images: vec![LockedImage {
                name: "h.io/app:1".into(),
                platform: None,
                resolved: digest.clone(),
                digest: digest.clone(),
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            }],
            documents: vec![LockedDocument { digest, text }],
            blobs: Vec::new(),
        }
    }

    #[test]
    fn a_lock_is_read_back() {
        let json = lock().to_json();
        assert_eq!(ImageLock::parse(&json, "lock.json").unwrap(), lock());
        let text = String::from_utf8(json).unwrap();
        assert!(text.starts_with("{\n  \"blobs\": [],\n"), "{text}");
        assert!(text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let mut changed = lock();
        changed.documents[0].text.push(' ');
        let mut lacking = lock();
        lacking.documents.clear();
        let mut newer = lock();
        newer.version = 2;
        for (json, problem) in [
            (changed.to_json(), "key documents[0].text: it has digest"),
            (lacking.to_json(), "key images[0].digest"),
            (newer.to_json(), "key version: 2 is not a version"),
            (b"{}".to_vec(), "not a lock"),
            (b"[".to_vec(), "lock.json"),
        ] {
            let error = ImageLock::parse(&json, "lock.json")
                .unwrap_err()
                .to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
