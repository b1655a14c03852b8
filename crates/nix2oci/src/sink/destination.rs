//! Destinations as people write them.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};

use super::{Archive, ImageSink, OciLayout};

/// A kind of sink that a destination can name.
#[derive(Debug)]
#[non_exhaustive]
pub struct SinkKind {
    /// What stands before the colon.
    pub name: &'static str,
    /// How a destination of this kind is written.
    pub syntax: &'static str,
    /// What it is, in one line.
    pub help: &'static str,
    parse: fn(&str) -> Result<Destination, &'static str>,
}

/// The kinds of sinks, in the order in which help shows them.
pub const SINKS: &[SinkKind] = &[
    SinkKind {
        name: "oci",
        syntax: "oci:DIR[:TAG]",
        help: "OCI image layout directory, new or with other images in it",
        parse: parse_oci,
    },
    SinkKind {
        name: "archive",
        syntax: "archive:FILE",
        help: "one tar that docker, podman, skopeo, containerd and k3s load; - is standard output",
        parse: parse_archive,
    },
    SinkKind {
        name: "oci-archive",
        syntax: "oci-archive:FILE",
        help: "the same tar as archive:",
        parse: parse_archive,
    },
    SinkKind {
        name: "docker-archive",
        syntax: "docker-archive:FILE",
        help: "the same tar as archive:",
        parse: parse_archive,
    },
];

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// An OCI image layout.
    OciLayout {
        /// The directory.
        dir: PathBuf,
        /// The image's name in it, if it was given here.
        tag: Option<String>,
    },
    /// A tar.
    Archive {
        /// The file.
        file: PathBuf,
    },
    /// A tar on standard output.
    Stdout,
}

impl Destination {
    /// Opens the sink. `stdout` is where [`Destination::Stdout`] goes: the
    /// library itself opens no standard stream.
    ///
    /// # Errors
    ///
    /// As [`OciLayout::open`] and [`Archive::create`], and if standard output
    /// is needed and not given.
    pub fn open(&self, stdout: Option<File>) -> Result<Box<dyn ImageSink>> {
        Ok(match self {
            Self::OciLayout { dir, tag } => Box::new(OciLayout::open(dir, tag.as_deref())?),
            Self::Archive { file } => Box::new(Archive::create(file)?),
            Self::Stdout => match stdout {
                Some(stdout) => Box::new(Archive::to_file(stdout, "standard output")),
                None => return Err(Error::invalid("-", "there is no standard output here")),
            },
        })
    }
}

impl fmt::Display for Destination {
    /// Writes it so that it is read again as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OciLayout { dir, tag: None } => write!(f, "oci:{}", dir.display()),
            Self::OciLayout {
                dir,
                tag: Some(tag),
            } => write!(f, "oci:{}:{tag}", dir.display()),
            Self::Archive { file } => {
                let path = file.display().to_string();
                match path.split_once(':') {
                    None => write!(f, "archive:{path}"),
                    // Behind a slash a colon is a part of a path.
                    Some((before, _)) if before.contains('/') => f.write_str(&path),
                    Some(_) => write!(f, "./{path}"),
                }
            }
            Self::Stdout => f.write_str("-"),
        }
    }
}

/// A text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a destination: {problem}")]
pub struct ParseDestinationError {
    text: String,
    problem: String,
}

impl FromStr for Destination {
    type Err = ParseDestinationError;

    /// Parses one of the forms of [`SINKS`], `-`, or the plain path of an
    /// archive. A plain path with a colon needs a slash before it, as in
    /// `./a:b`, so that a misspelled kind does not become a file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |problem: String| ParseDestinationError {
            text: text.to_owned(),
            problem,
        };
        if text == "-" {
            return Ok(Self::Stdout);
        }
        let Some((kind, argument)) = text.split_once(':').filter(|(k, _)| !k.contains('/')) else {
            return parse_path(text).map_err(|e| refuse(e.to_owned()));
        };
        match SINKS.iter().find(|sink| sink.name == kind) {
            Some(sink) => (sink.parse)(argument)
                .map_err(|problem| refuse(format!("{problem}; expected {}", sink.syntax))),
            None => {
                let forms: Vec<_> = SINKS.iter().map(|sink| sink.syntax).collect();
                Err(refuse(format!(
                    "{kind}: is unknown; expected {}, - or a path",
                    forms.join(", ")
                )))
            }
        }
    }
}

/// Splits at the first colon, as skopeo does; a directory with a colon in its
/// name cannot be written so.
fn parse_oci(argument: &str) -> Result<Destination, &'static str> {
    let (dir, tag) = match argument.split_once(':') {
        Some((dir, tag)) => (dir, Some(tag)),
        None => (argument, None),
    };
    if dir.is_empty() {
        return Err("the directory is missing");
    }
    if tag.is_some_and(|tag| !is_ref_name(tag)) {
        return Err("the tag must be letters and digits with single separators . _ - : / @ +");
    }
    Ok(Destination::OciLayout {
        dir: dir.into(),
        tag: tag.map(str::to_owned),
    })
}

/// A source of an image, as skopeo, would take what follows a colon as the
/// image's name, so it must not become a part of the file's.
fn parse_archive(argument: &str) -> Result<Destination, &'static str> {
    if argument.contains(':') {
        return Err(
            "what follows a colon would be read as the image's name, which is not given here; \
             write a file with a colon as a path, such as ./a:b without archive:",
        );
    }
    parse_path(argument)
}

fn parse_path(path: &str) -> Result<Destination, &'static str> {
    match path {
        "" => Err("the file is missing"),
        "-" => Ok(Destination::Stdout),
        file => Ok(Destination::Archive { file: file.into() }),
    }
}

/// Returns whether a text follows the grammar of
/// `org.opencontainers.image.ref.name` (OCI image specification 1.1,
/// annotations.md).
fn is_ref_name(text: &str) -> bool {
    let mut after_separator = true;
    let mut dashes = 0;
    for c in text.bytes() {
        let is_separator = match c {
            b'-' if dashes < 2 && (!after_separator || dashes == 1) => {
                dashes += 1;
                true
            }
            b'.' | b'_' | b':' | b'@' | b'+' | b'/' if !after_separator => true,
            c if c.is_ascii_alphanumeric() => {
                dashes = 0;
                false
            }
            _ => return false,
        };
        after_separator = is_separator;
    }
    !after_separator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let oci = |dir: &str, tag: Option<&str>| Destination::OciLayout {
            dir: dir.into(),
            tag: tag.map(str::to_owned),
        };
        let archive = |file: &str| Destination::Archive { file: file.into() };
        for (text, expected) in [
            ("oci:out", oci("out", None)),
            ("oci:/a/b:1.0", oci("/a/b", Some("1.0"))),
            ("oci:out:h.io/app:1", oci("out", Some("h.io/app:1"))),
            ("oci:out:a--b", oci("out", Some("a--b"))),
            ("archive:a.tar", archive("a.tar")),
            ("oci-archive:/x/a.tar", archive("/x/a.tar")),
            ("docker-archive:a.tar", archive("a.tar")),
            ("a.tar", archive("a.tar")),
            ("./a:b", archive("./a:b")),
            ("/x/a:b", archive("/x/a:b")),
            ("-", Destination::Stdout),
            ("archive:-", Destination::Stdout),
        ] {
            let parsed: Destination = text.parse().unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string().parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, expected) in [
            ("", "the file is missing"),
            ("archive:", "expected archive:FILE"),
            ("oci:", "the directory is missing; expected oci:DIR[:TAG]"),
            ("oci::t", "the directory is missing"),
            ("oci:d:", "the tag must be"),
            ("oci:d:a b", "the tag must be"),
            ("oci:d:a..b", "the tag must be"),
            ("oci:d:-a", "the tag must be"),
            ("oci:d:a-", "the tag must be"),
            ("oci:d:a---b", "the tag must be"),
            (
                "archive:a:b.tar",
                "what follows a colon would be read as the image's name",
            ),
            (
                "docker-archive:a.tar:app:1",
                "./a:b without archive:; expected docker-archive:FILE",
            ),
            (
                "dokcer://h.io/app",
                "dokcer: is unknown; expected oci:DIR[:TAG], ",
            ),
        ] {
            let message = text.parse::<Destination>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_file_with_a_colon_is_written_as_a_path() {
        for (file, expected) in [
            ("a:b", "./a:b"),
            ("./a:b", "./a:b"),
            ("/x/a:b", "/x/a:b"),
            ("a:b/c", "./a:b/c"),
        ] {
            let destination = Destination::Archive { file: file.into() };
            assert_eq!(destination.to_string(), expected);
            let parsed = expected.parse();
            assert_eq!(
                parsed,
                Ok(Destination::Archive {
                    file: expected.into()
                })
            );
        }
    }

    #[test]
    fn standard_output_comes_from_the_caller() {
        let error = Destination::Stdout.open(None).err().unwrap();
        assert_eq!(error.to_string(), "-: there is no standard output here");
    }
}
