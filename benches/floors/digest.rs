//! SHA-256, per core.

use criterion::{Criterion, Throughput};
use nix2oci::digest::{Digest, Hasher};
use nix2oci_benches::{Random, machine_code};

/// The benches of this floor.
pub(crate) fn digest(c: &mut Criterion) {
    let bytes = machine_code(&mut Random::new(1), 8 << 20);
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("at once", |b| b.iter(|| Digest::of(&bytes)));
    // As the pipeline does: a block while it is still in the cache.
    group.bench_function("in blocks of 256 KiB", |b| {
        b.iter(|| {
            let mut hasher = Hasher::new();
            bytes
                .chunks(256 << 10)
                .for_each(|block| hasher.update(block));
            hasher.finish()
        });
    });
    group.finish();
}
