//! Where a binary cache is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::store::{Quoted, StoreDir};

use super::s3::Bucket;

/// What Nix says of a cache in the query of its address and what is of no use
/// for somebody who only reads.
///
/// Source: `BinaryCacheStoreConfig`, `StoreConfig` and those of the kinds of
/// caches in NixOS/nix, `src/libstore` (2.8 and 2.30).
const WRITERS_SETTINGS: &[&str] = &[
    "compression",
    "compression-level",
    "index-debug-info",
    "local-nar-cache",
    "parallel-compression",
    "path-info-cache-size",
    "secret-key",
    "secret-keys",
    "system-features",
    "want-mass-query",
    "write-nar-listing",
];

/// Where a binary cache is: `https://…`, `http://…`, `s3://BUCKET`, `file:///…`,
/// or an absolute path. Shown without its query, but for the endpoint of a bucket
/// that is not on AWS.
///
/// A query has settings, as in Nix: `priority=N`, which wins over what the
/// cache says of itself; `trusted=true`, which believes it without signatures;
/// `store=DIR`, the directory of its store paths. Settings for those who write
/// are passed over, and those that Nix does not know are kept to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUrl {
    place: Place,
    priority: Option<u64>,
    is_trusted: bool,
    store_dir: Option<StoreDir>,
    unknown: Vec<String>,
    /// If it is a bucket.
    bucket: Option<Bucket>,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On a server: scheme, host and path, without a slash at the end.
    Http(String),
    /// In a folder.
    Folder(PathBuf),
}

/// A text is not the address of a binary cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCacheUrlError {
    /// Not one of the ways to name one.
    #[error(
        "{} is no binary cache: expected https://HOST[/PATH], http://…, s3://BUCKET, \
             file:///PATH or a path that begins with /",
        Quoted(text)
    )]
    Form {
        /// The text, without its query, and without a user in it.
        text: String,
    },
    /// A way to name one that is not supported.
    #[error("{} is no binary cache that can be read: {problem}", Quoted(text))]
    Unsupported {
        /// The text, without its query, and without a user in it.
        text: String,
        /// Why.
        problem: &'static str,
    },
    /// It has a user's name or a password in it, which is not shown.
    #[error(
        "the address of the binary cache at {host} has a user or a password in it; \
             expected them in a netrc file"
    )]
    User {
        /// The host.
        host: String,
    },
    /// A setting in its query has a value that makes no sense.
    #[error(
        "the setting {key} of the binary cache {cache} is {}, expected {expected}",
        Quoted(value)
    )]
    Setting {
        /// The cache, without its query.
        cache: String,
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl CacheUrl {
    /// Returns the host, with the port if one is written; None for a folder.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Http(url) => {
                let (_, rest) = url.split_once("://")?;
                Some(rest.split_once('/').map_or(rest, |(host, _)| host))
            }
            Place::Folder(_) => None,
        }
    }

    /// Returns the folder; None for a server.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Http(_) => None,
            Place::Folder(folder) => Some(folder),
        }
    }

    /// Returns the priority that the query sets. Caches with smaller numbers
    /// are asked first.
    pub fn priority(&self) -> Option<u64> {
        self.priority
    }

    /// Returns whether the query says that the cache is believed without
    /// signatures.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Returns the settings of the query that are not known, without their
    /// values.
    pub fn unknown_settings(&self) -> &[String] {
        &self.unknown
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the bucket, if it is one: what is asked of it may be signed.
    pub(super) fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Returns the directory of its store paths, if the query says so.
    pub(super) fn store_dir(&self) -> Option<&StoreDir> {
        self.store_dir.as_ref()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ParseCacheUrlError> {
        if let Some(bucket) = &mut self.bucket {
            let cache = format!("s3://{}", bucket.name);
            let set =
                bucket
                    .set(key, value)
                    .map_err(|(key, expected)| ParseCacheUrlError::Setting {
                        cache,
                        key,
                        value: value.to_owned(),
                        expected,
                    })?;
            if set {
                return Ok(());
            }
        }
        let cache = self.to_string();
        let wrong = |key, expected| ParseCacheUrlError::Setting {
            cache: cache.clone(),
            key,
            value: value.to_owned(),
            expected,
        };
        match key {
            "priority" => {
                let priority = value.parse();
                let priority = priority.map_err(|_| wrong("priority", "a number from 0"))?;
                self.priority = Some(priority);
            }
            "trusted" => {
                self.is_trusted = match value {
                    "true" | "yes" | "1" => true,
                    "false" | "no" | "0" => false,
                    _ => return Err(wrong("trusted", "true or false")),
                };
            }
            "store" => {
                let store_dir = value.parse();
                let store_dir = store_dir.map_err(|_| {
                    wrong(
                        "store",
                        "an absolute path without . or .., such as /nix/store",
                    )
                })?;
                self.store_dir = Some(store_dir);
            }
            key if WRITERS_SETTINGS.contains(&key) => {}
            key => self.unknown.push(key.to_owned()),
        }
        Ok(())
    }
}

impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.bucket) {
            (_, Some(bucket)) => bucket.fmt(f),
            (Place::Http(url), None) => f.write_str(url),
            (Place::Folder(folder), None) => write!(f, "file://{}", folder.display()),
        }
    }
}

impl FromStr for CacheUrl {
    type Err = ParseCacheUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let bucket = bucket(address)?;
        let mut url = Self {
            place: match &bucket {
                Some(bucket) => Place::Http(bucket.address()),
                None => place(address)?,
            },
            priority: None,
            is_trusted: false,
            store_dir: None,
            unknown: Vec::new(),
            bucket,
        };
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let value = decode(value).ok_or_else(|| ParseCacheUrlError::Form {
                text: without_user(address),
            })?;
            url.set(key, &value)?;
        }
        if let Some(bucket) = &url.bucket {
            url.place = Place::Http(bucket.address());
        }
        Ok(url)
    }
}

/// Returns the bucket of an address that begins with `s3://`.
fn bucket(address: &str) -> Result<Option<Bucket>, ParseCacheUrlError> {
    let Some((scheme, name)) = address.split_once("://") else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("s3") {
        return Ok(None);
    }
    let bucket = Bucket::new(name.strip_suffix('/').unwrap_or(name));
    bucket.map(Some).ok_or_else(|| ParseCacheUrlError::Form {
        text: without_user(address),
    })
}

fn place(address: &str) -> Result<Place, ParseCacheUrlError> {
    let form = || ParseCacheUrlError::Form {
        text: without_user(address),
    };
    let folder = |path: &str| {
        let path = path.trim_end_matches('/');
        let is_good = path.starts_with('/') && !path.contains('\0');
        is_good.then(|| Place::Folder(path.into())).ok_or_else(form)
    };
    if address.starts_with('/') {
        return folder(address);
    }
    let (scheme, rest) = address.split_once("://").ok_or_else(form)?;
    let scheme = scheme.to_ascii_lowercase();
    match &*scheme {
        "http" | "https" => {}
        "file" => return folder(&decode(rest).ok_or_else(form)?),
        _ => {
            let problem = match &*scheme {
                "ssh" | "ssh-ng" => "stores over SSH are not supported",
                _ => return Err(form()),
            };
            return Err(ParseCacheUrlError::Unsupported {
                text: without_user(address),
                problem,
            });
        }
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some((_, host)) = host.rsplit_once('@') {
        return Err(ParseCacheUrlError::User {
            host: host.to_owned(),
        });
    }
    // A password with a slash in it makes a port of its beginning.
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']'));
    if port.is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(form());
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_path = |byte: u8| byte.is_ascii_graphic() && !b"\\#\"<>^`{|}".contains(&byte);
    let path = path.trim_end_matches('/');
    let is_good = !host.is_empty()
        && !host.starts_with(':')
        && host.bytes().all(is_host)
        && path.bytes().all(is_path)
        && !path.split('/').any(|name| matches!(name, "." | ".."));
    if !is_good {
        return Err(form());
    }
    let slash = if path.is_empty() { "" } else { "/" };
    let host = host.to_ascii_lowercase();
    Ok(Place::Http(format!("{scheme}://{host}{slash}{path}")))
}

/// Returns an address as an error may show it: there may be a password before
/// the last `@`, whatever else is wrong.
fn without_user(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => address.to_owned(),
    }
}

/// Returns a text without its percent signs, or None if what it stands for is
/// no text.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            out.push(
                is_hex
                    .then(|| u8::from_str_radix(digits, 16).ok())
                    .flatten()?,
            );
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> CacheUrl {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn caches_are_servers_and_folders() {
        for (text, shown) in [
            ("https://cache.nixos.org", "https://cache.nixos.org"),
            ("https://cache.nixos.org/", "https://cache.nixos.org"),
            (
                "HTTPS://Cache.NixOS.org:443/A/b//",
                "https://cache.nixos.org:443/A/b",
            ),
            ("http://[::1]:8080/x?priority=3", "http://[::1]:8080/x"),
            ("http://127.0.0.1", "http://127.0.0.1"),
        ] {
            let url = url(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.folder(), None);
        }
        assert_eq!(url("http://[::1]:8080/x").host(), Some("[::1]:8080"));
        assert_eq!(url("http://h/x").host(), Some("h"));
        for (text, folder) in [
            ("file:///var/cache", "/var/cache"),
            ("file:///var/cache/", "/var/cache"),
            ("file:///a%20b", "/a b"),
            ("/var/a%20b", "/var/a%20b"),
            ("/var/cache?compression=zstd", "/var/cache"),
        ] {
            let url = url(text);
            assert_eq!(url.folder(), Some(Path::new(folder)));
            assert_eq!(url.host(), None);
            assert_eq!(url.to_string(), format!("file://{folder}"));
        }
    }

    #[test]
    fn a_bucket_is_a_server() {
        for (text, shown, base) in [
            (
                "s3://cache?region=eu-west-1&profile=ci&priority=10",
                "s3://cache",
                "https://cache.s3.eu-west-1.amazonaws.com",
            ),
            (
                "S3://cache/?endpoint=minio.example%3A9000&scheme=http",
                "s3://cache?endpoint=minio.example:9000",
                "http://minio.example:9000/cache",
            ),
        ] {
            let url = url(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.place(), &Place::Http(base.to_owned()));
            assert_eq!(url.bucket().map(|bucket| &*bucket.name), Some("cache"));
        }
        let found = url("s3://cache?profile=ci&priority=10&x=y&multipart-upload=true");
        assert_eq!(found.bucket().unwrap().profile.as_deref(), Some("ci"));
        assert_eq!(found.priority(), Some(10));
        assert_eq!(found.unknown_settings(), ["x"]);
        assert_eq!(url("https://cache?region=x").unknown_settings(), ["region"]);
        let error = "s3://cache?scheme=ftp".parse::<CacheUrl>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the setting scheme of the binary cache s3://cache is \"ftp\", expected https or http"
        );
    }

    #[test]
    fn settings_are_those_of_nix() {
        let found = url("file:///c?compression=xz&priority=10&trusted=1&secret-key=/k&x=y&&z");
        assert_eq!(found.priority(), Some(10));
        assert!(found.is_trusted());
        assert_eq!(found.unknown_settings(), ["x", "z"]);
        assert!(!url("https://h?trusted=false").is_trusted());
        let found = url("https://h?store=%2Fother%2Fstore");
        assert_eq!(found.store_dir().unwrap().as_str(), "/other/store");
        for (text, told) in [
            (
                "https://h?priority=x",
                "the setting priority of the binary cache https://h is \"x\"",
            ),
            ("https://h?priority=-1", "expected a number"),
            ("https://h?trusted=maybe", "expected true or false"),
            (
                "https://h?store=x",
                "the setting store of the binary cache https://h",
            ),
            ("https://h?store=%zz", "expected https://HOST"),
        ] {
            let error = text.parse::<CacheUrl>().unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[test]
    fn what_is_no_cache_is_told() {
        for text in [
            "",
            "cache.nixos.org",
            "https://",
            "https:///x",
            "https://:80",
            "https://h/a b",
            "https://h/../x",
            "https://h/#x",
            "ftp://h",
            "file://relative",
            "file://",
            "/",
            "file:///a%00b",
            "./x",
            "https://h o",
            "s3://",
            "s3://a/b",
            "s3://user@bucket",
        ] {
            let error = text.parse::<CacheUrl>().unwrap_err();
            assert!(matches!(error, ParseCacheUrlError::Form { .. }), "{text}");
        }
        let error = "ssh://host".parse::<CacheUrl>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"ssh://host\" is no binary cache that can be read: stores over SSH are not supported"
        );
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for text in [
            "https://me:hunter2@h.io/x",
            "https://hunter2@h.io",
            "https://me:hunter2/x@h.io/y",
            "https://me:/hunter2@h.io/y?store=%zz",
            "ftp://me:hunter2@h.io",
            "ssh://me:hunter2@h.io",
            "s3://hunter2@h.io",
            "s3://me:hunter2/@h.io?region=x",
        ] {
            let error = text.parse::<CacheUrl>().unwrap_err().to_string();
            assert!(
                error.contains("h.io") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
