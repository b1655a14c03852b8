//! Why a layer did not become what it has to be.

use crate::content::{ContentSource, nar_hash};
use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{LayerContent, LayerSpec};

/// Makes the error of a layer that did not become what it has to be: it names a
/// store path that is not what its NAR hash says, else the layer, as `what`.
pub(super) fn mismatch(
    cx: &Context,
    content: &dyn ContentSource,
    layer: &LayerSpec,
    what: String,
    expected: Digest,
    found: Digest,
) -> Result<Error> {
    if let LayerContent::StorePaths(paths) = &layer.content {
        for (path, expected) in paths {
            let Some(expected) = *expected else { continue };
            let found = nar_hash(cx, content, path)?;
            if found != expected {
                let path = layer.store_dir.join(path);
                return Ok(ErrorKind::NarHashMismatch {
                    path,
                    expected,
                    found,
                }
                .into());
            }
        }
    }
    Ok(ErrorKind::DigestMismatch {
        what,
        expected,
        found,
    }
    .into())
}
