//! Where an image is read from.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};
use crate::input::InputKind;
use crate::layer::Codec;

/// Where an image is read from, as a user writes it:
///
/// - `oci:DIR[:TAG]`: an OCI image layout in a directory
/// - `archive:FILE[:TAG]`, `oci-archive:FILE[:TAG]`,
///   `docker-archive:FILE[:TAG]`: a tar, which is looked at; the three mean the
///   same
/// - `lock:FILE[:TAG]`: a lock
/// - anything else is a path, which is looked at
///
/// `DIR` and `FILE` end at the first colon, as in skopeo, because `TAG` may be
/// a whole reference with colons in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// An OCI image layout.
    Layout {
        /// The directory with `oci-layout` and `index.json`.
        dir: PathBuf,
        /// Which image in it, if there are more than one.
        tag: Option<String>,
    },
    /// A tar: an OCI image layout, or what `docker save` writes.
    Archive {
        /// The tar, perhaps compressed.
        file: PathBuf,
        /// Which image in it, if there are more than one.
        tag: Option<String>,
    },
    /// Images of registries that a lock pins.
    Lock {
        /// The JSON document.
        file: PathBuf,
        /// Which image in it, if there are more than one.
        tag: Option<String>,
    },
    /// Something to look at: see [`recognise`].
    Path(PathBuf),
}

/// A text does not name an image that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} {problem}: expected oci:DIR[:TAG], archive:FILE[:TAG], or the path of a layout or an archive"
)]
pub struct ParseImageSourceError {
    text: String,
    problem: &'static str,
}

/// Transports of other tools that are no paths.
const FOREIGN: &[&str] = &[
    "docker:",
    "docker-daemon:",
    "containers-storage:",
    "dir:",
    "ostree:",
    "sif:",
];

impl FromStr for ImageSource {
    type Err = ParseImageSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |problem| ParseImageSourceError {
            text: text.to_owned(),
            problem,
        };
        if text.is_empty() {
            return Err(refuse("names no image"));
        }
        if text == "-" {
            return Err(refuse("is standard input, which is not read"));
        }
        if FOREIGN.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(refuse("is not read here"));
        }
        let Some((transport, rest)) = text.split_once(':').filter(|(transport, _)| {
            matches!(
                *transport,
                "oci" | "archive" | "oci-archive" | "docker-archive" | "lock"
            )
        }) else {
            return Ok(Self::Path(PathBuf::from(text)));
        };
        let (path, tag) = match rest.split_once(':') {
            Some((_, "")) => return Err(refuse("has an empty tag")),
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(refuse("has no path"));
        }
        let path = PathBuf::from(path);
        Ok(match transport {
            "oci" => Self::Layout { dir: path, tag },
            "lock" => Self::Lock { file: path, tag },
            _ => Self::Archive { file: path, tag },
        })
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            Self::Layout { dir, tag } => ("oci:", dir, tag.as_deref()),
            Self::Archive { file, tag } => ("archive:", file, tag.as_deref()),
            Self::Lock { file, tag } => ("lock:", file, tag.as_deref()),
            Self::Path(path) => ("", path, None),
        };
        write!(f, "{transport}{}", path.display())?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        Ok(())
    }
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageForm {
    /// A directory with an OCI image layout.
    Layout,
    /// A tar, compressed so.
    Archive(Codec),
    /// A JSON document: a recipe, or what other tools write in its place.
    Recipe,
    /// A JSON document that pins images: see [`ImageLock`](super::ImageLock).
    Lock,
}

/// Looks at a path and says what it is. Reads at most 512 bytes, unless it is
/// JSON, of which it keeps nothing.
///
/// # Errors
///
/// [`ErrorKind::ReadInput`](crate::ErrorKind::ReadInput) if it cannot be read,
/// [`ErrorKind::Image`](crate::ErrorKind::Image) if it is nothing of these.
pub fn recognise(path: &Path) -> Result<ImageForm> {
    let refuse = |problem: &str| Error::image(path.display().to_string(), problem);
    let metadata = std::fs::metadata(path).map_err(Error::reading(path))?;
    if metadata.is_dir() {
        return if path.join("oci-layout").is_file() || path.join("index.json").is_file() {
            Ok(ImageForm::Layout)
        } else {
            Err(refuse("is a directory without oci-layout, so no image"))
        };
    }
    if !metadata.is_file() {
        return Err(refuse("is neither a directory nor a regular file"));
    }
    let mut head = Vec::with_capacity(512);
    File::open(path)
        .and_then(|file| file.take(512).read_to_end(&mut head))
        .map_err(Error::reading(path))?;
    match recognise_head(&head) {
        Some(ImageForm::Recipe) if is_lock(path) => Ok(ImageForm::Lock),
        Some(form) => Ok(form),
        None => Err(refuse("is neither a tar, nor a compressed one, nor JSON")),
    }
}

/// Returns whether a JSON document has what only a lock has.
fn is_lock(path: &Path) -> bool {
    #[derive(Deserialize)]
    struct Members {
        documents: Option<IgnoredAny>,
        blobs: Option<IgnoredAny>,
    }
    let Ok(file) = File::open(path) else {
        return false;
    };
    let some = BufReader::new(file.take(InputKind::Lock.limit()));
    serde_json::from_reader::<_, Members>(some)
        .is_ok_and(|members| members.documents.is_some() && members.blobs.is_some())
}

/// Says what a file is by its first 512 bytes.
fn recognise_head(head: &[u8]) -> Option<ImageForm> {
    match Codec::sniff(head) {
        Codec::None => {}
        codec => return Some(ImageForm::Archive(codec)),
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(ImageForm::Archive(Codec::None));
    }
    match head.trim_ascii_start().first() {
        Some(b'{' | b'[') => Some(ImageForm::Recipe),
        // A tar of before ustar has no magic, but a checksum in octal digits.
        _ => head
            .get(148..154)
            .is_some_and(|sum| sum.iter().all(|b| matches!(b, b'0'..=b'7' | b' ')))
            .then_some(ImageForm::Archive(Codec::None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_have_a_path_and_perhaps_a_tag() {
        let layout = |dir: &str, tag: Option<&str>| ImageSource::Layout {
            dir: dir.into(),
            tag: tag.map(str::to_owned),
        };
        let archive = |file: &str, tag: Option<&str>| ImageSource::Archive {
            file: file.into(),
            tag: tag.map(str::to_owned),
        };
        for (text, expected) in [
            ("oci:out", layout("out", None)),
            ("oci:out:1.0", layout("out", Some("1.0"))),
            (
                "oci:/a/b:host:5000/x:1",
                layout("/a/b", Some("host:5000/x:1")),
            ),
            ("archive:x.tar", archive("x.tar", None)),
            ("oci-archive:x.tar:v1", archive("x.tar", Some("v1"))),
            ("docker-archive:x.tar", archive("x.tar", None)),
            (
                "lock:base.json:h/x:1",
                ImageSource::Lock {
                    file: "base.json".into(),
                    tag: Some("h/x:1".into()),
                },
            ),
            ("./x:y", ImageSource::Path("./x:y".into())),
            ("x.tar.gz", ImageSource::Path("x.tar.gz".into())),
        ] {
            let source: ImageSource = text.parse().unwrap();
            assert_eq!(source, expected, "{text}");
            assert_eq!(source.to_string().parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (text, problem) in [
            ("", "names no image"),
            ("-", "standard input"),
            ("oci:", "no path"),
            ("archive::tag", "no path"),
            ("oci:dir:", "empty tag"),
            ("docker://host/x", "not read here"),
            ("containers-storage:x", "not read here"),
        ] {
            let error = text.parse::<ImageSource>().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let mut tar = [0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let mut old = [0; 512];
        old[148..154].copy_from_slice(b"001234");
        for (head, form) in [
            (&tar[..], Some(ImageForm::Archive(Codec::None))),
            (&old[..], Some(ImageForm::Archive(Codec::None))),
            (b"\x1f\x8b\x08", Some(ImageForm::Archive(Codec::Gzip))),
            (b"\x28\xb5\x2f\xfd", Some(ImageForm::Archive(Codec::Zstd))),
            (b"\n {\"version\": 1}", Some(ImageForm::Recipe)),
            (b"", None),
            (b"#!/bin/sh", None),
            (&[0; 512], None),
        ] {
            assert_eq!(recognise_head(head), form, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn directories_are_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let error = recognise(dir.path()).unwrap_err().to_string();
        assert!(error.contains("without oci-layout"), "{error}");
        std::fs::write(dir.path().join("oci-layout"), "{}").unwrap();
        assert_eq!(recognise(dir.path()).unwrap(), ImageForm::Layout);
        assert_eq!(
            recognise(&dir.path().join("oci-layout")).unwrap(),
            ImageForm::Recipe
        );
        assert!(recognise(&dir.path().join("gone")).is_err());
        let lock = dir.path().join("lock.json");
        let text = r#"{"version": 1, "images": [], "documents": [], "blobs": []}"#;
        std::fs::write(&lock, text).unwrap();
        assert_eq!(recognise(&lock).unwrap(), ImageForm::Lock);
    }
}
