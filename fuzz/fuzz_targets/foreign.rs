#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::build::{ForeignFormat, ForeignImage};

fuzz_target!(|bytes: &[u8]| match ForeignImage::parse(bytes, "document") {
    Ok(image) => {
        assert!(ForeignFormat::recognise(bytes).is_some());
        assert!(image.layers.iter().all(|layer| !layer.is_empty()));
    }
    Err(error) => {
        let message = error.to_string();
        assert!(message.starts_with("document"), "{message}");
    }
});
