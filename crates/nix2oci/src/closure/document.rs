//! What the entries of one document must have in common.
//!
//! Every format lists a closure, so each one is checked on its own, where the
//! place in the document is still known: a reference without an entry means a
//! truncated or filtered file.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Location, Result};
use crate::input::{InputKind, read_file};
use crate::store::{NarHash, PathInfo, StoreDir, StorePath};

use super::graph;

/// Where the bytes of a document come from.
#[derive(Debug, Clone)]
pub(super) enum Input {
    File(PathBuf),
    Bytes { name: String, bytes: Vec<u8> },
}

impl Input {
    /// Returns the document's name, as errors show it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    /// Calls `parse` with the bytes and the document's name.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&[u8], &str) -> Result<T>) -> Result<T> {
        match self {
            Self::File(path) => {
                let bytes = read_file(path, InputKind::Closure)?;
                parse(&bytes, &self.name())
            }
            Self::Bytes { name, bytes } => parse(bytes, name),
        }
    }
}

/// What a document says of one store path, and where.
pub(super) struct Entry<P> {
    pub(super) place: P,
    pub(super) path: StorePath,
    /// As written: in any order, with a self-reference, if there is one.
    pub(super) references: Vec<StorePath>,
    pub(super) nar_hash: Option<NarHash>,
    pub(super) nar_size: Option<u64>,
    pub(super) deriver: Option<StorePath>,
}

/// Where an entry is in its document.
pub(super) trait Place {
    /// Returns the place of the entry.
    fn entry(&self) -> Location;
    /// Returns the place of its reference number `n`, from 0.
    fn reference(&self, n: usize) -> Location;
}

/// Nix writes 0 where it does not know a NAR size; no NAR is empty.
pub(super) fn known_size(nar_size: u64) -> Option<u64> {
    (nar_size != 0).then_some(nar_size)
}

/// Checks that references have an entry each and form no cycle, and that
/// entries of one path agree; joins those.
///
/// Costs O(paths × log(paths) + references).
pub(super) fn check<P: Place>(
    entries: Vec<Entry<P>>,
    document: &str,
    store_dir: &StoreDir,
) -> Result<Vec<PathInfo>> {
    let mut first: HashMap<StorePath, usize> = HashMap::with_capacity(entries.len());
    let mut infos: Vec<PathInfo> = Vec::with_capacity(entries.len());
    let mut places: Vec<P> = Vec::with_capacity(entries.len());
    let mut references_as_written: Vec<Vec<StorePath>> = Vec::with_capacity(entries.len());

    for entry in entries {
        let mut info = PathInfo::new(entry.path, entry.references.iter().cloned());
        info.nar_hash = entry.nar_hash;
        info.nar_size = entry.nar_size;
        info.deriver = entry.deriver;
        if let Some(&index) = first.get(&info.path) {
            let old: &mut PathInfo = &mut infos[index];
            graph::join(old, info)
                .map_err(|error| named(&error, &entry.place, document, store_dir))?;
        } else {
            first.insert(info.path.clone(), infos.len());
            infos.push(info);
            places.push(entry.place);
            references_as_written.push(entry.references);
        }
    }

    for ((info, place), references) in infos.iter().zip(&places).zip(&references_as_written) {
        let missing = references.iter().position(|r| !first.contains_key(r));
        if let Some(n) = missing {
            return Err(Error::document(
                document,
                place.reference(n),
                format!(
                    "{} refers to {}, which has no entry here",
                    store_dir.join(&info.path),
                    store_dir.join(&references[n])
                ),
            ));
        }
    }
    drop(references_as_written);

    // One allocation for a path and all references to it.
    for info in &mut infos {
        for reference in &mut info.references {
            if let Some((path, _)) = first.get_key_value(reference) {
                *reference = path.clone();
            }
        }
    }

    let by_path = infos.iter().map(|info| (&info.path, info)).collect();
    match graph::sort(&by_path) {
        Ok(_) => Ok(infos),
        Err(error) => {
            let place = match error.kind() {
                ErrorKind::Cycle { cycle } => &places[first[&cycle[0]]],
                _ => return Err(error),
            };
            Err(named(&error, place, document, store_dir))
        }
    }
}

/// Says what a check of the graph found, with the place and the full paths.
fn named<P: Place>(error: &Error, place: &P, document: &str, store_dir: &StoreDir) -> Error {
    let problem = match error.kind() {
        ErrorKind::ConflictingPathInfo { path, difference } => format!(
            "a second entry for {} differs from the first: {difference}",
            store_dir.join(path)
        ),
        ErrorKind::Cycle { cycle } => {
            let ring: Vec<_> = cycle
                .iter()
                .chain(cycle.first())
                .map(|path| store_dir.join(path))
                .collect();
            format!(
                "store paths refer to each other in a cycle: {}",
                ring.join(" → ")
            )
        }
        _ => error.to_string(),
    };
    Error::document(document, place.entry(), problem)
}
