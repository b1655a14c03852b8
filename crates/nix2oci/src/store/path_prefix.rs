//! A store path as it is told where room is scarce.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{ParseStorePathError, StorePath};

/// Digits of a whole hash.
const WHOLE: usize = 32;

/// What comes after a hash of which only the beginning is known.
const CUT: char = '…';

/// A store path of which the name is known and the beginning of the hash: all
/// 32 digits of it, or fewer.
///
/// Images tell their store paths so, since hashes do not compress. Enough to
/// recognise a store path of a closure, not to find one in a store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePathPrefix {
    /// The name comes first, so that versions of a package are neighbours.
    name: Arc<str>,
    hash: Arc<str>,
}

impl StorePathPrefix {
    /// Cuts the hash of a store path to `digits`, at least one.
    pub fn of(path: &StorePath, digits: usize) -> Self {
        Self {
            name: path.name().into(),
            hash: path.hash_part()[..digits.clamp(1, WHOLE)].into(),
        }
    }

    /// Makes one of the beginning of a hash and a name.
    ///
    /// # Errors
    ///
    /// As [`StorePath::from_str`]; the error tells a hash with `0` for the
    /// digits that are not known.
    pub fn new(hash: &str, name: &str) -> Result<Self, ParseStorePathError> {
        let whole = match hash {
            "" => format!("-{name}"),
            _ => format!("{hash:0<WHOLE$}-{name}"),
        };
        let path: StorePath = whole.parse()?;
        Ok(Self::of(&path, hash.len()))
    }

    /// Returns the name after the hash and the dash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is known of the hash: 1 to 32 digits.
    pub fn hash_prefix(&self) -> &str {
        &self.hash
    }

    /// Returns whether this can be that store path.
    pub fn matches(&self, path: &StorePath) -> bool {
        *self.name == *path.name() && path.hash_part().starts_with(&*self.hash)
    }

    /// Returns whether both can be one store path, as far as is known.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.name == other.name
            && (self.hash.starts_with(&*other.hash) || other.hash.starts_with(&*self.hash))
    }

    /// Returns the store path, if its whole hash is known.
    pub fn whole(&self) -> Option<StorePath> {
        (self.hash.len() == WHOLE)
            .then(|| format!("{}-{}", self.hash, self.name).parse().ok())
            .flatten()
    }
}

impl From<&StorePath> for StorePathPrefix {
    fn from(path: &StorePath) -> Self {
        Self::of(path, WHOLE)
    }
}

impl fmt::Display for StorePathPrefix {
    /// Writes `HASH-NAME`, or `HA…-NAME` if the hash is cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hash)?;
        if self.hash.len() < WHOLE {
            write!(f, "{CUT}")?;
        }
        write!(f, "-{}", self.name)
    }
}

impl fmt::Debug for StorePathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StorePathPrefix {
    type Err = ParseStorePathError;

    /// Reads what is displayed: a base name, whose hash may be cut.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(CUT) {
            Some((hash, rest)) if hash.len() < WHOLE && !hash.is_empty() => {
                match rest.strip_prefix('-') {
                    Some(name) => Self::new(hash, name),
                    None => Err(ParseStorePathError::Hash {
                        text: text.to_owned(),
                    }),
                }
            }
            _ => text.parse::<StorePath>().map(|path| Self::from(&path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    fn path(name: &str) -> StorePath {
        format!("{HASH}-{name}").parse().unwrap()
    }

    #[test]
    fn a_prefix_is_shown_and_read_back() {
        for digits in [1, 8, 31, 32] {
            let prefix = StorePathPrefix::of(&path("glibc-2.40"), digits);
            let shown = prefix.to_string();
            let cut = if digits == 32 { "" } else { "…" };
            assert_eq!(shown, format!("{}{cut}-glibc-2.40", &HASH[..digits]));
            assert_eq!(shown.parse(), Ok(prefix.clone()));
            assert_eq!(
                StorePathPrefix::new(&HASH[..digits], "glibc-2.40"),
                Ok(prefix.clone())
            );
            assert_eq!(
                prefix.whole(),
                (digits == 32).then(|| path("glibc-2.40")),
                "{digits}"
            );
        }
        assert_eq!(StorePathPrefix::of(&path("a"), 0).hash_prefix(), "0");
        assert_eq!(StorePathPrefix::of(&path("a"), 99).hash_prefix(), HASH);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "…-a",
            "01…",
            "01…a",
            "01-a",
            "0e…-a",
            "01…-",
            "01…-a/b",
            "01…-..",
            &format!("{HASH}…-a"),
            "é…-a",
        ] {
            assert!(text.parse::<StorePathPrefix>().is_err(), "{text:?}");
        }
        assert!(StorePathPrefix::new("", "a").is_err());
        assert!(StorePathPrefix::new(&format!("{HASH}0"), "a").is_err());
        assert!(StorePathPrefix::new("é", "a").is_err());
        assert!(StorePathPrefix::new("01-a", "a").is_err());
    }

    #[test]
    fn a_prefix_matches_by_name_and_beginning() {
        let prefix = StorePathPrefix::of(&path("a"), 8);
        assert!(prefix.matches(&path("a")));
        assert!(!prefix.matches(&path("b")));
        let other: StorePath = format!("{}z-a", &HASH[..31]).parse().unwrap();
        assert!(prefix.matches(&other));
        assert!(prefix.agrees_with(&StorePathPrefix::from(&other)));
        assert!(StorePathPrefix::from(&other).agrees_with(&prefix));
        assert!(!StorePathPrefix::from(&other).matches(&path("a")) || other == path("a"));
        let elsewhere = StorePathPrefix::new("1", "a").unwrap();
        assert!(!elsewhere.matches(&path("a")) && !elsewhere.agrees_with(&prefix));
    }
}
