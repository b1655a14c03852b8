//! Layers, from store paths to bytes with a digest.

use crate::content::{ContentSource, Entry};
use crate::context::{Context, Event};
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::Result;
use crate::oci;
use crate::parallel::pipeline::{self, Blocks, Buffer, Task};
use crate::plan::RootNode;

use super::compress::{Encoder, encoder};
use super::spool::{Spool, SpoolPlace, SpooledBlob};
use super::tar::{TarOutput, TarWriter};
use super::{LayerContent, LayerRecord, LayerSpec, Packing};

/// Permission bits of the root and of the directories above store paths.
const MODE_ABOVE: u32 = 0o755;

/// A layer that was packed.
#[derive(Debug)]
pub(crate) struct PackedLayer {
    /// Its digests and sizes.
    pub(crate) record: LayerRecord,
    /// Its bytes, if they were kept.
    pub(crate) blob: Option<SpooledBlob>,
}

/// Which layers to pack and how.
pub(crate) struct PackRequest<'a> {
    /// All layers of the image, bottom first.
    pub(crate) layers: &'a [LayerSpec],
    /// Those to pack, in the order in which to begin them.
    pub(crate) order: Vec<usize>,
    /// What shapes their bytes.
    pub(crate) packing: Packing,
    /// What is inside the store paths.
    pub(crate) content: &'a dyn ContentSource,
    /// Where the bytes go.
    pub(crate) spool: SpoolPlace,
}

/// Packs layers with all threads of `cx`, and calls `deliver` for each as it is
/// done, on this thread.
///
/// Reads every file once. Memory is bounded by the number of threads and the
/// codec, whatever the sizes of files and layers.
pub(crate) fn pack(
    cx: &Context,
    request: PackRequest<'_>,
    deliver: impl FnMut(usize, PackedLayer) -> Result<()>,
) -> Result<()> {
    let order = request.order;
    let task = PackTask {
        cx,
        layers: request.layers,
        packing: request.packing,
        content: request.content,
        spool: request.spool,
    };
    pipeline::run(cx, &task, order, deliver)
}

struct PackTask<'a> {
    cx: &'a Context,
    layers: &'a [LayerSpec],
    packing: Packing,
    content: &'a dyn ContentSource,
    spool: SpoolPlace,
}

/// A layer's compressed side.
struct Output {
    spool: Spool,
    hasher: Hasher,
    size: u64,
}

/// What is known of a layer's tar at its end.
struct Tar {
    /// `None` if the tar is the blob.
    digest: Option<Digest>,
    size: u64,
}

impl Task for PackTask<'_> {
    type Worker = Option<Box<dyn Encoder>>;
    type Output = Output;
    type Produced = Tar;
    type Done = PackedLayer;

    fn block_size(&self) -> usize {
        self.packing.compression.block_size()
    }

    fn worker(&self) -> Result<Self::Worker> {
        encoder(self.packing.compression)
    }

    fn output(&self, layer: usize) -> Result<Output> {
        self.cx.observer.event(&Event::LayerStarted { layer });
        Ok(Output {
            spool: Spool::begin(&self.spool)?,
            hasher: Hasher::new(),
            size: 0,
        })
    }

    fn produce(&self, cx: &Context, layer: usize, blocks: &mut dyn Blocks) -> Result<Tar> {
        let is_compressed = self.packing.compression != super::Compression::None;
        let mut out = BlockTar {
            cx,
            layer,
            blocks,
            hasher: is_compressed.then(Hasher::new),
            size: 0,
        };
        write_tar(
            cx,
            &self.layers[layer],
            &self.packing,
            self.content,
            &mut out,
        )?;
        out.end()
    }

    fn transform(
        &self,
        worker: &mut Self::Worker,
        from: &mut Buffer,
        to: &mut Buffer,
    ) -> Result<()> {
        match worker {
            Some(encoder) => {
                to.reset(encoder.bound(from.len));
                to.len = encoder.encode(from.filled(), &mut to.bytes)?;
            }
            None => std::mem::swap(from, to),
        }
        Ok(())
    }

    fn consume(&self, output: &mut Output, bytes: &[u8]) -> Result<()> {
        output.hasher.update(bytes);
        output.size += bytes.len() as u64;
        output.spool.write(bytes)
    }

    fn finish(&self, layer: usize, tar: Tar, output: Output) -> Result<PackedLayer> {
        let digest = output.hasher.finish();
        let record = LayerRecord {
            diff_id: DiffId::new(tar.digest.unwrap_or(digest)),
            uncompressed_size: tar.size,
            digest,
            size: output.size,
            media_type: self.packing.compression.media_type(),
        };
        self.cx.observer.event(&Event::LayerPacked {
            layer,
            digest,
            size: record.size,
            uncompressed_size: record.uncompressed_size,
        });
        let descriptor = oci::descriptor(record.media_type.clone(), digest, record.size);
        Ok(PackedLayer {
            blob: output.spool.finish(descriptor),
            record,
        })
    }
}

/// Cuts a tar into blocks and hashes it on the way.
struct BlockTar<'a> {
    cx: &'a Context,
    layer: usize,
    blocks: &'a mut dyn Blocks,
    hasher: Option<Hasher>,
    size: u64,
}

impl BlockTar<'_> {
    /// Hashes the current block and tells the observer of it.
    fn settle(&mut self) -> Result<()> {
        let block = self.blocks.current()?.filled();
        if let Some(hasher) = &mut self.hasher {
            hasher.update(block);
        }
        self.size += block.len() as u64;
        self.cx.observer.event(&Event::LayerProgress {
            layer: self.layer,
            bytes: block.len() as u64,
        });
        Ok(())
    }

    fn end(mut self) -> Result<Tar> {
        self.settle()?;
        Ok(Tar {
            digest: self.hasher.map(Hasher::finish),
            size: self.size,
        })
    }
}

impl TarOutput for BlockTar<'_> {
    fn room(&mut self) -> Result<&mut [u8]> {
        let buffer = self.blocks.current()?;
        if buffer.len == buffer.bytes.len() {
            self.settle()?;
            self.blocks.hand_on()?;
        }
        let buffer = self.blocks.current()?;
        Ok(&mut buffer.bytes[buffer.len..])
    }

    fn advance(&mut self, n: usize) -> Result<()> {
        self.blocks.current()?.len += n;
        Ok(())
    }
}

/// Writes the tar of a layer.
///
/// The root comes first, then the directories above the store paths, with the
/// same mode, owner and time in every layer; then the store paths in the order
/// of the spec, or the nodes of the root tree.
fn write_tar(
    cx: &Context,
    spec: &LayerSpec,
    packing: &Packing,
    content: &dyn ContentSource,
    out: &mut impl TarOutput,
) -> Result<()> {
    let mut tar = TarWriter::new(out, packing);
    tar.root(MODE_ABOVE)?;
    match &spec.content {
        LayerContent::StorePaths(paths) => {
            let mut place = Vec::new();
            for name in spec.store_dir.components() {
                if !place.is_empty() {
                    place.push(b'/');
                }
                place.extend_from_slice(name.as_bytes());
                tar.directory(&place, MODE_ABOVE)?;
            }
            place.push(b'/');
            for (path, _) in paths {
                let mut at = place.clone();
                at.extend_from_slice(path.as_str().as_bytes());
                write_store_path(cx, content, path, at, &mut tar)?;
            }
        }
        LayerContent::RootTree(tree) => {
            for (path, node) in tree.nodes() {
                match node {
                    RootNode::Directory { mode } => tar.directory(path, *mode)?,
                    RootNode::Symlink { target } => tar.symlink(path, target)?,
                }
            }
        }
    }
    tar.finish()
}

/// Writes the entries of a store path, which is at `place` in the image.
fn write_store_path<O: TarOutput>(
    cx: &Context,
    content: &dyn ContentSource,
    path: &crate::store::StorePath,
    mut place: Vec<u8>,
    tar: &mut TarWriter<'_, O>,
) -> Result<()> {
    let base = place.len();
    content.visit(cx, path, &mut |entry| {
        place.truncate(base);
        if !entry.path().is_empty() {
            place.push(b'/');
            place.extend_from_slice(entry.path());
        }
        match entry {
            Entry::Directory { .. } => tar.store_directory(&place),
            Entry::Symlink { target, .. } => tar.symlink(&place, target),
            Entry::File {
                executable,
                size,
                contents,
                ..
            } => tar.file(&place, executable, size, contents),
        }
    })
}

#[cfg(all(test, feature = "gzip", feature = "zstd"))]
#[path = "pack_tests.rs"]
mod tests;
