//! What this machine is, in the words of an image.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix2oci::oci::{Platform, Timestamp, parse_platform};

use crate::args::values;
use crate::exit::Failure;

/// Returns the platform of programs that Nix builds for this machine.
///
/// The operating system is always Linux: on a Mac, Nix builds containers'
/// programs on a Linux builder of the same processor.
///
/// # Errors
///
/// If the processor is one that no image format has a name for.
pub(crate) fn platform() -> Result<Platform, Failure> {
    let cpu = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        cpu => cpu,
    };
    parse_platform(&format!("{cpu}-linux")).map_err(|_| {
        Failure::usage(format!(
            "the platform of this machine's processor, {cpu}, is not known"
        ))
        .hint("say it with --platform")
    })
}

/// Returns the time for files and images if none is asked for: that of
/// `SOURCE_DATE_EPOCH`, else that of files in the Nix store.
///
/// Source: <https://reproducible-builds.org/specs/source-date-epoch/>.
pub(crate) fn source_date() -> Result<Timestamp, Failure> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    match std::env::var_os(NAME) {
        None => Ok(Timestamp::STORE),
        Some(text) if text.is_empty() => Ok(Timestamp::STORE),
        Some(text) => values::epoch(&text.to_string_lossy()).map_err(|problem| {
            Failure::usage(format!(
                "the environment variable {NAME} is {text:?}: {problem}"
            ))
        }),
    }
}

/// Returns where large files may wait: `$TMPDIR`, else `/var/tmp` as podman and
/// skopeo do, since `/tmp` is memory on many machines.
pub(crate) fn spool_dir() -> PathBuf {
    let large = Path::new("/var/tmp");
    match std::env::var_os("TMPDIR") {
        None if large.is_dir() => large.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// Returns where the cache of layers is if nobody says: `nix2oci` in
/// `$XDG_CACHE_HOME`, else in `~/.cache`. `None` if there is no home directory.
///
/// A path that is not absolute does not count.
///
/// Source: <https://specifications.freedesktop.org/basedir-spec/0.8/>.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let below_home = || Some(std::env::home_dir()?.join(".cache"));
    named
        .filter(|dir| dir.is_absolute())
        .or_else(below_home)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("nix2oci"))
}

/// Returns where `NIX_DAEMON_SOCKET_PATH` says that the Nix daemon's socket is;
/// not for a store below another root, which that daemon does not serve.
///
/// Source: `nixDaemonSocketFile` in NixOS/nix, `src/libstore/globals.cc` (2.8).
pub(crate) fn daemon_socket(store_root: Option<&Path>) -> Option<PathBuf> {
    std::env::var_os("NIX_DAEMON_SOCKET_PATH")
        .filter(|socket| !socket.is_empty() && store_root.is_none())
        .map(PathBuf::from)
}

/// Returns the closure source that `NIX_REMOTE` asks for, as `--closure` names it:
/// the daemon, if it says so. What it says else is for Nix.
///
/// Source: `openFromNonUri` in NixOS/nix, `src/libstore/store-api.cc` (2.8).
pub(crate) fn nix_remote() -> Option<String> {
    parse_remote(std::env::var_os("NIX_REMOTE")?.to_str()?)
}

fn parse_remote(remote: &str) -> Option<String> {
    // A query has settings of Nix's own, such as the root of another store.
    let (address, settings) = remote.split_once('?').unwrap_or((remote, ""));
    match address.strip_prefix("unix://") {
        _ if !settings.is_empty() => None,
        None => (address == "daemon").then(|| "daemon".to_owned()),
        Some("") => Some("daemon".to_owned()),
        Some(socket) => Some(format!("daemon:{socket}")),
    }
}

/// Returns this moment, as files have it.
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Returns this moment, in whole seconds.
pub(crate) fn now() -> Timestamp {
    let seconds = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    Timestamp::from_unix_seconds(seconds).unwrap_or_default()
}

/// Returns the most memory that this process had at any time, in bytes, if the
/// system says so (Linux).
///
/// Not `getrusage`: its figure begins with that of the process that started
/// this one.
pub(crate) fn peak_memory() -> Option<u64> {
    parse_peak(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Source: `VmHWM` in proc_pid_status(5).
fn parse_peak(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t    4660 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(parse_peak(status), Some(4660 * 1024));
        assert_eq!(parse_peak("Name:\tx\n"), None);
        if cfg!(target_os = "linux") {
            assert!(peak_memory().unwrap() > 100_000);
        }
    }

    #[test]
    fn nix_remote_may_ask_for_the_daemon() {
        for (remote, source) in [
            ("daemon", Some("daemon")),
            ("unix://", Some("daemon")),
            ("unix:///run/nix/socket", Some("daemon:/run/nix/socket")),
            ("unix:///run/socket?root=/x", None),
            ("", None),
            ("auto", None),
            ("local", None),
            ("ssh-ng://builder", None),
        ] {
            assert_eq!(parse_remote(remote).as_deref(), source, "{remote}");
        }
    }

    #[test]
    fn programs_are_for_linux_whatever_the_host() {
        let platform = platform().unwrap();
        assert_eq!(platform.os().to_string(), "linux");
        if cfg!(target_arch = "x86_64") {
            assert_eq!(platform.architecture().to_string(), "amd64");
        }
    }
}
