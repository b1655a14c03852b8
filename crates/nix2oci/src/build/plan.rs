//! What a build would make, before anything is read.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use crate::closure::Closure;
use crate::content::set_nar_sizes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::image::BaseLayer;
use crate::layer::{LayerContent, LayerKey, LayerSpec, Packing, TarFile};
use crate::plan::{EarlierImage, LayerOrigin, LayerPlan, PlanOptions, RootNode, RootTree, Rule};
use crate::store::{StoreDir, StorePath};

use super::below::Below;
use super::{ImageSpec, used};

/// The layers of an image, bottom first, none of them made yet.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImagePlan {
    /// The layers of the base, below all others: they are there already.
    pub base: Vec<BaseLayer>,
    /// The layers on it.
    pub layers: Vec<LayerOutline>,
    /// Store paths in all of them, without those of the base.
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
    /// The sum of its paths' NAR sizes, in bytes; of a root tree the bytes of
    /// its files, of a tar all of its bytes.
    pub nar_size: u64,
    /// The NAR size of each of its paths, in bytes and in the order of
    /// [`paths`](Self::paths). Empty if a recipe made the layer, which tells
    /// their sum alone.
    pub nar_sizes: Vec<u64>,
    /// The strategy that made it, `named`, `used`, `root-tree` or `tar`.
    pub strategy: String,
    /// Why these paths are together, in a few words.
    pub reason: String,
    /// Whether an image that was named to keep or share layers of has such a
    /// layer, by its store paths.
    pub origin: LayerOrigin,
}

impl LayerOutline {
    /// Returns the store paths in it, in the order in which they are packed.
    pub fn paths(&self) -> Vec<StorePath> {
        let paths = self.spec.content.store_paths();
        paths.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Returns its bytes before compression as far as they are known: the sum
    /// of the NAR sizes, or the size of a tar that is there or was made.
    pub(super) fn unpacked_size(&self) -> u64 {
        match &self.spec.content {
            LayerContent::Tar(tar) => tar.size(),
            LayerContent::Used(used) => used.record.uncompressed_size,
            LayerContent::StorePaths(_) | LayerContent::RootTree(_) => self.nar_size,
        }
    }

    /// Returns the name of its largest path, by NAR size; of several the first
    /// in the alphabet.
    pub(super) fn label(&self) -> &str {
        let (spec, _) = self.spec.made_of(Packing::default());
        let paths = match &spec.content {
            LayerContent::StorePaths(paths) => paths,
            LayerContent::RootTree(_) => return "root tree",
            // Its name would shape the history, and may be any.
            LayerContent::Tar(_) | LayerContent::Used(_) => return "tar",
        };
        let size = |at: usize| self.nar_sizes.get(at).copied().unwrap_or(0);
        (0..paths.len())
            .max_by_key(|at| (size(*at), Reverse(paths[*at].0.name())))
            .map_or("", |at| paths[at].0.name())
    }

    /// Returns what is in it, for people, as its history entry says it.
    pub(super) fn summary(&self) -> String {
        match self.paths().len().saturating_sub(1) {
            0 => self.label().to_owned(),
            more => format!("{} and {more} more", self.label()),
        }
    }
}

/// Decides the layers of an image.
///
/// Reads no file contents; where the closure lacks NAR sizes, the paths'
/// directories and the sizes of their files are read. Of a base the layers are
/// read if there is a root tree or a tar, whose files must not replace a link, of
/// which the observer is warned, or if its config speaks of the store and no table of it tells its store paths.
///
/// # Errors
///
/// Those of [`Packing::check`](crate::layer::Packing::check),
/// [`Rule::check`](crate::plan::Rule::check) and [`LayerPlan::new`], and
/// [`ErrorKind::InvalidInput`](crate::error::ErrorKind::InvalidInput) if the
/// root tree or a tar leaves no layer for the store paths or would hide them, or
/// if the base is for another platform or has too many layers; those of reading
/// the base.
pub fn plan(cx: &Context, spec: &ImageSpec) -> Result<ImagePlan> {
    plan_on(cx, spec, spec.keep_layers.as_ref())
}

/// The same, with another image to plan on from than the spec's.
pub(super) fn plan_on(
    cx: &Context,
    spec: &ImageSpec,
    keep: Option<&EarlierImage>,
) -> Result<ImagePlan> {
    spec.packing.check()?;
    for rule in &spec.rules {
        rule.check()?;
    }
    check_layer_tars(spec)?;
    let closure = sized(cx, spec)?;
    let below = Below::new(cx, spec, &closure)?;
    let root_tree = below.root_tree.as_ref();
    check_root_tree(root_tree, closure.store_dir())?;
    let has_paths = spec.store_paths && closure.len() > below.paths.len();
    let budget = below.budget(spec, has_paths)?;
    let mut layers: Vec<_> = tar_layers(spec, &spec.bottom_tars).collect();
    layers.extend(used::outlines(spec));
    if has_paths {
        let budget = NonZeroUsize::new(budget).expect("a layer for store paths was asked for");
        let plan = LayerPlan::new(
            &closure,
            spec.strategy.as_ref(),
            &PlanOptions {
                budget,
                explicit: &spec.explicit_layers,
                keep,
                share: &spec.share_layers,
                volatile: &spec.volatile,
                below: &below.paths,
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
                rules: Arc::default(),
            };
            let spec_of_layer = LayerSpec {
                rules: rules_of(&spec.rules, &spec_of_layer),
                ..spec_of_layer
            };
            let nar_sizes: Vec<u64> = layer.paths.iter().map(|id| closure.nar_size(*id)).collect();
            LayerOutline {
                key: spec_of_layer.key(&spec.packing),
                spec: spec_of_layer,
                nar_size: nar_sizes.iter().copied().fold(0, u64::saturating_add),
                nar_sizes,
                strategy: layer.strategy.clone(),
                reason: layer.reason.clone(),
                origin: layer.origin,
            }
        }));
    }
    // An image without any layer is refused by some loaders.
    let has_others = !layers.is_empty() || !below.layers.is_empty() || !spec.layer_tars.is_empty();
    if !root_tree.is_empty() || !has_others {
        let spec_of_layer = LayerSpec {
            store_dir: closure.store_dir().clone(),
            content: LayerContent::RootTree(
                root_tree.with_rules(&spec.rules, closure.store_dir())?,
            ),
            rules: spec
                .rules
                .iter()
                .filter(|rule| rule.matches_path(b"/"))
                .cloned()
                .collect(),
        };
        layers.push(LayerOutline {
            key: spec_of_layer.key(&spec.packing),
            spec: spec_of_layer,
            nar_size: root_tree.file_bytes(),
            nar_sizes: Vec::new(),
            strategy: "root-tree".to_owned(),
            reason: "files outside the store".to_owned(),
            origin: LayerOrigin::New,
        });
    }
    layers.extend(tar_layers(spec, &spec.layer_tars));
    Ok(ImagePlan {
        paths: layers.iter().map(|layer| layer.paths().len()).sum(),
        nar_size: layers
            .iter()
            .map(|layer| layer.nar_size)
            .fold(0, u64::saturating_add),
        base: below.layers,
        layers,
    })
}

/// Returns the layers of tars that are there.
fn tar_layers(spec: &ImageSpec, tars: &[TarFile]) -> impl Iterator<Item = LayerOutline> {
    tars.iter().map(|tar| {
        let spec_of_layer = LayerSpec {
            store_dir: spec.closure.store_dir().clone(),
            content: LayerContent::Tar(tar.clone()),
            rules: Arc::default(),
        };
        LayerOutline {
            key: spec_of_layer.key(&spec.packing),
            spec: spec_of_layer,
            nar_size: tar.size(),
            nar_sizes: Vec::new(),
            strategy: "tar".to_owned(),
            reason: format!("{}, as it is", tar.path().display()),
            origin: LayerOrigin::New,
        }
    })
}

/// Refuses tars that would hide the store paths below them.
fn check_layer_tars(spec: &ImageSpec) -> Result<()> {
    let has_store = spec.store_paths && !spec.closure.is_empty();
    for tar in spec.layer_tars.iter().filter(|_| has_store) {
        if let Some(path) = tar.hides_store() {
            return Err(Error::invalid(
                tar.path().display().to_string(),
                format!(
                    "its entry {path} would hide what is in {}",
                    spec.closure.store_dir()
                ),
            ));
        }
    }
    Ok(())
}

/// Returns the rules that may match in a layer of store paths, or match one of
/// the directories above them.
fn rules_of(rules: &[Rule], layer: &LayerSpec) -> Arc<[Rule]> {
    let LayerContent::StorePaths(paths) = &layer.content else {
        return Arc::default();
    };
    let may_match = |rule: &&Rule| {
        let mut above = layer.store_dir.as_path().ancestors();
        above.any(|dir| rule.matches_path(dir.as_os_str().as_bytes()))
            || paths
                .iter()
                .any(|(path, _)| rule.may_match_in(path, &layer.store_dir.join(path)))
    };
    rules.iter().filter(may_match).cloned().collect()
}

/// Refuses a root tree that would hide store paths or change them.
fn check_root_tree(root_tree: &RootTree, store_dir: &StoreDir) -> Result<()> {
    let store_dir = &store_dir.as_str()[1..];
    for (path, node, _) in root_tree.nodes() {
        let is_directory = matches!(node, RootNode::Directory);
        let hides = !is_directory && is_at_or_above(path, store_dir.as_bytes());
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
    set_nar_sizes(cx, spec.content.as_ref(), &mut closure)?;
    Ok(Cow::Owned(closure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(paths: &[(&str, u64)]) -> LayerOutline {
        let path = |(name, _): &(&str, u64)| {
            let path = format!("{}-{name}", "0".repeat(32)).parse().unwrap();
            (path, None)
        };
        LayerOutline {
            spec: LayerSpec {
                store_dir: "/nix/store".parse().unwrap(),
                content: LayerContent::StorePaths(paths.iter().map(path).collect()),
                rules: Arc::default(),
            },
            key: None,
            nar_size: 0,
            nar_sizes: paths.iter().map(|(_, size)| *size).collect(),
            strategy: String::new(),
            reason: String::new(),
            origin: LayerOrigin::New,
        }
    }

    #[test]
    fn a_layer_is_called_by_its_largest_path() {
        for (paths, label, summary) in [
            (&[("a", 1)][..], "a", "a"),
            (&[("a", 1), ("b", 3), ("c", 2)], "b", "b and 2 more"),
            (&[("c", 1), ("a", 1), ("b", 1)], "a", "a and 2 more"),
        ] {
            let layer = outline(paths);
            assert_eq!((layer.label(), &*layer.summary()), (label, summary));
        }
        let mut without_sizes = outline(&[("b", 1), ("a", 1)]);
        without_sizes.nar_sizes.clear();
        assert_eq!(without_sizes.summary(), "a and 1 more");
        let mut root_tree = outline(&[]);
        root_tree.spec.content = LayerContent::RootTree(RootTree::default());
        assert_eq!(root_tree.summary(), "root tree");
    }
}
