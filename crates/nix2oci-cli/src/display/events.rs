//! Progress for programs: one JSON object a line on standard error.
//!
//! `JSON.md` beside this crate documents them for users.
//!
//! Every line has `version` (1) and `event`. Sizes are bytes; `layer` counts
//! from 0, bottom first. New events and new keys may appear without a new
//! version, so readers skip what they do not know.

use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use nix2oci::{Event, Observer};
use serde::Serialize;

use crate::exit::Failure;

use super::tally::Tally;
use super::{Display, Summary, Verbosity};

const VERSION: u32 = 1;

/// Milliseconds between two `layer-progress` events of one layer.
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
    /// A layer's blob is where the image goes.
    LayerWritten { layer: usize },
    /// The image has its final name.
    Committed { digest: String },
    /// Something the user should know.
    Warning { message: &'a str },
    /// Something that was chosen for the user; with `--verbose` only.
    Note { message: &'a str },
    /// All is done; always the last line of a build that succeeded.
    Done {
        destination: &'a str,
        digest: String,
        layers: usize,
        size: u64,
        milliseconds: u64,
        peak_memory: Option<u64>,
    },
    /// It failed; always the last line then.
    Error {
        exit_code: i32,
        message: &'a str,
        causes: &'a [String],
        hints: &'a [String],
    },
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
    pub(super) fn new(out: W, verbosity: Verbosity) -> Self {
        Self {
            out: Mutex::new(out),
            tally: Tally::default(),
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

    fn progress(&self, layer: usize, bytes: u64) {
        let Some(tally) = self.tally.layer(layer) else {
            return;
        };
        let bytes = tally.add(bytes);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if tally.is_due(now, PROGRESS_INTERVAL) {
            self.write(EventLine::LayerProgress {
                layer,
                bytes,
                expected_size: tally.expected,
            });
        }
    }
}

impl<W: Write + Send> Observer for Events<W> {
    fn event(&self, event: &Event<'_>) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        self.write(match *event {
            Event::ClosureRead { paths, nar_size } => EventLine::ClosureRead { paths, nar_size },
            Event::Planned { layers, labels } => {
                self.tally.plan(layers, labels);
                EventLine::Planned {
                    expected_sizes: layers,
                    labels,
                }
            }
            Event::LayerStarted { layer } => EventLine::LayerStarted { layer },
            Event::LayerProgress { layer, bytes } => return self.progress(layer, bytes),
            Event::LayerPacked {
                layer,
                digest,
                size,
                uncompressed_size,
            } => EventLine::LayerPacked {
                layer,
                digest: digest.to_string(),
                size,
                uncompressed_size,
            },
            Event::LayerWritten { layer } => EventLine::LayerWritten { layer },
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
            milliseconds: u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
            peak_memory: summary.peak_memory,
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
        let events = Events::new(Vec::new(), Verbosity::Normal);
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
        let events = Events::new(Vec::new(), Verbosity::Normal);
        events.event(&Event::Planned {
            layers: &[7],
            labels: &["a".to_owned()],
        });
        for _ in 0..10_000 {
            events.event(&Event::LayerProgress { layer: 0, bytes: 1 });
        }
        assert!(lines(events).len() < 100);
    }
}
