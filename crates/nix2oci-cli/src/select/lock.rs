//! Locks: what is pinned, and where the layers lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix2oci::image::{BlobFiles, ImageLock, ImageReader, ImageSource};
use nix2oci::input::{InputKind, read_file};
use nix2oci::oci::parse_reference;
use nix2oci::registry::Registries;

use crate::exit::Outcome;

/// Reads a lock.
pub(crate) fn read_lock(file: &Path) -> Outcome<ImageLock> {
    let bytes = read_file(file, InputKind::Lock)?;
    Ok(ImageLock::parse(&bytes, &file.display().to_string())?)
}

/// Returns the registry of the first image of a lock: whose `--creds` may be
/// meant. What is wrong with a lock is told when it is opened.
pub(super) fn host(file: &Path) -> Option<String> {
    let lock = read_lock(file).ok()?;
    let first = parse_reference(&lock.images.first()?.name).ok()?;
    Some(first.registry().to_owned())
}

/// Opens a lock. Layers come from `--blob`, and what is not there from its
/// registry.
pub(super) fn open_lock(
    source: &ImageSource,
    file: &Path,
    tag: Option<&str>,
    blobs: &[PathBuf],
    registries: &Arc<Registries>,
) -> Outcome<ImageReader> {
    let lock = read_lock(file)?;
    let files = BlobFiles::new(blobs)?;
    Ok(registries.open_lock(&lock, &source.to_string(), tag, files)?)
}
