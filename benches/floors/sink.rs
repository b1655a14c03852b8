//! Giving layers that are packed to sinks, and committing them.
//!
//! The layers lie in the directory where the sink writes, as in a build. With
//! a disk below it, that is what the figures are about: an archive copies, a
//! layout renames, both wait for the disk. `TMPDIR=/dev/shm` leaves it out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput};
use nix2oci::layer::Blob;
use nix2oci::oci::{self, Descriptor, MediaType};
use nix2oci::sink::{Archive, OciLayout};
use nix2oci::{Context, Digest, Error, ImageSink, Result};
use nix2oci_benches::{Random, machine_code};
use tempfile::{NamedTempFile, TempDir};

const LAYERS: u64 = 16;
const LAYER_SIZE: usize = 2 << 20;

/// A layer as the pipeline leaves it: hashed while it was written.
struct Spooled {
    file: Option<NamedTempFile>,
    descriptor: Descriptor,
}

impl Spooled {
    fn new(dir: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut file = NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        Ok(Self {
            descriptor: oci::descriptor(
                MediaType::ImageLayer,
                Digest::of(bytes),
                bytes.len() as u64,
            ),
            file: Some(file),
        })
    }
}

impl Blob for Spooled {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        let file = self.file.as_ref().expect("a moved blob is read no more");
        Ok(Box::new(file.as_file()))
    }

    fn verified_file(&self) -> Option<&File> {
        self.file.as_ref().map(NamedTempFile::as_file)
    }

    fn move_to(&mut self, path: &Path) -> Result<bool> {
        let Some(file) = self.file.take() else {
            return Ok(false);
        };
        file.persist(path)
            .map(|_| true)
            .map_err(|failed| Error::writing("move a layer to", path)(failed.error))
    }
}

fn put_all(cx: &Context, sink: &mut dyn ImageSink, layers: &mut [Spooled]) -> Result<()> {
    for layer in layers {
        sink.put_blob(cx, layer)?;
    }
    sink.commit(cx)
}

/// The benches of this floor.
pub(crate) fn sink(c: &mut Criterion) {
    let cx = Context::default();
    let contents: Vec<Vec<u8>> = (0..LAYERS)
        .map(|n| machine_code(&mut Random::new(n), LAYER_SIZE))
        .collect();
    let spool = || {
        let dir = TempDir::new()?;
        let layers = contents.iter().map(|bytes| Spooled::new(dir.path(), bytes));
        io::Result::Ok((layers.collect::<io::Result<Vec<_>>>()?, dir))
    };
    let mut group = c.benchmark_group("sink");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(LAYERS * LAYER_SIZE as u64));
    group.bench_function("archive", |b| {
        b.iter_batched(
            || spool().expect("the temporary directory has 32 MiB"),
            |(mut layers, dir)| {
                let mut archive = Archive::create(&dir.path().join("image.tar"))?;
                put_all(&cx, &mut archive, &mut layers).map(|()| dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("layout", |b| {
        b.iter_batched(
            || spool().expect("the temporary directory has 32 MiB"),
            |(mut layers, dir)| {
                let mut layout = OciLayout::open(&dir.path().join("image"), None)?;
                put_all(&cx, &mut layout, &mut layers).map(|()| dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}
