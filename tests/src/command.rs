//! Running programs: the command under test and real tools.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Returns the folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the repository")
}

/// Returns the command under test: `$NIX2OCI_BIN`, or the one Cargo builds now.
pub fn nix2oci() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("NIX2OCI_BIN") {
            return binary.into();
        }
        let build = run(Command::new(env!("CARGO"))
            .args(["build", "--package", "nix2oci-cli", "--message-format=json"])
            .current_dir(repository()));
        build
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
            .expect("Cargo says where the command is")
    })
}

/// Runs a program without input and returns what it wrote, or, if it failed,
/// what it complained about.
///
/// # Panics
///
/// If the program is not there: no test skips what it cannot run.
pub fn output_bytes(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?} could not be started ({error}); tests/install installs what is missing")
    });
    if !output.status.success() {
        let talk = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}\n{talk}", output.status));
    }
    Ok(output.stdout)
}

/// Like [`output_bytes`], for a program that writes text.
pub fn output(command: &mut Command) -> Result<String, String> {
    let bytes = output_bytes(command)?;
    Ok(String::from_utf8(bytes).expect("the output is UTF-8"))
}

/// Runs a program, which must succeed, and returns the text it wrote.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    output(command).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program, which must succeed, and returns the bytes it wrote.
#[track_caller]
pub fn run_bytes(command: &mut Command) -> Vec<u8> {
    output_bytes(command.stdin(Stdio::null())).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns skopeo with all it stores in `folder`, and nothing of the machine's
/// credentials, policies and caches. Subcommand and arguments follow.
pub fn skopeo(folder: &Path) -> Command {
    let mut command = Command::new("skopeo");
    command
        .args(["--insecure-policy", "--tmpdir"])
        .arg(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("XDG_DATA_HOME", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("REGISTRY_AUTH_FILE", folder.join("auth.json"))
        // Otherwise root's cache of blobs is below /var/lib whatever HOME says
        // (containers/image, pkg/blobinfocache).
        .env("_CONTAINERS_ROOTLESS_UID", "1000");
    command
}

/// Starts what ends a process when this one is gone, however it went: a test
/// that is killed drops nothing.
pub(crate) fn end_with_us(process: &Child) -> Child {
    Command::new("sh")
        // The pipe ends with the process that holds its other side.
        .args(["-c", "read -r line; kill \"$0\""])
        .arg(process.id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("every system has a shell")
}

/// `PATH`, and where packages put servers.
pub(crate) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]);
    std::env::join_paths(folders).expect("they come from PATH")
}
