//! Progress bars: one for the whole, and one for each of the layers being
//! packed, but never more than fit the eye.

use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix2oci::{Event, Observer};

use crate::exit::Failure;

use super::tally::Tally;
use super::{Display, Summary, say, say_failure};

/// Bars of single layers that are shown at once.
const MOST_LAYER_BARS: usize = 6;

/// Redraws a second.
const REFRESH_RATE: u8 = 10;

/// Columns below which the bars are left out and the figures stay.
const NARROW: u16 = 72;

/// Draws bars on standard error, which must be a terminal.
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    tally: Tally,
    /// The layers that have a bar, in the order of the bars.
    active: Mutex<Vec<(usize, ProgressBar)>>,
    layer_style: ProgressStyle,
}

impl Bars {
    pub(super) fn new() -> Self {
        let is_narrow = rustix::termios::tcgetwinsize(rustix::stdio::stderr())
            .is_ok_and(|size| size.ws_col > 0 && size.ws_col < NARROW);
        let (total, layer) = if is_narrow {
            (
                "{msg} {decimal_bytes}/{decimal_total_bytes} {eta}",
                "{prefix} {decimal_bytes}/{decimal_total_bytes}",
            )
        } else {
            (
                "{msg:14} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9} \
                 {decimal_bytes_per_sec:>11} {eta:>4} left",
                "{prefix:14} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9}",
            )
        };
        let total_style = style(total);
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REFRESH_RATE)),
            total: ProgressBar::hidden().with_style(total_style),
            tally: Tally::default(),
            active: Mutex::default(),
            layer_style: style(layer),
        }
    }

    fn plan(&self, sizes: &[u64]) {
        self.tally.plan(sizes);
        self.total.set_length(sizes.iter().sum());
        self.all.add(self.total.clone());
        self.total.reset();
        self.total.set_message(format!("0/{} layers", sizes.len()));
    }

    fn start(&self, layer: usize) {
        let Some(tally) = self.tally.layer(layer) else {
            return;
        };
        let Ok(mut active) = self.active.lock() else {
            return;
        };
        if active.len() >= MOST_LAYER_BARS {
            return;
        }
        let bar = ProgressBar::hidden().with_style(self.layer_style.clone());
        bar.set_length(tally.expected);
        bar.set_prefix(format!("  layer {}", layer + 1));
        active.push((layer, self.all.add(bar)));
    }

    fn progress(&self, layer: usize, bytes: u64) {
        if let Some(tally) = self.tally.layer(layer) {
            tally.add(bytes);
        }
        self.total.inc(bytes);
        if let Ok(active) = self.active.lock()
            && let Some((_, bar)) = active.iter().find(|(of, _)| *of == layer)
        {
            bar.inc(bytes);
        }
    }

    /// Takes a finished layer's bar away. The estimate of its size is replaced
    /// by what passed, so that the total ends at 100 %.
    fn finish(&self, layer: usize) {
        if let Some(tally) = self.tally.layer(layer) {
            let expected = self.total.length().unwrap_or(0);
            self.total
                .set_length((expected + tally.done()).saturating_sub(tally.expected));
        }
        if let Ok(mut active) = self.active.lock()
            && let Some(at) = active.iter().position(|(of, _)| *of == layer)
        {
            let (_, bar) = active.remove(at);
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        let finished = self.tally.finish_one();
        self.total
            .set_message(format!("{finished}/{} layers", self.tally.len()));
    }

    fn clear(&self) {
        if let Ok(mut active) = self.active.lock() {
            for (_, bar) in active.drain(..) {
                bar.finish_and_clear();
            }
        }
        self.total.finish_and_clear();
        let _ = self.all.clear();
    }
}

impl Observer for Bars {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Planned { layers } => self.plan(layers),
            Event::LayerStarted { layer } => self.start(layer),
            Event::LayerProgress { layer, bytes } => self.progress(layer, bytes),
            Event::LayerPacked { layer, .. } | Event::LayerReused { layer, .. } => {
                self.finish(layer);
            }
            Event::Warning { message } => self.note(&format!("warning: {message}")),
            _ => {}
        }
    }
}

impl Display for Bars {
    fn note(&self, message: &str) {
        self.all.suspend(|| say(message));
    }

    fn done(&self, summary: &Summary) {
        self.clear();
        say(&summary.to_text());
    }

    fn failed(&self, failure: &Failure) {
        self.clear();
        say_failure(failure);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates above are well formed")
        .progress_chars("=> ")
}
