//! What is known of layers that were packed before.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::ForeignPrograms;
use crate::context::{Context, Event};
use crate::error::{Error, Result};
use crate::layer::{LayerCache, LayerKey, LayerRecord};

use super::PushOptions;

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
