//! The Nix daemon: what the owner of a store tells those who may not read its
//! database.

use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::Result;
use crate::store::StorePath;

use super::{ClosureSource, PathInfos};

impl ClosureSource for Daemon {
    fn name(&self) -> String {
        self.name()
    }

    /// Asks for the closure of `roots`, or for everything without roots.
    fn path_infos(&self, cx: &Context, roots: &[StorePath]) -> Result<PathInfos> {
        Ok(PathInfos {
            infos: self.closure(cx, roots)?,
            roots: Vec::new(),
        })
    }
}
