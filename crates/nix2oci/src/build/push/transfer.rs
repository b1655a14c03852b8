//! Layers made and sent.

use std::sync::{Arc, Mutex, PoisonError};

use crate::content::ContentSource;
use crate::context::{Context, Event};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::VerifyingReader;
use crate::layer::{
    Blob as _, FileBlob, LayerKey, LayerRecord, LayerSpec, LayerStore, PackRequest, Packing, Spool,
    SpoolPlace, SpooledBlob, pack,
};
use crate::registry::{LayerStream, Replayable, Upload, UploadSession, Uploads};

use super::base::BaseLayers;
use super::cache::Cache;
use super::earlier::Earlier;
use super::outlook::{Job, Outlook, Prospect};
use super::{LayerState, PushOptions, Target};
use crate::build::LayerOutline;
use crate::build::build::packing_order;
use crate::build::download::download_size;
use crate::build::mismatch::Remade;
use crate::build::recipe_parts::outline;
use crate::sink::BlobOrder;

/// What all steps of a push need.
pub(super) struct Transfer<'a> {
    pub(super) cx: &'a Context,
    pub(super) target: &'a Target<'a>,
    pub(super) options: &'a PushOptions,
    pub(super) earlier: &'a Earlier,
    pub(super) cache: &'a Cache<'a>,
    pub(super) packing: Packing,
    pub(super) content: &'a dyn ContentSource,
    pub(super) base: &'a BaseLayers,
}

/// A layer that is in the registry.
pub(super) struct Sent {
    spec: LayerSpec,
    pub(super) key: Option<LayerKey>,
    label: String,
    nar_size: u64,
    pub(super) record: LayerRecord,
    pub(super) state: LayerState,
    /// Whether its bytes were made here.
    is_made: bool,
    /// Bytes that came over the network to make it.
    pub(super) download_size: u64,
}

impl SentLayers {
    /// Returns the layers whose bytes were made here.
    pub(super) fn made(&self) -> impl Iterator<Item = &Sent> {
        self.own.iter().filter(|layer| layer.is_made)
    }
}

impl Sent {
    /// Returns what is in it.
    pub(super) fn spec(&self) -> &LayerSpec {
        &self.spec
    }

    /// Returns whether it is packed when it is made, not taken from a file.
    pub(super) fn is_packed(&self) -> bool {
        self.spec.content.used().is_none()
    }

    /// Returns what a recipe's layer is made of.
    pub(super) fn outline(&self) -> LayerOutline {
        outline(&self.spec, self.key, self.nar_size)
    }
}

/// The layers of an image that are in the registry, bottom first.
pub(super) struct SentLayers {
    /// How each layer of the base came there.
    pub(super) base: Vec<LayerState>,
    /// The layers on it.
    pub(super) own: Vec<Sent>,
}

/// A layer on the way there.
struct Order {
    layer: Prospect,
    route: Route,
    state: LayerState,
    is_made: bool,
}

/// What happens to a layer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// They are not made.
    Stay,
    /// They are made to see whether they are the right ones.
    Check,
    /// They go to the registry while they are made.
    Stream,
    /// They wait in a file, from where they can be sent more than once.
    Spool,
}

impl Transfer<'_> {
    /// Makes and sends what the registry does not have.
    pub(super) fn send(&self, outlook: Outlook) -> Result<SentLayers> {
        let mut orders: Vec<Order> = outlook
            .layers
            .into_iter()
            .map(|layer| self.order(layer))
            .collect();
        // The base's layers are told of after those that are made, whose numbers
        // the workers know.
        let own = orders.iter().map(|o| &o.layer.job);
        let own = own.map(|job| (job.nar_size, job.label.clone()));
        let (sizes, labels): (Vec<u64>, Vec<String>) = own.chain(self.base.told()).unzip();
        self.cx.observer.event(&Event::Planned {
            layers: &sizes,
            labels: &labels,
        });
        for (layer, order) in orders.iter().enumerate() {
            if let (Route::Stay, Some(record)) = (order.route, &order.layer.record) {
                self.tell_reused(layer, record);
            }
        }
        let base = self.put_base(orders.len(), true)?;
        self.round(&mut orders)?;
        // What broke comes again from a file, with as many tries as are
        // allowed.
        self.round(&mut orders)?;
        let sent = orders.into_iter().map(|order| {
            let spec = order.layer.job.spec;
            Ok(Sent {
                record: order
                    .layer
                    .record
                    .expect("a layer that was not known was made"),
                download_size: match order.is_made {
                    true => download_size(self.cx, self.content, &spec)?,
                    false => 0,
                },
                spec,
                key: order.layer.job.key,
                label: order.layer.job.label,
                nar_size: order.layer.job.nar_size,
                state: order.state,
                is_made: order.is_made,
            })
        });
        Ok(SentLayers {
            base,
            own: sent.collect::<Result<_>>()?,
        })
    }

    /// Lets the registry have the base's layers.
    fn put_base(&self, first: usize, believes: bool) -> Result<Vec<LayerState>> {
        let (target, options) = (self.target, self.options);
        self.base
            .put(self.cx, target, options, self.earlier, first, believes)
    }

    fn tell_reused(&self, layer: usize, record: &LayerRecord) {
        self.cx.observer.event(&Event::LayerReused {
            layer,
            digest: record.digest,
            size: record.size,
        });
    }

    /// Decides what happens to a layer.
    fn order(&self, layer: Prospect) -> Order {
        let can_stream = self.earlier.tells_what_is_new() && self.target.repository.takes_streams();
        let (route, state) = match (layer.standing, &layer.record) {
            (Some(state), _) if layer.is_by_key && self.options.verify_reused => {
                (Route::Check, state)
            }
            (Some(state), _) => (Route::Stay, state),
            // A session that is open already takes a blob whose bytes can be
            // had again.
            (None, Some(_)) if layer.session.is_some() => (Route::Spool, LayerState::New),
            (None, Some(_)) if self.target.repository.takes_whole_blobs() => {
                (Route::Stream, LayerState::New)
            }
            (None, None) if can_stream => (Route::Stream, LayerState::New),
            (None, _) => (Route::Spool, LayerState::New),
        };
        Order {
            layer,
            route,
            state,
            is_made: false,
        }
    }

    /// Makes all layers that have a route, and sends them. Those that broke on
    /// their way have one afterwards, the others have none.
    fn round(&self, orders: &mut [Order]) -> Result<()> {
        let sizes: Vec<u64> = orders.iter().map(|o| o.layer.job.nar_size).collect();
        let mut order = packing_order(&sizes, BlobOrder::Any);
        order.retain(|layer| orders[*layer].route != Route::Stay);
        if order.is_empty() {
            return Ok(());
        }
        // The blob of a layer that was made before may be at hand.
        let mut files = Vec::new();
        order.retain(|layer| {
            let Order {
                layer: of, route, ..
            } = &orders[*layer];
            let used = of.job.spec.content.used();
            match used.and_then(|used| Some((used, used.blob()?))) {
                Some((used, blob)) if *route != Route::Check => {
                    let blob = replayable_file(&used.name, blob, &used.record);
                    files.push((*layer, blob, used.record.clone()));
                    false
                }
                _ => true,
            }
        });
        let specs: Vec<LayerSpec> = orders.iter().map(|o| o.layer.job.spec.clone()).collect();
        let uploads = self.target.uploads();
        let sessions = orders.iter_mut().map(|o| o.layer.session.take()).collect();
        let outlet = Outlet {
            transfer: self,
            uploads: &uploads,
            place: SpoolPlace::Unnamed(self.cx.spool_dir.clone()),
            orders: &*orders,
            sessions: Mutex::new(sessions),
        };
        let mut made: Vec<Option<LayerRecord>> = vec![None; specs.len()];
        let request = PackRequest {
            layers: &specs,
            order,
            packing: self.packing,
            content: self.content,
            store: &outlet,
        };
        for (layer, blob, record) in files {
            uploads.send(layer, blob, outlet.session(layer), false)?;
            made[layer] = Some(record);
        }
        let packed = pack(self.cx, request, |layer, packed| {
            if let Some(blob) = packed.kept {
                // A layer that was not known was not asked for.
                let ask = outlet.orders[layer].layer.record.is_none() && !self.earlier.is_new();
                uploads.send(layer, replayable(blob), outlet.session(layer), ask)?;
            }
            if outlet.orders[layer].route == Route::Check {
                self.tell_reused(layer, &packed.record);
            }
            made[layer] = Some(packed.record);
            Ok(())
        });
        packed.map_err(|error| uploads.reason(error))?;
        let settled = uploads.settle()?;
        for (order, record) in orders.iter_mut().zip(made) {
            if let Some(record) = record {
                order.layer.record = Some(record);
                order.is_made = true;
                order.route = Route::Stay;
            }
        }
        for (layer, upload) in settled {
            match upload {
                Upload::Sent => {}
                Upload::Exists => orders[layer].state = LayerState::Exists,
                Upload::Broken => orders[layer].route = Route::Spool,
            }
        }
        Ok(())
    }

    /// Makes and sends those of `layers` that the registry turned out not to
    /// have, and returns whether there was one.
    pub(super) fn mend(&self, layers: &mut SentLayers) -> Result<bool> {
        let uploads = self.target.uploads();
        let base = self.put_base(layers.own.len(), false)?;
        let mut is_mended = false;
        for (state, mended) in layers.base.iter_mut().zip(base) {
            if matches!(mended, LayerState::New | LayerState::Mounted) {
                *state = mended;
                is_mended = true;
            }
        }
        let blobs: Vec<_> = layers.own.iter().map(|l| l.record.descriptor()).collect();
        let present = uploads.present(&blobs)?;
        let mut orders: Vec<Order> = layers.own.iter().zip(&present).map(Order::again).collect();
        if !present.contains(&false) {
            return Ok(is_mended);
        }
        self.round(&mut orders)?;
        self.round(&mut orders)?;
        for (layer, is_present) in layers.own.iter_mut().zip(present) {
            if !is_present {
                layer.state = LayerState::New;
                layer.is_made = true;
                layer.download_size = download_size(self.cx, self.content, &layer.spec)?;
            }
        }
        Ok(true)
    }

    /// Notes what was made for later pushes.
    pub(super) fn remember(&self, layers: &SentLayers) {
        for layer in &layers.own {
            if let Some(key) = &layer.key {
                if layer.is_made {
                    self.cache.put(key, &layer.record);
                }
                let repository = &self.target.repository;
                self.cache.see_in(key, &layer.record, repository);
            }
        }
    }

    /// Makes the error of a layer that did not become what it has to be.
    fn mismatch(&self, layer: &Prospect, expected: Digest, found: Digest) -> Result<Error> {
        let why = match (&layer.job.key, layer.is_by_key) {
            (Some(key), true) => format!("whose key {key} is known"),
            _ => match layer.job.spec.content.used() {
                Some(used) => format!("made again for {}", used.name),
                None => "made again for the recipe".to_owned(),
            },
        };
        let remade = Remade {
            spec: &layer.job.spec,
            label: &layer.job.label,
            why: &why,
            expected,
            found,
        };
        remade.error(self.cx, self.content)
    }
}

impl Order {
    /// Makes the order of a layer that was dealt with before.
    fn again((sent, is_present): (&Sent, &bool)) -> Self {
        let job = Job {
            spec: sent.spec.clone(),
            media_type: sent.record.media_type.clone(),
            key: sent.key,
            expected: Some(sent.record.clone()),
            nar_size: sent.nar_size,
            label: sent.label.clone(),
        };
        Self {
            layer: Prospect {
                job,
                record: Some(sent.record.clone()),
                standing: None,
                if_there: sent.state,
                is_by_key: false,
                session: None,
            },
            route: if *is_present {
                Route::Stay
            } else {
                Route::Spool
            },
            state: sent.state,
            is_made: false,
        }
    }
}

/// Where layers go while they are made.
struct Outlet<'a> {
    transfer: &'a Transfer<'a>,
    uploads: &'a Uploads<'a>,
    place: SpoolPlace,
    orders: &'a [Order],
    sessions: Mutex<Vec<Option<UploadSession>>>,
}

impl Outlet<'_> {
    /// Takes the session that a mount opened for a layer.
    fn session(&self, layer: usize) -> Option<UploadSession> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions[layer].take()
    }
}

/// A layer that is being made.
enum Writer {
    Nowhere,
    Stream(LayerStream),
    Spool(Spool),
}

impl LayerStore for &Outlet<'_> {
    type Writer = Writer;
    /// Bytes that are still to be sent.
    type Kept = Option<SpooledBlob>;

    fn begin(&self, layer: usize) -> Result<Writer> {
        let order = &self.orders[layer];
        Ok(match order.route {
            Route::Stay | Route::Check => Writer::Nowhere,
            Route::Stream if self.uploads.takes_streams() => {
                let known = order.layer.record.as_ref().map(LayerRecord::descriptor);
                Writer::Stream(self.uploads.stream(layer, known)?)
            }
            Route::Stream | Route::Spool => Writer::Spool(Spool::begin(&self.place)?),
        })
    }

    fn write(&self, writer: &mut Writer, bytes: &[u8]) -> Result<()> {
        match writer {
            Writer::Nowhere => Ok(()),
            Writer::Stream(stream) => stream.write(bytes),
            Writer::Spool(spool) => spool.write(bytes),
        }
    }

    fn finish(
        &self,
        layer: usize,
        writer: Writer,
        record: &LayerRecord,
    ) -> Result<Option<SpooledBlob>> {
        let prospect = &self.orders[layer].layer;
        if let Some(known) = &prospect.record
            && known != record
        {
            let error = self
                .transfer
                .mismatch(prospect, known.digest, record.digest)?;
            return Err(error);
        }
        let descriptor = record.descriptor();
        Ok(match writer {
            Writer::Nowhere => None,
            Writer::Stream(stream) => {
                stream.finish(&descriptor);
                None
            }
            Writer::Spool(spool) => spool.finish(descriptor),
        })
    }
}

/// Returns the blob of a file as one that can be sent again and again.
fn replayable_file(name: &str, blob: FileBlob, record: &LayerRecord) -> Replayable {
    let (digest, size) = (record.digest, record.size);
    let what = format!("the blob {digest} of {name}");
    Replayable {
        descriptor: record.descriptor(),
        open: Arc::new(move || {
            let reader = VerifyingReader::new(blob.reader()?, &*what, digest, size);
            Ok(Box::new(reader))
        }),
    }
}

/// Returns a spooled blob as one that can be sent again and again.
fn replayable(blob: SpooledBlob) -> Replayable {
    let descriptor = blob.descriptor().clone();
    let blob = Arc::new(blob);
    Replayable {
        descriptor,
        open: Arc::new(move || Ok(Box::new(blob.reader()))),
    }
}
