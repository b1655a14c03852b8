//! Files outside the store in a recipe.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::oci::Owner;
use crate::plan::{Metadata, RootFile, RootNode, RootTree};
use crate::store::{NarHash, StoreDir};

/// A file outside the store in a recipe: a directory, a symbolic link, or a
/// regular file, whose bytes are here or in a store path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipeNode {
    /// Where, relative to the root; bytes that are no UTF-8 as `\xNN`, a
    /// backslash as `\\`.
    pub path: String,
    /// The permission bits of a directory, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// What a symbolic link holds, spelled as `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
    /// The bytes of a regular file, in base 64. Since version 2, as all that
    /// follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// Where the bytes of a regular file are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<RecipeStoredFile>,
    /// The permission bits of a regular file, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The owner, if it is not that of all files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<RecipeOwner>,
    /// Extended attributes by name, their values in base 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// A file of a store path in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipeStoredFile {
    /// The full store path.
    pub path: String,
    /// Where in it, spelled as [`RecipeNode::path`]; empty for itself.
    pub inside: String,
    /// The store path's NAR hash, if it was known.
    pub nar_hash: Option<String>,
    /// The file's bytes.
    pub size: u64,
}

/// An owner in a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecipeOwner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl RecipeNode {
    /// Returns whether it has what version 1 of the format lacks.
    pub(super) fn is_of_version_2(&self) -> bool {
        self.bytes.is_some()
            || self.stored.is_some()
            || self.mode.is_some()
            || self.owner.is_some()
            || !self.xattrs.is_empty()
    }
}

/// Returns the files of a tree.
pub(super) fn recipe_nodes(tree: &RootTree, store_dir: &StoreDir) -> Vec<RecipeNode> {
    let nodes = tree.nodes().map(|(path, node, metadata)| {
        let mode = format!("{:o}", metadata.mode.unwrap_or(node.default_mode()));
        let mut recipe = RecipeNode {
            path: spell(path),
            owner: metadata.owner.map(recipe_owner),
            xattrs: recipe_xattrs(&metadata.xattrs),
            ..RecipeNode::default()
        };
        match node {
            RootNode::Directory => recipe.directory = Some(mode),
            RootNode::Symlink { target } => recipe.symlink = Some(spell(target)),
            RootNode::File(file) => {
                recipe.mode = Some(mode);
                match file {
                    RootFile::Inline { bytes, .. } => recipe.bytes = Some(BASE64.encode(bytes)),
                    RootFile::Stored {
                        path,
                        inside,
                        nar_hash,
                        size,
                        ..
                    } => {
                        recipe.stored = Some(RecipeStoredFile {
                            path: store_dir.join(path),
                            inside: spell(inside),
                            nar_hash: nar_hash.map(|hash| hash.to_string()),
                            size: *size,
                        });
                    }
                }
            }
        }
        recipe
    });
    nodes.collect()
}

/// Returns the tree whose files are these; `refuse` makes an error of what is
/// wrong.
pub(super) fn root_tree(
    nodes: &[RecipeNode],
    store_dir: &StoreDir,
    refuse: &dyn Fn(&dyn Display) -> Error,
) -> Result<RootTree> {
    let mut tree = RootTree::default();
    for node in nodes {
        let (path, content) = parse_node(node, store_dir).map_err(|problem| refuse(&problem))?;
        let metadata = parse_metadata(node).map_err(|problem| refuse(&problem))?;
        tree.insert(&path, content, metadata, "the recipe")
            .map_err(|e| refuse(&e))?;
    }
    Ok(tree)
}

fn parse_node(node: &RecipeNode, store_dir: &StoreDir) -> Result<(Vec<u8>, RootNode), String> {
    let content = match (&node.directory, &node.symlink, &node.bytes, &node.stored) {
        (Some(_), None, None, None) => RootNode::Directory,
        (None, Some(target), None, None) => RootNode::Symlink {
            target: parse_spelled(target)?,
        },
        (None, None, Some(bytes), None) => RootNode::File(RootFile::Inline {
            bytes: Arc::from(parse_base64(bytes)?),
            executable: is_executable(node)?,
        }),
        (None, None, None, Some(stored)) => RootNode::File(RootFile::Stored {
            path: store_dir
                .parse_path(&stored.path)
                .map_err(|e| e.to_string())?,
            inside: parse_spelled(&stored.inside)?,
            nar_hash: stored
                .nar_hash
                .as_deref()
                .map(str::parse::<NarHash>)
                .transpose()
                .map_err(|e| e.to_string())?,
            executable: is_executable(node)?,
            size: stored.size,
        }),
        _ => {
            return Err(format!(
                "{:?} is not one of a directory, a symlink, and a file with bytes or a store path",
                node.path
            ));
        }
    };
    Ok((parse_spelled(&node.path)?, content))
}

fn is_executable(node: &RecipeNode) -> Result<bool, String> {
    match &node.mode {
        Some(mode) => Ok(parse_mode(mode)? & 0o111 != 0),
        None => Err(format!("the file {:?} has no mode", node.path)),
    }
}

fn parse_metadata(node: &RecipeNode) -> Result<Metadata, String> {
    let mode = node.directory.as_ref().or(node.mode.as_ref());
    Ok(Metadata {
        mode: mode.map(|mode| parse_mode(mode)).transpose()?,
        owner: node.owner.as_ref().map(parse_owner),
        xattrs: parse_xattrs(&node.xattrs)?,
    })
}

pub(super) fn recipe_owner(owner: Owner) -> RecipeOwner {
    RecipeOwner {
        uid: owner.uid,
        gid: owner.gid,
    }
}

pub(super) fn parse_owner(owner: &RecipeOwner) -> Owner {
    Owner {
        uid: owner.uid,
        gid: owner.gid,
    }
}

pub(super) fn recipe_xattrs(xattrs: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let spelled = |(name, value): (&String, &Vec<u8>)| (name.clone(), BASE64.encode(value));
    xattrs.iter().map(spelled).collect()
}

pub(super) fn parse_xattrs(
    xattrs: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    xattrs
        .iter()
        .map(|(name, value)| Ok((name.clone(), parse_base64(value)?)))
        .collect()
}

fn parse_base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64
        .decode(text.as_bytes())
        .map_err(|e| format!("it is no base 64: {e}"))
}

/// Reads permission bits in octal digits.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && text.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| format!("{text:?} is no mode"))
}

fn parse_spelled(text: &str) -> Result<Vec<u8>, String> {
    unspell(text).ok_or_else(|| format!("{text:?} is not spelled well"))
}

/// Spells bytes as text that can be read back.
pub(super) fn spell(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Reads what [`spell`] wrote.
pub(super) fn unspell(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                out.push(b'\\');
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_spelled_is_read_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unspell(&spell(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn every_node_is_read_back() {
        let store_dir = StoreDir::default();
        let hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let metadata = Metadata {
            mode: Some(0o4750),
            owner: Some(Owner { uid: 1, gid: 2 }),
            xattrs: [("user.x".to_owned(), vec![0, 255])].into(),
        };
        let stored = RootFile::Stored {
            path: format!("{}-a", "0".repeat(32)).parse().unwrap(),
            inside: b"bin/\xff".to_vec(),
            nar_hash: Some(hash.parse().unwrap()),
            executable: true,
            size: 7,
        };
        let inline = RootFile::Inline {
            bytes: b"\0\xff"[..].into(),
            executable: true,
        };
        let mut tree = RootTree::default();
        for (path, node) in [
            (&b"a"[..], RootNode::Directory),
            (b"b", RootNode::File(stored)),
            (b"c", RootNode::File(inline)),
        ] {
            tree.insert(path, node, metadata.clone(), "the recipe")
                .unwrap();
        }
        let nodes = recipe_nodes(&tree, &store_dir);
        assert!(nodes.iter().all(RecipeNode::is_of_version_2));
        let refuse = |problem: &dyn Display| Error::invalid("a node", problem.to_string());
        assert_eq!(root_tree(&nodes, &store_dir, &refuse).unwrap(), tree);
        for wrong in [
            RecipeNode::default(),
            RecipeNode {
                mode: None,
                ..nodes[1].clone()
            },
            RecipeNode {
                mode: Some("+7".to_owned()),
                ..nodes[1].clone()
            },
            RecipeNode {
                owner: Some(RecipeOwner {
                    uid: u32::MAX,
                    gid: 0,
                }),
                ..nodes[1].clone()
            },
            RecipeNode {
                bytes: Some("?".to_owned()),
                ..nodes[2].clone()
            },
            RecipeNode {
                symlink: Some("a".to_owned()),
                ..nodes[2].clone()
            },
        ] {
            assert!(root_tree(&[wrong], &store_dir, &refuse).is_err());
        }
    }

    #[test]
    fn bytes_are_spelled_so_that_they_can_be_told_apart() {
        assert_eq!(spell("bin/ä".as_bytes()), "bin/ä");
        assert_eq!(spell(b"a\\x41\xff"), "a\\\\x41\\xff");
    }

    #[test]
    fn what_nobody_spells_is_refused() {
        for text in ["\\", "\\x", "\\x4", "\\xzz", "\\n"] {
            assert_eq!(unspell(text), None, "{text}");
        }
    }
}
