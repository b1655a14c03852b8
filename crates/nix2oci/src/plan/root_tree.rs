//! Files outside the store, as data.

use std::collections::BTreeMap;

use crate::error::{ErrorKind, Result};

/// What is at one path of the root tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootNode {
    /// A directory with these permission bits.
    Directory {
        /// Such as `0o755`.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: Vec<u8>,
    },
}

/// The part of an image's root that is not the store: it becomes the top
/// layer.
///
/// Paths are relative to the root, `/` between names. Every path but the first
/// level has its parent directory in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootTree {
    nodes: BTreeMap<Vec<u8>, (RootNode, String)>,
}

impl RootTree {
    /// Returns whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a node and the directories above it; `origin` names where it comes
    /// from, for errors. Two directories become one; the first one's mode
    /// stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`] if something else is there already.
    pub fn insert(&mut self, path: &[u8], node: RootNode, origin: &str) -> Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            self.insert_one(&path[..at], RootNode::Directory { mode: 0o755 }, origin)?;
        }
        self.insert_one(path, node, origin)
    }

    fn insert_one(&mut self, path: &[u8], node: RootNode, origin: &str) -> Result<()> {
        let Some((old, first)) = self.nodes.get(path) else {
            self.nodes
                .insert(path.to_owned(), (node, origin.to_owned()));
            return Ok(());
        };
        let both_directories = matches!(
            (old, &node),
            (RootNode::Directory { .. }, RootNode::Directory { .. })
        );
        if both_directories || *old == node {
            return Ok(());
        }
        Err(ErrorKind::RootTreeConflict {
            path: format!("/{}", String::from_utf8_lossy(path)),
            first: first.clone(),
            second: origin.to_owned(),
        }
        .into())
    }

    /// Returns all nodes, a directory before what is in it, names in the order
    /// of their bytes.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &RootNode)> {
        let mut nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(path, (node, _))| (path.as_slice(), node))
            .collect();
        nodes.sort_unstable_by(|(a, _), (b, _)| {
            a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/'))
        });
        nodes.into_iter()
    }
}
