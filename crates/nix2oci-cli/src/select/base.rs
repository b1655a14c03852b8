//! The image that another one is built on.

use std::sync::Arc;

use nix2oci::image::BaseImage;
use nix2oci::oci::Platform;
use nix2oci::{Context, ErrorKind};

use crate::args::{ImageArgs, RegistryArgs};
use crate::exit::Outcome;
use crate::host;

use super::claim_stdin;
use super::images::{OpenedImage, open};
use super::network::Network;
use super::push::{AnyImage, any_image};

/// The base of an image, and how its registry is reached.
#[derive(Default)]
pub(crate) struct Base {
    pub(crate) image: Option<BaseImage>,
    network: Option<Network>,
}

impl Base {
    /// Returns what registries are talked to with: what the verb uses, else what
    /// the base is read with. `--creds` are for one registry and standard input
    /// can be read once, so there is one at most.
    pub(crate) fn network<'a>(&'a self, network: Option<&'a Network>) -> Option<&'a Network> {
        network.or(self.network.as_ref())
    }
}

/// Opens the image of `--from`. `network` is what the verb talks to registries
/// with, if it does.
pub(crate) fn base(
    cx: &Context,
    args: &ImageArgs,
    registry: &RegistryArgs,
    network: Option<&Network>,
) -> Outcome<Base> {
    let Some(text) = &args.base.from else {
        return Ok(Base::default());
    };
    let image = any_image(text)?;
    let mut own = None;
    let network = match (network, image.host()) {
        (Some(network), _) => Some(network),
        (None, Some(host)) => {
            let stdin_taken = claim_stdin(args)?;
            let network = Network::new(cx, registry, None, false, &host, stdin_taken.as_deref())?;
            Some(&*own.insert(network))
        }
        (None, None) => None,
    };
    let platform = args.base.from_platform.as_ref();
    let platform = platform.or(args.config.platform.as_ref());
    let image = base_image(cx, image, platform, network)?;
    Ok(Base {
        image: Some(image),
        network: own,
    })
}

/// Opens an image that another one is built on: the one for this machine if
/// there are several and no platform is wanted.
pub(crate) fn base_image(
    cx: &Context,
    image: AnyImage,
    platform: Option<&Platform>,
    network: Option<&Network>,
) -> Outcome<BaseImage> {
    let OpenedImage { reader, .. } = open(cx, network, image)?;
    let base = |platform: Option<&_>| BaseImage::open(cx, Arc::clone(&reader), platform);
    Ok(match platform {
        Some(platform) => base(Some(platform))?,
        None => match (base(None), host::platform()) {
            (Err(error), Ok(platform)) if matches!(error.kind(), ErrorKind::Image { .. }) => {
                base(Some(&platform)).map_err(|_| error)?
            }
            (opened, _) => opened?,
        },
    })
}
