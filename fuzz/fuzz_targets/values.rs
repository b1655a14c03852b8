#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use nix2oci::layer::Owner;
use nix2oci::oci::{Timestamp, display_platform, parse_platform};
use nix2oci::{Compression, DiffId, Digest, NarHash, StoreDir, StorePath};

/// Checks that a value is shown as a text that means the same.
fn check<T: FromStr + Display>(text: &str) {
    let Ok(value) = text.parse::<T>() else {
        return;
    };
    let shown = value.to_string();
    let again = shown.parse::<T>().ok().map(|again| again.to_string());
    assert_eq!(again.as_deref(), Some(shown.as_str()), "{text:?}");
}

fuzz_target!(|text: &str| {
    check::<Compression>(text);
    check::<Digest>(text);
    check::<DiffId>(text);
    check::<NarHash>(text);
    check::<StoreDir>(text);
    check::<StorePath>(text);
    check::<Timestamp>(text);
    let _ = text.parse::<Owner>();
    if let Ok(platform) = parse_platform(text) {
        let shown = display_platform(&platform);
        let again = parse_platform(&shown).expect("a platform that is shown is one");
        assert_eq!(display_platform(&again), shown, "{text:?}");
    }
});
