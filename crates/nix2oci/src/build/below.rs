//! What a base has of the image that is planned on it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroUsize;

use crate::closure::{Closure, PathId};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::image::{BaseImage, BaseLayer, TablePath};
use crate::plan::{Ground, RootTree};

use super::replaced::{may_replace, warn_of_replaced};
use super::{ImageSpec, used};

/// What is below the layers that are planned.
pub(super) struct Below<'a> {
    /// The base's layers, bottom first; without the store paths that are added
    /// again.
    pub(super) layers: Vec<BaseLayer>,
    /// The closure's store paths that are in them or in layers that were made
    /// before, sorted.
    pub(super) paths: Vec<PathId>,
    /// The root tree as it is on top of them.
    pub(super) root_tree: Cow<'a, RootTree>,
    name: Option<&'a str>,
}

impl<'a> Below<'a> {
    /// Finds out what the base of an image has, if there is one.
    ///
    /// A store path of the closure that the base has with another NAR size is
    /// not the same: it is added again.
    pub(super) fn new(cx: &Context, spec: &'a ImageSpec, closure: &Closure) -> Result<Self> {
        let mut paths = used::below(spec, closure)?;
        let Some(base) = &spec.base else {
            return Ok(Self {
                layers: Vec::new(),
                paths,
                root_tree: Cow::Borrowed(&spec.root_tree),
                name: None,
            });
        };
        base.check_platform(&spec.config.platform)?;
        let store_dir = closure.store_dir();
        let for_links = !spec.root_tree.is_empty() || may_replace(spec);
        let contents = base.contents(cx, store_dir, for_links)?;
        check_store_dir(base, store_dir.as_str(), &contents.ground)?;
        warn_of_replaced(cx, spec, base, &contents.ground)?;
        let mut layers = base.layers().to_vec();
        let found = Found::new(closure);
        for (layer, listed) in layers.iter_mut().zip(&contents.paths) {
            let is_kept = |listed: &&TablePath| match found.find(listed) {
                None => true,
                Some((id, is_same)) => {
                    if is_same && spec.store_paths {
                        paths.push(id);
                    }
                    is_same
                }
            };
            layer.paths = listed.iter().filter(is_kept).cloned().collect();
        }
        paths.sort_unstable();
        paths.dedup();
        Ok(Self {
            layers,
            paths,
            root_tree: Cow::Owned(spec.root_tree.on(&contents.ground)?),
            name: Some(base.name()),
        })
    }

    /// Returns how many layers there may be for store paths.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if there are
    /// fewer than needed for what is in the image beside them, and one for them
    /// if there are some.
    pub(super) fn budget(&self, spec: &ImageSpec, has_paths: bool) -> Result<usize> {
        let most = spec.max_layers;
        // Those that are there before any is planned.
        let tars = spec.bottom_tars.len() + spec.layer_tars.len();
        let ready = tars + spec.used_layers.len();
        let others = usize::from(!self.root_tree.is_empty()) + ready;
        let left = most.get().checked_sub(self.layers.len() + others);
        let problem = match (left, self.name) {
            (Some(left), _) if left > 0 || !has_paths => {
                let most = spec.max_store_layers.map_or(left, NonZeroUsize::get);
                return Ok(left.min(most));
            }
            (_, Some(name)) => format!(
                "at most {most}, but the base image {name} has {} and {} more are needed",
                self.layers.len(),
                others + usize::from(has_paths),
            ),
            (_, None) if ready == 0 => {
                "one layer is allowed, and the root tree needs one beside the store paths"
                    .to_owned()
            }
            (_, None) => format!(
                "{most} layers are allowed, and {others} are taken by used layers, tars and the \
                 root tree beside the store paths"
            ),
        };
        Err(Error::invalid("the layer budget", problem))
    }
}

/// Refuses a base in which the store directory is somewhere else: a layer of
/// store paths would replace the link that leads there.
fn check_store_dir(base: &BaseImage, store_dir: &str, ground: &Ground) -> Result<()> {
    let path = &store_dir.as_bytes()[1..];
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
    let mut ends = ends.map(|(at, _)| at).chain([path.len()]);
    match ends.find(|end| ground.links.contains_key(&path[..*end])) {
        None => Ok(()),
        Some(end) => Err(Error::invalid(
            format!("the base image {}", base.name()),
            format!(
                "/{} is a symlink in it, where the store {store_dir} would be",
                String::from_utf8_lossy(&path[..end])
            ),
        )),
    }
}

/// Finds store paths of a closure of which perhaps only the beginning of the
/// hash is told.
struct Found<'a> {
    closure: &'a Closure,
    by_name: HashMap<&'a str, Vec<PathId>>,
}

impl<'a> Found<'a> {
    fn new(closure: &'a Closure) -> Self {
        let mut by_name: HashMap<&str, Vec<PathId>> = HashMap::with_capacity(closure.len());
        for id in closure.ids() {
            by_name.entry(closure.path(id).name()).or_default().push(id);
        }
        Self { closure, by_name }
    }

    /// Returns which path it is, and whether it has the same NAR size, as far as
    /// that is known.
    fn find(&self, listed: &TablePath) -> Option<(PathId, bool)> {
        let named = self.by_name.get(listed.path.name())?;
        let mut named = named.iter().copied();
        let id = named.find(|id| listed.path.matches(self.closure.path(*id)))?;
        let size = self.closure.nar_size(id);
        Some((id, listed.nar_size.is_none_or(|listed| listed == size)))
    }
}
