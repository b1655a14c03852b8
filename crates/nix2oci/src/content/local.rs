//! A store on this machine's disk.

use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::Result;
use crate::store::{StoreDir, StorePath};

use super::{ContentSource, Entry};

/// A store on this machine's disk, perhaps below another root than it will
/// have in the image.
#[derive(Debug, Clone)]
pub struct LocalStore {
    dir: PathBuf,
}

impl LocalStore {
    /// Reads the store directory itself: `/nix/store`.
    pub fn new(store_dir: &StoreDir) -> Self {
        Self {
            dir: store_dir.as_path().to_owned(),
        }
    }

    /// Reads a store that lies below `root`, as Nix's chroot stores do:
    /// `root/nix/store`.
    pub fn below(root: &Path, store_dir: &StoreDir) -> Self {
        Self {
            dir: root.join(&store_dir.as_str()[1..]),
        }
    }

    /// Returns where a store path lies.
    pub fn locate(&self, path: &StorePath) -> PathBuf {
        self.dir.join(path.as_str())
    }
}

impl ContentSource for LocalStore {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let _ = (cx, path, visitor);
        unimplemented!("content::local")
    }
}
