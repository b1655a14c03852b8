//! Ctrl-C and SIGTERM stop the work in order; a second one stops it at once.

use std::io;
use std::sync::Arc;

use nix2oci::CancelFlag;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Status;

/// Lets SIGINT and SIGTERM set `cancel`. If it is set already, the signal ends
/// the process at once: outputs get their final names at the very end, so that
/// leaves none that is half written.
pub(crate) fn cancel_on_signals(cancel: &CancelFlag) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, passes the
        // shutdown and sets it.
        let seen = cancel.as_atomic();
        flag::register_conditional_shutdown(signal, Status::Interrupted.code(), Arc::clone(seen))?;
        flag::register(signal, Arc::clone(seen))?;
    }
    Ok(())
}
