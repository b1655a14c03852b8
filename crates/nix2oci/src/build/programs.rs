//! Programs that an image's platform cannot run.

use std::sync::Arc;

use serde_json::Value;

use crate::content::{ContentSource, ForeignPrograms, PlatformCheck, VerifiedContent};
use crate::context::{Context, Event};
use crate::error::Result;
use crate::layer::{LayerContent, LayerSpec};
use crate::plan::{RootFile, RootNode};
use crate::store::StorePath;

use super::ImageSpec;
use super::download::visits;

/// Store paths with such programs that a warning names.
const MOST_NAMED: usize = 3;

/// Returns the content of the spec's store paths, whose programs are looked at
/// on the way, and whose NAR hashes are checked if that is wanted.
pub(super) fn checked_content(spec: &ImageSpec) -> Result<PlatformCheck> {
    let content: Arc<dyn ContentSource> = if spec.verify {
        // What is copied into the root need not be in the closure.
        let copied = spec
            .root_tree
            .nodes()
            .filter_map(|(_, node, _)| match node {
                RootNode::File(RootFile::Stored { path, nar_hash, .. }) => Some((path, *nar_hash)),
                _ => None,
            });
        // Nor need what layers have that were made before.
        let used = spec.used_layers.iter();
        let used = used.flat_map(|layer| layer.spec.content.store_paths());
        let used = used.map(|(path, nar_hash)| (path, *nar_hash));
        let verified = VerifiedContent::new(Arc::clone(&spec.content), &spec.closure)?;
        Arc::new(verified.and_paths(spec.closure.store_dir(), copied.chain(used))?)
    } else {
        Arc::clone(&spec.content)
    };
    let store_dir = spec.closure.store_dir();
    let platform = spec.config.platform.clone();
    let check = PlatformCheck::new(content, store_dir.clone(), platform);
    let config = spec.whole_config();
    let started = ["Entrypoint", "Cmd"].iter().filter_map(|key| {
        let program = config.config.get(*key)?.get(0);
        store_dir
            .split(program.and_then(Value::as_str).unwrap_or_default())
            .ok()
    });
    let check = started.fold(check, |check, (path, inside)| {
        check.with_program(path, inside.as_bytes().to_vec())
    });
    Ok(check.with_strictness(spec.strict))
}

/// Returns the store paths that making a layer reads.
pub(super) fn read_for(layer: &LayerSpec) -> Vec<StorePath> {
    match &layer.content {
        LayerContent::RootTree(tree) => visits(tree).into_keys().cloned().collect(),
        content => content
            .store_paths()
            .iter()
            .map(|(p, _)| p.clone())
            .collect(),
    }
}

/// Looks at the programs of a layer that is not made, unless that would be a
/// download or its content is not at hand. Returns whether it was looked at.
pub(super) fn look(
    cx: &Context,
    spec: &ImageSpec,
    check: &PlatformCheck,
    layer: &LayerSpec,
) -> Result<bool> {
    let content = spec.content.as_ref();
    let paths = read_for(layer);
    for path in &paths {
        if !content.has(cx, path)? || content.download_size(cx, path)? > 0 {
            return Ok(false);
        }
    }
    for path in &paths {
        check.look(cx, content, path)?;
    }
    Ok(true)
}

/// Warns of what was found, and returns it.
pub(super) fn tell(cx: &Context, content: &PlatformCheck) -> Vec<ForeignPrograms> {
    let found = content.findings();
    if let Some(message) = message(&found) {
        cx.observer.event(&Event::Warning { message: &message });
    }
    found
}

fn message(found: &[ForeignPrograms]) -> Option<String> {
    let platform = &found.first()?.expected;
    let mut named: Vec<String> = found
        .iter()
        .take(MOST_NAMED)
        .map(|programs| format!("{} is for {}", programs.file, programs.found))
        .collect();
    if found.len() > MOST_NAMED {
        named.push(format!("and {} more", found.len() - MOST_NAMED));
    }
    let whose = match found.len() {
        1 => "a store path has".to_owned(),
        paths => format!("{paths} store paths have"),
    };
    Some(format!(
        "{whose} programs that {platform} cannot run: {}",
        named.join("; ")
    ))
}
