//! A root tree on top of files that are there already.
//!
//! A layer that has a directory where a layer below it has a symlink replaces
//! the link: on a distribution where `/bin` leads to `usr/bin`, one file in
//! `/bin` would take all programs away. So what would be in such a directory
//! goes to where the link leads, as it would if it were copied there.

use std::collections::BTreeMap;

use crate::error::Result;

use super::{RootNode, RootTree};

/// How many links are followed to find where a path leads, as in Linux.
const MOST_LINKS: usize = 40;

/// Symlinks: where they are, without `/` at the beginning, and what they hold.
pub(crate) type Links = BTreeMap<Vec<u8>, Vec<u8>>;

impl RootTree {
    /// Returns the tree as it is on top of these links: what is in a directory
    /// that is a link below is where that leads. A file or a link of the tree
    /// replaces a link of the same path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`](crate::ErrorKind::RootTreeConflict) if
    /// two nodes that differ come to one place.
    pub(crate) fn through(&self, links: &Links) -> Result<Self> {
        if links.is_empty() {
            return Ok(self.clone());
        }
        let mut tree = Self::default();
        for (path, placed) in &self.nodes {
            let is_directory = matches!(placed.node, RootNode::Directory);
            let to = follow(links, path, is_directory);
            // The root is there.
            if !to.is_empty() {
                tree.add(&to, placed.clone(), &mut |_, _| Ok(false))?;
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
