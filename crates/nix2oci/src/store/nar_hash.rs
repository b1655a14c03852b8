//! The hash of a store object's content.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::{Quoted, nix32};

/// The SHA-256 of a store object's NAR serialisation, shown as Nix does:
/// `sha256:<52 digits of Nix's base 32>`.
///
/// Reads every spelling that Nix writes: `sha256:` with base 32, base 16 or
/// base 64, the SRI form `sha256-<base 64>`, and bare base 16 or base 32 as in
/// `nix-store --dump-db`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; 32]);

impl NarHash {
    /// Takes the 32 bytes of a SHA-256.
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the SRI form, `sha256-<base 64>`.
    pub fn to_sri(&self) -> String {
        format!("sha256-{}", BASE64.encode(&self.0))
    }

    /// Returns the 64 hexadecimal digits, as the Nix database has them after
    /// `sha256:`.
    pub fn to_base16(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", nix32::encode(&self.0))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a NAR hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNarHashError {
    /// The hash is of another algorithm.
    #[error("{} is not a SHA-256 hash", Quoted(text))]
    Algorithm {
        /// The text.
        text: String,
    },
    /// The hash is not 32 bytes in any of Nix's encodings.
    #[error(
        "{} is not a hash: expected 32 bytes in base 16, Nix's base 32, or base 64",
        Quoted(text)
    )]
    Encoding {
        /// The text.
        text: String,
    },
}

impl FromStr for NarHash {
    type Err = ParseNarHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = match text.split_once([':', '-']) {
            Some(("sha256", digits)) => digits,
            Some(_) => {
                return Err(ParseNarHashError::Algorithm {
                    text: text.to_owned(),
                });
            }
            None => text,
        };
        let bytes = match digits.len() {
            64 => HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok(),
            52 => nix32::decode_32(digits).map(Vec::from),
            44 => BASE64.decode(digits.as_bytes()).ok(),
            _ => None,
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseNarHashError::Encoding {
                text: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_of_nix() {
        let hash = NarHash::new(crate::digest::Digest::of(b"").as_bytes().to_owned());
        for text in [
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ] {
            assert_eq!(text.parse(), Ok(hash), "{text}");
        }
        assert_eq!(
            hash.to_string(),
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
        );
        assert_eq!(
            hash.to_sri(),
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        assert_eq!(hash.to_base16().parse(), Ok(hash));
    }

    #[test]
    fn refuses_other_algorithms_and_lengths() {
        let algorithm = "sha512:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        assert!(matches!(
            algorithm.parse::<NarHash>(),
            Err(ParseNarHashError::Algorithm { .. })
        ));
        for text in ["", "sha256:", "sha256:00", "sha256:0mdqa9w1p6"] {
            assert!(
                matches!(
                    text.parse::<NarHash>(),
                    Err(ParseNarHashError::Encoding { .. })
                ),
                "{text}"
            );
        }
    }
}
