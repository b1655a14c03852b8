//! Structured attributes: the `.attrs.json` of a derivation with
//! `__structuredAttrs` and `exportReferencesGraph`.
//!
//! ```json
//! { "exportReferencesGraph": { "closure": ["/nix/store/…-app"] },
//!   "closure": [{ "path": "/nix/store/…-app", "narHash": "sha256:…",
//!                 "narSize": 240, "references": ["/nix/store/…-lib"] }] }
//! ```
//!
//! The roots stay beside the graph that Nix adds. Source:
//! `pathInfoToJSON` in NixOS/nix, `src/libstore/parsed-derivations.cc`, whose
//! shape Nix promises not to change.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::{Error, Location, Result};
use crate::store::{StoreDir, StorePath};

use super::document::{self, Entry, Input};
use super::json::{Json, Members};
use super::path_object::{self, ObjectKey};
use super::source::{ClosureSource, PathInfos};

/// The attribute that lists the graphs and their roots.
const GRAPHS: &str = "exportReferencesGraph";

/// Reads the graph `key`, or every graph that `exportReferencesGraph` lists.
///
/// The roots are those that `exportReferencesGraph` tells; a graph that it
/// does not mention has none, and is found by its key only.
///
/// # Errors
///
/// [`ErrorKind::Document`](crate::error::ErrorKind::Document) with the key
/// path (line and column if it is no JSON) for a graph that is not there, for
/// anything in it that is not a described store path, for a reference or root
/// that is not described, for a cycle, and for two descriptions that differ.
pub fn parse(
    bytes: &[u8],
    document: &str,
    store_dir: &StoreDir,
    key: Option<&str>,
) -> Result<PathInfos> {
    let whole = Json::parse(bytes, document)?;
    let members = whole.members("an object with the attributes of a derivation")?;
    let mut reader = Reader {
        whole,
        members: &members,
        store_dir,
        entries: Vec::new(),
        roots: Vec::new(),
    };

    let listed = members.find(GRAPHS).filter(|text| *text != "null");
    let Some(text) = listed else {
        let Some(key) = key else {
            return Err(whole.error(format!(
                "there is no key {GRAPHS} that lists the graphs; expected it, or the name of a graph"
            )));
        };
        reader.graph(key)?;
        return reader.finish(document);
    };
    let graphs = whole.member(GRAPHS, text);
    let listed = graphs.members("an object with the roots of each graph")?;
    if let Some(key) = key {
        reader.graph(key)?;
        if let Some(text) = listed.find(key) {
            reader.roots_of(graphs.member(key, text))?;
        }
    } else {
        for (key, text) in listed.iter() {
            reader.graph(key)?;
            reader.roots_of(graphs.member(key, text))?;
        }
    }
    reader.finish(document)
}

struct Reader<'a, 't> {
    whole: Json<'t, 'a>,
    members: &'a Members<'t>,
    store_dir: &'a StoreDir,
    entries: Vec<Entry<ObjectKey>>,
    roots: Vec<(StorePath, Location)>,
}

impl Reader<'_, '_> {
    fn graph(&mut self, key: &str) -> Result<()> {
        let Some(text) = self.members.find(key) else {
            return Err(self.no_graph(key));
        };
        let graph = self.whole.member(key, text);
        for (n, text) in graph
            .elements("an array of described store paths")?
            .into_iter()
            .enumerate()
        {
            let object = graph.element(n, text);
            self.entries
                .push(path_object::entry(object, None, self.store_dir)?);
        }
        Ok(())
    }

    fn no_graph(&self, key: &str) -> Error {
        let listed = self.members.find(GRAPHS).map(|text| {
            let graphs = self.whole.member(GRAPHS, text);
            graphs.members("an object with the roots of each graph")
        });
        let names = match &listed {
            Some(Ok(graphs)) => graphs.iter().map(|(name, _)| format!("{name:?}")).collect(),
            _ => Vec::new(),
        };
        let known = match names[..] {
            [] => String::new(),
            _ => format!("; {GRAPHS} lists {}", names.join(", ")),
        };
        self.whole
            .error(format!("there is no graph {key:?}{known}"))
    }

    /// Reads the roots of a graph: one, or a list of them at any depth, as newer
    /// versions of Nix take them. A root may lie inside of a store path.
    fn roots_of(&mut self, list: Json<'_, '_>) -> Result<()> {
        if !list.is_array() {
            return self.root(list);
        }
        for (n, text) in list
            .elements("an array of store paths")?
            .into_iter()
            .enumerate()
        {
            self.roots_of(list.element(n, text))?;
        }
        Ok(())
    }

    fn root(&mut self, text: Json<'_, '_>) -> Result<()> {
        let (path, _) = self
            .store_dir
            .split(&text.string("a store path")?)
            .map_err(|error| text.error(error.to_string()))?;
        self.roots.push((path, text.location()));
        Ok(())
    }

    fn finish(self, document: &str) -> Result<PathInfos> {
        let infos = document::check(self.entries, document, self.store_dir)?;
        let known: HashSet<_> = infos.iter().map(|info| &info.path).collect();
        for (root, location) in &self.roots {
            if !known.contains(root) {
                return Err(Error::document(
                    document,
                    location.clone(),
                    format!("{} is not in its graph", self.store_dir.join(root)),
                ));
            }
        }
        let mut roots: Vec<_> = self.roots.into_iter().map(|(root, _)| root).collect();
        roots.sort_unstable();
        roots.dedup();
        Ok(PathInfos { infos, roots })
    }
}

/// Structured attributes.
#[derive(Debug, Clone)]
pub struct AttrsJson {
    pub(super) input: Input,
    pub(super) key: Option<String>,
    pub(super) store_dir: StoreDir,
}

impl AttrsJson {
    /// Makes the source that reads the graph `key` of a file, or all graphs.
    pub fn new(file: impl Into<PathBuf>, key: Option<String>, store_dir: StoreDir) -> Self {
        Self {
            input: Input::File(file.into()),
            key,
            store_dir,
        }
    }

    /// Makes the source that reads `bytes`, called `name` in errors.
    pub fn from_bytes(
        name: impl Into<String>,
        bytes: Vec<u8>,
        key: Option<String>,
        store_dir: StoreDir,
    ) -> Self {
        Self {
            input: Input::Bytes {
                name: name.into(),
                bytes,
            },
            key,
            store_dir,
        }
    }
}

impl ClosureSource for AttrsJson {
    fn name(&self) -> String {
        self.input.name()
    }

    fn path_infos(&self, _: &Context, _: &[StorePath]) -> Result<PathInfos> {
        self.input
            .read(|bytes, document| parse(bytes, document, &self.store_dir, self.key.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/00000000000000000000000000000000-a";
    const B: &str = "/nix/store/11111111111111111111111111111111-b";

    fn read(text: &str, key: Option<&str>) -> Result<PathInfos> {
        let text = text.replace("$A", A).replace("$B", B);
        parse(text.as_bytes(), ".attrs.json", &StoreDir::default(), key)
    }

    fn problem(text: &str, key: Option<&str>) -> String {
        read(text, key).unwrap_err().to_string()
    }

    const TWO: &str = r#"{"exportReferencesGraph": {"x": ["$A/bin/a"], "y": "$B"},
        "x": [{"path": "$A", "references": ["$A", "$B"], "narSize": 1},
              {"path": "$B", "references": [], "valid": true, "ca": {"method": "nar"}}],
        "y": [{"path": "$B", "references": [], "narSize": 2}]}"#;

    #[test]
    fn roots_may_be_lists_in_lists() {
        let nested = TWO.replace(r#"["$A/bin/a"]"#, r#"[["$A/bin/a"], [[]], "$B"]"#);
        let x = read(&nested, Some("x")).unwrap();
        let [a, b] = [A, B].map(|path| StoreDir::default().parse_path(path).unwrap());
        assert_eq!(x.roots, [a, b]);
    }

    #[test]
    fn all_graphs_or_one() {
        let store_dir = StoreDir::default();
        let [a, b] = [A, B].map(|path| store_dir.parse_path(path).unwrap());
        let all = read(TWO, None).unwrap();
        assert_eq!(
            (all.infos.len(), &all.roots[..]),
            (2, &[a.clone(), b.clone()][..])
        );
        assert_eq!(all.infos[1].nar_size, Some(2), "told by one graph of two");
        let x = read(TWO, Some("x")).unwrap();
        assert_eq!((x.infos.len(), x.roots), (2, vec![a]));
        let y = read(TWO, Some("y")).unwrap();
        assert_eq!((y.infos.len(), y.roots), (1, vec![b]));
    }

    #[test]
    fn a_named_graph_needs_no_list_of_roots() {
        let found = read(r#"{"g": [{"path": "$A", "references": []}]}"#, Some("g")).unwrap();
        assert_eq!((found.infos.len(), found.roots.len()), (1, 0));
        assert_eq!(
            problem(r#"{"g": []}"#, None),
            ".attrs.json: there is no key exportReferencesGraph that lists the graphs; \
             expected it, or the name of a graph"
        );
        assert_eq!(
            problem(TWO, Some("z")),
            ".attrs.json: there is no graph \"z\"; exportReferencesGraph lists \"x\", \"y\""
        );
    }

    #[test]
    fn problems_name_the_key_and_the_path() {
        for (graph, expected) in [
            (
                r#"[{"path": "$A", "references": ["$B"]}]"#,
                format!("key g[0].references[0]: {A} refers to {B}, which has no entry here"),
            ),
            (
                r#"[{"path": "$A", "references": ["/x"]}]"#,
                "key g[0].references[0]: \"/x\" is not in the store directory /nix/store".into(),
            ),
            (
                r#"[{"path": "$A", "references": [], "narHash": "md5:x"}]"#,
                format!("key g[0].narHash: NAR hash of {A}: \"md5:x\" is not a SHA-256 hash"),
            ),
            (
                r#"[{"path": "$A", "references": [], "narSize": -1}]"#,
                format!("key g[0].narSize: expected the NAR size of {A} in bytes, found -1"),
            ),
            (
                r#"[{"path": "$A"}]"#,
                format!("key g[0]: expected a key references with the references of {A}"),
            ),
            (
                r#"[{"path": "$A", "references": [], "valid": false}]"#,
                format!("key g[0].valid: {A} is not valid: it is not in the store"),
            ),
            (
                r#"[{"path": "$A", "references": ["$B"]}, {"path": "$B", "references": ["$A"]}]"#,
                format!("key g[0]: store paths refer to each other in a cycle: {A} → {B} → {A}"),
            ),
            (
                r#"[{"path": "$A", "references": [], "narSize": 1},
                    {"path": "$A", "references": [], "narSize": 2}]"#,
                format!(
                    "key g[1]: a second entry for {A} differs from the first: NAR size 1 and 2"
                ),
            ),
            (
                r#"[{"references": []}]"#,
                "key g[0]: expected a key path with a store path".into(),
            ),
            (
                r#"{}"#,
                "key g: expected an array of described store paths, found an object".into(),
            ),
        ] {
            let text = format!(r#"{{"g": {graph}}}"#);
            assert_eq!(
                problem(&text, Some("g")),
                format!(".attrs.json, {expected}")
            );
        }
        assert_eq!(
            problem(r#"{"exportReferencesGraph": {"g": ["$B"]}, "g": []}"#, None),
            format!(".attrs.json, key exportReferencesGraph.g[0]: {B} is not in its graph")
        );
    }
}
