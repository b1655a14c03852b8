//! Where a closure comes from.

use crate::context::{Context, Event};
use crate::error::Result;
use crate::store::{PathInfo, StoreDir, StorePath};

use super::Closure;

/// Tells what Nix knows of store paths.
pub trait ClosureSource: Send + Sync {
    /// Returns what this source is, as the user would name it: a file, a
    /// database. Errors show it.
    fn name(&self) -> String;

    /// Returns at least those of `roots` that the source knows and everything
    /// reachable from them; without `roots`, all that the source holds.
    ///
    /// A source may return more: [`Closure::new`] takes what it needs and
    /// checks it. It fails if what it read is malformed, not if a root is
    /// missing: another source may know it.
    fn path_infos(&self, cx: &Context, roots: &[StorePath]) -> Result<PathInfos>;
}

/// What a [`ClosureSource`] knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathInfos {
    /// The store paths, in any order.
    pub infos: Vec<PathInfo>,
    /// The paths that the source itself says are the roots, if it does.
    pub roots: Vec<StorePath>,
}

/// Reads the closure of `roots` from `sources`, which are asked in turn and
/// joined.
///
/// Without `roots` it is the closure of those that the sources name, and if
/// they name none, of all paths that they hold.
pub fn read_closure(
    cx: &Context,
    store_dir: &StoreDir,
    sources: &[&dyn ClosureSource],
    roots: &[StorePath],
) -> Result<Closure> {
    let mut infos = Vec::new();
    let (mut named, mut all) = (Vec::new(), Vec::new());
    for source in sources {
        cx.cancel.check()?;
        let found = source.path_infos(cx, roots)?;
        named.extend(found.roots);
        if roots.is_empty() {
            all.extend(found.infos.iter().map(|info| info.path.clone()));
        }
        infos.extend(found.infos);
    }
    let roots = match (roots, named.as_slice()) {
        ([], []) => &all,
        ([], named) => named,
        (roots, _) => roots,
    };
    let from = sources
        .iter()
        .map(|source| source.name())
        .collect::<Vec<_>>()
        .join(", ");
    let closure = Closure::new(store_dir.clone(), infos, roots, &from)?;
    cx.observer.event(&Event::ClosureRead {
        paths: closure.len(),
        nar_size: closure.total_nar_size(),
    });
    Ok(closure)
}
