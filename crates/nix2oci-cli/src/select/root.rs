//! What is at the root beside the store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix2oci::image::BaseImage;
use nix2oci::input::InputKind;
use nix2oci::plan::{AccountFiles, Copies, RootDocument, RootFile, RootNode, RootTree, Rule};
use nix2oci::{Closure, ContentSource, Context, ErrorKind, StorePath};

use crate::args::RootArgs;
use crate::display::Talk;
use crate::exit::{Failure, Outcome};

use super::read_document;
use super::roots::Store;

/// The root of an image, as it was asked for.
pub(super) struct Root {
    contents: Vec<StorePath>,
    copies: Vec<StorePath>,
    documents: Vec<RootDocument>,
    /// Those of which only the rules count.
    rules: Vec<RootDocument>,
}

impl Root {
    /// Finds the store paths and reads the documents.
    pub(super) fn read(args: &RootArgs, store: &Store) -> Outcome<Self> {
        let find = |what: &str, paths: &[PathBuf]| -> Outcome<Vec<StorePath>> {
            paths.iter().map(|path| store.find(what, path)).collect()
        };
        let read = |files: &[PathBuf]| -> Outcome<Vec<RootDocument>> {
            files.iter().map(|file| document(file, store)).collect()
        };
        Ok(Self {
            contents: find("--contents", &args.contents)?,
            copies: find("--copy-to-root", &args.copy_to_root)?,
            documents: read(&args.root_tree)?,
            rules: read(&args.rules)?,
        })
    }

    /// Returns the store paths that it needs, each with the option that names
    /// it.
    pub(super) fn needs(&self, store: &Store) -> Vec<(&'static str, StorePath)> {
        let named = |option, paths: &[StorePath]| -> Vec<_> {
            paths.iter().map(|path| (option, path.clone())).collect()
        };
        let mut needs = named("--contents", &self.contents);
        needs.extend(named("--copy-to-root", &self.copies));
        for document in &self.documents {
            let paths = document.linked_paths(store.dir());
            let paths = paths.into_iter().chain(document.copied_paths());
            needs.extend(paths.map(|path| ("--root-tree:", path)));
        }
        needs
    }

    /// Makes the tree and the rules. On a base its users and groups stay.
    pub(super) fn make(
        &self,
        cx: &Context,
        closure: &Closure,
        content: &dyn ContentSource,
        base: Option<&BaseImage>,
    ) -> Outcome<(RootTree, Vec<Rule>)> {
        let mut tree = RootTree::default();
        let store_dir = closure.store_dir();
        let nar_hash = |path: &StorePath| {
            let id = closure.find(path)?;
            closure.info(id).nar_hash
        };
        for path in &self.contents {
            tree.add_contents(cx, store_dir, content, path)?;
        }
        for path in &self.copies {
            let copies = Copies::new(path.clone());
            tree.add_copies(cx, store_dir, content, &nar_hash, &copies)
                .map_err(|error| self.is_twice(error, path))?;
        }
        let has_documents = !self.documents.is_empty() || !self.rules.is_empty();
        let accounts = match base.filter(|_| has_documents) {
            Some(base) => base.account_files(cx, store_dir)?,
            None => AccountFiles::default(),
        };
        let documents = &self.documents;
        let mut rules = RootDocument::rules(&self.rules, &accounts)?;
        let own = tree.add_documents(cx, store_dir, content, &nar_hash, documents, &accounts)?;
        rules.extend(own);
        Ok((tree, rules))
    }

    /// Names the options if one store path differs from itself, because it is
    /// linked and copied.
    fn is_twice(&self, error: nix2oci::Error, copied: &StorePath) -> Failure {
        match error.kind() {
            ErrorKind::RootTreeConflict {
                path,
                first,
                second,
            } if first == second && self.contents.contains(copied) => Failure::input(format!(
                "{path} is twice at the root: --contents links it into {first}, --copy-to-root \
                 copies it from there"
            ))
            .hint("one of the two options is enough for a store path"),
            _ => error.into(),
        }
    }

    /// Leaves out of the closure what is only copied: what nothing else refers
    /// to, no link of the root leads to, and no text at the root mentions.
    pub(super) fn leave_out_copies(
        &self,
        closure: &mut Closure,
        tree: &RootTree,
        roots: &[StorePath],
        talk: &Talk,
    ) {
        let documents = self.documents.iter();
        let mut copied: BTreeSet<StorePath> = self.copies.iter().cloned().collect();
        copied.extend(documents.flat_map(RootDocument::copied_paths));
        copied.retain(|path| {
            let full = closure.store_dir().join(path);
            !roots.contains(path) && !mentions(tree, full.as_bytes())
        });
        let copied: Vec<StorePath> = copied.into_iter().collect();
        for path in closure.leave_out_copied(&copied) {
            talk.note(|| {
                let path = closure.store_dir().join(&path);
                format!("left out {path}: its files are copied to the root")
            });
        }
    }
}

fn document(file: &Path, store: &Store) -> Outcome<RootDocument> {
    let (name, bytes) = read_document(file, InputKind::RootDocument)?;
    Ok(RootDocument::parse(&name, &bytes, store.dir())?)
}

/// Returns whether a link or a text of the tree has a full path in it.
fn mentions(tree: &RootTree, full: &[u8]) -> bool {
    let has = |bytes: &[u8]| bytes.windows(full.len()).any(|window| window == full);
    tree.nodes().any(|(_, node, _)| match node {
        RootNode::Symlink { target } => has(target),
        RootNode::File(RootFile::Inline { bytes, .. }) => has(bytes),
        _ => false,
    })
}

/// Refuses what the root needs and the closure lacks.
pub(super) fn check_needs(closure: &Closure, needs: &[(&'static str, StorePath)]) -> Outcome<()> {
    let missing = |(_, path): &&(&str, StorePath)| closure.find(path).is_none();
    match needs.iter().find(missing) {
        Some((option, path)) => Err(Failure::input(format!(
            "{option} {} is not in the closure",
            closure.store_dir().join(path)
        ))
        .hint("say it as a ROOT as well, or export its closure too")),
        None => Ok(()),
    }
}
