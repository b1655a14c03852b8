//! What a user can try after an error of the Nix daemon.

use std::io;
use std::path::Path;

use super::first_unreadable;

/// What a daemon that hangs up has to say for itself.
const ITS_LOG: &str = "its log says why (`journalctl --unit nix-daemon`)";

/// Returns what to try if there is something.
pub(super) fn daemon(
    socket: &str,
    action: &str,
    problem: &str,
    cause: Option<&io::Error>,
) -> Option<String> {
    let hint = match cause.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => format!(
            "this user may not use {}",
            first_unreadable(Path::new(socket)).display()
        ),
        Some(_) => {
            "is nix-daemon running? NIX_DAEMON_SOCKET_PATH, or what follows `daemon:`, says \
                    where its socket is; without a daemon, `--closure db` reads the database and \
                    `--content local` the store"
                .to_owned()
        }
        None if problem == "it closed the connection" && action == "answer the greeting" => {
            format!("does its setting allowed-users leave this user out? {ITS_LOG}")
        }
        None if problem == "it closed the connection" => ITS_LOG.to_owned(),
        None if problem == "it does not have it" => {
            "is it built? `nix-store --realise` gets it; --content says where else store paths may \
             be read from"
                .to_owned()
        }
        None if problem.contains("is not in the Nix store") => {
            "its store directory is another one than --store-dir says".to_owned()
        }
        None => return None,
    };
    Some(hint)
}
