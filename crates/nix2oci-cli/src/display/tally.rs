//! How far the layers are, counted without locks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use nix2oci::Digest;

/// Images of one index whose layers are counted.
const MOST_IMAGES: usize = 64;

/// Counts what the layers have done, from any thread.
#[derive(Debug)]
pub(super) struct Tally {
    sends: bool,
    /// The layers of one image after the other, numbered through.
    layers: [OnceLock<Box<[LayerTally]>>; MOST_IMAGES],
    /// Layers that are where they have to be, those taken over included.
    finished: AtomicUsize,
    reused: AtomicUsize,
    reused_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    downloaded_bytes: AtomicU64,
    /// When the reading of the closure was told of.
    pub(super) closure_told: Throttle,
    /// When downloads were told of.
    pub(super) download_told: Throttle,
}

/// One layer's counters.
///
/// Packing counts bytes of tar, whose number is expected by estimate; sending
/// counts bytes of the blob, whose number is known once it is packed. Both may
/// go on at the same time.
#[derive(Debug)]
pub(super) struct LayerTally {
    /// The bytes of tar that it will have, by estimate.
    pub(super) expected: u64,
    /// What is in it.
    pub(super) label: String,
    /// Whether it is packed here, and not only sent.
    is_packed_here: AtomicBool,
    packed: AtomicU64,
    /// The blob, once it is packed.
    blob: OnceLock<(Digest, u64)>,
    sent: AtomicU64,
    is_finished: AtomicBool,
    /// What of `expected` is in the sum over all layers.
    counted: AtomicU64,
    /// When its packing was told of.
    pub(super) packing_told: Throttle,
    /// When its sending was told of.
    pub(super) sending_told: Throttle,
}

/// Lets something happen once an interval, whichever thread asks.
#[derive(Debug, Default)]
pub(super) struct Throttle(AtomicU64);

/// What was sent and what was not, of all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Layers that were sent.
    pub(super) sent: usize,
    /// Bytes that were sent, those that were lost on the way included.
    pub(super) sent_bytes: u64,
    /// Layers that were there already.
    pub(super) reused: usize,
    /// Bytes of their blobs.
    pub(super) reused_bytes: u64,
}

impl Tally {
    /// Begins to count; `sends` if layers are sent after they are packed.
    pub(super) fn new(sends: bool) -> Self {
        Self {
            sends,
            layers: [const { OnceLock::new() }; MOST_IMAGES],
            finished: AtomicUsize::new(0),
            reused: AtomicUsize::new(0),
            reused_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            downloaded_bytes: AtomicU64::new(0),
            closure_told: Throttle::default(),
            download_told: Throttle::default(),
        }
    }

    /// Returns whether layers are sent: then they are done when they have
    /// arrived, else when they are packed.
    pub(super) fn sends(&self) -> bool {
        self.sends
    }

    /// Takes the expected sizes of an image's layers and what is in them. Of an
    /// index its images come one after the other.
    pub(super) fn plan(&self, sizes: &[u64], labels: &[String]) {
        let layers = sizes.iter().zip(labels);
        let layers = layers.map(|(&expected, label)| LayerTally::new(expected, label.clone()));
        if let Some(image) = self.layers.iter().find(|image| image.get().is_none()) {
            let _ = image.set(layers.collect());
        }
    }

    /// Returns the number of layers; 0 before they are planned.
    pub(super) fn len(&self) -> usize {
        self.images().map(<[LayerTally]>::len).sum()
    }

    fn images(&self) -> impl Iterator<Item = &[LayerTally]> {
        self.layers
            .iter()
            .map_while(|image| image.get().map(|i| &**i))
    }

    fn layer(&self, mut number: usize) -> Option<&LayerTally> {
        for image in self.images() {
            match image.get(number) {
                Some(layer) => return Some(layer),
                None => number -= image.len(),
            }
        }
        None
    }

    /// Returns a layer's counters, if there is such a layer and it is not done.
    pub(super) fn open_layer(&self, layer: usize) -> Option<&LayerTally> {
        let layer = self.layer(layer)?;
        (!layer.is_finished()).then_some(layer)
    }

    /// Ends a layer. Returns it, and how many are done now, unless it was done
    /// before.
    pub(super) fn finish(&self, layer: usize) -> Option<(&LayerTally, usize)> {
        let layer = self.layer(layer)?;
        let was_finished = layer.is_finished.swap(true, Ordering::Relaxed);
        (!was_finished).then(|| (layer, self.finished.fetch_add(1, Ordering::Relaxed) + 1))
    }

    /// Ends a layer of so many bytes that is there already.
    /// Returns what [`Tally::finish`] does.
    pub(super) fn reuse(&self, layer: usize, size: u64) -> Option<(&LayerTally, usize)> {
        let finished = self.finish(layer)?;
        self.reused.fetch_add(1, Ordering::Relaxed);
        self.reused_bytes.fetch_add(size, Ordering::Relaxed);
        Some(finished)
    }

    /// Adds bytes of a layer's blob that were sent.
    pub(super) fn send(&self, layer: &LayerTally, bytes: u64) {
        layer.sent.fetch_add(bytes, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds bytes of store paths that came over the network, and returns all so
    /// far.
    pub(super) fn download(&self, bytes: u64) -> u64 {
        self.downloaded_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Returns these bytes.
    pub(super) fn downloaded(&self) -> u64 {
        self.downloaded_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many layers are done because something was done for them.
    pub(super) fn made(&self) -> usize {
        let finished = self.finished.load(Ordering::Relaxed);
        finished.saturating_sub(self.reused())
    }

    /// Returns how many layers were there already.
    pub(super) fn reused(&self) -> usize {
        self.reused.load(Ordering::Relaxed)
    }

    /// Returns the bytes of their blobs.
    pub(super) fn reused_bytes(&self) -> u64 {
        self.reused_bytes.load(Ordering::Relaxed)
    }

    /// Returns whether layers are sent, or are only copied: none is packed.
    pub(super) fn is_sending(&self) -> bool {
        let is_copied = || self.sent_bytes.load(Ordering::Relaxed) > 0;
        let is_packed = || self.images().flatten().any(LayerTally::is_packed_here);
        self.sends || (is_copied() && !is_packed())
    }

    /// Returns what was sent so far and what need not be; nothing if layers are
    /// not sent.
    pub(super) fn transfer(&self) -> Option<Transfer> {
        self.sends.then(|| Transfer {
            sent: self.made(),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            reused: self.reused(),
            reused_bytes: self.reused_bytes(),
        })
    }
}

impl LayerTally {
    fn new(expected: u64, label: String) -> Self {
        Self {
            expected,
            label,
            is_packed_here: AtomicBool::new(false),
            packed: AtomicU64::new(0),
            blob: OnceLock::new(),
            sent: AtomicU64::new(0),
            is_finished: AtomicBool::new(false),
            counted: AtomicU64::new(0),
            packing_told: Throttle::default(),
            sending_told: Throttle::default(),
        }
    }

    /// Says that its packing begins, perhaps once more.
    pub(super) fn start(&self) {
        self.is_packed_here.store(true, Ordering::Relaxed);
        self.packed.store(0, Ordering::Relaxed);
    }

    /// Returns whether its packing began.
    pub(super) fn is_packed_here(&self) -> bool {
        self.is_packed_here.load(Ordering::Relaxed)
    }

    /// Adds bytes of tar and returns all so far.
    pub(super) fn pack(&self, bytes: u64) -> u64 {
        self.packed.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Says what its blob is.
    pub(super) fn packed_into(&self, digest: Digest, size: u64) {
        // Packed again it is the same.
        let _ = self.blob.set((digest, size));
    }

    /// Returns its blob's digest and size, once it is packed.
    pub(super) fn blob(&self) -> Option<(Digest, u64)> {
        self.blob.get().copied()
    }

    /// Returns the bytes of its blob, if they are known.
    pub(super) fn size(&self) -> Option<u64> {
        let size = self.blob().map(|(_, size)| size);
        size.or(self.is_sent_only().then_some(self.expected))
    }

    /// Returns whether it is sent and not packed here: then the expected size is
    /// that of the blob.
    fn is_sent_only(&self) -> bool {
        !self.is_packed_here() && self.blob().is_none() && self.sent() > 0
    }

    /// Returns the bytes of its blob that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Says that what was sent is lost.
    pub(super) fn lose(&self) {
        self.sent.store(0, Ordering::Relaxed);
    }

    /// Returns the bytes of tar so far, but not more than were expected: a bar
    /// ends at 100 %.
    pub(super) fn packed(&self) -> u64 {
        if self.blob().is_some() {
            return self.expected;
        }
        self.packed.load(Ordering::Relaxed).min(self.expected)
    }

    /// Returns how far it is, out of `expected`, and by how much that is more
    /// than at the last call. Less is possible: what was sent may be lost.
    ///
    /// Of a layer that is sent, packing and sending are half each. While it is
    /// sent as it is packed, the one is as far as the other.
    pub(super) fn advance(&self, sends: bool) -> (u64, i64) {
        let packed = self.packed();
        let done = if self.is_finished() {
            self.expected
        } else if self.is_sent_only() {
            self.sent().min(self.expected)
        } else if !sends {
            packed
        } else {
            match self.blob() {
                Some((_, size)) => proportion(self.sent(), size, self.expected).midpoint(packed),
                None if self.sent() > 0 => packed,
                None => packed / 2,
            }
        };
        let before = self.counted.swap(done, Ordering::Relaxed);
        (done, done.wrapping_sub(before).cast_signed())
    }

    /// Takes it out of the sum over all layers; returns what it was there.
    pub(super) fn withdraw(&self) -> u64 {
        self.counted.swap(0, Ordering::Relaxed)
    }

    /// Returns whether it is where it has to be.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::Relaxed)
    }
}

impl Throttle {
    /// Returns whether `interval` has passed since it last returned true;
    /// `now` counts in the same unit. Only one of several threads gets it.
    pub(super) fn is_due(&self, now: u64, interval: u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        now.saturating_sub(last) >= interval
            && self
                .0
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Says that it happened in any case.
    pub(super) fn put_off(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// Returns what `part` of `whole` is of `of`, and `of` if there is no whole.
fn proportion(part: u64, whole: u64, of: u64) -> u64 {
    let part = u128::from(part.min(whole)) * u128::from(of);
    let part = part.checked_div(u128::from(whole));
    part.and_then(|part| u64::try_from(part).ok()).unwrap_or(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sends: bool) -> Tally {
        let tally = Tally::new(sends);
        tally.plan(&[100, 200], &["a".to_owned(), "b".to_owned()]);
        tally
    }

    #[test]
    fn the_layers_of_further_images_are_numbered_on() {
        let tally = tally(false);
        tally.plan(&[], &[]);
        tally.plan(&[300], &["c".to_owned()]);
        assert_eq!(tally.len(), 3);
        let labels = (0..4).map_while(|layer| tally.open_layer(layer));
        let labels: Vec<_> = labels.map(|layer| &*layer.label).collect();
        assert_eq!(labels, ["a", "b", "c"]);
        assert_eq!(tally.finish(2).unwrap().1, 1);
    }

    #[test]
    fn a_layer_is_told_of_once_an_interval() {
        let told = Throttle::default();
        assert!(!told.is_due(199, 200));
        assert!(told.is_due(200, 200));
        assert!(!told.is_due(399, 200));
        assert!(told.is_due(450, 200));
        told.put_off(600);
        assert!(!told.is_due(799, 200));
    }

    #[test]
    fn a_packed_layer_ends_at_its_expected_size() {
        assert!(Tally::new(false).open_layer(0).is_none());
        let tally = tally(false);
        assert_eq!(tally.len(), 2);
        let layer = tally.open_layer(1).unwrap();
        assert_eq!(layer.label, "b");
        layer.start();
        assert_eq!((layer.pack(50), layer.pack(60)), (50, 110));
        assert_eq!(layer.advance(false), (110, 110));
        layer.pack(100);
        assert_eq!(layer.advance(false), (200, 90), "not past the end");
        assert_eq!(tally.finish(1).unwrap().1, 1);
        assert!(tally.finish(1).is_none(), "it is done once");
        assert!(tally.open_layer(1).is_none());
        assert_eq!(tally.finish(0).unwrap().0.advance(false), (100, 100));
    }

    #[test]
    fn packing_and_sending_are_half_each() {
        let tally = tally(true);
        let layer = tally.open_layer(1).unwrap();
        layer.start();
        layer.pack(100);
        assert_eq!(layer.advance(true), (50, 50));
        layer.pack(100);
        layer.packed_into(Digest::of(b""), 10);
        assert_eq!(layer.advance(true), (100, 50));
        tally.send(layer, 5);
        assert_eq!(layer.advance(true), (150, 50));
        layer.lose();
        assert_eq!(layer.advance(true), (100, -50));
        tally.send(layer, 10);
        assert_eq!(layer.advance(true), (200, 100));
        tally.finish(1);
        tally.reuse(0, 7);
        let transfer = Transfer {
            sent: 1,
            sent_bytes: 15,
            reused: 1,
            reused_bytes: 7,
        };
        assert_eq!(tally.transfer(), Some(transfer));
        assert_eq!(Tally::new(false).transfer(), None);
    }

    #[test]
    fn what_is_sent_while_it_is_packed_is_as_far_as_the_packing() {
        let tally = tally(true);
        let layer = tally.open_layer(0).unwrap();
        layer.start();
        layer.pack(40);
        tally.send(layer, 1);
        assert_eq!((layer.size(), layer.advance(true).0), (None, 40));
    }

    #[test]
    fn what_is_only_sent_counts_by_what_is_sent() {
        let tally = tally(true);
        let layer = tally.open_layer(0).unwrap();
        assert_eq!(layer.advance(true), (0, 0));
        tally.send(layer, 40);
        assert_eq!((layer.size(), layer.advance(true).0), (Some(100), 40));
        assert_eq!(layer.advance(false).0, 40, "copied");
    }

    #[test]
    fn a_proportion_neither_overflows_nor_divides_by_nothing() {
        assert_eq!(proportion(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(proportion(1, 0, 9), 9);
        assert_eq!(proportion(5, 10, 9), 4);
    }
}
