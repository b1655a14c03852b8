//! Layers that were made before, at the bottom of an image.

use std::collections::BTreeSet;

use crate::closure::{Closure, PathId};
use crate::error::{Error, Result};
use crate::layer::UsedLayer;
use crate::plan::LayerOrigin;

use super::recipe_parts::used;
use super::{ImageSpec, LayerOutline};

/// Returns the outlines of the layers that the spec names, in its order.
pub(super) fn outlines(spec: &ImageSpec) -> Vec<LayerOutline> {
    let outline = |layer: &UsedLayer| LayerOutline {
        key: layer.spec.key(&layer.packing),
        spec: used(layer.clone()),
        nar_size: layer.nar_sizes.iter().copied().fold(0, u64::saturating_add),
        nar_sizes: layer.nar_sizes.clone(),
        strategy: "used".to_owned(),
        reason: format!("made before: {}", layer.name),
        origin: LayerOrigin::New,
    };
    spec.used_layers.iter().map(outline).collect()
}

/// Returns the store paths of the closure that these layers have, sorted.
///
/// # Errors
///
/// [`ErrorKind::Image`](crate::error::ErrorKind::Image) if a layer has another
/// store directory, or another NAR hash of such a path than the closure.
pub(super) fn below(spec: &ImageSpec, closure: &Closure) -> Result<Vec<PathId>> {
    let mut known = BTreeSet::new();
    let mut below = Vec::new();
    for layer in &spec.used_layers {
        if layer.spec.store_dir != *closure.store_dir() {
            let problem = format!(
                "its store directory is {}, expected {}",
                layer.spec.store_dir,
                closure.store_dir()
            );
            return Err(Error::image(&layer.name, problem));
        }
        for (path, nar_hash) in layer.spec.content.store_paths() {
            let Some(id) = closure.find(path) else {
                continue;
            };
            let wanted = closure.info(id).nar_hash;
            if let (Some(found), Some(wanted)) = (nar_hash, wanted)
                && *found != wanted
            {
                let path = closure.full_path(id);
                let problem =
                    format!("its {path} has NAR hash {found}, and the closure's {wanted}");
                return Err(Error::image(&layer.name, problem));
            }
            if known.insert(path) {
                below.push(id);
            }
        }
    }
    below.sort_unstable();
    Ok(below)
}
