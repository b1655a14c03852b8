//! The tar of files outside the store.

use std::collections::BTreeMap;

use crate::content::{ContentSource, Entry};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{RootFile, RootNode, RootTree};
use crate::store::StorePath;

use super::rules::own_attributes;
use super::tar::{Attributes, TarOutput, TarWriter};

/// Where the copies of one file go.
type Places<'a> = Vec<(&'a [u8], Attributes<'a>)>;

/// Copies of one store path's files, by where they are in it.
type Copies<'a> = BTreeMap<&'a [u8], (u64, Places<'a>)>;

/// Writes the entries of a root tree: what is here in the tree's order, then
/// the copies of files, one store path after the other.
pub(super) fn write_root_tree<O: TarOutput>(
    cx: &Context,
    content: &dyn ContentSource,
    tree: &RootTree,
    tar: &mut TarWriter<'_, O>,
) -> Result<()> {
    let mut copied: BTreeMap<&StorePath, Copies<'_>> = BTreeMap::new();
    for (place, node, metadata) in tree.nodes() {
        let attributes = own_attributes(metadata, Attributes::plain(node.default_mode()));
        match node {
            RootNode::Directory => tar.directory(place, attributes)?,
            RootNode::Symlink { target } => tar.symlink(place, target, attributes)?,
            RootNode::File(RootFile::Inline { bytes, .. }) => {
                tar.file(place, attributes, bytes.len() as u64, &mut &bytes[..])?;
            }
            RootNode::File(RootFile::Stored {
                path, inside, size, ..
            }) => {
                let copies = copied.entry(path).or_default();
                let (_, places) = copies.entry(inside).or_insert((*size, Vec::new()));
                places.push((place, attributes));
            }
        }
    }
    for (path, copies) in copied {
        write_copies(cx, content, path, &copies, tar)?;
    }
    Ok(())
}

/// Writes copies of a store path's files, in the order of the store path. A
/// file with several places is read as often: the store path is visited again
/// for the second places, so that no file has to be kept.
fn write_copies<O: TarOutput>(
    cx: &Context,
    content: &dyn ContentSource,
    path: &StorePath,
    copies: &Copies<'_>,
    tar: &mut TarWriter<'_, O>,
) -> Result<()> {
    let mut expected: usize = copies.values().map(|(_, places)| places.len()).sum();
    let visits = copies.values().map(|(_, places)| places.len()).max();
    for turn in 0..visits.unwrap_or(0) {
        content.visit(cx, path, &mut |entry| {
            let Entry::File {
                path: inside,
                size,
                contents,
                ..
            } = entry
            else {
                return Ok(());
            };
            let Some((planned, places)) = copies.get(inside) else {
                return Ok(());
            };
            let Some((place, attributes)) = places.get(turn) else {
                return Ok(());
            };
            if size != *planned {
                return Err(ErrorKind::FileChanged {
                    path: shown(path, inside).into(),
                    expected: *planned,
                    found: size,
                }
                .into());
            }
            expected -= 1;
            tar.file(place, *attributes, size, contents)
        })?;
    }
    if expected > 0 {
        let problem = format!("{expected} of the files that are copied from it are not there");
        return Err(Error::invalid(path.as_str(), problem));
    }
    Ok(())
}

fn shown(path: &StorePath, inside: &[u8]) -> String {
    let slash = if inside.is_empty() { "" } else { "/" };
    format!("{path}{slash}{}", String::from_utf8_lossy(inside))
}
