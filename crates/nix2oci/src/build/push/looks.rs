//! Programs in layers that are not made.
//!
//! What is packed is looked at on the way. Of other layers the cache knows what
//! was found when they were packed; those that another image of the same index
//! has, which may be for another platform, are looked at now, and with
//! [`ImageSpec::strict`] all of which nothing is known.

use crate::build::ImageSpec;
use crate::build::programs::{look, read_for};
use crate::content::PlatformCheck;
use crate::context::Context;
use crate::error::Result;

use super::PushOptions;
use super::cache::Cache;
use super::earlier::PushedBefore;
use super::outlook::Outlook;
use super::transfer::SentLayers;

/// What it takes to look at programs.
pub(super) struct Looks<'a> {
    pub(super) cx: &'a Context,
    pub(super) spec: &'a ImageSpec,
    pub(super) check: &'a PlatformCheck,
    pub(super) cache: &'a Cache<'a>,
    pub(super) before: Option<&'a PushedBefore>,
}

impl Looks<'_> {
    /// Finds out what is in the layers that will not be made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProgram`](crate::ErrorKind::ForeignProgram) if the
    /// check is strict.
    pub(super) fn at_known(&self, outlook: &Outlook, options: &PushOptions) -> Result<()> {
        for layer in outlook.layers.iter().filter(|l| !l.is_made(options)) {
            let paths = read_for(&layer.job.spec);
            if paths.is_empty() {
                continue;
            }
            let question = self.check.question(&paths);
            let key = layer.job.key;
            if let Some(found) = key.and_then(|key| self.cache.programs(&key, &question)) {
                self.check.recall(found)?;
                continue;
            }
            let is_shared = key
                .zip(self.before)
                .is_some_and(|(key, before)| before.was_made(&key));
            if (self.spec.strict || is_shared)
                && look(self.cx, self.spec, self.check, &layer.job.spec)?
                && let Some(key) = key
            {
                let found = self.check.findings_in(&paths);
                self.cache.put_programs(&key, &question, &found);
            }
        }
        Ok(())
    }

    /// Notes for later pushes what was found in layers that were packed.
    pub(super) fn remember(&self, layers: &SentLayers) {
        for layer in layers.made().filter(|layer| layer.is_packed()) {
            if let Some(key) = &layer.key {
                let paths = read_for(layer.spec());
                let question = self.check.question(&paths);
                let found = self.check.findings_in(&paths);
                self.cache.put_programs(key, &question, &found);
            }
        }
    }
}
