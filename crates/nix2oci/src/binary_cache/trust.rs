//! Whether what a binary cache says of a store path is believed.

use std::fmt;

use crate::store::{Quoted, StoreDir};

use super::content_address::{ContentAddress, ContentAddressMethod, HashAlgorithm};
use super::keys::{PublicKey, PublicKeys};
use super::narinfo::NarInfo;

/// What is believed of binary caches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// What a key of these signed, and store paths whose names follow from
    /// their content.
    Keys(PublicKeys),
    /// All that they say.
    Everything,
}

impl Default for Trust {
    /// The key of <https://cache.nixos.org>.
    fn default() -> Self {
        Self::Keys(PublicKeys::nix_default())
    }
}

/// Why a narinfo is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Voucher {
    /// A trusted key signed it, or everything is believed.
    Signed,
    /// The path has its name from its content, whose NAR hash is the one that
    /// the narinfo tells: no more to check than that.
    Named,
    /// The path has its name from content that has this address, which is
    /// checked when the content is read.
    NamedFrom(ContentAddress),
}

/// Keys that are told of that signed a path and are not trusted.
const MOST_SIGNERS: usize = 3;

/// Why a narinfo is not believed, to be said after the path's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The names of the keys that are said to have signed it.
    signers: Vec<String>,
    /// Whether one of them has the name of a trusted key.
    is_forged: bool,
    keys: String,
    /// Why its address does not help, if it has one.
    address: Option<String>,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = &self.keys;
        match &self.signers[..] {
            [] => write!(f, "is not signed")?,
            _ if keys.is_empty() => write!(f, "is signed, but no key is trusted")?,
            _ if self.is_forged => {
                write!(f, "has no valid signature by a trusted key ({keys})")?;
            }
            signers => {
                let shown = &signers[..signers.len().min(MOST_SIGNERS)];
                let signers = shown.join(", ");
                write!(
                    f,
                    "is signed by {signers}, which is not trusted (trusted: {keys})"
                )?;
            }
        }
        match &self.address {
            Some(address) => write!(f, ", and {address}"),
            None => Ok(()),
        }
    }
}

impl Trust {
    /// Returns why a narinfo is believed.
    pub(super) fn judge(&self, info: &NarInfo, store_dir: &StoreDir) -> Result<Voucher, Doubt> {
        let Self::Keys(keys) = self else {
            return Ok(Voucher::Signed);
        };
        let fingerprint = info.fingerprint(store_dir);
        if keys.verify(fingerprint.as_bytes(), &info.signatures) {
            return Ok(Voucher::Signed);
        }
        let doubt = |address| Doubt {
            signers: info
                .signatures
                .iter()
                .map(|signature| Quoted(signature.key_name()).to_string())
                .collect(),
            is_forged: info.signatures.iter().any(|signature| {
                let mut names = keys.iter().map(PublicKey::name);
                names.any(|name| name == signature.key_name())
            }),
            keys: keys.names(),
            address,
        };
        match &info.content_address {
            None => Err(doubt(None)),
            Some(address) => {
                by_address(info, address, store_dir).map_err(|problem| doubt(Some(problem)))
            }
        }
    }
}

/// Returns why a path with a content address needs no signature, or what is
/// wrong with the address.
fn by_address(
    info: &NarInfo,
    address: &ContentAddress,
    store_dir: &StoreDir,
) -> Result<Voucher, String> {
    let is_weak = matches!(
        address.hash.algorithm(),
        HashAlgorithm::Md5 | HashAlgorithm::Sha1
    );
    if is_weak || address.method == ContentAddressMethod::Git {
        return Err(format!(
            "its content address {address} is of a kind that is not checked here"
        ));
    }
    let name = info.path.name();
    let path = address.store_path(store_dir, name, &info.references, info.refers_to_itself);
    if path.as_ref() != Some(&info.path) {
        return Err(format!(
            "its name does not follow from its content address {address} and its references"
        ));
    }
    if info.refers_to_itself {
        return Err(format!(
            "its content mentions the path itself, so its content address {address} is not \
             checked here"
        ));
    }
    let is_nar_hash = address.method == ContentAddressMethod::Nar
        && address.hash.algorithm() == HashAlgorithm::Sha256;
    if !is_nar_hash {
        return Ok(Voucher::NamedFrom(address.clone()));
    }
    if address.hash.as_bytes() == info.nar_hash.as_bytes() {
        Ok(Voucher::Named)
    } else {
        Err(format!(
            "its NAR hash {} is not that of its content address {address}",
            info.nar_hash
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "test.example-1:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=";

    // Of `nix copy --to file://…` of Nix 2.8.0: a text of `builtins.toFile`,
    // signed; a file of `nix-store --add-fixed sha512`; a tree of `nix-store
    // --add`; and one made content-addressed that mentions itself, signed.
    const TEXT: &str =
        include_str!("../../../../fixtures/cache/c82prqxmxjsydbawq8zs59r32dsb0v4a.narinfo");
    const FLAT: &str =
        include_str!("../../../../fixtures/cache/mf9xmvbl2w1zsnb8bd0qxrz1c0wdh6q9.narinfo");
    const TREE: &str =
        include_str!("../../../../fixtures/cache/pxxq9d15qmiynlf1rjrf457hfghp18sw.narinfo");
    const TREE_SHA1: &str =
        include_str!("../../../../fixtures/cache/4y41mppjvd40f919g6mqmn0mxqi9ddhb.narinfo");
    const SELF: &str =
        include_str!("../../../../fixtures/cache/xxvzbxpd7rcv76zhq6acszickwh25wsc.narinfo");

    fn judge(text: &str, trust: &Trust) -> Result<Voucher, String> {
        let store_dir = StoreDir::default();
        let info = NarInfo::parse(text.as_bytes(), &store_dir).unwrap();
        trust
            .judge(&info, &store_dir)
            .map_err(|doubt| doubt.to_string())
    }

    fn key() -> Trust {
        Trust::Keys(KEY.parse().unwrap())
    }

    fn unsigned(text: &str) -> String {
        let lines = text.lines().filter(|line| !line.starts_with("Sig: "));
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_trusted_key_vouches() {
        for text in [TEXT, SELF] {
            assert_eq!(judge(text, &key()), Ok(Voucher::Signed));
        }
        let text = TEXT.replace("NarSize: 176", "NarSize: 177");
        assert_eq!(judge(&text, &Trust::Everything), Ok(Voucher::Signed));
        let without = SELF.lines().filter(|line| !line.starts_with("CA: "));
        let without: String = without.map(|line| format!("{line}\n")).collect();
        assert_eq!(judge(&without, &key()), Ok(Voucher::Signed));
        assert_eq!(
            judge(&without, &Trust::default()).unwrap_err(),
            "is signed by \"test.example-1\", which is not trusted (trusted: cache.nixos.org-1)"
        );
        let forged = without.replace("NarSize: ", "NarSize: 1");
        assert_eq!(
            judge(&forged, &key()).unwrap_err(),
            "has no valid signature by a trusted key (test.example-1)"
        );
        let nobody = Trust::Keys(PublicKeys::default());
        assert_eq!(
            judge(&without, &nobody).unwrap_err(),
            "is signed, but no key is trusted"
        );
        assert_eq!(
            judge(&unsigned(&without), &key()).unwrap_err(),
            "is not signed"
        );
    }

    #[test]
    fn a_name_that_follows_from_the_content_vouches() {
        for text in [unsigned(TEXT), FLAT.to_owned()] {
            let voucher = judge(&text, &Trust::default()).unwrap();
            let Voucher::NamedFrom(address) = voucher else {
                panic!("{voucher:?}");
            };
            assert!(text.contains(&format!("CA: {address}\n")));
        }
        assert_eq!(judge(TREE, &key()), Ok(Voucher::Named));
    }

    #[test]
    fn a_wrong_address_does_not() {
        let zero = "0".repeat(52);
        let nar_hash = "NarHash: sha256:14fsg09489svzk7nz4klr4bw3pgzz7zrc8kfzyyhiqcz0cnjjkq7";
        for (text, told) in [
            (unsigned(SELF), "its content mentions the path itself"),
            (
                TREE_SHA1.to_owned(),
                "is of a kind that is not checked here",
            ),
            (
                TREE.replace("-tree\n", "-free\n"),
                "its name does not follow from its content address",
            ),
            (
                TREE.replace(
                    "References: ",
                    "References: c82prqxmxjsydbawq8zs59r32dsb0v4a-x",
                ),
                "its name does not follow",
            ),
            (
                TREE.replace(nar_hash, &format!("NarHash: sha256:{zero}")),
                "is not that of its content address",
            ),
            (
                TREE.replace("CA: fixed:r:sha256:1", "CA: fixed:r:sha256:0"),
                "its name does not follow",
            ),
        ] {
            let error = judge(&text, &Trust::default()).unwrap_err();
            assert!(error.contains(told), "{error}");
            assert!(error.contains(", and "), "{error}");
        }
    }
}
