//! Programs that read an archive from their standard input.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix2oci::sink::Archive;
use nix2oci::{CancelFlag, ErrorKind, ImageSink};
use rustix::process::{Pid, Signal, kill_process};

use crate::display::Talk;
use crate::exit::{Failure, Outcome};

/// How often the program is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long a program that was asked to end may tidy up.
const GRACE: Duration = Duration::from_secs(5);

/// How long to listen to what a program has said once it has ended: one that it
/// left behind may hold the pipe open for ever.
const ECHO: Duration = Duration::from_secs(1);

/// Starts a program and lets `write` write an archive into its standard input.
///
/// Waits for its end, and ends it if `cancel` is set or `write` fails. What it
/// complains about is told to the user, and what it prints is a note.
///
/// # Errors
///
/// That of the program, if it does not end with 0: it knows why it did not read
/// on. Else that of `write`.
pub(crate) fn feed<T>(
    mut command: Command,
    cancel: &CancelFlag,
    talk: &Talk,
    write: impl FnOnce(&mut dyn ImageSink) -> nix2oci::Result<T>,
) -> Outcome<T> {
    let line = line(&command);
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: &io::Error| {
        let failure = Failure::output(format!("failed to run {line}")).because(error);
        if error.kind() == io::ErrorKind::NotFound {
            failure.hint(format!(
                "is {program} installed, and in a directory of $PATH?"
            ))
        } else {
            failure
        }
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let stdin = child.stdin.take().expect("its standard input is a pipe");
    let listeners = [
        child.stdout.take().map(|pipe| {
            let talk = talk.clone();
            listen(pipe, move |line| talk.note(|| line))
        }),
        child.stderr.take().map(|pipe| {
            let talk = talk.clone();
            listen(pipe, move |line| talk.relay(&line))
        }),
    ];
    let program = Program(Mutex::new(child));

    let (written, status) = thread::scope(|scope| {
        // A program that does not read holds the writer up, which cannot look
        // at the flag then.
        scope.spawn(|| program.end_when(cancel));
        let mut sink = Archive::to_file(File::from(OwnedFd::from(stdin)), &line);
        let written = write(&mut sink);
        if written.as_ref().is_err_and(|error| !is_closed_pipe(error)) {
            // Before it sees the end of what is only a part of an archive.
            program.end();
        }
        drop(sink);
        (written, program.wait())
    });
    let status = status.map_err(|error| failed(&error))?;
    let deadline = Instant::now() + ECHO;
    for listener in listeners.iter().flatten() {
        while !listener.is_finished() && Instant::now() < deadline {
            thread::sleep(INTERVAL);
        }
    }
    match written {
        Ok(value) if status.success() => Ok(value),
        _ if cancel.is_cancelled() => Err(nix2oci::Error::from(ErrorKind::Cancelled).into()),
        Err(error) if status.success() || !is_closed_pipe(&error) => Err(error.into()),
        _ => Err(Failure::output(format!("{line} failed: {status}"))),
    }
}

/// Passes on what a program says, line by line.
fn listen(
    pipe: impl Read + Send + 'static,
    tell: impl Fn(String) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            tell(line.trim_end().to_owned());
        }
    })
}

/// Returns a command as it would be typed.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn is_closed_pipe(error: &nix2oci::Error) -> bool {
    matches!(error.kind(), ErrorKind::WriteOutput { source, .. }
        if source.kind() == io::ErrorKind::BrokenPipe)
}

/// A program that runs. While it is locked it is not reaped, so that its number
/// means no other.
struct Program(Mutex<Child>);

impl Program {
    /// Returns how it ended, if it has.
    fn status(&self) -> io::Result<Option<ExitStatus>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()
    }

    fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Asks it to end, and after a while makes it.
    fn end(&self) {
        let deadline = Instant::now() + GRACE;
        self.signal(Signal::TERM);
        while matches!(self.status(), Ok(None)) {
            if Instant::now() >= deadline {
                self.signal(Signal::KILL);
                return;
            }
            thread::sleep(INTERVAL);
        }
    }

    fn signal(&self, signal: Signal) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None))
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it once the flag is set; returns when it has ended.
    fn end_when(&self, cancel: &CancelFlag) {
        while matches!(self.status(), Ok(None)) {
            if cancel.is_cancelled() {
                return self.end();
            }
            thread::sleep(INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{ProgressArg, TalkArgs};

    use super::*;

    fn talk() -> Talk {
        let args = TalkArgs {
            progress: ProgressArg::None,
            quiet: false,
            verbose: 0,
        };
        Talk::new(&args, false)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn nothing(sink: &mut dyn ImageSink) -> nix2oci::Result<()> {
        sink.commit(&nix2oci::Context::default())
    }

    #[test]
    fn the_program_s_status_is_told() {
        let cancel = CancelFlag::default();
        let fed = feed(shell("cat > /dev/null"), &cancel, &talk(), nothing);
        assert!(fed.is_ok());
        for script in ["cat > /dev/null; exit 3", "exec <&-; exit 3"] {
            let failure = feed(shell(script), &cancel, &talk(), nothing).unwrap_err();
            let expected = format!("sh -c {script} failed: exit status: 3");
            assert_eq!(failure.message(), expected);
            assert_eq!(failure.status().code(), 4);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let command = Command::new("no-such-program");
        let failure = feed(command, &CancelFlag::default(), &talk(), nothing).unwrap_err();
        assert_eq!(failure.message(), "failed to run no-such-program");
        assert_eq!(failure.status().code(), 4);
        assert!(failure.hints()[0].contains("installed"));
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let start = Instant::now();
        let command = shell("cat > /dev/null; sleep 60 < /dev/null & exit 0");
        assert!(feed(command, &CancelFlag::default(), &talk(), nothing).is_ok());
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_is_ended_when_writing_fails_or_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let (begun, ended) = (dir.path().join("begun"), dir.path().join("ended"));
        let script = format!(
            "trap 'echo > {}; exit 1' TERM; echo > {}; while :; do sleep 0.05; done",
            ended.display(),
            begun.display(),
        );
        let wait_for = |path: &std::path::Path| {
            while !path.exists() {
                thread::sleep(INTERVAL);
            }
        };
        let failure = feed(shell(&script), &CancelFlag::default(), &talk(), |_| {
            wait_for(&begun);
            Err::<(), _>(nix2oci::Error::invalid("a test", "it fails"))
        });
        assert_eq!(failure.unwrap_err().status().code(), 3);
        assert!(ended.exists());

        std::fs::remove_file(&begun).unwrap();
        std::fs::remove_file(&ended).unwrap();
        let cancel = CancelFlag::default();
        let failure = feed(shell(&script), &cancel, &talk(), |sink| {
            wait_for(&begun);
            cancel.cancel();
            nothing(sink)
        });
        assert_eq!(failure.unwrap_err().status().code(), 130);
        assert!(ended.exists());
    }
}
