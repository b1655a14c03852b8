//! Binary caches in folders of their own: filled by `nix copy`, or by hand for
//! what Nix would not write.
//!
//! Source: the Nix manual of 2.8, "Nix archive (NAR)" and `nix help-stores`, and
//! `src/libstore/{nar-info,binary-cache-store,crypto}.cc` for what is in a
//! `.narinfo` and what is signed.

mod bombs;
mod key;
mod narinfo;
mod tampering;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix2oci::NarHash;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::command::run;
use crate::fixture_store::FixtureStore;

pub use bombs::{Bomb, bombs};
pub use key::CacheKey;
pub use narinfo::NarInfoText;
pub use tampering::{Shows, TAMPERINGS, Tampering};

/// The words for compressions that Nix 2.8 writes and readers are to know.
pub const COMPRESSIONS: [&str; 7] = ["none", "xz", "bzip2", "gzip", "zstd", "br", "lz4"];

/// A binary cache in a folder of its own.
#[derive(Debug)]
pub struct NixCache {
    folder: TempDir,
}

impl NixCache {
    /// Makes one of nothing, for `/nix/store`.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let cache = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let info = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n";
        cache.write("nix-cache-info", info);
        fs::create_dir(cache.folder().join("nar")).expect("the folder is ours");
        cache
    }

    /// Lets Nix copy the closure of a store path, signed by a key or by nobody.
    pub fn copied(
        store: &FixtureStore,
        path: &str,
        compression: &str,
        key: Option<&CacheKey>,
    ) -> Self {
        let cache = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let mut url = format!("{}?compression={compression}", cache.url());
        if let Some(key) = key {
            url += &format!("&secret-key={}", key.secret_file().display());
        }
        run(store.nix("nix").args(["copy", "--to", &url, path]));
        cache
    }

    /// Makes one of everything in a document of `nix path-info --json`, whose
    /// store is below `root`, signed by a key.
    pub fn of_path_info(document: &Value, root: &Path, compression: &str, key: &CacheKey) -> Self {
        let cache = Self::new();
        for entry in document.as_array().expect("it is a list") {
            let path = entry["path"].as_str().expect("it has a path");
            let references = entry["references"].as_array().expect("it has references");
            let references: Vec<_> = references.iter().filter_map(Value::as_str).collect();
            let at = root.join(path.trim_start_matches('/'));
            let nar = crate::command::run_bytes(Command::new("nix-store").arg("--dump").arg(at));
            cache.add(path, &nar, &references, compression, key);
        }
        cache
    }

    /// Adds a store path by hand, signed by a key. The compression is one that
    /// [`compress`] knows; references are full paths.
    pub fn add(
        &self,
        path: &str,
        nar: &[u8],
        references: &[&str],
        compression: &str,
        key: &CacheKey,
    ) {
        let file = compress(nar, compression);
        let name = file_name(&file, compression);
        self.write(&name, &file);
        let mut info = NarInfoText::default();
        info.set("StorePath", path);
        info.set("URL", &name);
        info.set("Compression", compression);
        info.set("FileHash", &sha256(&file));
        info.set("FileSize", &file.len().to_string());
        info.set("NarHash", &sha256(nar));
        info.set("NarSize", &nar.len().to_string());
        // In their order, as they are signed.
        let mut names: Vec<_> = references.iter().map(|path| base_name(path)).collect();
        names.sort_unstable();
        info.set("References", &names.join(" "));
        info.sign(key);
        self.write_narinfo(path, &info);
    }

    /// Makes another one that is the same.
    pub fn copy(&self) -> Self {
        let copy = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        run(Command::new("cp")
            .arg("-R")
            .arg(self.folder().join("."))
            .arg(copy.folder()));
        copy
    }

    /// Returns its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its URL: `file:///…`.
    pub fn url(&self) -> String {
        format!("file://{}", self.folder().display())
    }

    /// Returns the name of a store path's narinfo: `HASH.narinfo`.
    pub fn narinfo_name(path: &str) -> String {
        let (hash, _) = base_name(path).split_once('-').expect("it has a name");
        format!("{hash}.narinfo")
    }

    /// Reads the narinfo of a store path.
    pub fn narinfo(&self, path: &str) -> NarInfoText {
        let name = self.folder().join(Self::narinfo_name(path));
        let text = fs::read_to_string(&name).unwrap_or_else(|e| panic!("{}: {e}", name.display()));
        NarInfoText::parse(&text)
    }

    /// Writes the narinfo of a store path.
    pub fn write_narinfo(&self, path: &str, info: &NarInfoText) {
        self.write(&Self::narinfo_name(path), info.to_string());
    }

    /// Changes the narinfo of a store path.
    pub fn edit_narinfo(&self, path: &str, edit: impl FnOnce(&mut NarInfoText)) {
        let mut info = self.narinfo(path);
        edit(&mut info);
        self.write_narinfo(path, &info);
    }

    /// Returns the file with the NAR of a store path.
    pub fn nar_file(&self, path: &str) -> PathBuf {
        let info = self.narinfo(path);
        self.folder().join(info.get("URL").expect("it has one"))
    }

    /// Changes the file with the NAR of a store path, and nothing else.
    pub fn edit_file(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let file = self.nar_file(path);
        let mut bytes = fs::read(&file).expect("it is there");
        edit(&mut bytes);
        fs::write(&file, bytes).expect("the folder is ours");
    }

    /// Changes the NAR of a store path. The narinfo's fields of the file are
    /// right again then, those of the NAR say what they said.
    pub fn edit_nar(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let info = self.narinfo(path);
        let compression = info.get("Compression").expect("it has one");
        let file = fs::read(self.nar_file(path)).expect("it is there");
        let mut nar = decompress(&file, compression);
        edit(&mut nar);
        let file = compress(&nar, compression);
        self.edit_narinfo(path, |info| {
            info.set("FileHash", &sha256(&file));
            info.set("FileSize", &file.len().to_string());
        });
        fs::write(self.nar_file(path), file).expect("the folder is ours");
    }

    /// Writes a file below its folder.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.folder().join(name), bytes).expect("the folder is ours");
    }
}

/// Returns a store path without its folder.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().expect("there is always a last one")
}

/// Returns a SHA-256 as a narinfo has it.
pub fn sha256(bytes: &[u8]) -> String {
    NarHash::new(Sha256::digest(bytes).into()).to_string()
}

/// Returns the name of a file with a NAR, below the cache's folder, as Nix 2.8
/// gives it: gzip has no extension of its own.
fn file_name(file: &[u8], compression: &str) -> String {
    let hash = sha256(file);
    let (_, digits) = hash.split_once(':').expect("it names the algorithm");
    let extension = match compression {
        "none" | "gzip" => String::new(),
        "bzip2" => ".bz2".to_owned(),
        "zstd" => ".zst".to_owned(),
        other => format!(".{other}"),
    };
    format!("nar/{digits}.nar{extension}")
}

/// Compresses with the tools of this machine: none, xz, gzip or zstd.
pub fn compress(bytes: &[u8], compression: &str) -> Vec<u8> {
    match compression {
        "none" => bytes.to_owned(),
        tool => pipe(Command::new(tool).args(["-1", "-c"]), bytes),
    }
}

/// Undoes [`compress`].
pub fn decompress(bytes: &[u8], compression: &str) -> Vec<u8> {
    match compression {
        "none" => bytes.to_owned(),
        tool => pipe(Command::new(tool).args(["-d", "-c"]), bytes),
    }
}

/// Runs a program on some bytes.
fn pipe(command: &mut Command, bytes: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}; tests/install installs what is missing"));
    let mut stdin = child.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).expect("it reads all"));
        let output = child.wait_with_output().expect("the process is ours");
        assert!(output.status.success(), "{command:?}: {}", output.status);
        output.stdout
    })
}

#[cfg(test)]
mod tests;
