//! What somebody could have changed in a cache.

use std::fmt;
use std::fs;

use super::NixCache;
use super::key::CacheKey;
use super::narinfo::NarInfoText;

/// A change to a cache that nobody may believe.
#[derive(Clone, Copy)]
pub struct Tampering {
    /// What was changed.
    pub name: &'static str,
    /// When it shows.
    pub shows: Shows,
    apply: fn(&Target<'_>),
}

/// When a change can be seen by who does not trust the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// When the narinfo is read: its signature does not fit, or it is no
    /// narinfo of this path.
    InNarInfo,
    /// When the NAR is read.
    InNar,
}

/// What is changed.
struct Target<'a> {
    cache: &'a NixCache,
    path: &'a str,
    /// Another path of the cache.
    other: &'a str,
    key: &'a CacheKey,
}

impl Tampering {
    /// Changes what a cache says of a path. Needs another path of the cache,
    /// and the key that the cache is signed with, for those changes that a
    /// careless or hostile owner of the key could make.
    pub fn apply(&self, cache: &NixCache, path: &str, other: &str, key: &CacheKey) {
        (self.apply)(&Target {
            cache,
            path,
            other,
            key,
        });
    }
}

impl fmt::Debug for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tampering").field(&self.name).finish()
    }
}

/// All changes.
pub const TAMPERINGS: &[Tampering] = &[
    Tampering {
        name: "a byte of the compressed NAR",
        shows: Shows::InNar,
        apply: |target| target.edit_file(|bytes| flip_middle(bytes)),
    },
    Tampering {
        name: "a byte of a file in the NAR, compressed again",
        shows: Shows::InNar,
        apply: |target| target.edit_nar(|bytes| flip_middle(bytes)),
    },
    Tampering {
        name: "the NAR cut in the middle",
        shows: Shows::InNar,
        apply: |target| target.edit_file(|bytes| bytes.truncate(bytes.len() / 2)),
    },
    Tampering {
        name: "the NAR cut in the middle, compressed again",
        shows: Shows::InNar,
        apply: |target| target.edit_nar(|bytes| bytes.truncate(bytes.len() / 2)),
    },
    Tampering {
        name: "the last eight bytes of the NAR missing, compressed again",
        shows: Shows::InNar,
        apply: |target| target.edit_nar(|bytes| bytes.truncate(bytes.len() - 8)),
    },
    Tampering {
        name: "garbage after the compressed NAR",
        shows: Shows::InNar,
        apply: |target| target.edit_file(|bytes| bytes.extend(b"garbage!")),
    },
    Tampering {
        name: "garbage after the NAR, compressed again",
        shows: Shows::InNar,
        apply: |target| target.edit_nar(|bytes| bytes.extend([0; 8])),
    },
    Tampering {
        name: "an empty file instead of the NAR",
        shows: Shows::InNar,
        apply: |target| target.edit_file(Vec::clear),
    },
    Tampering {
        name: "the NAR of another path, by its file",
        shows: Shows::InNar,
        apply: |target| {
            let other = fs::read(target.cache.nar_file(target.other)).expect("it is there");
            target.edit_file(|bytes| *bytes = other);
        },
    },
    Tampering {
        name: "the NAR of another path, by URL, FileHash and FileSize",
        shows: Shows::InNar,
        apply: |target| {
            let other = target.cache.narinfo(target.other);
            target.edit(|info| copy_fields(info, &other, &["URL", "FileHash", "FileSize"]));
        },
    },
    Tampering {
        name: "the NAR of another path, by all that is said of it",
        shows: Shows::InNarInfo,
        apply: |target| {
            let other = target.cache.narinfo(target.other);
            let fields = ["URL", "FileHash", "FileSize", "NarHash", "NarSize"];
            target.edit(|info| copy_fields(info, &other, &fields));
        },
    },
    Tampering {
        name: "the narinfo of another path",
        shows: Shows::InNarInfo,
        apply: |target| {
            let other = target.cache.narinfo(target.other);
            target.edit(|info| *info = other);
        },
    },
    Tampering {
        name: "NarHash",
        shows: Shows::InNarInfo,
        apply: |target| target.edit(|info| info.set("NarHash", WRONG_HASH)),
    },
    Tampering {
        name: "NarHash, signed again",
        shows: Shows::InNar,
        apply: |target| target.edit_and_sign(|info| info.set("NarHash", WRONG_HASH)),
    },
    Tampering {
        name: "NarSize",
        shows: Shows::InNarInfo,
        apply: |target| target.edit(|info| add_to(info, "NarSize", 8)),
    },
    Tampering {
        name: "a larger NarSize, signed again",
        shows: Shows::InNar,
        apply: |target| target.edit_and_sign(|info| add_to(info, "NarSize", 8)),
    },
    Tampering {
        name: "a smaller NarSize, signed again",
        shows: Shows::InNar,
        apply: |target| target.edit_and_sign(|info| add_to(info, "NarSize", -8)),
    },
    Tampering {
        name: "FileHash",
        shows: Shows::InNar,
        apply: |target| target.edit(|info| info.set("FileHash", WRONG_HASH)),
    },
    Tampering {
        name: "a larger FileSize",
        shows: Shows::InNar,
        apply: |target| target.edit(|info| add_to(info, "FileSize", 1)),
    },
    Tampering {
        name: "a smaller FileSize",
        shows: Shows::InNar,
        apply: |target| target.edit(|info| add_to(info, "FileSize", -1)),
    },
    Tampering {
        name: "a reference more",
        shows: Shows::InNarInfo,
        apply: |target| {
            target.edit(|info| {
                let references = info.get("References").unwrap_or_default();
                let references = format!("{references} {}-other", "z".repeat(32));
                info.set("References", references.trim_start());
            });
        },
    },
    Tampering {
        name: "no references",
        shows: Shows::InNarInfo,
        apply: |target| target.edit(|info| info.set("References", "")),
    },
    Tampering {
        name: "StorePath of the same hash and another name",
        shows: Shows::InNarInfo,
        apply: |target| {
            target.edit(|info| {
                let path = info.get("StorePath").expect("it has one");
                let renamed = format!("{path}-other");
                info.set("StorePath", &renamed);
            });
        },
    },
    Tampering {
        name: "a URL out of the cache",
        shows: Shows::InNarInfo,
        apply: |target| target.edit(|info| info.set("URL", "../../../../../../etc/passwd")),
    },
    Tampering {
        name: "no signature",
        shows: Shows::InNarInfo,
        apply: |target| target.edit(|info| info.remove("Sig")),
    },
    Tampering {
        name: "a bit of the signature",
        shows: Shows::InNarInfo,
        apply: |target| {
            target.edit(|info| {
                let signature = info.get("Sig").expect("it has one");
                let (name, digits) = signature.split_once(':').expect("it has a name");
                let first = if digits.starts_with('A') { 'B' } else { 'A' };
                let changed = format!("{name}:{first}{}", &digits[1..]);
                info.set("Sig", &changed);
            });
        },
    },
    Tampering {
        name: "the signature of another key by the name of the trusted one",
        shows: Shows::InNarInfo,
        apply: |target| {
            let (name, _) = target.key.public().split_once(':').expect("it has a name");
            let other = CacheKey::generate(name);
            target.edit(|info| info.sign(&other));
        },
    },
    Tampering {
        name: "the signature of a key that nobody trusts",
        shows: Shows::InNarInfo,
        apply: |target| {
            let other = CacheKey::generate("other-1");
            target.edit(|info| info.sign(&other));
        },
    },
    Tampering {
        name: "content-addressed instead of signed, by a hash of something else",
        shows: Shows::InNarInfo,
        apply: |target| {
            target.edit(|info| {
                info.remove("Sig");
                info.set("CA", &format!("fixed:r:{WRONG_HASH}"));
            });
        },
    },
];

/// The SHA-256 of nothing.
const WRONG_HASH: &str = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

impl Target<'_> {
    fn edit(&self, edit: impl FnOnce(&mut NarInfoText)) {
        self.cache.edit_narinfo(self.path, edit);
    }

    fn edit_and_sign(&self, edit: impl FnOnce(&mut NarInfoText)) {
        self.edit(|info| {
            edit(info);
            info.sign(self.key);
        });
    }

    fn edit_file(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        self.cache.edit_file(self.path, edit);
    }

    fn edit_nar(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        self.cache.edit_nar(self.path, edit);
    }
}

fn flip_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn copy_fields(info: &mut NarInfoText, other: &NarInfoText, keys: &[&str]) {
    for key in keys {
        info.set(key, other.get(key).expect("it has one"));
    }
}

fn add_to(info: &mut NarInfoText, key: &str, change: i64) {
    let value: i64 = info.get(key).and_then(|v| v.parse().ok()).expect("a size");
    info.set(key, &(value + change).to_string());
}
