//! Ctrl-C, SIGTERM and SIGHUP stop the work in order; a second one stops it at
//! once.

use std::io;
use std::sync::Arc;

use nix2oci::CancelFlag;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Status;

/// Lets SIGINT, SIGTERM and SIGHUP set `cancel`. If it is set already, the
/// signal ends the process at once: outputs get their final names at the very
/// end, so that leaves none that is half written.
///
/// A signal that is ignored stays so: `nohup` asks for that.
pub(crate) fn cancel_on_signals(cancel: &CancelFlag) -> io::Result<()> {
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let is_ignored = match ignored {
            Some(ignored) => has(ignored, signal),
            // Where it cannot be known, the one that `nohup` is about is left
            // to the system.
            None => signal == SIGHUP,
        };
        if is_ignored {
            continue;
        }
        // In this order: the first signal finds the flag unset, passes the
        // shutdown and sets it.
        let seen = cancel.as_atomic();
        flag::register_conditional_shutdown(signal, Status::Interrupted.code(), Arc::clone(seen))?;
        flag::register(signal, Arc::clone(seen))?;
    }
    Ok(())
}

/// Returns the set of signals that whoever started us wants ignored. Only Linux
/// tells without unsafe code.
fn ignored_signals() -> Option<u64> {
    parse_ignored(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Reads the line `SigIgn` of `/proc/PID/status` (proc_pid_status(5)).
fn parse_ignored(status: &str) -> Option<u64> {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Returns whether a signal, counted from 1, is in a set.
fn has(set: u64, signal: i32) -> bool {
    set >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tcat\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000004001\n";
        let set = parse_ignored(status).unwrap();
        let found = [SIGHUP, SIGINT, SIGTERM].map(|signal| has(set, signal));
        assert_eq!(found, [true, false, true]);
        assert_eq!(parse_ignored("Name:\tcat\n"), None);
        assert_eq!(parse_ignored("SigIgn:\tx\n"), None);
    }
}
