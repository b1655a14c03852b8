//! Which store paths are in which layer of an image, wherever that is known
//! from.

use std::collections::BTreeMap;
use std::iter;

use serde_json::Value;

use crate::content::{NarObject, NarSize};
use crate::context::Context;
use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{EntryVisitor, read_entries};
use crate::oci::{Platform, descriptor_digest};
use crate::parallel;
use crate::plan::EarlierImage;
use crate::store::{StoreDir, StorePath, StorePathPrefix};

use super::document::parse;
use super::select::platform_text;
use super::{ImageReader, ImageTable, StoredImage, StoredLayer, TablePath};

/// The layers of an image and the store paths in them, as far as they are
/// known: those of an image that exists, of a recipe, or of a plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageListing {
    /// The image as it was named.
    pub name: String,
    /// The digest of the manifest; none if it is only planned.
    pub digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// The whole config, with fields that the specification does not know; none
    /// if it is only planned.
    pub config: Option<Value>,
    /// The layers, bottom first.
    pub layers: Vec<ListedLayer>,
}

/// A layer and the store paths in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListedLayer {
    /// The digest of the blob, if it was made.
    pub digest: Option<Digest>,
    /// Bytes of the blob, if it was made.
    pub size: Option<u64>,
    /// The blob's media type, if it was made.
    pub media_type: Option<String>,
    /// The digest of the tar, if it was made.
    pub diff_id: Option<DiffId>,
    /// The sum of its paths' NAR sizes, if it is known and those of the paths
    /// are not.
    pub nar_size: Option<u64>,
    /// The store paths in it; none if nobody tells and it was not read.
    pub paths: Option<Vec<TablePath>>,
    /// Whether it is of the base that the image is on, if that is known.
    pub is_base: Option<bool>,
}

/// How an image is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingOptions {
    /// Whether layers that nothing tells of are read. It costs a pass over
    /// them, which for an image of a registry is a download.
    pub read_layers: bool,
    /// The directory that store paths are in, in the image.
    pub store_dir: StoreDir,
}

impl Default for ListingOptions {
    /// Layers are read if need be, and store paths are in `/nix/store`.
    fn default() -> Self {
        Self {
            read_layers: true,
            store_dir: StoreDir::default(),
        }
    }
}

impl ImageListing {
    /// Returns whether the store paths of all layers are known.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|layer| layer.paths.is_some())
    }

    /// Returns the store paths in all layers, as far as they are known, in the
    /// order of the layers. A path in several layers comes as often.
    pub fn paths(&self) -> impl Iterator<Item = &TablePath> {
        self.layers
            .iter()
            .flat_map(|layer| layer.paths.iter().flatten())
    }

    /// Returns which store paths share a layer, for a plan that goes on from
    /// this image. A layer of which nothing is known has none.
    pub fn earlier_image(&self) -> EarlierImage {
        let layer = |layer: &ListedLayer| {
            let paths = layer.paths.iter().flatten();
            paths.map(|listed| listed.path.clone()).collect()
        };
        EarlierImage {
            layers: self.layers.iter().map(layer).collect(),
        }
    }

    /// Lists an image: what its [`ImageTable`] tells of its layers, or if it has
    /// none, what is in their tars.
    ///
    /// The image is the one that `platform` and the tag choose, as in
    /// [`ImageReader::image`]. Layers are read on `cx.threads` workers.
    ///
    /// # Errors
    ///
    /// As those of [`ImageReader::image`]; a layer that is read and is not what
    /// its descriptor says, or no tar, is an error too.
    pub fn read(
        cx: &Context,
        reader: &ImageReader,
        platform: Option<&Platform>,
        options: &ListingOptions,
    ) -> Result<Self> {
        let image = reader.image(cx, platform)?;
        let config: Value = parse(reader.name(), image.raw_config.bytes())?;
        let table = ImageTable::read(&image.manifest);
        let base_layers = table.as_ref().map(|table| table.base_layers);
        let told = table.into_iter().flat_map(|table| table.layers);
        let told = told
            .map(|layer| Some(layer.paths))
            .chain(iter::repeat(None));
        let layers: Vec<_> = image.layers.iter().zip(told).enumerate().collect();
        let layers = parallel::for_each(cx, &layers, |(at, (layer, told))| {
            let paths = match told {
                Some(paths) => Some(paths.clone()),
                None if options.read_layers => {
                    Some(tar_paths(cx, reader, &options.store_dir, layer)?)
                }
                None => None,
            };
            Ok(ListedLayer {
                digest: descriptor_digest(&layer.descriptor),
                size: Some(layer.descriptor.size()),
                media_type: Some(layer.descriptor.media_type().to_string()),
                diff_id: Some(layer.diff_id),
                nar_size: None,
                paths,
                is_base: base_layers.map(|layers| *at < layers),
            })
        })?;
        Ok(Self {
            name: reader.name().to_owned(),
            digest: Some(image.raw_manifest.digest()),
            platform: Some(platform_of(&image)),
            config: Some(config),
            layers,
        })
    }
}

/// Returns the platform that an image's config names.
fn platform_of(image: &StoredImage) -> String {
    let mut platform = Platform::default();
    platform
        .set_os(image.config.os().clone())
        .set_architecture(image.config.architecture().clone())
        .set_variant(image.config.variant().clone());
    platform_text(&platform)
}

/// Finds the store paths in a layer's tar, with their NAR sizes.
pub(super) fn tar_paths(
    cx: &Context,
    reader: &ImageReader,
    store_dir: &StoreDir,
    layer: &StoredLayer,
) -> Result<Vec<TablePath>> {
    let place = format!("{}: layer {}", reader.name(), layer.descriptor.digest());
    let mut paths = TarPaths::new(store_dir);
    let blob = reader.open_blob(&layer.descriptor)?;
    read_entries(cx, &place, blob, &mut paths)?;
    let listed = paths.found.into_iter().map(|(path, found)| TablePath {
        path: StorePathPrefix::from(&path),
        nar_size: found.nar_size(),
    });
    Ok(listed.collect())
}

/// Splits the paths of entries at the store directory.
#[derive(Debug)]
pub(super) struct StorePrefix {
    /// `nix/store/`
    prefix: Vec<u8>,
    /// The last name in the store directory, which most entries share, and the
    /// store path that it is.
    last: (Vec<u8>, Option<StorePath>),
}

impl StorePrefix {
    pub(super) fn new(store_dir: &StoreDir) -> Self {
        Self {
            prefix: format!("{}/", &store_dir.as_str()[1..]).into_bytes(),
            last: (Vec::new(), None),
        }
    }

    /// Returns the store path that the path of an entry is or lies in, and what
    /// is left of it.
    pub(super) fn split<'a>(&mut self, path: &'a [u8]) -> Option<(StorePath, &'a [u8])> {
        let rest = path.strip_prefix(self.prefix.as_slice())?;
        let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
        let (name, inside) = rest.split_at(end);
        if self.last.0 != name {
            let parsed = std::str::from_utf8(name).ok();
            self.last = (name.to_vec(), parsed.and_then(|name| name.parse().ok()));
        }
        let inside = inside.strip_prefix(b"/").unwrap_or(inside);
        self.last.1.clone().map(|path| (path, inside))
    }
}

/// Collects the store paths of a tar.
pub(super) struct TarPaths {
    prefix: StorePrefix,
    found: BTreeMap<StorePath, TarPath>,
}

impl TarPaths {
    pub(super) fn new(store_dir: &StoreDir) -> Self {
        Self {
            prefix: StorePrefix::new(store_dir),
            found: BTreeMap::new(),
        }
    }

    /// Returns the paths that have an entry themselves, with their NAR sizes as
    /// far as they are known.
    pub(super) fn whole(self) -> impl Iterator<Item = (StorePath, Option<u64>)> {
        let whole = self.found.into_iter().filter(|(_, found)| found.is_there);
        whole.map(|(path, found)| (path, found.nar_size()))
    }
}

/// What a tar has of a store path.
struct TarPath {
    nar: NarSize,
    /// Whether the path itself has an entry.
    is_there: bool,
    /// Whether it has an entry whose size is not known, such as a hard link.
    is_odd: bool,
}

impl TarPath {
    fn nar_size(&self) -> Option<u64> {
        (self.is_there && !self.is_odd).then(|| self.nar.bytes())
    }
}

impl EntryVisitor for TarPaths {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        let Some((store_path, inside)) = self.prefix.split(path) else {
            return false;
        };
        let found = self.found.entry(store_path).or_insert_with(|| TarPath {
            nar: NarSize::new(),
            is_there: false,
            is_odd: false,
        });
        found.is_there |= inside.is_empty();
        let name = inside.rsplit(|&b| b == b'/').next().unwrap_or(inside);
        let object = match member.kind {
            MemberKind::Directory => NarObject::Directory,
            MemberKind::File => NarObject::File {
                executable: member.is_executable,
                size: member.size,
            },
            MemberKind::Symlink => NarObject::Symlink {
                target: &member.link,
            },
            MemberKind::HardLink | MemberKind::Other(_) => {
                found.is_odd = true;
                return false;
            }
        };
        found.nar.add(name, object);
        false
    }

    fn contents(&mut self, _: &[u8]) {}
}
