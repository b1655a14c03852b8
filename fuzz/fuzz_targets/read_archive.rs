#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use nix2oci::Context;
use nix2oci::image::{ImageReader, ImageSource, InspectOptions, check, inspect};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let file = dir.path().join("image");
    fs::write(&file, bytes).expect("the temporary folder is writable");
    let cx = Context::default();
    let source = ImageSource::Archive { file, tag: None };
    // An error or a list of problems; what counts is that it ends with one.
    if let Ok(reader) = ImageReader::open(&cx, &source) {
        let _ = check(&cx, &reader);
        let _ = inspect(&cx, &reader, None, &InspectOptions::default());
    }
});
