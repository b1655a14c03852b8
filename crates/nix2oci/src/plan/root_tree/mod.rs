//! Files outside the store, as data.
//!
//! - [`RootTree`]: what is at which path
//! - [`RootNode`], [`RootFile`], [`Metadata`]: what can be there
//! - `contents`: links to what is in a store path
//! - [`Copies`]: files of a store path as they are
//! - `ground`: the tree on top of files that are there already

mod contents;
mod copies;
mod directory_links;
mod ground;
mod node;
mod place;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};
use crate::store::{StoreDir, StorePath};

use super::rule::{FileKind, Rule};

pub use copies::{Copies, Rewrite};
pub(crate) use ground::Ground;
pub use node::{Metadata, RootFile, RootNode};

/// The part of an image's root that is not the store: it becomes the top
/// layer, so it takes one layer of the image's if it is not empty.
///
/// Paths are relative to the root, `/` between names; no name is empty, `.` or
/// `..`, has a NUL, or begins with `.wh.`. The parents of every path are
/// directories in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootTree {
    nodes: BTreeMap<Vec<u8>, Added>,
}

/// A node, and what is known of where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) node: RootNode,
    pub(super) metadata: Metadata,
    pub(super) origin: String,
    /// The places in the store that it was copied from.
    pub(super) sources: BTreeSet<(StorePath, Vec<u8>)>,
}

impl RootTree {
    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns whether there is a node at a path.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.nodes.contains_key(path)
    }

    /// Returns the bytes of all files in it.
    pub fn file_bytes(&self) -> u64 {
        let sizes = self.nodes.values().map(|placed| match &placed.node {
            RootNode::File(file) => file.size(),
            RootNode::Directory | RootNode::Symlink { .. } => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Adds a node and the directories above it; `origin` names where it comes
    /// from, for errors.
    ///
    /// Two directories become one, which has the first mode and owner that
    /// were given, and the first value of each extended attribute. Otherwise
    /// what is the same as what is there is fine: the same link, or a file of
    /// the same bytes, with the same metadata.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`] if something else is there already, or
    /// something that is no directory where one of the directories above would
    /// be; [`ErrorKind::InvalidInput`] for a path, link or metadata that cannot
    /// be. The directories above may have been added then.
    ///
    /// A copy of another store path's file counts as something else here: its
    /// bytes are not at hand.
    pub fn insert(
        &mut self,
        path: &[u8],
        node: RootNode,
        metadata: Metadata,
        origin: &str,
    ) -> Result<()> {
        let added = Added {
            node,
            metadata,
            origin: origin.to_owned(),
            sources: BTreeSet::new(),
        };
        self.add(path, added, &mut |_, _| Ok(false))
    }

    /// Adds a node and the directories above it; `is_same` compares the bytes of
    /// two files of the same size that come from two places, of which one is in
    /// the store.
    fn add(
        &mut self,
        path: &[u8],
        added: Added,
        is_same: &mut dyn FnMut(&RootFile, &RootFile) -> Result<bool>,
    ) -> Result<()> {
        check_path(path)
            .and_then(|()| check_names(path))
            .and_then(|()| added.node.check(&added.metadata))
            .map_err(|problem| {
                let what = format!("{} from {}", shown(path), added.origin);
                Error::invalid(what, problem)
            })?;
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let implied = Added {
                node: RootNode::Directory,
                metadata: Metadata::default(),
                origin: added.origin.clone(),
                sources: BTreeSet::new(),
            };
            self.place(&path[..at], implied, is_same)?;
        }
        self.place(path, added, is_same)
    }

    fn place(
        &mut self,
        path: &[u8],
        new: Added,
        is_same: &mut dyn FnMut(&RootFile, &RootFile) -> Result<bool>,
    ) -> Result<()> {
        let Some(old) = self.nodes.get_mut(path) else {
            self.nodes.insert(path.to_owned(), new);
            return Ok(());
        };
        let agrees = match (&old.node, &new.node) {
            (RootNode::Directory, RootNode::Directory) => {
                old.metadata.complete(new.metadata);
                old.sources.extend(new.sources);
                return Ok(());
            }
            _ if !has_same_metadata(old, &new) => false,
            (
                RootNode::File(RootFile::Inline { bytes: old, .. }),
                RootNode::File(RootFile::Inline { bytes: new, .. }),
            ) => old == new,
            (RootNode::File(old), RootNode::File(new)) if old != new => {
                old.size() == new.size() && is_same(old, new)?
            }
            (old, new) => old == new,
        };
        if !agrees {
            if let Some(error) = below_link(path, old, &new) {
                return Err(error);
            }
            return Err(ErrorKind::RootTreeConflict {
                path: shown(path),
                first: old.origin.clone(),
                second: new.origin,
            }
            .into());
        }
        if let (RootNode::File(a), RootNode::File(b)) = (&old.node, &new.node)
            && b.compare_source(a).is_lt()
        {
            old.node = new.node;
        }
        old.sources.extend(new.sources);
        Ok(())
    }

    /// Returns the tree with what rules say of its files; of several that match
    /// the later wins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a file that has more of extended
    /// attributes than Linux lets it, with all that is said of it.
    pub fn with_rules(&self, rules: &[Rule], store_dir: &StoreDir) -> Result<Self> {
        let mut tree = self.clone();
        for (path, placed) in &mut tree.nodes {
            let at = [b"/", path.as_slice()].concat();
            let kind = match placed.node {
                RootNode::Directory => FileKind::Directory,
                RootNode::Symlink { .. } => FileKind::Symlink,
                RootNode::File(_) => FileKind::File,
            };
            let own_mode = placed.node.default_mode();
            for rule in rules {
                if placed.is_matched_by(rule, &at, store_dir) {
                    rule.apply(kind, own_mode, &mut placed.metadata);
                }
            }
            let checked = placed.metadata.check();
            checked.map_err(|problem| Error::invalid(shown(path), problem))?;
        }
        Ok(tree)
    }

    /// Returns whether a rule matches something in the tree.
    pub(crate) fn is_matched_by(&self, rule: &Rule, store_dir: &StoreDir) -> bool {
        self.nodes.iter().any(|(path, placed)| {
            let at = [b"/", path.as_slice()].concat();
            placed.is_matched_by(rule, &at, store_dir)
        })
    }

    /// Returns all nodes, a directory before what is in it, names in the order
    /// of their bytes.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &RootNode, &Metadata)> {
        let mut nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(path, placed)| (path.as_slice(), &placed.node, &placed.metadata))
            .collect();
        nodes.sort_unstable_by(|(a, ..), (b, ..)| {
            a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/'))
        });
        nodes.into_iter()
    }
}

impl Added {
    /// Returns whether a rule matches it, by its path in the image or by one that
    /// it was copied from.
    fn is_matched_by(&self, rule: &Rule, at: &[u8], store_dir: &StoreDir) -> bool {
        let mut sources = self.sources.iter();
        let is_copy = sources.any(|(from, inside)| {
            let full = full_path(store_dir, from, inside);
            rule.matches_copy(at, from, &full)
        });
        is_copy || rule.matches_path(at)
    }
}

/// Returns the error for a link and what is said to be below it, if one source
/// says both: that a path is there twice would not tell what to do.
fn below_link(path: &[u8], old: &Added, new: &Added) -> Option<Error> {
    let target = match (&old.node, &new.node) {
        (RootNode::Symlink { target }, RootNode::Directory)
        | (RootNode::Directory, RootNode::Symlink { target }) => target,
        _ => return None,
    };
    (old.origin == new.origin).then(|| {
        let problem = format!(
            "it is a symbolic link to {}, so it cannot be a directory: say what is below it where \
             the link leads",
            String::from_utf8_lossy(target)
        );
        Error::invalid(format!("{} of {}", shown(path), old.origin), problem)
    })
}

/// Returns whether two nodes of one kind get the same metadata, by default or
/// by word.
fn has_same_metadata(a: &Added, b: &Added) -> bool {
    let mode = |placed: &Added| placed.metadata.mode.unwrap_or(placed.node.default_mode());
    mode(a) == mode(b)
        && a.metadata.owner == b.metadata.owner
        && a.metadata.xattrs == b.metadata.xattrs
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// Returns where in the store something is.
fn full_path(store_dir: &StoreDir, path: &StorePath, inside: &[u8]) -> Vec<u8> {
    place::join(store_dir.join(path).as_bytes(), inside)
}

pub(super) fn check_path(path: &[u8]) -> Result<(), String> {
    if path
        .split(|b| *b == b'/')
        .any(|name| matches!(name, b"" | b"." | b".."))
    {
        return Err("expected a path below the root without empty names, . or ..".to_owned());
    }
    if path.contains(&0) {
        return Err("a name has a NUL byte".to_owned());
    }
    Ok(())
}

/// Refuses names that loaders do not take for files. Source: OCI image
/// specification 1.1, "Whiteouts".
fn check_names(path: &[u8]) -> Result<(), String> {
    let mut names = path.split(|b| *b == b'/');
    match names.find(|name| name.starts_with(b".wh.")) {
        None => Ok(()),
        Some(_) => Err(
            "a name begins with .wh., which in a layer deletes what other layers have".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Owner;
    use crate::plan::{Pattern, PatternKind};

    const DIRECTORY: RootNode = RootNode::Directory;

    fn link(target: &str) -> RootNode {
        RootNode::Symlink {
            target: target.into(),
        }
    }

    fn list(tree: &RootTree) -> Vec<String> {
        tree.nodes()
            .map(|(path, node, metadata)| {
                let path = String::from_utf8_lossy(path);
                let mode = metadata.mode.unwrap_or(node.default_mode());
                match node {
                    RootNode::Directory => format!("{path}/ {mode:o}"),
                    RootNode::Symlink { target } => {
                        format!("{path} -> {}", String::from_utf8_lossy(target))
                    }
                    RootNode::File(file) => format!("{path} {mode:o} {}", file.size()),
                }
            })
            .collect()
    }

    #[test]
    fn parents_come_first_and_names_in_order() {
        let mut tree = RootTree::default();
        assert!(tree.is_empty());
        tree.insert(b"b/c", link("x"), Metadata::default(), "one")
            .unwrap();
        tree.insert(b"b-c", link("x"), Metadata::default(), "one")
            .unwrap();
        tree.insert(b"b/a/d", DIRECTORY, Metadata::default(), "one")
            .unwrap();
        tree.insert(b"a", link("x"), Metadata::default(), "one")
            .unwrap();
        // By bytes alone, b-c would lie between b and what is in it.
        assert_eq!(
            list(&tree),
            [
                "a -> x",
                "b/ 755",
                "b/a/ 755",
                "b/a/d/ 755",
                "b/c -> x",
                "b-c -> x"
            ]
        );
        assert!(!tree.is_empty());
    }

    #[test]
    fn the_first_mode_given_stays() {
        let mut tree = RootTree::default();
        tree.insert(b"tmp/x", DIRECTORY, Metadata::default(), "one")
            .unwrap();
        for (mode, origin) in [(0o1777, "two"), (0o700, "three")] {
            let metadata = Metadata::mode(mode);
            tree.insert(b"tmp", DIRECTORY, metadata, origin).unwrap();
        }
        tree.insert(b"tmp/y", DIRECTORY, Metadata::default(), "four")
            .unwrap();
        assert_eq!(list(&tree), ["tmp/ 1777", "tmp/x/ 755", "tmp/y/ 755"]);
    }

    #[test]
    fn what_differs_is_a_conflict_that_names_both() {
        let mut tree = RootTree::default();
        tree.insert(b"bin/sh", link("bash"), Metadata::default(), "bash")
            .unwrap();
        tree.insert(b"bin/sh", link("bash"), Metadata::default(), "bash again")
            .unwrap();
        let again = tree.insert(b"bin/sh", link("dash"), Metadata::default(), "bash");
        assert_eq!(
            again.unwrap_err().to_string(),
            "/bin/sh is twice in bash, and not the same"
        );
        let mut conflict = |path: &[u8], node| {
            let error = tree
                .insert(path, node, Metadata::default(), "dash")
                .unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::RootTreeConflict { .. }));
            error.to_string()
        };
        let message = "/bin/sh comes from both bash and dash, which differ";
        assert_eq!(conflict(b"bin/sh", link("dash")), message);
        assert_eq!(conflict(b"bin/sh", DIRECTORY), message);
        assert_eq!(conflict(b"bin/sh/below/it", link("x")), message);
        assert_eq!(
            conflict(b"bin", link("usr/bin")),
            "/bin comes from both bash and dash, which differ"
        );
        assert_eq!(list(&tree), ["bin/ 755", "bin/sh -> bash"]);
    }

    #[test]
    fn what_is_below_a_link_of_the_same_source_is_to_be_said_elsewhere() {
        let below =
            |tree: &mut RootTree| tree.insert(b"a/x", DIRECTORY, Metadata::default(), "t.json");
        let beside =
            |tree: &mut RootTree| tree.insert(b"a", link("/b"), Metadata::default(), "t.json");
        let mut link_first = RootTree::default();
        beside(&mut link_first).unwrap();
        let mut link_last = RootTree::default();
        below(&mut link_last).unwrap();
        for error in [below(&mut link_first), beside(&mut link_last)] {
            assert_eq!(
                error.unwrap_err().to_string(),
                "/a of t.json: it is a symbolic link to /b, so it cannot be a directory: say what \
                 is below it where the link leads"
            );
        }
    }

    fn inline(text: &str, executable: bool) -> RootNode {
        RootNode::File(RootFile::Inline {
            bytes: text.as_bytes().into(),
            executable,
        })
    }

    fn stored(name: &str, size: u64) -> RootNode {
        RootNode::File(RootFile::Stored {
            path: format!("{}-{name}", "0".repeat(32)).parse().unwrap(),
            inside: b"bin/x".to_vec(),
            nar_hash: None,
            executable: true,
            size,
        })
    }

    #[test]
    fn files_of_the_same_bytes_and_metadata_agree() {
        let owned = |uid| Metadata {
            owner: Some(Owner { uid, gid: 0 }),
            ..Metadata::default()
        };
        let mut tree = RootTree::default();
        let mut insert = |node: RootNode, metadata: Metadata| {
            let inserted = tree.insert(b"etc/x", node, metadata, "it");
            inserted.map_err(|e| assert!(matches!(e.kind(), ErrorKind::RootTreeConflict { .. })))
        };
        assert!(insert(inline("a", false), owned(1)).is_ok());
        assert!(insert(inline("a", false), owned(1)).is_ok());
        // The mode that it has by default, in words.
        let in_words = Metadata {
            mode: Some(0o644),
            ..owned(1)
        };
        assert!(insert(inline("a", true), in_words).is_ok());
        for (node, metadata) in [
            (inline("b", false), owned(1)),
            (inline("a", true), owned(1)),
            (inline("a", false), owned(2)),
            (inline("a", false), Metadata::default()),
            (stored("a", 1), owned(1)),
            (DIRECTORY, owned(1)),
            (link("a"), Metadata::default()),
        ] {
            assert!(insert(node, metadata).is_err());
        }
        assert_eq!(list(&tree), ["etc/ 755", "etc/x 644 1"]);
        assert_eq!(tree.file_bytes(), 1);
    }

    #[test]
    fn bytes_in_the_store_are_compared_if_the_sizes_are_equal() {
        for (first, second) in [("a", "b"), ("b", "a")] {
            let mut tree = RootTree::default();
            let mut insert = |node, is_same: bool| {
                let added = Added {
                    node,
                    metadata: Metadata::default(),
                    origin: "it".to_owned(),
                    sources: BTreeSet::new(),
                };
                tree.add(b"x", added, &mut |_, _| Ok(is_same)).is_ok()
            };
            assert!(insert(stored(first, 3), false));
            assert!(!insert(stored(second, 3), false));
            assert!(!insert(stored(second, 4), true));
            assert!(insert(stored(second, 3), true));
            // The same one stays in either order.
            let (_, node, _) = tree.nodes().next().expect("there is one");
            assert_eq!(*node, stored("a", 3));
        }
    }

    #[test]
    fn all_that_is_said_of_a_file_fits_into_its_inode() {
        let has = |name: &str| Metadata {
            xattrs: BTreeMap::from([(name.to_owned(), vec![0; 40_000])]),
            ..Metadata::default()
        };
        let mut rule = Rule::new(Pattern::new(PatternKind::Glob, "/etc/*").unwrap());
        rule.xattrs = has("user.a").xattrs;
        for (name, problem) in [
            ("user.a", None),
            (
                "user.b",
                Some("/etc/x: its extended attributes have 80012 bytes, and 65536 is the most"),
            ),
        ] {
            let mut tree = RootTree::default();
            tree.insert(b"etc/x", inline("x", false), has(name), "it")
                .unwrap();
            let ruled = tree.with_rules(std::slice::from_ref(&rule), &StoreDir::default());
            let found = ruled.err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), problem);
        }
        // Two that give one directory, each as much as it may.
        let mut tree = RootTree::default();
        for name in ["user.a", "user.b"] {
            tree.insert(b"etc", RootNode::Directory, has(name), "it")
                .unwrap();
        }
        let ruled = tree.with_rules(&[], &StoreDir::default());
        assert!(ruled.unwrap_err().to_string().starts_with("/etc: "));
    }

    #[test]
    fn later_rules_win_field_by_field() {
        let rule = |glob: &str, file_mode, uid: Option<u32>| {
            let mut rule = Rule::new(Pattern::new(PatternKind::Glob, glob).unwrap());
            rule.file_mode = file_mode;
            rule.owner = uid.map(|uid| Owner { uid, gid: uid });
            rule
        };
        let mut tree = RootTree::default();
        for path in [&b"bin/su"[..], b"bin/sh"] {
            tree.insert(path, inline("x", true), Metadata::mode(0o700), "it")
                .unwrap();
        }
        let rules = [
            rule("/bin/*", Some(0o500), Some(1)),
            rule("/bin/su", Some(0o4755), None),
            rule("/bin", Some(0o111), Some(2)),
        ];
        let tree = tree.with_rules(&rules, &StoreDir::default()).unwrap();
        let found: Vec<_> = tree.nodes().map(|(.., m)| (m.mode, m.owner)).collect();
        let owner = |uid| Some(Owner { uid, gid: uid });
        let expected = [
            (None, owner(2)),
            (Some(0o500), owner(1)),
            (Some(0o4755), owner(1)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn metadata_that_no_file_has_is_refused() {
        let with = |name: &str, size: usize| Metadata {
            xattrs: [(name.to_owned(), vec![0; size])].into(),
            ..Metadata::default()
        };
        let insert = |node, metadata| {
            let inserted = RootTree::default().insert(b"x", node, metadata, "it");
            inserted.map_err(|error| error.to_string())
        };
        assert!(insert(DIRECTORY, with("user.x", 1000)).is_ok());
        for name in ["", "user.", "x", "posix.acl", "user.a=b", "user.a\0"] {
            let message = insert(DIRECTORY, with(name, 0)).unwrap_err();
            assert!(message.contains("is no extended attribute"), "{message}");
        }
        let message = insert(DIRECTORY, with("user.x", 65536)).unwrap_err();
        assert!(
            message.ends_with("65542 bytes, and 65536 is the most"),
            "{message}"
        );
        for metadata in [with("user.x", 0), Metadata::mode(0o777)] {
            let message = insert(link("x"), metadata).unwrap_err();
            assert!(message.contains("a symbolic link has no mode"), "{message}");
        }
    }

    #[test]
    fn bad_paths_modes_and_links_are_refused() {
        let refused = |path: &[u8], node| {
            let mut tree = RootTree::default();
            let error = tree
                .insert(path, node, Metadata::default(), "it")
                .unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidInput { .. }));
            assert!(tree.is_empty());
            error.to_string()
        };
        for path in [
            "", "/", "/etc", "etc/", "a//b", ".", "..", "a/./b", "a/../b", "../a",
        ] {
            assert_eq!(
                refused(path.as_bytes(), DIRECTORY),
                format!(
                    "/{path} from it: expected a path below the root without empty names, . or .."
                )
            );
        }
        assert!(refused(b"a\0b", DIRECTORY).ends_with("a name has a NUL byte"));
        for path in [&b"etc/.wh.passwd"[..], b".wh..wh..opq", b"a/.wh.b/c"] {
            let message = refused(path, DIRECTORY);
            assert!(message.contains("begins with .wh."), "{message}");
        }
        let error = RootTree::default()
            .insert(b"a", DIRECTORY, Metadata::mode(0o10000), "it")
            .unwrap_err();
        let problem = "mode 10000 is more than permission bits";
        assert!(error.to_string().ends_with(problem));
        for target in ["", "a\0b"] {
            assert!(
                refused(b"a", link(target))
                    .ends_with("a symbolic link cannot be empty or have a NUL byte")
            );
        }
        let mut tree = RootTree::default();
        tree.insert(b"...", DIRECTORY, Metadata::default(), "it")
            .unwrap();
        tree.insert(b"\xff/..a", link("."), Metadata::default(), "it")
            .unwrap();
    }
}
