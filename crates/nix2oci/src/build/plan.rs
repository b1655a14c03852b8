//! What a build would make, before anything is read.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use crate::closure::Closure;
use crate::content::nar_size;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{LayerContent, LayerKey, LayerSpec};
use crate::plan::{LayerPlan, PlanOptions, RootNode};
use crate::store::StorePath;

use super::ImageSpec;

/// How many store paths a layer's comment names.
const NAMES_IN_COMMENT: usize = 12;

/// The layers of an image, bottom first, none of them made yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImagePlan {
    /// The layers.
    pub layers: Vec<LayerOutline>,
    /// Store paths in all of them.
    pub paths: usize,
    /// The sum of their NAR sizes, in bytes.
    pub nar_size: u64,
}

/// A layer that is not made yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerOutline {
    /// What goes into it.
    pub spec: LayerSpec,
    /// Its key, if all NAR hashes are known.
    pub key: Option<LayerKey>,
    /// The sum of its paths' NAR sizes, in bytes.
    pub nar_size: u64,
    /// The strategy that made it, `named`, or `root-tree`.
    pub strategy: String,
    /// Why these paths are together, in a few words.
    pub reason: String,
}

impl LayerOutline {
    /// Returns the store paths in it, in the order in which they are packed.
    pub fn paths(&self) -> Vec<StorePath> {
        match &self.spec.content {
            LayerContent::StorePaths(paths) => paths.iter().map(|(p, _)| p.clone()).collect(),
            LayerContent::RootTree(_) => Vec::new(),
        }
    }

    /// Returns what is in it, for people: the comment of its history entry.
    pub(super) fn comment(&self) -> String {
        let LayerContent::StorePaths(paths) = &self.spec.content else {
            return "root tree".to_owned();
        };
        let mut comment = String::from("store paths:");
        for (path, _) in paths.iter().take(NAMES_IN_COMMENT) {
            comment.push(' ');
            comment.push_str(path.name());
        }
        let more = paths.len().saturating_sub(NAMES_IN_COMMENT);
        if more > 0 {
            comment.push_str(&format!(" and {more} more"));
        }
        comment
    }
}

/// Decides the layers of an image.
///
/// Reads no file contents; where the closure lacks NAR sizes, the paths'
/// directories and the sizes of their files are read.
///
/// # Errors
///
/// Those of [`Packing::check`](crate::layer::Packing::check) and
/// [`LayerPlan::new`], and [`ErrorKind::InvalidInput`](crate::error::ErrorKind::InvalidInput)
/// if the root tree leaves no layer for the store paths or would hide them.
pub fn plan(cx: &Context, spec: &ImageSpec) -> Result<ImagePlan> {
    spec.packing.check()?;
    check_root_tree(spec)?;
    let closure = sized(cx, spec)?;
    let mut layers = Vec::new();
    if spec.store_paths && !closure.is_empty() {
        let reserved = usize::from(!spec.root_tree.is_empty());
        let budget = NonZeroUsize::new(spec.max_layers.get() - reserved).ok_or_else(|| {
            Error::invalid(
                "the layer budget",
                "one layer is allowed, and the root tree needs one beside the store paths",
            )
        })?;
        let plan = LayerPlan::new(
            &closure,
            spec.strategy.as_ref(),
            &PlanOptions {
                budget,
                explicit: &spec.explicit_layers,
                keep: spec.keep_layers.as_ref(),
                share: &spec.share_layers,
                volatile: &spec.volatile,
            },
        )?;
        layers.extend(plan.layers().iter().map(|layer| {
            let paths = layer.paths.iter().map(|id| {
                let info = closure.info(*id);
                (info.path.clone(), info.nar_hash)
            });
            let spec_of_layer = LayerSpec {
                store_dir: closure.store_dir().clone(),
                content: LayerContent::StorePaths(paths.collect()),
            };
            LayerOutline {
                key: spec_of_layer.key(&spec.packing),
                spec: spec_of_layer,
                nar_size: layer.paths.iter().map(|id| closure.nar_size(*id)).sum(),
                strategy: layer.strategy.clone(),
                reason: layer.reason.clone(),
            }
        }));
    }
    // An image without any layer is refused by some loaders.
    if !spec.root_tree.is_empty() || layers.is_empty() {
        let spec_of_layer = LayerSpec {
            store_dir: closure.store_dir().clone(),
            content: LayerContent::RootTree(spec.root_tree.clone()),
        };
        layers.push(LayerOutline {
            key: spec_of_layer.key(&spec.packing),
            spec: spec_of_layer,
            nar_size: 0,
            strategy: "root-tree".to_owned(),
            reason: "files outside the store".to_owned(),
        });
    }
    Ok(ImagePlan {
        paths: layers.iter().map(|layer| layer.paths().len()).sum(),
        nar_size: layers.iter().map(|layer| layer.nar_size).sum(),
        layers,
    })
}

/// Refuses a root tree that would hide store paths or change them.
fn check_root_tree(spec: &ImageSpec) -> Result<()> {
    let store_dir = &spec.closure.store_dir().as_str()[1..];
    for (path, node) in spec.root_tree.nodes() {
        let is_link = matches!(node, RootNode::Symlink { .. });
        let hides = is_link && is_at_or_above(path, store_dir.as_bytes());
        let changes = path.len() > store_dir.len() && is_at_or_above(store_dir.as_bytes(), path);
        if hides || changes {
            return Err(Error::invalid(
                format!("/{}", String::from_utf8_lossy(path)),
                format!("it is in the root tree and would hide what is in /{store_dir}"),
            ));
        }
    }
    Ok(())
}

/// Returns whether `path` is `other` or a directory above it.
fn is_at_or_above(path: &[u8], other: &[u8]) -> bool {
    other
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Returns the closure with all NAR sizes, which strategies go by.
fn sized<'a>(cx: &Context, spec: &'a ImageSpec) -> Result<Cow<'a, Closure>> {
    if spec.closure.infos().iter().all(|i| i.nar_size.is_some()) {
        return Ok(Cow::Borrowed(&spec.closure));
    }
    let mut closure = spec.closure.clone();
    closure.set_nar_sizes(|path| nar_size(cx, spec.content.as_ref(), path))?;
    Ok(Cow::Owned(closure))
}
