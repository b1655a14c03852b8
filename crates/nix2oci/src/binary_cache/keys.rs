//! Who is believed: public keys, and the signatures that they check.
//!
//! A key is `NAME:BASE64` with the 32 bytes of an Ed25519 key, a signature
//! `NAME:BASE64` with 64 bytes. The name only says which key to try.
//!
//! Sources: `Key`, `PublicKey` and `verifyDetached` in NixOS/nix,
//! `src/libstore/crypto.cc` (2.8); RFC 8032 for Ed25519.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::store::Quoted;

/// The key of <https://cache.nixos.org>, which Nix believes unless it is told
/// otherwise.
///
/// Source: `trusted-public-keys` in the Nix manual.
pub const CACHE_NIXOS_ORG: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// Bytes of an Ed25519 key.
const KEY_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
const SIGNATURE_LEN: usize = 64;

/// A key whose signatures are believed, shown as `NAME:BASE64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    name: String,
    key: [u8; KEY_LEN],
}

impl PublicKey {
    /// Returns the name that signatures call it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(&self.key))
    }
}

/// A text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePublicKeyError {
    /// It is a secret key, which is not shown.
    #[error(
        "the key {} is a secret one; expected its public key, of 32 bytes",
        Quoted(name)
    )]
    Secret {
        /// Its name.
        name: String,
    },
    /// It is no key at all. What follows the name is not shown: it may be a
    /// part of a secret one.
    #[error(
        "the key {} is no public key; expected NAME:BASE64, with 32 bytes",
        Quoted(name)
    )]
    Form {
        /// What is before the first colon; empty if there is none.
        name: String,
    },
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParsePublicKeyError::Form {
            name: text.split_once(':').map_or("", |(name, _)| name).to_owned(),
        };
        let (name, digits) = split(text).ok_or_else(form)?;
        let bytes = BASE64.decode(digits.as_bytes()).map_err(|_| form())?;
        match <[u8; KEY_LEN]>::try_from(bytes) {
            Ok(key) => Ok(Self {
                name: name.to_owned(),
                key,
            }),
            // As `nix-store --generate-binary-cache-key` writes it: the secret
            // half and the public one.
            Err(bytes) if bytes.len() == 2 * KEY_LEN => Err(ParsePublicKeyError::Secret {
                name: name.to_owned(),
            }),
            Err(_) => Err(form()),
        }
    }
}

/// The keys that are believed; none by default.
///
/// Read from a text, they are separated by spaces or line ends, as
/// `trusted-public-keys` of `nix.conf` has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublicKeys(Vec<PublicKey>);

impl PublicKeys {
    /// Returns the keys that Nix believes unless it is told otherwise.
    pub fn nix_default() -> Self {
        Self(vec![
            CACHE_NIXOS_ORG.parse().expect("the constant is a key"),
        ])
    }

    /// Adds a key. Several may have one name.
    pub fn insert(&mut self, key: PublicKey) {
        if !self.0.contains(&key) {
            self.0.push(key);
        }
    }

    /// Returns the keys, in the order they were added in.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a key of these made one of the signatures.
    pub(super) fn verify<'a>(
        &self,
        message: &[u8],
        signatures: impl IntoIterator<Item = &'a Signature>,
    ) -> bool {
        signatures.into_iter().any(|signature| {
            let mut named = self.0.iter().filter(|key| key.name == signature.key);
            named.any(|key| key.verifies(message, &signature.bytes))
        })
    }

    /// Returns the names of the keys, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(PublicKey::name).collect();
        names.join(", ")
    }
}

impl FromIterator<PublicKey> for PublicKeys {
    fn from_iter<T: IntoIterator<Item = PublicKey>>(keys: T) -> Self {
        let mut all = Self::default();
        all.extend(keys);
        all
    }
}

impl Extend<PublicKey> for PublicKeys {
    fn extend<T: IntoIterator<Item = PublicKey>>(&mut self, keys: T) {
        for key in keys {
            self.insert(key);
        }
    }
}

impl FromStr for PublicKeys {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_ascii_whitespace().map(str::parse).collect()
    }
}

/// What a key made of a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    key: String,
    bytes: [u8; SIGNATURE_LEN],
}

impl Signature {
    /// Returns the name of the key that is said to have made it.
    pub fn key_name(&self) -> &str {
        &self.key
    }

    /// Reads a signature; None if it is none, or one of another kind of key,
    /// which is as good as none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (key, digits) = split(text)?;
        let bytes = BASE64.decode(digits.as_bytes()).ok()?;
        Some(Self {
            key: key.to_owned(),
            bytes: bytes.try_into().ok()?,
        })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, BASE64.encode(&self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits the name of a key from what follows. A name has no spaces, since a
/// list of keys is separated by them.
fn split(text: &str) -> Option<(&str, &str)> {
    let (name, digits) = text.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control());
    is_name.then_some((name, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both made by `nix-store --generate-binary-cache-key` of Nix 2.8.0.
    const KEY: &str = "test.example-1:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=";
    const SECRET: &str = "test.example-1:4xdxNcQsVVymSDR6tYm2hQbZ9EB5SsLarxeBpQ0fomHtFlv5pkF9+\
                          l1sd7dwVORcH0xBhvVJrmTdvNKFnJ9M7A==";
    // `nix store sign` of Nix 2.8.0, of this message.
    const MESSAGE: &[u8] = b"1;/nix/store/wr5jkgyr28has8iqcl0rrqgpk608j9yn-base.txt;sha256:\
        1xga7qa3wjdkhc71mbz9wm36q1nl7z2c95sl9529vindmjnrdn0z;120;";
    const SIGNATURE: &str = "test.example-1:E+pEe6f9hrS3SMIJlNTVl7y9u9n7MfWz4rY3hj630PRdsvnTEG0o\
                             dFPZ5e2XqYM7ygvqBxFUmfmTU+T4C9K+Bw==";

    #[test]
    fn a_key_checks_signatures_of_nix() {
        let keys: PublicKeys = KEY.parse().unwrap();
        let signature = Signature::parse(SIGNATURE).unwrap();
        assert_eq!(signature.to_string(), SIGNATURE);
        assert!(keys.verify(MESSAGE, [&signature]));

        assert!(!keys.verify(&MESSAGE[1..], [&signature]));
        assert!(!keys.verify(MESSAGE, []));
        assert!(!PublicKeys::nix_default().verify(MESSAGE, [&signature]));
        let mut other = signature.clone();
        other.bytes[0] ^= 1;
        assert!(!keys.verify(MESSAGE, [&other]));
        assert!(keys.verify(MESSAGE, [&other, &signature]));
        let renamed = Signature {
            key: "cache.nixos.org-1".to_owned(),
            ..signature
        };
        assert!(!keys.verify(MESSAGE, [&renamed]), "the name says which key");
    }

    /// A name may stand for several keys, as while one replaces another.
    #[test]
    fn all_keys_of_a_name_are_tried() {
        let other = KEY.replace("7RZb", "8RZb");
        let keys: PublicKeys = format!("{other}\n {KEY} {KEY}").parse().unwrap();
        assert_eq!(keys.iter().count(), 2);
        let signature = Signature::parse(SIGNATURE).unwrap();
        assert!(keys.verify(MESSAGE, [&signature]));
        let keys: PublicKeys = other.parse().unwrap();
        assert!(!keys.verify(MESSAGE, [&signature]));
    }

    #[test]
    fn keys_are_read_and_shown() {
        for text in [KEY, CACHE_NIXOS_ORG] {
            assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        }
        assert_eq!("".parse(), Ok(PublicKeys::default()));
        assert_eq!(CACHE_NIXOS_ORG.parse(), Ok(PublicKeys::nix_default()));
        for text in [
            "",
            ":",
            "name:",
            ":7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=",
            "7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=",
            "name:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw",
            "name:7RZb",
            "a b:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=",
        ] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert!(matches!(error, ParsePublicKeyError::Form { .. }), "{text}");
        }
    }

    #[test]
    fn a_secret_key_is_not_shown() {
        let error = SECRET.parse::<PublicKey>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the key \"test.example-1\" is a secret one; expected its public key, of 32 bytes"
        );
        for text in [&SECRET[..40], &SECRET[15..]] {
            let error = text.parse::<PublicKey>().unwrap_err().to_string();
            assert!(!error.contains("4xdx"), "{error}");
        }
    }

    #[test]
    fn what_is_no_signature_is_none() {
        for text in ["", "x", "x:", "x:AAAA", &SIGNATURE[..40], KEY] {
            assert_eq!(Signature::parse(text), None, "{text}");
        }
    }
}
