//! From a spec to an image in a sink.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter;

use crate::content::ForeignPrograms;
use crate::context::{Context, Event};
use crate::error::Result;
use crate::image::{AssembledImage, ImageLayer, assemble};
use crate::layer::{
    LayerRecord, LayerSpec, PackRequest, PackedLayer, SpoolPlace, SpooledBlob, pack,
};
use crate::sink::{BlobOrder, ImageSink};
use crate::store::StorePath;

use super::programs::{checked_content, tell};
use super::report::LayerReport;
use super::{BuildReport, ImagePlan, ImageSpec, LayerOutline, Recipe, plan};

/// A layer whose bytes were spooled, if they were wanted.
type Packed = PackedLayer<Option<SpooledBlob>>;

/// Builds an image and gives it to a sink.
///
/// Reads the content of every store path once. What is in the sink after an
/// error is the sink's matter: nothing with a final name.
pub fn build(cx: &Context, spec: &ImageSpec, sink: &mut dyn ImageSink) -> Result<BuildReport> {
    let plan = plan(cx, spec)?;
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
        waiting: BTreeMap::new(),
    };
    let (records, foreign) = pack_all(cx, spec, &plan, order, spool, |layer, packed| {
        delivery.take(layer, packed)
    })?;
    let mut image = assemble_image(spec, &plan, &records)?;
    sink.put_blob(cx, &mut image.config)?;
    sink.put_manifest(cx, &image.manifest, &spec.names)?;
    sink.commit(cx)?;
    cx.observer.event(&Event::Committed {
        manifest: image.manifest.digest(),
    });
    Ok(report(plan, records, &image, foreign))
}

/// Finds out every digest of an image and keeps no layer.
///
/// Reads the content of every store path once, as [`build`] does.
pub fn resolve(cx: &Context, spec: &ImageSpec) -> Result<Recipe> {
    let plan = plan(cx, spec)?;
    let (records, _) = pack_all(
        cx,
        spec,
        &plan,
        BlobOrder::Any,
        SpoolPlace::Nowhere,
        |_, _| Ok(()),
    )?;
    let image = assemble_image(spec, &plan, &records)?;
    Ok(Recipe::new(spec, &plan, &records, &image))
}

/// Packs all layers and returns their records in image order, and the programs
/// in them that the platform cannot run.
fn pack_all(
    cx: &Context,
    spec: &ImageSpec,
    plan: &ImagePlan,
    order: BlobOrder,
    spool: SpoolPlace,
    mut deliver: impl FnMut(usize, Packed) -> Result<()>,
) -> Result<(Vec<LayerRecord>, Vec<ForeignPrograms>)> {
    let content = checked_content(spec)?;
    let sizes: Vec<u64> = plan
        .layers
        .iter()
        .map(LayerOutline::unpacked_size)
        .collect();
    let labels = labels(plan);
    cx.observer.event(&Event::Planned {
        layers: &sizes,
        labels: &labels,
    });
    let layers: Vec<LayerSpec> = plan.layers.iter().map(|l| l.spec.clone()).collect();
    let mut records: Vec<Option<LayerRecord>> = vec![None; layers.len()];
    let request = PackRequest {
        layers: &layers,
        order: packing_order(&sizes, order),
        packing: spec.packing,
        content: &content,
        store: spool,
    };
    pack(cx, request, |layer, packed| {
        records[layer] = Some(packed.record.clone());
        deliver(layer, packed)
    })?;
    let records = records
        .into_iter()
        .map(|record| record.expect("a pipeline without error finished every layer"))
        .collect();
    Ok((records, tell(cx, &content)))
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
    /// Layers whose turn has not come; their bytes are on disk.
    waiting: BTreeMap<usize, Packed>,
}

impl Delivery<'_> {
    fn take(&mut self, layer: usize, packed: Packed) -> Result<()> {
        if self.order == BlobOrder::Any {
            return self.put(layer, packed);
        }
        self.waiting.insert(layer, packed);
        while let Some(packed) = self.waiting.remove(&self.next) {
            self.put(self.next, packed)?;
            self.next += 1;
        }
        Ok(())
    }

    fn put(&mut self, layer: usize, packed: Packed) -> Result<()> {
        let mut blob = packed
            .kept
            .expect("a layer packed with a spool directory has its bytes");
        self.sink.put_blob(self.cx, &mut blob)?;
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
        })
        .collect();
    assemble(&spec.config, &layers)
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
    image: &AssembledImage,
    foreign_programs: Vec<ForeignPrograms>,
) -> BuildReport {
    BuildReport {
        manifest_digest: image.manifest.digest(),
        manifest_size: image.manifest.blob.bytes().len() as u64,
        config_digest: image.config.digest(),
        layers: plan
            .layers
            .into_iter()
            .zip(records)
            .map(|(outline, record)| LayerReport { outline, record })
            .collect(),
        foreign_programs,
    }
}
