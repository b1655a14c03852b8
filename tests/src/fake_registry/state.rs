//! What the registry has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) uploads: BTreeMap<String, Arc<Mutex<Upload>>>,
    /// How many uploads were begun: the next one's name.
    pub(super) begun: u64,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) blobs: BTreeMap<String, Blob>,
    pub(super) manifests: BTreeMap<String, Manifest>,
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) size: u64,
    /// None if it is too large to be kept.
    pub(super) bytes: Option<Arc<[u8]>>,
}

#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Arc<[u8]>,
}

/// A blob on its way in.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) size: u64,
    /// What the newest `Location` has.
    pub(super) state: u64,
    /// The size after the first request with a body.
    pub(super) first: Option<u64>,
    hasher: Sha256,
    kept: Option<Vec<u8>>,
}

impl State {
    /// Returns a repository, a new one if there is none of this name.
    pub(super) fn make(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }
}

impl Repository {
    /// Returns a manifest by tag or digest, with its digest.
    pub(super) fn manifest(&self, which: &str) -> Option<(&str, &Manifest)> {
        let digest = match self.tags.get(which) {
            Some(digest) => digest,
            None => which,
        };
        let (digest, manifest) = self.manifests.get_key_value(digest)?;
        Some((digest, manifest))
    }
}

impl Upload {
    pub(super) fn new(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            size: 0,
            state: 0,
            first: None,
            hasher: Sha256::new(),
            kept: Some(Vec::new()),
        }
    }

    /// Takes bytes, and keeps them while there are no more than `limit`.
    pub(super) fn append(&mut self, bytes: &[u8], limit: u64) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if self.size > limit {
            self.kept = None;
        } else if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }

    /// Returns digest and blob of what came in.
    pub(super) fn finish(&mut self) -> (String, Blob) {
        let digest = named(&self.hasher.finalize_reset());
        let blob = Blob {
            size: self.size,
            bytes: self.kept.take().map(Into::into),
        };
        (digest, blob)
    }
}

/// Returns the digest as registries write it.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

fn named(digest: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(digest))
}

/// Whether this is a digest of the only kind that is taken here.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}
