//! Container tools that leave the machine as it is.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{output_bytes, repository};

/// What a script of [`Isolated`] starts with.
///
/// podman and skopeo write to `/etc`, `/run` and `/var/lib` whatever they are
/// told, so these are copies or empty here. `$state` is a file system in memory
/// for all that a tool stores; it and every process left go with the namespaces.
const PRELUDE: &str = r#"
mount -t tmpfs tmpfs "$state"
mkdir "$state/etc" "$state/home"
cp -a /etc/. "$state/etc"
mount --bind "$state/etc" /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
export HOME=$state/home
"#;

/// podman by default settings but in `$state`, without a network, and with
/// limits that also hold where the tests run in a container themselves.
const PODMAN: &str = r#"
cat > "$state/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
END
cat > "$state/storage.conf" <<END
[storage]
driver = "vfs"
graphroot = "$state/podman"
runroot = "$state/podman-run"
END
export CONTAINERS_CONF=$state/containers.conf CONTAINERS_STORAGE_CONF=$state/storage.conf
"#;

/// Waits for the daemon just started: `wait_for LOADER PACKAGE LOG COMMAND…`.
const WAIT: &str = r#"
wait_for() {
    daemon=$! loader=$1 package=$2 log=$3
    shift 3
    for try in $(seq 150); do
        if "$@" > /dev/null 2>&1; then return; fi
        kill -0 "$daemon" 2> /dev/null || break
        sleep 0.2
    done
    cat "$log" >&2
    echo "$loader does not answer; tests/install brings Debian's $package, and where it" \
        "cannot run, NIX2OCI_WITHOUT=$loader leaves it out" >&2
    exit 1
}
"#;

const CONTAINERD: &str = r#"
cat > "$state/containerd.toml" <<END
version = 2
root = "$state/containerd"
state = "$state/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$state/containerd.sock"
END
export CONTAINERD_ADDRESS=$state/containerd.sock CONTAINERD_SNAPSHOTTER=native
containerd --config "$state/containerd.toml" > "$state/containerd.log" 2>&1 &
wait_for containerd containerd "$state/containerd.log" ctr version
"#;

const DOCKER: &str = r#"
echo '{}' > "$state/docker.json"
export DOCKER_HOST=unix://$state/docker.sock
dockerd --config-file "$state/docker.json" --data-root "$state/docker" \
    --exec-root "$state/docker-exec" --pidfile "$state/docker.pid" --host "$DOCKER_HOST" \
    --storage-driver vfs --bridge none --iptables=false --ip6tables=false \
    --ip-forward=false --ip-masq=false > "$state/docker.log" 2>&1 &
wait_for docker docker.io "$state/docker.log" docker version
"#;

/// Shell scripts in namespaces of their own: mounts, processes, and the network
/// unless they are to see the machine's.
///
/// As root, or with sudo without a password. A script ends at the first
/// command that fails.
#[derive(Debug, Clone)]
pub struct Isolated {
    prelude: String,
    paths: Vec<PathBuf>,
    sees_network: bool,
}

impl Isolated {
    fn new(parts: &[&str]) -> Self {
        Self {
            prelude: parts.concat(),
            paths: Vec::new(),
            sees_network: false,
        }
    }

    /// With podman.
    pub fn podman() -> Self {
        Self::new(&[PRELUDE, PODMAN])
    }

    /// With a containerd that `ctr` speaks to.
    pub fn containerd() -> Self {
        Self::new(&[PRELUDE, WAIT, CONTAINERD])
    }

    /// With a dockerd that `docker` speaks to, Debian's.
    pub fn docker() -> Self {
        let mut isolated = Self::new(&[PRELUDE, WAIT, DOCKER]);
        // Where tests/install unpacks it.
        let unpacked = repository().join("target/tools/docker.io/usr");
        isolated.paths = vec![unpacked.join("sbin"), unpacked.join("bin")];
        isolated
    }

    /// Leaves scripts the network of the machine, for servers of a test.
    #[must_use]
    pub fn with_network(mut self) -> Self {
        self.sees_network = true;
        self
    }

    /// With what skopeo and umoci need.
    pub fn plain() -> Self {
        Self::new(&[PRELUDE])
    }

    /// Runs a script and returns what it wrote, or what went wrong.
    ///
    /// The script sees these variables, which hold no blank; `folder` is where
    /// it runs.
    pub fn output(
        &self,
        folder: &Path,
        variables: &[(&str, &str)],
        script: &str,
    ) -> Result<Vec<u8>, String> {
        let state = tempfile::tempdir_in(folder).expect("the folder can be written");
        let mut text = String::from("set -euo pipefail\n");
        let mut set = |name: &str, value: &str| {
            writeln!(text, "{name}='{value}'").expect("a string takes everything");
        };
        set("state", &state.path().to_string_lossy());
        for (name, value) in variables {
            set(name, value);
        }
        let mut paths = self.paths.clone();
        paths.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        paths.extend(["/usr/sbin".into(), "/sbin".into()]);
        let paths = std::env::join_paths(paths).expect("they come from PATH");
        writeln!(text, "export PATH='{}'", paths.to_string_lossy())
            .expect("a string takes everything");
        text += &self.prelude;
        text += "set -x\n";
        text += script;
        let file = folder.join("script");
        fs::write(&file, text).expect("the folder can be written");

        let mut command = if rustix::process::geteuid().is_root() {
            Command::new("unshare")
        } else {
            let mut command = Command::new("sudo");
            command.args(["--non-interactive", "unshare"]);
            command
        };
        command
            .args(["--mount", "--pid", "--ipc", "--uts"])
            .args((!self.sees_network).then_some("--net"))
            .args(["--fork", "--kill-child", "--mount-proc"])
            .arg("bash")
            .arg(&file)
            .current_dir(folder);
        output_bytes(&mut command)
    }

    /// Runs a script that must succeed and returns the text it wrote.
    #[track_caller]
    pub fn run(&self, folder: &Path, variables: &[(&str, &str)], script: &str) -> String {
        let bytes = self
            .output(folder, variables, script)
            .unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8(bytes).expect("the output is UTF-8")
    }
}
