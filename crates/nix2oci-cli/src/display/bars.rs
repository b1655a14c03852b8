//! Progress bars: one for the whole, and one for each of the layers being
//! packed, but never more than fit the eye.

use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike as _};
use nix2oci::{Event, Observer};

use crate::exit::Failure;

use super::screen::Screen;
use super::tally::Tally;
use super::{Display, Summary, say, say_failure};

/// Bars of single layers that are shown at once.
const MOST_LAYER_BARS: usize = 6;

/// Redraws a second.
const REFRESH_RATE: u8 = 10;

/// Columns below which the bars are left out and the figures stay.
const NARROW: u16 = 72;

/// Columns for what is in a layer.
const PREFIX: usize = 22;

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
        let screen = Box::new(Screen::new());
        let is_narrow = screen.width() < NARROW;
        let target = ProgressDrawTarget::term_like_with_hz(screen, REFRESH_RATE);
        let (total, layer) = if is_narrow {
            (
                "{msg} {decimal_bytes}/{decimal_total_bytes} {eta}",
                "{prefix} {decimal_bytes}/{decimal_total_bytes}",
            )
        } else {
            (
                "{msg:24} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9} \
                 {decimal_bytes_per_sec:>11} {eta:>4} left",
                "{prefix:24} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9}",
            )
        };
        let total_style = style(total);
        Self {
            all: MultiProgress::with_draw_target(target),
            total: ProgressBar::hidden().with_style(total_style),
            tally: Tally::default(),
            active: Mutex::default(),
            layer_style: style(layer),
        }
    }

    fn plan(&self, sizes: &[u64], labels: &[String]) {
        self.tally.plan(sizes, labels);
        self.total.set_length(sizes.iter().sum());
        self.tell_finished(0);
        self.all.add(self.total.clone());
        self.total.reset();
    }

    fn tell_finished(&self, finished: usize) {
        self.total
            .set_message(format!("packed {finished} of {} layers", self.tally.len()));
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
        bar.set_prefix(prefix(&tally.label));
        active.push((layer, self.all.add(bar)));
    }

    fn progress(&self, layer: usize, bytes: u64) {
        let Some(tally) = self.tally.layer(layer) else {
            return;
        };
        // The sizes are those of NARs, and the tar may be larger.
        let counted = bytes.min(tally.left());
        tally.add(bytes);
        self.total.inc(counted);
        if let Ok(active) = self.active.lock()
            && let Some((_, bar)) = active.iter().find(|(of, _)| *of == layer)
        {
            bar.set_position(tally.done());
        }
    }

    /// Takes a finished layer's bar away. What was expected and did not come
    /// counts as done, so that the total ends at 100 %.
    fn finish(&self, layer: usize) {
        if let Some(tally) = self.tally.layer(layer) {
            self.total.inc(tally.left());
        }
        if let Ok(mut active) = self.active.lock()
            && let Some(at) = active.iter().position(|(of, _)| *of == layer)
        {
            let (_, bar) = active.remove(at);
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.tell_finished(self.tally.finish_one());
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
            Event::Planned { layers, labels } => self.plan(layers, labels),
            Event::LayerStarted { layer } => self.start(layer),
            Event::LayerProgress { layer, bytes } => self.progress(layer, bytes),
            Event::LayerPacked { layer, .. } => self.finish(layer),
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

/// Returns a label for the columns before a bar.
fn prefix(label: &str) -> String {
    if label.chars().count() <= PREFIX {
        return format!("  {label}");
    }
    let start: String = label.chars().take(PREFIX - 1).collect();
    format!("  {start}…")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates above are well formed")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_the_columns_for_its_label() {
        assert_eq!(prefix("glibc-2.40"), "  glibc-2.40");
        let long = prefix("python3.11-cryptography-42.0.8");
        assert_eq!(long, "  python3.11-cryptograp…");
        assert_eq!(long.chars().count(), 24);
    }
}
