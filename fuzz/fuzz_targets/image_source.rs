#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::image::ImageSource;
use nix2oci::sink::Destination;

fuzz_target!(|text: &str| {
    // Where an image can be read from, one can be written to.
    if let Ok(ImageSource::Layout { dir, .. }) = text.parse()
        && text.starts_with("oci:")
        && let Ok(Destination::OciLayout { dir: to, .. }) = text.parse()
    {
        assert_eq!(dir, to, "{text:?}");
    }
});
