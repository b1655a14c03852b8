//! How the command ends: exit codes, and errors with hints.
//!
//! The library says what happened; what a user can type next is known to
//! [`hints`](crate::hints) only.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use nix2oci::{ErrorClass, ErrorKind};

use crate::hints::hints;

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// All was done.
    Done,
    /// A defect of the program.
    Internal,
    /// The command line makes no sense.
    Usage,
    /// An input is wrong.
    Input,
    /// An output could not be written.
    Output,
    /// Bytes are not what their digest says.
    Integrity,
    /// A registry refused the sign-in.
    Denied,
    /// A registry or a binary cache failed or could not be reached.
    Remote,
    /// `check` found problems, `diff` what it was asked to look out for, or a
    /// plan is larger than allowed.
    Problems,
    /// Stopped by a signal.
    Interrupted,
}

impl Status {
    /// Returns the exit code.
    pub(crate) const fn code(self) -> i32 {
        self.byte() as i32
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::Output => 4,
            Self::Integrity => 5,
            Self::Denied => 6,
            Self::Remote => 7,
            Self::Problems => 8,
            Self::Interrupted => 130,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.byte())
    }
}

impl From<ErrorClass> for Status {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Input | ErrorClass::Store => Self::Input,
            ErrorClass::Output => Self::Output,
            ErrorClass::Integrity => Self::Integrity,
            ErrorClass::Denied => Self::Denied,
            ErrorClass::Remote => Self::Remote,
            ErrorClass::Cancelled => Self::Interrupted,
            _ => Self::Internal,
        }
    }
}

/// The result of a verb.
pub(crate) type Outcome<T = Status> = Result<T, Failure>;

/// Why a verb failed, and what the user may try.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    is_closed_pipe: bool,
}

impl Failure {
    /// Makes one about something that the user gave.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Status::Input, message)
    }

    /// Makes one about options that do not go together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, message)
    }

    /// Makes one about a place where the image goes.
    pub(crate) fn output(message: impl Into<String>) -> Self {
        Self::new(Status::Output, message)
    }

    /// Makes one about something that only a defect or a broken system explains.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Status::Internal, message)
    }

    /// Takes an error about the value of an option.
    pub(crate) fn misuse(error: nix2oci::Error) -> Self {
        let is_value = matches!(error.kind(), ErrorKind::InvalidInput { .. });
        let mut failure = Self::from(error);
        if is_value {
            failure.status = Status::Usage;
        }
        failure
    }

    /// Makes one about a limit that the user set and that is exceeded.
    pub(crate) fn gate(message: impl Into<String>) -> Self {
        Self::new(Status::Problems, message)
    }

    /// Makes one about text that could not be written to standard output.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        Self {
            is_closed_pipe: error.kind() == io::ErrorKind::BrokenPipe,
            ..Self::new(Status::Output, "failed to write to standard output").because(error)
        }
    }

    fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            is_closed_pipe: false,
        }
    }

    /// Adds a cause and the causes of that.
    pub(crate) fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut next = Some(cause);
        while let Some(cause) = next {
            let text = cause.to_string();
            // SQLite's error and the code below it say the same.
            if self.causes.last().is_none_or(|last| !text.contains(last)) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// Adds something to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds something to try before all else.
    pub(crate) fn hint_first(mut self, hint: impl Into<String>) -> Self {
        self.hints.insert(0, hint.into());
        self
    }

    /// Returns the exit code; text that nobody reads any more is no failure.
    pub(crate) fn status(&self) -> Status {
        if self.is_closed_pipe {
            Status::Done
        } else {
            self.status
        }
    }

    /// Returns whether there is something to tell.
    pub(crate) fn is_worth_telling(&self) -> bool {
        !self.is_closed_pipe
    }

    /// Returns what happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns why, the nearest cause first.
    pub(crate) fn causes(&self) -> &[String] {
        &self.causes
    }

    /// Returns what to try.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the text for people; `colour` puts escapes around the labels.
    pub(crate) fn to_text(&self, colour: bool) -> String {
        let label = |code: &str, text: &str| {
            if colour {
                format!("\x1b[{code}m{text}\x1b[0m")
            } else {
                text.to_owned()
            }
        };
        let mut text = format!("{} {}\n", label("1;31", "error:"), self.message);
        for cause in &self.causes {
            let _ = writeln!(text, "  caused by: {cause}");
        }
        if !self.hints.is_empty() {
            text.push('\n');
        }
        for hint in &self.hints {
            let _ = writeln!(text, "{} {hint}", label("1;36", "hint:"));
        }
        text
    }
}

impl From<nix2oci::Error> for Failure {
    fn from(error: nix2oci::Error) -> Self {
        let mut failure = Self::new(error.class().into(), error.to_string());
        if let Some(cause) = std::error::Error::source(&error) {
            failure = failure.because(cause);
        }
        failure.hints = hints(error.kind());
        failure
    }
}

/// Returns whether what goes to standard error may have colours: it is a
/// terminal that knows them, and the user did not refuse them (`NO_COLOR`).
pub(crate) fn stderr_has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal()
        && !is_set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_causes_and_hints() {
        let error = ErrorKind::Database {
            action: "open",
            path: "/nix/var/nix/db/db.sqlite".into(),
            source: "unable to open database file".into(),
        };
        let failure = Failure::from(nix2oci::Error::from(error));
        assert_eq!(failure.status(), Status::Input);
        let text = failure.to_text(false);
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("error: failed to open the Nix database /nix/var/nix/db/db.sqlite")
        );
        assert_eq!(
            lines.next(),
            Some("  caused by: unable to open database file")
        );
        assert_eq!(lines.next(), Some(""));
        assert!(lines.next().unwrap().starts_with("hint: is it a database"));
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn classes_have_the_documented_codes() {
        for (class, code) in [
            (ErrorClass::Internal, 1),
            (ErrorClass::Input, 3),
            (ErrorClass::Store, 3),
            (ErrorClass::Output, 4),
            (ErrorClass::Integrity, 5),
            (ErrorClass::Denied, 6),
            (ErrorClass::Remote, 7),
            (ErrorClass::Cancelled, 130),
        ] {
            assert_eq!(Status::from(class).code(), code, "{class:?}");
        }
    }

    #[test]
    fn a_closed_pipe_ends_text_quietly_but_not_an_archive() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let failure = Failure::stdout(&closed());
        assert_eq!(failure.status(), Status::Done);
        assert!(!failure.is_worth_telling());

        let archive = ErrorKind::WriteOutput {
            action: "write",
            path: "standard output".into(),
            source: closed(),
        };
        let failure = Failure::from(nix2oci::Error::from(archive));
        assert_eq!(failure.status(), Status::Output);
        assert!(failure.is_worth_telling());
    }
}
