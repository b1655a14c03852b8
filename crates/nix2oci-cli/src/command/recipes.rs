//! Recipes, whose images are made again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nix2oci::build::{
    IndexImageReport, IndexPart, IndexRecipe, IndexSource, RecipeSource, build_index, build_recipe,
};
use nix2oci::image::BaseImage;
use nix2oci::input::{InputKind, read_file};
use nix2oci::layer::Codec;
use nix2oci::oci::{MediaType, Platform, Reference, display_platform, parse_reference};
use nix2oci::{ContentSource, Context, Digest, ImageSink, Recipe};

use crate::args::ContentArgs;
use crate::exit::{Failure, Outcome};
use crate::select::Reach;

/// The images of a recipe.
pub(super) struct Recipes {
    /// Each with what errors call it, and what is inside its store paths.
    pub(super) images: Vec<(String, Recipe, Arc<dyn ContentSource>)>,
    /// What is said of the index, if it is of one: its annotations and names.
    pub(super) index: Option<Index>,
}

impl Recipes {
    /// Reads a recipe of one image, or of an index, and opens what is inside
    /// its store paths.
    pub(super) fn read(
        cx: &Context,
        file: &Path,
        args: &ContentArgs,
        reach: &Reach<'_>,
    ) -> Outcome<Self> {
        let (recipes, index) = parse(file)?;
        let images = recipes.into_iter().map(|(name, recipe)| {
            let content = super::push::content_of(cx, &recipe, &name, args, reach)?;
            Ok((name, recipe, content))
        });
        Ok(Self {
            images: images.collect::<Outcome<_>>()?,
            index,
        })
    }

    /// Reads the recipes alone: of all images, or of the one for a platform.
    pub(super) fn open(file: &Path, platform: Option<&Platform>) -> Outcome<Vec<(String, Recipe)>> {
        let (mut recipes, _) = parse(file)?;
        if let Some(platform) = platform {
            let at = place(
                recipes.iter().map(|(name, recipe)| (&**name, recipe)),
                platform,
            )?;
            recipes = vec![recipes.swap_remove(at)];
        }
        Ok(recipes)
    }

    /// Leaves the image for one platform alone, if one is wanted.
    pub(super) fn choose(&mut self, platform: Option<&Platform>) -> Outcome<()> {
        let Some(platform) = platform else {
            return Ok(());
        };
        let images = self.images.iter();
        let at = place(images.map(|(name, recipe, _)| (&**name, recipe)), platform)?;
        self.images = vec![self.images.swap_remove(at)];
        if let Some((_, names)) = self.index.take() {
            self.images[0].1.names = names;
        }
        Ok(())
    }

    /// Returns the names that the recipe gives what it is of.
    pub(super) fn names(&self) -> Outcome<Vec<Reference>> {
        let texts = match (&self.index, &self.images[..]) {
            (Some((_, names)), _) => names,
            (None, [(_, recipe, _), ..]) => &recipe.names,
            (None, []) => return Ok(Vec::new()),
        };
        let names = texts.iter().map(|text| {
            let name = parse_reference(text);
            name.map_err(|error| Failure::input(format!("the name {text}: {error}")))
        });
        names.collect()
    }

    /// Returns the one image that they are, unless they are an index.
    pub(super) fn image<'a>(&'a self, base: Option<&'a BaseImage>) -> Option<RecipeSource<'a>> {
        match (&self.index, &self.images[..]) {
            (None, [(name, recipe, content)]) => Some(RecipeSource {
                recipe,
                name,
                content: Arc::clone(content),
                base,
            }),
            _ => None,
        }
    }

    /// Gives a sink the image or the index that they are of. Returns its digest
    /// and the bytes of each layer.
    pub(super) fn put(
        &self,
        cx: &Context,
        base: Option<&BaseImage>,
        names: &[Reference],
        sink: &mut dyn ImageSink,
    ) -> nix2oci::Result<(Digest, Vec<u64>)> {
        if let Some(source) = self.image(base) {
            let built = build_recipe(cx, &source, names, sink)?;
            return Ok((built.manifest_digest, built.sizes().collect()));
        }
        let parts: Vec<_> = self.parts().collect();
        let built = build_index(cx, &parts, &self.annotations(), names, sink)?;
        let mut sizes = BTreeMap::new();
        for image in &built.images {
            if let IndexImageReport::Built(image) = image {
                let layers = image.layers.iter();
                sizes.extend(layers.map(|layer| (layer.record.digest, layer.record.size)));
            }
        }
        Ok((built.manifest_digest, sizes.into_values().collect()))
    }

    /// Returns the annotations of the index that they are.
    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let said = self.index.iter().flat_map(|(said, _)| said.clone());
        said.collect()
    }

    /// Returns whether a layer of theirs is compressed with zstd.
    pub(super) fn has_zstd(&self) -> bool {
        self.images.iter().any(|(_, recipe, _)| has_zstd(recipe))
    }

    /// Returns the images as parts of an index.
    pub(super) fn parts(&self) -> impl Iterator<Item = IndexPart<'_>> {
        self.images.iter().map(|(name, recipe, content)| IndexPart {
            name: name.clone(),
            source: IndexSource::Recipe {
                recipe,
                content: Arc::clone(content),
            },
        })
    }
}

/// A recipe, and what errors call it.
type Named = (String, Recipe);

/// What is said of an index: its annotations and names.
type Index = (BTreeMap<String, String>, Vec<String>);

/// Reads a recipe of one image, or of an index. Each image has what errors call
/// it.
fn parse(file: &Path) -> Outcome<(Vec<Named>, Option<Index>)> {
    let name = file.display().to_string();
    let bytes = read_file(file, InputKind::Recipe)?;
    if !IndexRecipe::is_one(&bytes) {
        let recipe = Recipe::parse(&bytes, &name)?;
        return Ok((vec![(name, recipe)], None));
    }
    let index = IndexRecipe::parse(&bytes, &name)?;
    let recipes = index.recipes.into_iter().enumerate();
    let recipes = recipes.map(|(at, recipe)| (format!("{name}, recipes[{at}]"), recipe));
    Ok((recipes.collect(), Some((index.annotations, index.names))))
}

/// Finds the image for a platform.
fn place<'a>(
    recipes: impl Iterator<Item = (&'a str, &'a Recipe)>,
    platform: &Platform,
) -> Outcome<usize> {
    let wanted = display_platform(platform);
    let mut found = Vec::new();
    for (name, recipe) in recipes {
        found.extend(recipe.listing(name)?.platform);
    }
    found
        .iter()
        .position(|platform| *platform == wanted)
        .ok_or_else(|| {
            Failure::input(format!(
                "the recipe has no image for {wanted}, only for {}",
                found.join(", ")
            ))
        })
}

/// Returns whether a layer of a recipe's image is compressed with zstd.
pub(super) fn has_zstd(recipe: &Recipe) -> bool {
    let types = recipe.layers.iter().map(|layer| layer.media_type.as_str());
    let mut codecs = types.map(|text| Codec::of_media_type(&MediaType::from(text)));
    codecs.any(|codec| codec == Some(Codec::Zstd))
}
