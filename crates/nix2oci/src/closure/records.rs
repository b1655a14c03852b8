//! The record that Nix writes for a store path, line by line.
//!
//! ```text
//! <store path>
//! <NAR hash>                  with a hash only
//! <NAR size>                  with a hash only
//! <deriver, or nothing>
//! <number of references>
//! <reference>                 that many times
//! ```
//!
//! Records follow each other without a separator. Source:
//! `Store::makeValidityRegistration` and `decodeValidPathInfo` in NixOS/nix,
//! `src/libstore/store-api.cc` (2.8).

use std::collections::HashMap;

use crate::error::{Error, Location, Result};
use crate::store::{Quoted, StoreDir, StorePath};

use super::document::{self, Entry, Place};
use super::source::PathInfos;

/// Whether records tell the NAR hash and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashes {
    Present,
    Absent,
}

/// Reads a document of such records.
pub(super) fn parse(
    bytes: &[u8],
    document: &str,
    store_dir: &StoreDir,
    hashes: Hashes,
) -> Result<PathInfos> {
    let mut lines = Lines {
        rest: bytes,
        document,
        number: 0,
        known: HashMap::new(),
    };
    let mut entries = Vec::new();
    while !lines.rest.is_empty() {
        entries.push(record(&mut lines, store_dir, hashes)?);
    }
    Ok(PathInfos {
        infos: document::check(entries, document, store_dir)?,
        roots: Vec::new(),
    })
}

/// The lines of a record, counted from 1.
struct RecordLines {
    path: u64,
    first_reference: u64,
}

impl Place for RecordLines {
    fn entry(&self) -> Location {
        Location::Line(self.path)
    }

    fn reference(&self, n: usize) -> Location {
        Location::Line(self.first_reference + n as u64)
    }
}

fn record(
    lines: &mut Lines<'_>,
    store_dir: &StoreDir,
    hashes: Hashes,
) -> Result<Entry<RecordLines>> {
    let text = lines.next(|| "a store path".to_owned())?;
    let path = lines.path(text, store_dir, || "store path".to_owned())?;
    let line = lines.number;
    let of = |what: &str| format!("{what} of {}", store_dir.join(&path));

    let mut nar_hash = None;
    let mut nar_size = None;
    if hashes == Hashes::Present {
        let text = lines.next(|| of("the NAR hash"))?;
        lines.refuse_plain_list(text, store_dir)?;
        let hash = text
            .parse()
            .map_err(|error| lines.error(format!("{}: {error}", of("NAR hash"))))?;
        nar_hash = Some(hash);
        let text = lines.next(|| of("the NAR size"))?;
        nar_size = document::known_size(lines.parse_number(text, || of("NAR size"))?);
    }

    let text = lines.next(|| of("the deriver"))?;
    let deriver = match text {
        "" => None,
        _ => Some(lines.path(text, store_dir, || of("deriver"))?),
    };

    let text = lines.next(|| of("the number of references"))?;
    lines.refuse_plain_list(text, store_dir)?;
    let count = lines.parse_number(text, || of("number of references"))?;
    let first_reference = lines.number + 1;
    // Not reserved ahead: the count may be anything.
    let mut references = Vec::new();
    for n in 1..=count {
        let text = lines.next(|| of(&format!("reference {n} of {count}")))?;
        references.push(lines.path(text, store_dir, || of("reference"))?);
    }

    Ok(Entry {
        place: RecordLines {
            path: line,
            first_reference,
        },
        path,
        references,
        nar_hash,
        nar_size,
        deriver,
    })
}

struct Lines<'a> {
    rest: &'a [u8],
    document: &'a str,
    /// The last line that was read, from 1.
    number: u64,
    /// The store paths so far: each is named as often as it is referred to, and
    /// kept once.
    known: HashMap<&'a str, StorePath>,
}

impl<'a> Lines<'a> {
    /// Returns the next line without its end. The last one may lack it.
    fn next(&mut self, expected: impl FnOnce() -> String) -> Result<&'a str> {
        if self.rest.is_empty() {
            return Err(self.error(format!("the document ends before {}", expected())));
        }
        self.number += 1;
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = end.map_or(&[], |end| &self.rest[end + 1..]);
        std::str::from_utf8(line).map_err(|_| {
            self.error(format!(
                "{} is not UTF-8, expected {}",
                Quoted(&String::from_utf8_lossy(line)),
                expected()
            ))
        })
    }

    fn path(
        &mut self,
        text: &'a str,
        store_dir: &StoreDir,
        what: impl FnOnce() -> String,
    ) -> Result<StorePath> {
        if let Some(path) = self.known.get(text) {
            return Ok(path.clone());
        }
        let path = store_dir
            .parse_path(text)
            .map_err(|error| self.error(format!("{}: {error}", what())))?;
        self.known.insert(text, path.clone());
        Ok(path)
    }

    /// Refuses a store path where no record has one.
    fn refuse_plain_list(&self, text: &str, store_dir: &StoreDir) -> Result<()> {
        match store_dir.parse_path(text) {
            Ok(_) => Err(self.error(
                "this is a plain list of store paths, as nix-store --query --requisites prints \
                 it, which does not say what refers to what"
                    .to_owned(),
            )),
            Err(_) => Ok(()),
        }
    }

    fn parse_number(&self, text: &str, what: impl FnOnce() -> String) -> Result<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.ok_or_else(|| self.error(format!("{}: {} is not a number", what(), Quoted(text))))
    }

    fn error(&self, problem: String) -> Error {
        Error::document(self.document, Location::Line(self.number), problem)
    }
}
