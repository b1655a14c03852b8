//! Whether the image knows who its program runs as.
//!
//! A runtime looks names up in the image's own files, and starts nothing where
//! they are not there: not even as `root`. Numbers need no file.

use nix2oci::ImageSpec;
use nix2oci::layer::LayerContent;
use nix2oci::plan::{RootFile, RootNode};
use serde_json::Value;

/// Returns why nobody can be who the program is to run as, if that can be told:
/// tars and layers that were made before are not looked at, and a base only where
/// users are added to its own.
pub(super) fn problem(spec: &ImageSpec) -> Option<String> {
    let config = spec.whole_config();
    let text = config.config.get("User").and_then(Value::as_str)?;
    let mut used = spec.used_layers.iter().map(|used| &used.spec.content);
    let has_more = !spec.layer_tars.is_empty()
        || !spec.bottom_tars.is_empty()
        || used.any(|content| !matches!(content, LayerContent::StorePaths(_)));
    if has_more {
        return None;
    }
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    [
        ("user", user, "etc/passwd", "users"),
        ("group", group, "etc/group", "groups"),
    ]
    .into_iter()
    .filter(|(_, name, ..)| !name.is_empty() && !name.bytes().all(|b| b.is_ascii_digit()))
    .find(|(_, name, file, _)| has_line(spec, file, name) == Some(false))
    .map(|(what, name, file, key)| {
        format!(
            "the {what} {name} is not in /{file} of the image, so nothing can start: say a \
             number, or {key} in --root-tree"
        )
    })
}

/// Returns whether a file at the root has a line for a name, if that can be
/// told.
fn has_line(spec: &ImageSpec, file: &str, name: &str) -> Option<bool> {
    let mut nodes = spec.root_tree.nodes();
    let (_, node, _) = match nodes.find(|(path, ..)| *path == file.as_bytes()) {
        Some(found) => found,
        None if spec.base.is_some() => return None,
        // `/etc` itself may be a link.
        None if spec.root_tree.contains(b"etc") && !has_directory(spec) => return None,
        None => return Some(false),
    };
    match node {
        RootNode::File(RootFile::Inline { bytes, .. }) => {
            let mut lines = bytes.split(|b| *b == b'\n');
            let name = name.as_bytes();
            Some(lines.any(|line| line.split(|b| *b == b':').next() == Some(name)))
        }
        _ => None,
    }
}

fn has_directory(spec: &ImageSpec) -> bool {
    let mut nodes = spec.root_tree.nodes();
    nodes.any(|(path, node, _)| path == b"etc" && matches!(node, RootNode::Directory))
}
