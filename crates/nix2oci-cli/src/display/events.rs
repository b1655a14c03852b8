//! Progress for programs: one JSON object a line on standard error.
//!
//! `JSON.md` beside this crate documents them for users.
//!
//! Every line has `version` (1) and `event`. Sizes are bytes; `layer` counts
//! from 0, bottom first. New events and new keys may appear without a new
//! version, so readers skip what they do not know.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix2oci::{Event, Observer};
use serde::Serialize;

use crate::exit::Failure;

use super::tally::{LayerTally, Tally, Throttle};
use super::{Display, Summary, Verbosity};

const VERSION: u32 = 1;

/// Milliseconds between two events of progress of one layer, and of what comes
/// over the network.
const PROGRESS_INTERVAL: u64 = 200;

/// A line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    version: u32,
    #[serde(flatten)]
    event: EventLine<'a>,
}

/// What a line says.
#[derive(Debug, Serialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
enum EventLine<'a> {
    /// So many store paths of the closure are known so far, of a source far away;
    /// at most five a second.
    ClosureProgress { paths: usize },
    /// `bytes` of store paths came over the network so far, as they came:
    /// compressed; at most five a second.
    Downloaded { bytes: u64 },
    /// The closure was read; `narSize` sums up the sizes that are known.
    ClosureRead { paths: usize, nar_size: u64 },
    /// The layers are decided; `expectedSizes` are their tars', by estimate,
    /// `labels` the names of their largest paths.
    Planned {
        expected_sizes: &'a [u64],
        labels: &'a [String],
    },
    /// A layer's packing began.
    LayerStarted { layer: usize },
    /// `bytes` of the layer's tar were made so far; at most five a second.
    LayerProgress {
        layer: usize,
        bytes: u64,
        expected_size: u64,
    },
    /// A layer is packed.
    LayerPacked {
        layer: usize,
        digest: String,
        size: u64,
        uncompressed_size: u64,
    },
    /// A layer is where it has to be already: it is not packed, or not sent.
    LayerReused {
        layer: usize,
        digest: String,
        size: u64,
    },
    /// `bytes` of the layer's blob were sent so far; at most five a second.
    /// `size` is not known while it is packed.
    LayerSent {
        layer: usize,
        bytes: u64,
        size: Option<u64>,
    },
    /// What was sent of a layer's blob is lost, and it is sent again.
    LayerResent { layer: usize },
    /// A request failed and is repeated after so many `milliseconds`.
    Retry {
        message: &'a str,
        milliseconds: u64,
        attempt: u32,
        attempts: u32,
    },
    /// A layer's blob is where the image goes.
    LayerWritten { layer: usize },
    /// A layer was looked through.
    LayerScanned { layer: usize, layers: usize },
    /// The image has its final name.
    Committed { digest: String },
    /// Something the user should know.
    Warning { message: &'a str },
    /// What a runtime's loader said or, with `--verbose`, something that was
    /// chosen for the user.
    Note { message: &'a str },
    /// All is done; always the last line of a build that succeeded.
    Done {
        destination: &'a str,
        digest: String,
        layers: usize,
        size: u64,
        milliseconds: u64,
        peak_memory: Option<u64>,
        downloaded_bytes: u64,
        #[serde(flatten)]
        transfer: Option<TransferKeys>,
    },
    /// It failed; always the last line then.
    Error {
        exit_code: i32,
        message: &'a str,
        causes: &'a [String],
        hints: &'a [String],
    },
}

/// What was sent to a registry, and what was there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TransferKeys {
    sent_layers: usize,
    sent_bytes: u64,
    reused_layers: usize,
    reused_bytes: u64,
}

/// Writes events as JSON lines.
#[derive(Debug)]
pub(super) struct Events<W> {
    out: Mutex<W>,
    tally: Tally,
    start: Instant,
    verbosity: Verbosity,
}

impl<W: Write> Events<W> {
    pub(super) fn new(out: W, verbosity: Verbosity, sends: bool) -> Self {
        Self {
            out: Mutex::new(out),
            tally: Tally::new(sends),
            start: Instant::now(),
            verbosity,
        }
    }

    fn write(&self, event: EventLine<'_>) {
        let line = Line {
            version: VERSION,
            event,
        };
        let mut line = serde_json::to_string(&line).expect("text and numbers are JSON");
        line.push('\n');
        if let Ok(mut out) = self.out.lock() {
            let _ = out.write_all(line.as_bytes());
        }
    }

    /// Returns whether it is time to tell of something again.
    fn is_due(&self, told: &Throttle) -> bool {
        told.is_due(milliseconds(self.start.elapsed()), PROGRESS_INTERVAL)
    }

    fn progress(&self, layer: usize, bytes: u64) {
        let Some(tally) = self.tally.open_layer(layer) else {
            return;
        };
        let bytes = tally.pack(bytes);
        if self.is_due(&tally.packing_told) {
            self.write(EventLine::LayerProgress {
                layer,
                bytes,
                expected_size: tally.expected,
            });
        }
    }

    fn sent(&self, layer: usize, bytes: u64) {
        let Some(tally) = self.tally.open_layer(layer) else {
            return;
        };
        self.tally.send(tally, bytes);
        if self.is_due(&tally.sending_told) {
            self.write_sent(layer, tally);
        }
    }

    fn write_sent(&self, layer: usize, tally: &LayerTally) {
        self.write(EventLine::LayerSent {
            layer,
            bytes: tally.sent(),
            size: tally.size(),
        });
    }

    fn written(&self, layer: usize) {
        if let Some((tally, _)) = self.tally.finish(layer)
            && tally.sent() > 0
        {
            // The last one is told whenever it comes.
            self.write_sent(layer, tally);
        }
        self.write(EventLine::LayerWritten { layer });
    }

    fn of(&self, layer: usize, change: impl FnOnce(&LayerTally)) {
        if let Some(tally) = self.tally.open_layer(layer) {
            change(tally);
        }
    }
}

impl<W: Write + Send> Observer for Events<W> {
    fn event(&self, event: &Event<'_>) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        self.write(match *event {
            Event::ClosureProgress { paths } => {
                if !self.is_due(&self.tally.closure_told) {
                    return;
                }
                EventLine::ClosureProgress { paths }
            }
            Event::Downloaded { bytes } => {
                let bytes = self.tally.download(bytes);
                if !self.is_due(&self.tally.download_told) {
                    return;
                }
                EventLine::Downloaded { bytes }
            }
            Event::ClosureRead { paths, nar_size } => EventLine::ClosureRead { paths, nar_size },
            Event::Planned { layers, labels } => {
                self.tally.plan(layers, labels);
                EventLine::Planned {
                    expected_sizes: layers,
                    labels,
                }
            }
            Event::LayerStarted { layer } => {
                self.of(layer, LayerTally::start);
                EventLine::LayerStarted { layer }
            }
            Event::LayerProgress { layer, bytes } => return self.progress(layer, bytes),
            Event::LayerPacked {
                layer,
                digest,
                size,
                uncompressed_size,
            } => {
                self.of(layer, |tally| tally.packed_into(digest, size));
                EventLine::LayerPacked {
                    layer,
                    digest: digest.to_string(),
                    size,
                    uncompressed_size,
                }
            }
            Event::LayerReused {
                layer,
                digest,
                size,
            } => {
                self.tally.reuse(layer, size);
                EventLine::LayerReused {
                    layer,
                    digest: digest.to_string(),
                    size,
                }
            }
            Event::LayerSent { layer, bytes } => return self.sent(layer, bytes),
            Event::LayerResent { layer } => {
                self.of(layer, LayerTally::lose);
                EventLine::LayerResent { layer }
            }
            Event::Retry {
                message,
                wait,
                attempt,
                attempts,
            } => EventLine::Retry {
                message,
                milliseconds: milliseconds(wait),
                attempt,
                attempts,
            },
            Event::LayerWritten { layer } => return self.written(layer),
            Event::LayerScanned { layer, layers } => EventLine::LayerScanned { layer, layers },
            Event::Committed { manifest } => EventLine::Committed {
                digest: manifest.to_string(),
            },
            Event::Warning { message } => EventLine::Warning { message },
            _ => return,
        });
    }
}

impl<W: Write + Send> Display for Events<W> {
    fn note(&self, message: &str) {
        self.write(EventLine::Note { message });
    }

    fn done(&self, summary: &Summary) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        self.write(EventLine::Done {
            destination: &summary.destination,
            digest: summary.digest.clone(),
            layers: summary.layers,
            size: summary.size,
            milliseconds: milliseconds(summary.elapsed),
            peak_memory: summary.peak_memory,
            downloaded_bytes: self.tally.downloaded(),
            transfer: self.tally.transfer().map(|transfer| TransferKeys {
                sent_layers: transfer.sent,
                sent_bytes: transfer.sent_bytes,
                reused_layers: transfer.reused,
                reused_bytes: transfer.reused_bytes,
            }),
        });
    }

    fn failed(&self, failure: &Failure) {
        self.write(EventLine::Error {
            exit_code: failure.status().code(),
            message: failure.message(),
            causes: failure.causes(),
            hints: failure.hints(),
        });
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use nix2oci::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn lines(events: Events<Vec<u8>>) -> Vec<Value> {
        let text = String::from_utf8(events.out.into_inner().unwrap()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn every_line_is_an_object_with_version_and_event() {
        let events = Events::new(Vec::new(), Verbosity::Normal, false);
        let digest = Digest::of(b"");
        events.event(&Event::ClosureRead {
            paths: 1,
            nar_size: 2,
        });
        events.event(&Event::Planned {
            layers: &[7],
            labels: &["a".to_owned()],
        });
        events.event(&Event::LayerPacked {
            layer: 0,
            digest,
            size: 5,
            uncompressed_size: 6,
        });
        events.failed(&Failure::input("no").hint("try"));
        assert_eq!(
            lines(events),
            [
                json!({"version": 1, "event": "closure-read", "paths": 1, "narSize": 2}),
                json!({"version": 1, "event": "planned", "expectedSizes": [7], "labels": ["a"]}),
                json!({
                    "version": 1, "event": "layer-packed", "layer": 0,
                    "digest": digest.to_string(), "size": 5, "uncompressedSize": 6
                }),
                json!({
                    "version": 1, "event": "error", "exitCode": 3, "message": "no",
                    "causes": [], "hints": ["try"]
                }),
            ]
        );
    }

    #[test]
    fn progress_is_throttled() {
        let events = Events::new(Vec::new(), Verbosity::Normal, false);
        events.event(&Event::Planned {
            layers: &[7],
            labels: &["a".to_owned()],
        });
        for _ in 0..10_000 {
            events.event(&Event::LayerProgress { layer: 0, bytes: 1 });
        }
        assert!(lines(events).len() < 100);
    }

    #[test]
    fn what_comes_over_the_network_is_told_now_and_then_and_at_the_end() {
        let events = Events::new(Vec::new(), Verbosity::Normal, false);
        for paths in 1..=10_000 {
            events.event(&Event::ClosureProgress { paths });
            events.event(&Event::Downloaded { bytes: 7 });
        }
        // The first interval is over by then, however fast the machine is.
        std::thread::sleep(Duration::from_millis(PROGRESS_INTERVAL));
        events.event(&Event::ClosureProgress { paths: 10_001 });
        events.event(&Event::Downloaded { bytes: 7 });
        events.done(&Summary {
            verb: "wrote",
            destination: "image.tar".to_owned(),
            names: Vec::new(),
            digest: Digest::of(b"").to_string(),
            layers: 1,
            size: 2,
            elapsed: Duration::from_secs(1),
            peak_memory: None,
        });
        let lines = lines(events);
        assert!(lines.len() < 100, "it is throttled");
        let closure = json!({"version": 1, "event": "closure-progress", "paths": 10_001});
        assert!(lines.contains(&closure), "{lines:#?}");
        let downloaded = json!({"version": 1, "event": "downloaded", "bytes": 70_007});
        assert!(lines.contains(&downloaded), "{lines:#?}");
        assert_eq!(lines.last().unwrap()["downloadedBytes"], 70_007);
    }

    #[test]
    fn a_push_tells_what_was_sent_and_what_was_not() {
        let events = Events::new(Vec::new(), Verbosity::Normal, true);
        let digest = Digest::of(b"");
        let labels = ["a", "b"].map(str::to_owned);
        let event = |event| Observer::event(&events, &event);
        event(Event::Planned {
            layers: &[7, 8],
            labels: &labels,
        });
        event(Event::LayerReused {
            layer: 0,
            digest,
            size: 70,
        });
        event(Event::LayerStarted { layer: 1 });
        for _ in 0..10_000 {
            event(Event::LayerSent { layer: 1, bytes: 1 });
        }
        event(Event::LayerResent { layer: 1 });
        event(Event::Retry {
            message: "no answer",
            wait: Duration::from_millis(1500),
            attempt: 1,
            attempts: 5,
        });
        event(Event::LayerPacked {
            layer: 1,
            digest,
            size: 80,
            uncompressed_size: 90,
        });
        event(Event::LayerSent {
            layer: 1,
            bytes: 80,
        });
        event(Event::LayerWritten { layer: 1 });
        events.done(&Summary {
            verb: "pushed",
            destination: "docker://example.org/app".to_owned(),
            names: Vec::new(),
            digest: digest.to_string(),
            layers: 2,
            size: 150,
            elapsed: Duration::from_secs(2),
            peak_memory: None,
        });
        let lines = lines(events);
        assert!(lines.len() < 100, "sending is throttled");
        for expected in [
            json!({
                "version": 1, "event": "layer-reused", "layer": 0,
                "digest": digest.to_string(), "size": 70
            }),
            json!({"version": 1, "event": "layer-resent", "layer": 1}),
            json!({
                "version": 1, "event": "retry", "message": "no answer",
                "milliseconds": 1500, "attempt": 1, "attempts": 5
            }),
            json!({"version": 1, "event": "layer-sent", "layer": 1, "bytes": 80, "size": 80}),
            json!({
                "version": 1, "event": "done", "destination": "docker://example.org/app",
                "digest": digest.to_string(), "layers": 2, "size": 150, "milliseconds": 2000,
                "peakMemory": null, "downloadedBytes": 0, "sentLayers": 1, "sentBytes": 10_080,
                "reusedLayers": 1, "reusedBytes": 70
            }),
        ] {
            assert!(lines.contains(&expected), "{expected} is not in {lines:#?}");
        }
    }
}
