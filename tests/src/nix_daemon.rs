//! Nix's daemon, for a store of the tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::end_with_us;

/// How long the daemon may take to make its socket.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `nix-daemon` that runs until this is dropped.
#[derive(Debug)]
pub struct NixDaemon {
    process: Child,
    watch: Child,
    socket: PathBuf,
}

impl NixDaemon {
    /// Starts `command`, which is the daemon with all that it needs to know of a
    /// store, with its socket at `socket`; as the user and group of this number
    /// if it is said, for which the caller must be root.
    ///
    /// Nix 2.8 makes a folder for each user that asks, and gives it to that
    /// user. So a daemon that is not root's may change owners: that and no more.
    pub fn start(daemon: &Command, socket: &Path, user: Option<u32>) -> Self {
        let mut command = match user {
            None => Command::new(daemon.get_program()),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={user}"), format!("--regid={user}")])
                    .args(["--clear-groups", "--inh-caps=+chown,+fowner"])
                    .arg("--ambient-caps=+chown,+fowner")
                    .arg(daemon.get_program());
                command
            }
        };
        command
            .args(daemon.get_args())
            .envs(
                daemon
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("NIX_DAEMON_SOCKET_PATH", socket)
            // Another user may not see where the tests run.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} could not be started ({error}); tests/install brings it")
        });
        let watch = end_with_us(&process);
        let mut daemon = Self {
            process,
            watch,
            socket: socket.to_owned(),
        };
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            if let Some(status) = daemon.process.try_wait().expect("it is our child") {
                panic!("{command:?} ended: {status}");
            }
            assert!(start.elapsed() < PATIENCE, "{command:?} makes no socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// Returns where its socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for NixDaemon {
    fn drop(&mut self) {
        for child in [&mut self.process, &mut self.watch] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
