//! Progress for a log: a line at the start, one for each layer that is made,
//! one at the end.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix2oci::{Digest, Event, Observer};

use crate::exit::Failure;

use super::tally::{LayerTally, Tally, Throttle};
use super::{Display, Summary, measure, say_failure, warning};

/// How long nothing is written while something is sent. Some CI services end a
/// job that is silent for ten minutes, which a large layer may take.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Writes plain lines, as many as there are layers and a few more.
#[derive(Debug)]
pub(super) struct Lines<W> {
    out: Mutex<W>,
    tally: Tally,
    start: Instant,
    spoken: Throttle,
    longest_silence: Duration,
    /// Whether it was told how many layers are there already.
    is_reuse_told: AtomicBool,
    /// Layers that are there already and were not packed to find it out.
    untouched: AtomicUsize,
    /// Bytes of their blobs.
    untouched_bytes: AtomicU64,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`; `sends` if layers are sent after they are packed.
    pub(super) fn new(out: W, sends: bool) -> Self {
        Self {
            out: Mutex::new(out),
            tally: Tally::new(sends),
            start: Instant::now(),
            spoken: Throttle::default(),
            longest_silence: LONGEST_SILENCE,
            is_reuse_told: AtomicBool::new(false),
            untouched: AtomicUsize::new(0),
            untouched_bytes: AtomicU64::new(0),
        }
    }

    fn line(&self, line: &str) {
        if let Ok(mut out) = self.out.lock() {
            let _ = writeln!(out, "{line}");
        }
        self.spoken.put_off(self.now());
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    fn of(&self, layer: usize, change: impl FnOnce(&LayerTally)) {
        if let Some(tally) = self.tally.open_layer(layer) {
            change(tally);
        }
    }

    /// Ends a layer and tells what was made of it.
    fn finish(&self, layer: usize, told: impl FnOnce(&LayerTally) -> String) {
        if let Some((tally, finished)) = self.tally.finish(layer) {
            let (all, label) = (self.tally.len(), &tally.label);
            self.line(&format!("[{finished}/{all}] {label}: {}", told(tally)));
        }
    }

    fn sent(&self, layer: usize, bytes: u64) {
        self.of(layer, |tally| self.tally.send(tally, bytes));
        self.tell_traffic();
    }

    /// Tells what moved so far, if nothing was told for long.
    fn tell_traffic(&self) {
        let moved = |verb: &str, bytes: u64| {
            let text = || format!("{verb} {}", measure::bytes(bytes));
            (bytes > 0).then(text)
        };
        let downloaded = moved("downloaded", self.tally.downloaded());
        let transfer = self.tally.transfer();
        let sent = transfer.and_then(|transfer| moved("sent", transfer.sent_bytes));
        let moved: Vec<String> = downloaded.into_iter().chain(sent).collect();
        if !moved.is_empty() && self.is_silent() {
            self.line(&format!("{} so far", moved.join(" and ")));
        }
    }

    /// Returns whether nothing was told for so long that something has to be.
    fn is_silent(&self) -> bool {
        let longest = self.longest_silence.as_secs();
        self.spoken.is_due(self.now(), longest)
    }

    /// Ends a layer that is there already. What has no work to do is told of
    /// together; what was packed to find it out has a line of its own.
    fn reuse(&self, layer: usize, size: u64) {
        let Some((tally, finished)) = self.tally.reuse(layer, size) else {
            return;
        };
        if !tally.is_packed_here() {
            self.untouched.fetch_add(1, Ordering::Relaxed);
            self.untouched_bytes.fetch_add(size, Ordering::Relaxed);
        } else {
            let (all, label) = (self.tally.len(), &tally.label);
            let size = measure::bytes(size);
            self.line(&format!("[{finished}/{all}] {label}: {size} there already"));
        }
    }

    /// Tells once how many of those there are: before the first layer that has
    /// work to do, else at the end.
    fn tell_reuse(&self) {
        let untouched = self.untouched.load(Ordering::Relaxed);
        if untouched > 0 && !self.is_reuse_told.swap(true, Ordering::Relaxed) {
            self.line(&format!(
                "layers that are there already: {untouched} of {}, {}",
                self.tally.len(),
                measure::bytes(self.untouched_bytes.load(Ordering::Relaxed)),
            ));
        }
    }
}

/// Returns as much of a digest as tells it from others; scripts find all of it
/// in the metadata.
fn short(digest: &Digest) -> String {
    const DIGITS: usize = 12;
    let whole = digest.to_string();
    let end = whole.find(':').map_or(0, |colon| colon + 1) + DIGITS;
    whole[..end].to_owned()
}

impl<W: Write + Send> Observer for Lines<W> {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::ClosureRead { paths, nar_size } => self.line(&format!(
                "closure: {}, {}",
                measure::count(paths, "store path"),
                measure::bytes(nar_size)
            )),
            Event::ClosureProgress { paths } => {
                if self.is_silent() {
                    let paths = measure::count(paths, "store path");
                    self.line(&format!("closure: {paths} so far"));
                }
            }
            Event::Downloaded { bytes } => {
                self.tally.download(bytes);
                self.tell_traffic();
            }
            Event::Planned { layers, labels } => self.tally.plan(layers, labels),
            Event::LayerStarted { layer } => {
                self.tell_reuse();
                self.of(layer, LayerTally::start);
            }
            Event::LayerPacked {
                layer,
                digest,
                size,
                uncompressed_size,
            } => {
                if self.tally.sends() {
                    self.of(layer, |tally| tally.packed_into(digest, size));
                } else {
                    self.finish(layer, |_| packed(digest, size, uncompressed_size));
                }
            }
            Event::LayerReused { layer, size, .. } => self.reuse(layer, size),
            Event::LayerSent { layer, bytes } => self.sent(layer, bytes),
            Event::LayerResent { layer } => self.of(layer, LayerTally::lose),
            Event::LayerWritten { layer } if self.tally.sends() => self.finish(layer, sent),
            Event::LayerWritten { layer } => self.finish(layer, |layer| {
                format!("{} copied", measure::bytes(layer.sent()))
            }),
            _ => {
                if let Some(warning) = warning(event) {
                    self.line(&warning);
                }
            }
        }
    }
}

fn packed(digest: Digest, size: u64, uncompressed_size: u64) -> String {
    format!(
        "{} packed into {}, {}",
        measure::bytes(uncompressed_size),
        measure::bytes(size),
        short(&digest),
    )
}

fn sent(layer: &LayerTally) -> String {
    match layer.blob() {
        Some((digest, size)) => format!("{} sent, {}", measure::bytes(size), short(&digest)),
        None => format!("{} sent", measure::bytes(layer.sent())),
    }
}

impl<W: Write + Send> Display for Lines<W> {
    fn note(&self, message: &str) {
        self.line(message);
    }

    fn done(&self, summary: &Summary) {
        self.tell_reuse();
        self.line(&summary.to_text(&self.tally));
    }

    fn failed(&self, failure: &Failure) {
        say_failure(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_was_there_is_copied() {
        let lines = Lines::new(Vec::new(), false);
        lines.event(&Event::Planned {
            layers: &[2_000_000, 1_000_000],
            labels: &["hello-2.12".to_owned(), "base 012345".to_owned()],
        });
        lines.event(&Event::LayerStarted { layer: 0 });
        for bytes in [400_000, 600_000] {
            lines.event(&Event::LayerSent { layer: 1, bytes });
        }
        lines.event(&Event::LayerWritten { layer: 1 });
        assert!(!lines.tally.is_sending());
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        assert_eq!(text, "[1/2] base 012345: 1.0 MB copied\n");
    }

    #[test]
    fn a_log_gets_a_line_for_each_layer_however_many_events_there_are() {
        let lines = Lines::new(Vec::new(), false);
        let digest = Digest::of(b"");
        lines.event(&Event::ClosureRead {
            paths: 2,
            nar_size: 3_000_000,
        });
        lines.event(&Event::Planned {
            layers: &[2_000_000, 1_000_000],
            labels: &["glibc-2.40".to_owned(), "hello-2.12".to_owned()],
        });
        lines.event(&Event::LayerStarted { layer: 1 });
        for _ in 0..1000 {
            lines.event(&Event::LayerProgress {
                layer: 1,
                bytes: 1000,
            });
        }
        lines.event(&Event::LayerPacked {
            layer: 1,
            digest,
            size: 400_000,
            uncompressed_size: 1_001_472,
        });
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "closure: 2 store paths, 3.0 MB\n\
             [1/2] hello-2.12: 1.0 MB packed into 400.0 kB, sha256:e3b0c44298fc\n"
        );
    }

    #[test]
    fn a_push_gets_a_line_for_what_is_reused_and_one_for_each_layer_sent() {
        let lines = Lines::new(Vec::new(), true);
        let (digest, size) = (Digest::of(b""), 400_000);
        let labels = ["glibc", "zlib", "hello", "root tree"].map(str::to_owned);
        let event = |event| Observer::event(&lines, &event);
        event(Event::Planned {
            layers: &[1_000_000; 4],
            labels: &labels,
        });
        let reused = |layer| Event::LayerReused {
            layer,
            digest,
            size,
        };
        event(reused(0));
        event(reused(1));
        event(Event::LayerStarted { layer: 2 });
        event(Event::LayerPacked {
            layer: 2,
            digest,
            size,
            uncompressed_size: 1_000_000,
        });
        event(Event::LayerSent {
            layer: 2,
            bytes: 300_000,
        });
        event(Event::Retry {
            message: "example.org failed to take blob sha256:ab",
            wait: Duration::from_secs(2),
            attempt: 1,
            attempts: 5,
        });
        event(Event::LayerResent { layer: 2 });
        for _ in 0..4 {
            event(Event::LayerSent {
                layer: 2,
                bytes: 100_000,
            });
        }
        event(Event::LayerWritten { layer: 2 });
        event(Event::LayerStarted { layer: 3 });
        // Packed, and then found to be there.
        event(reused(3));
        event(Event::LayerWritten { layer: 3 });
        lines.done(&Summary {
            verb: "pushed",
            destination: "docker://example.org/app:v1".to_owned(),
            names: Vec::new(),
            digest: digest.to_string(),
            layers: 4,
            size: 1_600_000,
            elapsed: Duration::from_millis(1200),
            peak_memory: None,
        });
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "layers that are there already: 2 of 4, 800.0 kB\n\
             warning: example.org failed to take blob sha256:ab; trying again in 2 s (1 of 5)\n\
             [3/4] hello: 400.0 kB sent, sha256:e3b0c44298fc\n\
             [4/4] root tree: 400.0 kB there already\n\
             pushed docker://example.org/app:v1: 4 layers, 1.6 MB, 1 of them sent, 700.0 kB in \
             1.2 s\n"
        );
    }

    #[test]
    fn a_push_that_sends_nothing_says_so() {
        let lines = Lines::new(Vec::new(), true);
        let digest = Digest::of(b"");
        lines.event(&Event::Planned {
            layers: &[1],
            labels: &["a".to_owned()],
        });
        lines.event(&Event::LayerReused {
            layer: 0,
            digest,
            size: 5,
        });
        lines.done(&Summary {
            verb: "pushed",
            destination: "docker://example.org/app".to_owned(),
            names: Vec::new(),
            digest: digest.to_string(),
            layers: 1,
            size: 5,
            elapsed: Duration::from_millis(200),
            peak_memory: None,
        });
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "layers that are there already: 1 of 1, 5 B\n\
             pushed docker://example.org/app: 1 layer, 5 B, none of them sent in 0.2 s\n"
        );
    }

    #[test]
    fn a_log_is_not_silent_for_long() {
        let mut lines = Lines::new(Vec::new(), true);
        lines.longest_silence = Duration::ZERO;
        lines.event(&Event::Planned {
            layers: &[1],
            labels: &["a".to_owned()],
        });
        lines.event(&Event::LayerSent {
            layer: 0,
            bytes: 3_000_000,
        });
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        assert_eq!(text, "sent 3.0 MB so far\n");
    }

    #[test]
    fn a_log_tells_of_what_comes_over_the_network() {
        let mut lines = Lines::new(Vec::new(), true);
        lines.event(&Event::ClosureProgress { paths: 1 });
        lines.event(&Event::Downloaded { bytes: 500_000 });
        lines.longest_silence = Duration::ZERO;
        lines.event(&Event::ClosureProgress { paths: 2 });
        lines.event(&Event::Planned {
            layers: &[1],
            labels: &["a".to_owned()],
        });
        lines.event(&Event::Downloaded { bytes: 1_500_000 });
        lines.event(&Event::LayerSent {
            layer: 0,
            bytes: 3_000_000,
        });
        lines.done(&Summary {
            verb: "pushed",
            destination: "docker://example.org/app".to_owned(),
            names: Vec::new(),
            digest: Digest::of(b"").to_string(),
            layers: 1,
            size: 3_000_000,
            elapsed: Duration::from_millis(200),
            peak_memory: None,
        });
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        assert_eq!(
            text,
            "closure: 2 store paths so far\n\
             downloaded 2.0 MB so far\n\
             downloaded 2.0 MB and sent 3.0 MB so far\n\
             pushed docker://example.org/app: 1 layer, 3.0 MB, none of them sent, 2.0 MB \
             downloaded in 0.2 s\n"
        );
    }
}
