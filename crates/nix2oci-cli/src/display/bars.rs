//! Progress bars: one for the whole, and one for each of the layers that are
//! packed or sent, but never more than fit the eye.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{
    MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike as _,
};
use nix2oci::{Event, Observer};

use crate::exit::Failure;

use super::screen::Screen;
use super::tally::{LayerTally, Tally};
use super::{Display, Summary, measure, say, say_failure, warning};

/// Bars of single layers that are shown at once.
const MOST_LAYER_BARS: usize = 6;

/// Redraws a second.
const REFRESH_RATE: u8 = 10;

/// How often the rate and the time left are looked at while nothing is sent.
const IDLE_REFRESH: Duration = Duration::from_millis(250);

/// Columns below which the bars are left out and the figures stay.
const NARROW: u16 = 72;

/// Columns for what is in a layer.
const PREFIX: usize = 22;

/// Draws bars on a terminal.
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    /// Never drawn: it knows how many bytes were sent and how fast.
    upload: ProgressBar,
    /// A line while the closure is read from far away.
    closure: ProgressBar,
    /// A line about what comes over the network while layers are made.
    download: ProgressBar,
    tally: Tally,
    /// The layers that have a bar, in the order of the bars; nothing when all
    /// is over.
    active: Mutex<Option<Vec<(usize, ProgressBar)>>>,
    layer_style: ProgressStyle,
}

impl Bars {
    /// Draws on standard error, which must be a terminal; `sends` if layers are
    /// sent after they are packed.
    pub(super) fn new(sends: bool) -> Self {
        let screen = Box::new(Screen::new());
        let is_narrow = screen.width() < NARROW;
        let target = ProgressDrawTarget::term_like_with_hz(screen, REFRESH_RATE);
        Self::on(target, sends, is_narrow)
    }

    fn on(target: ProgressDrawTarget, sends: bool, is_narrow: bool) -> Self {
        let (total, layer) = match (sends, is_narrow) {
            (false, true) => (
                "{msg} {decimal_bytes}/{decimal_total_bytes} {eta}",
                "{prefix} {decimal_bytes}/{decimal_total_bytes}",
            ),
            (false, false) => (
                "{msg:24} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9} \
                 {decimal_bytes_per_sec:>11} {eta:>4} left",
                "{prefix:24} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9}",
            ),
            (true, true) => ("{msg} {sent} {rate} {eta}", "{prefix} {msg}"),
            (true, false) => (
                "{msg:26} [{wide_bar}] {sent:>9} {rate:>11} {eta:>4} left",
                "{prefix:26} [{wide_bar}] {msg:<21}",
            ),
        };
        let upload = ProgressBar::hidden();
        let total_style = style(total)
            .with_key("sent", {
                let upload = upload.clone();
                move |_: &ProgressState, text: &mut dyn Write| {
                    let _ = text.write_str(&measure::bytes(upload.position()));
                }
            })
            .with_key("rate", {
                let upload = upload.clone();
                move |_: &ProgressState, text: &mut dyn Write| {
                    let _ = write!(text, "{}/s", measure::bytes(upload.per_sec() as u64));
                }
            });
        Self {
            all: MultiProgress::with_draw_target(target),
            total: ProgressBar::hidden().with_style(total_style),
            upload,
            closure: ProgressBar::hidden().with_style(style("{msg}")),
            download: ProgressBar::hidden().with_style(style(match is_narrow {
                true => "  downloaded {decimal_bytes}",
                false => "  downloaded {decimal_bytes:>9} {decimal_bytes_per_sec:>11}",
            })),
            tally: Tally::new(sends),
            active: Mutex::new(Some(Vec::new())),
            layer_style: style(layer),
        }
    }

    fn plan(&self, sizes: &[u64], labels: &[String]) {
        let is_first = self.tally.len() == 0;
        self.tally.plan(sizes, labels);
        // A stored image may claim any sizes.
        let size = sizes.iter().copied().fold(0, u64::saturating_add);
        if !is_first {
            self.total.inc_length(size);
            return self.tell_finished();
        }
        self.total.set_length(size);
        self.tell_finished();
        self.all.add(self.total.clone());
        self.total.reset();
        self.upload.reset();
        if self.tally.sends() {
            self.total.enable_steady_tick(IDLE_REFRESH);
        }
    }

    fn tell_finished(&self) {
        let verb = if self.tally.is_sending() {
            "sent"
        } else {
            "packed"
        };
        let (made, reused) = (self.tally.made(), self.tally.reused());
        self.total
            .set_message(finished(verb, made, reused, self.tally.len()));
    }

    /// Changes the counters of a layer that is not finished and shows what they
    /// say in its bar and in that of the whole. It gets a bar if there is room.
    fn of(&self, layer: usize, change: impl FnOnce(&LayerTally)) {
        let Some(tally) = self.tally.open_layer(layer) else {
            return;
        };
        change(tally);
        let (done, step) = tally.advance(self.tally.sends());
        self.step(step);
        let Ok(mut active) = self.active.lock() else {
            return;
        };
        let Some(active) = active.as_mut().filter(|_| !tally.is_finished()) else {
            return;
        };
        let bar = active.iter().find(|(of, _)| *of == layer);
        let bar = match bar {
            Some((_, bar)) => bar.clone(),
            None if active.len() < MOST_LAYER_BARS => {
                ProgressBar::hidden().with_style(self.layer_style.clone())
            }
            None => return,
        };
        let (length, position) = match tally.size() {
            _ if !self.tally.sends() => (tally.expected, done),
            Some(size) => (size, tally.sent()),
            None => (tally.expected, tally.packed()),
        };
        bar.set_length(length);
        bar.set_position(position.min(length));
        if self.tally.sends() {
            bar.set_message(state(tally));
        }
        // Only now, so that it is not seen empty.
        if bar.is_hidden() {
            bar.set_prefix(prefix(&tally.label));
            let bar = self.all.add(bar);
            bar.tick();
            active.push((layer, bar));
        }
    }

    /// Shows how much of the closure is known.
    fn read_closure(&self, paths: usize) {
        if self.closure.is_hidden() && !self.closure.is_finished() {
            self.all.add(self.closure.clone());
        }
        let paths = measure::count(paths, "store path");
        self.closure.set_message(format!("closure: {paths}"));
    }

    /// Shows what came over the network. Before layers are planned nobody knows
    /// whether anything will be drawn after it, so it is only counted.
    fn download(&self, bytes: u64) {
        self.tally.download(bytes);
        self.download.inc(bytes);
        let is_over = self.active.lock().map_or(true, |active| active.is_none());
        if self.download.is_hidden() && self.tally.len() > 0 && !is_over {
            let download = self.download.clone();
            self.all.insert_after(&self.total, download).tick();
        }
    }

    fn step(&self, step: i64) {
        if step < 0 {
            self.total.dec(step.unsigned_abs());
        } else {
            self.total.inc(step.unsigned_abs());
        }
    }

    /// Takes a finished layer's bar away. What was expected and did not come
    /// counts as done, so that the total ends at 100 %.
    fn finish(&self, layer: usize) {
        if let Some((tally, _)) = self.tally.finish(layer) {
            self.step(tally.advance(self.tally.sends()).1);
            self.end(layer);
        }
    }

    /// Takes a layer out of the whole: nothing has to be done for it.
    fn reuse(&self, layer: usize, size: u64) {
        if let Some((tally, _)) = self.tally.reuse(layer, size) {
            self.total.dec(tally.withdraw());
            self.total.dec_length(tally.expected);
            self.end(layer);
        }
    }

    fn end(&self, layer: usize) {
        if let Ok(mut active) = self.active.lock()
            && let Some(active) = active.as_mut()
            && let Some(at) = active.iter().position(|(of, _)| *of == layer)
        {
            let (_, bar) = active.remove(at);
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.tell_finished();
    }

    /// Takes all bars away; none comes after that.
    fn clear(&self) {
        if let Ok(mut active) = self.active.lock() {
            for (_, bar) in active.take().into_iter().flatten() {
                bar.finish_and_clear();
            }
        }
        self.closure.finish_and_clear();
        self.download.finish_and_clear();
        self.total.finish_and_clear();
        let _ = self.all.clear();
    }
}

impl Observer for Bars {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::ClosureProgress { paths } => self.read_closure(paths),
            Event::ClosureRead { .. } => self.closure.finish_and_clear(),
            Event::Downloaded { bytes } => self.download(bytes),
            Event::Planned { layers, labels } => self.plan(layers, labels),
            Event::LayerStarted { layer } => self.of(layer, LayerTally::start),
            Event::LayerProgress { layer, bytes } => self.of(layer, |tally| {
                tally.pack(bytes);
            }),
            Event::LayerPacked { layer, .. } if !self.tally.sends() => self.finish(layer),
            Event::LayerPacked {
                layer,
                digest,
                size,
                ..
            } => self.of(layer, |tally| tally.packed_into(digest, size)),
            Event::LayerSent { layer, bytes } => self.of(layer, |tally| {
                self.upload.inc(bytes);
                self.tally.send(tally, bytes);
            }),
            Event::LayerResent { layer } => self.of(layer, LayerTally::lose),
            Event::LayerReused { layer, size, .. } => self.reuse(layer, size),
            Event::LayerWritten { layer } => self.finish(layer),
            _ => {
                if let Some(warning) = warning(event) {
                    self.note(&warning);
                }
            }
        }
    }
}

impl Display for Bars {
    fn note(&self, message: &str) {
        self.all.suspend(|| say(message));
    }

    fn done(&self, summary: &Summary) {
        self.clear();
        say(&summary.to_text(&self.tally));
    }

    fn failed(&self, failure: &Failure) {
        self.clear();
        say_failure(failure);
    }
}

/// Returns how many layers are done, and how many need not be.
fn finished(verb: &str, finished: usize, reused: usize, all: usize) -> String {
    let needed = all - reused.min(all);
    if reused == 0 {
        format!("{verb} {finished} of {}", measure::count(needed, "layer"))
    } else {
        format!("{verb} {finished} of {needed}, {reused} reused")
    }
}

/// Returns what is done with a layer that is to be sent. How many bytes there
/// are to send is not known while it is packed.
fn state(layer: &LayerTally) -> String {
    match (layer.size(), layer.sent()) {
        (Some(size), sent) => format!("{} / {}", measure::bytes(sent), measure::bytes(size)),
        (None, 0) => "packing".to_owned(),
        (None, sent) => format!("{} sent", measure::bytes(sent)),
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
#[path = "bars_tests.rs"]
mod tests;
