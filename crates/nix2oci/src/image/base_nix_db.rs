//! The Nix database of a base.

use crate::closure::ValidPaths;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::StoreDir;

use super::base_files::SpooledFiles;

/// The database, and what SQLite keeps beside one that was not closed: an image
/// that was made of a running container may have that.
pub(super) const FILES: [&str; 3] = [
    DATABASE,
    "nix/var/nix/db/db.sqlite-wal",
    "nix/var/nix/db/db.sqlite-journal",
];

const DATABASE: &str = "nix/var/nix/db/db.sqlite";

/// Reads what is registered; none if there is no database.
pub(super) fn valid_paths(
    cx: &Context,
    files: SpooledFiles,
    image: &str,
    store_dir: &StoreDir,
) -> Result<Option<ValidPaths>> {
    if !files.contains_key(DATABASE) {
        return Ok(None);
    }
    let dir = tempfile::Builder::new()
        .prefix("nix2oci-base-db-")
        .tempdir_in(&cx.spool_dir)
        .map_err(Error::writing("create a folder in", &cx.spool_dir))?;
    for (path, file) in files {
        let name = path.rsplit('/').next().unwrap_or(path);
        file.persist(dir.path().join(name))
            .map_err(|error| Error::writing("move a file to", dir.path())(error.error))?;
    }
    let name = format!("/{DATABASE} of the base image {image}");
    ValidPaths::read_own(cx, &dir.path().join("db.sqlite"), &name, store_dir).map(Some)
}
