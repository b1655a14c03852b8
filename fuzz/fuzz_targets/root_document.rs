#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::content::Entry;
use nix2oci::plan::{RootDocument, RootTree};
use nix2oci::{ContentSource, Context, Error, Result, StoreDir, StorePath};

/// A store without anything in it.
struct Empty;

impl ContentSource for Empty {
    fn visit(
        &self,
        _: &Context,
        path: &StorePath,
        _: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        Err(Error::invalid(path.as_str(), "it is not there"))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let store_dir = StoreDir::default();
    match RootDocument::parse("document", bytes, &store_dir) {
        Ok(document) => {
            let (mut tree, cx) = (RootTree::default(), Context::default());
            // What it says may contradict itself, but is no defect.
            if let Ok(rules) = tree.add_documents(&cx, &store_dir, &Empty, &|_| None, &[document]) {
                let ruled = tree.with_rules(&rules, &store_dir);
                assert_eq!(ruled.nodes().count(), tree.nodes().count());
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("document"), "{message}");
        }
    }
});
