//! Which links lead to directories.

use std::collections::{BTreeMap, HashMap};

use crate::content::{ContentSource, Entry};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{StoreDir, StorePath};

use super::place::{MAX_LINKS, Place, below, join, resolve};

/// What store paths have, as far as links need it: each is visited once.
pub(super) struct DirectoryLinks<'a> {
    cx: &'a Context,
    store_dir: &'a StoreDir,
    content: &'a dyn ContentSource,
    listings: HashMap<StorePath, Listing>,
    /// The directories that are being copied, each because of a link in the one
    /// before.
    open: Vec<Place>,
}

/// Directories and links of a store path, by where they are in it; a link has
/// what it holds.
type Listing = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl<'a> DirectoryLinks<'a> {
    pub(super) fn new(
        cx: &'a Context,
        store_dir: &'a StoreDir,
        content: &'a dyn ContentSource,
    ) -> Self {
        Self {
            cx,
            store_dir,
            content,
            listings: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// Begins to copy a directory.
    pub(super) fn enter(&mut self, directory: Place) {
        self.open.push(directory);
    }

    /// Ends the copy that was begun last.
    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    /// Returns the directory that a link leads to; `None` if it leads to
    /// something else, out of the store, or into a directory that is being
    /// copied, whose copy would have no end.
    pub(super) fn of(&mut self, link: &Place) -> Result<Option<Place>> {
        let mut place = link.clone();
        for _ in 0..=MAX_LINKS {
            let Some(listing) = self.listing(&place.path)? else {
                return Ok(None);
            };
            let ends = place.inside.iter().enumerate();
            let ends = ends.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            let mut ends = ends.chain([place.inside.len()]);
            let on_the_way = |end: usize| {
                let target = listing.get(&place.inside[..end])?.as_ref()?;
                Some((end, target))
            };
            let Some((end, target)) = ends.find_map(on_the_way).or_else(|| {
                let target = listing.get(&b""[..])?.as_ref()?;
                Some((0, target))
            }) else {
                let is_directory = listing.contains_key(&place.inside);
                let is_open = |open: &Place| {
                    open.path == place.path && below(&open.inside, &place.inside).is_some()
                };
                let is_endless = self.open.iter().any(is_open);
                return Ok((is_directory && !is_endless).then_some(place));
            };
            let rest = &place.inside[end..];
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let target = join(target, rest);
            let at = place.inside[..end].to_vec();
            match resolve(self.store_dir, &place.path, &at, &target) {
                Some(next) => place = next,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Returns what a store path has, if it is there.
    fn listing(&mut self, path: &StorePath) -> Result<Option<&Listing>> {
        if !self.listings.contains_key(path) {
            let mut listing = Listing::new();
            let visited = self.content.visit(self.cx, path, &mut |entry| {
                match entry {
                    Entry::Directory { path } => {
                        listing.insert(path.to_owned(), None);
                    }
                    Entry::Symlink { path, target } => {
                        listing.insert(path.to_owned(), Some(target.to_owned()));
                    }
                    Entry::File { .. } => {}
                }
                Ok(())
            });
            match visited {
                Err(error) if is_missing(&error) => return Ok(None),
                visited => visited?,
            }
            self.listings.insert(path.clone(), listing);
        }
        Ok(self.listings.get(path))
    }
}

/// Returns whether a store path is not there: a link may lead to nothing.
fn is_missing(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ReadStore { source, .. } if source.kind() == std::io::ErrorKind::NotFound
    )
}
