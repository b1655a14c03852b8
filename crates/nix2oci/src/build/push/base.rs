//! The layers of a base, which nobody here can make.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::{Context, Event};
use crate::error::{Error, Result};
use crate::image::{BaseImage, BaseLayer};
use crate::layer::LayerRecord;
use crate::oci::{Descriptor, parse_reference};
use crate::registry::{Mounted, Replayable};

use super::earlier::Earlier;
use super::outlook::LayerForecast;
use super::{LayerState, PushOptions, Target};
use crate::build::base::told;
use crate::build::recipe_image::{base_name, check_base};
use crate::build::{ImagePlan, ImageSpec, Recipe};

/// The layers of a base, and where they can be had.
#[derive(Default)]
pub(super) struct BaseLayers {
    pub(super) layers: Vec<BaseLayer>,
    /// How errors name the base.
    name: String,
    /// What they are read with, if they can be read.
    image: Option<BaseImage>,
    /// The registry's host and the repository that has them, if one has.
    repository: Option<(String, String)>,
}

impl BaseLayers {
    /// Takes those of an image to be made.
    pub(super) fn of_image(spec: &ImageSpec, plan: &ImagePlan) -> Self {
        let Some(base) = &spec.base else {
            return Self::default();
        };
        let repository = base.reader().registry_repository();
        Self {
            layers: plan.base.clone(),
            name: base.name().to_owned(),
            image: Some(base.clone()),
            repository: repository.map(|(host, name)| (host.to_owned(), name.to_owned())),
        }
    }

    /// Takes those of a recipe; `base` is the image that it names, if it is at
    /// hand.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if that is
    /// another one.
    pub(super) fn of_recipe(
        recipe: &Recipe,
        records: &[LayerRecord],
        base: Option<&BaseImage>,
    ) -> Result<Self> {
        let named = recipe.from.as_ref();
        let mut layers = Self {
            layers: records.iter().map(BaseLayer::of_record).collect(),
            name: base_name(recipe).unwrap_or_default().to_owned(),
            image: None,
            repository: None,
        };
        let reference = named.and_then(|from| parse_reference(from.name.as_ref()?).ok());
        layers.repository = reference.map(|reference| {
            let host = reference.registry().to_owned();
            (host, reference.repository().to_owned())
        });
        let Some(base) = base else {
            return Ok(layers);
        };
        check_base(base, recipe, records)?;
        layers.name = base.name().to_owned();
        layers.image = Some(base.clone());
        let found = base.reader().registry_repository();
        let found = found.map(|(host, name)| (host.to_owned(), name.to_owned()));
        layers.repository = found.or(layers.repository);
        Ok(layers)
    }

    /// Returns bytes of each layer, and what it is called, for who is told of
    /// progress.
    pub(super) fn told(&self) -> impl Iterator<Item = (u64, String)> {
        told(&self.layers)
    }

    /// Finds out what the registry has, without writing to it.
    pub(super) fn forecast(
        &self,
        target: &Target<'_>,
        options: &PushOptions,
        earlier: &Earlier,
    ) -> Result<Vec<LayerForecast>> {
        let mut states = self.ask(target, earlier, true)?;
        if !self.mount_from(target, options).is_empty() {
            for state in states.iter_mut().filter(|s| **s == LayerState::New) {
                *state = LayerState::Mounted;
            }
        }
        let layers = self.layers.iter().zip(states);
        Ok(layers
            .map(|(layer, state)| LayerForecast {
                record: Some(layer.record()),
                state,
                download_size: 0,
            })
            .collect())
    }

    /// Lets the registry have all layers, and returns how each came there. What
    /// it has is neither read nor sent; what another of its repositories has is
    /// mounted; the rest is read from where the base is. The observer hears of
    /// them as the layers from `first` on.
    ///
    /// What an earlier image of the repository has is asked for only without
    /// `believes`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a layer is
    /// not there and cannot be read.
    pub(super) fn put(
        &self,
        cx: &Context,
        target: &Target<'_>,
        options: &PushOptions,
        earlier: &Earlier,
        first: usize,
        believes: bool,
    ) -> Result<Vec<LayerState>> {
        let mut states = self.ask(target, earlier, believes)?;
        // A blob that is there twice is sent once.
        let mut missing: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, layer) in self.layers.iter().enumerate() {
            if states[at] == LayerState::New {
                missing.entry(layer.digest()).or_default().push(at);
            }
        }
        let mut missing: Vec<Vec<usize>> = missing.into_values().collect();
        missing.sort_unstable();
        let uploads = target.uploads();
        let from = self.mount_from(target, options);
        let mut mounted = Vec::new();
        if !from.is_empty() && !missing.is_empty() {
            let mounts = missing.iter().map(|places| {
                let blob = self.layers[places[0]].descriptor().clone();
                (blob, from.clone())
            });
            mounted = uploads.mount(mounts.collect())?;
        }
        let mut mounted = mounted.into_iter();
        let mut to_send = Vec::new();
        for places in missing {
            match mounted.next() {
                Some(Mounted::Done) => {
                    places
                        .iter()
                        .for_each(|at| states[*at] = LayerState::Mounted);
                }
                Some(Mounted::Session(session)) => to_send.push((places, Some(session))),
                Some(Mounted::Refused(_)) | None => to_send.push((places, None)),
            }
        }
        for (at, (layer, state)) in self.layers.iter().zip(&states).enumerate() {
            let is_again = to_send.iter().any(|(places, _)| places[1..].contains(&at));
            if believes && (*state != LayerState::New || is_again) {
                cx.observer.event(&Event::LayerReused {
                    layer: first + at,
                    digest: layer.digest(),
                    size: layer.descriptor().size(),
                });
            }
        }
        for (places, session) in to_send {
            let layer = first + places[0];
            cx.observer.event(&Event::LayerStarted { layer });
            let blob = self.replayable(&self.layers[places[0]])?;
            if uploads.send(layer, blob, session, false).is_err() {
                // Said below.
                break;
            }
        }
        uploads.settle()?;
        Ok(states)
    }

    /// Finds out what the registry has: the rest is new.
    fn ask(
        &self,
        target: &Target<'_>,
        earlier: &Earlier,
        believes: bool,
    ) -> Result<Vec<LayerState>> {
        let mut states = vec![LayerState::New; self.layers.len()];
        let mut asked = Vec::new();
        for (at, layer) in self.layers.iter().enumerate() {
            if believes && earlier.has_blob(layer.digest()) {
                states[at] = LayerState::Reused;
            } else if !earlier.is_new() {
                asked.push(at);
            }
        }
        let blobs: Vec<Descriptor> = asked
            .iter()
            .map(|at| self.layers[*at].descriptor().clone())
            .collect();
        if blobs.is_empty() {
            return Ok(states);
        }
        for (at, is_present) in asked.into_iter().zip(target.uploads().present(&blobs)?) {
            if is_present {
                states[at] = LayerState::Exists;
            }
        }
        Ok(states)
    }

    /// Returns the repositories of the registry that may have the layers: the
    /// base's own, if it is there, and those that were named.
    fn mount_from(&self, target: &Target<'_>, options: &PushOptions) -> Vec<String> {
        let here = &target.repository;
        let own = self.repository.iter();
        own.filter(|(host, _)| host == here.host())
            .map(|(_, name)| name.clone())
            .chain(options.mount_from.iter().cloned())
            .filter(|from| from != here.name())
            .collect()
    }

    fn replayable(&self, layer: &BaseLayer) -> Result<Replayable> {
        let Some(image) = self.image.clone() else {
            let problem = format!(
                "it is of the base image {}, which is not given, and the registry does not have it",
                self.name
            );
            return Err(Error::invalid(format!("layer {}", layer.digest()), problem));
        };
        let layer = layer.clone();
        Ok(Replayable {
            descriptor: layer.descriptor().clone(),
            open: Arc::new(move || image.open_layer(&layer)),
        })
    }
}
