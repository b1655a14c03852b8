//! How far the layers are, counted without locks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts what the layers have done, from any thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    layers: OnceLock<Box<[LayerTally]>>,
    finished: AtomicUsize,
}

/// One layer's counters.
#[derive(Debug)]
pub(super) struct LayerTally {
    /// The bytes of tar that it will have, by estimate.
    pub(super) expected: u64,
    /// What is in it.
    pub(super) label: String,
    done: AtomicU64,
    last_told: AtomicU64,
}

impl Tally {
    /// Takes the layers' expected sizes and what is in them; the first call
    /// counts.
    pub(super) fn plan(&self, sizes: &[u64], labels: &[String]) {
        self.layers.get_or_init(|| {
            sizes
                .iter()
                .zip(labels)
                .map(|(&expected, label)| LayerTally {
                    expected,
                    label: label.clone(),
                    done: AtomicU64::new(0),
                    last_told: AtomicU64::new(0),
                })
                .collect()
        });
    }

    /// Returns the number of layers; 0 before they are planned.
    pub(super) fn len(&self) -> usize {
        self.layers.get().map_or(0, |layers| layers.len())
    }

    /// Returns a layer's counters, if there is such a layer.
    pub(super) fn layer(&self, layer: usize) -> Option<&LayerTally> {
        self.layers.get()?.get(layer)
    }

    /// Counts a finished layer and returns how many there are now.
    pub(super) fn finish_one(&self) -> usize {
        self.finished.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl LayerTally {
    /// Adds bytes of tar and returns all so far.
    pub(super) fn add(&self, bytes: u64) -> u64 {
        self.done.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Returns the bytes of tar so far, but not more than were expected: a bar
    /// ends at 100 %.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed).min(self.expected)
    }

    /// Returns the bytes that were expected and are not done.
    pub(super) fn left(&self) -> u64 {
        self.expected - self.done()
    }

    /// Returns whether `interval` has passed since it last returned true;
    /// `now` counts in the same unit. Only one of several threads gets it.
    pub(super) fn is_due(&self, now: u64, interval: u64) -> bool {
        let last = self.last_told.load(Ordering::Relaxed);
        now.saturating_sub(last) >= interval
            && self
                .last_told
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_told_of_once_an_interval() {
        let tally = Tally::default();
        assert!(tally.layer(0).is_none());
        tally.plan(&[10, 20], &["a".to_owned(), "b".to_owned()]);
        assert_eq!(tally.len(), 2);
        let layer = tally.layer(1).unwrap();
        assert_eq!((layer.add(5), layer.add(6), layer.done()), (5, 11, 11));
        assert_eq!((layer.left(), layer.label.as_str()), (9, "b"));
        layer.add(100);
        assert_eq!((layer.done(), layer.left()), (20, 0), "not past the end");
        assert!(!layer.is_due(199, 200));
        assert!(layer.is_due(200, 200));
        assert!(!layer.is_due(399, 200));
        assert!(layer.is_due(450, 200));
        assert_eq!((tally.finish_one(), tally.finish_one()), (1, 2));
    }
}
