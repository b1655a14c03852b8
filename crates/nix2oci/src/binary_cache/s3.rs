//! Where a bucket is: `s3://BUCKET?region=…&endpoint=…&scheme=…`, as Nix has it.
//!
//! Source: `s3-binary-cache-store` in the Nix manual (2.34), whose SDK and later
//! whose `addressing-style` say which of the two ways to write an address it is
//! (NixOS/nix#15216).

use std::fmt;

/// A bucket of S3, or of what speaks like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) name: String,
    /// For signatures, and for AWS the server.
    pub(super) region: String,
    /// Another server than those of AWS: `HOST[:PORT]`.
    pub(super) endpoint: Option<String>,
    pub(super) is_plain: bool,
    pub(super) style: AddressingStyle,
    /// The profile whose keys are used.
    pub(super) profile: Option<String>,
}

/// Where the name of the bucket is in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum AddressingStyle {
    /// The host on AWS, the path elsewhere and where a certificate for the host
    /// would not fit.
    #[default]
    Auto,
    Path,
    Virtual,
}

/// The region, if nothing is said.
const DEFAULT_REGION: &str = "us-east-1";

impl Bucket {
    /// Takes the name of a bucket; `None` if it cannot be one.
    pub(super) fn new(name: &str) -> Option<Self> {
        // Older buckets have capitals and underscores.
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_name = (3..=255).contains(&name.len())
            && name.chars().all(is_known)
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !name.contains("..");
        is_name.then(|| Self {
            name: name.to_owned(),
            region: DEFAULT_REGION.to_owned(),
            endpoint: None,
            is_plain: false,
            style: AddressingStyle::Auto,
            profile: None,
        })
    }

    /// Takes a setting of the query; `Ok(false)` if it is not about S3. Fails
    /// with the setting and what was expected.
    pub(super) fn set(
        &mut self,
        key: &str,
        value: &str,
    ) -> Result<bool, (&'static str, &'static str)> {
        const HOST: &str = "HOST[:PORT] or http[s]://HOST[:PORT]";
        match key {
            "region" => {
                let is_region = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if value.is_empty() || !value.chars().all(is_region) {
                    return Err(("region", "the name of a region, such as us-east-1"));
                }
                self.region = value.to_owned();
            }
            "endpoint" => {
                // Later versions of Nix take an address as well.
                let host = match value.split_once("://") {
                    Some(("https", host)) => host,
                    Some(("http", host)) => {
                        self.is_plain = true;
                        host
                    }
                    Some(_) => return Err(("endpoint", HOST)),
                    None => value,
                };
                let host = host.strip_suffix('/').unwrap_or(host);
                let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
                if host.is_empty() || !host.chars().all(is_host) {
                    return Err(("endpoint", HOST));
                }
                self.endpoint = Some(host.to_owned());
            }
            "scheme" => {
                self.is_plain = match value {
                    "https" => false,
                    "http" => true,
                    _ => return Err(("scheme", "https or http")),
                };
            }
            "addressing-style" => {
                self.style = match value {
                    "auto" => AddressingStyle::Auto,
                    "path" => AddressingStyle::Path,
                    "virtual" => AddressingStyle::Virtual,
                    _ => return Err(("addressing-style", "auto, path or virtual")),
                };
            }
            "profile" => self.profile = (!value.is_empty()).then(|| value.to_owned()),
            // Of writing: how large files are sent.
            "multipart-upload"
            | "multipart-chunk-size"
            | "multipart-threshold"
            | "buffer-size"
            | "storage-class"
            | "ls-compression"
            | "log-compression"
            | "narinfo-compression" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the address of its files, without a slash at the end.
    pub(super) fn address(&self) -> String {
        let scheme = if self.is_plain { "http" } else { "https" };
        let host = self.endpoint.clone().unwrap_or_else(|| {
            // AWS in China is a world of its own.
            let suffix = if self.region.starts_with("cn-") {
                ".cn"
            } else {
                ""
            };
            format!("s3.{}.amazonaws.com{suffix}", self.region)
        });
        // A host has no underscore and no capitals.
        let fits_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_virtual = match self.style {
            AddressingStyle::Path => false,
            AddressingStyle::Virtual => true,
            AddressingStyle::Auto => self.endpoint.is_none() && self.name.chars().all(fits_host),
        };
        if is_virtual {
            format!("{scheme}://{}.{host}", self.name)
        } else {
            format!("{scheme}://{host}/{}", self.name)
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.name)?;
        match &self.endpoint {
            // On another server it is another bucket.
            Some(endpoint) => write!(f, "?endpoint={endpoint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_nix_has_them() {
        for (name, settings, expected) in [
            ("cache", &[][..], "https://cache.s3.us-east-1.amazonaws.com"),
            (
                "cache",
                &[("region", "eu-west-1")],
                "https://cache.s3.eu-west-1.amazonaws.com",
            ),
            (
                "cache",
                &[("region", "cn-north-1")],
                "https://cache.s3.cn-north-1.amazonaws.com.cn",
            ),
            (
                "my.cache",
                &[("region", "eu-west-1")],
                "https://s3.eu-west-1.amazonaws.com/my.cache",
            ),
            (
                "My_cache",
                &[],
                "https://s3.us-east-1.amazonaws.com/My_cache",
            ),
            (
                "cache",
                &[("endpoint", "minio.example:9000"), ("scheme", "http")],
                "http://minio.example:9000/cache",
            ),
            (
                "cache",
                &[("endpoint", "http://[::1]:9000/")],
                "http://[::1]:9000/cache",
            ),
            (
                "cache",
                &[
                    ("endpoint", "https://r2.example"),
                    ("addressing-style", "virtual"),
                ],
                "https://cache.r2.example",
            ),
            (
                "cache",
                &[("addressing-style", "path"), ("profile", "ci")],
                "https://s3.us-east-1.amazonaws.com/cache",
            ),
        ] {
            let mut bucket = Bucket::new(name).unwrap();
            for (key, value) in settings {
                assert_eq!(bucket.set(key, value), Ok(true));
            }
            assert_eq!(bucket.address(), expected);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for name in ["", "ab", "a/b", "a b c", "user@host", "-abc", "a..b", "a?b"] {
            assert_eq!(Bucket::new(name), None, "{name}");
        }
        let mut bucket = Bucket::new("cache").unwrap();
        for (key, value) in [
            ("region", ""),
            ("region", "eu west"),
            ("region", "a.example/"),
            ("endpoint", "ftp://example.org"),
            ("endpoint", "user@example.org"),
            ("endpoint", "example.org/path"),
            ("endpoint", ""),
            ("scheme", "ftp"),
            ("addressing-style", "host"),
        ] {
            assert!(bucket.set(key, value).is_err(), "{key}={value}");
        }
        assert_eq!(bucket.set("priority", "10"), Ok(false));
    }
}
