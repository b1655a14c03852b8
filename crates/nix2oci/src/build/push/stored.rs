//! Images that are made already.

use std::collections::HashMap;
use std::sync::Arc;

use crate::build::index::CopiedImage;
use crate::context::{Context, Event};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{ImageReader, ImageTable, ImageTree, TreeDocument};
use crate::layer::BytesBlob;
use crate::oci::{Descriptor, ImageManifest, Platform, descriptor_digest};
use crate::registry::{Mounted, Replayable};

use super::earlier::Earlier;
use super::{LayerState, PushOptions, PushReport, PushedLayer, Target, lacks_blobs};

/// Copies a stored image, or an index with all its images.
pub(super) fn push(
    cx: &Context,
    image: &Arc<ImageReader>,
    platform: Option<&Platform>,
    target: &Target<'_>,
    options: &PushOptions,
) -> Result<PushReport> {
    let tree = image.tree(cx, platform)?;
    push_tree(cx, image, &tree, target, options)
}

/// Copies what an image consists of. For an index, `tree` has manifests only,
/// and the last one is as good as any.
pub(super) fn push_tree(
    cx: &Context,
    image: &Arc<ImageReader>,
    tree: &ImageTree,
    target: &Target<'_>,
    options: &PushOptions,
) -> Result<PushReport> {
    let earlier = Earlier::read(cx, target, options, None)?;
    if tree.root().config.is_some() {
        earlier.warn_of_platforms(cx, target);
    }
    let copy = Copy {
        cx,
        image,
        target,
        options,
        earlier: &earlier,
    };
    let root = sha256_of(image, &tree.root().descriptor)?;
    let tags = target.tags.iter();
    let changed: Vec<String> = tags
        .filter(|tag| !target.is_of_index && !earlier.has_tag(tag, root))
        .cloned()
        .collect();
    copy.tell_planned(tree);
    let states = if changed.is_empty() && !target.is_of_index {
        let states = vec![LayerState::Reused; tree.blobs.len()];
        copy.tell_reused(tree, &states)?;
        states
    } else {
        let states = copy.blobs(tree, true)?;
        match copy.documents(tree, &changed) {
            Err(error) if lacks_blobs(&error) => {
                let mended = copy.blobs(tree, false)?;
                let sent = |state: &LayerState| *state == LayerState::New;
                if !mended.iter().any(sent) {
                    return Err(error);
                }
                copy.documents(tree, &changed)?;
                let states = states.into_iter().zip(mended);
                let state = |(first, mended)| if sent(&mended) { mended } else { first };
                states.map(state).collect()
            }
            result => {
                result?;
                states
            }
        }
    };
    let config = tree.root().config.as_ref().and_then(descriptor_digest);
    let layers = layers(tree).iter().zip(states);
    Ok(PushReport {
        pinned: format!("{}@{root}", target.name),
        manifest_digest: root,
        manifest_size: tree.root().bytes.len() as u64,
        config_digest: config,
        changed_tags: changed,
        layers: layers
            .map(|(blob, state)| PushedLayer {
                outline: None,
                base: None,
                descriptor: blob.clone(),
                diff_id: None,
                state,
                download_size: 0,
            })
            .collect(),
    })
}

/// Makes of the report of a tree one for each image that is in it.
pub(super) fn images_of(
    report: PushReport,
    tree: &ImageTree,
    target: &Target<'_>,
) -> Vec<PushReport> {
    let pushed: HashMap<String, PushedLayer> = report
        .layers
        .into_iter()
        .map(|layer| (layer.descriptor.digest().to_string(), layer))
        .collect();
    let image = |image: CopiedImage| {
        let layers = image.layers.iter();
        let layers = layers.filter_map(|blob| pushed.get(&blob.digest().to_string()));
        PushReport {
            pinned: format!("{}@{}", target.name, image.manifest_digest),
            manifest_digest: image.manifest_digest,
            manifest_size: image.manifest_size,
            config_digest: descriptor_digest(&image.config),
            changed_tags: Vec::new(),
            layers: layers.cloned().collect(),
        }
    };
    CopiedImage::all(tree).map(image).collect()
}

/// What all steps of a copy need.
struct Copy<'a> {
    cx: &'a Context,
    image: &'a Arc<ImageReader>,
    target: &'a Target<'a>,
    options: &'a PushOptions,
    earlier: &'a Earlier,
}

impl Copy<'_> {
    /// Sends the blobs that the registry does not have. What an earlier image
    /// of the repository has is asked for only without `believes`, the second
    /// time, when the rest was told of already.
    fn blobs(&self, tree: &ImageTree, believes: bool) -> Result<Vec<LayerState>> {
        let blobs = &tree.blobs;
        let uploads = self.target.uploads();
        let mut states = vec![LayerState::New; blobs.len()];
        let mut asked = Vec::new();
        for (at, blob) in blobs.iter().enumerate() {
            if believes && self.earlier.has_blob(sha256_of(self.image, blob)?) {
                states[at] = LayerState::Reused;
            } else if !self.earlier.is_new() {
                asked.push(at);
            }
        }
        let of = |places: &[usize]| {
            places
                .iter()
                .map(|at| blobs[*at].clone())
                .collect::<Vec<_>>()
        };
        for (at, is_present) in asked.iter().zip(uploads.present(&of(&asked))?) {
            if is_present {
                states[*at] = LayerState::Exists;
            }
        }
        let missing: Vec<usize> = (0..blobs.len())
            .filter(|at| states[*at] == LayerState::New)
            .collect();
        let from = self.mount_from();
        let mut sessions = Vec::new();
        if !from.is_empty() {
            let mounts = of(&missing).into_iter().map(|blob| (blob, from.clone()));
            sessions = uploads.mount(mounts.collect())?;
        }
        let mut sessions = sessions.into_iter();
        let mut to_send = Vec::new();
        for at in missing {
            match sessions.next() {
                Some(Mounted::Done) => states[at] = LayerState::Mounted,
                Some(Mounted::Session(session)) => to_send.push((at, Some(session))),
                Some(Mounted::Refused(_)) | None => to_send.push((at, None)),
            }
        }
        if believes {
            self.tell_reused(tree, &states)?;
        }
        for (at, session) in to_send {
            if at == layers(tree).len() {
                // The config is no layer to tell of.
                self.target.put_blob(self.replayable(blobs[at].clone()))?;
                continue;
            }
            self.cx.observer.event(&Event::LayerStarted { layer: at });
            let blob = self.replayable(blobs[at].clone());
            if uploads.send(at, blob, session, false).is_err() {
                // Said below.
                break;
            }
        }
        uploads.settle()?;
        Ok(states)
    }

    fn tell_planned(&self, tree: &ImageTree) {
        let sizes: Vec<u64> = layers(tree).iter().map(Descriptor::size).collect();
        let labels = labels(tree);
        self.cx.observer.event(&Event::Planned {
            layers: &sizes,
            labels: &labels,
        });
    }

    /// Tells of the blobs that are not sent.
    fn tell_reused(&self, tree: &ImageTree, states: &[LayerState]) -> Result<()> {
        for (layer, (blob, state)) in layers(tree).iter().zip(states).enumerate() {
            if *state != LayerState::New {
                self.cx.observer.event(&Event::LayerReused {
                    layer,
                    digest: sha256_of(self.image, blob)?,
                    size: blob.size(),
                });
            }
        }
        Ok(())
    }

    /// Puts manifests and indexes, each after those that it names; the last one
    /// gets the tags.
    fn documents(&self, tree: &ImageTree, tags: &[String]) -> Result<()> {
        let (root, inner) = match tree.documents.split_last() {
            Some((root, inner)) if !self.target.is_of_index => (Some(root), inner),
            _ => (None, tree.documents.as_slice()),
        };
        for document in inner {
            self.cx.cancel.check()?;
            let digest = sha256_of(self.image, &document.descriptor)?;
            if self.earlier.has_blob(digest) {
                continue;
            }
            match &document.subject {
                Some(subject) if descriptor_digest(subject).is_some() => {
                    self.put_referrer(document)?;
                }
                _ => self.put(document, &[digest.to_string()])?,
            }
        }
        let Some(root) = root else {
            return Ok(());
        };
        if root.subject.as_ref().and_then(descriptor_digest).is_some() {
            self.put_referrer(root)?;
        }
        self.put(root, tags)
    }

    fn put(&self, document: &TreeDocument, which: &[String]) -> Result<()> {
        let media_type = document.descriptor.media_type().clone();
        let blob = BytesBlob::new(media_type, document.bytes.clone());
        self.target.put_manifest(&blob, which)
    }

    /// Puts a signature or another artifact, which is found from its subject.
    fn put_referrer(&self, document: &TreeDocument) -> Result<()> {
        let media_type = document.descriptor.media_type().clone();
        let bytes = document.bytes.clone();
        let repository = self.target.repository.clone();
        let put = async move { repository.put_referrer(&bytes, &media_type).await };
        self.target.block_on(put)
    }

    /// Returns the repositories that may have the blobs: that of the image, if
    /// it is of the same registry, and those that were named.
    fn mount_from(&self) -> Vec<String> {
        let origin = self.image.registry_repository();
        let here = &self.target.repository;
        origin
            .filter(|(host, _)| *host == here.host())
            .map(|(_, repository)| repository.to_owned())
            .into_iter()
            .chain(self.options.mount_from.iter().cloned())
            .filter(|from| from != here.name())
            .collect()
    }

    fn replayable(&self, blob: Descriptor) -> Replayable {
        let image = Arc::clone(self.image);
        Replayable {
            descriptor: blob.clone(),
            open: Arc::new(move || image.open_blob(&blob)),
        }
    }
}

/// Returns the blobs that are told of: of an image all but its config, which
/// comes last; an index tells of the configs of all its images.
fn layers(tree: &ImageTree) -> &[Descriptor] {
    let config = tree.root().config.as_ref().map(Descriptor::digest);
    match tree.blobs.split_last() {
        Some((last, layers)) if Some(last.digest()) == config => layers,
        _ => &tree.blobs,
    }
}

fn sha256_of(image: &ImageReader, descriptor: &Descriptor) -> Result<Digest> {
    descriptor_digest(descriptor).ok_or_else(|| {
        Error::image(
            format!("{}: {}", image.name(), descriptor.digest()),
            "does not have a SHA-256 digest",
        )
    })
}

/// Returns what is in each of the blobs that are told of, for people: the name
/// of its largest store path, or as much of its digest as people compare.
fn labels(tree: &ImageTree) -> Vec<String> {
    let mut names: HashMap<String, String> = HashMap::new();
    for document in tree.documents.iter().filter(|d| d.config.is_some()) {
        let Ok(manifest) = serde_json::from_slice::<ImageManifest>(&document.bytes) else {
            continue;
        };
        let table = ImageTable::read(&manifest).unwrap_or_default();
        for (blob, layer) in manifest.layers().iter().zip(&table.layers) {
            if let Some(largest) = layer.largest() {
                names.insert(blob.digest().to_string(), largest.path.name().to_owned());
            }
        }
    }
    let label = |blob: &Descriptor| {
        let digest = blob.digest().to_string();
        names.remove(&digest).unwrap_or_else(|| {
            let hex = digest.split_once(':').map_or(&*digest, |(_, hex)| hex);
            hex.chars().take(12).collect()
        })
    };
    layers(tree).iter().map(label).collect()
}
