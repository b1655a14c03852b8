#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::content::Entry;
use nix2oci::plan::{AccountFiles, RootDocument, RootTree};
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
            // The document's own bytes are as good as any for those of a base.
            let mut base = AccountFiles::new("base");
            for path in AccountFiles::PATHS {
                base.insert(path, bytes.to_vec(), Default::default());
            }
            // What it says may contradict itself, but is no defect.
            let documents = [document];
            let added = tree.add_documents(&cx, &store_dir, &Empty, &|_| None, &documents, &base);
            if let Ok(ruled) = added.and_then(|rules| tree.with_rules(&rules, &store_dir)) {
                assert_eq!(ruled.nodes().count(), tree.nodes().count());
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("document"), "{message}");
        }
    }
});
