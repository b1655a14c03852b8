//! What every parser must keep, whatever the bytes.

use nix2oci::closure::PathInfos;
use nix2oci::{Closure, Result, StoreDir};

/// Checks that a document gives a closure or an error that names it.
///
/// # Panics
///
/// If it gives neither.
pub fn check_document(document: &str, found: Result<PathInfos>) {
    match found {
        Ok(found) => {
            let roots: Vec<_> = found.infos.iter().map(|info| info.path.clone()).collect();
            let closure = Closure::new(StoreDir::default(), found.infos, &roots, document)
                .expect("a document that was accepted is closed and has no cycle");
            for root in &found.roots {
                assert!(closure.find(root).is_some(), "root {root} is there");
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(document), "{message}");
        }
    }
}
