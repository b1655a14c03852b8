//! Places in the store, and where links lead to.

use crate::content::{ContentSource, Entry};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::{StoreDir, StorePath};

/// How many links in a row are followed: Linux's own limit.
pub(super) const MAX_LINKS: usize = 40;

/// A place in a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: StorePath,
    /// Relative to the store path, empty for itself.
    pub(super) inside: Vec<u8>,
}

/// What is at a [`Place`].
pub(super) enum Found {
    Directory,
    File,
    Nothing,
    /// A symbolic link, or the place lies behind one.
    Link {
        /// Where the link is, relative to the store path.
        at: Vec<u8>,
        /// What it holds, with what is left of the place behind it.
        target: Vec<u8>,
    },
}

/// Looks at a place, and where that is or leads to a link, at what the link
/// leads to; returns what is there in the end. `what` names it in errors, which
/// say what was `expected`.
pub(super) fn follow(
    what: &str,
    expected: &str,
    store_dir: &StoreDir,
    start: Place,
    mut look: impl FnMut(&Place) -> Result<Found>,
) -> Result<(Place, Found)> {
    let refuse = |problem| Error::invalid(what, problem);
    let mut place = start;
    for _ in 0..=MAX_LINKS {
        match look(&place)? {
            Found::Nothing => {
                let place = shown(store_dir, &place);
                return Err(refuse(format!(
                    "{place} does not exist, expected {expected}"
                )));
            }
            Found::Link { at, target } => {
                place = resolve(store_dir, &place.path, &at, &target).ok_or_else(|| {
                    let target = String::from_utf8_lossy(&target);
                    refuse(format!(
                        "it leads to {target}, expected {expected} in {store_dir}"
                    ))
                })?;
            }
            found => return Ok((place, found)),
        }
    }
    Err(refuse(format!("it leads over more than {MAX_LINKS} links")))
}

/// Visits the store path of a place, and calls `visitor` for what is below the
/// place with the path from there. What is at the place itself comes with an
/// empty path if it is a file, and is returned.
pub(super) fn visit(
    cx: &Context,
    content: &dyn ContentSource,
    place: &Place,
    visitor: &mut dyn FnMut(&[u8], Entry<'_>) -> Result<()>,
) -> Result<Found> {
    let mut found = Found::Nothing;
    content.visit(cx, &place.path, &mut |entry| {
        if let Some(rest) = below(&place.inside, entry.path()) {
            // The entry is the place itself or on the way to it.
            match entry {
                Entry::Symlink { path, target } => {
                    let target = join(target, rest);
                    let at = path.to_owned();
                    found = Found::Link { at, target };
                }
                Entry::Directory { .. } if rest.is_empty() => found = Found::Directory,
                Entry::File { .. } if rest.is_empty() => {
                    found = Found::File;
                    return visitor(b"", entry);
                }
                Entry::Directory { .. } | Entry::File { .. } => {}
            }
            return Ok(());
        }
        match below(entry.path(), &place.inside).map(<[u8]>::to_owned) {
            Some(name) => visitor(&name, entry),
            None => Ok(()),
        }
    })?;
    Ok(found)
}

/// Returns where in the store a link leads to that is in a store path. Takes
/// `..` for the directory above by name.
pub(super) fn resolve(
    store_dir: &StoreDir,
    path: &StorePath,
    at: &[u8],
    target: &[u8],
) -> Option<Place> {
    let mut names: Vec<&[u8]> = Vec::new();
    let full = join(store_dir.join(path).as_bytes(), at);
    if !target.starts_with(b"/") {
        names.extend(full.split(|b| *b == b'/').filter(|name| !name.is_empty()));
        names.pop();
    }
    for name in target.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    let mut names = names.into_iter();
    let in_store = store_dir
        .components()
        .all(|expected| names.next() == Some(expected.as_bytes()));
    let path = names.next().filter(|_| in_store)?;
    Some(Place {
        path: std::str::from_utf8(path).ok()?.parse().ok()?,
        inside: names.collect::<Vec<_>>().join(&b'/'),
    })
}

/// Returns the full path of a place, for people.
pub(super) fn shown(store_dir: &StoreDir, place: &Place) -> String {
    let full = join(store_dir.join(&place.path).as_bytes(), &place.inside);
    String::from_utf8_lossy(&full).into_owned()
}

/// Returns `path` seen from `dir` if it is the same or below.
pub(super) fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    if dir.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(dir)? {
        b"" => Some(b""),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Joins two paths, either of which may be empty.
pub(super) fn join(dir: &[u8], rest: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if rest.is_empty() || dir.is_empty() {
        b""
    } else {
        b"/"
    };
    [dir, slash, rest].concat()
}
