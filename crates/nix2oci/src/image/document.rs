//! Documents of an image: read within limits, and parsed.

use std::io::{self, Read};

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Location, Result};

use super::reader::Files;

/// Reads a file of limited size, if it is there.
pub(super) fn read_document(
    image: &str,
    files: &dyn Files,
    file: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>> {
    let Some(found) = files.open(file)? else {
        return Ok(None);
    };
    let place = format!("{image}: {file}");
    if found.size > limit {
        let problem = format!("has {} bytes, {limit} are allowed", found.size);
        return Err(Error::image(place, problem));
    }
    read_all(&place, found.reader, limit).map(Some)
}

/// Reads a stream that was promised to have at most `limit` bytes.
pub(super) fn read_all(place: &str, reader: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more, so that a verifying reader sees the end.
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| lift(place, error))?;
    Ok(bytes)
}

/// Takes the [`Error`] out of one of a reader, or names what was read.
pub(super) fn lift(place: &str, error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|source| {
        ErrorKind::ReadInput {
            path: place.into(),
            source,
        }
        .into()
    })
}

/// Reads a JSON document and names it if it is wrong.
pub(super) fn parse<T: DeserializeOwned>(document: &str, bytes: &[u8]) -> Result<T> {
    parse_json(bytes).map_err(|error| {
        let location = match error.line() {
            0 => Location::Whole,
            line => Location::Line(line as u64),
        };
        Error::document(document, location, error.to_string())
    })
}

/// Reads a JSON document.
///
/// Lists that a document must have may be `null`: programs in Go, umoci among
/// them, write an empty list so.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|error| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes)?;
        let mut has_null = false;
        for list in ["/manifests", "/layers", "/rootfs/diff_ids"] {
            if let Some(list) = value.pointer_mut(list).filter(|list| list.is_null()) {
                *list = serde_json::Value::Array(Vec::new());
                has_null = true;
            }
        }
        if has_null {
            serde_json::from_value(value)
        } else {
            Err(error)
        }
    })
}
