//! `nix path-info --json --recursive`, as every version of Nix prints it.
//!
//! | Nix | shape |
//! | --- | --- |
//! | to 2.18, and Lix | an array of objects with `path` |
//! | from 2.19 | an object: full path → object, or `null` if it is not valid |
//! | 2.33, format 1 | the same, with `version` and `storeDir` in each object |
//! | 2.33, format 2 and 3 | `{ "version", "storeDir", "info" }`, base names, structured `ca` (and signatures) |
//!
//! An array with `path` and `references` alone, as tools around Nix make from
//! it, is read as well. Sources: NixOS/nix issue 13413, release notes of 2.33.

use std::path::PathBuf;

use crate::context::Context;
use crate::error::Result;
use crate::store::{StoreDir, StorePath};

use super::document::{self, Entry, Input};
use super::json::Json;
use super::path_object::{self, ObjectKey};
use super::source::{ClosureSource, PathInfos};

/// The newest format that is known.
const NEWEST: u64 = 3;

/// Reads the output of `nix path-info --json`. No roots are named.
///
/// # Errors
///
/// [`ErrorKind::Document`](crate::error::ErrorKind::Document) with the key
/// path (line and column if it is no JSON) for anything that is not a
/// described store path, for a path that is not valid, for a reference that is
/// not described, for a cycle, for two descriptions that differ, for another
/// store directory, and for a format that is not known.
pub fn parse(bytes: &[u8], document: &str, store_dir: &StoreDir) -> Result<PathInfos> {
    let whole = Json::parse(bytes, document)?;
    let entries = if whole.is_array() {
        array(whole, store_dir)?
    } else {
        object(whole, store_dir)?
    };
    Ok(PathInfos {
        infos: document::check(entries, document, store_dir)?,
        roots: Vec::new(),
    })
}

fn array(list: Json<'_, '_>, store_dir: &StoreDir) -> Result<Vec<Entry<ObjectKey>>> {
    list.elements("an array of described store paths")?
        .into_iter()
        .enumerate()
        .map(|(n, text)| path_object::entry(list.element(n, text), None, store_dir))
        .collect()
}

fn object(whole: Json<'_, '_>, store_dir: &StoreDir) -> Result<Vec<Entry<ObjectKey>>> {
    let members = whole.members("an array or an object of described store paths")?;
    if let Some(text) = members.find("version") {
        let version = whole.member("version", text);
        let found = version.whole_number("the number of a format")?;
        if !(1..=NEWEST).contains(&found) {
            return Err(version.error(format!(
                "format {found} is not known, expected 1 to {NEWEST}"
            )));
        }
    }
    if let Some(text) = members.find("storeDir") {
        path_object::check_store_dir(whole.member("storeDir", text), store_dir)?;
    }
    if let Some(text) = members.find("info") {
        let info = whole.member("info", text);
        if info.is_array() {
            return array(info, store_dir);
        }
        return info
            .members("an object of described store paths")?
            .iter()
            .map(|(name, text)| named(info.member(name, text), name, store_dir))
            .collect();
    }
    members
        .iter()
        .filter(|(name, _)| !matches!(*name, "version" | "storeDir"))
        .map(|(name, text)| named(whole.member(name, text), name, store_dir))
        .collect()
}

/// Reads an object whose key is the store path.
fn named(object: Json<'_, '_>, name: &str, store_dir: &StoreDir) -> Result<Entry<ObjectKey>> {
    let path = store_dir
        .parse_path_or_name(name)
        .map_err(|error| object.error(error.to_string()))?;
    if object.is_null() {
        return Err(path_object::invalid_path(object, &store_dir.join(&path)));
    }
    path_object::entry(object, Some(path), store_dir)
}

/// The output of `nix path-info --json`.
#[derive(Debug, Clone)]
pub struct PathInfoJson {
    pub(super) input: Input,
    pub(super) store_dir: StoreDir,
}

impl PathInfoJson {
    /// Makes the source that reads a file.
    pub fn new(file: impl Into<PathBuf>, store_dir: StoreDir) -> Self {
        Self {
            input: Input::File(file.into()),
            store_dir,
        }
    }

    /// Makes the source that reads `bytes`, called `name` in errors.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>, store_dir: StoreDir) -> Self {
        Self {
            input: Input::Bytes {
                name: name.into(),
                bytes,
            },
            store_dir,
        }
    }
}

impl ClosureSource for PathInfoJson {
    fn name(&self) -> String {
        self.input.name()
    }

    fn path_infos(&self, _: &Context, _: &[StorePath]) -> Result<PathInfos> {
        self.input
            .read(|bytes, document| parse(bytes, document, &self.store_dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/00000000000000000000000000000000-a";

    fn read(text: &str) -> Result<PathInfos> {
        let name = A.strip_prefix("/nix/store/").unwrap();
        let text = text.replace("$A", A).replace("$a", name);
        parse(text.as_bytes(), "info.json", &StoreDir::default())
    }

    fn problem(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn every_shape_says_the_same() {
        let array = read(r#"[{"path": "$A", "references": ["$A"], "narSize": 7}]"#).unwrap();
        assert_eq!(array.infos.len(), 1);
        assert_eq!(array.infos[0].nar_size, Some(7));
        for text in [
            r#"{"$A": {"references": ["$A"], "narSize": 7, "ca": null, "deriver": null}}"#,
            r#"{"$A": {"references": ["$A"], "narSize": 7, "version": 1, "storeDir": "/nix/store"}}"#,
            r#"{"version": 1, "storeDir": "/nix/store", "$A": {"references": ["$A"], "narSize": 7}}"#,
            r#"{"info": {"$a": {"references": ["$a"], "narSize": 7, "ca": {"method": "nar"}}},
                "storeDir": "/nix/store/", "version": 2, "news": [{}]}"#,
            r#"{"version": 3, "storeDir": "/nix/store", "info": {"$a": {
                "references": ["$a"], "narSize": 7, "signatures": [{"keyName": "k", "sig": "s"}]}}}"#,
        ] {
            assert_eq!(read(text).unwrap(), array, "{text}");
        }
        for empty in [
            "[]",
            "{}",
            r#"{"version": 2, "storeDir": "/nix/store", "info": {}}"#,
        ] {
            assert_eq!(read(empty).unwrap(), PathInfos::default());
        }
    }

    #[test]
    fn a_path_that_is_not_valid_is_named() {
        for (text, key) in [
            (r#"{"$A": null}"#, format!("[\"{A}\"]")),
            (
                r#"[{"path": "$A", "valid": false}]"#,
                "[0].valid".to_owned(),
            ),
        ] {
            let expected =
                format!("info.json, key {key}: {A} is not valid: it is not in the store");
            assert_eq!(problem(text), expected);
        }
    }

    #[test]
    fn problems_name_the_key() {
        for (text, expected) in [
            (
                r#"{"version": 3, "storeDir": "/gnu/store", "info": {}}"#,
                "key storeDir: the store directory is \"/gnu/store\", expected /nix/store",
            ),
            (
                r#"{"$A": {"references": [], "storeDir": "/gnu/store"}}"#,
                "key [\"/nix/store/00000000000000000000000000000000-a\"].storeDir: \
                 the store directory is \"/gnu/store\", expected /nix/store",
            ),
            (
                r#"{"version": 4, "info": {}}"#,
                "key version: format 4 is not known, expected 1 to 3",
            ),
            (
                r#"{"/gnu/store/x": {}}"#,
                "key [\"/gnu/store/x\"]: \"/gnu/store/x\" is not in the store directory /nix/store",
            ),
            (
                r#"[{"path": "$A", "references": ["11111111111111111111111111111111-b"]}]"#,
                "key [0].references[0]: /nix/store/00000000000000000000000000000000-a refers to \
                 /nix/store/11111111111111111111111111111111-b, which has no entry here",
            ),
            (
                r#"{"$A": {"path": "11111111111111111111111111111111-b", "references": []}}"#,
                "key [\"/nix/store/00000000000000000000000000000000-a\"]: the key names \
                 /nix/store/00000000000000000000000000000000-a, but its path is \
                 /nix/store/11111111111111111111111111111111-b",
            ),
            (
                r#"[{"path": "$A", "references": "$A"}]"#,
                "key [0].references: expected an array of store paths, \
                 found \"/nix/store/00000000000000000000000000000000-a\"",
            ),
        ] {
            assert_eq!(problem(text), format!("info.json, {expected}"));
        }
        assert_eq!(
            problem("7"),
            "info.json: expected an array or an object of described store paths, found 7"
        );
        assert_eq!(
            problem("[\n  {]"),
            "info.json, line 2, column 4: not JSON: key must be a string"
        );
    }
}
