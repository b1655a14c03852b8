//! Walking a store on disk, warm, and NARs in memory.

use std::io::Read;

use criterion::{Criterion, Throughput};
use nix2oci::content::{ContentSource, Entry, NarOrigin, NarReader};
use nix2oci::digest::DigestReader;
use nix2oci::{Context, Result};
use nix2oci_benches::{DiskStore, memory_store};

/// Visits all paths; reads files if `buffer` is not empty. Returns the number
/// of objects and of the bytes that were read.
fn walk(cx: &Context, store: &DiskStore, buffer: &mut [u8]) -> Result<(u64, u64)> {
    let content = store.content();
    let mut seen = (0, 0);
    for info in store.closure().infos() {
        content.visit(cx, &info.path, &mut |entry| count(entry, buffer, &mut seen))?;
    }
    Ok(seen)
}

/// Adds an object and the bytes that are read of it.
fn count(entry: Entry<'_>, buffer: &mut [u8], seen: &mut (u64, u64)) -> Result<()> {
    seen.0 += 1;
    if let Entry::File { contents, .. } = entry {
        loop {
            match contents.read(buffer)? {
                0 => break,
                n => seen.1 += n as u64,
            }
        }
    }
    Ok(())
}

/// Reads a NAR in the same way.
fn read(cx: &Context, nar: impl Read, buffer: &mut [u8]) -> Result<(u64, u64)> {
    let origin = NarOrigin {
        from: "the bench".to_owned(),
        path: "/nix/store/bench".to_owned(),
    };
    let mut seen = (0, 0);
    NarReader::new(nar, origin).visit(cx, &mut |entry| count(entry, buffer, &mut seen))?;
    Ok(seen)
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
    nars(c, &cx, &mut buffer);
}

/// The same contents as NARs. What is hashed on the way is what a binary cache
/// costs but for its network and its compression: `digest` is the limit.
fn nars(c: &mut Criterion, cx: &Context, buffer: &mut [u8]) {
    let store = memory_store(100, 500_000);
    let nars: Vec<_> = store.paths().map(|(_, node)| node.nar()).collect();
    let objects = nars.iter().map(|nar| {
        let seen = read(cx, &nar[..], buffer).expect("it is a NAR");
        seen.0
    });
    let objects: u64 = objects.sum();
    let bytes: usize = nars.iter().map(Vec::len).sum();
    let mut group = c.benchmark_group("content, NARs");
    group.sample_size(10);
    group.throughput(Throughput::Elements(objects));
    group.bench_function("objects, contents skipped", |b| {
        b.iter(|| {
            for nar in &nars {
                read(cx, &nar[..], &mut []).expect("it is a NAR");
            }
        });
    });
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("bytes, read", |b| {
        b.iter(|| {
            for nar in &nars {
                read(cx, &nar[..], buffer).expect("it is a NAR");
            }
        });
    });
    group.bench_function("bytes, read and hashed", |b| {
        b.iter(|| {
            for nar in &nars {
                let mut hashed = DigestReader::new(&nar[..]);
                read(cx, &mut hashed, buffer).expect("it is a NAR");
            }
        });
    });
    group.finish();
}
