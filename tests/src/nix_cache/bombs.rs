//! NARs that are made to harm who reads them, with narinfos that a trusted key
//! signed.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use super::{CacheKey, NixCache, sha256};

/// A NAR that no reader may come to grief by.
#[derive(Debug)]
pub struct Bomb {
    /// What is bad about it.
    pub name: &'static str,
    /// The words of which one must be in the error.
    pub words: &'static [&'static str],
    /// What its narinfo says of the NAR's size, or nothing for its true size.
    size: Option<u64>,
    nar: fn() -> Box<dyn Read + Send>,
}

/// Returns all of them.
pub fn bombs() -> Vec<Bomb> {
    vec![
        Bomb {
            name: "a file of an exabyte",
            words: &["1152921504606846976", "ends", "size"],
            size: None,
            nar: || cut_file(1 << 60),
        },
        Bomb {
            name: "a file of an exabyte, as the narinfo says",
            words: &["ends", "bytes"],
            size: Some((1 << 60) + 200),
            nar: || cut_file(1 << 60),
        },
        Bomb {
            name: "a file whose size is the largest number",
            words: &["18446744073709551615", "size", "bytes"],
            size: None,
            nar: || cut_file(u64::MAX),
        },
        Bomb {
            name: "a million folders in each other",
            words: &["deep", "nest", "long"],
            size: None,
            nar: || {
                let folder = texts(&["entry", "(", "name", "a", "node", "(", "type", "directory"]);
                let start = texts(&["nix-archive-1", "(", "type", "directory"]);
                let many = Repeated::new(&folder, 1_000_000);
                let ends = Repeated::new(&texts(&[")", ")"]), 1_000_000);
                Box::new(
                    io::Cursor::new(start)
                        .chain(many)
                        .chain(ends)
                        .chain(io::Cursor::new(texts(&[")"]))),
                )
            },
        },
        Bomb {
            name: "a name of a gigabyte",
            words: &["name", "long"],
            size: None,
            nar: || {
                let mut start = texts(&[
                    "nix-archive-1",
                    "(",
                    "type",
                    "directory",
                    "entry",
                    "(",
                    "name",
                ]);
                start.extend((1u64 << 30).to_le_bytes());
                Box::new(io::Cursor::new(start).chain(Repeated::new(&[b'a'; 4096], 1 << 18)))
            },
        },
        Bomb {
            name: "a symlink of a gigabyte",
            words: &["target", "symlink", "long"],
            size: None,
            nar: || {
                let mut start = texts(&["nix-archive-1", "(", "type", "symlink", "target"]);
                start.extend((1u64 << 30).to_le_bytes());
                Box::new(io::Cursor::new(start).chain(Repeated::new(&[b'a'; 4096], 1 << 18)))
            },
        },
        Bomb {
            name: "two gigabytes of zeros for a NAR of a kilobyte",
            words: &["1024", "928 are left"],
            size: Some(1024),
            nar: || {
                let zeros = Repeated::new(&[0; 1 << 16], 1 << 15);
                Box::new(
                    io::Cursor::new(file_head(1 << 31))
                        .chain(zeros)
                        .chain(io::Cursor::new(texts(&[")"]))),
                )
            },
        },
    ]
}

impl Bomb {
    /// Puts it into a cache, compressed by zstd.
    pub fn add(&self, cache: &NixCache, path: &str, key: &CacheKey) {
        let mut counted = Counted {
            inner: (self.nar)(),
            size: 0,
            hash: sha2::Digest::new(),
        };
        let mut zstd = Command::new("zstd")
            .args(["-1", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/install installs zstd");
        let mut stdin = zstd.stdin.take().expect("it is piped");
        let file = std::thread::scope(|scope| {
            let counted = &mut counted;
            scope.spawn(move || io::copy(counted, &mut stdin).expect("zstd reads all"));
            let output = zstd.wait_with_output().expect("the process is ours");
            assert!(output.status.success());
            output.stdout
        });
        let nar_hash = nix2oci::NarHash::new(sha2::Digest::finalize(counted.hash).into());
        // Its narinfo is written for an empty NAR first.
        cache.add(path, b"", &[], "zstd", key);
        cache.edit_file(path, |bytes| bytes.clone_from(&file));
        cache.edit_narinfo(path, |info| {
            info.set("FileHash", &sha256(&file));
            info.set("FileSize", &file.len().to_string());
            info.set("NarHash", &nar_hash.to_string());
            info.set("NarSize", &self.size.unwrap_or(counted.size).to_string());
            info.sign(key);
        });
    }
}

/// Texts as a NAR has them.
fn texts(texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// A NAR of a file up to its first byte.
fn file_head(size: u64) -> Vec<u8> {
    let mut bytes = texts(&["nix-archive-1", "(", "type", "regular", "contents"]);
    bytes.extend(size.to_le_bytes());
    bytes
}

/// A file in a NAR that ends too early.
fn cut_file(size: u64) -> Box<dyn Read + Send> {
    let bytes = [&file_head(size), &b"only this"[..]].concat();
    Box::new(io::Cursor::new(bytes))
}

/// The same bytes again and again.
struct Repeated {
    bytes: Vec<u8>,
    at: usize,
    left: u64,
}

impl Repeated {
    fn new(bytes: &[u8], times: u64) -> Self {
        Self {
            bytes: bytes.to_owned(),
            at: 0,
            left: times,
        }
    }
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.left > 0 {
            let most = (buffer.len() - filled).min(self.bytes.len() - self.at);
            buffer[filled..filled + most].copy_from_slice(&self.bytes[self.at..self.at + most]);
            filled += most;
            self.at += most;
            if self.at == self.bytes.len() {
                self.at = 0;
                self.left -= 1;
            }
        }
        Ok(filled)
    }
}

/// Counts and hashes what is read.
struct Counted {
    inner: Box<dyn Read + Send>,
    size: u64,
    hash: sha2::Sha256,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.size += read as u64;
        sha2::Digest::update(&mut self.hash, &buffer[..read]);
        Ok(read)
    }
}
