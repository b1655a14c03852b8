//! An image that another one is built on.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::context::{Context, Event};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::layer::{Blob, Codec, LayerKeyPrefix, LayerRecord};
use crate::oci::{
    Descriptor, MediaType, Platform, annotation, descriptor, descriptor_digest, display_platform,
    is_tag,
};
use crate::plan::AccountFiles;
use crate::store::StoreDir;

use super::assemble::is_made_here;
use super::base_blobs::BaseBlobs;
use super::base_contents::{BaseContents, base_contents};
use super::base_files::SpooledFiles;
#[cfg(feature = "db")]
use super::base_nix_db;
use super::document::parse;
use super::inherit::{history, inherit, on_build};
use super::{ImageConfig, ImageReader, ImageTable, StoredImage, StoredLayer, TablePath};

/// An image that another one is built on, as a Dockerfile's `FROM` names it:
/// its layers are at the bottom of the new image, as they are, and its config
/// is the beginning of the new one's.
///
/// Cheap to clone. No layer is read before somebody wants its bytes, but for
/// those that only their tars tell of; see [`ImageSpec`](crate::ImageSpec).
#[derive(Clone)]
pub struct BaseImage(Arc<Inner>);

struct Inner {
    blobs: BaseBlobs,
    /// What an annotation calls it.
    reference: Option<String>,
    digest: Digest,
    platform: Platform,
    /// The whole config document.
    config: Map<String, Value>,
    stored: Vec<StoredLayer>,
    layers: Vec<BaseLayer>,
    /// Whether the image itself tells its store paths.
    has_table: bool,
    /// What was found in the layers, and for which store directory.
    contents: Mutex<Option<(StoreDir, Arc<BaseContents>)>>,
}

/// A layer of a base.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BaseLayer {
    /// Has a SHA-256 digest, which was checked when the base was opened.
    descriptor: Descriptor,
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The beginning of its key, if the base tells it.
    pub key: Option<LayerKeyPrefix>,
    /// Bytes of its tar, if the base tells them.
    pub uncompressed_size: Option<u64>,
    /// The store paths in it that are there in the new image, as far as they
    /// are known.
    pub paths: Vec<TablePath>,
}

impl BaseLayer {
    /// Takes a layer of which a recipe tells.
    #[cfg(feature = "registry")]
    pub(crate) fn of_record(record: &LayerRecord) -> Self {
        Self {
            descriptor: record.descriptor(),
            diff_id: record.diff_id,
            key: None,
            uncompressed_size: Some(record.uncompressed_size).filter(|size| *size > 0),
            paths: Vec::new(),
        }
    }

    /// Returns the descriptor of the blob, with a media type of OCI: docker's
    /// types name the same bytes.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the digest of the blob.
    pub fn digest(&self) -> Digest {
        descriptor_digest(&self.descriptor).expect("checked when the base was opened")
    }

    /// Returns what is known of it as of a layer that was packed; the size of
    /// its tar is 0 if it is not known.
    pub fn record(&self) -> LayerRecord {
        LayerRecord {
            diff_id: self.diff_id,
            uncompressed_size: self.uncompressed_size.unwrap_or(0),
            digest: self.digest(),
            size: self.descriptor.size(),
            media_type: self.descriptor.media_type().clone(),
        }
    }
}

impl BaseImage {
    /// Opens the image that the reader's tag and `platform` choose, as
    /// [`ImageReader::image`] does. Reads its manifest and its config.
    ///
    /// The observer is warned of `OnBuild` commands in it, which are for who
    /// builds on it with a Dockerfile.
    ///
    /// # Errors
    ///
    /// As those of [`ImageReader::image`];
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if a layer is no tar that
    /// is read here or lies elsewhere (`urls`), as Windows' base layers do.
    pub fn open(
        cx: &Context,
        reader: Arc<ImageReader>,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let image = reader.image(cx, platform)?;
        let config: Map<String, Value> = parse(reader.name(), image.raw_config.bytes())?;
        let table = ImageTable::read(&image.manifest);
        let has_table = table.is_some();
        let mut rows = table.unwrap_or_default().layers.into_iter();
        let layers = image.layers.iter().map(|layer| {
            let row = rows.next();
            let descriptor = oci_layer(reader.name(), layer)?;
            let told = row.as_ref().map(|row| row.uncompressed_size);
            let is_tar = *descriptor.media_type() == MediaType::ImageLayer;
            let size = if is_tar {
                Some(descriptor.size())
            } else {
                told
            };
            Ok(BaseLayer {
                descriptor,
                diff_id: layer.diff_id,
                key: row.as_ref().and_then(|row| row.key),
                uncompressed_size: size.filter(|size| *size > 0),
                paths: row.map(|row| row.paths).unwrap_or_default(),
            })
        });
        let layers = layers.collect::<Result<_>>()?;
        let commands = on_build(&config);
        if commands > 0 {
            let message = format!(
                "{}: its {commands} OnBuild commands are for a Dockerfile and are left out",
                reader.name()
            );
            cx.observer.event(&Event::Warning { message: &message });
        }
        Ok(Self(Arc::new(Inner {
            reference: reference(&reader, &image),
            digest: image.raw_manifest.digest(),
            platform: platform_of(&image),
            config,
            stored: image.layers,
            layers,
            has_table,
            contents: Mutex::default(),
            blobs: BaseBlobs::new(reader),
        })))
    }

    /// Returns how the user named it.
    pub fn name(&self) -> &str {
        self.reader().name()
    }

    /// Returns what others call it: its name in a registry, or the one that an
    /// archive or a layout gives it. None for one that has a tag only.
    pub fn reference(&self) -> Option<&str> {
        self.0.reference.as_deref()
    }

    /// Returns the digest of its manifest. That of an archive of `docker save`
    /// is of this library's making.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Returns the platform that it is for.
    pub fn platform(&self) -> &Platform {
        &self.0.platform
    }

    /// Returns its layers, bottom first, with what the image itself tells of
    /// them.
    pub fn layers(&self) -> &[BaseLayer] {
        &self.0.layers
    }

    /// Returns what its blobs are read with: descriptors of [`BaseLayer`]s are
    /// known there.
    pub fn reader(&self) -> &Arc<ImageReader> {
        self.0.blobs.reader()
    }

    /// Returns whether a layer's blob is on this machine.
    pub(crate) fn is_local(&self, layer: &BaseLayer) -> Result<bool> {
        self.0.blobs.is_local(&layer.descriptor)
    }

    /// Returns a layer's blob; what was downloaded already is not asked for
    /// again.
    pub(crate) fn blob(&self, layer: &BaseLayer) -> Box<dyn Blob + '_> {
        self.0.blobs.blob(&layer.descriptor)
    }

    /// Returns a reader of a layer's blob that needs the image no more, and fails
    /// unless the bytes are those of its descriptor.
    pub(crate) fn open_layer(&self, layer: &BaseLayer) -> Result<Box<dyn Read + Send>> {
        self.0.blobs.open(&layer.descriptor)
    }

    /// Returns the config of an image on it, of which `own` is said: see the
    /// Dockerfile's `FROM`. An empty list of `Entrypoint` or `Cmd` stands for
    /// none. Annotations name the base, unless `own` has them.
    pub fn config(&self, own: &ImageConfig) -> ImageConfig {
        let mut config = inherit(&self.0.config, own);
        let digest = self.reader().has_oci_index();
        let digest = digest.then(|| self.0.digest.to_string());
        for (key, value) in [
            (annotation::BASE_NAME, self.0.reference.clone()),
            (annotation::BASE_DIGEST, digest),
        ] {
            if let Some(value) = value {
                config.annotations.entry(key.to_owned()).or_insert(value);
            }
        }
        config
    }

    /// Refuses to be the base of an image for another platform. A variant that
    /// is not said fits any.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn check_platform(&self, platform: &Platform) -> Result<()> {
        let own = self.platform();
        let variants = (own.variant().as_deref(), platform.variant().as_deref());
        let fits = own.os() == platform.os()
            && own.architecture() == platform.architecture()
            && !matches!(variants, (Some(a), Some(b)) if a != b);
        if fits {
            return Ok(());
        }
        let problem = format!(
            "it is for {}, and the image is for {}",
            display_platform(own),
            display_platform(platform)
        );
        Err(Error::invalid(
            format!("the base image {}", self.name()),
            problem,
        ))
    }

    /// Returns the history for the beginning of the new image's.
    pub(super) fn history(&self) -> Vec<Value> {
        history(&self.0.config, self.0.layers.len())
    }

    /// Finds what the layers have that a plan must know of.
    ///
    /// Store paths are those that the image tells, else those in its layers'
    /// tars. These are read `for_links`, or if the config speaks of the store
    /// directory or of this library: other programs keep the history of an image
    /// and drop its annotations, as `podman save` does. A base that does neither
    /// hardly has store paths, and to read all of it only to find none would be
    /// a download. Whatever is read is read once, and downloaded once: blobs of a
    /// registry are kept in `cx.spool_dir` for who wants their bytes.
    pub(crate) fn contents(
        &self,
        cx: &Context,
        store_dir: &StoreDir,
        for_links: bool,
    ) -> Result<Arc<BaseContents>> {
        let speaks_of_store = || {
            let config = crate::oci::canonical_json(&self.0.config);
            let store_dir = store_dir.as_str().as_bytes();
            config.windows(store_dir.len()).any(|at| at == store_dir)
                || self.history().iter().any(is_made_here)
        };
        if !for_links && (self.0.has_table || !speaks_of_store()) {
            return Ok(Arc::new(BaseContents::of_paths(self.told())));
        }
        let mut known = self.known();
        if let Some((_, contents)) = known.as_ref().filter(|(dir, _)| dir == store_dir) {
            return Ok(Arc::clone(contents));
        }
        let (contents, _) = self.read_layers(cx, store_dir, &[])?;
        *known = Some((store_dir.clone(), Arc::clone(&contents)));
        Ok(contents)
    }

    /// Reads the Nix database in it, if it has one: what is registered there, for
    /// the database of an image on it.
    ///
    /// Reads all layers, as a plan of an image with files at its root does, which
    /// then does not read them again. The database is in `cx.spool_dir` meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if what is there is no
    /// database of Nix for this store directory; those of reading the layers.
    #[cfg(feature = "db")]
    pub fn valid_paths(
        &self,
        cx: &Context,
        store_dir: &StoreDir,
    ) -> Result<Option<crate::closure::ValidPaths>> {
        let mut known = self.known();
        let (contents, files) = self.read_layers(cx, store_dir, &base_nix_db::FILES)?;
        *known = Some((store_dir.clone(), contents));
        drop(known);
        base_nix_db::valid_paths(cx, files, self.name(), store_dir)
    }

    fn known(&self) -> MutexGuard<'_, Option<(StoreDir, Arc<BaseContents>)>> {
        let known = self.0.contents.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    fn read_layers(
        &self,
        cx: &Context,
        store_dir: &StoreDir,
        keep: &[&'static str],
    ) -> Result<(Arc<BaseContents>, SpooledFiles)> {
        let (blobs, layers) = (&self.0.blobs, &self.0.stored);
        let (mut contents, files) = base_contents(cx, blobs, layers, store_dir, keep)?;
        if self.0.has_table {
            contents.paths = self.told();
        }
        Ok((Arc::new(contents), files))
    }

    /// Returns for each layer the store paths that the image itself tells.
    fn told(&self) -> Vec<Vec<TablePath>> {
        let layers = self.0.layers.iter();
        layers.map(|layer| layer.paths.clone()).collect()
    }
}

impl BaseImage {
    /// Returns the files that tell of its users and groups, for
    /// [`RootTree::add_documents`](crate::plan::RootTree::add_documents): those
    /// that are left of all its layers, links to them followed. The layers are
    /// read for it, once: whoever builds an image on it that has something at the
    /// root needs that in any case.
    ///
    /// # Errors
    ///
    /// Those of reading the layers; [`ErrorKind::Image`](crate::ErrorKind::Image)
    /// for such a file of more than 1 MiB.
    pub fn account_files(&self, cx: &Context, store_dir: &StoreDir) -> Result<AccountFiles> {
        self.contents(cx, store_dir, true)?
            .account_files(self.name())
    }
}

impl fmt::Debug for BaseImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaseImage")
            .field("name", &self.name())
            .field("digest", &self.0.digest)
            .field("platform", &self.0.platform)
            .field("layers", &self.0.layers)
            .finish_non_exhaustive()
    }
}

/// Returns a layer's descriptor with a media type of OCI and nothing else.
fn oci_layer(image: &str, layer: &StoredLayer) -> Result<Descriptor> {
    let found = &layer.descriptor;
    let refuse = |problem: String| {
        Error::image(
            format!("{image}: layer {}", found.digest()),
            format!("{problem}, so nothing can be built on it"),
        )
    };
    if found.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
        return Err(refuse("lies elsewhere (urls)".to_owned()));
    }
    let codec = Codec::of_media_type(found.media_type())
        .ok_or_else(|| refuse(format!("has media type {}", found.media_type())))?;
    let digest = descriptor_digest(found)
        .ok_or_else(|| refuse("does not have a SHA-256 digest".to_owned()))?;
    Ok(descriptor(codec.media_type(), digest, found.size()))
}

/// Returns what others call an image. How a file is called on this machine is
/// nobody's business, and a lock is a file whose blobs may be in a registry.
fn reference(reader: &ImageReader, image: &StoredImage) -> Option<String> {
    let in_registry = reader.registry_repository().is_some();
    let name = reader.name().strip_prefix("docker://");
    if let Some(name) = name.filter(|_| in_registry) {
        return Some(name.to_owned());
    }
    image.names.iter().find(|name| !is_tag(name)).cloned()
}

fn platform_of(image: &StoredImage) -> Platform {
    let mut platform = Platform::default();
    let variant = image.config.variant().clone();
    platform
        .set_os(image.config.os().clone())
        .set_architecture(image.config.architecture().clone())
        .set_variant(variant.filter(|variant| !variant.is_empty()));
    platform
}
