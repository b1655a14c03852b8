#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::StoreDir;
use nix2oci::closure::registration;
use nix2oci_fuzz::check_document;

fuzz_target!(|bytes: &[u8]| {
    let found = registration::parse(bytes, "document", &StoreDir::default());
    check_document("document", found);
});
