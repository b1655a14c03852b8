//! The text reference graph: `exportReferencesGraph` of a derivation without
//! structured attributes.
//!
//! One file per graph in the build's top directory; records without NAR hashes
//! and sizes, with an empty deriver line. Source: `exportReferencesGraph` in
//! the Nix manual, "Advanced attributes".

use std::path::PathBuf;

use crate::context::Context;
use crate::error::Result;
use crate::store::{StoreDir, StorePath};

use super::document::Input;
use super::records::{self, Hashes};
use super::source::{ClosureSource, PathInfos};

/// Reads a text reference graph. NAR hashes and sizes are unknown, and no
/// roots are named.
///
/// # Errors
///
/// [`ErrorKind::Document`](crate::error::ErrorKind::Document) with the line
/// for anything that is not such a record, for a reference that has no record
/// of its own, for a cycle, and for two records of one path that differ.
pub fn parse(bytes: &[u8], document: &str, store_dir: &StoreDir) -> Result<PathInfos> {
    records::parse(bytes, document, store_dir, Hashes::Absent)
}

/// A text reference graph.
#[derive(Debug, Clone)]
pub struct ReferenceGraph {
    pub(super) input: Input,
    pub(super) store_dir: StoreDir,
}

impl ReferenceGraph {
    /// Makes the source that reads a file.
    pub fn new(file: impl Into<PathBuf>, store_dir: StoreDir) -> Self {
        Self {
            input: Input::File(file.into()),
            store_dir,
        }
    }

    /// Makes the source that reads `bytes`, called `name` in errors.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>, store_dir: StoreDir) -> Self {
        Self {
            input: Input::Bytes {
                name: name.into(),
                bytes,
            },
            store_dir,
        }
    }
}

impl ClosureSource for ReferenceGraph {
    fn name(&self) -> String {
        self.input.name()
    }

    fn path_infos(&self, _: &Context, _: &[StorePath]) -> Result<PathInfos> {
        self.input
            .read(|bytes, document| parse(bytes, document, &self.store_dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/00000000000000000000000000000000-a";
    const B: &str = "/nix/store/11111111111111111111111111111111-b";

    fn read(text: &str) -> Result<PathInfos> {
        parse(text.as_bytes(), "graph", &StoreDir::default())
    }

    fn problem(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_record_is_a_path_a_deriver_and_references() {
        let found = read(&format!("{A}\n\n2\n{A}\n{B}\n{B}\n\n0\n")).unwrap();
        assert_eq!(found.infos.len(), 2);
        let [a, b] = &found.infos[..] else {
            panic!("two paths")
        };
        assert_eq!(
            a.references,
            std::slice::from_ref(&b.path),
            "without itself"
        );
        assert_eq!((a.nar_hash, a.nar_size, &a.deriver), (None, None, &None));
        assert!(found.roots.is_empty());
    }

    #[test]
    fn the_last_newline_may_be_missing_and_nothing_else() {
        assert_eq!(read("").unwrap(), PathInfos::default());
        assert!(read(&format!("{A}\n\n0")).is_ok());
        assert_eq!(
            problem(&format!("{A}\n\n2\n{A}\n")),
            format!("graph, line 4: the document ends before reference 2 of 2 of {A}")
        );
        assert_eq!(
            problem(&format!("{A}\n\n")),
            format!("graph, line 2: the document ends before the number of references of {A}")
        );
        assert_eq!(
            problem(&format!("{A}\n\n0\n\n")),
            "graph, line 4: store path: \"\" is not in the store directory /nix/store"
        );
    }

    #[test]
    fn problems_name_the_line_and_the_path() {
        assert_eq!(
            problem(&format!("{A}\n\n1\n{B}\n")),
            format!("graph, line 4: {A} refers to {B}, which has no entry here")
        );
        assert_eq!(
            problem(&format!("{A}\n\n1\n{B}\n{B}\n\n1\n{A}\n")),
            format!("graph, line 1: store paths refer to each other in a cycle: {A} → {B} → {A}")
        );
        assert_eq!(
            problem(&format!("{A}\n\n0\n{B}\n\n0\n{A}\n\n1\n{B}\n")),
            format!(
                "graph, line 7: a second entry for {A} differs from the first: \
                 their references are not the same"
            )
        );
        for number in ["", "-1", "+1", "1 ", "x", "18446744073709551616"] {
            assert_eq!(
                problem(&format!("{A}\n\n{number}\n{A}\n")),
                format!("graph, line 3: number of references of {A}: {number:?} is not a number")
            );
        }
        assert!(
            problem(&format!("{A}\n\n1\n/gnu/store/x\n")).starts_with(&format!(
                "graph, line 4: reference of {A}: \"/gnu/store/x\" is not in the store directory"
            ))
        );
        let error = parse(b"\xff\n", "graph", &StoreDir::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("line 1: \"\u{fffd}\" is not UTF-8")
        );
    }

    #[test]
    fn a_plain_list_of_paths_is_recognised() {
        let found = problem(&format!("{A}\n{B}\n{A}\n"));
        assert!(
            found.starts_with("graph, line 3: this is a plain list"),
            "{found}"
        );
    }

    #[test]
    fn the_same_record_twice_is_one() {
        let found = read(&format!("{A}\n\n0\n{A}\n\n0\n")).unwrap();
        assert_eq!(found.infos.len(), 1);
    }
}
