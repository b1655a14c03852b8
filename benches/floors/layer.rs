//! Packing one layer from memory on one core: tar, digests, each codec.

use std::num::NonZeroUsize;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use nix2oci::image::ImageConfig;
use nix2oci::oci::Platform;
use nix2oci::plan::Single;
use nix2oci::{Context, ImageSpec, Packing, resolve};
use nix2oci_benches::{memory_store, path_infos, whole_closure};

/// The codecs; `none` is the tar and one digest, the others take two.
const COMPRESSIONS: [&str; 5] = ["none", "gzip:1", "gzip:6", "zstd:1", "zstd:3"];

/// The benches of this floor.
pub(crate) fn layer(c: &mut Criterion) {
    let mut cx = Context::default();
    cx.threads = NonZeroUsize::MIN;
    let content = Arc::new(memory_store(20, 1 << 20));
    let closure = whole_closure(path_infos(20));
    let mut group = c.benchmark_group("layer");
    group.sample_size(10);
    for compression in COMPRESSIONS {
        let config = ImageConfig::new(Platform::default());
        let mut spec = ImageSpec::new(closure.clone(), content.clone(), config);
        spec.strategy = Arc::new(Single);
        spec.packing = Packing {
            compression: compression.parse().expect("it is one"),
            ..Packing::default()
        };
        // Nothing is kept, so that no disk is in the figure.
        let recipe = resolve(&cx, &spec).expect("the store is whole");
        group.throughput(Throughput::Bytes(recipe.layers[0].uncompressed_size));
        group.bench_function(BenchmarkId::from_parameter(compression), |b| {
            b.iter(|| resolve(&cx, &spec).expect("the store is whole"));
        });
    }
    group.finish();
}
