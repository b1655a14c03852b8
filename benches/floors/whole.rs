//! Whole builds through the library, on all cores, into nothing.
//!
//! Layers are spooled in the temporary directory, as for an archive.

use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use nix2oci::closure::{Registration, read_closure};
use nix2oci::image::ImageConfig;
use nix2oci::oci::Platform;
use nix2oci::sink::Discard;
use nix2oci::{
    BuildReport, Closure, ContentSource, Context, ImageSpec, LocalStore, Packing, StoreDir, build,
};
use nix2oci_benches::DiskStore;

fn spec(closure: &Closure, content: &Arc<dyn ContentSource>, compression: &str) -> ImageSpec {
    let config = ImageConfig::new(Platform::default());
    let mut spec = ImageSpec::new(closure.clone(), Arc::clone(content), config);
    spec.packing = Packing {
        compression: compression.parse().expect("it is one"),
        ..Packing::default()
    };
    spec
}

/// The benches of this floor.
pub(crate) fn whole(c: &mut Criterion) {
    let cx = Context::default();
    let run = |spec: &ImageSpec| -> BuildReport {
        build(&cx, spec, &mut Discard).expect("the store is whole")
    };
    let mut group = c.benchmark_group("whole");
    group.sample_size(10);

    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/closure");
    let dir = StoreDir::default();
    let source = Registration::new(fixture.join("registration"), dir.clone());
    let closure = read_closure(&cx, &dir, &[&source], &[]).expect("the fixture is whole");
    let content: Arc<dyn ContentSource> = Arc::new(LocalStore::below(&fixture.join("root"), &dir));
    let small = spec(&closure, &content, "gzip:6");
    group.bench_function("fixture/gzip:6", |b| b.iter(|| run(&small)));

    let store = DiskStore::new(200, 1 << 20).expect("the temporary directory has 200 MB");
    let content: Arc<dyn ContentSource> = Arc::new(store.content());
    for compression in ["none", "gzip:6", "zstd:3"] {
        let spec = spec(store.closure(), &content, compression);
        let report = run(&spec);
        let bytes = report.layers.iter().map(|l| l.record.uncompressed_size);
        group.throughput(Throughput::Bytes(bytes.sum()));
        group.bench_function(BenchmarkId::new("200 MiB", compression), |b| {
            b.iter(|| run(&spec));
        });
    }
    group.finish();
}
