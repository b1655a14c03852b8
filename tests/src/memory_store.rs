//! Store paths in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use nix2oci::content::{ContentSource, Entry};
use nix2oci::store::StoreDir;
use nix2oci::{Context, ErrorKind, Result, StorePath};

/// A file system object: what a store path, or a name in it, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory: its names, which are bytes, in NAR's order.
    Directory(BTreeMap<Vec<u8>, Node>),
    /// A regular file.
    File {
        /// Its bytes.
        contents: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link: what it holds.
    Symlink(Vec<u8>),
}

impl Node {
    /// Makes a directory.
    pub fn directory<N: AsRef<[u8]>>(names: impl IntoIterator<Item = (N, Self)>) -> Self {
        let names = names.into_iter();
        Self::Directory(
            names
                .map(|(n, node)| (n.as_ref().to_owned(), node))
                .collect(),
        )
    }

    /// Makes a file that may not be executed.
    pub fn file(contents: impl AsRef<[u8]>) -> Self {
        Self::File {
            contents: contents.as_ref().to_owned(),
            executable: false,
        }
    }

    /// Makes a file that may be executed.
    pub fn executable(contents: impl AsRef<[u8]>) -> Self {
        Self::File {
            contents: contents.as_ref().to_owned(),
            executable: true,
        }
    }

    /// Makes a symbolic link.
    pub fn symlink(target: impl AsRef<[u8]>) -> Self {
        Self::Symlink(target.as_ref().to_owned())
    }

    /// Returns the NAR serialisation.
    ///
    /// Source: the Nix manual, "Nix Archive (NAR) format".
    pub fn nar(&self) -> Vec<u8> {
        let mut out = Vec::new();
        nar_text(&mut out, b"nix-archive-1");
        self.write_nar(&mut out);
        out
    }

    fn write_nar(&self, out: &mut Vec<u8>) {
        let texts = |out: &mut Vec<u8>, texts: &[&[u8]]| {
            texts.iter().for_each(|text| nar_text(out, text));
        };
        texts(out, &[b"(", b"type"]);
        match self {
            Self::Directory(names) => {
                texts(out, &[b"directory"]);
                for (name, node) in names {
                    texts(out, &[b"entry", b"(", b"name", name, b"node"]);
                    node.write_nar(out);
                    texts(out, &[b")"]);
                }
            }
            Self::File {
                contents,
                executable,
            } => {
                texts(out, &[b"regular"]);
                if *executable {
                    texts(out, &[b"executable", b""]);
                }
                texts(out, &[b"contents", contents]);
            }
            Self::Symlink(target) => texts(out, &[b"symlink", b"target", target]),
        }
        texts(out, &[b")"]);
    }

    /// Writes it to disk, with the modes that Nix gives: 0555 for directories
    /// and what may be executed, 0444 for the rest.
    ///
    /// The parent must be there and `path` must not.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        use std::ffi::OsStr;
        use std::fs;
        use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink};

        let mode = match self {
            Self::Directory(names) => {
                fs::create_dir(path)?;
                for (name, node) in names {
                    node.write(&path.join(OsStr::from_bytes(name)))?;
                }
                0o555
            }
            Self::File {
                contents,
                executable,
            } => {
                fs::write(path, contents)?;
                if *executable { 0o555 } else { 0o444 }
            }
            Self::Symlink(target) => return symlink(OsStr::from_bytes(target), path),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
}

/// Appends a text as NAR writes it: length, bytes, zeros up to 8.
fn nar_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Store paths in memory: a [`ContentSource`] without a disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    paths: BTreeMap<StorePath, Node>,
}

impl MemoryStore {
    /// Adds a store path, or replaces it.
    pub fn insert(&mut self, path: StorePath, node: Node) {
        self.paths.insert(path, node);
    }

    /// Returns what a store path is.
    pub fn get(&self, path: &StorePath) -> Option<&Node> {
        self.paths.get(path)
    }

    /// Returns all store paths in the order of their hashes.
    pub fn paths(&self) -> impl Iterator<Item = (&StorePath, &Node)> {
        self.paths.iter()
    }

    /// Writes all store paths below `root` as a store there would hold them:
    /// `root/nix/store/…`. Makes the directories above them.
    pub fn write(&self, root: &Path, store_dir: &StoreDir) -> io::Result<()> {
        std::fs::create_dir_all(root.join(&store_dir.as_str()[1..]))?;
        for (path, node) in &self.paths {
            node.write(&store_dir.join_below(root, path))?;
        }
        Ok(())
    }
}

impl<I: IntoIterator<Item = (StorePath, Node)>> From<I> for MemoryStore {
    fn from(paths: I) -> Self {
        Self {
            paths: paths.into_iter().collect(),
        }
    }
}

impl ContentSource for MemoryStore {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let node = self.paths.get(path).ok_or_else(|| ErrorKind::ReadStore {
            action: "open",
            path: StoreDir::default().join(path).into(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        visit(cx, node, &mut Vec::new(), visitor)
    }
}

fn visit(
    cx: &Context,
    node: &Node,
    path: &mut Vec<u8>,
    visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
) -> Result<()> {
    cx.cancel.check()?;
    match node {
        Node::Directory(names) => {
            visitor(Entry::Directory { path })?;
            let length = path.len();
            for (name, node) in names {
                if length > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                visit(cx, node, path, visitor)?;
                path.truncate(length);
            }
            Ok(())
        }
        Node::File {
            contents,
            executable,
        } => visitor(Entry::File {
            path,
            executable: *executable,
            size: contents.len() as u64,
            contents: &mut contents.as_slice(),
        }),
        Node::Symlink(target) => visitor(Entry::Symlink { path, target }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn tree() -> Node {
        Node::directory([
            (b"b".to_vec(), Node::executable("#!")),
            (b"a".to_vec(), Node::directory([("x", Node::file(""))])),
            (b"a-".to_vec(), Node::symlink("a/x")),
            (b"\xff".to_vec(), Node::Directory(BTreeMap::new())),
        ])
    }

    fn told(store: &MemoryStore, path: &StorePath) -> Result<Vec<String>> {
        let mut told = Vec::new();
        store.visit(&Context::default(), path, &mut |mut entry| {
            let at = entry.path().escape_ascii().to_string();
            told.push(match &mut entry {
                Entry::Directory { .. } => format!("{at}/"),
                Entry::Symlink { target, .. } => format!("{at} -> {}", target.escape_ascii()),
                Entry::File {
                    executable,
                    size,
                    contents,
                    ..
                } => {
                    let mut bytes = [0; 8];
                    let n = contents.read(&mut bytes)?;
                    assert_eq!(contents.read(&mut bytes)?, 0);
                    assert_eq!(n as u64, *size);
                    format!(
                        "{at} {executable} {:?}",
                        bytes[..n].escape_ascii().to_string()
                    )
                }
            });
            Ok(())
        })?;
        Ok(told)
    }

    #[test]
    fn objects_are_visited_in_nar_order() {
        let store = MemoryStore::from([(path("it"), tree()), (path("file"), Node::file("f"))]);
        assert_eq!(
            told(&store, &path("it")).unwrap(),
            [
                "/",
                "a/",
                "a/x false \"\"",
                "a- -> a/x",
                "b true \"#!\"",
                "\\xff/"
            ]
        );
        assert_eq!(told(&store, &path("file")).unwrap(), [" false \"f\""]);
        assert_eq!(
            told(&store, &path("none")).unwrap_err().to_string(),
            "failed to open /nix/store/00000000000000000000000000000000-none"
        );
    }

    #[test]
    fn a_visit_can_be_cancelled() {
        let store = MemoryStore::from([(path("it"), tree())]);
        let cx = Context::default();
        let mut seen = 0;
        let error = store
            .visit(&cx, &path("it"), &mut |_| {
                seen += 1;
                cx.cancel.cancel();
                Ok(())
            })
            .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled));
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_nar_is_as_nix_writes_it() {
        // `nix-store --dump` of an empty file that may be executed.
        let mut expected = Vec::new();
        for text in [
            "nix-archive-1",
            "(",
            "type",
            "regular",
            "executable",
            "",
            "contents",
            "",
            ")",
        ] {
            nar_text(&mut expected, text.as_bytes());
        }
        assert_eq!(Node::executable("").nar(), expected);
        assert_eq!(expected.len(), 24 + 16 + 16 + 16 + 24 + 8 + 16 + 8 + 16);
    }

    #[test]
    fn what_is_written_has_the_modes_of_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = MemoryStore::from([(path("it"), tree())]);
        store.write(dir.path(), &StoreDir::default()).unwrap();
        let at = dir.path().join("nix/store").join(path("it").as_str());
        let mode = |name| {
            std::fs::metadata(at.join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!((mode(""), mode("b"), mode("a/x")), (0o555, 0o555, 0o444));
        assert_eq!(std::fs::read_link(at.join("a-")).unwrap(), Path::new("a/x"));
        // So that the folder can be removed without being root.
        for name in ["", "a"] {
            std::fs::set_permissions(at.join(name), std::fs::Permissions::from_mode(0o755))
                .unwrap();
        }
    }
}
