//! Images for several platforms, and the index that names them.
//!
//! - [`IndexPart`]: one or more of them
//! - [`build_index`]: into a sink; `push_index` beside `push` to a registry
//! - [`IndexRecipe`]: every digest of an index, no bytes
//! - `members`: what an index says of each, and that no platform comes twice

mod members;
mod recipe;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::ContentSource;
use crate::context::{Context, Event};
use crate::digest::Digest;
use crate::error::Result;
use crate::image::{ImageReader, ImageTree, RawManifest, assemble_index};
use crate::layer::Blob as _;
use crate::oci::{Descriptor, Platform, Reference};
use crate::sink::ImageSink;

use super::build::{PackedLayers, put_blobs};
use super::copy::put_tree_blobs;
use super::numbered::Numbering;
use super::recipe_image::{put_recipe, recipe_platform};
use super::{BuildReport, ImageSpec, Recipe, RecipeParts};

use members::{Members, stored_manifests};

pub use recipe::{IndexRecipe, resolve_index};

/// What an index is made of.
#[derive(Clone)]
pub struct IndexPart<'a> {
    /// What errors call it.
    pub name: String,
    /// The image.
    pub source: IndexSource<'a>,
}

/// An image of an index, or several.
#[derive(Clone)]
#[non_exhaustive]
pub enum IndexSource<'a> {
    /// An image to be made; its names do not count.
    Image(&'a ImageSpec),
    /// An image whose digests are known, to be made again.
    Recipe {
        /// The recipe.
        recipe: &'a Recipe,
        /// What is inside the store paths.
        content: Arc<dyn ContentSource>,
    },
    /// An image that is stored somewhere. One that is an index itself gives all
    /// its images, and what is stored beside them.
    Stored {
        /// Where.
        image: &'a Arc<ImageReader>,
        /// The one platform that is wanted; all of them without it.
        platform: Option<&'a Platform>,
    },
}

/// An index that was written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IndexReport {
    /// The digest of the index.
    pub manifest_digest: Digest,
    /// The bytes of it.
    pub manifest_size: u64,
    /// What became of each image that the index names, in its order. A part that
    /// was an index itself has several.
    pub images: Vec<IndexImageReport>,
    /// What the index names, in its order.
    pub manifests: Vec<Descriptor>,
}

/// What became of an image of an index.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum IndexImageReport {
    /// It was packed.
    Built(BuildReport),
    /// It was copied.
    Copied(Box<CopiedImage>),
}

/// An image that was stored before; or what is stored beside one, such as an
/// attestation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CopiedImage {
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// The bytes of it.
    pub manifest_size: u64,
    /// Its config.
    pub config: Descriptor,
    /// Its layers, bottom first.
    pub layers: Vec<Descriptor>,
}

impl CopiedImage {
    /// Returns each image of a tree, in the order in which an index names them.
    pub(super) fn all(tree: &ImageTree) -> impl Iterator<Item = Self> + '_ {
        tree.documents.iter().filter_map(|document| {
            Some(Self {
                manifest_digest: Digest::of(&document.bytes),
                manifest_size: document.bytes.len() as u64,
                config: document.config.clone()?,
                layers: tree.layers_of(document),
            })
        })
    }
}

/// Builds and copies images into a sink, and an index of them with these
/// annotations, which gets the names.
///
/// The images come in the order of the parts. Layers that several of them have
/// are packed and stored once. Memory is that of one build.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) before anything
/// is read if two images are for one platform, or one does not say its own.
/// Those of [`build`](super::build()) and [`copy`](super::copy()); an integrity
/// error if a recipe's layer cannot be made as it was.
pub fn build_index(
    cx: &Context,
    parts: &[IndexPart<'_>],
    annotations: &BTreeMap<String, String>,
    names: &[Reference],
    sink: &mut dyn ImageSink,
) -> Result<IndexReport> {
    let prepared = prepare(cx, parts)?;
    let numbering = Numbering::new(cx);
    let mut packed = PackedLayers::default();
    let mut children = Vec::new();
    let mut reports = Vec::new();
    for (part, prepared) in parts.iter().zip(prepared) {
        let cx = numbering.next(cx);
        match (&part.source, prepared) {
            (IndexSource::Stored { image, .. }, Prepared::Stored(tree, manifests)) => {
                put_tree_blobs(&cx, image, &tree, sink)?;
                children.extend(manifests);
                let copied = CopiedImage::all(&tree).map(Box::new);
                reports.extend(copied.map(IndexImageReport::Copied));
            }
            (IndexSource::Recipe { content, .. }, Prepared::Recipe(prepared)) => {
                let (parts, manifest) = *prepared;
                let report = put_recipe(&cx, &parts, None, content.as_ref(), sink)?;
                children.push(manifest);
                reports.push(IndexImageReport::Built(report));
            }
            (IndexSource::Image(spec), _) => {
                let (report, manifest) = put_blobs(&cx, spec, sink, &mut packed)?;
                children.push(manifest);
                reports.push(IndexImageReport::Built(report));
            }
            _ => unreachable!("each part was prepared as what it is"),
        }
    }
    let index = assemble_index(&children, annotations);
    sink.put_index(cx, &index, &children, names)?;
    sink.commit(cx)?;
    cx.observer.event(&Event::Committed {
        manifest: index.digest(),
    });
    Ok(IndexReport {
        manifest_digest: index.digest(),
        manifest_size: index.blob.bytes().len() as u64,
        images: reports,
        manifests: descriptors(&children),
    })
}

/// Finds out whether these parts can be one index, and reads no more of them than
/// manifests.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if two images are
/// for one platform, or one does not say its own.
pub fn check_index(cx: &Context, parts: &[IndexPart<'_>]) -> Result<()> {
    prepare(cx, parts).map(drop)
}

/// Returns what an index says of its manifests.
pub(super) fn descriptors(children: &[RawManifest]) -> Vec<Descriptor> {
    let of = |child: &RawManifest| child.blob.descriptor().clone();
    children.iter().map(of).collect()
}

/// What is known of a part before anything is packed.
pub(super) enum Prepared {
    /// It is made later.
    Image,
    /// What the recipe says, and its manifest as the index names it.
    Recipe(Box<(RecipeParts, RawManifest)>),
    /// All that is copied, and the manifests of it.
    Stored(ImageTree, Vec<RawManifest>),
}

/// Looks at all parts, so that what does not go together is found before the
/// work.
pub(super) fn prepare(cx: &Context, parts: &[IndexPart<'_>]) -> Result<Vec<Prepared>> {
    let mut members = Members::default();
    let mut prepared = Vec::with_capacity(parts.len());
    for part in parts {
        prepared.push(match &part.source {
            IndexSource::Image(spec) => {
                members.add(&part.name, &spec.config.platform)?;
                Prepared::Image
            }
            IndexSource::Recipe { recipe, .. } => {
                let member = recipe_member(&part.name, recipe, &mut members)?;
                Prepared::Recipe(Box::new(member))
            }
            IndexSource::Stored { image, platform } => {
                let tree = image.tree(cx, *platform)?;
                let manifests = stored_manifests(image, &tree)?;
                for manifest in &manifests {
                    members.add_stored(&part.name, manifest.blob.descriptor())?;
                }
                Prepared::Stored(tree, manifests)
            }
        });
    }
    Ok(prepared)
}

/// Returns what a recipe says, and its manifest as an index names it.
fn recipe_member(
    name: &str,
    recipe: &Recipe,
    members: &mut Members,
) -> Result<(RecipeParts, RawManifest)> {
    let parts = recipe.parts(name)?;
    let platform = recipe_platform(name, &parts)?;
    members.add(name, &platform)?;
    let manifest = RawManifest {
        blob: parts.manifest.blob.clone().with_platform(platform),
    };
    Ok((parts, manifest))
}
