//! Values of options: one small parser for each, and what a wrong one is told.

use std::convert::Infallible;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use nix2oci::credentials::Secret;
use nix2oci::oci::{Timestamp, is_tag, parse_name, parse_time};
use nix2oci::plan::MAX_LAYERS;

/// Reads `--max-layers`.
pub(crate) fn max_layers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("an image of store paths has at least 1 layer".to_owned()),
        Ok(layers) if layers <= MAX_LAYERS => Ok(layers),
        Ok(_) => Err(format!(
            "Docker loads images of at most {MAX_LAYERS} layers"
        )),
        Err(_) => Err(format!("expected a number from 1 to {MAX_LAYERS}")),
    }
}

/// Reads `--threads`.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a number from 1; without the option, all that there are".to_owned())
}

/// Reads a time as people write it.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    let time = parse_time(text).ok();
    time.filter(|time| time.unix_seconds() >= 0).ok_or_else(|| {
        let is_year = text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
        if is_year {
            return format!(
                "expected {text}-01-01 for the year, or @{text} for seconds since 1970"
            );
        }
        "expected a time since 1970, such as 2024-05-01, 2024-05-01T12:00:00Z or \
         20240501120000, or its seconds, such as @1714564800"
            .to_owned()
    })
}

/// Reads `SOURCE_DATE_EPOCH`: seconds since 1970, however many digits.
///
/// RFC 3339 is taken too, as it always was.
pub(crate) fn epoch(text: &str) -> Result<Timestamp, String> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match is_number {
        true => time(&format!("@{text}")),
        false => time(text),
    }
}

/// Reads `--mtime`.
pub(crate) fn mtime(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Err(
            "files of this moment would make every layer a new one each time; \
                    only --created takes now"
                .to_owned(),
        );
    }
    time(text)
}

/// What `--created` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// The time at which the command runs.
    Now,
    /// This time.
    At(Timestamp),
}

impl FromStr for Created {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "now" => Ok(Self::Now),
            // What has no time of its own may say the year 1, as Go and so
            // nix2container do.
            text => match text.parse().or_else(|_| time(text)) {
                Ok(time) => Ok(Self::At(time)),
                Err(problem) => Err(format!("{problem}; or now")),
            },
        }
    }
}

/// Words of a command line: what one `--entrypoint` or `--cmd` gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words(Vec<String>);

impl Words {
    /// Joins the words of several options; one empty word alone stands for
    /// none at all, as `docker run --entrypoint ""` has it.
    pub(crate) fn join(options: &[Self]) -> Vec<String> {
        let words: Vec<String> = options.iter().flat_map(|words| &words.0).cloned().collect();
        if words == [""] { Vec::new() } else { words }
    }

    /// Returns whether options were given that stand for none at all.
    pub(crate) fn are_empty(options: &[Self]) -> bool {
        !options.is_empty() && Self::join(options).is_empty()
    }
}

impl FromStr for Words {
    type Err = String;

    /// Reads one word, or a JSON array of words.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with('[') {
            return Ok(Self(vec![text.to_owned()]));
        }
        serde_json::from_str(text).map(Self).map_err(|_| {
            "what starts with [ must be a JSON array of strings, such as '[\"serve\",\"--port=80\"]'"
                .to_owned()
        })
    }
}

/// Reads `--tag`.
pub(crate) fn tag(text: &str) -> Result<String, String> {
    if is_tag(text) {
        Ok(text.to_owned())
    } else {
        Err("expected up to 128 letters, digits, _ . and -, not . or - first".to_owned())
    }
}

/// A layer asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedLayer {
    /// Its name, for people.
    pub(crate) name: String,
    /// Store paths, or symlinks to them.
    pub(crate) paths: Vec<PathBuf>,
}

impl FromStr for NamedLayer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            "expected NAME=PATH,PATH…, such as base=/nix/store/…-glibc,/nix/store/…-bash";
        let (name, paths) = text.split_once('=').ok_or(expected)?;
        if name.is_empty() || name.contains('/') || paths.split(',').any(str::is_empty) {
            return Err(expected.to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            paths: paths.split(',').map(PathBuf::from).collect(),
        })
    }
}

/// A name and a password, as they were typed.
///
/// Any text is taken here: what the parser of the command line refuses it
/// shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Creds {
    /// The name; may be empty.
    pub(crate) user: String,
    /// The password, if there is a colon.
    pub(crate) password: Option<Secret>,
}

impl FromStr for Creds {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(Secret::new(password))),
            None => (text, None),
        };
        Ok(Self {
            user: user.to_owned(),
            password,
        })
    }
}

/// Where the layer cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheDir {
    /// Nowhere: there is none.
    None,
    /// In this directory.
    At(PathBuf),
}

impl FromStr for CacheDir {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("expected a directory, or none"),
            "none" => Ok(Self::None),
            dir => Ok(Self::At(dir.into())),
        }
    }
}

/// Reads `--mount-from`: the name of a repository, without its registry.
pub(crate) fn repository(text: &str) -> Result<String, String> {
    let is_plain = !text.contains([':', '@']) && !text.starts_with('/');
    if is_plain && parse_name(&format!("localhost/{text}")).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(
            "expected a repository of the same registry, such as team/base, without the \
             registry's name and without a tag"
                .to_owned(),
        )
    }
}

/// Reads `--jobs`.
pub(crate) fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a number from 1".to_owned())
}

/// The smallest chunk that is worth a request.
const SMALLEST_CHUNK: u64 = 1 << 20;

/// Reads `--chunk-size`.
pub(crate) fn chunk_size(text: &str) -> Result<NonZeroU64, String> {
    let expected = "expected a number of bytes such as 16M or 16777216";
    let bytes = size(text).ok_or(expected)?;
    match NonZeroU64::new(bytes) {
        Some(chunk) if bytes >= SMALLEST_CHUNK => Ok(chunk),
        _ => Err(format!("{expected}, at least 1M")),
    }
}

/// Reads a number of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    size(text).ok_or_else(|| "expected a number of bytes such as 50MB or 52428800".to_owned())
}

/// Reads a number of bytes: `K`, `M`, `G` and `KiB`, `MiB`, `GiB` count by
/// 1024, `kB`, `MB`, `GB` by 1000.
fn size(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_seconds() {
        for (text, seconds) in [
            ("0", 0),
            ("1", 1),
            ("1970-01-01T00:00:01Z", 1),
            ("2024-05-01T12:00:00Z", 1_714_564_800),
            ("2024-05-01T14:00:00.75+02:00", 1_714_564_800),
            ("20240501120000", 1_714_564_800),
            ("1714564800", 1_714_564_800),
            ("@1714564800", 1_714_564_800),
            ("2024-05-01", 1_714_521_600),
            ("20240501", 1_714_521_600),
        ] {
            assert_eq!(time(text).unwrap().unix_seconds(), seconds, "{text}");
        }
        for text in ["", "now", "-1", "1960-01-01T00:00:00Z", "yesterday", "1e9"] {
            assert!(time(text).is_err(), "{text}");
        }
        let year = time("2024").unwrap_err();
        assert!(year.contains("2024-01-01 for the year"), "{year}");
        assert_eq!(epoch("20240501").unwrap().unix_seconds(), 20_240_501);
        assert_eq!(epoch("2024").unwrap().unix_seconds(), 2024);
        let latest = i64::MAX.to_string();
        assert!(time(&latest).is_err(), "past the year 9999");
        assert!(mtime("now").unwrap_err().contains("--created"));
        assert_eq!("now".parse(), Ok(Created::Now));
        let year_one = "0001-01-01T00:00:00Z";
        let expected = Created::At(year_one.parse().unwrap());
        assert_eq!(year_one.parse(), Ok(expected));
        assert!(mtime(year_one).is_err());
        assert!("-1".parse::<Created>().is_err());
    }

    #[test]
    fn words_come_one_by_one_or_as_json() {
        let words = |options: &[&str]| {
            let options: Vec<Words> = options.iter().map(|o| o.parse().unwrap()).collect();
            Words::join(&options)
        };
        assert_eq!(words(&["a b", "c"]), ["a b", "c"]);
        assert_eq!(words(&[r#"["a","b c"]"#]), ["a", "b c"]);
        assert_eq!(words(&[r#"["["]"#]), ["["]);
        assert!(words(&[""]).is_empty());
        assert!(words(&["[]"]).is_empty());
        for text in ["[", "[a]", "[1]", r#"["a""#] {
            assert!(text.parse::<Words>().is_err(), "{text}");
        }
    }

    #[test]
    fn small_values_are_checked() {
        assert!(tag("v1.0_x-y").is_ok());
        for text in ["", ".a", "-a", "a/b", "a:b", &"a".repeat(129)] {
            assert!(tag(text).is_err(), "{text}");
        }
        assert_eq!(max_layers("125"), Ok(125));
        for text in ["0", "126", "-1", "many"] {
            assert!(max_layers(text).is_err(), "{text}");
        }
        assert_eq!(threads("2").unwrap().get(), 2);
        assert!(threads("0").unwrap_err().contains("from 1"));
    }

    #[test]
    fn a_named_layer_has_paths() {
        let layer: NamedLayer = "base=/nix/store/a,./result".parse().unwrap();
        assert_eq!(layer.name, "base");
        assert_eq!(
            layer.paths,
            [PathBuf::from("/nix/store/a"), "./result".into()]
        );
        for text in ["", "base", "base=", "=a", "base=a,", "/nix/store/a=b"] {
            assert!(text.parse::<NamedLayer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_has_a_unit() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("1M", 1 << 20),
            ("16MiB", 16 << 20),
            ("2G", 2 << 30),
            ("2000K", 2000 << 10),
            ("5MB", 5_000_000),
            ("1048576B", 1 << 20),
        ] {
            assert_eq!(chunk_size(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for text in ["0", "1048575", "1000kB", "512K"] {
            assert!(
                chunk_size(text).unwrap_err().ends_with("at least 1M"),
                "{text}"
            );
        }
        for text in ["", "M", "-1M", "1.5M", "1T", "1 M", "99999999999G"] {
            assert!(
                chunk_size(text).unwrap_err().ends_with("16777216"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_repository_is_only_its_name() {
        for text in ["app", "team/base", "a/b-c/d__e"] {
            assert_eq!(repository(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "/a",
            "a:1",
            "docker://h/a",
            "h.io:5000/a",
            "A/b",
            "a@b",
            "a//b",
        ] {
            assert!(repository(text).is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_never_refused_and_never_shown() {
        let creds = |text: &str| {
            let creds: Creds = text.parse().unwrap();
            let password = creds.password.as_ref().map(|p| p.reveal().to_owned());
            (creds.user, password)
        };
        assert_eq!(creds("me"), ("me".to_owned(), None));
        assert_eq!(creds("me:a:b"), ("me".to_owned(), Some("a:b".to_owned())));
        assert_eq!(creds(":x"), (String::new(), Some("x".to_owned())));
        let creds: Creds = "me:hunter2".parse().unwrap();
        assert!(!format!("{creds:?}").contains("hunter2"));
    }

    #[test]
    fn a_cache_is_a_directory_or_none() {
        assert_eq!("none".parse(), Ok(CacheDir::None));
        assert_eq!("./none".parse(), Ok(CacheDir::At("./none".into())));
        assert!("".parse::<CacheDir>().is_err());
    }
}
