//! Closures as binary caches tell them.

use std::sync::Arc;

use crate::binary_cache::BinaryCaches;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::store::StorePath;

use super::{ClosureSource, PathInfos};

/// The store paths that binary caches have.
///
/// It asks for the roots and then for what they refer to, many at once. What
/// no cache has it leaves out: another source may know it. A cache does not say
/// what it has, so the roots must be named.
#[derive(Debug, Clone)]
pub struct BinaryCacheClosure {
    /// The caches.
    pub caches: Arc<BinaryCaches>,
}

impl ClosureSource for BinaryCacheClosure {
    fn name(&self) -> String {
        self.caches.name()
    }

    fn path_infos(&self, cx: &Context, roots: &[StorePath]) -> Result<PathInfos> {
        let infos = self.caches.closure(cx, roots)?;
        if roots.is_empty() {
            return Err(Error::invalid(
                self.name(),
                "a binary cache does not say which store paths it has; expected the roots to be \
                 named",
            ));
        }
        Ok(PathInfos {
            infos: infos.iter().map(|info| info.path_info()).collect(),
            roots: Vec::new(),
        })
    }
}
