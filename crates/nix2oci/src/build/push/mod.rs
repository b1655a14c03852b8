//! From an image that is meant, described or stored to a registry.
//!
//! Read [`push()`] first. The way of an image that is not made yet:
//!
//! 1. `earlier`: the image that the registry has under the same name now
//! 2. `outlook`: what has to be done for each layer, before anything is read
//! 3. `base`: the layers of a base, mounted or copied
//! 4. `transfer`: layers made and sent at once, those that broke once more
//! 5. `finish`: config and manifest
//!
//! `stored` copies what is made already. `index` pushes several images and an
//! index of them.

mod base;
mod cache;
mod earlier;
mod finish;
mod index;
mod known;
mod looks;
mod outlook;
mod report;
mod stored;
mod transfer;

use std::sync::Arc;

use crate::content::ContentSource;
use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{AssembledImage, BaseImage, ImageReader, RawManifest};
use crate::layer::{LayerCache, LayerKey, LayerRecord};
use crate::oci::{MediaType, Platform, Reference};
use crate::registry::{Registries, Repository};

use super::build::{assemble_image, labels, used_record};
use super::plan::plan_on;
use super::programs::{checked_content, tell};
use super::recipe_parts::recipe_label;
use super::{ImagePlan, ImageSpec, LayerOutline, Recipe, RecipeParts};

use base::BaseLayers;
use cache::Cache;
use earlier::{Earlier, PushedBefore};
use looks::Looks;
use outlook::{Job, Outlook};
use transfer::{SentLayers, Transfer};

pub use index::{PushedIndex, push_index};
pub use known::{KnownImage, forecast_over};
pub use outlook::{LayerForecast, PushForecast, UploadEstimate, forecast};
pub use report::{LayerState, PushReport, PushedLayer};

/// What is pushed.
#[non_exhaustive]
pub enum PushSource<'a> {
    /// An image to be made: only layers that the registry does not have are.
    Image(&'a ImageSpec),
    /// An image whose digests are known. The layers that the registry does not
    /// have are made again, from this content.
    Recipe {
        /// The recipe.
        recipe: &'a Recipe,
        /// What errors call it.
        name: &'a str,
        /// What is inside the store paths.
        content: Arc<dyn ContentSource>,
        /// The base that the recipe names, for the layers that the registry does
        /// not have.
        base: Option<&'a BaseImage>,
    },
    /// An image that is stored somewhere, or in another registry.
    Stored {
        /// Where.
        image: &'a Arc<ImageReader>,
        /// The one platform that is wanted; all of them without it.
        platform: Option<&'a Platform>,
    },
}

/// How an image is pushed. But for `keep_layers`, none of it changes a byte of
/// the image.
#[derive(Clone)]
#[non_exhaustive]
pub struct PushOptions {
    /// Whether layers of the image that the names have now are taken over: what
    /// has the same key is not read, packed or asked for. Whoever may write to
    /// the repository could have put another layer under a key.
    pub reuse: bool,
    /// Whether an image to be made is planned on from the one that it replaces:
    /// that which its first tag has now, else the first of `reuse_from`, else
    /// the repository's `latest`. Layers that hold what they held stay as they
    /// are, so that fewer bytes move. Has no effect without `reuse`, if the
    /// [`ImageSpec`] names an image to plan on from itself, if the strategy keeps
    /// no layers, or if none would be taken over, as with another compression.
    /// Of these options it is the one that shapes the image.
    pub keep_layers: bool,
    /// Further images whose layers are taken over. Those of another repository
    /// of the same registry are mounted from there. One that is not there is
    /// warned of, and no error: the first push to a repository has none.
    pub reuse_from: Vec<Reference>,
    /// Asks for every layer that is taken over, makes it all the same, and fails
    /// with an integrity error if it is not the one that the earlier image has.
    pub verify_reused: bool,
    /// What is known of layers that were packed on this machine before.
    pub cache: Option<Arc<dyn LayerCache>>,
    /// Repositories of the same registry that may have the layers.
    pub mount_from: Vec<String>,
}

impl Default for PushOptions {
    /// The image's own names are looked at, and its layers kept; nothing else.
    fn default() -> Self {
        Self {
            reuse: true,
            keep_layers: true,
            reuse_from: Vec::new(),
            verify_reused: false,
            cache: None,
            mount_from: Vec::new(),
        }
    }
}

impl std::fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushOptions")
            .field("reuse", &self.reuse)
            .field("keep_layers", &self.keep_layers)
            .field("reuse_from", &self.reuse_from)
            .field("verify_reused", &self.verify_reused)
            .field("cache", &self.cache.is_some())
            .field("mount_from", &self.mount_from)
            .finish()
    }
}

/// Pushes an image to a registry under `names`, which are tags of one
/// repository.
///
/// Sends what the registry lacks and nothing else: layers that it has are not
/// made. An image that all names have already costs a manifest and a config to
/// read. No name points to the image before the registry has all of it.
///
/// Memory is bounded by the number of threads and requests, whatever the sizes
/// of layers. `cx.spool_dir` needs room for the layers of which it cannot be
/// known beforehand whether the registry has them, and for those whose upload
/// broke.
///
/// # Errors
///
/// [`ErrorClass::Denied`](crate::ErrorClass::Denied) and
/// [`ErrorClass::Remote`](crate::ErrorClass::Remote) of the registry, after
/// retries; those of [`build()`](super::build()); an integrity error if a
/// recipe's layer cannot be made as it was;
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a layer of a
/// recipe's base is not there and cannot be read.
pub fn push(
    cx: &Context,
    source: PushSource<'_>,
    registries: &Registries,
    names: &[Reference],
    options: &PushOptions,
) -> Result<PushReport> {
    let target = Target::new(cx, registries, names)?;
    let report = match source {
        PushSource::Image(spec) => {
            push_image(cx, spec, &target, options).map(|pushed| pushed.report)
        }
        PushSource::Recipe {
            recipe,
            name,
            content,
            base,
        } => {
            let content = content.as_ref();
            push_recipe(cx, (recipe, name), content, base, &target, options)
        }
        PushSource::Stored { image, platform } => {
            stored::push(cx, image, platform, &target, options)
        }
    }?;
    cx.observer.event(&Event::Committed {
        manifest: report.manifest_digest,
    });
    Ok(report)
}

/// Where an image goes.
struct Target<'a> {
    cx: &'a Context,
    registries: &'a Registries,
    repository: Repository,
    /// `registry/repository`, as the user knows it.
    name: String,
    /// Each once.
    tags: Vec<String>,
    /// Nothing is pushed, only asked.
    is_read_only: bool,
    /// Images get no name but their digest: an index is going to name them,
    /// which gets the tags.
    is_of_index: bool,
    /// What was pushed before for that index.
    before: Option<&'a PushedBefore>,
}

impl<'a> Target<'a> {
    fn new(cx: &'a Context, registries: &'a Registries, names: &[Reference]) -> Result<Self> {
        let Some(first) = names.first() else {
            return Err(Error::invalid("the destination", "no name is given"));
        };
        let mut tags: Vec<String> = Vec::new();
        for name in names {
            if (name.registry(), name.repository()) != (first.registry(), first.repository()) {
                let problem = format!(
                    "it is not of the repository of {}: several names are tags of one repository",
                    first.whole()
                );
                return Err(Error::invalid(name.whole(), problem));
            }
            match name.tag() {
                Some(_) if name.digest().is_some() => {
                    let problem = "an image is pushed to a tag; its digest is found, not given";
                    return Err(Error::invalid(name.whole(), problem));
                }
                Some(tag) if tags.iter().any(|known| known == tag) => {}
                Some(tag) => tags.push(tag.to_owned()),
                None => return Err(Error::invalid(name.whole(), "it has no tag")),
            }
        }
        Ok(Self {
            cx,
            registries,
            repository: registries.repository(first)?.for_push(),
            name: format!("{}/{}", first.registry(), first.repository()),
            tags,
            is_read_only: false,
            is_of_index: false,
            before: None,
        })
    }

    /// Returns where an image goes that is one of an index.
    fn of_index<'b>(&'b self, cx: &'b Context, before: &'b PushedBefore) -> Target<'b> {
        Target {
            cx,
            registries: self.registries,
            repository: self.repository.clone(),
            name: self.name.clone(),
            tags: self.tags.clone(),
            is_read_only: self.is_read_only,
            is_of_index: true,
            before: Some(before),
        }
    }
}

/// An image that was pushed, for who goes on with it.
struct PushedImage {
    report: PushReport,
    manifest: RawManifest,
    layers: Vec<(Option<LayerKey>, LayerRecord)>,
    /// The keys of those that were made here.
    made: Vec<LayerKey>,
}

/// Returns whether a registry refused a manifest because it lacks what that
/// names.
fn lacks_blobs(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::BlobsMissing { .. })
}

fn push_image(
    cx: &Context,
    spec: &ImageSpec,
    target: &Target<'_>,
    options: &PushOptions,
) -> Result<PushedImage> {
    let earlier = Earlier::read(cx, target, options, Some(&spec.config.platform))?;
    earlier.warn_of_platforms(cx, target);
    let plan = plan_push(cx, spec, options, &earlier)?;
    let labels = labels(&plan);
    let jobs = plan.layers.iter().zip(&labels).map(|(outline, label)| Job {
        spec: outline.spec.clone(),
        media_type: media_type(spec, outline),
        key: outline.key,
        expected: used_record(outline),
        nar_size: outline.unpacked_size(),
        label: label.clone(),
    });
    let content = checked_content(spec)?;
    let cache = Cache::new(cx, options);
    let base = BaseLayers::of_image(spec, &plan);
    let transfer = Transfer {
        cx,
        target,
        options,
        earlier: &earlier,
        cache: &cache,
        packing: spec.packing,
        content: &content,
        base: &base,
    };
    let outlook = Outlook::new(target, options, &earlier, &cache, jobs.collect())?;
    let looks = Looks {
        cx,
        spec,
        check: &content,
        cache: &cache,
        before: target.before,
    };
    looks.at_known(&outlook, options)?;
    let layers = transfer.send(outlook)?;
    tell(cx, &content);
    let image = assemble_image(spec, &plan, &layers.records())?;
    conclude(&transfer, Some(&looks), image, layers, Some(plan))
}

/// Gives an image whose layers are there its names, and tells of it.
fn conclude(
    transfer: &Transfer<'_>,
    looks: Option<&Looks<'_>>,
    image: AssembledImage,
    mut layers: SentLayers,
    plan: Option<ImagePlan>,
) -> Result<PushedImage> {
    let tags = transfer.finish(&image, &mut layers)?;
    transfer.remember(&layers);
    if let Some(looks) = looks {
        looks.remember(&layers);
    }
    Ok(PushedImage {
        layers: layers.keyed(),
        made: layers.made().filter_map(|layer| layer.key).collect(),
        report: layers.report(transfer.target, tags, &image, transfer.base, plan),
        manifest: image.manifest,
    })
}

/// Returns what a layer's blob will be.
fn media_type(spec: &ImageSpec, outline: &LayerOutline) -> MediaType {
    match used_record(outline) {
        Some(record) => record.media_type,
        None => spec.packing.compression.media_type(),
    }
}

/// Plans an image on from the one that it replaces.
fn plan_push(
    cx: &Context,
    spec: &ImageSpec,
    options: &PushOptions,
    earlier: &Earlier,
) -> Result<ImagePlan> {
    if let (None, true, Some(replaced)) =
        (&spec.keep_layers, options.keep_layers, earlier.replaced())
    {
        let plan = plan_on(cx, spec, Some(replaced))?;
        // Layers that are packed otherwise are sent all the same: then nothing
        // is gained by going on from them.
        let is_there =
            |layer: &LayerOutline| layer.key.is_some_and(|k| earlier.record(&k).is_some());
        if plan.layers.iter().any(is_there) {
            return Ok(plan);
        }
    }
    plan_on(cx, spec, spec.keep_layers.as_ref())
}

fn push_recipe(
    cx: &Context,
    (recipe, name): (&Recipe, &str),
    content: &dyn ContentSource,
    base: Option<&BaseImage>,
    target: &Target<'_>,
    options: &PushOptions,
) -> Result<PushReport> {
    let parts = recipe.parts(name)?;
    let base = BaseLayers::of_recipe(recipe, &parts.base, base)?;
    push_parts(cx, parts, base, content, target, options).map(|pushed| pushed.report)
}

/// Pushes what a recipe says.
fn push_parts(
    cx: &Context,
    parts: RecipeParts,
    base: BaseLayers,
    content: &dyn ContentSource,
    target: &Target<'_>,
    options: &PushOptions,
) -> Result<PushedImage> {
    let packing = parts.packing;
    let image = AssembledImage {
        config: parts.config,
        manifest: parts.manifest,
    };
    let earlier = Earlier::read(cx, target, options, None)?;
    earlier.warn_of_platforms(cx, target);
    let jobs = parts.layers.into_iter().map(|(spec, record)| Job {
        key: spec.key(&packing),
        media_type: record.media_type.clone(),
        nar_size: record.uncompressed_size,
        label: recipe_label(&spec),
        expected: Some(record),
        spec,
    });
    let cache = Cache::new(cx, options);
    let transfer = Transfer {
        cx,
        target,
        options,
        earlier: &earlier,
        cache: &cache,
        packing,
        content,
        base: &base,
    };
    let outlook = Outlook::new(target, options, &earlier, &cache, jobs.collect())?;
    let layers = transfer.send(outlook)?;
    conclude(&transfer, None, image, layers, None)
}
