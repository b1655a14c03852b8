//! What the rules of a layer say of its files.

use crate::error::{Error, Result};
use crate::plan::{FileKind, Metadata, Rule};
use crate::store::{StoreDir, StorePath};

use super::show;
use super::tar::Attributes;

/// The rules of a layer of store paths.
pub(super) struct LayerRules<'a> {
    rules: &'a [Rule],
    store_dir: &'a StoreDir,
}

/// The rules that may match in one store path.
pub(super) struct PathRules<'a> {
    path: &'a StorePath,
    rules: Vec<&'a Rule>,
}

/// What rules say of one file, if any of them matches.
pub(super) struct OwnMetadata(Option<Metadata>);

impl<'a> LayerRules<'a> {
    pub(super) fn new(rules: &'a [Rule], store_dir: &'a StoreDir) -> Self {
        Self { rules, store_dir }
    }

    /// Returns what they say of a directory that comes from no store path and
    /// has a mode by itself; `place` is relative to the root.
    pub(super) fn of_directory(&self, place: &[u8], own_mode: u32) -> Result<OwnMetadata> {
        let file = (FileKind::Directory, own_mode);
        matching(self.rules.iter(), place, file, Rule::matches_path)
    }

    /// Picks those that may match in a store path: most match in none.
    pub(super) fn of_store_path(&self, path: &'a StorePath) -> PathRules<'a> {
        let mut rules: Vec<_> = self.rules.iter().collect();
        if !rules.is_empty() {
            let full = self.store_dir.join(path);
            rules.retain(|rule| rule.may_match_in(path, &full));
        }
        PathRules { path, rules }
    }
}

impl PathRules<'_> {
    /// Returns what they say of a file of the store path that has a mode by
    /// itself; `place` is relative to the root.
    pub(super) fn of(&self, place: &[u8], kind: FileKind, own_mode: u32) -> Result<OwnMetadata> {
        let matches = |rule: &Rule, at: &[u8]| rule.matches_copy(at, self.path, at);
        matching(self.rules.iter().copied(), place, (kind, own_mode), matches)
    }
}

fn matching<'r>(
    rules: impl ExactSizeIterator<Item = &'r Rule>,
    place: &[u8],
    (kind, own_mode): (FileKind, u32),
    matches: impl Fn(&Rule, &[u8]) -> bool,
) -> Result<OwnMetadata> {
    if rules.len() == 0 {
        return Ok(OwnMetadata(None));
    }
    let at = [b"/", place].concat();
    let mut found = None;
    for rule in rules.filter(|rule| matches(rule, &at)) {
        rule.apply(kind, own_mode, found.get_or_insert_default());
    }
    // Each rule is fine, and all of them may be too much for one file.
    if let Some(Err(problem)) = found.as_ref().map(Metadata::check) {
        return Err(Error::invalid(show(&at), problem));
    }
    Ok(OwnMetadata(found))
}

impl OwnMetadata {
    /// Returns the attributes of a file that has these by default.
    pub(super) fn attributes<'a>(&'a self, default: Attributes<'a>) -> Attributes<'a> {
        match &self.0 {
            Some(metadata) => own_attributes(metadata, default),
            None => default,
        }
    }
}

/// Returns the attributes of a file that has these by default.
pub(super) fn own_attributes<'a>(
    metadata: &'a Metadata,
    default: Attributes<'a>,
) -> Attributes<'a> {
    Attributes {
        mode: metadata.mode.unwrap_or(default.mode),
        owner: metadata.owner.or(default.owner),
        xattrs: &metadata.xattrs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Pattern, PatternKind};

    #[test]
    fn a_file_has_no_more_attributes_than_linux_lets_it_whatever_rules_add_up_to() {
        let rule = |glob: &str, name: &str| {
            let mut rule = Rule::new(Pattern::new(PatternKind::Glob, glob).unwrap());
            rule.xattrs.insert(name.to_owned(), vec![0; 40_000]);
            rule.check().unwrap();
            rule
        };
        let path: StorePath = "0123456789abcdfghijklmnpqrsvwxyz-a".parse().unwrap();
        let store_dir = StoreDir::default();
        let all = [rule("/**", "user.a"), rule("/**/b", "user.b")];
        let of = |rules: &[Rule], name: &str, kind| {
            let rules = LayerRules::new(rules, &store_dir);
            let place = format!("nix/store/{path}/{name}");
            let of_store_path = rules.of_store_path(&path);
            let of_store_path = of_store_path.of(place.as_bytes(), kind, 0o555);
            let said = of_store_path.map(drop).map_err(|error| error.to_string());
            if kind == FileKind::Directory {
                let of_directory = rules.of_directory(place.as_bytes(), 0o555).map(drop);
                assert_eq!(of_directory.map_err(|error| error.to_string()), said);
            }
            said
        };
        for kind in [FileKind::File, FileKind::Directory] {
            of(&all, "a", kind).unwrap();
            assert_eq!(
                of(&all, "b", kind).unwrap_err(),
                format!(
                    "/nix/store/{path}/b: its extended attributes have 80012 bytes, and 65536 is \
                     the most"
                )
            );
        }
        of(&all, "b", FileKind::Symlink).unwrap();
        // The later of two that say the same counts alone.
        let same = [rule("/**", "user.a"), rule("/**/b", "user.a")];
        of(&same, "b", FileKind::File).unwrap();
    }
}
