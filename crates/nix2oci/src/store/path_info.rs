//! What Nix knows of a store path.

use super::{ExpectedNar, NarHash, StorePath};

/// What Nix knows of a store path, as far as an image needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The store path.
    pub path: StorePath,
    /// The store paths that its content mentions, in any order;
    /// [`Closure::new`](crate::closure::Closure::new) sorts them, keeps each once
    /// and takes the path itself out.
    pub references: Vec<StorePath>,
    /// Whether its content mentions the path itself, as Nix keeps it.
    pub refers_to_itself: bool,
    /// The hash of its NAR serialisation, if the source tells it.
    pub nar_hash: Option<NarHash>,
    /// The bytes of its NAR serialisation, if the source tells them.
    pub nar_size: Option<u64>,
    /// The derivation that made it, if the source tells it.
    pub deriver: Option<StorePath>,
}

impl PathInfo {
    /// Makes one; takes a reference to itself out, sorts the others and keeps
    /// each once.
    pub fn new(path: StorePath, references: impl IntoIterator<Item = StorePath>) -> Self {
        let mut references: Vec<_> = references.into_iter().collect();
        let all = references.len();
        references.retain(|reference| *reference != path);
        let refers_to_itself = references.len() < all;
        references.sort_unstable();
        references.dedup();
        Self {
            path,
            references,
            refers_to_itself,
            nar_hash: None,
            nar_size: None,
            deriver: None,
        }
    }

    /// Returns what its NAR must be; None if the source tells no NAR hash.
    pub fn expected_nar(&self) -> Option<ExpectedNar> {
        Some(ExpectedNar {
            nar_hash: self.nar_hash?,
            nar_size: self.nar_size,
        })
    }
}
