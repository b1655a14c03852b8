//! Why a layer did not become what it has to be.

use std::collections::BTreeMap;

use crate::content::{ContentSource, nar_hash};
use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{LayerContent, LayerSpec};
use crate::plan::{RootFile, RootNode};
use crate::store::{NarHash, StorePath};

/// A layer whose digest is known, and which is made again.
pub(super) struct Remade<'a> {
    /// What it is made of.
    pub(super) spec: &'a LayerSpec,
    /// What is in it, for people.
    pub(super) label: &'a str,
    /// Why its digest is known: `for the recipe`.
    pub(super) why: &'a str,
    pub(super) expected: Digest,
    pub(super) found: Digest,
}

/// Returns the store paths that a layer is made of, those whose files are copied
/// to the root as well, each once.
fn paths(content: &LayerContent) -> Vec<(&StorePath, Option<NarHash>)> {
    match content {
        LayerContent::Used(used) => paths(&used.spec.content),
        LayerContent::RootTree(tree) => {
            let copied = tree.nodes().filter_map(|(_, node, _)| match node {
                RootNode::File(RootFile::Stored { path, nar_hash, .. }) => Some((path, *nar_hash)),
                _ => None,
            });
            let copied: BTreeMap<&StorePath, Option<NarHash>> = copied.collect();
            copied.into_iter().collect()
        }
        content => content
            .store_paths()
            .iter()
            .map(|(path, nar_hash)| (path, *nar_hash))
            .collect(),
    }
}

impl Remade<'_> {
    /// Makes the error. Reads the layer's store paths once more and names those
    /// that are not what their NAR hashes say.
    pub(super) fn error(&self, cx: &Context, content: &dyn ContentSource) -> Result<Error> {
        let mut differing = Vec::new();
        let mut unknown = 0;
        let paths = paths(&self.spec.content);
        for (path, expected) in &paths {
            let Some(expected) = *expected else {
                unknown += 1;
                continue;
            };
            let found = nar_hash(cx, content, path)?;
            if found != expected {
                differing.push((self.spec.store_dir.join(path), expected, found));
            }
        }
        let mut differing = differing.into_iter();
        if let Some((path, expected, found)) = differing.next() {
            return Ok(ErrorKind::NarHashMismatch {
                path,
                expected,
                found,
                also: differing.map(|(path, ..)| path).collect(),
            }
            .into());
        }
        let (label, why) = (self.label, self.why);
        let paths = match (paths.len(), unknown) {
            (0, _) => String::new(),
            (_, 0) => " although its store paths are what they were".to_owned(),
            (_, 1) => " with a store path whose NAR hash nobody told".to_owned(),
            (_, n) => format!(" with {n} store paths whose NAR hashes nobody told"),
        };
        Ok(ErrorKind::DigestMismatch {
            what: format!("the layer of {label}, {why}{paths},"),
            expected: self.expected,
            found: self.found,
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::content::LocalStore;
    use crate::plan::RootTree;
    use crate::store::StoreDir;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    #[test]
    fn the_store_paths_that_changed_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let store_dir = StoreDir::default();
        let store = LocalStore::below(dir.path(), &store_dir);
        let cx = Context::default();
        fs::create_dir_all(dir.path().join("nix/store")).unwrap();
        let write = |name: &str, text: &str| fs::write(store.locate(&path(name)), text).unwrap();
        let names = ["a", "b", "c"];
        let hashes = names.map(|name| {
            write(name, name);
            nar_hash(&cx, &store, &path(name)).unwrap()
        });
        let told = |content: LayerContent| {
            let spec = LayerSpec {
                store_dir: store_dir.clone(),
                content,
                rules: Arc::default(),
            };
            let remade = Remade {
                spec: &spec,
                label: "c",
                why: "made again for the recipe",
                expected: Digest::of(b"expected"),
                found: Digest::of(b"found"),
            };
            remade.error(&cx, &store).unwrap().to_string()
        };
        let paths = |known: usize| {
            let paths = names.iter().zip(hashes).enumerate();
            let paths = paths.map(|(at, (name, hash))| (path(name), (at < known).then_some(hash)));
            LayerContent::StorePaths(paths.collect())
        };
        for (content, words) in [
            (
                paths(3),
                "the recipe although its store paths are what they were, has digest",
            ),
            (
                paths(2),
                "with a store path whose NAR hash nobody told, has digest",
            ),
            (
                paths(0),
                "with 3 store paths whose NAR hashes nobody told, has digest",
            ),
            (
                LayerContent::RootTree(RootTree::default()),
                "the layer of c, made again for the recipe, has digest",
            ),
        ] {
            let told = told(content);
            assert!(told.contains(words), "{told}");
        }
        write("b", "changed");
        let message = told(paths(3));
        let (a, b, c) = ("-a", "-b has NAR hash", "-c is not what it was either");
        assert!(message.contains(b) && !message.contains(a), "{message}");
        write("c", "changed too");
        let message = told(paths(3));
        assert!(message.contains(b) && message.ends_with(c), "{message}");
    }
}
