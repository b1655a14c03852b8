//! Rules in a recipe.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan::{Pattern, PatternKind, Rule};
use crate::store::StoreDir;

use super::recipe_node::{
    RecipeOwner, parse_mode, parse_owner, parse_xattrs, recipe_owner, recipe_xattrs,
};

/// A [`Rule`] in a recipe: one of three kinds of patterns, and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipeRule {
    /// A glob over paths in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// A regular expression over paths in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// A regular expression over paths in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The full path of the only store path whose files match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The permission bits of regular files, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<String>,
    /// The permission bits of directories, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_mode: Option<String>,
    /// Permission bits that are added to those of files and directories, in
    /// octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_mode: Option<String>,
    /// The owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<RecipeOwner>,
    /// Extended attributes by name, their values in base 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

pub(super) fn recipe_rules(rules: &[Rule], store_dir: &StoreDir) -> Vec<RecipeRule> {
    let octal = |mode: Option<u32>| mode.map(|mode| format!("{mode:o}"));
    let rules = rules.iter().map(|rule| {
        let mut recipe = RecipeRule {
            within: rule.within.as_ref().map(|path| store_dir.join(path)),
            file_mode: octal(rule.file_mode),
            directory_mode: octal(rule.directory_mode),
            add_mode: octal((rule.added_mode != 0).then_some(rule.added_mode)),
            owner: rule.owner.map(recipe_owner),
            xattrs: recipe_xattrs(&rule.xattrs),
            ..RecipeRule::default()
        };
        let place = match rule.pattern.kind() {
            PatternKind::Glob => &mut recipe.glob,
            PatternKind::Regex => &mut recipe.regex,
            PatternKind::Source => &mut recipe.source,
        };
        *place = Some(rule.pattern.text().to_owned());
        recipe
    });
    rules.collect()
}

pub(super) fn parse_rules(
    rules: &[RecipeRule],
    store_dir: &StoreDir,
) -> Result<Arc<[Rule]>, String> {
    rules
        .iter()
        .map(|rule| parse_rule(rule, store_dir))
        .collect()
}

fn parse_rule(recipe: &RecipeRule, store_dir: &StoreDir) -> Result<Rule, String> {
    let (kind, text) = match (&recipe.glob, &recipe.regex, &recipe.source) {
        (Some(text), None, None) => (PatternKind::Glob, text),
        (None, Some(text), None) => (PatternKind::Regex, text),
        (None, None, Some(text)) => (PatternKind::Source, text),
        _ => return Err("expected one of glob, regex and source in each".to_owned()),
    };
    let mode = |mode: &Option<String>| mode.as_deref().map(parse_mode).transpose();
    let mut rule = Rule::new(Pattern::new(kind, text).map_err(|e| e.to_string())?);
    let within = recipe.within.as_deref();
    rule.within = within
        .map(|path| store_dir.parse_path(path))
        .transpose()
        .map_err(|e| e.to_string())?;
    rule.file_mode = mode(&recipe.file_mode)?;
    rule.directory_mode = mode(&recipe.directory_mode)?;
    rule.added_mode = mode(&recipe.add_mode)?.unwrap_or(0);
    rule.owner = recipe.owner.as_ref().map(parse_owner);
    rule.xattrs = parse_xattrs(&recipe.xattrs)?;
    rule.check().map_err(|e| e.to_string())?;
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Owner;

    #[test]
    fn rules_are_read_back() {
        let store_dir = StoreDir::default();
        let kinds = [PatternKind::Glob, PatternKind::Regex, PatternKind::Source];
        let rules = kinds.map(|kind| {
            let mut rule = Rule::new(Pattern::new(kind, "/a").unwrap());
            rule.within = Some(format!("{}-a", "0".repeat(32)).parse().unwrap());
            rule.file_mode = Some(0o4755);
            rule.directory_mode = Some(0o1777);
            rule.added_mode = 0o2000;
            rule.owner = Some(Owner { uid: 1, gid: 2 });
            rule.xattrs = [("user.x".to_owned(), vec![0, 255])].into();
            rule
        });
        let recipe = recipe_rules(&rules, &store_dir);
        assert_eq!(*parse_rules(&recipe, &store_dir).unwrap(), rules);
        for wrong in [
            RecipeRule::default(),
            RecipeRule {
                regex: Some("a".to_owned()),
                ..recipe[0].clone()
            },
            RecipeRule {
                glob: Some("a".to_owned()),
                ..recipe[0].clone()
            },
            RecipeRule {
                file_mode: Some("9".to_owned()),
                ..recipe[0].clone()
            },
            RecipeRule {
                within: Some("/a".to_owned()),
                ..recipe[0].clone()
            },
        ] {
            assert!(parse_rules(&[wrong], &store_dir).is_err());
        }
    }
}
