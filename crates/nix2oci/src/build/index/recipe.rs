//! An index whose digest is known and whose images are not stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::build::build::{PackedLayers, resolve_with};
use crate::build::numbered::Numbering;
use crate::build::{ImageSpec, Recipe};
use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, Location, Result};
use crate::image::assemble_index;
use crate::oci::{Reference, canonical_json};

use super::members::Members;
use super::{IndexPart, IndexSource, prepare, recipe_member};

/// The version of the format.
const VERSION: u64 = 1;

/// The recipes of images for several platforms, and the index of them.
///
/// It is a JSON document; see the fields. A reader must refuse a `version` that
/// it does not know and ignore fields that it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct IndexRecipe {
    /// 1.
    pub version: u64,
    /// The names that the index gets.
    pub names: Vec<String>,
    /// The digest of the index.
    pub index_digest: String,
    /// The annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The images, in the order of the index.
    pub recipes: Vec<Recipe>,
}

/// Finds out every digest of images for several platforms, and of an index of
/// them with these annotations, and keeps no layer. The images' own names do not
/// count.
///
/// Layers that several of them have are packed once.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) before anything
/// is read if two images are for one platform; those of
/// [`resolve`](crate::resolve).
pub fn resolve_index(
    cx: &Context,
    images: &[(String, &ImageSpec)],
    annotations: &BTreeMap<String, String>,
    names: &[Reference],
) -> Result<IndexRecipe> {
    let parts: Vec<IndexPart<'_>> = images
        .iter()
        .map(|(name, spec)| IndexPart {
            name: name.clone(),
            source: IndexSource::Image(spec),
        })
        .collect();
    prepare(cx, &parts)?;
    let numbering = Numbering::new(cx);
    let mut packed = PackedLayers::default();
    let mut recipes = Vec::with_capacity(images.len());
    for (_, spec) in images {
        let cx = numbering.next(cx);
        let mut recipe = resolve_with(&cx, spec, &mut packed)?;
        recipe.names.clear();
        recipes.push(recipe);
    }
    let mut recipe = IndexRecipe {
        version: VERSION,
        names: names.iter().map(ToString::to_string).collect(),
        index_digest: String::new(),
        annotations: annotations.clone(),
        recipes,
    };
    recipe.index_digest = recipe.digest("the index")?.to_string();
    Ok(recipe)
}

impl IndexRecipe {
    /// Returns the document: canonical JSON, the same for the same recipe, with
    /// a line break at the end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = canonical_json(self);
        json.push(b'\n');
        json
    }

    /// Returns whether a JSON document is of an index, not of one image.
    pub fn is_one(bytes: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Members {
            recipes: Option<serde::de::IgnoredAny>,
        }
        serde_json::from_slice::<Members>(bytes).is_ok_and(|members| members.recipes.is_some())
    }

    /// Reads a document; `name` names it in errors. Checks the version, each
    /// recipe as [`Recipe::parse`] does, and that the index has its digest.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let refuse = |key: &str, problem: String| {
            Error::document(name, Location::Key(key.to_owned()), problem)
        };
        let recipe: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::json_syntax(name, &error))?;
        if recipe.version != VERSION {
            let problem = format!(
                "{} is not a version that is known: expected {VERSION}",
                recipe.version
            );
            return Err(refuse("version", problem));
        }
        for (at, image) in recipe.recipes.iter().enumerate() {
            Recipe::parse(&image.to_json(), &format!("{name}, recipes[{at}]"))?;
        }
        let found = recipe.digest(name)?.to_string();
        if found != recipe.index_digest {
            let problem = format!(
                "the index has digest {found}, expected {}",
                recipe.index_digest
            );
            return Err(refuse("indexDigest", problem));
        }
        Ok(recipe)
    }

    /// Returns the digest of the index; fails if two images are for one platform.
    fn digest(&self, name: &str) -> Result<Digest> {
        let mut members = Members::default();
        let images = self.recipes.iter().enumerate().map(|(at, recipe)| {
            let name = format!("{name}, recipes[{at}]");
            Ok(recipe_member(&name, recipe, &mut members)?.1)
        });
        let images = images.collect::<Result<Vec<_>>>()?;
        Ok(assemble_index(&images, &self.annotations).digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_documents_are_refused() {
        for (json, problem) in [
            ("", "not JSON"),
            (r#"{"version":1}"#, "missing field"),
            (
                r#"{"version":2,"names":[],"indexDigest":"","recipes":[]}"#,
                "key version: 2 is not a version that is known",
            ),
            (
                r#"{"version":1,"names":[],"indexDigest":"sha256:0","recipes":[]}"#,
                "key indexDigest: the index has digest sha256:",
            ),
        ] {
            let told = IndexRecipe::parse(json.as_bytes(), "app.json").unwrap_err();
            let told = told.to_string();
            assert!(told.starts_with("app.json"), "{told}");
            assert!(told.contains(problem), "{told}");
        }
        assert!(IndexRecipe::is_one(br#"{"recipes":[]}"#));
        assert!(!IndexRecipe::is_one(br#"{"version":1}"#));
        assert!(!IndexRecipe::is_one(b"[]"));
    }
}
