//! Symbolic links into the store that lead nowhere in the image.
//!
//! All layers are one tree for a container. A link is judged where it is seen:
//! no layer above deletes or replaces it; and so is what it leads to. Links
//! within one store path are its own matter: many packages have some that lead
//! nowhere, and nobody can help it here.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use crate::context::Context;
use crate::error::Result;
use crate::layer::{MAX_PATH, show};
use crate::store::{StoreDir, StorePath};

use super::ProblemKind;
use super::census::{Census, PathHash, parents};
use super::listing::StorePrefix;

/// Links that are followed before it is called a loop, as Linux does it.
const MOST_LINKS: usize = 40;

/// Missing store paths that are told of one image.
const MAX_MISSING: usize = 100;

/// Steps that are taken to follow the links of all images. Real images with half
/// a million links in a hundred layers take a fifth of them; a few kilobytes of
/// links to deep paths that lead over each other would take days.
const MAX_STEPS: u64 = 1 << 28;

/// Bytes that are hashed in the time of a step, which looks a hash up.
const STEP_BYTES: u64 = 32;

/// What is left of the steps that may be taken.
pub(super) struct Effort(Cell<u64>);

impl Default for Effort {
    fn default() -> Self {
        Self(Cell::new(MAX_STEPS))
    }
}

impl Effort {
    /// Takes a step in which so many bytes are hashed, unless none is left.
    fn step(&self, bytes: u64) -> bool {
        let left = self.0.get().saturating_sub(1 + bytes / STEP_BYTES);
        self.0.set(left);
        left > 0
    }

    /// Returns whether no step is left.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// Where a link leads.
enum Leads {
    /// To something in the image, or to what cannot be told.
    Somewhere,
    /// Into a store path that is not in the image.
    Missing(StorePath),
    /// To nothing in a store path that is there.
    Nowhere,
}

/// The first link of a layer with a finding, what it holds, and how many links
/// there are besides.
struct First {
    link: String,
    target: String,
    others: u64,
}

/// Finds the links of an image that lead nowhere; `layers` are all of it,
/// bottom first. Returns each finding with the layer that has the link.
///
/// An image without any store path is meant for a store that is mounted: then
/// there is no finding. Nor is there one of the links for which no step is left.
pub(super) fn check_links(
    cx: &Context,
    store_dir: &StoreDir,
    layers: &[&Census],
    effort: &Effort,
) -> Result<Vec<(usize, ProblemKind)>> {
    if layers.iter().all(|layer| layer.store_paths.is_empty()) {
        return Ok(Vec::new());
    }
    let mut tree = Tree::new(store_dir, layers, effort);
    let mut missing: BTreeMap<(usize, StorePath), First> = BTreeMap::new();
    let mut nowhere: BTreeMap<usize, First> = BTreeMap::new();
    for (at, layer) in layers.iter().enumerate() {
        for (link, target) in &layer.links {
            cx.cancel.check()?;
            let found = tree.leads(link, target);
            if matches!(found, Leads::Somewhere) || !tree.is_seen(link, at) || effort.is_spent() {
                continue;
            }
            let first = || First {
                link: format!("/{}", show(link)),
                target: show(target),
                others: 0,
            };
            match found {
                Leads::Somewhere => {}
                Leads::Missing(path) if missing.contains_key(&(at, path.clone())) => {
                    missing.entry((at, path)).and_modify(|f| f.others += 1);
                }
                Leads::Missing(path) if missing.len() < MAX_MISSING => {
                    missing.insert((at, path), first());
                }
                Leads::Missing(_) => {}
                Leads::Nowhere => {
                    nowhere
                        .entry(at)
                        .and_modify(|f| f.others += 1)
                        .or_insert_with(first);
                }
            }
        }
    }
    let missing = missing.into_iter().map(|((at, path), first)| {
        let kind = ProblemKind::MissingStorePath {
            path: store_dir.join(&path),
            link: first.link,
            others: first.others,
        };
        (at, kind)
    });
    let nowhere = nowhere.into_iter().map(|(at, first)| {
        let kind = ProblemKind::DanglingLink {
            link: first.link,
            target: first.target,
            others: first.others,
        };
        (at, kind)
    });
    Ok(missing.chain(nowhere).collect())
}

/// All layers of an image as one tree.
struct Tree<'a> {
    prefix: StorePrefix,
    layers: &'a [&'a Census],
    store_paths: BTreeSet<&'a StorePath>,
    effort: &'a Effort,
}

impl<'a> Tree<'a> {
    fn new(store_dir: &StoreDir, layers: &'a [&'a Census], effort: &'a Effort) -> Self {
        Self {
            prefix: StorePrefix::new(store_dir),
            layers,
            store_paths: layers.iter().flat_map(|l| &l.store_paths).collect(),
            effort,
        }
    }

    /// Returns the topmost layer that has a path, if it is seen there; none if no
    /// step is left.
    fn layer_of(&self, path: &[u8]) -> Option<usize> {
        if !self.effort.step(path.len() as u64) {
            return None;
        }
        let name = PathHash::of(path);
        for (at, layer) in self.layers.iter().enumerate().rev() {
            if !self.effort.step(layer.cost_to_hide(path)) {
                return None;
            }
            if layer.has(name) {
                return Some(at);
            }
            if layer.hides(path) {
                return None;
            }
        }
        None
    }

    /// Returns whether what layer `at` has at a path is what a container sees.
    fn is_seen(&self, path: &[u8], at: usize) -> bool {
        let name = PathHash::of(path);
        let mut above = self.layers[at + 1..].iter();
        !above.any(|layer| {
            !self.effort.step(layer.cost_to_hide(path)) || layer.has(name) || layer.hides(path)
        })
    }

    /// Finds out where a link at a path leads.
    fn leads(&mut self, link: &[u8], target: &[u8]) -> Leads {
        let own = self.prefix.split(link).map(|(path, _)| path);
        let Some(mut goal) = join(parents(link).next().unwrap_or_default(), target) else {
            return Leads::Somewhere;
        };
        for _ in 0..MOST_LINKS {
            let Some((store_path, _)) = self.prefix.split(&goal) else {
                return Leads::Somewhere;
            };
            // It may grow with each link that it leads over.
            if own.as_ref() == Some(&store_path) || goal.len() > MAX_PATH {
                return Leads::Somewhere;
            }
            if !self.store_paths.contains(&store_path) {
                return Leads::Missing(store_path);
            }
            if self.layer_of(&goal).is_some() {
                return Leads::Somewhere;
            }
            match self.past_link(&goal) {
                Some(Some(next)) => goal = next,
                Some(None) => return Leads::Somewhere,
                None => return Leads::Nowhere,
            }
        }
        Leads::Nowhere
    }

    /// Follows the first link above a path: returns where the path leads then,
    /// which is nowhere that can be told if there are too many `..`.
    fn past_link(&self, path: &[u8]) -> Option<Option<Vec<u8>>> {
        let above: Vec<&[u8]> = parents(path).collect();
        above.into_iter().rev().find_map(|directory| {
            let layer = self.layers[self.layer_of(directory)?];
            let target = layer.links.get(directory)?;
            let parent = parents(directory).next().unwrap_or_default();
            let rest = &path[directory.len() + 1..];
            Some(join(parent, target).and_then(|at| join(&at, rest)))
        })
    }
}

/// Returns where a relative or absolute path leads from a directory, without
/// its first slash; `None` if it leads above the root.
fn join(directory: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let start = if path.starts_with(b"/") {
        &b""[..]
    } else {
        directory
    };
    let mut names: Vec<&[u8]> = Vec::new();
    for name in start
        .split(|b| *b == b'/')
        .chain(path.split(|b| *b == b'/'))
    {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join(&b'/'))
}

#[cfg(test)]
#[path = "check_links_tests.rs"]
mod tests;
