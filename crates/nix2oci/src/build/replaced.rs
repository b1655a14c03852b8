//! Links of a base that a layer on it replaces.
//!
//! A root tree goes to where a link leads, but a tar is a layer as it is, and so
//! is a layer that was made before anybody knew of the base: its directory
//! `bin/` takes the link `/bin -> usr/bin` away, and with it all programs that
//! are found through it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use crate::context::{Context, Event};
use crate::error::{Error, Result};
use crate::image::BaseImage;
use crate::layer::tar_read::{Member, MemberKind};
use crate::layer::{Blob as _, EntryVisitor, LayerContent, UsedLayer, read_entries};
use crate::plan::{Ground, RootNode};

use super::ImageSpec;

/// Returns whether there are layers that may replace a link.
pub(super) fn may_replace(spec: &ImageSpec) -> bool {
    let has_files = |layer: &UsedLayer| !matches!(layer.spec.content, LayerContent::StorePaths(_));
    !spec.layer_tars.is_empty() || spec.used_layers.iter().any(has_files)
}

/// Warns of each link of the base that a tar or a layer that was made before
/// replaces. Reads these tars.
pub(super) fn warn_of_replaced(
    cx: &Context,
    spec: &ImageSpec,
    base: &BaseImage,
    ground: &Ground,
) -> Result<()> {
    for used in &spec.used_layers {
        let found = match (&used.spec.content, used.blob()) {
            (LayerContent::RootTree(tree), _) => {
                let nodes = tree.nodes().filter(|(_, node, _)| {
                    // A link or a file in its place is somebody's intent.
                    matches!(node, RootNode::Directory)
                });
                let is_link = |path: &&[u8]| ground.links.contains_key(*path);
                let paths = nodes.map(|(path, ..)| path).filter(is_link);
                paths.map(<[u8]>::to_vec).collect()
            }
            (LayerContent::Tar(_), Some(blob)) => found(cx, &used.name, blob.open()?, ground)?,
            _ => continue,
        };
        warn(cx, &used.name, base, ground, &found);
    }
    for tar in &spec.layer_tars {
        let name = tar.path().display().to_string();
        let file = File::open(tar.path()).map_err(Error::reading(tar.path()))?;
        let found = found(cx, &name, file, ground)?;
        warn(cx, &name, base, ground, &found);
    }
    Ok(())
}

/// Finds the directories in a tar that are links of the base.
fn found(cx: &Context, name: &str, tar: impl Read, ground: &Ground) -> Result<BTreeSet<Vec<u8>>> {
    let mut directories = Directories {
        ground,
        found: BTreeSet::new(),
    };
    read_entries(cx, name, tar, &mut directories)?;
    Ok(directories.found)
}

struct Directories<'a> {
    ground: &'a Ground,
    found: BTreeSet<Vec<u8>>,
}

impl EntryVisitor for Directories<'_> {
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
        if matches!(member.kind, MemberKind::Directory) && self.ground.links.contains_key(path) {
            self.found.insert(path.to_vec());
        }
        false
    }

    fn contents(&mut self, _: &[u8]) {}
}

fn warn(cx: &Context, layer: &str, base: &BaseImage, ground: &Ground, found: &BTreeSet<Vec<u8>>) {
    for path in found {
        let target = ground.links.get(path).map_or(&b""[..], Vec::as_slice);
        let (path, target) = (
            String::from_utf8_lossy(path),
            String::from_utf8_lossy(target),
        );
        let message = format!(
            "{layer}: its directory {path}/ replaces the symlink /{path} -> {target} of the base \
             image {}: what is found through it there is not found in the new image",
            base.name()
        );
        cx.observer.event(&Event::Warning { message: &message });
    }
}
