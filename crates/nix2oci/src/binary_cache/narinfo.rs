//! What a binary cache says of a store path.
//!
//! ```text
//! StorePath: /nix/store/…-hello-2.12
//! URL: nar/….nar.xz
//! Compression: xz
//! FileHash: sha256:…
//! FileSize: 50160
//! NarHash: sha256:…
//! NarSize: 226560
//! References: …-glibc-2.38 …-hello-2.12
//! Deriver: …-hello-2.12.drv
//! Sig: cache.nixos.org-1:…
//! ```
//!
//! Read as Nix reads it: other fields are passed over, the compression is bzip2
//! if none is named, and the last line must have an end, which shows that
//! nothing is cut off. Other than in Nix, a field that is there twice is an
//! error, signatures excepted, and the URL cannot lead out of the cache.
//!
//! Source: `NarInfo` in NixOS/nix, `src/libstore/nar-info.cc`,
//! `ValidPathInfo::fingerprint` in `src/libstore/path-info.cc` (2.8).

use std::fmt::Write as _;

use crate::store::{NarHash, PathInfo, Quoted, StoreDir, StorePath};

use super::NarCompression;
use super::content_address::{ContentAddress, TypedHash};
use super::keys::Signature;

/// The bytes of a narinfo that are read at most. The references make one long:
/// so many bytes are some 16,000 of them.
pub const MAX_NARINFO_SIZE: u64 = 1 << 20;

/// Signatures that are looked at; each costs time.
const MAX_SIGNATURES: usize = 100;

/// No URL of a NAR is near this long.
const MAX_URL_LEN: usize = 2048;

/// What a binary cache says of a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NarInfo {
    /// The store path.
    pub path: StorePath,
    /// What it refers to, sorted, without itself.
    pub references: Vec<StorePath>,
    /// Whether it refers to itself.
    pub refers_to_itself: bool,
    /// The hash of its NAR.
    pub nar_hash: NarHash,
    /// The bytes of its NAR; not 0.
    pub nar_size: u64,
    /// The derivation that made it, if the cache tells.
    pub deriver: Option<StorePath>,
    /// Where the NAR is, relative to the cache: `nar/….nar.xz`; or, which Nix
    /// takes as well, an address of a server.
    pub url: String,
    /// How the NAR is compressed.
    pub compression: NarCompression,
    /// The hash of the compressed NAR, if the cache tells.
    pub file_hash: Option<TypedHash>,
    /// The bytes of the compressed NAR, if the cache tells.
    pub file_size: Option<u64>,
    /// Who vouches for the fields that say what is in the path.
    pub signatures: Vec<Signature>,
    /// From what content the path has its name, if it has it from there.
    pub content_address: Option<ContentAddress>,
}

/// A text is not a narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ParseNarInfoError {
    problem: String,
}

impl From<String> for ParseNarInfoError {
    fn from(problem: String) -> Self {
        Self { problem }
    }
}

impl NarInfo {
    /// Reads a narinfo. Nothing of it is believed yet.
    pub fn parse(bytes: &[u8], store_dir: &StoreDir) -> Result<Self, ParseNarInfoError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            format!("line {line}: expected text in UTF-8")
        })?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("it ends within a line, so something is cut off"
                .to_owned()
                .into());
        }
        let mut fields = Fields::default();
        for (line, number) in text.lines().zip(1..) {
            let at = |problem: String| ParseNarInfoError {
                problem: format!("line {number}: {problem}"),
            };
            let (key, value) = line
                .split_once(':')
                .ok_or_else(|| at(format!("expected \"KEY: VALUE\", found {}", Quoted(line))))?;
            let value = value.strip_prefix(' ').unwrap_or(value);
            fields.take(key, value, store_dir).map_err(at)?;
        }
        fields.finish()
    }

    /// Returns what an image needs to know of the path.
    pub fn path_info(&self) -> PathInfo {
        PathInfo {
            path: self.path.clone(),
            references: self.references.clone(),
            refers_to_itself: self.refers_to_itself,
            nar_hash: Some(self.nar_hash),
            nar_size: Some(self.nar_size),
            deriver: self.deriver.clone(),
        }
    }

    /// Returns what signatures are made of: path, hash and size of the NAR, and
    /// references.
    pub fn fingerprint(&self, store_dir: &StoreDir) -> String {
        let mut text = format!(
            "1;{};{};{};",
            store_dir.join(&self.path),
            self.nar_hash,
            self.nar_size
        );
        let itself = self.refers_to_itself.then_some(&self.path);
        let place = self.references.partition_point(|other| *other < self.path);
        let (before, after) = self.references.split_at(place);
        for (n, reference) in before.iter().chain(itself).chain(after).enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(text, "{comma}{store_dir}/{reference}").expect("a text takes all");
        }
        text
    }

    /// Returns whether the NAR is at an address of its own.
    pub(super) fn url_is_absolute(&self) -> bool {
        is_absolute(&self.url)
    }

    /// Returns where the NAR is, for errors: a query may be a secret.
    pub(super) fn url_without_query(&self) -> &str {
        without_query(&self.url)
    }

    /// Returns the bytes that are downloaded to have the path: those of the
    /// NAR where the cache does not tell those of the file.
    pub fn download_size(&self) -> u64 {
        self.file_size.unwrap_or(self.nar_size)
    }
}

/// The fields as they come.
#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    references: Option<Vec<StorePath>>,
    nar_hash: Option<NarHash>,
    nar_size: Option<u64>,
    deriver: Option<Option<StorePath>>,
    url: Option<String>,
    compression: Option<NarCompression>,
    file_hash: Option<TypedHash>,
    file_size: Option<u64>,
    content_address: Option<Option<ContentAddress>>,
    signatures: Vec<Signature>,
}

impl Fields {
    fn take(&mut self, key: &str, value: &str, store_dir: &StoreDir) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{key}: {error}");
        let number = || {
            let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = is_plain.then(|| value.parse::<u64>().ok()).flatten();
            number.ok_or_else(|| format!("{key} is {}, expected bytes", Quoted(value)))
        };
        let is_new = match key {
            "StorePath" => {
                let path = store_dir.parse_path(value).map_err(|e| wrong(&e))?;
                self.path.replace(path).is_none()
            }
            "References" => {
                let names = value.split(' ').filter(|name| !name.is_empty());
                let references: Result<Vec<StorePath>, _> = names.map(str::parse).collect();
                let references = references.map_err(|e| wrong(&e))?;
                self.references.replace(references).is_none()
            }
            "NarHash" => {
                let hash = value.parse().map_err(|e| wrong(&e))?;
                self.nar_hash.replace(hash).is_none()
            }
            "NarSize" => self.nar_size.replace(number()?).is_none(),
            "Deriver" => {
                let deriver = match value {
                    "" | "unknown-deriver" => None,
                    name => Some(name.parse().map_err(|e| wrong(&e))?),
                };
                self.deriver.replace(deriver).is_none()
            }
            "URL" => {
                let url = check_url(value).map_err(|problem| {
                    format!("URL is {}, {problem}", Quoted(without_query(value)))
                })?;
                self.url.replace(url.to_owned()).is_none()
            }
            "Compression" => {
                let compression = match value {
                    "" => NarCompression::default(),
                    word => word.parse().map_err(|e| wrong(&e))?,
                };
                self.compression.replace(compression).is_none()
            }
            "FileHash" => {
                let hash = value.parse().map_err(|e| wrong(&e))?;
                self.file_hash.replace(hash).is_none()
            }
            "FileSize" => self.file_size.replace(number()?).is_none(),
            // What newer versions of Nix may write there is as good as none: the
            // path needs a signature then.
            "CA" => self.content_address.replace(value.parse().ok()).is_none(),
            "Sig" => {
                if self.signatures.len() < MAX_SIGNATURES {
                    self.signatures.extend(Signature::parse(value));
                }
                true
            }
            _ => true,
        };
        if is_new {
            Ok(())
        } else {
            Err(format!("{key} is there twice"))
        }
    }

    fn finish(self) -> Result<NarInfo, ParseNarInfoError> {
        let missing = |key: &str| format!("{key} is missing");
        let path = self.path.ok_or_else(|| missing("StorePath"))?;
        let mut references = self.references.unwrap_or_default();
        let all = references.len();
        references.retain(|reference| *reference != path);
        let refers_to_itself = references.len() < all;
        references.sort_unstable();
        references.dedup();
        let nar_size = self.nar_size.ok_or_else(|| missing("NarSize"))?;
        if nar_size == 0 {
            return Err("NarSize is 0, and no NAR is empty".to_owned().into());
        }
        Ok(NarInfo {
            path,
            references,
            refers_to_itself,
            nar_hash: self.nar_hash.ok_or_else(|| missing("NarHash"))?,
            nar_size,
            deriver: self.deriver.flatten(),
            url: self.url.ok_or_else(|| missing("URL"))?,
            compression: self.compression.unwrap_or_default(),
            file_hash: self.file_hash,
            // Nix writes and reads 0 for a size that is not known.
            file_size: self.file_size.filter(|size| *size != 0),
            signatures: self.signatures,
            content_address: self.content_address.flatten(),
        })
    }
}

fn is_absolute(url: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}

fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}

/// Checks that a URL stays in the cache, on a server and on a disk: names with
/// slashes between, none of them a way up, and perhaps a query. One that says
/// what it is may lead to another server, under the rules of a redirect.
fn check_url(url: &str) -> Result<&str, &'static str> {
    if url.len() > MAX_URL_LEN {
        return Err("expected one that is not so long");
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\#".contains(&byte);
    if is_absolute(url) && url.bytes().all(is_plain) {
        return Ok(url);
    }
    let (path, _) = url.split_once('?').unwrap_or((url, ""));
    let first = path.split('/').next().unwrap_or_default();
    if first.contains(':') {
        return Err("expected one within the cache");
    }
    let leads_up = |name: &str| {
        let name = name.to_ascii_lowercase().replace("%2e", ".");
        matches!(&*name, "" | "." | "..") || name.contains("%2f") || name.contains("%5c")
    };
    if !url.bytes().all(is_plain) || path.split('/').any(leads_up) {
        return Err("expected names with slashes between, such as nar/….nar.xz");
    }
    Ok(url)
}

#[cfg(test)]
#[path = "narinfo_tests.rs"]
mod tests;
