#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::StoreDir;
use nix2oci::closure::attrs_json;
use nix2oci_fuzz::check_document;

fuzz_target!(|bytes: &[u8]| {
    for key in [None, Some("closure")] {
        let found = attrs_json::parse(bytes, "document", &StoreDir::default(), key);
        check_document("document", found);
    }
});
