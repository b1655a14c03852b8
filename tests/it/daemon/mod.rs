//! The Nix daemon as a source: real ones, recorded ones, hostile ones.

mod conversation;
mod conversations;
mod hostile;
mod real;
mod sockets;

use nix2oci::StorePath;

/// Returns a store path that no store has.
fn missing() -> StorePath {
    let path = format!("{}-missing", "0".repeat(32));
    path.parse().expect("it is a store path")
}
