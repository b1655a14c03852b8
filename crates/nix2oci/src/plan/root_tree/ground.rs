//! A root tree on top of files that are there already.
//!
//! A layer that has a directory where a layer below it has a symlink replaces
//! the link: on a distribution where `/bin` leads to `usr/bin`, one file in
//! `/bin` would take all programs away. So what would be in such a directory
//! goes to where the link leads, as it would if it were copied there. A
//! directory that is there and of which the tree says nothing stays what it is:
//! `/tmp` with its sticky bit, a home directory with its owner.

use std::collections::BTreeMap;

use crate::error::Result;

use super::{Metadata, RootNode, RootTree};

/// How many links are followed to find where a path leads, as in Linux.
const MOST_LINKS: usize = 40;

/// What a root tree is put on. Paths have no `/` at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ground {
    /// Symlinks and what they hold.
    pub(crate) links: Links,
    /// Directories, and their modes and owners.
    pub(crate) directories: BTreeMap<Vec<u8>, Metadata>,
}

type Links = BTreeMap<Vec<u8>, Vec<u8>>;

impl Ground {
    /// Returns where a path leads through the links that are there.
    pub(crate) fn follow(&self, path: &str) -> Vec<u8> {
        follow(&self.links, path.as_bytes(), true)
    }
}

impl RootTree {
    /// Returns the tree as it is on this ground: what is in a directory that is
    /// a link there is where that leads, and a directory that is there keeps
    /// the mode and the owner that it has, unless the tree gives others. A file
    /// or a link of the tree replaces a link of the same path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`](crate::ErrorKind::RootTreeConflict) if
    /// two nodes that differ come to one place.
    pub(crate) fn on(&self, ground: &Ground) -> Result<Self> {
        let mut tree = Self::default();
        for (path, placed) in &self.nodes {
            let is_directory = matches!(placed.node, RootNode::Directory);
            let to = follow(&ground.links, path, is_directory);
            // The root is there.
            if !to.is_empty() {
                tree.add(&to, placed.clone(), &mut |_, _| Ok(false))?;
            }
        }
        for (path, placed) in &mut tree.nodes {
            if let (RootNode::Directory, Some(there)) = (&placed.node, ground.directories.get(path))
            {
                placed.metadata.complete(there.clone());
            }
        }
        Ok(tree)
    }
}

/// Returns where a path leads through these links, relative to the root; with
/// `follows_last` the last name counts as well. A path that leads nowhere, in a
/// ring, is returned as it is.
fn follow(links: &Links, path: &[u8], follows_last: bool) -> Vec<u8> {
    // Names still to go, the next one last.
    let names = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|b| *b == b'/')
            .filter(|name| !matches!(*name, b"" | b"."))
            .rev()
            .map(<[u8]>::to_vec)
            .collect()
    };
    let mut todo = names(path);
    let mut at: Vec<u8> = Vec::new();
    let mut seen = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            let end = at.iter().rposition(|b| *b == b'/').unwrap_or(0);
            at.truncate(end);
            continue;
        }
        let end = at.len();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(&name);
        let target = links.get(&at).filter(|_| follows_last || !todo.is_empty());
        let Some(target) = target else { continue };
        seen += 1;
        if seen > MOST_LINKS {
            return path.to_vec();
        }
        at.truncate(if target.starts_with(b"/") { 0 } else { end });
        todo.extend(names(target));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Owner;

    #[test]
    fn paths_are_followed_as_linux_does_it() {
        let links = [
            ("bin", "usr/bin"),
            ("lib", "/usr/lib/./"),
            ("usr/lib/deep", "../../srv//deep"),
            ("up", "../../.."),
            ("a", "b"),
            ("b", "a"),
            ("usr/bin/sh", "bash"),
        ];
        let links: Links = links.map(|(at, to)| (at.into(), to.into())).into();
        for (path, follows_last, expected) in [
            ("bin/x", true, "usr/bin/x"),
            ("bin", false, "bin"),
            ("bin", true, "usr/bin"),
            ("bin/sh", true, "usr/bin/bash"),
            ("bin/sh", false, "usr/bin/sh"),
            ("lib/x", true, "usr/lib/x"),
            ("lib/deep/x", true, "srv/deep/x"),
            ("up/etc", true, "etc"),
            ("up", true, ""),
            ("a/x", true, "a/x"),
            ("other", true, "other"),
        ] {
            let found = follow(&links, path.as_bytes(), follows_last);
            assert_eq!(found, expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn directories_that_are_there_stay_what_they_are() {
        let mut tree = RootTree::default();
        let link = || RootNode::Symlink { target: "x".into() };
        for path in ["tmp/a", "home/me/b", "var/c"] {
            tree.insert(path.as_bytes(), link(), Metadata::default(), "one")
                .unwrap();
        }
        tree.insert(b"var", RootNode::Directory, Metadata::mode(0o700), "one")
            .unwrap();
        let there = |mode, id| Metadata {
            owner: Some(Owner { uid: id, gid: id }),
            ..Metadata::mode(mode)
        };
        let mut ground = Ground::default();
        for (path, metadata) in [
            ("tmp", there(0o1777, 0)),
            ("home/me", there(0o750, 1000)),
            ("var", there(0o755, 7)),
        ] {
            ground.directories.insert(path.into(), metadata);
        }
        let tree = tree.on(&ground).unwrap();
        let found = |path: &str| tree.nodes[path.as_bytes()].metadata.clone();
        assert_eq!(found("tmp"), there(0o1777, 0));
        assert_eq!(found("home"), Metadata::default());
        assert_eq!(found("home/me"), there(0o750, 1000));
        assert_eq!(found("var"), there(0o700, 7));
        assert_eq!(found("tmp/a"), Metadata::default());
    }
}
