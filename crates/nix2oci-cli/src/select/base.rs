//! The image that another one is built on.

use std::sync::Arc;

use nix2oci::image::{BaseImage, ImageReader};
use nix2oci::{Context, ErrorKind};

use crate::args::{ImageArgs, RegistryArgs};
use crate::exit::Outcome;
use crate::host;

use super::claim_stdin;
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
    let mut own = None;
    let reader = match any_image(text)? {
        AnyImage::Stored(source) => ImageReader::open(cx, &source)?,
        AnyImage::Remote(reference) => {
            let network = match network {
                Some(network) => network,
                None => {
                    let stdin_taken = claim_stdin(args)?;
                    let host = reference.registry();
                    let stdin_taken = stdin_taken.as_deref();
                    own.insert(Network::new(cx, registry, None, false, host, stdin_taken)?)
                }
            };
            network.registries.open(&reference)?
        }
    };
    let reader = Arc::new(reader);
    let open = |platform: Option<&_>| BaseImage::open(cx, Arc::clone(&reader), platform);
    let platform = args.base.from_platform.as_ref();
    let image = match platform.or(args.config.platform.as_ref()) {
        Some(platform) => open(Some(platform))?,
        // The one that there is, else the one for this machine.
        None => match (open(None), host::platform()) {
            (Err(error), Ok(platform)) if matches!(error.kind(), ErrorKind::Image { .. }) => {
                open(Some(&platform)).map_err(|_| error)?
            }
            (opened, _) => opened?,
        },
    };
    Ok(Base {
        image: Some(image),
        network: own,
    })
}
