//! Images that are there, several at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix2oci::Context;
use nix2oci::image::{ImageReader, ImageTree};
use nix2oci::oci::{self, Reference, is_tag};

use crate::args::{ImageArgs, RegistryArgs, ReuseArgs};
use crate::exit::{Failure, Outcome};

use super::earlier::earlier_images;
use super::network::Network;
use super::push::{AnyImage, any_image};
use super::{config, stored};

/// An image that was opened.
#[derive(Debug)]
pub(crate) struct OpenedImage {
    pub(crate) reader: Arc<ImageReader>,
    /// The name that it was asked for by, if it is of a registry.
    name: Option<Reference>,
}

/// Opens images, and finds out how registries are reached if one of them is in a
/// registry, or what is written, which is in that of `host`.
pub(crate) fn open_images<'a>(
    cx: &Context,
    texts: impl IntoIterator<Item = &'a str>,
    registry: &RegistryArgs,
    reuse: Option<&ReuseArgs>,
    host: Option<&str>,
) -> Outcome<(Option<Network>, Vec<OpenedImage>)> {
    let images: Vec<AnyImage> = texts.into_iter().map(any_image).collect::<Outcome<_>>()?;
    let network = network_of(cx, &images, registry, reuse, host, None)?;
    let mut opened = Vec::with_capacity(images.len());
    for image in images {
        opened.push(open(cx, network.as_ref(), image)?);
    }
    Ok((network, opened))
}

/// Finds out how registries are reached, if any is asked: those of the images,
/// and that of `host`, where something is written.
pub(crate) fn network_of(
    cx: &Context,
    images: &[AnyImage],
    registry: &RegistryArgs,
    reuse: Option<&ReuseArgs>,
    host: Option<&str>,
    stdin_taken: Option<&str>,
) -> Outcome<Option<Network>> {
    let mut hosts: Vec<String> = images.iter().filter_map(AnyImage::host).collect();
    hosts.dedup();
    let has_creds = registry.creds.is_some() || registry.creds_stdin;
    if let (None, [first, other, ..], true) = (host, &hosts[..], has_creds) {
        return Err(Failure::usage(format!(
            "--creds are for one registry, and the images are of {first} and {other}"
        ))
        .hint("`podman login` or `docker login` at both does without"));
    }
    match host.or(hosts.first().map(String::as_str)) {
        Some(host) => Network::new(cx, registry, reuse, true, host, stdin_taken).map(Some),
        None => Ok(None),
    }
}

/// Returns the images that options of an image name: its base, and those whose
/// layers it keeps or shares.
pub(crate) fn named_images(args: &ImageArgs) -> Outcome<Vec<AnyImage>> {
    let base = args.base.from.as_deref().map(any_image).transpose()?;
    let mut images = earlier_images(&args.layers)?;
    images.extend(base);
    Ok(images)
}

/// Opens an image; one of a registry needs the `network`.
pub(crate) fn open(
    cx: &Context,
    network: Option<&Network>,
    image: AnyImage,
) -> Outcome<OpenedImage> {
    let reader = match (network, &image) {
        (Some(network), image) => network.open(cx, image)?,
        (None, AnyImage::Stored(source)) => ImageReader::open(cx, source)?,
        (None, AnyImage::Remote(_)) => unreachable!("the network was made for it"),
    };
    Ok(OpenedImage {
        reader: Arc::new(reader),
        name: match image {
            AnyImage::Remote(reference) => Some(reference),
            AnyImage::Stored(_) => None,
        },
    })
}

impl OpenedImage {
    /// Returns the image's own names. A tag alone, as layouts have it, is none,
    /// nor is the digest that it was asked for by.
    pub(crate) fn names(&self, cx: &Context, tree: &ImageTree) -> Outcome<Vec<Reference>> {
        if let Some(name) = &self.name {
            let named = |tag: &str| {
                let (host, repository) = (name.registry(), name.repository());
                Reference::with_tag(host.to_owned(), repository.to_owned(), tag.to_owned())
            };
            return Ok(name.tag().map(named).into_iter().collect());
        }
        let digests = tree.documents.iter().map(|d| d.descriptor.digest());
        let digests: Vec<_> = digests.collect();
        let mut names: Vec<Reference> = Vec::new();
        for manifest in self.reader.manifests(cx)? {
            if !digests.contains(&manifest.descriptor.digest()) {
                continue;
            }
            let full = manifest.names.iter().filter(|name| !is_tag(name));
            for name in full.filter_map(|name| oci::parse_name(name).ok()) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }
}

/// Returns the names that options give an image, else its own, with the tags of
/// the options if there are some.
pub(crate) fn own_names(
    name: Option<&str>,
    tags: &[String],
    own: impl FnOnce() -> Outcome<Vec<Reference>>,
) -> Outcome<Vec<Reference>> {
    match config::names_of(name, tags)? {
        given if !given.is_empty() => Ok(given),
        _ => stored::tagged_names(own()?, tags),
    }
}

/// Returns the names that options give an image.
pub(crate) fn given_names(name: Option<&str>, tags: &[String]) -> Outcome<Vec<Reference>> {
    config::names_of(name, tags)
}

/// Adds tags of the same repository to a name.
pub(crate) fn tagged(mut names: Vec<Reference>, tags: &[String]) -> Outcome<Vec<Reference>> {
    let Some(first) = names.first().cloned() else {
        return Ok(names);
    };
    for tag in tags {
        let (host, repository) = (first.registry(), first.repository());
        names.push(Reference::with_tag(
            host.to_owned(),
            repository.to_owned(),
            tag.clone(),
        ));
    }
    Ok(names)
}

/// Reads annotations, `KEY=VALUE` each.
pub(crate) fn assignments(texts: &[String]) -> Outcome<BTreeMap<String, String>> {
    let mut read = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                read.insert(key.to_owned(), value.to_owned());
            }
            _ => {
                return Err(Failure::usage(format!(
                    "--annotation index:{text}: expected KEY=VALUE"
                )));
            }
        }
    }
    Ok(read)
}

/// Refuses a name beside that of a registry.
pub(crate) fn refuse_name(name: Option<&str>) -> Outcome<()> {
    match name {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            "--name has no meaning here: the destination names the image",
        )
        .hint("--tag adds tags of that repository")),
    }
}
