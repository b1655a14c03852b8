#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::image::ImageConfig;
use nix2oci::oci::parse_platform;

fuzz_target!(|bytes: &[u8]| {
    let platform = parse_platform("linux/amd64").expect("a platform");
    if let Err(error) = ImageConfig::from_json("document", bytes, platform) {
        let message = error.to_string();
        assert!(message.starts_with("document"), "{message}");
    }
});
