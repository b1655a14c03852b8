//! Keys that sign narinfos.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;
use ring::signature::Ed25519KeyPair;
use tempfile::TempDir;

use crate::command::run;

/// A pair of keys that Nix made.
#[derive(Debug)]
pub struct CacheKey {
    folder: TempDir,
    name: String,
    public: String,
}

impl CacheKey {
    /// Lets Nix make a pair of keys of this name.
    pub fn generate(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (secret, public) = (folder.path().join("secret"), folder.path().join("public"));
        run(Command::new("nix-store")
            .args(["--generate-binary-cache-key", name])
            .args([&secret, &public]));
        Self {
            name: name.to_owned(),
            public: fs::read_to_string(public).expect("Nix wrote it"),
            folder,
        }
    }

    /// Returns the public key as users write it: `NAME:BASE64`.
    pub fn public(&self) -> &str {
        self.public.trim_end()
    }

    /// Returns the file with the secret key.
    pub fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Signs a text as Nix does: `NAME:BASE64`.
    pub fn sign(&self, text: &str) -> String {
        let seed = seed(&self.secret_file());
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed is 32 bytes");
        let signature = BASE64.encode(pair.sign(text.as_bytes()).as_ref());
        format!("{}:{signature}", self.name)
    }
}

/// Reads the seed, which a secret key of libsodium starts with; the public key
/// follows.
fn seed(file: &Path) -> Vec<u8> {
    let text = fs::read_to_string(file).expect("Nix wrote it");
    let (_, key) = text.trim_end().split_once(':').expect("it has a name");
    let mut bytes = BASE64.decode(key.as_bytes()).expect("it is base 64");
    assert_eq!(bytes.len(), 64, "as libsodium has it");
    bytes.truncate(32);
    bytes
}
