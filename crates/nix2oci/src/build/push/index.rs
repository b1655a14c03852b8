//! Images for several platforms, and an index that names them.

use std::collections::BTreeMap;

use crate::context::{Context, Event};
use crate::digest::Digest;
use crate::error::Result;
use crate::image::{RawManifest, assemble_index};
use crate::oci::{Descriptor, Reference, descriptor_digest};
use crate::registry::Registries;

use super::base::BaseLayers;
use super::earlier::{Earlier, PushedBefore};
use super::{PushOptions, PushReport, Target, lacks_blobs, push_image, push_parts, stored};
use crate::build::index::{IndexPart, IndexSource, Prepared, descriptors, prepare};
use crate::build::numbered::Numbering;

/// An index that is in a registry now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PushedIndex {
    /// The index for ever: `registry/repository@sha256:…`.
    pub pinned: String,
    /// The digest of the index.
    pub manifest_digest: Digest,
    /// The bytes of it.
    pub manifest_size: u64,
    /// The tags that did not point to it before.
    pub changed_tags: Vec<String>,
    /// What became of each image that the index names, in its order. A part that
    /// was an index itself has several.
    pub images: Vec<PushReport>,
    /// What the index names, in its order.
    pub manifests: Vec<Descriptor>,
}

/// Pushes images for several platforms to a registry, and an index of them with
/// these annotations under `names`, which are tags of one repository.
///
/// Each image is pushed as [`push`](super::push()) does, planned on from the one
/// for its platform that the tags have now, and gets no name but its digest. No
/// tag points to the index before the registry has all of it.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) before anything
/// is sent if two images are for one platform, or one does not say its own;
/// those of [`push`](super::push()).
pub fn push_index(
    cx: &Context,
    parts: &[IndexPart<'_>],
    annotations: &BTreeMap<String, String>,
    registries: &Registries,
    names: &[Reference],
    options: &PushOptions,
) -> Result<PushedIndex> {
    let target = Target::new(cx, registries, names)?;
    let prepared = prepare(cx, parts)?;
    let numbering = Numbering::new(cx);
    let mut before = PushedBefore::default();
    let mut children = Vec::new();
    let mut reports = Vec::new();
    for (part, prepared) in parts.iter().zip(prepared) {
        let cx = numbering.next(cx);
        let target = target.of_index(&cx, &before);
        let mut sent = Vec::new();
        let mut made = Vec::new();
        let (pushed, manifests) = match (&part.source, prepared) {
            (IndexSource::Stored { image, .. }, Prepared::Stored(mut tree, manifests)) => {
                tree.documents.retain(|document| document.config.is_some());
                let report = stored::push_tree(&cx, image, &tree, &target, options)?;
                (stored::images_of(report, &tree, &target), manifests)
            }
            (
                IndexSource::Recipe {
                    recipe, content, ..
                },
                Prepared::Recipe(prepared),
            ) => {
                let (parts, manifest) = *prepared;
                let base = BaseLayers::of_recipe(recipe, &parts.base, None)?;
                let content = content.as_ref();
                let pushed = push_parts(&cx, parts, base, content, &target, options)?;
                sent = pushed.layers;
                made = pushed.made;
                (vec![pushed.report], vec![manifest])
            }
            (IndexSource::Image(spec), _) => {
                let pushed = push_image(&cx, spec, &target, options)?;
                sent = pushed.layers;
                made = pushed.made;
                (vec![pushed.report], vec![pushed.manifest])
            }
            _ => unreachable!("each part was prepared as what it is"),
        };
        let layers = pushed.iter().flat_map(|report| &report.layers);
        let blobs = layers.map(|layer| &layer.descriptor);
        before.add_blobs(blobs.filter_map(descriptor_digest));
        before.add(&sent);
        before.add_made(made);
        children.extend(manifests);
        reports.extend(pushed);
    }
    let index = assemble_index(&children, annotations);
    let changed_tags = put_index(cx, &target, &index, &children, options)?;
    cx.observer.event(&Event::Committed {
        manifest: index.digest(),
    });
    Ok(PushedIndex {
        pinned: format!("{}@{}", target.name, index.digest()),
        manifest_digest: index.digest(),
        manifest_size: index.blob.bytes().len() as u64,
        changed_tags,
        images: reports,
        manifests: descriptors(&children),
    })
}

/// Lets all tags point to an index and returns those that did not before.
///
/// A manifest that an earlier index only promised may be gone: if the registry
/// says so, all are put once more.
fn put_index(
    cx: &Context,
    target: &Target<'_>,
    index: &RawManifest,
    children: &[RawManifest],
    options: &PushOptions,
) -> Result<Vec<String>> {
    let earlier = Earlier::read(cx, target, options, None)?;
    let tags = target.tags.iter();
    let changed: Vec<String> = tags
        .filter(|tag| !earlier.has_tag(tag, index.digest()))
        .cloned()
        .collect();
    if changed.is_empty() {
        return Ok(changed);
    }
    match target.put_manifest(&index.blob, &changed) {
        Err(error) if lacks_blobs(&error) => {
            for child in children {
                cx.cancel.check()?;
                target.put_manifest(&child.blob, &[child.digest().to_string()])?;
            }
            target.put_manifest(&index.blob, &changed)?;
        }
        result => result?,
    }
    Ok(changed)
}
