//! What is found in images themselves: store paths, references, and what layers
//! hide from each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix2oci::closure::{Registration, read_closure};
use nix2oci::image::{
    ImageClosure, ImageConfig, ImageListing, ImageReader, ImageSource, InspectOptions,
    ListingOptions, RootReason, diff, image_closure, inspect,
};
use nix2oci::oci::{parse_names, parse_platform};
use nix2oci::sink::OciLayout;
use nix2oci::{Closure, Compression, Context, Error, ErrorKind, ImageSpec, LocalStore, StoreDir};
use nix2oci_tests::command::repository;
use nix2oci_tests::handmade_image::{
    Codec, Entry, HandmadeImage, HandmadeLayer, STORE_PATHS, in_dir, in_file, store, tar,
};
use serde_json::json;

fn open(path: &Path) -> ImageReader {
    ImageReader::open(&Context::default(), &ImageSource::Path(path.to_owned())).unwrap()
}

fn closure_of(reader: &ImageReader) -> Result<ImageClosure, Error> {
    image_closure(&Context::default(), reader, None, &StoreDir::default())
}

/// The fixture's closure, as Nix tells it.
fn fixture() -> Closure {
    let dir = repository().join("fixtures/closure");
    let paths = fs::read_to_string(dir.join("paths")).unwrap();
    let store_dir = StoreDir::default();
    let app = paths
        .lines()
        .find(|path| path.ends_with("-app-1.0"))
        .unwrap();
    let app = store_dir.parse_path(app).unwrap();
    let source = Registration::new(dir.join("registration"), store_dir.clone());
    read_closure(&Context::default(), &store_dir, &[&source], &[app]).unwrap()
}

/// Builds the fixture's image into a layout.
fn build(dir: &Path, compression: Compression) -> ImageReader {
    let closure = fixture();
    let root = repository().join("fixtures/closure/root");
    let content = LocalStore::below(&root, closure.store_dir());
    let config = ImageConfig::new(parse_platform("linux/amd64").unwrap());
    let mut spec = ImageSpec::new(closure, Arc::new(content), config);
    spec.packing.compression = compression;
    spec.names = parse_names("example.org/app:1", &[] as &[&str]).unwrap();
    let mut sink = OciLayout::open(dir, None).unwrap();
    nix2oci::build(&Context::default(), &spec, &mut sink).unwrap();
    open(dir)
}

#[test]
fn references_in_files_are_those_that_nix_registered() {
    let dir = tempfile::tempdir().unwrap();
    let expected = fixture();
    for compression in ["none", "gzip", "zstd"] {
        let reader = build(&dir.path().join(compression), compression.parse().unwrap());
        let found = closure_of(&reader).unwrap();
        assert_eq!(found.closure.len(), expected.len());
        for id in expected.ids() {
            let info = expected.info(id);
            let found = found
                .closure
                .find(&info.path)
                .map(|id| found.closure.info(id));
            let found = found.unwrap();
            let set = |paths: &[nix2oci::StorePath]| paths.iter().cloned().collect::<BTreeSet<_>>();
            assert_eq!(
                set(&found.references),
                set(&info.references),
                "{}",
                info.path
            );
            assert_eq!(found.nar_size, info.nar_size, "{}", info.path);
        }
        let roots: Vec<_> = found.roots.iter().collect();
        assert_eq!(
            roots,
            [(&found.closure.roots()[0], &RootReason::Unreferenced)]
        );
        assert_eq!(found.closure.path(*roots[0].0).name(), "app-1.0");
    }
}

#[test]
fn an_image_without_a_table_is_read_if_that_is_allowed() {
    for image in [
        HandmadeImage::new(Codec::Gzip),
        HandmadeImage::new(Codec::Zstd),
    ] {
        for disk in [in_dir(&image.layout()), in_file(&image.docker().archive())] {
            let reader = open(&disk.path);
            let list = |read_layers| {
                let options = ListingOptions {
                    read_layers,
                    ..ListingOptions::default()
                };
                ImageListing::read(&Context::default(), &reader, None, &options).unwrap()
            };
            let listing = list(true);
            let paths: Vec<Vec<_>> = listing
                .layers
                .iter()
                .map(|layer| layer.paths.iter().flatten().collect())
                .collect();
            let names = |at: usize| paths[at].iter().map(|p| format!("/nix/store/{}", p.path));
            assert!(names(0).eq([STORE_PATHS[0]]) && names(1).eq([STORE_PATHS[1]]));
            // A hard link's size is not known; 5000 bytes that can be
            // executed need 144 more in a NAR.
            assert_eq!(paths[0][0].nar_size, None);
            assert_eq!(paths[1][0].nar_size, Some(5144));
            assert!(!list(false).is_complete());
            assert!(diff(&listing, &list(false)).is_same);
        }
    }
}

fn store_path(n: usize, name: &str) -> String {
    format!("nix/store/{}{n}-{name}", "0".repeat(31))
}

fn image(layers: &[&[Entry]]) -> HandmadeImage {
    let layers = layers.iter().map(|entries| {
        let entries: Vec<_> = store().into_iter().chain(entries.iter().cloned()).collect();
        HandmadeLayer::new(&tar(&entries), Codec::Gzip)
    });
    HandmadeImage {
        layers: layers.collect(),
        ..HandmadeImage::default()
    }
}

#[test]
fn roots_are_what_config_and_symlinks_name_and_what_is_left() {
    let [app, lib, tool, other] =
        [(1, "app"), (2, "lib"), (3, "tool"), (4, "other")].map(|(n, name)| store_path(n, name));
    let file = |path: &str, text: &str| Entry::File(path.to_owned(), text.into());
    let mut image = image(&[
        &[
            file(
                &lib,
                "no references, but itself 00000000000000000000000000000002",
            ),
            file(&app, &format!("{}/{lib}", "x".repeat(70_000))),
        ],
        &[
            Entry::Symlink(tool.clone(), format!("/{lib}")),
            file(&other, "nothing"),
            Entry::Symlink("bin".to_owned(), format!("/{tool}/bin")),
        ],
    ]);
    image.config = |config| {
        config["config"]["Cmd"] = json!(null);
        config["config"]["Env"] = json!(["A=/nix/store/00000000000000000000000000000001-app/x"]);
    };
    let disk = in_dir(&image.layout());
    let found = closure_of(&open(&disk.path)).unwrap();
    let name = |id| found.closure.path(id).name();
    let roots: Vec<_> = found
        .roots
        .iter()
        .map(|(id, why)| (name(*id), why.name()))
        .collect();
    assert_eq!(
        roots,
        [
            ("app", "config"),
            ("other", "unreferenced"),
            ("tool", "symlink")
        ]
    );
    let lib = found.closure.ids().find(|id| name(*id) == "lib").unwrap();
    let referrers: Vec<_> = found
        .closure
        .referrers(lib)
        .iter()
        .map(|id| name(*id))
        .collect();
    assert_eq!(referrers, ["app", "tool"]);
}

#[test]
fn a_ring_of_references_is_told_and_a_broken_layer_is_refused() {
    let (a, b) = (store_path(1, "a"), store_path(2, "b"));
    let image = image(&[&[
        Entry::File(a.clone(), b.clone().into_bytes()),
        Entry::File(b, a.into_bytes()),
    ]]);
    let disk = in_dir(&image.layout());
    let error = closure_of(&open(&disk.path)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cycle { .. }), "{error}");

    let mut files = HandmadeImage::default().layout();
    let blob = files
        .0
        .iter()
        .position(|(_, bytes)| bytes.starts_with(b"\x1f\x8b"));
    let (_, bytes) = &mut files.0[blob.unwrap()];
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let disk = in_dir(&files);
    let error = closure_of(&open(&disk.path)).unwrap_err().to_string();
    assert!(error.contains("layer") || error.contains("blob"), "{error}");
}

#[test]
fn a_scan_can_be_cancelled() {
    let disk = in_dir(&HandmadeImage::default().layout());
    let reader = open(&disk.path);
    let cx = Context::default();
    cx.cancel.cancel();
    let error = image_closure(&cx, &reader, None, &StoreDir::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
}

#[test]
fn inspect_tells_what_layers_hide_from_each_other() {
    let shared = store_path(1, "shared");
    let file = |path: &str, size: usize| Entry::File(path.to_owned(), vec![1; size]);
    let image = image(&[
        &[file(&shared, 1000), file("motd", 10), file("gone", 5)],
        &[file(&shared, 1000), file("motd", 20), file(".wh.gone", 0)],
    ]);
    let disk = in_dir(&image.layout());
    let options = InspectOptions {
        efficiency: true,
        ..InspectOptions::default()
    };
    let summary = inspect(&Context::default(), &open(&disk.path), None, &options).unwrap();
    let found = summary.efficiency.unwrap();
    assert_eq!((found.file_bytes, found.wasted_bytes), (2035, 1015));
    let wasted: Vec<_> = found
        .wasted
        .iter()
        .map(|w| (w.path.clone(), w.bytes, w.layers.clone()))
        .collect();
    assert_eq!(
        wasted,
        [
            (format!("/{shared}"), 1000, vec![0]),
            ("/motd".to_owned(), 10, vec![0]),
            ("/gone".to_owned(), 5, vec![0]),
        ]
    );
}
