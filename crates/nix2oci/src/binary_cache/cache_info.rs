//! What a binary cache says of itself: the file `nix-cache-info`.
//!
//! ```text
//! StoreDir: /nix/store
//! WantMassQuery: 1
//! Priority: 40
//! ```
//!
//! Read as Nix reads it: lines without a colon and other fields are passed
//! over. Sources: the Nix manual, "Binary Cache Info";
//! `BinaryCacheStore::init` in NixOS/nix, `src/libstore/binary-cache-store.cc`
//! (2.8).

use crate::store::{Quoted, StoreDir};

/// The bytes that are read at most; Nix writes less than 100.
pub(super) const MAX_CACHE_INFO_SIZE: u64 = 64 << 10;

/// The priority of a cache that tells none.
///
/// Source: `BinaryCacheStoreConfig` and `StoreConfig::priority`, whose default
/// is 50 for HTTP and for files.
pub(super) const DEFAULT_PRIORITY: u64 = 50;

/// What a binary cache says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NixCacheInfo {
    /// The directory of its store paths, if it tells.
    pub(super) store_dir: Option<StoreDir>,
    /// When it is asked: before caches with a larger number.
    pub(super) priority: Option<u64>,
}

impl NixCacheInfo {
    /// Reads the file; tells what is wrong with it otherwise.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "expected text in UTF-8".to_owned())?;
        let mut info = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match key {
                "StoreDir" => {
                    let store_dir = value
                        .parse()
                        .map_err(|error| format!("StoreDir: {error}"))?;
                    info.store_dir = Some(store_dir);
                }
                "Priority" => {
                    let priority = value.parse().map_err(|_| {
                        format!("Priority is {}, expected a number from 0", Quoted(value))
                    })?;
                    info.priority = Some(priority);
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_tells_its_store_and_its_priority() {
        // https://cache.nixos.org/nix-cache-info
        let text = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";
        let info = NixCacheInfo::parse(text).unwrap();
        assert_eq!(info.store_dir, Some(StoreDir::default()));
        assert_eq!(info.priority, Some(40));
        // `nix copy --to file://…` of Nix 2.8.0
        let info = NixCacheInfo::parse(b"StoreDir: /nix/store\n").unwrap();
        assert_eq!(info.priority, None);
        let info = NixCacheInfo::parse(b"hello\nX: y\nPriority:7\r\n").unwrap();
        assert_eq!(info.priority, Some(7));
        assert_eq!(NixCacheInfo::parse(b""), Ok(NixCacheInfo::default()));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (text, told) in [
            (&b"Priority: -1\n"[..], "Priority is \"-1\", expected"),
            (b"Priority: many\n", "expected a number"),
            (
                b"StoreDir: nix\n",
                "StoreDir: \"nix\" is not a store directory",
            ),
            (b"\xff", "expected text"),
        ] {
            let error = NixCacheInfo::parse(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
