//! From a spec to an image in a sink.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter;

use crate::content::{ContentSource, ForeignPrograms, PlatformCheck};
use crate::context::{Context, Event};
use crate::error::Result;
use crate::image::{
    AssembledImage, BaseImage, BaseLayer, ImageLayer, RawManifest, assemble, assemble_on,
};
use crate::layer::{
    Blob, LayerKey, LayerRecord, LayerSpec, PackRequest, PackedLayer, Packing, SpoolPlace,
    SpooledBlob, pack,
};
use crate::parallel::Ahead;
use crate::sink::{BlobOrder, ImageSink};
use crate::store::StorePath;

use super::base::{BaseBlobs, told};
use super::download::download_size;
use super::mismatch::Remade;
use super::programs::{checked_content, look, tell};
use super::report::LayerReport;
use super::{BuildReport, ImagePlan, ImageSpec, LayerOutline, Recipe, plan};

/// A layer whose bytes were spooled, if they were wanted.
pub(super) type Packed = PackedLayer<Option<SpooledBlob>>;

/// Builds an image and gives it to a sink.
///
/// Reads the content of every store path once, but for layers that the sink has
/// (see [`ImageSink::known_layers`]): unless the spec asks for checks of what is
/// in store paths, these are not packed again. What the base has in a registry
/// is downloaded once, while layers are packed. What is in the sink after an
/// error is the sink's matter: nothing with a final name.
pub fn build(cx: &Context, spec: &ImageSpec, sink: &mut dyn ImageSink) -> Result<BuildReport> {
    let (report, manifest) = put_blobs(cx, spec, sink, &mut PackedLayers::default())?;
    sink.put_manifest(cx, &manifest, &spec.names)?;
    sink.commit(cx)?;
    cx.observer.event(&Event::Committed {
        manifest: manifest.digest(),
    });
    Ok(report)
}

/// Gives a sink all of an image but its manifest, which is returned. Layers
/// that are among `packed` are in the sink already; the others come to them.
pub(super) fn put_blobs(
    cx: &Context,
    spec: &ImageSpec,
    sink: &mut dyn ImageSink,
    packed: &mut PackedLayers,
) -> Result<(BuildReport, RawManifest)> {
    let plan = plan(cx, spec)?;
    let content = checked_content(spec)?;
    let mut known = packed.records(spec.packing, &plan);
    let shared: Vec<bool> = known.iter().map(Option::is_some).collect();
    // Who wants store paths to be checked wants them to be read.
    if !spec.verify && !spec.strict {
        take_over(cx, spec, &plan, sink, &mut known)?;
    }
    let work = Work {
        known,
        base: spec.base.as_ref().map(|base| (base, &*plan.base)),
        ..Work::of(&plan, spec.packing, &content)
    };
    look_at_shared(cx, spec, &content, &work, &shared)?;
    let records = put_layers(cx, &work, sink, |_, _| Ok(()))?;
    let downloads = work.downloads(cx)?;
    packed.add(spec.packing, &plan, &records);
    let mut image = assemble_image(spec, &plan, &records)?;
    sink.put_blob(cx, &mut image.config)?;
    let foreign = tell(cx, &content);
    Ok((
        report(plan, records, downloads, &image, foreign),
        image.manifest,
    ))
}

/// Looks at the programs of layers that were packed for another image: for that
/// one's platform they may have been the right ones.
fn look_at_shared(
    cx: &Context,
    spec: &ImageSpec,
    content: &PlatformCheck,
    work: &Work<'_>,
    shared: &[bool],
) -> Result<()> {
    for (layer, _) in work
        .layers
        .iter()
        .zip(shared)
        .filter(|(_, shared)| **shared)
    {
        if layer.content.used().is_none() {
            look(cx, spec, content, layer)?;
        }
    }
    Ok(())
}

/// Finds the layers of a plan that an earlier image in the sink has. What that says
/// of a layer's key is believed, as of an image that is pushed to; the bytes are
/// hashed, which costs little beside packing them.
fn take_over(
    cx: &Context,
    spec: &ImageSpec,
    plan: &ImagePlan,
    sink: &mut dyn ImageSink,
    known: &mut [Option<LayerRecord>],
) -> Result<()> {
    let there = sink.known_layers(cx, &spec.names)?;
    for (layer, known) in plan.layers.iter().zip(known) {
        let record = layer.key.and_then(|key| there.get(&key.prefix()));
        // A layer that was made before has its blob, or is made as it was; a
        // program that compressed a layer anew may have kept its key.
        let is_packed_so = |record: &&LayerRecord| {
            layer.spec.content.used().is_none()
                && record.media_type == spec.packing.compression.media_type()
        };
        if let (None, Some(record)) = (&known, record.filter(is_packed_so))
            && sink.missing(cx, &[record.descriptor()])?.is_empty()
        {
            *known = Some(record.clone());
        }
    }
    Ok(())
}

/// The layers of images that were packed before for the same sink, by their
/// keys and how they are compressed.
#[derive(Debug, Default)]
pub(super) struct PackedLayers(BTreeMap<(LayerKey, String), LayerRecord>);

impl PackedLayers {
    /// Returns the record of each layer of a plan that was packed before.
    fn records(&self, packing: Packing, plan: &ImagePlan) -> Vec<Option<LayerRecord>> {
        let compression = packing.compression.to_string();
        let record = |layer: &LayerOutline| self.0.get(&(layer.key?, compression.clone())).cloned();
        plan.layers.iter().map(record).collect()
    }

    fn add(&mut self, packing: Packing, plan: &ImagePlan, records: &[LayerRecord]) {
        let compression = packing.compression.to_string();
        for (layer, record) in plan.layers.iter().zip(records) {
            if let Some(key) = layer.key {
                self.0.insert((key, compression.clone()), record.clone());
            }
        }
    }
}

/// Layers to be packed.
pub(super) struct Work<'a> {
    pub(super) layers: Vec<LayerSpec>,
    /// For each its bytes before compression, about.
    pub(super) sizes: Vec<u64>,
    /// For each what is in it, for people.
    pub(super) labels: Vec<String>,
    /// For each what it is, if it need not be packed.
    pub(super) known: Vec<Option<LayerRecord>>,
    pub(super) packing: Packing,
    pub(super) content: &'a dyn ContentSource,
    /// The base whose layers are put below them, and what the image has of it.
    pub(super) base: Option<(&'a BaseImage, &'a [BaseLayer])>,
}

impl<'a> Work<'a> {
    /// Takes all layers of a plan, none of them known, and no base.
    pub(super) fn of(plan: &ImagePlan, packing: Packing, content: &'a dyn ContentSource) -> Self {
        let layers = plan.layers.iter();
        Self {
            layers: layers.clone().map(|layer| layer.spec.clone()).collect(),
            sizes: layers.map(LayerOutline::unpacked_size).collect(),
            labels: labels(plan),
            known: vec![None; plan.layers.len()],
            packing,
            content,
            base: None,
        }
    }

    /// Returns for each layer the bytes that came over the network to make it.
    pub(super) fn downloads(&self, cx: &Context) -> Result<Vec<u64>> {
        let layers = self.layers.iter().zip(&self.known);
        layers
            .map(|(layer, known)| match known {
                Some(_) => Ok(0),
                None => download_size(cx, self.content, layer),
            })
            .collect()
    }
}

/// Packs layers into a sink, with those of the base below them, and returns the
/// records of all that are not the base's. `check` sees each that was packed
/// before the sink does.
///
/// The base's layers are downloaded, if they are not on this machine, and put
/// while others are packed.
pub(super) fn put_layers(
    cx: &Context,
    work: &Work<'_>,
    sink: &mut dyn ImageSink,
    check: impl Fn(usize, &LayerRecord) -> Result<()>,
) -> Result<Vec<LayerRecord>> {
    let spool_dir = sink.spool_dir().unwrap_or(&cx.spool_dir).to_owned();
    let spool = if sink.moves_blobs() {
        SpoolPlace::Named(spool_dir)
    } else {
        SpoolPlace::Unnamed(spool_dir)
    };
    let order = sink.blob_order();
    let mut delivery = Delivery {
        cx,
        sink,
        order,
        next: 0,
        is_on_base: work.base.is_none(),
        known: work.known.iter().map(Option::is_some).collect(),
        waiting: BTreeMap::new(),
    };
    let mut known = work.known.clone();
    let mut files = Vec::new();
    for (layer, spec) in work.layers.iter().enumerate() {
        if let (None, Some(used)) = (&known[layer], spec.content.used())
            && let Some(blob) = used.blob()
        {
            known[layer] = Some(used.record.clone());
            files.push((layer, blob));
        }
    }
    tell_planned(cx, work, &known);
    let base = BaseBlobs::new(cx, work.base, work.layers.len())?;
    base.while_downloading(cx, &spool.clone(), |base, downloads| {
        for (layer, blob) in files {
            delivery.take(layer, Box::new(blob))?;
        }
        let records = pack_others(cx, work, known, order, spool, |layer, packed| {
            check_used(cx, work, layer, &packed.record)?;
            check(layer, &packed.record)?;
            let blob = packed
                .kept
                .expect("a layer packed with a spool directory has its bytes");
            delivery.take(layer, Box::new(blob))?;
            delivery.take_base(base, downloads, false)
        })?;
        delivery.take_base(base, downloads, true)?;
        Ok(records)
    })
}

/// Fails if a layer that was made before did not become what it was.
fn check_used(cx: &Context, work: &Work<'_>, layer: usize, record: &LayerRecord) -> Result<()> {
    match work.layers[layer].content.used() {
        Some(used) if used.record.digest == record.digest && used.record != *record => {
            Err(used.misdescribed(record))
        }
        Some(used) if used.record != *record => {
            let remade = Remade {
                spec: &used.spec,
                label: &work.labels[layer],
                why: &format!("made again for {}", used.name),
                expected: used.record.digest,
                found: record.digest,
            };
            Err(remade.error(cx, work.content)?)
        }
        _ => Ok(()),
    }
}

/// Finds out every digest of an image and keeps no layer.
///
/// Reads the content of every store path once, as [`build`] does.
pub fn resolve(cx: &Context, spec: &ImageSpec) -> Result<Recipe> {
    resolve_with(cx, spec, &mut PackedLayers::default())
}

/// The same, without packing layers that are among `packed`; the others come to
/// them.
pub(super) fn resolve_with(
    cx: &Context,
    spec: &ImageSpec,
    packed: &mut PackedLayers,
) -> Result<Recipe> {
    let plan = plan(cx, spec)?;
    let content = checked_content(spec)?;
    let packed_before = packed.records(spec.packing, &plan);
    let shared: Vec<bool> = packed_before.iter().map(Option::is_some).collect();
    let known = plan.layers.iter().zip(packed_before);
    let work = Work {
        known: known
            .map(|(layer, packed)| used_record(layer).or(packed))
            .collect(),
        ..Work::of(&plan, spec.packing, &content)
    };
    look_at_shared(cx, spec, &content, &work, &shared)?;
    tell_planned(cx, &work, &work.known);
    let records = pack_others(
        cx,
        &work,
        work.known.clone(),
        BlobOrder::Any,
        SpoolPlace::Nowhere,
        |_, _| Ok(()),
    )?;
    packed.add(spec.packing, &plan, &records);
    tell(cx, &content);
    let image = assemble_image(spec, &plan, &records)?;
    Ok(Recipe::new(spec, &plan, &records, &image))
}

/// Returns what a layer that was made before is.
pub(super) fn used_record(layer: &LayerOutline) -> Option<LayerRecord> {
    let used = layer.spec.content.used()?;
    Some(used.record.clone())
}

/// Tells the observer which layers there are and which of them are known.
pub(super) fn tell_planned(cx: &Context, work: &Work<'_>, known: &[Option<LayerRecord>]) {
    let base = work.base.iter().flat_map(|(_, layers)| told(layers));
    let (base_sizes, base_labels): (Vec<u64>, Vec<String>) = base.unzip();
    cx.observer.event(&Event::Planned {
        layers: &[&work.sizes[..], &base_sizes].concat(),
        labels: &[&work.labels[..], &base_labels].concat(),
    });
    for (layer, known) in known.iter().enumerate() {
        if let Some(record) = known {
            cx.observer.event(&Event::LayerReused {
                layer,
                digest: record.digest,
                size: record.size,
            });
        }
    }
}

/// Packs all layers that are not known and returns the records of all, in image
/// order.
pub(super) fn pack_others(
    cx: &Context,
    work: &Work<'_>,
    known: Vec<Option<LayerRecord>>,
    order: BlobOrder,
    spool: SpoolPlace,
    mut deliver: impl FnMut(usize, Packed) -> Result<()>,
) -> Result<Vec<LayerRecord>> {
    let mut records = known;
    let mut order = packing_order(&work.sizes, order);
    order.retain(|layer| records[*layer].is_none());
    let request = PackRequest {
        layers: &work.layers,
        order,
        packing: work.packing,
        content: work.content,
        store: spool,
    };
    pack(cx, request, |layer, packed| {
        records[layer] = Some(packed.record.clone());
        deliver(layer, packed)
    })?;
    Ok(records
        .into_iter()
        .map(|record| record.expect("a pipeline without error finished every layer"))
        .collect())
}

/// Returns for each layer the name of its largest path.
pub(super) fn labels(plan: &ImagePlan) -> Vec<String> {
    let label = |layer: &LayerOutline| layer.label().to_owned();
    plan.layers.iter().map(label).collect()
}

/// Returns the layers in the order in which to begin them: as the sink takes
/// them, or the largest first, so that no large one is left to one thread at
/// the end.
pub(super) fn packing_order(sizes: &[u64], order: BlobOrder) -> Vec<usize> {
    let mut layers: Vec<usize> = (0..sizes.len()).collect();
    if order == BlobOrder::Any {
        layers.sort_by_key(|layer| Reverse(sizes[*layer]));
    }
    layers
}

/// Gives packed layers to a sink in the order that it wants.
struct Delivery<'a> {
    cx: &'a Context,
    sink: &'a mut dyn ImageSink,
    order: BlobOrder,
    /// The layer that is due.
    next: usize,
    /// Whether the base's layers, if there are some, were put.
    is_on_base: bool,
    /// Which layers do not come: the sink has them.
    known: Vec<bool>,
    /// Layers whose turn has not come; their bytes are on disk.
    waiting: BTreeMap<usize, Box<dyn Blob>>,
}

impl Delivery<'_> {
    fn take(&mut self, layer: usize, blob: Box<dyn Blob>) -> Result<()> {
        if self.order == BlobOrder::Any {
            return self.put(layer, blob);
        }
        self.waiting.insert(layer, blob);
        if self.is_on_base {
            self.put_due()?;
        }
        Ok(())
    }

    /// Takes the base's layers that can be had, or with `waits` all of them.
    fn take_base(
        &mut self,
        base: &mut BaseBlobs<'_>,
        downloads: &mut Ahead<'_, SpooledBlob>,
        waits: bool,
    ) -> Result<()> {
        if self.is_on_base {
            return Ok(());
        }
        let (cx, sink) = (self.cx, &mut *self.sink);
        self.is_on_base = base.put(cx, downloads, waits, |layer, blob| {
            sink.put_blob(cx, blob)?;
            cx.observer.event(&Event::LayerWritten { layer });
            Ok(())
        })?;
        if self.is_on_base {
            self.put_due()?;
        }
        Ok(())
    }

    /// Puts the layers whose turn it is.
    fn put_due(&mut self) -> Result<()> {
        loop {
            while self.known.get(self.next) == Some(&true) {
                self.next += 1;
            }
            let Some(blob) = self.waiting.remove(&self.next) else {
                return Ok(());
            };
            self.put(self.next, blob)?;
            self.next += 1;
        }
    }

    fn put(&mut self, layer: usize, mut blob: Box<dyn Blob>) -> Result<()> {
        self.sink.put_blob(self.cx, &mut *blob)?;
        self.cx.observer.event(&Event::LayerWritten { layer });
        Ok(())
    }
}

pub(super) fn assemble_image(
    spec: &ImageSpec,
    plan: &ImagePlan,
    records: &[LayerRecord],
) -> Result<AssembledImage> {
    let layers: Vec<ImageLayer<'_>> = plan
        .layers
        .iter()
        .zip(records)
        .map(|(layer, record)| ImageLayer {
            record,
            key: layer.key,
            paths: image_paths(layer),
            summary: layer.summary(),
            history: layer
                .spec
                .content
                .used()
                .map(|used| used.history.clone())
                .unwrap_or_default(),
        })
        .collect();
    match &spec.base {
        Some(base) => assemble_on(base, &plan.base, &spec.whole_config(), &layers),
        None => assemble(&spec.config, &layers),
    }
}

/// Returns a layer's store paths with their NAR sizes.
fn image_paths(layer: &LayerOutline) -> Vec<(StorePath, Option<u64>)> {
    let sizes = layer.nar_sizes.iter().copied().map(Some);
    let sizes = sizes.chain(iter::repeat(None));
    layer.paths().into_iter().zip(sizes).collect()
}

fn report(
    plan: ImagePlan,
    records: Vec<LayerRecord>,
    downloads: Vec<u64>,
    image: &AssembledImage,
    foreign_programs: Vec<ForeignPrograms>,
) -> BuildReport {
    BuildReport {
        manifest_digest: image.manifest.digest(),
        manifest_size: image.manifest.blob.bytes().len() as u64,
        config_digest: image.config.digest(),
        base: plan.base,
        layers: plan
            .layers
            .into_iter()
            .zip(records)
            .zip(downloads)
            .map(|((outline, record), download_size)| LayerReport {
                outline,
                record,
                download_size,
            })
            .collect(),
        foreign_programs,
    }
}
