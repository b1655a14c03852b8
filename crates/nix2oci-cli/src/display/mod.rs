//! What is said on standard error while the work goes on.
//!
//! - [`Display`]: hears of progress, warnings and the end
//! - `bars` on a terminal (`screen`), `lines` in a log, `events` for programs, `quiet`
//! - [`measure`]: sizes and durations for people
//!
//! Standard output is never touched here: it belongs to the result.

mod bars;
mod events;
mod lines;
pub(crate) mod measure;
mod quiet;
mod screen;
mod tally;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use nix2oci::{Event, Observer};

use crate::args::{ProgressArg, TalkArgs};
use crate::exit::{self, Failure};

use tally::Tally;

/// Tells the user what goes on. Calls come from several threads.
pub(crate) trait Display: Observer {
    /// Tells a decision that was made for the user, or what another program
    /// says.
    fn note(&self, message: &str);

    /// Tells that all is done, after everything else.
    fn done(&self, summary: &Summary);

    /// Tells that it failed, after everything else.
    fn failed(&self, failure: &Failure);
}

/// What was done, in a few figures.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// What was done to the destination, as a verb: `wrote`.
    pub(crate) verb: &'static str,
    /// Where the image or the recipe went.
    pub(crate) destination: String,
    /// The image's names in full.
    pub(crate) names: Vec<String>,
    /// The digest of the manifest.
    pub(crate) digest: String,
    /// Layers of the image.
    pub(crate) layers: usize,
    /// Bytes of all blobs of layers.
    pub(crate) size: u64,
    /// The time that it took.
    pub(crate) elapsed: Duration,
    /// The most memory at any time, in bytes, where the system tells it.
    pub(crate) peak_memory: Option<u64>,
}

impl Summary {
    /// Returns it as a line for people, with what was sent and downloaded for it.
    fn to_text(&self, tally: &Tally) -> String {
        let names = self.names.iter().map(|name| format!("{name}, "));
        let sent = tally.transfer().map(|transfer| match transfer.sent {
            0 => ", none of them sent".to_owned(),
            n => format!(
                ", {n} of them sent, {}",
                measure::bytes(transfer.sent_bytes)
            ),
        });
        let downloaded = match tally.downloaded() {
            0 => String::new(),
            bytes => format!(", {} downloaded", measure::bytes(bytes)),
        };
        format!(
            "{} {}: {}{}, {}{}{downloaded} in {}",
            self.verb,
            self.destination,
            names.collect::<String>(),
            measure::count(self.layers, "layer"),
            measure::bytes(self.size),
            sent.unwrap_or_default(),
            measure::seconds(self.elapsed),
        )
    }
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Progress and warnings.
    Normal,
    /// What was chosen as well.
    Verbose,
    /// And what is in each layer of a plan.
    Detailed,
}

/// The display that was asked for, and how much goes to it.
#[derive(Clone)]
pub(crate) struct Talk {
    display: Arc<dyn Display>,
    verbosity: Verbosity,
}

impl Talk {
    /// Chooses a display by the options and by what standard error is; `sends`
    /// if layers are sent to a registry.
    pub(crate) fn new(args: &TalkArgs, sends: bool) -> Self {
        let verbosity = match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Detailed,
        };
        let display: Arc<dyn Display> = match args.progress {
            ProgressArg::Json => Arc::new(events::Events::new(io::stderr(), verbosity, sends)),
            _ if verbosity == Verbosity::Quiet => Arc::new(quiet::Quiet::new(verbosity)),
            ProgressArg::None => Arc::new(quiet::Quiet::new(verbosity)),
            ProgressArg::Plain => Arc::new(lines::Lines::new(io::stderr(), sends)),
            ProgressArg::Auto if can_draw() => Arc::new(bars::Bars::new(sends)),
            ProgressArg::Auto => Arc::new(lines::Lines::new(io::stderr(), sends)),
        };
        Self { display, verbosity }
    }

    /// Returns what hears the library's events.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        let display: Arc<dyn Display> = Arc::clone(&self.display);
        display
    }

    /// Tells a decision, if the user asked for that much.
    pub(crate) fn note(&self, message: impl FnOnce() -> String) {
        if self.verbosity >= Verbosity::Verbose {
            self.display.note(&message());
        }
    }

    /// Tells what another program complains about.
    pub(crate) fn relay(&self, line: &str) {
        self.display.note(line);
    }

    /// Returns how much is said.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Tells that all is done.
    pub(crate) fn done(&self, summary: &Summary) {
        if let Some(peak) = summary.peak_memory {
            self.note(|| format!("peak memory {}", measure::bytes(peak)));
        }
        self.display.done(summary);
    }

    /// Tells that it failed.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.display.failed(failure);
    }
}

/// Returns what the user is told of an event in any case, if there is something.
fn warning(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Warning { message } => Some(format!("warning: {message}")),
        Event::Retry {
            message,
            wait,
            attempt,
            attempts,
        } => Some(format!(
            "warning: {message}; trying again in {} ({attempt} of {attempts})",
            measure::pause(*wait),
        )),
        _ => None,
    }
}

/// Returns whether standard error is a terminal on which lines can be redrawn.
fn can_draw() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a line to standard error. If nobody can read it, there is nobody to
/// tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a failure to standard error.
fn say_failure(failure: &Failure) {
    let text = failure.to_text(exit::stderr_has_colours());
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
