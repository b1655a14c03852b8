//! How binary caches are reached and believed.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueHint};
use nix2oci::binary_cache::CacheHeader;
use nix2oci::credentials::Secret;

use super::values::CacheDir;

/// How binary caches are reached and believed.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Binary caches")]
pub(crate) struct BinaryCacheArgs {
    /// A key whose signatures are believed, beside those of nix.conf
    ///
    /// NAME:BASE64, as trusted-public-keys of nix.conf has it; several may stand
    /// in one option, separated by spaces. A store path of a binary cache is
    /// taken if one of these keys signed what the cache says of it, or if its
    /// name follows from its content. It holds for folders too.
    #[arg(long, value_name = "KEY", value_parser = unseen)]
    pub(crate) trusted_public_key: Vec<Secret>,
    /// Believe no keys but those of --trusted-public-key
    ///
    /// Without it those of trusted-public-keys in nix.conf and NIX_CONFIG are
    /// believed, as Nix reads them: that of cache.nixos.org if nothing is set.
    #[arg(long)]
    pub(crate) no_default_key: bool,
    /// Believe binary caches without any signature
    ///
    /// Whoever can write to a cache, or stands on the way to one that is reached
    /// without TLS, then decides what is in the image.
    #[arg(long, conflicts_with_all = ["trusted_public_key", "no_default_key"])]
    pub(crate) no_check_sigs: bool,
    /// Credentials for private binary caches [default: $NETRC, ~/.netrc, that of nix.conf]
    ///
    /// A netrc file, as netrc-file of nix.conf names it: `machine HOST login USER
    /// password PASSWORD`. They go to that host alone. Without this option the
    /// first of these files that knows the host.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) netrc_file: Option<PathBuf>,
    /// A header for requests to a binary cache, such as a token
    ///
    /// HOST says whose, with the port if the cache's address has one; it may be
    /// left out if there is one cache. @FILE has a header in each line, and keeps
    /// them from those who can see the command line.
    #[arg(long, value_name = "[HOST/]NAME:VALUE|@FILE")]
    pub(crate) cache_header: Vec<HeaderArg>,
}

/// What is kept for the next time.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Work")]
pub(crate) struct CacheDirArgs {
    /// Where is kept what need not be found out again, or none [default: $XDG_CACHE_HOME/nix2oci, else ~/.cache/nix2oci]
    ///
    /// No layers and no store paths: what layers became when they were packed, so
    /// that one that the registry has is neither packed nor sent, in any
    /// repository; and what binary caches say of store paths, for at most 30
    /// days.
    #[arg(long, value_name = "DIR|none", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<CacheDir>,
}

/// Takes what may be a secret, be it by mistake: what is wrong with it is told
/// later, without it.
fn unseen(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

/// What `--cache-header` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderArg {
    /// The header itself, not read yet: see [`parse_header`].
    Given(Secret),
    /// A file with headers.
    File(PathBuf),
}

impl FromStr for HeaderArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(file) => Self::File(file.into()),
            None => Self::Given(Secret::new(text)),
        })
    }
}

/// Reads `[HOST/]NAME:VALUE`. What it says of a wrong one shows nothing of it.
pub(crate) fn parse_header(text: &str) -> Result<CacheHeader, &'static str> {
    let (host, header) = match text.split_once('/') {
        Some((host, header)) if is_host(host) => (Some(host), header),
        _ => (None, text),
    };
    let (name, value) = header
        .split_once(':')
        .ok_or("expected NAME:VALUE, or HOST/NAME:VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("expected the name of a header before the colon");
    }
    if value.is_empty()
        || !value
            .bytes()
            .all(|b| b == b'\t' || (b' '..=b'~').contains(&b))
    {
        return Err(
            "expected the value of a header, printable characters of ASCII, after the colon",
        );
    }
    Ok(CacheHeader {
        host: host.map(str::to_ascii_lowercase),
        name: name.to_owned(),
        value: Secret::new(value),
    })
}

/// Returns whether a text before a slash is a host, perhaps with a port, and not
/// the beginning of a header whose value has a slash.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    !host.is_empty()
        && (is_address || host.bytes().all(is_name))
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// Source: `tchar` of RFC 9110, section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_may_name_its_host() {
        for (text, host, name, value) in [
            ("X-Token:abc", None, "X-Token", "abc"),
            (
                "Authorization: Bearer a/b:c",
                None,
                "Authorization",
                "Bearer a/b:c",
            ),
            ("X-Token: 12/3", None, "X-Token", "12/3"),
            ("cache.example/X:y", Some("cache.example"), "X", "y"),
            (
                "Cache.example:8080/X: y ",
                Some("cache.example:8080"),
                "X",
                "y",
            ),
            ("[::1]:80/X:y", Some("[::1]:80"), "X", "y"),
            ("[::1]/X:y", Some("[::1]"), "X", "y"),
        ] {
            let header = parse_header(text).unwrap();
            assert_eq!(header.host.as_deref(), host, "{text}");
            assert_eq!(
                (&*header.name, header.value.reveal()),
                (name, value),
                "{text}"
            );
        }
        for text in [
            "",
            "X-Token",
            "host/X-Token",
            ":x",
            "a b:c",
            "X:",
            "X:a\nY: b",
            "X:ä",
        ] {
            assert!(parse_header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_is_not_shown() {
        for text in ["h/X-Token: hunter2", "hunter2"] {
            let Ok(header) = text.parse::<HeaderArg>();
            assert!(!format!("{header:?}").contains("hunter2"));
        }
        assert_eq!("@f".parse(), Ok(HeaderArg::File("f".into())));
    }
}
