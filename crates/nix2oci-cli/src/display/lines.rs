//! Progress for a log: a line at the start, one for each finished layer, one
//! at the end.

use std::io::Write;
use std::sync::Mutex;

use nix2oci::{Digest, Event, Observer};

use crate::exit::Failure;

use super::tally::Tally;
use super::{Display, Summary, measure, say_failure};

/// Writes plain lines, as many as there are layers and a few more.
#[derive(Debug)]
pub(super) struct Lines<W> {
    out: Mutex<W>,
    tally: Tally,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out: Mutex::new(out),
            tally: Tally::default(),
        }
    }

    fn line(&self, line: &str) {
        if let Ok(mut out) = self.out.lock() {
            let _ = writeln!(out, "{line}");
        }
    }

    fn layer(&self, layer: usize, what: &str) {
        let (finished, all) = (self.tally.finish_one(), self.tally.len());
        let label = self.tally.layer(layer).map_or("", |tally| &tally.label);
        self.line(&format!("[{finished}/{all}] {label}: {what}"));
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
        match event {
            Event::ClosureRead { paths, nar_size } => self.line(&format!(
                "closure: {}, {}",
                measure::count(*paths, "store path"),
                measure::bytes(*nar_size)
            )),
            Event::Planned { layers, labels } => self.tally.plan(layers, labels),
            Event::LayerPacked {
                layer,
                digest,
                size,
                uncompressed_size,
            } => self.layer(
                *layer,
                &format!(
                    "{} packed into {}, {}",
                    measure::bytes(*uncompressed_size),
                    measure::bytes(*size),
                    short(digest),
                ),
            ),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            _ => {}
        }
    }
}

impl<W: Write + Send> Display for Lines<W> {
    fn note(&self, message: &str) {
        self.line(message);
    }

    fn done(&self, summary: &Summary) {
        self.line(&summary.to_text());
    }

    fn failed(&self, failure: &Failure) {
        say_failure(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_for_each_layer_however_many_events_there_are() {
        let lines = Lines::new(Vec::new());
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
}
