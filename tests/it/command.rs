//! The command under test, and hand-made closures for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// Returns the folder of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the repository")
}

/// Returns the command under test: `$NIX2OCI_BIN`, or the one Cargo builds now.
pub(crate) fn nix2oci() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("NIX2OCI_BIN") {
            return binary.into();
        }
        let build = Command::new(env!("CARGO"))
            .args(["build", "--package", "nix2oci-cli", "--message-format=json"])
            .current_dir(repository())
            .output()
            .expect("Cargo runs the tests, so it is there");
        let talk = String::from_utf8_lossy(&build.stderr);
        assert!(build.status.success(), "{talk}");
        String::from_utf8_lossy(&build.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
            .expect("Cargo says where the command is")
    })
}

/// Returns the base name and the full path of a store path.
pub(crate) fn store_path(n: usize, name: &str) -> (String, String) {
    let base = format!("{n:032}-{name}");
    let path = format!("/nix/store/{base}");
    (base, path)
}

/// Returns a text reference graph.
pub(crate) fn graph(paths: &[(String, Vec<String>)]) -> String {
    let mut text = String::new();
    for (path, references) in paths {
        text.push_str(&format!("{path}\n\n{}\n", references.len()));
        for reference in references {
            text.push_str(&format!("{reference}\n"));
        }
    }
    text
}
