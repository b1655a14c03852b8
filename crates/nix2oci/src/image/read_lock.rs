//! Images that a lock pins, and where their layers lie.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::oci::annotation::{IMAGE_NAME, REF_NAME};
use crate::oci::{canonical_json, parse_platform, parse_reference};

use super::ImageReader;
use super::lock::{ImageLock, LockedBlob};
use super::read_layout::LayoutFiles;
use super::reader::{Files, Found, FoundFile};

/// Bytes that are hashed at once.
const BUFFER: usize = 128 << 10;

/// Files on this machine that hold layers.
///
/// A directory is an OCI image layout, or has the layers under their digests:
/// `HEX`, `sha256-HEX`, `sha256:HEX` or `sha256/HEX`. A file may have its digest
/// in its name, as `HASH-sha256-HEX` in a store; else it is looked at.
#[derive(Debug, Default)]
pub struct BlobFiles {
    dirs: Vec<PathBuf>,
    named: BTreeMap<Digest, PathBuf>,
    /// Files whose names say nothing, with their sizes.
    others: Vec<(PathBuf, u64)>,
    /// Digests of those that were looked at.
    hashed: Mutex<HashMap<PathBuf, Digest>>,
}

impl BlobFiles {
    /// Takes note of files and directories. Reads none of them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReadInput`](crate::ErrorKind::ReadInput) if one is not
    /// there.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        let mut files = Self::default();
        for path in paths {
            let metadata = std::fs::metadata(path).map_err(Error::reading(path))?;
            if metadata.is_dir() {
                files.dirs.push(path.clone());
            } else if let Some(digest) = digest_in_name(path) {
                files.named.insert(digest, path.clone());
            } else {
                files.others.push((path.clone(), metadata.len()));
            }
        }
        Ok(files)
    }

    /// Opens the file of a layer, if there is one. Whether it holds what it
    /// should is for its reader to see.
    fn find(&self, digest: Digest, size: u64) -> Result<Option<FoundFile>> {
        if let Some(path) = self.named.get(&digest) {
            return open(path).map(Some);
        }
        let hex = digest.hex();
        for dir in &self.dirs {
            let files = LayoutFiles::new(dir);
            for name in [
                format!("blobs/sha256/{hex}"),
                hex.clone(),
                format!("sha256-{hex}"),
                format!("sha256:{hex}"),
                format!("sha256/{hex}"),
            ] {
                if let Some(found) = files.open(&name)? {
                    return Ok(Some(found));
                }
            }
        }
        for (path, found) in &self.others {
            if *found == size && self.digest_of(path)? == digest {
                return open(path).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads a file, once.
    fn digest_of(&self, path: &Path) -> Result<Digest> {
        let known = |hashed: &Mutex<HashMap<PathBuf, Digest>>| {
            let hashed = hashed.lock().unwrap_or_else(PoisonError::into_inner);
            hashed.get(path).copied()
        };
        if let Some(digest) = known(&self.hashed) {
            return Ok(digest);
        }
        let mut file = open(path)?.reader;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = file.read(&mut buffer).map_err(Error::reading(path))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        let digest = hasher.finish();
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        hashed.insert(path.to_owned(), digest);
        Ok(digest)
    }
}

fn open(path: &Path) -> Result<FoundFile> {
    let file = File::open(path).map_err(Error::reading(path))?;
    let size = file.metadata().map_err(Error::reading(path))?.len();
    Ok(FoundFile {
        size,
        reader: Box::new(file),
    })
}

/// Returns the digest in a file's name: its only run of 64 hexadecimal digits.
fn digest_in_name(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    let mut runs = name
        .split(|c: char| !matches!(c, '0'..='9' | 'a'..='f'))
        .filter(|run| run.len() == 64);
    let (first, second) = (runs.next()?, runs.next());
    match second {
        None => format!("sha256:{first}").parse().ok(),
        Some(_) => None,
    }
}

/// Where layers are found that are not on this machine.
pub(crate) trait RemoteBlobs: Send + Sync {
    /// Opens a layer.
    fn open(&self, blob: &LockedBlob) -> Result<FoundFile>;
}

/// Returns the digest that the name of a blob in a layout says.
fn digest_of_blob(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/")?;
    format!("sha256:{hex}").parse().ok()
}

/// What a lock pins.
struct LockFiles {
    name: String,
    documents: BTreeMap<Digest, Vec<u8>>,
    blobs: BTreeMap<Digest, LockedBlob>,
    files: BlobFiles,
    remote: Option<Box<dyn RemoteBlobs>>,
    /// The registry's host and the repository, if all is of one.
    repository: Option<(String, String)>,
}

impl Files for LockFiles {
    fn find(&self, name: &str) -> Result<Found> {
        let Some(digest) = digest_of_blob(name) else {
            return Ok(Found::Nothing);
        };
        if let Some(bytes) = self.documents.get(&digest) {
            return Ok(Found::File(FoundFile {
                size: bytes.len() as u64,
                reader: Box::new(Cursor::new(bytes.clone())),
            }));
        }
        let Some(blob) = self.blobs.get(&digest) else {
            return Ok(Found::Nothing);
        };
        if let Some(found) = self.files.find(digest, blob.size)? {
            return Ok(Found::File(found));
        }
        match &self.remote {
            Some(remote) if !blob.from.is_empty() => remote.open(blob).map(Found::File),
            _ => Ok(Found::Unusable(Error::image(
                format!("{}: blob {digest}", self.name),
                "is in none of the files and directories that were given for it",
            ))),
        }
    }

    fn is_local(&self, name: &str) -> Result<bool> {
        let digest = digest_of_blob(name);
        let found = digest.and_then(|digest| self.blobs.get_key_value(&digest));
        match found {
            Some((digest, blob)) if self.remote.is_some() => {
                Ok(self.files.find(*digest, blob.size)?.is_some())
            }
            _ => Ok(true),
        }
    }

    fn duplicates(&self) -> Vec<String> {
        Vec::new()
    }

    fn repository(&self) -> Option<(&str, &str)> {
        self.remote.as_ref()?;
        let (host, repository) = self.repository.as_ref()?;
        Some((host, repository))
    }
}

impl ImageReader {
    /// Opens what a lock pins; `name` is how errors name it, and `tag` says
    /// which image, if there are several: its name or its tag.
    ///
    /// Layers are read from `files`; nothing else is asked for them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`](crate::ErrorKind::Document) if the lock is not
    /// well-formed. A layer that is not there is an error when it is read.
    pub fn open_lock(
        lock: &ImageLock,
        name: &str,
        tag: Option<&str>,
        files: BlobFiles,
    ) -> Result<Self> {
        Self::open_lock_with(lock, name, tag, files, None)
    }

    /// The same, with somebody to ask for the layers that are not among `files`.
    pub(crate) fn open_lock_with(
        lock: &ImageLock,
        name: &str,
        tag: Option<&str>,
        files: BlobFiles,
        remote: Option<Box<dyn RemoteBlobs>>,
    ) -> Result<Self> {
        let digest = |text: &str| {
            let digest = text.parse::<Digest>();
            digest.map_err(|e| Error::image(name, e.to_string()))
        };
        let mut documents = BTreeMap::new();
        for document in &lock.documents {
            let bytes = document.text.clone().into_bytes();
            documents.insert(digest(&document.digest)?, bytes);
        }
        let mut blobs = BTreeMap::new();
        for blob in &lock.blobs {
            blobs.insert(digest(&blob.digest)?, blob.clone());
        }
        let mut entries = Vec::new();
        for image in &lock.images {
            entries.push(entry(image, &documents));
        }
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        let mut places = lock.blobs.iter().flat_map(|blob| &blob.from);
        let first = places.next();
        let repository = first
            .filter(|first| places.all(|place| place == *first))
            .and_then(|place| place.split_once('/'))
            .map(|(host, repository)| (host.to_owned(), repository.to_owned()));
        let files = LockFiles {
            name: name.to_owned(),
            documents,
            blobs,
            files,
            remote,
            repository,
        };
        let tag = tag.map(str::to_owned);
        Self::from_index(
            name.to_owned(),
            tag,
            canonical_json(&index),
            Box::new(files),
        )
    }
}

/// Returns the entry of an image in the index that a reader has of a lock.
fn entry(image: &super::LockedImage, documents: &BTreeMap<Digest, Vec<u8>>) -> Value {
    let digest = image.digest.parse::<Digest>().ok();
    let bytes = digest.and_then(|digest| documents.get(&digest));
    let mut annotations = serde_json::Map::new();
    if let Ok(reference) = parse_reference(&image.name)
        && let Some(tag) = reference.tag()
    {
        let whole = match reference.digest() {
            Some(_) => {
                format!("{}/{}:{tag}", reference.registry(), reference.repository())
            }
            None => reference.whole(),
        };
        annotations.insert(IMAGE_NAME.to_owned(), whole.into());
        annotations.insert(REF_NAME.to_owned(), tag.into());
    }
    let mut entry = json!({
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": bytes.map_or(0, Vec::len),
    });
    if !annotations.is_empty() {
        entry["annotations"] = annotations.into();
    }
    let platform = image.platform.as_deref().map(parse_platform);
    if let Some(Ok(platform)) = platform {
        entry["platform"] = json!(platform);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::image::BaseImage;

    #[test]
    fn files_are_found_by_name_and_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let digest = |text: &str| Digest::of(text.as_bytes());
        let hex = |text: &str| digest(text).hex();
        let named = write(&format!("0c-sha256-{}.tar", hex("named")), "named");
        let other = write("layer", "other");
        let same_size = write("another", "OTHER");
        write(&format!("dir/sha256-{}", hex("in dir")), "in dir");
        write(
            &format!("layout/blobs/sha256/{}", hex("in layout")),
            "in layout",
        );
        let paths = [
            named,
            same_size,
            other,
            dir.path().join("dir"),
            dir.path().join("layout"),
        ];
        let files = BlobFiles::new(&paths).unwrap();
        for text in ["named", "other", "in dir", "in layout"] {
            let found = files.find(digest(text), text.len() as u64).unwrap();
            let mut read = String::new();
            std::io::Read::read_to_string(&mut found.unwrap().reader, &mut read).unwrap();
            assert_eq!(read, text);
        }
        assert!(files.find(digest("gone"), 5).unwrap().is_none());
        assert!(BlobFiles::new(&[dir.path().join("gone")]).is_err());
    }

    /// A registry that nobody asks.
    struct Silent;

    impl RemoteBlobs for Silent {
        fn open(&self, blob: &LockedBlob) -> Result<FoundFile> {
            Err(Error::image(&blob.digest, "nobody asks for it"))
        }
    }

    #[test]
    fn a_base_is_not_called_after_the_file_of_its_lock() {
        let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
        let layer = digest("layer");
        let config = json!({
            "os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [layer]},
        })
        .to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config), "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer, "size": 5,
            }],
        })
        .to_string();
        let lock = json!({
            "version": 1,
            "images": [{
                "name": "h.io/base:1", "resolved": digest(&manifest),
                "digest": digest(&manifest),
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
            }],
            "documents": [
                {"digest": digest(&config), "text": config},
                {"digest": digest(&manifest), "text": manifest},
            ],
            "blobs": [{
                "digest": layer, "size": 5, "from": ["h.io/base"],
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
            }],
        });
        let lock = ImageLock::parse(lock.to_string().as_bytes(), "lock.json").unwrap();
        let remotes = [None, Some(Box::new(Silent) as Box<dyn RemoteBlobs>)];
        for remote in remotes {
            let (name, files) = ("lock:/home/me/lock.json", BlobFiles::default());
            let reader = ImageReader::open_lock_with(&lock, name, None, files, remote).unwrap();
            let cx = Context::default();
            let base = BaseImage::open(&cx, std::sync::Arc::new(reader), None).unwrap();
            assert_eq!(base.reference(), Some("h.io/base:1"));
        }
    }
}
