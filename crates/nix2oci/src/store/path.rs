//! Names of store objects, and the directory they live in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{Quoted, nix32};

/// Digits of the hash part of a store path.
const HASH_LEN: usize = 32;
/// Longest name part that Nix accepts.
pub(crate) const MAX_NAME_LEN: usize = 211;

/// The base name of a store object: 32 digits of hash, `-`, and a name.
///
/// The store directory is not part of it; [`StoreDir`] joins and splits the
/// two. Ordered as text, so by hash, as Nix orders store paths. Cheap to clone.
///
/// Source: `checkName` in NixOS/nix, `src/libstore/path.cc` (2.24: a name may
/// start with a dot, but is not `.`, `..`, and starts with neither `.-` nor
/// `..-`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// Returns the base name, `<hash>-<name>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the 32 digits of the hash.
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_LEN]
    }

    /// Returns the name after the hash and the dash.
    pub fn name(&self) -> &str {
        &self.0[HASH_LEN + 1..]
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not the name of a store object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseStorePathError {
    /// The path is not directly in the store directory.
    #[error("{} is not in the store directory {store_dir}", Quoted(text))]
    NotInStore {
        /// The text.
        text: String,
        /// The store directory.
        store_dir: String,
    },
    /// The hash part is missing or not 32 digits of Nix's base 32.
    #[error(
        "{} is not a store path: {}expected 32 digits of hash, a dash and a name",
        Quoted(text),
        hash_problem(text)
    )]
    Hash {
        /// The text.
        text: String,
    },
    /// The name part is empty, too long, or has a character that Nix refuses.
    #[error("{} is not a store path: {problem}", Quoted(text))]
    Name {
        /// The text.
        text: String,
        /// What is wrong with the name.
        problem: &'static str,
    },
}

/// Says what is wrong with a hash that is almost one, and how to read on.
fn hash_problem(text: &str) -> String {
    let Some((hash, _)) = text.split_once('-') else {
        return String::new();
    };
    let wrong = hash
        .chars()
        .find(|c| u8::try_from(*c).map_or(true, |byte| !nix32::is_digit(byte)));
    match (hash.chars().count(), wrong) {
        (HASH_LEN, Some(wrong)) => {
            format!("{wrong:?} is no digit of hashes, which have no e, o, t and u; ")
        }
        (digits, None) if digits != 0 => format!("its hash has {digits} digits; "),
        _ => String::new(),
    }
}

impl FromStr for StorePath {
    type Err = ParseStorePathError;

    /// Reads a base name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let hash_is_good = bytes.len() > HASH_LEN
            && bytes[..HASH_LEN].iter().all(|&b| nix32::is_digit(b))
            && bytes[HASH_LEN] == b'-';
        if !hash_is_good {
            return Err(ParseStorePathError::Hash {
                text: text.to_owned(),
            });
        }
        let name = &text[HASH_LEN + 1..];
        let problem = if name.is_empty() {
            Some("its name is empty")
        } else if name.len() > MAX_NAME_LEN {
            Some("its name is longer than 211 characters")
        } else if matches!(name, "." | "..") || name.starts_with(".-") || name.starts_with("..-") {
            Some("its name is reserved")
        } else if !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b))
        {
            Some("its name may have letters, digits and +-._?= only")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(ParseStorePathError::Name {
                text: text.to_owned(),
                problem,
            }),
            None => Ok(Self(text.into())),
        }
    }
}

/// The directory that store paths are in, such as `/nix/store`: absolute,
/// normalised, never `/`.
///
/// This is the logical directory, the one that programs in the image see.
/// Where a store really lies is a matter of
/// [`LocalStore`](crate::content::LocalStore).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoreDir(String);

impl Default for StoreDir {
    /// `/nix/store`.
    fn default() -> Self {
        Self("/nix/store".to_owned())
    }
}

impl StoreDir {
    /// Returns the directory as text, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Returns the names of the directories from the root to the store
    /// directory: `nix`, `store`.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// Returns the full path of a store path.
    pub fn join(&self, path: &StorePath) -> String {
        format!("{}/{path}", self.0)
    }

    /// Returns the full path of a store path below another root directory:
    /// `root/nix/store/…`.
    pub fn join_below(&self, root: &Path, path: &StorePath) -> PathBuf {
        let mut out = root.join(&self.0[1..]);
        out.push(path.as_str());
        out
    }

    /// Reads a full store path, which must be directly in this directory.
    pub fn parse_path(&self, text: &str) -> Result<StorePath, ParseStorePathError> {
        self.strip(text)
            .ok_or_else(|| ParseStorePathError::NotInStore {
                text: text.to_owned(),
                store_dir: self.0.clone(),
            })?
            .parse()
    }

    /// Reads a full store path or a bare base name.
    pub fn parse_path_or_name(&self, text: &str) -> Result<StorePath, ParseStorePathError> {
        if text.starts_with('/') {
            self.parse_path(text)
        } else {
            text.parse()
        }
    }

    /// Returns the store path that `path` is or lies in, and what is left of
    /// it: `/nix/store/…-hello/bin/hello` gives `…-hello` and `bin/hello`.
    pub fn split<'a>(&self, path: &'a str) -> Result<(StorePath, &'a str), ParseStorePathError> {
        let rest = self
            .strip(path)
            .ok_or_else(|| ParseStorePathError::NotInStore {
                text: path.to_owned(),
                store_dir: self.0.clone(),
            })?;
        let (name, inside) = rest.split_once('/').unwrap_or((rest, ""));
        Ok((name.parse()?, inside))
    }

    fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.0.as_str())?.strip_prefix('/')
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not a usable store directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a store directory: expected an absolute path without . or .., such as /nix/store"
)]
pub struct ParseStoreDirError {
    text: String,
}

impl FromStr for StoreDir {
    type Err = ParseStoreDirError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim_end_matches('/');
        let good = trimmed.starts_with('/')
            && trimmed[1..]
                .split('/')
                .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
        if good {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(ParseStoreDirError {
                text: text.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    #[test]
    fn a_path_has_a_hash_and_a_name() {
        let path: StorePath = format!("{HASH}-hello-2.12").parse().unwrap();
        assert_eq!((path.hash_part(), path.name()), (HASH, "hello-2.12"));
        let store = StoreDir::default();
        assert_eq!(
            store.parse_path(&format!("/nix/store/{path}")),
            Ok(path.clone())
        );
        assert_eq!(
            store.split(&format!("/nix/store/{path}/bin/hello")),
            Ok((path, "bin/hello"))
        );
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "a".repeat(212);
        for name in ["", ".", "..", ".-x", "..-x", "a/b", "a b", "ä", &long] {
            assert!(
                format!("{HASH}-{name}").parse::<StorePath>().is_err(),
                "{name}"
            );
        }
        for name in [".hidden", "a", "?=+-._", &long[1..]] {
            assert!(
                format!("{HASH}-{name}").parse::<StorePath>().is_ok(),
                "{name}"
            );
        }
        for text in ["", "hello", &HASH.replace('0', "e"), &HASH[1..], HASH] {
            assert!(text.parse::<StorePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_hash_that_is_almost_one_is_told_why() {
        for (hash, told) in [
            (
                HASH.replace('0', "t"),
                "'t' is no digit of hashes, which have no",
            ),
            (HASH[2..].to_owned(), "its hash has 30 digits; expected 32"),
            ("hello".to_owned(), "a store path: expected 32 digits"),
        ] {
            let error = format!("{hash}-a").parse::<StorePath>().unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
        let error = "\0".repeat(5000).parse::<StorePath>().unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn paths_outside_the_store_are_refused() {
        let store = StoreDir::default();
        for text in [
            format!("/nix/storex/{HASH}-a"),
            format!("/gnu/store/{HASH}-a"),
            format!("/nix/store/{HASH}-a/b"),
            "/nix/store".to_owned(),
            "/nix/store/".to_owned(),
        ] {
            assert!(store.parse_path(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn store_directories_are_absolute_and_plain() {
        for text in ["/nix/store", "/nix/store/", "/s", "/a/b/c"] {
            assert!(text.parse::<StoreDir>().is_ok(), "{text}");
        }
        for text in ["", "/", "nix/store", "/nix/../store", "/nix//store", "/./s"] {
            assert!(text.parse::<StoreDir>().is_err(), "{text}");
        }
    }
}
