//! Credential helpers: programs that keep credentials for docker and podman.
//!
//! `docker-credential-NAME get` reads the server's address from its standard
//! input and writes `{"ServerURL":…,"Username":…,"Secret":…}`. The name
//! `<token>` says that the secret is an identity token. If it fails, its
//! standard output is a message; one of them means that it knows nothing.
//!
//! Source: <https://github.com/docker/docker-credential-helpers>, `client` and
//! `credentials/error.go`.

use std::fs;
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::context::CancelFlag;
use crate::credentials::redact::redact;
use crate::credentials::{Credentials, Secret};

/// What programs of helpers are called before their own name.
pub(super) const PREFIX: &str = "docker-credential-";

/// The most bytes of an answer.
const LONGEST_ANSWER: usize = 1 << 20;

/// The most bytes of standard error that are looked at.
const LONGEST_TALK: usize = 8 << 10;

/// How long to sleep while nothing comes.
const TICK: Duration = Duration::from_millis(5);

/// What a helper says if it has no credentials for an address.
const NOT_FOUND: &str = "credentials not found";

/// How helpers are run.
#[derive(Debug)]
pub(super) struct Helpers {
    /// Where their programs are, in order.
    pub(super) dirs: Vec<PathBuf>,
    /// How long one may take.
    pub(super) time_limit: Duration,
    /// Ends the wait.
    pub(super) cancel: CancelFlag,
}

/// Why a helper gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HelperFailure {
    /// There is no such program.
    Missing,
    /// Nobody waits any more.
    Cancelled,
    /// This, in words. Never a secret.
    Failed(String),
}

impl Helpers {
    /// Asks a helper for the credentials that it keeps for an address; `None`
    /// if there are none.
    ///
    /// The program runs in a process group of its own, which is killed when the
    /// time is over. It inherits the environment, since that is where many of
    /// them find what they need.
    pub(super) fn ask(
        &self,
        helper: &str,
        address: &str,
    ) -> Result<Option<Credentials>, HelperFailure> {
        // A name is a part of a file name: a file that others wrote may not
        // choose the directory.
        let is_name = !helper.is_empty() && !helper.contains(['/', '\\', '\0']);
        if !is_name {
            let problem = "its name is no part of a program's name";
            return Err(HelperFailure::Failed(problem.to_owned()));
        }
        let program = self.find(helper).ok_or(HelperFailure::Missing)?;
        let output = self.run(&program, address)?;
        if output.status.success() {
            return parse_answer(&output.answer).map_err(HelperFailure::Failed);
        }
        let said = String::from_utf8_lossy(&output.answer);
        if said.trim().starts_with(NOT_FOUND) {
            return Ok(None);
        }
        Err(HelperFailure::Failed(output.problem()))
    }

    /// Finds a program as a shell does; directories that are not absolute are
    /// passed over, as Go does, because what is there depends on where one is.
    fn find(&self, helper: &str) -> Option<PathBuf> {
        let name = format!("{PREFIX}{helper}");
        let dirs = self.dirs.iter().filter(|dir| dir.is_absolute());
        dirs.map(|dir| dir.join(&name)).find(|program| {
            fs::metadata(program)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
    }

    fn run(&self, program: &Path, address: &str) -> Result<Output, HelperFailure> {
        let failed = |doing: &'static str| {
            move |error: io::Error| HelperFailure::Failed(format!("failed to {doing} it: {error}"))
        };
        let deadline = Instant::now() + self.time_limit;
        let child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed("start"))?;
        let mut running = Running(child);
        if let Some(mut stdin) = running.0.stdin.take() {
            // An address fits into the pipe. A program that does not read it
            // will say why it fails.
            match stdin.write_all(address.as_bytes()) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    return Err(failed("write to")(error));
                }
                _ => {}
            }
        }
        let pipe = "the child was started with pipes";
        let stdout = running.0.stdout.take().expect(pipe);
        let stderr = running.0.stderr.take().expect(pipe);
        let mut answer = Pipe::new(stdout, LONGEST_ANSWER + 1).map_err(failed("read from"))?;
        let mut talk = Pipe::new(stderr, LONGEST_TALK).map_err(failed("read from"))?;
        loop {
            // Asked first: what an ended program wrote is in the pipes by now.
            let ended = running.0.try_wait().map_err(failed("wait for"))?;
            let mut is_quiet = true;
            for more in [answer.take_some(), talk.take_some()] {
                is_quiet &= !more.map_err(failed("read from"))?;
            }
            if answer.bytes.len() > LONGEST_ANSWER {
                let problem = format!("it wrote more than {LONGEST_ANSWER} bytes");
                return Err(HelperFailure::Failed(problem));
            }
            if let Some(status) = ended.filter(|_| is_quiet) {
                return Ok(Output {
                    status,
                    answer: answer.bytes,
                    talk: talk.bytes,
                });
            }
            if self.cancel.is_cancelled() {
                return Err(HelperFailure::Cancelled);
            }
            if Instant::now() >= deadline {
                let seconds = self.time_limit.as_secs_f32();
                let mut problem = format!("it did not answer within {seconds} s");
                push_talk(&mut problem, &talk.bytes);
                return Err(HelperFailure::Failed(problem));
            }
            if is_quiet {
                std::thread::sleep(TICK);
            }
        }
    }
}

/// A helper that runs; if it is left before its end, it and what it started is
/// killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // Nothing can be done if that fails; the program may have ended.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// One end of a pipe that is read as far as there is something.
struct Pipe<R> {
    from: R,
    bytes: Vec<u8>,
    /// Bytes to keep; what comes after them is thrown away.
    most: usize,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(from: R, most: usize) -> io::Result<Self> {
        let flags = fcntl_getfl(&from)?;
        fcntl_setfl(&from, flags | OFlags::NONBLOCK)?;
        Ok(Self {
            from,
            bytes: Vec::new(),
            most,
        })
    }

    /// Reads a piece; returns whether there was one.
    fn take_some(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 << 10];
        match self.from.read(&mut piece) {
            Ok(0) => Ok(false),
            Ok(len) => {
                let room = self.most.saturating_sub(self.bytes.len());
                self.bytes.extend_from_slice(&piece[..len.min(room)]);
                Ok(true)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Ok(false),
                ErrorKind::Interrupted => Ok(true),
                _ => Err(error),
            },
        }
    }
}

/// What a helper left.
struct Output {
    status: ExitStatus,
    answer: Vec<u8>,
    talk: Vec<u8>,
}

impl Output {
    /// Returns in words why it failed.
    fn problem(&self) -> String {
        let mut problem = match self.status.code() {
            Some(code) => format!("it ended with exit code {code}"),
            None => "it was ended by a signal".to_owned(),
        };
        // The message of a failed helper. What looks like an answer is none.
        if !self.answer.contains(&b'{') {
            push_talk(&mut problem, &self.answer);
        }
        push_talk(&mut problem, &self.talk);
        problem
    }
}

fn push_talk(problem: &mut String, talk: &[u8]) {
    let talk = redact(talk);
    if !talk.is_empty() {
        problem.push_str(": ");
        problem.push_str(&talk);
    }
}

/// Reads what a helper writes when it succeeds; `None` if nothing is in it.
///
/// # Errors
///
/// What was expected. Nothing of the answer is shown.
fn parse_answer(answer: &[u8]) -> Result<Option<Credentials>, String> {
    const EXPECTED: &str = "it answered with something else than JSON with Username and Secret";
    let answer: Value = serde_json::from_slice(answer).map_err(|_| EXPECTED)?;
    let text = |name: &str| match answer.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(Value::Null) | None => Ok(""),
        Some(_) => Err(EXPECTED),
    };
    if !answer.is_object() {
        return Err(EXPECTED.to_owned());
    }
    let (user, secret) = (text("Username")?, text("Secret")?);
    if user.is_empty() && secret.is_empty() {
        return Ok(None);
    }
    if user.is_empty() {
        return Err("it answered with a Secret and no Username".to_owned());
    }
    Ok(Some(Credentials::new(user, Secret::new(secret))))
}

#[cfg(test)]
#[path = "helper_tests.rs"]
mod tests;
