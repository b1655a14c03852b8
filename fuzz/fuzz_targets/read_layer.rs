#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::layer::survey;
use nix2oci::{Context, Digest, StoreDir};

// A few bytes can stand for very many.
const MOST: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let blob = &bytes[..bytes.len().min(MOST)];
    let found = survey(&Context::default(), &StoreDir::default(), blob)
        .expect("a reader that does not fail gives a survey");
    assert_eq!(
        (found.digest, found.size),
        (Digest::of(blob), blob.len() as u64)
    );
    if found.tar.is_none() {
        assert!(!found.problems.is_empty(), "a reason is told");
    }
});
