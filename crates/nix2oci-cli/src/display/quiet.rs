//! No progress at all.

use nix2oci::{Event, Observer};

use crate::exit::Failure;

use super::{Display, Summary, Verbosity, say, say_failure, warning};

/// Tells warnings, and with [`Verbosity::Quiet`] nothing but failures.
#[derive(Debug)]
pub(super) struct Quiet {
    verbosity: Verbosity,
}

impl Quiet {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }
}

impl Observer for Quiet {
    fn event(&self, event: &Event<'_>) {
        if self.verbosity > Verbosity::Quiet
            && let Some(warning) = warning(event)
        {
            say(&warning);
        }
    }
}

impl Display for Quiet {
    fn note(&self, message: &str) {
        say(message);
    }

    fn done(&self, _: &Summary) {}

    fn failed(&self, failure: &Failure) {
        say_failure(failure);
    }
}
