//! What is known of layers that were packed before.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::ForeignPrograms;
use crate::context::{Context, Event};
use crate::error::{Error, Result};
use crate::layer::{LayerCache, LayerKey, LayerRecord};

use crate::oci::parse_name;
use crate::registry::Repository;

use super::PushOptions;

/// How many repositories are asked for a layer that the cache saw there. Each is
/// a request, and one that was seen last is nearly always right.
const MOST_MOUNTS: usize = 2;

/// The layer cache, as long as it works. That it does not is worth a word and
/// no more.
pub(super) struct Cache<'a> {
    cx: &'a Context,
    cache: Option<&'a dyn LayerCache>,
    has_failed: AtomicBool,
}

impl<'a> Cache<'a> {
    pub(super) fn new(cx: &'a Context, options: &'a PushOptions) -> Self {
        Self {
            cx,
            cache: options.cache.as_deref(),
            has_failed: AtomicBool::new(false),
        }
    }

    pub(super) fn get(&self, key: &LayerKey) -> Option<LayerRecord> {
        self.ask(|cache| cache.get(key)).flatten()
    }

    pub(super) fn put(&self, key: &LayerKey, record: &LayerRecord) {
        self.ask(|cache| cache.put(key, record));
    }

    /// Returns what was found in a layer's programs when this was asked of them.
    pub(super) fn programs(&self, key: &LayerKey, question: &str) -> Option<Vec<ForeignPrograms>> {
        self.ask(|cache| cache.programs(key, question)).flatten()
    }

    pub(super) fn put_programs(&self, key: &LayerKey, question: &str, found: &[ForeignPrograms]) {
        self.ask(|cache| cache.put_programs(key, question, found));
    }

    /// Returns repositories of the target's registry in which a layer was seen,
    /// a few of them.
    pub(super) fn mount_from(
        &self,
        key: &LayerKey,
        record: &LayerRecord,
        target: &Repository,
    ) -> Vec<String> {
        let seen = self.ask(|cache| cache.seen_in(key, record));
        let seen = seen.into_iter().flatten();
        let names = seen.filter_map(|place| parse_name(&place).ok());
        names
            .filter(|name| name.registry() == target.host() && name.repository() != target.name())
            .map(|name| name.repository().to_owned())
            .take(MOST_MOUNTS)
            .collect()
    }

    /// Notes that the target has a layer.
    pub(super) fn see_in(&self, key: &LayerKey, record: &LayerRecord, target: &Repository) {
        let place = format!("{}/{}", target.host(), target.name());
        self.ask(|cache| cache.see_in(key, record, &place));
    }

    fn ask<T>(&self, ask: impl FnOnce(&dyn LayerCache) -> Result<T>) -> Option<T> {
        let cache = self.cache?;
        if self.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        ask(cache).map_err(|error| self.fail(&error)).ok()
    }

    fn fail(&self, error: &Error) {
        if self.has_failed.swap(true, Ordering::Relaxed) {
            return;
        }
        let message = match std::error::Error::source(error) {
            Some(cause) => format!("the layer cache is not used: {error}: {cause}"),
            None => format!("the layer cache is not used: {error}"),
        };
        let observer = &self.cx.observer;
        observer.event(&Event::Warning { message: &message });
    }
}
