//! What to build.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use crate::closure::Closure;
use crate::content::ContentSource;
use crate::image::{BaseImage, ImageConfig};
use crate::layer::{Packing, TarFile, UsedLayer};
use crate::oci::Reference;
use crate::plan::{Cost, EarlierImage, ExplicitLayer, LayerStrategy, RootTree, Rule};
use crate::store::StorePath;

/// Layers that an image has at most, if nothing else is said: room for users
/// who build on it below the 125 that Docker's classic store loads.
pub const DEFAULT_MAX_LAYERS: NonZeroUsize = NonZeroUsize::new(100).expect("100 is not 0");

/// An image to be built.
#[non_exhaustive]
pub struct ImageSpec {
    /// The image that this one is built on.
    pub base: Option<BaseImage>,
    /// The store paths.
    pub closure: Closure,
    /// What is inside them.
    pub content: Arc<dyn ContentSource>,
    /// How they are grouped.
    pub strategy: Arc<dyn LayerStrategy>,
    /// Layers asked for by name.
    pub explicit_layers: Vec<ExplicitLayer>,
    /// The image that this one replaces: its layers are kept where that moves
    /// fewer bytes, if the strategy does such a thing.
    pub keep_layers: Option<EarlierImage>,
    /// Other images whose layers the destination has.
    pub share_layers: Vec<EarlierImage>,
    /// Layers that were made before: they are at the bottom of the image, on its
    /// base and in this order, and their store paths are in no other layer.
    pub used_layers: Vec<UsedLayer>,
    /// Store paths that change with every release.
    pub volatile: Vec<StorePath>,
    /// How many layers there may be, those of the root tree, the tars and the
    /// base included.
    pub max_layers: NonZeroUsize,
    /// How many of these there may be for store paths that no layer has yet.
    pub max_store_layers: Option<NonZeroUsize>,
    /// What shapes the layers' bytes.
    pub packing: Packing,
    /// Files outside the store; a layer above the store paths if there are any.
    pub root_tree: RootTree,
    /// Modes, owners and extended attributes by path, for files of the root
    /// tree and of the store paths; the later ones win.
    ///
    /// A layer that none of them can match in stays as it is without them.
    pub rules: Vec<Rule>,
    /// Tars that become layers as they are, below all others and in this order.
    pub bottom_tars: Vec<TarFile>,
    /// Tars that become layers as they are, above all others and in this order.
    pub layer_tars: Vec<TarFile>,
    /// Whether a base's config is the beginning of the image's, as it is for a
    /// Dockerfile.
    pub inherits_config: bool,
    /// What is said of the image's config.
    pub config: ImageConfig,
    /// The names that the image gets.
    pub names: Vec<Reference>,
    /// Whether the store paths are in the image. Without them a container must
    /// find them elsewhere, in a mounted store.
    pub store_paths: bool,
    /// Whether every store path's NAR hash is checked while it is read.
    pub verify: bool,
    /// Whether a program that the image's platform cannot run is an error; it
    /// is warned of otherwise. Of layers that a push does not make, what their
    /// programs are for is taken from the layer cache; where that does not know it
    /// they are looked into if this is set, unless that would be a download.
    /// Layers of a base and tars are not looked into.
    pub strict: bool,
}

impl ImageSpec {
    /// Makes one with the defaults: strategy `cost`, at most 100 layers,
    /// default packing, no base, nothing outside the store, no name, no check.
    pub fn new(closure: Closure, content: Arc<dyn ContentSource>, config: ImageConfig) -> Self {
        Self {
            base: None,
            closure,
            content,
            strategy: Arc::new(Cost),
            explicit_layers: Vec::new(),
            keep_layers: None,
            share_layers: Vec::new(),
            used_layers: Vec::new(),
            volatile: Vec::new(),
            max_layers: DEFAULT_MAX_LAYERS,
            max_store_layers: None,
            packing: Packing::default(),
            root_tree: RootTree::default(),
            rules: Vec::new(),
            bottom_tars: Vec::new(),
            layer_tars: Vec::new(),
            inherits_config: true,
            config,
            names: Vec::new(),
            store_paths: true,
            verify: false,
            strict: false,
        }
    }

    /// Returns what the image's config says, with that of the base if it is to be
    /// inherited.
    pub fn whole_config(&self) -> Cow<'_, ImageConfig> {
        match &self.base {
            Some(base) if self.inherits_config => Cow::Owned(base.config(&self.config)),
            _ => Cow::Borrowed(&self.config),
        }
    }

    /// Returns the rules that are about nothing in the image: no store path, no
    /// file of the root tree and no directory above the store has a name that
    /// they fit. What is inside of store paths is not looked at, so a rule that is
    /// not among them may still match nothing.
    pub fn idle_rules(&self) -> impl Iterator<Item = &Rule> {
        let store_dir = self.closure.store_dir();
        self.rules.iter().filter(move |rule| {
            let mut above = store_dir.as_path().ancestors();
            let mut infos = self.closure.infos().iter();
            !above.any(|dir| rule.matches_path(dir.as_os_str().as_bytes()))
                && !infos.any(|info| rule.may_match_in(&info.path, &store_dir.join(&info.path)))
                && !self.root_tree.is_matched_by(rule, store_dir)
        })
    }
}
