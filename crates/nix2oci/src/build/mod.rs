//! The verbs: read [`build()`] first, it is the whole line.
//!
//! - [`plan()`]: which layers there will be; reads no contents
//! - [`build()`]: an image into a sink
//! - [`push()`]: what a registry lacks of an image, to there
//! - [`copy()`], [`copy_all`]: stored images into a sink
//! - [`build_recipe`]: the image that a recipe is of, into a sink
//! - [`build_index`], `push_index`: images for several platforms, and an index
//! - [`make_layers`]: layers by themselves, which images use later
//! - [`ForeignImage`]: an image that the build of another tool describes
//! - [`resolve()`]: every digest, no bytes: a [`Recipe`]

mod base;
mod below;
#[expect(
    clippy::module_inception,
    reason = "the verb that the floor is named after"
)]
mod build;
mod compat;
mod copy;
mod download;
mod index;
mod layer_file;
mod mismatch;
mod numbered;
mod plan;
mod programs;
#[cfg(feature = "registry")]
mod push;
mod recipe;
mod recipe_image;
mod recipe_node;
mod recipe_parts;
mod recipe_rule;
mod replaced;
mod report;
mod spec;
mod used;
mod watched;

pub use build::{build, resolve};
pub use compat::{
    ForeignFormat, ForeignImage, ForeignOptions, ForeignTar, ForeignTime, TarDigest,
    described_layers,
};
pub use copy::{ImageCopy, copy, copy_all};
pub use download::download_sizes;
pub use index::{
    CopiedImage, IndexImageReport, IndexPart, IndexRecipe, IndexReport, IndexSource, build_index,
    check_index, resolve_index,
};
pub use layer_file::{
    LAYER_FILE, LAYER_FILE_VERSION, LayerFile, LayerFileReference, MadeLayer, UsedLayers,
    make_layers,
};
pub use plan::{ImagePlan, LayerOutline, plan};
#[cfg(feature = "registry")]
pub use push::{
    KnownImage, LayerForecast, LayerState, PushForecast, PushOptions, PushReport, PushSource,
    PushedIndex, PushedLayer, UploadEstimate, forecast, forecast_over, push, push_index,
};
pub use recipe::{RECIPE_VERSION, Recipe, RecipeBase, RecipeLayer, RecipePacking, RecipePath};
pub use recipe_image::{RecipeSource, build_recipe};
pub use recipe_node::{RecipeNode, RecipeOwner, RecipeStoredFile};
pub use recipe_parts::RecipeParts;
pub use recipe_rule::RecipeRule;
pub use report::{BuildReport, LayerReport};
pub use spec::{DEFAULT_MAX_LAYERS, ImageSpec};
