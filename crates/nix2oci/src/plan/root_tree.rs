//! Files outside the store, as data.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

/// The mode of a directory that nobody gave one.
const IMPLIED_MODE: u32 = 0o755;

/// What is at one path of the root tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootNode {
    /// A directory with these permission bits.
    Directory {
        /// Such as `0o755`; `0o7777` at most.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds: not empty, no NUL.
        target: Vec<u8>,
    },
}

/// The part of an image's root that is not the store: it becomes the top
/// layer, so it takes one layer of the image's if it is not empty.
///
/// Paths are relative to the root, `/` between names; no name is empty, `.` or
/// `..`, or has a NUL. The parents of every path are directories in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootTree {
    nodes: BTreeMap<Vec<u8>, Placed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    node: RootNode,
    origin: String,
    /// Whether it is a directory that only a path below it asked for.
    implied: bool,
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

    /// Adds a node and the directories above it, 0755 where they are not there;
    /// `origin` names where it comes from, for errors.
    ///
    /// What is the same as what is there is fine. Two directories become one;
    /// its mode is the first that was given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`] if something else is there already, or
    /// a symbolic link where one of the directories above would be;
    /// [`ErrorKind::InvalidInput`] for a path, mode or link that cannot be.
    /// The directories above may have been added then.
    pub fn insert(&mut self, path: &[u8], node: RootNode, origin: &str) -> Result<()> {
        check(path, &node)
            .map_err(|problem| Error::invalid(format!("{} from {origin}", shown(path)), problem))?;
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let node = RootNode::Directory { mode: IMPLIED_MODE };
            self.place(&path[..at], node, origin, true)?;
        }
        self.place(path, node, origin, false)
    }

    fn place(&mut self, path: &[u8], node: RootNode, origin: &str, implied: bool) -> Result<()> {
        let placed = Placed {
            node,
            origin: origin.to_owned(),
            implied,
        };
        let Some(old) = self.nodes.get_mut(path) else {
            self.nodes.insert(path.to_owned(), placed);
            return Ok(());
        };
        match (&old.node, &placed.node) {
            (RootNode::Directory { .. }, RootNode::Directory { .. }) => {
                if old.implied && !implied {
                    *old = placed;
                }
                Ok(())
            }
            (old, new) if old == new => Ok(()),
            _ => Err(ErrorKind::RootTreeConflict {
                path: shown(path),
                first: old.origin.clone(),
                second: placed.origin,
            }
            .into()),
        }
    }

    /// Returns all nodes, a directory before what is in it, names in the order
    /// of their bytes.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &RootNode)> {
        let mut nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(path, placed)| (path.as_slice(), &placed.node))
            .collect();
        nodes.sort_unstable_by(|(a, _), (b, _)| {
            a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/'))
        });
        nodes.into_iter()
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn check(path: &[u8], node: &RootNode) -> Result<(), String> {
    if path
        .split(|b| *b == b'/')
        .any(|name| matches!(name, b"" | b"." | b".."))
    {
        return Err("expected a path below the root without empty names, . or ..".to_owned());
    }
    if path.contains(&0) {
        return Err("a name has a NUL byte".to_owned());
    }
    match node {
        RootNode::Directory { mode } if *mode > 0o7777 => {
            Err(format!("mode {mode:o} is more than permission bits"))
        }
        RootNode::Symlink { target } if target.is_empty() || target.contains(&0) => {
            Err("a symbolic link cannot be empty or have a NUL byte".to_owned())
        }
        RootNode::Directory { .. } | RootNode::Symlink { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: RootNode = RootNode::Directory { mode: 0o755 };

    fn link(target: &str) -> RootNode {
        RootNode::Symlink {
            target: target.into(),
        }
    }

    fn list(tree: &RootTree) -> Vec<String> {
        tree.nodes()
            .map(|(path, node)| {
                let path = String::from_utf8_lossy(path);
                match node {
                    RootNode::Directory { mode } => format!("{path}/ {mode:o}"),
                    RootNode::Symlink { target } => {
                        format!("{path} -> {}", String::from_utf8_lossy(target))
                    }
                }
            })
            .collect()
    }

    #[test]
    fn parents_come_first_and_names_in_order() {
        let mut tree = RootTree::default();
        assert!(tree.is_empty());
        tree.insert(b"b/c", link("x"), "one").unwrap();
        tree.insert(b"b-c", link("x"), "one").unwrap();
        tree.insert(b"b/a/d", DIRECTORY, "one").unwrap();
        tree.insert(b"a", link("x"), "one").unwrap();
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
        tree.insert(b"tmp/x", DIRECTORY, "one").unwrap();
        tree.insert(b"tmp", RootNode::Directory { mode: 0o1777 }, "two")
            .unwrap();
        tree.insert(b"tmp", RootNode::Directory { mode: 0o700 }, "three")
            .unwrap();
        tree.insert(b"tmp/y", DIRECTORY, "four").unwrap();
        assert_eq!(list(&tree), ["tmp/ 1777", "tmp/x/ 755", "tmp/y/ 755"]);
    }

    #[test]
    fn what_differs_is_a_conflict_that_names_both() {
        let mut tree = RootTree::default();
        tree.insert(b"bin/sh", link("bash"), "bash").unwrap();
        tree.insert(b"bin/sh", link("bash"), "bash again").unwrap();
        let mut conflict = |path: &[u8], node| {
            let error = tree.insert(path, node, "dash").unwrap_err();
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
    fn bad_paths_modes_and_links_are_refused() {
        let refused = |path: &[u8], node| {
            let mut tree = RootTree::default();
            let error = tree.insert(path, node, "it").unwrap_err();
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
        assert!(
            refused(b"a", RootNode::Directory { mode: 0o10000 })
                .ends_with("mode 10000 is more than permission bits")
        );
        for target in ["", "a\0b"] {
            assert!(
                refused(b"a", link(target))
                    .ends_with("a symbolic link cannot be empty or have a NUL byte")
            );
        }
        let mut tree = RootTree::default();
        tree.insert(b"...", DIRECTORY, "it").unwrap();
        tree.insert(b"\xff/..a", link("."), "it").unwrap();
    }
}
