//! Values of options: one small parser for each, and what a wrong one is told.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use nix2oci::oci::{Timestamp, is_tag};
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

/// Reads a time: RFC 3339, or seconds since 1970 as in `SOURCE_DATE_EPOCH`.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let time = if is_number {
        text.parse()
            .ok()
            .and_then(|seconds| Timestamp::from_unix_seconds(seconds).ok())
    } else {
        text.parse().ok()
    };
    time.filter(|time: &Timestamp| time.unix_seconds() >= 0)
        .ok_or_else(|| {
            if format!("{text}T00:00:00Z").parse::<Timestamp>().is_ok() {
                return format!("the time of day is missing, as in {text}T00:00:00Z");
            }
            "expected a time since 1970, such as 2024-05-01T12:00:00Z, or its seconds, such as \
             1714564800"
                .to_owned()
        })
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
            text => match time(text) {
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
            ("1714564800", 1_714_564_800),
        ] {
            assert_eq!(time(text).unwrap().unix_seconds(), seconds, "{text}");
        }
        for text in ["", "now", "-1", "1960-01-01T00:00:00Z", "yesterday", "1e9"] {
            assert!(time(text).is_err(), "{text}");
        }
        let date = time("2024-01-01").unwrap_err();
        assert!(date.contains("2024-01-01T00:00:00Z"), "{date}");
        let latest = i64::MAX.to_string();
        assert!(time(&latest).is_err(), "past the year 9999");
        assert!(mtime("now").unwrap_err().contains("--created"));
        assert_eq!("now".parse(), Ok(Created::Now));
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
}
