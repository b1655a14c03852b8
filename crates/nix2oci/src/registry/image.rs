//! Images of a registry, read as if they were in a layout.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Files, Found, FoundFile, ImageReader};
use crate::net::BodyStream;
use crate::oci::annotation::REF_NAME;
use crate::oci::{Descriptor, Reference, canonical_json, descriptor_digest};

use super::{Registries, Repository};

/// Pieces of a blob that wait for their reader.
const PIECES: usize = 4;

impl Registries {
    /// Opens an image of a registry. Reads its manifest, or its index, and
    /// whatever is asked for later.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if there is none of this
    /// name; those of the registry.
    pub fn open(self: &Arc<Self>, reference: &Reference) -> Result<ImageReader> {
        self.find(reference)?.ok_or_else(|| {
            let name = format!("docker://{}", reference.whole());
            Error::image(name, "is not there")
        })
    }

    /// Opens an image of a registry, if there is one of this name.
    ///
    /// # Errors
    ///
    /// Those of the registry.
    pub fn find(self: &Arc<Self>, reference: &Reference) -> Result<Option<ImageReader>> {
        let name = format!("docker://{}", reference.whole());
        let files = RegistryFiles {
            registries: Arc::clone(self),
            repository: self.source(reference)?,
            documents: Mutex::default(),
            sizes: Mutex::default(),
        };
        match files.index(reference)? {
            Some(index) => ImageReader::from_index(name, None, index, Box::new(files)).map(Some),
            None => Ok(None),
        }
    }
}

/// The documents and blobs of one image.
struct RegistryFiles {
    registries: Arc<Registries>,
    repository: Repository,
    /// Manifests and indexes that were read, and those that an index names,
    /// which a registry does not give out as blobs.
    documents: Mutex<BTreeMap<Digest, Option<Bytes>>>,
    /// The blobs that manifests name.
    sizes: Mutex<BTreeMap<Digest, Descriptor>>,
}

impl RegistryFiles {
    /// Returns an index with the one entry that the reference names.
    fn index(&self, reference: &Reference) -> Result<Option<Vec<u8>>> {
        let which = reference.digest().or(reference.tag()).unwrap_or("latest");
        let Some((descriptor, bytes)) = self.fetch(which)? else {
            return Ok(None);
        };
        let mut entry = serde_json::to_value(&descriptor).expect("a descriptor has text keys only");
        if let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) {
            entry["annotations"] = json!({ REF_NAME: tag });
        }
        if let Some(digest) = descriptor_digest(&descriptor) {
            self.learn(digest, bytes);
        }
        Ok(Some(canonical_json(
            &json!({ "schemaVersion": 2, "manifests": [entry] }),
        )))
    }

    fn fetch(&self, which: &str) -> Result<Option<(Descriptor, Bytes)>> {
        let (repository, which) = (self.repository.clone(), which.to_owned());
        let found = self
            .registries
            .block_on(self.registries.context(), async move {
                repository.manifest(&which).await
            })?;
        Ok(found.map(|found| (found.descriptor, found.bytes.into())))
    }

    /// Keeps a document and takes note of what it names.
    fn learn(&self, digest: Digest, bytes: Bytes) {
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let named = |list: &str| -> Vec<Descriptor> {
            let list = value.get(list).cloned().unwrap_or_default();
            serde_json::from_value(list).unwrap_or_default()
        };
        let config = value.get("config").cloned().unwrap_or_default();
        let mut sizes = lock(&self.sizes);
        for blob in named("layers")
            .into_iter()
            .chain(serde_json::from_value(config).ok())
        {
            if let Some(digest) = descriptor_digest(&blob) {
                sizes.insert(digest, blob);
            }
        }
        let mut documents = lock(&self.documents);
        for child in named("manifests") {
            if let Some(digest) = descriptor_digest(&child) {
                documents.entry(digest).or_default();
            }
        }
        documents.insert(digest, Some(bytes));
    }

    fn document(&self, digest: Digest) -> Result<Found> {
        let known = lock(&self.documents).get(&digest).cloned().flatten();
        let bytes = match known {
            Some(bytes) => bytes,
            None => match self.fetch(&digest.to_string())? {
                Some((_, bytes)) => {
                    self.learn(digest, bytes.clone());
                    bytes
                }
                None => return Ok(Found::Nothing),
            },
        };
        Ok(Found::File(FoundFile {
            size: bytes.len() as u64,
            reader: Box::new(Cursor::new(bytes)),
        }))
    }
}

impl Files for RegistryFiles {
    fn find(&self, name: &str) -> Result<Found> {
        let digest = name
            .strip_prefix("blobs/sha256/")
            .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let Some(digest) = digest else {
            return Ok(Found::Nothing);
        };
        if lock(&self.documents).contains_key(&digest) {
            return self.document(digest);
        }
        let Some(blob) = lock(&self.sizes).get(&digest).cloned() else {
            return Ok(Found::Nothing);
        };
        Ok(Found::File(FoundFile {
            size: blob.size(),
            reader: remote_blob(&self.registries, self.repository.clone(), blob),
        }))
    }

    fn is_local(&self, name: &str) -> Result<bool> {
        let _ = name;
        Ok(false)
    }

    fn duplicates(&self) -> Vec<String> {
        Vec::new()
    }

    fn repository(&self) -> Option<(&str, &str)> {
        Some((self.repository.host(), self.repository.name()))
    }
}

/// Returns a reader of a blob of a registry. Nothing is asked for before the first
/// read.
pub(super) fn remote_blob(
    registries: &Arc<Registries>,
    repository: Repository,
    blob: Descriptor,
) -> Box<dyn Read + Send> {
    Box::new(RemoteBlob {
        registries: Arc::clone(registries),
        repository,
        blob,
        pieces: None,
        piece: Bytes::new(),
    })
}

/// Reads a blob of a registry. Nothing is asked for before the first read.
struct RemoteBlob {
    registries: Arc<Registries>,
    repository: Repository,
    blob: Descriptor,
    pieces: Option<mpsc::Receiver<Result<Bytes>>>,
    piece: Bytes,
}

impl RemoteBlob {
    /// Asks for the blob; its pieces come through a channel.
    fn open(&self) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let (repository, blob) = (self.repository.clone(), self.blob.clone());
        let stream = self
            .registries
            .block_on(self.registries.context(), async move {
                repository.open_blob(&blob).await
            })?;
        let (sender, receiver) = mpsc::channel(PIECES);
        self.registries.runtime().spawn(pump(stream, sender));
        Ok(receiver)
    }
}

/// Moves pieces until the end, or until nobody wants them any more.
async fn pump(mut stream: BodyStream, to: mpsc::Sender<Result<Bytes>>) {
    while let Some(piece) = next(&mut stream).await {
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

async fn next(stream: &mut BodyStream) -> Option<Result<Bytes>> {
    std::future::poll_fn(|task| Pin::as_mut(stream).poll_next(task)).await
}

impl Read for RemoteBlob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.pieces.is_none() {
            self.pieces = Some(self.open().map_err(io::Error::other)?);
        }
        let pieces = self
            .pieces
            .as_mut()
            .expect("the pieces were asked for above");
        while self.piece.is_empty() {
            match pieces.blocking_recv() {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let n = buf.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
