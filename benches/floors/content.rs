//! Walking a store on disk, warm.

use criterion::{Criterion, Throughput};
use nix2oci::content::{ContentSource, Entry};
use nix2oci::{Context, Result};
use nix2oci_benches::DiskStore;

/// Visits all paths; reads files if `buffer` is not empty. Returns the number
/// of objects and of the bytes that were read.
fn walk(cx: &Context, store: &DiskStore, buffer: &mut [u8]) -> Result<(u64, u64)> {
    let content = store.content();
    let (mut objects, mut bytes) = (0, 0);
    for info in store.closure().infos() {
        content.visit(cx, &info.path, &mut |entry| {
            objects += 1;
            if let Entry::File { contents, .. } = entry {
                loop {
                    match contents.read(buffer)? {
                        0 => break,
                        n => bytes += n as u64,
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok((objects, bytes))
}

/// The benches of this floor.
pub(crate) fn content(c: &mut Criterion) {
    let cx = Context::default();
    let store = DiskStore::new(100, 500_000).expect("the temporary directory has 50 MB");
    let mut buffer = vec![0; 256 << 10];
    let (objects, bytes) = walk(&cx, &store, &mut buffer).expect("the store is whole");
    let mut group = c.benchmark_group("content");
    group.sample_size(10);
    group.throughput(Throughput::Elements(objects));
    group.bench_function("objects, files opened", |b| {
        b.iter(|| walk(&cx, &store, &mut []).expect("the store is whole"));
    });
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("bytes, files read", |b| {
        b.iter(|| walk(&cx, &store, &mut buffer).expect("the store is whole"));
    });
    group.finish();
}
