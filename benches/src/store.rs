//! Closures with content.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix2oci::store::PathInfo;
use nix2oci::{Closure, LocalStore, StoreDir};
use nix2oci_tests::{MemoryStore, Node};
use tempfile::TempDir;

use super::{Random, machine_code, path_infos, store_path, text, whole_closure};

/// Returns store paths of about `bytes` bytes each, in files of all sizes:
/// programs and libraries, texts, symbolic links.
pub fn memory_store(paths: usize, bytes: usize) -> MemoryStore {
    (0..paths)
        .map(|n| (store_path(n), content(&mut Random::new(n as u64), bytes)))
        .collect::<Vec<_>>()
        .into()
}

fn content(random: &mut Random, bytes: usize) -> Node {
    let mut lib = Vec::new();
    let mut share = Vec::new();
    let mut made = 0;
    while made < bytes {
        // Many small files, and most bytes in few large ones.
        let len = (64 << random.below(15)) + random.below(2048);
        let len = len.min(bytes - made);
        made += len;
        let n = lib.len() + share.len();
        if random.below(2) == 0 {
            lib.push((
                format!("libpart{n}.so.{n}.1"),
                Node::executable(machine_code(random, len)),
            ));
            lib.push((
                format!("libpart{n}.so"),
                Node::symlink(format!("libpart{n}.so.{n}.1")),
            ));
        } else {
            share.push((
                format!("chapter-{n}-of-the-manual.txt"),
                Node::file(text(random, len)),
            ));
        }
    }
    Node::directory([
        ("lib", Node::directory(lib)),
        ("share", Node::directory([("doc", Node::directory(share))])),
    ])
}

/// A store in a temporary directory, and its closure.
#[derive(Debug)]
pub struct DiskStore {
    dir: TempDir,
    closure: Closure,
}

impl DiskStore {
    /// Writes `paths` store paths of about `bytes` bytes each.
    pub fn new(paths: usize, bytes: usize) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("nix2oci-bench-")
            .tempdir()?;
        // Held by its own guard from here on: a store's directories are
        // read-only, and removing them needs more than a `TempDir` does.
        let store = Self {
            dir,
            closure: whole_closure(sized(path_infos(paths), bytes)),
        };
        memory_store(paths, bytes).write(store.dir.path(), &StoreDir::default())?;
        Ok(store)
    }

    /// Returns the closure; NAR sizes are about right, NAR hashes are made up.
    pub fn closure(&self) -> &Closure {
        &self.closure
    }

    /// Returns the content.
    pub fn content(&self) -> LocalStore {
        LocalStore::below(self.dir.path(), &StoreDir::default())
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        // What stays behind is in the temporary directory and no harm.
        let _ = make_writable(self.dir.path());
    }
}

fn make_writable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

fn sized(mut infos: Vec<PathInfo>, bytes: usize) -> Vec<PathInfo> {
    for info in &mut infos {
        info.nar_size = Some(bytes as u64);
    }
    infos
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix2oci::Context;
    use nix2oci::content::nar_size;

    #[test]
    fn a_store_on_disk_has_the_content_and_goes_away() {
        let store = DiskStore::new(3, 100_000).unwrap();
        let root = store.dir.path().to_owned();
        let content = store.content();
        for info in store.closure().infos() {
            let size = nar_size(&Context::default(), &content, &info.path).unwrap();
            assert!((100_000..160_000).contains(&size), "{size}");
        }
        drop(store);
        assert!(!root.exists());
    }
}
