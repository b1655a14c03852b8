//! Reading images back.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use crate::context::Context;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::input::{InputKind, read_file};
use crate::layer::{Blob, BytesBlob};
use crate::oci::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Platform, descriptor_digest,
};

use super::docker_archive::{self, MANIFEST_JSON};
use super::document::{parse, parse_json, read_all, read_document};
use super::read_archive::ArchiveFiles;
use super::read_layout::LayoutFiles;
use super::select::{self, Candidates, Content};
use super::walk::{Limit, Parent, Visitor, Walk};
use super::{
    BlobFiles, ImageForm, ImageLock, ImageSource, RawManifest, VerifyingReader, recognise,
};

/// Bytes that an index or a manifest may have; registries have the same limit.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;

/// Bytes that a config may have.
pub(super) const MAX_CONFIG: u64 = 8 << 20;

/// Opens an image layout or an archive and gives out what is in it.
///
/// Nothing is believed: documents have a size limit, and every blob is checked
/// against its descriptor while it is read. An archive's headers are read once
/// when it is opened; after that every blob is read from its own place, from
/// several threads if need be.
///
/// An archive that `docker save` wrote, with no OCI index, is presented as if
/// it had one: its manifests are made from `manifest.json`, and their digests
/// are of this library's making.
pub struct ImageReader {
    name: String,
    tag: Option<String>,
    files: Box<dyn Files>,
    raw_index: Vec<u8>,
    index: ImageIndex,
    /// For an archive without an OCI index: what its blobs are.
    docker_blobs: Option<BTreeMap<Digest, DockerBlob>>,
}

/// Files by name: a directory or an archive.
pub(crate) trait Files: Send + Sync {
    /// Opens what is behind a name.
    fn find(&self, name: &str) -> Result<Found>;

    /// Opens a file, if there is one of this name. What is there and is no
    /// file is an error.
    fn open(&self, name: &str) -> Result<Option<FoundFile>> {
        self.find(name)?.file()
    }

    /// Returns names that more than one file has, in order.
    fn duplicates(&self) -> Vec<String>;

    /// Returns whether a file that is there is read from this machine.
    fn is_local(&self, name: &str) -> Result<bool> {
        let _ = name;
        Ok(true)
    }

    /// Returns the registry's host and the repository that all of it is in, if
    /// it is in one.
    fn repository(&self) -> Option<(&str, &str)> {
        None
    }
}

/// What is behind a name.
pub(crate) enum Found {
    File(FoundFile),
    Nothing,
    /// Something that cannot be read as a file, and why.
    Unusable(Error),
}

impl Found {
    pub(super) fn file(self) -> Result<Option<FoundFile>> {
        match self {
            Self::File(file) => Ok(Some(file)),
            Self::Nothing => Ok(None),
            Self::Unusable(error) => Err(error),
        }
    }
}

/// A file that was opened. Errors of its reader carry an [`Error`].
pub(crate) struct FoundFile {
    pub(crate) size: u64,
    pub(crate) reader: Box<dyn Read + Send>,
}

/// A blob of an archive that has no OCI index.
pub(super) enum DockerBlob {
    Bytes(Vec<u8>),
    Member(String),
}

/// A manifest that an index names, directly or through another index.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredManifest {
    /// The names of the image: the annotations
    /// `org.opencontainers.image.ref.name` and `io.containerd.image.name` of
    /// its entry in the outermost index.
    pub names: Vec<String>,
    /// Its descriptor, as the index has it.
    pub descriptor: Descriptor,
    /// Which entry of the outermost index it came from, counted from 0.
    pub entry: usize,
}

/// One image: manifest and config, and what its layers are.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// Its names, perhaps none.
    pub names: Vec<String>,
    /// The manifest's exact bytes.
    pub raw_manifest: RawManifest,
    /// What they say.
    pub manifest: ImageManifest,
    /// The config's exact bytes.
    pub raw_config: BytesBlob,
    /// What they say, as far as the specification knows it.
    pub config: ImageConfiguration,
    /// The layers, bottom first.
    pub layers: Vec<StoredLayer>,
}

/// A layer of a stored image.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLayer {
    /// The blob's descriptor, as the manifest has it.
    pub descriptor: Descriptor,
    /// The diff ID, as the config has it.
    pub diff_id: DiffId,
}

/// A blob of a layout or an archive.
#[derive(Debug)]
pub struct StoredBlob<'a> {
    reader: &'a ImageReader,
    descriptor: Descriptor,
}

impl ImageReader {
    /// Opens a layout or an archive.
    ///
    /// Of an archive all headers are read; a compressed one is decompressed
    /// into `cx.spool_dir`, and of one that `docker save` wrote, compressed
    /// layers are read as well, to know their digests.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReadInput`] if it cannot be read, [`ErrorKind::Image`] or
    /// [`ErrorKind::Document`] if it is no image.
    pub fn open(cx: &Context, source: &ImageSource) -> Result<Self> {
        let (files, tag): (Box<dyn Files>, _) = match source {
            ImageSource::Layout { dir, tag } => (open_layout(dir)?, tag.clone()),
            ImageSource::Archive { file, tag } => {
                (Box::new(ArchiveFiles::open(cx, file)?), tag.clone())
            }
            ImageSource::Lock { file, tag } => {
                return open_lock(file, &source.to_string(), tag.as_deref());
            }
            ImageSource::Path(path) => match recognise(path)? {
                ImageForm::Lock => return open_lock(path, &source.to_string(), None),
                ImageForm::Layout => (open_layout(path)?, None),
                ImageForm::Archive(_) => (Box::new(ArchiveFiles::open(cx, path)?), None),
                ImageForm::Recipe => {
                    return Err(Error::image(
                        source.to_string(),
                        "is JSON, and a recipe has no layers in it: expected a layout, an archive or a lock",
                    ));
                }
            },
        };
        Self::from_files(cx, source.to_string(), tag, files)
    }

    fn from_files(
        cx: &Context,
        name: String,
        tag: Option<String>,
        files: Box<dyn Files>,
    ) -> Result<Self> {
        if let Some(raw_index) = read_document(&name, &*files, "index.json", MAX_MANIFEST)? {
            let index = parse(&format!("{name}: index.json"), &raw_index)?;
            return Ok(Self {
                name,
                tag,
                files,
                raw_index,
                index,
                docker_blobs: None,
            });
        }
        let Some(manifest) = read_document(&name, &*files, MANIFEST_JSON, MAX_MANIFEST)? else {
            return Err(Error::image(
                name,
                "has neither index.json nor manifest.json, so it is no image",
            ));
        };
        let images = docker_archive::parse(&format!("{name}: {MANIFEST_JSON}"), &manifest)?;
        let layout = docker_archive::present(cx, &name, &*files, &images)?;
        let index = parse(&name, &layout.index)?;
        Ok(Self {
            name,
            tag,
            files,
            raw_index: layout.index,
            index,
            docker_blobs: Some(layout.blobs),
        })
    }

    /// Opens what has an index and whose blobs are found among `files`.
    pub(crate) fn from_index(
        name: String,
        tag: Option<String>,
        raw_index: Vec<u8>,
        files: Box<dyn Files>,
    ) -> Result<Self> {
        Ok(Self {
            index: parse(&name, &raw_index)?,
            name,
            tag,
            files,
            raw_index,
            docker_blobs: None,
        })
    }

    /// Returns the registry's host and the repository that the image is in, if
    /// it is in one.
    pub fn registry_repository(&self) -> Option<(&str, &str)> {
        self.files.repository()
    }

    /// Returns how the user named what was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the outermost index.
    pub fn index(&self) -> &ImageIndex {
        &self.index
    }

    /// Returns the bytes of the outermost index. For an archive without one
    /// they are of this library's making.
    pub fn index_bytes(&self) -> &[u8] {
        &self.raw_index
    }

    /// Returns whether there is an OCI index, which is not so in an archive
    /// that an old `docker save` wrote.
    pub fn has_oci_index(&self) -> bool {
        self.docker_blobs.is_none()
    }

    /// Returns every manifest, in the order of the index, nested ones in their
    /// place. The tag that the image was opened with makes no difference.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`] if an index is not there or there is no end of
    /// them: 4096 entries of indexes, 64 MiB of indexes and 4 indexes in each
    /// other are the most. An integrity error if one is not what its
    /// descriptor says.
    pub fn manifests(&self, cx: &Context) -> Result<Vec<StoredManifest>> {
        let mut walk = Walk::new(cx);
        let mut collect = Collect {
            image: self,
            entry: 0,
            names: Vec::new(),
            found: Vec::new(),
        };
        for (entry, descriptor) in self.index.manifests().iter().enumerate() {
            collect.entry = entry;
            collect.names = select::names(descriptor);
            walk.entry(descriptor, &mut collect)?;
        }
        Ok(collect.found)
    }

    /// Returns the one image that the tag and `platform` choose.
    ///
    /// A tag is compared with the whole name of each image, and if none is
    /// equal, with the tag in it. Without a tag there must be one image only;
    /// without a platform it must be for one platform only. What is stored
    /// beside images, such as attestations and signatures, does not count, nor
    /// does what a nested index names and the archive does not hold.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`] if none or more than one is left; it lists the tags
    /// or the platforms there are.
    pub fn image(&self, cx: &Context, platform: Option<&Platform>) -> Result<StoredImage> {
        self.load(&self.chosen(cx, platform)?)
    }

    /// Returns the manifest that the tag and `platform` choose.
    pub(super) fn chosen(
        &self,
        cx: &Context,
        platform: Option<&Platform>,
    ) -> Result<StoredManifest> {
        let tag = self.tag.as_deref();
        select::choose(cx, &self.name, self.manifests(cx)?, tag, platform, self)
    }

    /// Reads the manifest and the config of one of [`ImageReader::manifests`].
    ///
    /// # Errors
    ///
    /// An integrity error if their bytes do not match their descriptors;
    /// [`ErrorKind::Image`] if it is no image but another artifact, or if its
    /// config does not name as many layers as its manifest.
    pub fn load(&self, stored: &StoredManifest) -> Result<StoredImage> {
        let bytes = self.read_blob(&stored.descriptor, "manifest", MAX_MANIFEST)?;
        let place = self.place("manifest", &stored.descriptor);
        let manifest: ImageManifest = parse(&place, &bytes)?;
        if !select::is_config(manifest.config().media_type()) {
            let problem = format!(
                "is no image: its config has media type {}",
                manifest.config().media_type()
            );
            return Err(Error::image(place, problem));
        }
        let config_bytes = self.read_blob(manifest.config(), "config", MAX_CONFIG)?;
        let config_place = self.place("config", manifest.config());
        let config: ImageConfiguration = parse(&config_place, &config_bytes)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let problem = format!(
                "has {} diff IDs for {} layers",
                diff_ids.len(),
                manifest.layers().len()
            );
            return Err(Error::image(config_place, problem));
        }
        let layers = manifest
            .layers()
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| {
                Ok(StoredLayer {
                    descriptor: descriptor.clone(),
                    diff_id: diff_id
                        .parse()
                        .map_err(|error| Error::image(&config_place, format!("diff ID {error}")))?,
                })
            })
            .collect::<Result<_>>()?;
        let media_type = stored.descriptor.media_type().clone();
        Ok(StoredImage {
            names: stored.names.clone(),
            raw_manifest: RawManifest {
                blob: BytesBlob::new(media_type, bytes),
            },
            raw_config: BytesBlob::new(manifest.config().media_type().clone(), config_bytes),
            manifest,
            config,
            layers,
        })
    }

    /// Returns a reader of a blob, which fails unless the bytes are those of
    /// the descriptor: see [`VerifyingReader`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`] if the blob is not there; [`ErrorKind::SizeMismatch`]
    /// at once if it does not have the descriptor's size.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let what = self.place("blob", descriptor);
        let digest = descriptor_digest(descriptor)
            .ok_or_else(|| Error::image(&what, "does not have a SHA-256 digest"))?;
        let found = self
            .find_blob(digest)?
            .file()?
            .ok_or_else(|| self.missing(&what, digest))?;
        if found.size != descriptor.size() {
            return Err(ErrorKind::SizeMismatch {
                what,
                expected: descriptor.size(),
                found: found.size,
            }
            .into());
        }
        Ok(Box::new(VerifyingReader::new(
            found.reader,
            what,
            digest,
            found.size,
        )))
    }

    /// Returns a blob that can be opened more than once.
    pub fn blob(&self, descriptor: Descriptor) -> StoredBlob<'_> {
        StoredBlob {
            reader: self,
            descriptor,
        }
    }

    /// Returns whether a blob is on this machine, if it is anywhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReadInput`] if a file that may hold it cannot be read.
    pub(crate) fn is_local(&self, descriptor: &Descriptor) -> Result<bool> {
        match descriptor_digest(descriptor) {
            Some(digest) if self.docker_blobs.is_none() => self
                .files
                .is_local(&format!("blobs/sha256/{}", digest.hex())),
            _ => Ok(true),
        }
    }

    /// Opens a blob without looking at what it says.
    pub(super) fn find_blob(&self, digest: Digest) -> Result<Found> {
        let Some(blobs) = &self.docker_blobs else {
            return self.files.find(&format!("blobs/sha256/{}", digest.hex()));
        };
        match blobs.get(&digest) {
            None => Ok(Found::Nothing),
            Some(DockerBlob::Member(name)) => self.files.find(name),
            Some(DockerBlob::Bytes(bytes)) => Ok(Found::File(FoundFile {
                size: bytes.len() as u64,
                reader: Box::new(io::Cursor::new(bytes.clone())),
            })),
        }
    }

    fn missing(&self, what: &str, digest: Digest) -> Error {
        let member = self.docker_blobs.as_ref().and_then(|b| b.get(&digest));
        match member {
            Some(DockerBlob::Member(file)) => Error::image(
                &self.name,
                format!("{MANIFEST_JSON} names {file:?}, which is not there"),
            ),
            _ => Error::image(what, "is not there"),
        }
    }

    /// Reads a config into memory, and verifies it.
    #[cfg(feature = "registry")]
    pub(crate) fn read_config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.read_blob(descriptor, "config", MAX_CONFIG)
    }

    pub(super) fn files(&self) -> &dyn Files {
        &*self.files
    }

    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Reads a blob of limited size into memory, and verifies it.
    pub(super) fn read_blob(
        &self,
        descriptor: &Descriptor,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>> {
        let place = self.place(what, descriptor);
        if descriptor.size() > limit {
            let problem = format!(
                "has {} bytes, {limit} are allowed for one",
                descriptor.size()
            );
            return Err(Error::image(place, problem));
        }
        read_all(&place, self.open_blob(descriptor)?, descriptor.size())
    }

    pub(super) fn place(&self, what: &str, descriptor: &Descriptor) -> String {
        format!("{}: {what} {}", self.name, descriptor.digest())
    }

    /// Makes the error of a walk that met its limit.
    pub(super) fn endless(&self, limit: Limit) -> Error {
        let problem = match limit {
            Limit::Depth(limit) => {
                format!("holds indexes that are over {limit} deep in each other")
            }
            Limit::Entries(limit) => format!("holds more than {limit} manifests and indexes"),
            Limit::Bytes(limit) => format!("holds indexes of more than {limit} bytes"),
        };
        Error::image(&self.name, problem)
    }
}

impl Candidates for ImageReader {
    fn is_present(&self, manifest: &StoredManifest) -> Result<bool> {
        // Of a digest that nobody here knows it cannot be said.
        let digest = descriptor_digest(&manifest.descriptor);
        digest.map_or(Ok(true), |digest| {
            Ok(!matches!(self.find_blob(digest)?, Found::Nothing))
        })
    }

    /// What cannot be read as a manifest may be an image; if it is chosen, its
    /// errors are heard of.
    fn is_image(&self, manifest: &StoredManifest) -> Result<bool> {
        let bytes = match self.read_blob(&manifest.descriptor, "manifest", MAX_MANIFEST) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::ReadInput { .. }) => return Err(error),
            Err(_) => return Ok(true),
        };
        let manifest = parse_json::<ImageManifest>(&bytes);
        Ok(manifest.map_or(true, |manifest| {
            select::content(&manifest) == Content::Image
        }))
    }

    /// What the index says, else what the config says.
    fn platform(&self, manifest: &StoredManifest) -> Result<Option<Platform>> {
        if let Some(platform) = manifest.descriptor.platform() {
            return Ok(Some(platform.clone()));
        }
        let image = self.load(manifest)?;
        Ok(Some(select::config_platform(&image.config)))
    }
}

/// Collects manifests.
struct Collect<'a> {
    image: &'a ImageReader,
    entry: usize,
    names: Vec<String>,
    found: Vec<StoredManifest>,
}

impl Visitor for Collect<'_> {
    fn manifest(&mut self, descriptor: &Descriptor, _: Option<Parent<'_>>) -> Result<()> {
        self.found.push(StoredManifest {
            names: self.names.clone(),
            descriptor: descriptor.clone(),
            entry: self.entry,
        });
        Ok(())
    }

    fn index(&mut self, descriptor: &Descriptor) -> Result<Option<ImageIndex>> {
        let bytes = self.image.read_blob(descriptor, "index", MAX_MANIFEST)?;
        parse(&self.image.place("index", descriptor), &bytes).map(Some)
    }

    fn beyond(&mut self, _: &Descriptor, limit: Limit) -> Result<()> {
        Err(self.image.endless(limit))
    }
}

impl fmt::Debug for ImageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageReader")
            .field("name", &self.name)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Blob for StoredBlob<'_> {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        self.reader.open_blob(&self.descriptor)
    }
}

/// Opens what a lock in a file pins, with no layer at hand.
fn open_lock(file: &Path, name: &str, tag: Option<&str>) -> Result<ImageReader> {
    let bytes = read_file(file, InputKind::Lock)?;
    let lock = ImageLock::parse(&bytes, name)?;
    ImageReader::open_lock(&lock, name, tag, BlobFiles::default())
}

fn open_layout(dir: &Path) -> Result<Box<dyn Files>> {
    let metadata = std::fs::metadata(dir).map_err(Error::reading(dir))?;
    if metadata.is_dir() {
        Ok(Box::new(LayoutFiles::new(dir)))
    } else {
        Err(Error::image(
            dir.display().to_string(),
            "is no directory: expected an OCI image layout",
        ))
    }
}
