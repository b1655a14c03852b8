//! A manifest, a zero byte, and a config.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::image::{layer_records, layer_store_paths};
use nix2oci::oci::{ImageConfiguration, ImageManifest, annotation};

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0);
    let (manifest, config) = bytes.split_at(at.unwrap_or(bytes.len()));
    let Ok(manifest) = ImageManifest::from_reader(manifest) else {
        return;
    };
    let said = |layer: usize, name: &str| {
        let annotations = manifest.layers()[layer].annotations().as_ref()?;
        annotations.get(name).cloned()
    };
    for (n, layer) in manifest.layers().iter().enumerate() {
        if let Some(paths) = layer_store_paths(layer) {
            let names: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
            assert_eq!(said(n, annotation::STORE_PATHS), Some(names.join(" ")));
        }
    }
    let Ok(config) = ImageConfiguration::from_reader(config.get(1..).unwrap_or_default()) else {
        return;
    };
    for (key, record) in layer_records(&manifest, &config) {
        let is_layer = |n: &usize| {
            said(*n, annotation::LAYER_KEY) == Some(key.to_string())
                && manifest.layers()[*n].digest().to_string() == record.digest.to_string()
                && config.rootfs().diff_ids()[*n] == record.diff_id.to_string()
        };
        assert!((0..manifest.layers().len()).any(|n| is_layer(&n)), "{key}");
    }
});
