//! Reading closures: the documents of Nix, and the graph made of them.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use nix2oci::StoreDir;
use nix2oci::closure::{path_info_json, registration};
use nix2oci_benches::{path_infos, whole_closure};

/// The benches of this floor.
pub(crate) fn closure(c: &mut Criterion) {
    let dir = StoreDir::default();
    let mut group = c.benchmark_group("closure");
    group.sample_size(10);
    for paths in [1_123, 20_000] {
        let infos = path_infos(paths);
        let json = nix2oci_benches::path_info_json(&infos);
        let text = nix2oci_benches::registration(&infos);
        group.throughput(Throughput::Elements(paths as u64));
        group.bench_function(BenchmarkId::new("path-info", paths), |b| {
            b.iter(|| path_info_json::parse(&json, "path-info", &dir).expect("it is one"));
        });
        group.bench_function(BenchmarkId::new("registration", paths), |b| {
            b.iter(|| registration::parse(&text, "registration", &dir).expect("it is one"));
        });
        group.bench_function(BenchmarkId::new("graph", paths), |b| {
            b.iter_batched(|| infos.clone(), whole_closure, BatchSize::LargeInput);
        });
    }
    group.finish();
}
