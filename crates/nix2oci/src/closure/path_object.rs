//! A store path as Nix describes it in JSON.
//!
//! Shared by structured attributes and `nix path-info --json`. Tolerant where
//! versions differ: hashes in any spelling, full paths or base names, `null`
//! or a missing key where nothing is known, keys that are of no use here
//! (`ca`, `signatures`, `closureSize`, …) in any shape.

use crate::error::{Error, Location, Result};
use crate::store::{StoreDir, StorePath};

use super::document::{self, Entry, Place};
use super::json::Json;

/// An object's key path.
pub(super) struct ObjectKey(Location);

impl Place for ObjectKey {
    fn entry(&self) -> Location {
        self.0.clone()
    }

    fn reference(&self, n: usize) -> Location {
        let object = match &self.0 {
            Location::Key(key) => key.as_str(),
            _ => "",
        };
        Location::Key(format!("{object}.references[{n}]"))
    }
}

/// Reads an object. `named` is the path if the object's own key tells it.
pub(super) fn entry(
    object: Json<'_, '_>,
    named: Option<StorePath>,
    store_dir: &StoreDir,
) -> Result<Entry<ObjectKey>> {
    let members = object.members("an object that describes a store path")?;
    let told = |name| members.find(name).filter(|text| *text != "null");

    let inside = told("path")
        .map(|text| store_path(object.member("path", text), store_dir))
        .transpose()?;
    let path = match (named, inside) {
        (Some(named), Some(inside)) if named != inside => {
            return Err(object.error(format!(
                "the key names {}, but its path is {}",
                store_dir.join(&named),
                store_dir.join(&inside)
            )));
        }
        (Some(path), _) | (None, Some(path)) => path,
        (None, None) => return Err(object.error("expected a key path with a store path")),
    };
    let full_path = store_dir.join(&path);

    if let Some(text) = told("storeDir") {
        check_store_dir(object.member("storeDir", text), store_dir)?;
    }
    if let Some(text) = told("valid") {
        let valid = object.member("valid", text);
        if !valid.boolean("true or false")? {
            return Err(invalid_path(valid, &full_path));
        }
    }

    let Some(text) = told("references") else {
        return Err(object.error(format!(
            "expected a key references with the references of {full_path}"
        )));
    };
    let list = object.member("references", text);
    let mut references = Vec::new();
    for (n, text) in list
        .elements("an array of store paths")?
        .into_iter()
        .enumerate()
    {
        references.push(store_path(list.element(n, text), store_dir)?);
    }

    let mut nar_hash = None;
    if let Some(text) = told("narHash") {
        let hash = object.member("narHash", text);
        let text = hash.string("a hash")?;
        let read = text
            .parse()
            .map_err(|error| hash.error(format!("NAR hash of {full_path}: {error}")))?;
        nar_hash = Some(read);
    }
    let mut nar_size = None;
    if let Some(text) = told("narSize") {
        let expected = format!("the NAR size of {full_path} in bytes");
        let size = object.member("narSize", text).whole_number(&expected)?;
        nar_size = document::known_size(size);
    }
    let deriver = told("deriver")
        .map(|text| store_path(object.member("deriver", text), store_dir))
        .transpose()?;

    Ok(Entry {
        place: ObjectKey(object.location()),
        path,
        references,
        nar_hash,
        nar_size,
        deriver,
    })
}

/// Reads a store path, in full or as a base name.
pub(super) fn store_path(text: Json<'_, '_>, store_dir: &StoreDir) -> Result<StorePath> {
    store_dir
        .parse_path_or_name(&text.string("a store path")?)
        .map_err(|error| text.error(error.to_string()))
}

/// Checks that a document is about the store that the caller means.
pub(super) fn check_store_dir(text: Json<'_, '_>, store_dir: &StoreDir) -> Result<()> {
    let found = text.string("a store directory")?;
    if found.parse().as_ref() == Ok(store_dir) {
        return Ok(());
    }
    Err(text.error(format!(
        "the store directory is {found:?}, expected {store_dir}"
    )))
}

/// Makes the error for a path that is not in the store.
pub(super) fn invalid_path(found: Json<'_, '_>, full_path: &str) -> Error {
    found.error(format!("{full_path} is not valid: it is not in the store"))
}
