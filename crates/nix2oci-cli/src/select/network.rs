//! The registries, and what is taken over from them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use nix2oci::Context;
use nix2oci::build::{
    IndexPart, PushForecast, PushOptions, PushReport, PushSource, PushedIndex, forecast, push,
    push_index,
};
use nix2oci::image::{ImageReader, ImageSource};
use nix2oci::layer::DirCache;
use nix2oci::oci::Reference;
use nix2oci::registry::Registries;

use crate::args::{RegistryArgs, ReuseArgs};
use crate::exit::{Failure, Outcome};
use crate::host;

use super::lock::open_lock;
use super::push::{AnyImage, any_image};
use super::registry::{cache_dir, registry_options};

/// The registries, and how images are pushed to them.
pub(crate) struct Network {
    pub(crate) registries: Arc<Registries>,
    options: PushOptions,
    /// Where layers lie that a lock names.
    blobs: Vec<PathBuf>,
}

impl Network {
    /// Finds out how registries are reached. `host` is the one that `--creds`
    /// are for; without `reuse` nothing can be pushed. `keep_layers` says whether
    /// a push plans on from the image that it replaces.
    pub(crate) fn new(
        cx: &Context,
        registry: &RegistryArgs,
        reuse: Option<&ReuseArgs>,
        keep_layers: bool,
        host: &str,
        stdin_taken: Option<&str>,
    ) -> Outcome<Self> {
        let mut options = PushOptions::default();
        options.mount_from.clone_from(&registry.mount_from);
        if let Some(reuse) = reuse {
            options.reuse = !reuse.no_reuse;
            options.keep_layers = keep_layers;
            options.verify_reused = reuse.verify_reused;
            let named = reuse.reuse_from.iter().map(|text| reuse_from(text));
            options.reuse_from = named.collect::<Outcome<_>>()?;
            options.cache = cache_dir(&reuse.cache)
                .filter(|_| !reuse.no_reuse)
                .map(|dir| Arc::new(DirCache::new(dir, host::system_time())) as _);
        }
        let blobs = registry.blob.clone();
        let registry = registry_options(cx, registry, host, stdin_taken)?;
        Ok(Self {
            blobs,
            registries: Arc::new(Registries::new(cx, registry)?),
            options,
        })
    }

    /// Opens an image that may be in a registry.
    pub(crate) fn open(&self, cx: &Context, image: &AnyImage) -> Outcome<ImageReader> {
        Ok(match image {
            AnyImage::Stored(source @ ImageSource::Lock { file, tag }) => {
                open_lock(source, file, tag.as_deref(), &self.blobs, &self.registries)?
            }
            AnyImage::Stored(source) => ImageReader::open(cx, source)?,
            AnyImage::Remote(reference) => self.registries.open(reference)?,
        })
    }

    /// Pushes an image.
    pub(crate) fn push(
        &self,
        cx: &Context,
        source: PushSource<'_>,
        names: &[Reference],
    ) -> nix2oci::Result<PushReport> {
        push(cx, source, &self.registries, names, &self.options)
    }

    /// Pushes images for several platforms, and an index of them.
    pub(crate) fn push_index(
        &self,
        cx: &Context,
        parts: &[IndexPart<'_>],
        annotations: &BTreeMap<String, String>,
        names: &[Reference],
    ) -> nix2oci::Result<PushedIndex> {
        push_index(
            cx,
            parts,
            annotations,
            &self.registries,
            names,
            &self.options,
        )
    }

    /// Finds out what a push would send.
    pub(crate) fn forecast(
        &self,
        cx: &Context,
        spec: &nix2oci::ImageSpec,
        names: &[Reference],
    ) -> nix2oci::Result<PushForecast> {
        forecast(cx, spec, &self.registries, names, &self.options)
    }
}

/// Opens an image that may be in a registry.
pub(crate) fn open_image(
    cx: &Context,
    image: &AnyImage,
    registry: &RegistryArgs,
) -> Outcome<ImageReader> {
    match (image, image.host()) {
        (_, Some(host)) => Network::new(cx, registry, None, false, &host, None)?.open(cx, image),
        (AnyImage::Stored(source), None) => Ok(ImageReader::open(cx, source)?),
        (AnyImage::Remote(_), None) => unreachable!("an image of a registry has a host"),
    }
}

fn reuse_from(text: &str) -> Outcome<Reference> {
    match any_image(text)? {
        AnyImage::Remote(reference) => Ok(reference),
        AnyImage::Stored(_) => Err(Failure::usage(format!(
            "--reuse-from {text}: layers are taken over from images in a registry"
        ))
        .hint(format!("is docker://{text} meant?"))),
    }
}
