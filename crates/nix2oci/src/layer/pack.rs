//! Layers, from store paths to bytes with a digest.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use crate::content::{ContentSource, Entry};
use crate::context::{Context, Event};
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::pipeline::{self, Blocks, Buffer, Task};
use crate::plan::FileKind;
use crate::store::StorePath;

use super::compress::{Encoder, encoder};
use super::root_tree::write_root_tree;
use super::rules::LayerRules;
use super::spool::{Spool, SpoolPlace, SpooledBlob};
use super::tar::{Attributes, TarOutput, TarWriter};
use super::{LayerContent, LayerRecord, LayerSpec, Packing};

/// Permission bits of the root and of the directories above store paths.
const MODE_ABOVE: u32 = 0o755;

/// A layer that was packed.
#[derive(Debug)]
pub(crate) struct PackedLayer<K> {
    /// Its digests and sizes.
    pub(crate) record: LayerRecord,
    /// What became of its bytes.
    pub(crate) kept: K,
}

/// Takes the bytes of layers while they are made: those of one layer in their
/// order, by one thread at a time; those of several layers at once.
pub(crate) trait LayerStore: Sync {
    /// A layer on its way.
    type Writer: Send;
    /// A layer that is there.
    type Kept: Send;

    /// Begins a layer.
    fn begin(&self, layer: usize) -> Result<Self::Writer>;

    /// Takes the next bytes.
    fn write(&self, writer: &mut Self::Writer, bytes: &[u8]) -> Result<()>;

    /// Ends a layer, which turned out to be this.
    fn finish(
        &self,
        layer: usize,
        writer: Self::Writer,
        record: &LayerRecord,
    ) -> Result<Self::Kept>;
}

impl LayerStore for SpoolPlace {
    type Writer = Spool;
    /// Nothing if nothing was to be kept.
    type Kept = Option<SpooledBlob>;

    fn begin(&self, _: usize) -> Result<Spool> {
        Spool::begin(self)
    }

    fn write(&self, spool: &mut Spool, bytes: &[u8]) -> Result<()> {
        spool.write(bytes)
    }

    fn finish(&self, _: usize, spool: Spool, record: &LayerRecord) -> Result<Self::Kept> {
        Ok(spool.finish(record.descriptor()))
    }
}

/// Which layers to pack and how.
pub(crate) struct PackRequest<'a, S> {
    /// All layers of the image, bottom first.
    pub(crate) layers: &'a [LayerSpec],
    /// Those to pack, in the order in which to begin them.
    pub(crate) order: Vec<usize>,
    /// What shapes their bytes.
    pub(crate) packing: Packing,
    /// What is inside the store paths.
    pub(crate) content: &'a dyn ContentSource,
    /// Where the bytes go.
    pub(crate) store: S,
}

/// Packs layers with all threads of `cx`, and calls `deliver` for each as it is
/// done, on this thread.
///
/// Reads every file once. Memory is bounded by the number of threads and the
/// codec, whatever the sizes of files and layers.
pub(crate) fn pack<S: LayerStore>(
    cx: &Context,
    request: PackRequest<'_, S>,
    mut deliver: impl FnMut(usize, PackedLayer<S::Kept>) -> Result<()>,
) -> Result<()> {
    // Layers that were made before keep their packing, and workers encode in one
    // way at a time.
    let mut groups: Vec<(Packing, Vec<usize>)> = Vec::new();
    for layer in request.order {
        let (_, packing) = request.layers[layer].made_of(request.packing);
        match groups.iter_mut().find(|(known, _)| *known == packing) {
            Some((_, layers)) => layers.push(layer),
            None => groups.push((packing, vec![layer])),
        }
    }
    let mut task = PackTask {
        cx,
        layers: request.layers,
        packing: request.packing,
        content: request.content,
        store: request.store,
    };
    for (packing, order) in groups {
        task.packing = packing;
        pipeline::run(cx, &task, order, &mut deliver)?;
    }
    Ok(())
}

struct PackTask<'a, S> {
    cx: &'a Context,
    layers: &'a [LayerSpec],
    packing: Packing,
    content: &'a dyn ContentSource,
    store: S,
}

/// A layer's compressed side.
struct Output<W> {
    writer: W,
    hasher: Hasher,
    size: u64,
}

/// What is known of a layer's tar at its end.
struct Tar {
    /// `None` if the tar is the blob.
    digest: Option<Digest>,
    size: u64,
}

impl<S: LayerStore> Task for PackTask<'_, S> {
    type Worker = Option<Box<dyn Encoder>>;
    type Output = Output<S::Writer>;
    type Produced = Tar;
    type Done = PackedLayer<S::Kept>;

    fn block_size(&self) -> usize {
        self.packing.compression.block_size()
    }

    fn worker(&self) -> Result<Self::Worker> {
        encoder(self.packing.compression)
    }

    fn output(&self, layer: usize) -> Result<Self::Output> {
        self.cx.observer.event(&Event::LayerStarted { layer });
        Ok(Output {
            writer: self.store.begin(layer)?,
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

    fn consume(&self, output: &mut Self::Output, bytes: &[u8]) -> Result<()> {
        output.hasher.update(bytes);
        output.size += bytes.len() as u64;
        self.store.write(&mut output.writer, bytes)
    }

    fn finish(&self, layer: usize, tar: Tar, output: Self::Output) -> Result<Self::Done> {
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
        Ok(PackedLayer {
            kept: self.store.finish(layer, output.writer, &record)?,
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
/// of the spec, or what is in the root tree. A tar that is there is copied.
fn write_tar(
    cx: &Context,
    spec: &LayerSpec,
    packing: &Packing,
    content: &dyn ContentSource,
    out: &mut impl TarOutput,
) -> Result<()> {
    let (spec, _) = spec.made_of(*packing);
    let mut tar = TarWriter::new(out, packing);
    let rules = LayerRules::new(&spec.rules, &spec.store_dir);
    let directory_above = |place: &[u8]| rules.of_directory(place, MODE_ABOVE);
    let root = directory_above(b"")?;
    let root = root.attributes(Attributes::plain(MODE_ABOVE));
    match &spec.content {
        // It has a root and an end of its own.
        LayerContent::Tar(file) => return file.write(cx, out),
        LayerContent::Used(_) => {
            return Err(Error::invalid("a used layer", "it is made of another one"));
        }
        LayerContent::StorePaths(paths) => {
            let coming: Vec<_> = paths.iter().map(|(path, _)| path.clone()).collect();
            content.expect(cx, &coming);
            tar.root(root)?;
            let mut place = Vec::new();
            for name in spec.store_dir.components() {
                if !place.is_empty() {
                    place.push(b'/');
                }
                place.extend_from_slice(name.as_bytes());
                let own = directory_above(&place)?;
                tar.directory(&place, own.attributes(Attributes::plain(MODE_ABOVE)))?;
            }
            place.push(b'/');
            for (path, _) in paths {
                let mut at = place.clone();
                at.extend_from_slice(path.as_str().as_bytes());
                write_store_path(cx, content, path, at, &rules, &mut tar)?;
            }
        }
        LayerContent::RootTree(tree) => {
            tar.root(root)?;
            write_root_tree(cx, content, tree, &mut tar)?;
        }
    }
    tar.finish()
}

/// Writes the entries of a store path, which is at `place` in the image.
fn write_store_path<O: TarOutput>(
    cx: &Context,
    content: &dyn ContentSource,
    path: &StorePath,
    mut place: Vec<u8>,
    rules: &LayerRules<'_>,
    tar: &mut TarWriter<'_, O>,
) -> Result<()> {
    let rules = rules.of_store_path(path);
    let base = place.len();
    content.visit(cx, path, &mut |entry| {
        place.truncate(base);
        if !entry.path().is_empty() {
            place.push(b'/');
            place.extend_from_slice(entry.path());
        }
        refuse_whiteout(&place)?;
        match entry {
            Entry::Directory { .. } => {
                let plain = Attributes::store_directory();
                let own = rules.of(&place, FileKind::Directory, plain.mode)?;
                tar.directory(&place, own.attributes(plain))
            }
            Entry::Symlink { target, .. } => {
                let plain = Attributes::symlink();
                let own = rules.of(&place, FileKind::Symlink, plain.mode)?;
                tar.symlink(&place, target, own.attributes(plain))
            }
            Entry::File {
                executable,
                size,
                contents,
                ..
            } => {
                let plain = Attributes::store_file(executable);
                let own = rules.of(&place, FileKind::File, plain.mode)?;
                tar.file(&place, own.attributes(plain), size, contents)
            }
        }
    })
}

/// Refuses a name that no layer can hold as a file: every runtime would delete
/// by it what other layers have there. Source: OCI image specification 1.1,
/// "Whiteouts".
fn refuse_whiteout(place: &[u8]) -> Result<()> {
    let name = place.rsplit(|b| *b == b'/').next();
    if !name.is_some_and(|name| name.starts_with(b".wh.")) {
        return Ok(());
    }
    let path = OsString::from_vec([b"/", place].concat());
    Err(ErrorKind::UnsupportedName {
        path: path.into(),
        problem: "its name begins with .wh., which in a layer deletes what other layers have"
            .to_owned(),
    }
    .into())
}

#[cfg(all(test, feature = "gzip", feature = "zstd"))]
#[path = "pack_tests.rs"]
mod tests;
