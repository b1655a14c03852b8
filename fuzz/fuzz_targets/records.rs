//! A manifest, a zero byte, and a config.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use nix2oci::image::{ImageTable, layer_records};
use nix2oci::oci::{ImageConfiguration, ImageManifest};

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0);
    let (manifest, config) = bytes.split_at(at.unwrap_or(bytes.len()));
    let Ok(manifest) = ImageManifest::from_reader(manifest) else {
        return;
    };
    let table = ImageTable::read(&manifest).unwrap_or_default();
    if !table.layers.is_empty() {
        assert_eq!(table.layers.len(), manifest.layers().len());
    }
    let paths = || table.layers.iter().flat_map(|layer| &layer.paths);
    let different: BTreeSet<_> = paths().map(|told| &told.path).collect();
    assert_eq!(different.len(), paths().count());
    let Ok(config) = ImageConfiguration::from_reader(config.get(1..).unwrap_or_default()) else {
        return;
    };
    for (key, record) in layer_records(&manifest, &config) {
        let is_layer = |n: &usize| {
            table.layers[*n].key == Some(key)
                && manifest.layers()[*n].digest().to_string() == record.digest.to_string()
                && config.rootfs().diff_ids()[*n] == record.diff_id.to_string()
        };
        assert!((0..manifest.layers().len()).any(|n| is_layer(&n)), "{key}");
    }
});
