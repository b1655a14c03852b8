//! Binary caches: servers and folders that have store paths for others.
//!
//! - [`CacheUrl`]: where one is; `cache_info`: what it says of itself
//! - [`NarInfo`]: what it says of a store path
//! - [`NarCompression`]: how the NARs in them are compressed
//! - [`Trust`]: whether that is believed; [`PublicKeys`] and signatures, and
//!   [`ContentAddress`]es, from which a path's name follows
//! - [`CacheOptions`]: how caches are reached and believed
//! - [`NarInfoCache`]: what they said before
//! - [`BinaryCaches`]: several, asked in turn; `walk` asks for many paths at
//!   once, [`NarStream`] reads a NAR and checks it
//! - `files`: the files of one, in a folder, on a `server` or in a bucket of `s3`

mod address_check;
mod cache;
mod cache_info;
mod caches;
mod checked_file;
mod compression;
mod content_address;
mod files;
mod info_cache;
mod keys;
mod nar_stream;
mod narinfo;
mod options;
mod s3;
mod server;
#[cfg(test)]
pub(crate) mod test_cache;
mod trust;
mod url;
mod walk;

pub use caches::BinaryCaches;
pub use compression::{NarCompression, ParseNarCompressionError};
pub use content_address::{
    ContentAddress, ContentAddressMethod, HashAlgorithm, ParseContentAddressError, TypedHash,
};
pub use info_cache::{NarInfoCache, NarInfoCacheInfo, NarInfoCacheRemoval};
pub use keys::{CACHE_NIXOS_ORG, ParsePublicKeyError, PublicKey, PublicKeys, Signature};
pub(crate) use nar_stream::Begun;
pub use nar_stream::NarStream;
pub use narinfo::{MAX_NARINFO_SIZE, NarInfo, ParseNarInfoError};
pub use options::{CacheHeader, CacheOptions, DEFAULT_CACHE_JOBS, DEFAULT_CACHE_RETRIES};
pub use trust::Trust;
pub use url::{CacheUrl, ParseCacheUrlError};

pub use crate::net::{ProxyOptions, TlsOptions};
