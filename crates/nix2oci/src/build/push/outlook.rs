//! What has to be done for each layer.

use crate::context::Context;
use crate::error::Result;
use crate::layer::{LayerKey, LayerRecord, LayerSpec};
use crate::oci::{MediaType, Reference};
use crate::registry::{Mounted, Registries, UploadSession};

use super::base::BaseLayers;
use super::cache::Cache;
use super::earlier::Earlier;
use super::{LayerState, PushOptions, Target, media_type, plan_push};
use crate::build::build::used_record;
use crate::build::download::download_size;
use crate::build::{ImagePlan, ImageSpec};

/// A layer that has to be in the registry.
pub(super) struct Job {
    pub(super) spec: LayerSpec,
    /// What its blob will be.
    pub(super) media_type: MediaType,
    pub(super) key: Option<LayerKey>,
    /// What a recipe says that it has to become.
    pub(super) expected: Option<LayerRecord>,
    /// Its bytes before compression, about.
    pub(super) nar_size: u64,
    /// What is in it, for people.
    pub(super) label: String,
}

/// A layer and what is known of it.
pub(super) struct Prospect {
    pub(super) job: Job,
    /// What it is or has to become.
    pub(super) record: Option<LayerRecord>,
    /// Why the registry has it, or `None` if it has to be made and sent.
    pub(super) standing: Option<LayerState>,
    /// What it is called if the registry says that it has it.
    pub(super) if_there: LayerState,
    /// Whether the record is believed because of the layer's key alone.
    pub(super) is_by_key: bool,
    /// Opened by a mount that did not work out.
    pub(super) session: Option<UploadSession>,
}

impl Prospect {
    /// Returns whether its bytes are made, be it only to see whether they are the
    /// right ones.
    pub(super) fn is_made(&self, options: &PushOptions) -> bool {
        self.standing.is_none() || (self.is_by_key && options.verify_reused)
    }
}

/// What has to be done for each layer, bottom first.
pub(super) struct Outlook {
    pub(super) layers: Vec<Prospect>,
}

impl Outlook {
    /// Finds out what the registry has. Asks for layers whose digest is known
    /// and which no earlier image vouches for; what it does not have is mounted
    /// if that is possible, unless the target is only asked.
    pub(super) fn new(
        target: &Target<'_>,
        options: &PushOptions,
        earlier: &Earlier,
        cache: &Cache<'_>,
        jobs: Vec<Job>,
    ) -> Result<Self> {
        let mut can_mount = options.mount_from.len() + options.reuse_from.len() > 0;
        let mut asked = Vec::new();
        let mut layers = Vec::with_capacity(jobs.len());
        for (at, job) in jobs.into_iter().enumerate() {
            let (prospect, mount_from) = known(job, earlier, cache);
            let mut mount_from: Vec<String> = mount_from.into_iter().collect();
            if let (None, Some(key), Some(record)) =
                (prospect.standing, &prospect.job.key, &prospect.record)
            {
                mount_from.extend(cache.mount_from(key, record, &target.repository));
            }
            can_mount |= !mount_from.is_empty();
            // An earlier image vouches for its blobs, unless nothing is believed.
            let is_sure = prospect.standing.is_some() && !options.verify_reused;
            if prospect.record.is_some() && !is_sure {
                asked.push((at, mount_from));
            }
            layers.push(prospect);
        }
        let mut outlook = Self { layers };
        if !earlier.is_new() || can_mount {
            outlook.ask(target, options, asked)?;
        }
        Ok(outlook)
    }

    /// Asks for layers, and tries to mount those that are not there.
    fn ask(
        &mut self,
        target: &Target<'_>,
        options: &PushOptions,
        asked: Vec<(usize, Vec<String>)>,
    ) -> Result<()> {
        if asked.is_empty() {
            return Ok(());
        }
        let uploads = target.uploads();
        let descriptor = |layer: &Prospect| {
            let record = layer.record.as_ref();
            record
                .expect("only known layers are asked for")
                .descriptor()
        };
        let blobs: Vec<_> = asked
            .iter()
            .map(|(at, _)| descriptor(&self.layers[*at]))
            .collect();
        let present = uploads.present(&blobs)?;
        let mut missing = Vec::new();
        for ((at, mount_from), is_present) in asked.into_iter().zip(present) {
            let layer = &mut self.layers[at];
            if is_present {
                layer.standing.get_or_insert(layer.if_there);
                continue;
            }
            layer.standing = None;
            if target.is_read_only {
                // The image that was named has it, or a push saw it there, so a
                // mount would work.
                layer.standing = (!mount_from.is_empty()).then_some(LayerState::Mounted);
                continue;
            }
            let from: Vec<String> = mount_from
                .into_iter()
                .chain(options.mount_from.iter().cloned())
                .filter(|from| from != target.repository.name())
                .collect();
            if !from.is_empty() {
                missing.push((at, descriptor(layer), from));
            }
        }
        let places: Vec<usize> = missing.iter().map(|(at, ..)| *at).collect();
        let mounts = missing.into_iter().map(|(_, blob, from)| (blob, from));
        for (at, mounted) in places.into_iter().zip(uploads.mount(mounts.collect())?) {
            match mounted {
                Mounted::Done => self.layers[at].standing = Some(LayerState::Mounted),
                Mounted::Session(session) => self.layers[at].session = Some(session),
                Mounted::Refused(_) => {}
            }
        }
        Ok(())
    }
}

/// Finds what is known of a layer without asking for it, and from where it can
/// perhaps be mounted.
fn known(job: Job, earlier: &Earlier, cache: &Cache<'_>) -> (Prospect, Option<String>) {
    let by_key = job.key.filter(|_| job.expected.is_none());
    let found = by_key.and_then(|key| earlier.record(&key));
    let mut mount_from = None;
    let mut if_there = LayerState::Exists;
    // A program that compressed a layer anew may have kept its key.
    let is_packed_so = |record: &LayerRecord| record.media_type == job.media_type;
    let found = found.filter(|known| is_packed_so(&known.record));
    let record = match (&job.expected, found, by_key) {
        (Some(expected), ..) => Some(expected.clone()),
        (None, Some(known), _) => {
            mount_from.clone_from(&known.mount_from);
            Some(known.record.clone())
        }
        (None, None, Some(key)) => {
            if_there = LayerState::Cached;
            cache.get(&key).filter(is_packed_so)
        }
        (None, None, None) => None,
    };
    let is_here = record
        .as_ref()
        .is_some_and(|record| earlier.has_blob(record.digest));
    let prospect = Prospect {
        is_by_key: record.is_some() && job.expected.is_none(),
        job,
        record,
        standing: is_here.then_some(LayerState::Reused),
        if_there,
        session: None,
    };
    (prospect, mount_from)
}

/// What a push would do, before it does anything.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PushForecast {
    /// The layers as they are planned.
    pub plan: ImagePlan,
    /// What is known of each layer of the base.
    pub base: Vec<LayerForecast>,
    /// What is known of each layer on it, in the same order.
    pub layers: Vec<LayerForecast>,
    /// Whether no image was found that it could be compared with.
    pub is_first: bool,
}

/// How many bytes of layers move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadEstimate {
    /// None.
    Nothing,
    /// All new layers were packed before.
    Exactly(u64),
    /// Some were not; they are taken to be compressed as much as those that are
    /// known.
    About(u64),
    /// Nothing is known but their sizes before compression.
    AtMost(u64),
}

impl UploadEstimate {
    /// Returns the number, whatever it is worth.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Exactly(bytes) | Self::About(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}

impl PushForecast {
    /// Returns how many bytes of layers a push would send, as far as that is
    /// known. Config and manifest come to some kilobytes more.
    pub fn upload_estimate(&self) -> UploadEstimate {
        self.estimate(|state| state == LayerState::New)
    }

    /// Returns how many bytes of layers a node would fetch that has the image
    /// that is replaced: what the registry has of other images, the node lacks.
    pub fn pull_estimate(&self) -> UploadEstimate {
        self.estimate(|state| state != LayerState::Reused)
    }

    /// Returns how many bytes come over the network to make the layers that have
    /// to be made.
    pub fn download_size(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.download_size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Adds up the layers that move.
    fn estimate(&self, moves: impl Fn(LayerState) -> bool) -> UploadEstimate {
        let base = self.base.iter().filter(|layer| moves(layer.state));
        let base = base.filter_map(|layer| Some(layer.record.as_ref()?.size));
        let base: Vec<u64> = base.collect();
        let known = || self.layers.iter().filter_map(|layer| layer.record.as_ref());
        // Whoever made the earlier image says how large its layers are.
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let sizes = sum(&mut known().map(|record| record.size));
        let uncompressed = sum(&mut known().map(|record| record.uncompressed_size));
        let layers = self.plan.layers.iter().zip(&self.layers);
        let moving: Vec<_> = layers.filter(|(_, layer)| moves(layer.state)).collect();
        let records = moving.iter().filter_map(|(_, layer)| layer.record.as_ref());
        let packed = sum(&mut base.iter().copied());
        let packed = sum(&mut records.map(|record| record.size).chain([packed]));
        let unpacked: Vec<u64> = moving
            .iter()
            .filter(|(_, layer)| layer.record.is_none())
            .map(|(outline, _)| outline.unpacked_size())
            .collect();
        let unpacked_size = sum(&mut unpacked.iter().copied());
        match (moving.is_empty() && base.is_empty(), unpacked.is_empty()) {
            (true, _) => UploadEstimate::Nothing,
            (false, true) => UploadEstimate::Exactly(packed),
            (false, false) if uncompressed == 0 => {
                UploadEstimate::AtMost(packed.saturating_add(unpacked_size))
            }
            (false, false) => {
                let ratio =
                    u128::from(unpacked_size) * u128::from(sizes) / u128::from(uncompressed);
                let rest = u64::try_from(ratio).unwrap_or(u64::MAX);
                UploadEstimate::About(packed.saturating_add(rest))
            }
        }
    }
}

/// What is known of a layer that would be pushed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerForecast {
    /// Its digests and sizes, if it was packed before.
    pub record: Option<LayerRecord>,
    /// What a push would find: [`LayerState::New`] if it had to send it.
    pub state: LayerState,
    /// Bytes that making it would bring over the network, as the content source
    /// tells them; 0 if it need not be made.
    pub download_size: u64,
}

/// Finds out what [`push`](super::push) would send of an image under `names`,
/// without reading a file or writing to the registry.
///
/// A layer that was never packed has no known size; one with another key can
/// still have bytes that the registry has, which only packing can tell.
///
/// # Errors
///
/// As [`push`](super::push).
pub fn forecast(
    cx: &Context,
    spec: &ImageSpec,
    registries: &Registries,
    names: &[Reference],
    options: &PushOptions,
) -> Result<PushForecast> {
    let target = Target {
        is_read_only: true,
        ..Target::new(cx, registries, names)?
    };
    let earlier = Earlier::read(cx, &target, options, Some(&spec.config.platform))?;
    let plan = plan_push(cx, spec, options, &earlier)?;
    let jobs = plan.layers.iter().map(|outline| Job {
        spec: outline.spec.clone(),
        media_type: media_type(spec, outline),
        key: outline.key,
        expected: used_record(outline),
        nar_size: outline.unpacked_size(),
        label: String::new(),
    });
    let cache = Cache::new(cx, options);
    let outlook = Outlook::new(&target, options, &earlier, &cache, jobs.collect())?;
    let content = spec.content.as_ref();
    let layers = outlook.layers.into_iter().map(|layer| {
        let is_made = layer.is_made(options);
        Ok(LayerForecast {
            download_size: match is_made {
                true => download_size(cx, content, &layer.job.spec)?,
                false => 0,
            },
            record: layer.record,
            state: layer.standing.unwrap_or(LayerState::New),
        })
    });
    let layers = layers.collect::<Result<_>>()?;
    Ok(PushForecast {
        base: BaseLayers::of_image(spec, &plan).forecast(&target, options, &earlier)?,
        layers,
        plan,
        is_first: !earlier.has_image(),
    })
}
