//! Store paths whose names follow from what is in them.
//!
//! Such a path needs no signature: whoever has the content can compute the
//! name, and see that nobody changed it. A narinfo says so in its field `CA`:
//!
//! | field | the hash is of |
//! | --- | --- |
//! | `text:sha256:H` | a text file, as `builtins.toFile` makes it |
//! | `fixed:A:H` | a file's bytes, as `fetchurl` makes it |
//! | `fixed:r:A:H` | the NAR, as `fetchzip` and content-addressed derivations make it |
//! | `fixed:git:A:H` | a tree of git |
//!
//! Sources: `makeStorePath`, `makeFixedOutputPath` and `makeTextPath` in
//! NixOS/nix, `src/libstore/store-api.cc`, `compressHash` in
//! `src/libutil/hash.cc` (2.8).

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::digest::Digest;
use crate::store::{Quoted, StoreDir, StorePath, nix32};

/// Bytes of the hash in a store path.
const PATH_HASH_LEN: usize = 20;

/// A hash function that Nix knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// Of 16 bytes; anybody can make two contents of one hash.
    Md5,
    /// Of 20 bytes; that takes more work, and was done.
    Sha1,
    /// Of 32 bytes.
    Sha256,
    /// Of 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A hash of any kind that Nix knows, shown as `sha256:<digits of Nix's base
/// 32>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TypedHash {
    algorithm: HashAlgorithm,
    bytes: Box<[u8]>,
}

impl TypedHash {
    /// Returns which function made it.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns another hash by the same function.
    pub(super) fn with_bytes(&self, bytes: &[u8]) -> Self {
        Self {
            algorithm: self.algorithm,
            bytes: bytes.into(),
        }
    }
}

impl fmt::Display for TypedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            self.algorithm.name(),
            nix32::encode(&self.bytes)
        )
    }
}

impl fmt::Debug for TypedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a hash, or not the address of content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {expected}", Quoted(text))]
pub struct ParseContentAddressError {
    text: String,
    expected: &'static str,
}

impl FromStr for TypedHash {
    type Err = ParseContentAddressError;

    /// Reads `ALGORITHM:` and base 16, Nix's base 32 or base 64, or
    /// `ALGORITHM-` and base 64.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (name, digits) = text.split_once([':', '-'])?;
            let algorithm = [
                HashAlgorithm::Md5,
                HashAlgorithm::Sha1,
                HashAlgorithm::Sha256,
                HashAlgorithm::Sha512,
            ]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)?;
            let len = algorithm.len();
            let bytes = match digits.len() {
                n if n == 2 * len => HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok(),
                n if n == nix32::encoded_len(len) => nix32::decode(digits, len),
                n if n == BASE64.encode_len(len) => BASE64.decode(digits.as_bytes()).ok(),
                _ => None,
            }?;
            (bytes.len() == len).then(|| Self {
                algorithm,
                bytes: bytes.into(),
            })
        };
        read().ok_or_else(|| ParseContentAddressError {
            text: text.to_owned(),
            expected: "a hash: expected md5, sha1, sha256 or sha512, a colon, and its digits",
        })
    }
}

/// How the hash of an address is made of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentAddressMethod {
    /// Of a text file; the path has the names of the references in its own.
    Text,
    /// Of the bytes of a file that is not executable.
    Flat,
    /// Of the NAR; where the content mentions its own path, that is left out
    /// first.
    Nar,
    /// Of the content as git has it.
    Git,
}

/// What a store path's content must be, so that the path has its name:
/// the field `CA` of a narinfo, as which it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentAddress {
    /// How the hash is made.
    pub method: ContentAddressMethod,
    /// The hash.
    pub hash: TypedHash,
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            ContentAddressMethod::Text => "text",
            ContentAddressMethod::Flat => "fixed",
            ContentAddressMethod::Nar => "fixed:r",
            ContentAddressMethod::Git => "fixed:git",
        };
        write!(f, "{method}:{}", self.hash)
    }
}

impl FromStr for ContentAddress {
    type Err = ParseContentAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, hash) = if let Some(hash) = text.strip_prefix("text:") {
            (ContentAddressMethod::Text, hash)
        } else if let Some(rest) = text.strip_prefix("fixed:") {
            if let Some(hash) = rest.strip_prefix("r:") {
                (ContentAddressMethod::Nar, hash)
            } else if let Some(hash) = rest.strip_prefix("git:") {
                (ContentAddressMethod::Git, hash)
            } else {
                (ContentAddressMethod::Flat, rest)
            }
        } else {
            return Err(ParseContentAddressError {
                text: text.to_owned(),
                expected: "a content address: expected text:HASH or fixed:[r:|git:]HASH",
            });
        };
        let hash = hash.parse()?;
        Ok(Self { method, hash })
    }
}

impl ContentAddress {
    /// Returns the name of the store path that has this content and these
    /// references, the path itself left out; None if there can be none: only a
    /// text and a NAR hashed with SHA-256 can have references, and only the
    /// latter to itself.
    ///
    /// References must be sorted.
    pub fn store_path(
        &self,
        store_dir: &StoreDir,
        name: &str,
        references: &[StorePath],
        refers_to_itself: bool,
    ) -> Option<StorePath> {
        let is_sha256 = self.hash.algorithm == HashAlgorithm::Sha256;
        let (kind, hash) = match self.method {
            ContentAddressMethod::Text if is_sha256 && !refers_to_itself => (
                with_references("text", store_dir, references),
                self.base16(),
            ),
            ContentAddressMethod::Nar if is_sha256 => {
                let mut kind = with_references("source", store_dir, references);
                if refers_to_itself {
                    kind.push_str(":self");
                }
                (kind, self.base16())
            }
            ContentAddressMethod::Text => return None,
            _ if refers_to_itself || !references.is_empty() => return None,
            method => {
                let prefix = match method {
                    ContentAddressMethod::Nar => "r:",
                    ContentAddressMethod::Git => "git:",
                    _ => "",
                };
                let inner = format!("fixed:out:{prefix}{}:", self.base16());
                let inner = Digest::of(inner.as_bytes());
                ("output:out".to_owned(), inner.to_string())
            }
        };
        let text = format!("{kind}:{hash}:{store_dir}:{name}");
        let folded = fold(Digest::of(text.as_bytes()).as_bytes());
        format!("{}-{name}", nix32::encode(&folded)).parse().ok()
    }

    fn base16(&self) -> String {
        let hash = &self.hash;
        format!("{}:{}", hash.algorithm.name(), HEXLOWER.encode(&hash.bytes))
    }
}

fn with_references(kind: &str, store_dir: &StoreDir, references: &[StorePath]) -> String {
    let mut out = kind.to_owned();
    for reference in references {
        out.push(':');
        out.push_str(&store_dir.join(reference));
    }
    out
}

/// Folds a hash into the length that store paths have.
fn fold(hash: &[u8; 32]) -> [u8; PATH_HASH_LEN] {
    let mut out = [0; PATH_HASH_LEN];
    for (n, byte) in hash.iter().enumerate() {
        out[n % PATH_HASH_LEN] ^= byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(ca: &str, name: &str, references: &[&str], to_itself: bool) -> Option<String> {
        let references: Vec<_> = references
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let address: ContentAddress = ca.parse().unwrap();
        let path = address.store_path(&StoreDir::default(), name, &references, to_itself);
        path.map(|path| path.as_str().to_owned())
    }

    /// Paths and addresses of `nix-store --add-fixed [--recursive] ALGORITHM`
    /// of Nix 2.8.0.
    #[test]
    fn fixed_paths_are_those_of_nix() {
        for (ca, expected) in [
            (
                "fixed:sha256:1xk2hhjr0f2n4adj1h688wlz59xpl86y1r8bd2pjasg8gy16mikb",
                "rkf79g8l9nv68w00j1z80zjn9aw7szx3-flat.txt",
            ),
            (
                "fixed:sha512:3rvcx0ivajks0jxxbw41351y2yhjm1zn16g86h4zqz2wri8x894ikiallfqb1c6nkk\
                 ycb0xgfhrgkw6d1csgn78kwfkj2cy3dai4b4k",
                "mf9xmvbl2w1zsnb8bd0qxrz1c0wdh6q9-flat.txt",
            ),
            (
                "fixed:sha1:pplp5izjnj9j7sbk2hwv7dkbswqf61yj",
                "38clv6a2grhiakmlcsvqjb7s19p4xkz8-flat.txt",
            ),
            (
                "fixed:md5:5k3537sv5p3dmsj6l9n59sm9f9",
                "rbbirf40cy83k28qkv5hnc2xbyfvkl9r-flat.txt",
            ),
            (
                "fixed:r:sha256:14fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq7",
                "pxxq9d15qmiynlf1rjrf457hfghp18sw-tree",
            ),
            (
                "fixed:r:sha512:29nsld8gd13xwnsl877inp0ycvga2xmdnh8snbfpbh9n4b1wxv9qcyi0a3w7n1xi\
                 qgd49piv3fl485gb455v3j3nkryp7v8825yvvfl",
                "fxyh1pk191c1knzcaigm3snvki76qr8f-tree",
            ),
            (
                "fixed:r:sha1:c48g2bv3px8lnyzv0idmwxk7nxc5qk2z",
                "4y41mppjvd40f919g6mqmn0mxqi9ddhb-tree",
            ),
            (
                "fixed:r:md5:3dgr8qs34jc10kdaigs66avc9j",
                "40yf4aw2snxh70anvkw8k7i35byanjyj-tree",
            ),
        ] {
            let name = &expected[33..];
            assert_eq!(path(ca, name, &[], false).as_deref(), Some(expected));
            assert_ne!(path(ca, "other", &[], false).as_deref(), Some(expected));
            assert_eq!(ca.parse::<ContentAddress>().unwrap().to_string(), ca);
            if !ca.starts_with("fixed:r:sha256:") {
                assert_eq!(path(ca, name, &[expected], false), None);
                assert_eq!(path(ca, name, &[], true), None);
            }
        }
    }

    /// Paths of `builtins.toFile` and of `nix store make-content-addressed` of
    /// Nix 2.8.0.
    #[test]
    fn references_are_part_of_a_path() {
        let ca = "text:sha256:01ns9ckqga968iibqv5kdhrh83k8gzrs4ccvpipa7id3d2hik9id";
        let base = "wr5jkgyr28has8iqcl0rrqgpk608j9yn-base.txt";
        assert_eq!(
            path(ca, "text.conf", &[base], false).unwrap(),
            "c82prqxmxjsydbawq8zs59r32dsb0v4a-text.conf"
        );
        assert_ne!(
            path(ca, "text.conf", &[], false).unwrap(),
            "c82prqxmxjsydbawq8zs59r32dsb0v4a-text.conf"
        );
        assert_eq!(path(ca, "text.conf", &[base], true), None);
        let sha1 = "text:sha1:pplp5izjnj9j7sbk2hwv7dkbswqf61yj";
        assert_eq!(path(sha1, "text.conf", &[], false), None);

        let ca = "fixed:r:sha256:02003h4hnc1ngq23phqm4pxx0xcxrrc535l9rwkyj9wi1zqhykan";
        let text = "xb8ii0lxb25janp5c690dyh06mwjncy3-text.conf";
        assert_eq!(
            path(ca, "self", &[text], true).unwrap(),
            "xxvzbxpd7rcv76zhq6acszickwh25wsc-self"
        );
        assert_ne!(
            path(ca, "self", &[text], false).unwrap(),
            "xxvzbxpd7rcv76zhq6acszickwh25wsc-self"
        );
        let other: StoreDir = "/other/store".parse().unwrap();
        let address: ContentAddress = ca.parse().unwrap();
        let elsewhere = address.store_path(&other, "self", &[text.parse().unwrap()], true);
        assert_ne!(
            elsewhere.unwrap().as_str(),
            "xxvzbxpd7rcv76zhq6acszickwh25wsc-self"
        );
    }

    #[test]
    fn a_name_that_no_path_has_gives_none() {
        let ca = "fixed:r:sha256:14fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq7";
        assert_eq!(path(ca, "", &[], false), None);
        assert_eq!(path(ca, "a/b", &[], false), None);
    }

    #[test]
    fn hashes_are_read_in_every_encoding() {
        let hash: TypedHash = "sha1:pplp5izjnj9j7sbk2hwv7dkbswqf61yj".parse().unwrap();
        assert_eq!(hash.algorithm(), HashAlgorithm::Sha1);
        for text in [
            format!("sha1:{}", HEXLOWER.encode(hash.as_bytes())),
            format!("sha1-{}", BASE64.encode(hash.as_bytes())),
        ] {
            assert_eq!(text.parse(), Ok(hash.clone()));
        }
    }

    #[test]
    fn what_is_no_address_is_told() {
        for text in [
            "",
            "fixed",
            "fixed:",
            "fixed:r:",
            "fixed:x:sha256:14fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq7",
            "fixed:sha256:14fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq",
            "fixed:sha256:z4fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq7",
            "text:blake9:14fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq7",
        ] {
            let error = text.parse::<ContentAddress>().unwrap_err();
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }
}
