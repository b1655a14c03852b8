#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::StoreDir;
use nix2oci::closure::path_info_json;
use nix2oci_fuzz::check_document;

fuzz_target!(|bytes: &[u8]| {
    let found = path_info_json::parse(bytes, "document", &StoreDir::default());
    check_document("document", found);
});
