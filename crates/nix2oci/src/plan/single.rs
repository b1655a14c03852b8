//! One layer for everything.

use crate::error::Result;

use super::{Group, LayerRequest, LayerStrategy};

/// All paths in one layer: the least to pull for who has nothing, all of it
/// again after any change.
///
/// Costs O(paths).
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

impl LayerStrategy for Single {
    fn name(&self) -> String {
        "single".to_owned()
    }

    fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>> {
        if request.paths.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Group {
            paths: request.paths.to_vec(),
            reason: "everything".to_owned(),
        }])
    }
}
