//! What documents say, put into a tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::{ContentSource, Entry};
use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Location, Result};
use crate::oci::Owner;
use crate::plan::root_tree::Added;
use crate::plan::{Copies, Metadata, RootFile, RootNode, RootTree, Rule};
use crate::store::{NarHash, StoreDir, StorePath};

use super::users::{Accounts, NO_HOME};
use super::{AccountFiles, File, FileBytes, RootDocument, Source};

/// The mode of a directory for everybody's files.
const MODE_TMP: u32 = 0o1777;
/// The mode of a user's home.
const MODE_HOME: u32 = 0o700;

/// Where programs look for certificates. Source: `caCertificates` of nixpkgs'
/// dockerTools: old NixOS; NixOS, Debian, Arch; Fedora.
const CERTIFICATES: [&str; 3] = [
    "etc/ssl/certs/ca-bundle.crt",
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
];

impl RootTree {
    /// Adds what documents say, all of them together: their users and groups
    /// are joined with each other and with those of `base`, whose lines stay,
    /// and owners may be users of another document or of the base. Returns their
    /// rules, those of the first document first.
    ///
    /// `content` and `nar_hash` are those of [`add_copies`](Self::add_copies),
    /// which tells what copies cost.
    ///
    /// # Errors
    ///
    /// Those of [`insert`](Self::insert) and [`add_copies`](Self::add_copies);
    /// [`ErrorKind::RootTreeConflict`](crate::ErrorKind::RootTreeConflict) if
    /// documents, or one and the base, differ about a user or a group;
    /// [`ErrorKind::Document`](crate::ErrorKind::Document) for an owner that is
    /// nobody. Some of it may have been added then.
    pub fn add_documents(
        &mut self,
        cx: &Context,
        store_dir: &StoreDir,
        content: &dyn ContentSource,
        nar_hash: &dyn Fn(&StorePath) -> Option<NarHash>,
        documents: &[RootDocument],
        base: &AccountFiles,
    ) -> Result<Vec<Rule>> {
        let accounts = Accounts::new(documents, base)?;
        for message in accounts.shared_numbers() {
            cx.observer.event(&Event::Warning { message: &message });
        }
        let mut rules = Vec::new();
        for document in documents {
            let mut placing = Placing {
                cx,
                store_dir,
                content,
                nar_hash,
                accounts: &accounts,
                document,
                tree: self,
            };
            placing.place()?;
            rules.extend(document.own_rules(&accounts)?);
        }
        let names: Vec<&str> = documents
            .iter()
            .filter(|document| document.has_accounts())
            .map(|document| document.name.as_str())
            .collect();
        self.add_accounts(&accounts, &names.join(" and "))?;
        Ok(rules)
    }

    fn add_accounts(&mut self, accounts: &Accounts<'_>, origin: &str) -> Result<()> {
        for file in accounts.files() {
            let node = inline(&file.bytes, false);
            self.insert(file.path.as_bytes(), node, file.metadata, origin)?;
        }
        if accounts.has_no_home() {
            let path = &NO_HOME.as_bytes()[1..];
            self.insert(path, RootNode::Directory, Metadata::default(), origin)?;
        }
        for (home, owner) in accounts.homes() {
            let metadata = Metadata {
                owner: Some(owner),
                ..Metadata::mode(MODE_HOME)
            };
            let path = home.trim_matches('/').as_bytes();
            self.insert(path, RootNode::Directory, metadata, origin)?;
        }
        Ok(())
    }
}

impl RootDocument {
    /// Returns the rules of documents, those of the first document first, and
    /// nothing else of them. Owners are found as
    /// [`add_documents`](RootTree::add_documents) finds them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RootTreeConflict`](crate::ErrorKind::RootTreeConflict) if
    /// documents, or one and the base, differ about a user or a group;
    /// [`ErrorKind::Document`](crate::ErrorKind::Document) for an owner that is
    /// nobody.
    pub fn rules(documents: &[Self], base: &AccountFiles) -> Result<Vec<Rule>> {
        let accounts = Accounts::new(documents, base)?;
        let rules = documents
            .iter()
            .map(|document| document.own_rules(&accounts));
        Ok(rules.collect::<Result<Vec<_>>>()?.concat())
    }

    fn own_rules(&self, accounts: &Accounts<'_>) -> Result<Vec<Rule>> {
        let rules = self.rules.iter().map(|(rule, owner)| {
            Ok(Rule {
                owner: accounts.owner(owner.as_ref())?,
                ..rule.clone()
            })
        });
        rules.collect()
    }

    fn has_accounts(&self) -> bool {
        let says = self.fake_nss.is_some() || self.has_shadow;
        says || !self.users.is_empty() || !self.groups.is_empty()
    }
}

/// One document on its way into the tree.
struct Placing<'a> {
    cx: &'a Context,
    store_dir: &'a StoreDir,
    content: &'a dyn ContentSource,
    nar_hash: &'a dyn Fn(&StorePath) -> Option<NarHash>,
    accounts: &'a Accounts<'a>,
    document: &'a RootDocument,
    tree: &'a mut RootTree,
}

impl Placing<'_> {
    fn place(&mut self) -> Result<()> {
        let document = self.document;
        let mut said: BTreeMap<&[u8], Metadata> = BTreeMap::new();
        for (path, own) in &document.directories {
            let metadata = self.owned(own.metadata.clone(), own.owner.as_ref())?;
            // That the first mode wins is for sources that do not know each other.
            if let Some(before) = said.insert(path, metadata.clone())
                && before.contradicts(&metadata)
            {
                return Err(ErrorKind::RootTreeConflict {
                    path: format!("/{}", String::from_utf8_lossy(path)),
                    first: document.name.clone(),
                    second: document.name.clone(),
                }
                .into());
            }
            self.add(path, RootNode::Directory, metadata)?;
        }
        for file in &document.files {
            self.file(file)?;
        }
        for (path, target, own) in &document.symlinks {
            let metadata = self.owned(Metadata::default(), own.owner.as_ref())?;
            self.add(path, symlink(target.clone()), metadata)?;
        }
        for copied in &document.copies {
            let copies = Copies {
                owner: self.accounts.owner(copied.owner.as_ref())?,
                ..copied.copies.clone()
            };
            self.copy(&copies)
                .map_err(|error| self.told(error, &copied.key))?;
        }
        if let Some(source) = &document.certificates {
            let bundle = self.found(source, &[CERTIFICATES[0]])?;
            for path in CERTIFICATES {
                self.link(path, bundle.clone())?;
            }
        }
        if let Some(source) = &document.bin_sh {
            let shell = self.found(source, &["bin/bash", "bin/sh"])?;
            self.link("bin/sh", shell)?;
        }
        if let Some(source) = &document.usr_bin_env {
            let env = self.found(source, &["bin/env"])?;
            self.link("usr/bin/env", env)?;
        }
        if let Some((zone, source)) = &document.timezone {
            let zones = self.found(source, &["share/zoneinfo"])?;
            let inside = zones[self.store_dir.join(&source.path).len()..].trim_matches('/');
            let in_zones = Source {
                inside: format!("{inside}/{zone}"),
                ..source.clone()
            };
            self.found(&in_zones, &[])?;
            self.link("etc/zoneinfo", zones)?;
            // Programs read the zone's name out of this link.
            self.link("etc/localtime", format!("/etc/zoneinfo/{zone}"))?;
        }
        if document.has_tmp {
            for path in ["tmp", "var/tmp"] {
                let metadata = Metadata::mode(MODE_TMP);
                self.add(path.as_bytes(), RootNode::Directory, metadata)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &File) -> Result<()> {
        let metadata = self.owned(file.own.metadata.clone(), file.own.owner.as_ref())?;
        match &file.bytes {
            FileBytes::Inline { bytes, executable } => {
                self.add(&file.path, inline(bytes, *executable), metadata)
            }
            FileBytes::Stored(source) => {
                let copies = Copies {
                    inside: source.inside.clone().into_bytes(),
                    target: file.path.clone(),
                    ..Copies::new(source.path.clone())
                };
                let (cx, store_dir, content) = (self.cx, self.store_dir, self.content);
                self.tree
                    .add_copied_file(cx, store_dir, content, self.nar_hash, &copies, metadata)
                    .map_err(|error| self.told(error, &source.key))
            }
        }
    }

    fn copy(&mut self, copies: &Copies) -> Result<()> {
        let (cx, store_dir, content) = (self.cx, self.store_dir, self.content);
        self.tree
            .add_copies(cx, store_dir, content, self.nar_hash, copies)
    }

    /// Says where in the document it stands what cannot be copied.
    fn told(&self, error: Error, key: &str) -> Error {
        match error.kind() {
            ErrorKind::InvalidInput { what, problem } => {
                self.wrong(key, format!("{what}: {problem}"))
            }
            _ => error,
        }
    }

    fn wrong(&self, key: &str, problem: String) -> Error {
        Error::document(&self.document.name, Location::Key(key.to_owned()), problem)
    }

    fn link(&mut self, path: &str, target: String) -> Result<()> {
        self.add(path.as_bytes(), symlink(target), Metadata::default())
    }

    fn add(&mut self, path: &[u8], node: RootNode, metadata: Metadata) -> Result<()> {
        let added = Added {
            node,
            metadata,
            origin: self.document.name.clone(),
            sources: BTreeSet::new(),
        };
        self.tree.add_compared(self.cx, self.content, path, added)
    }

    fn owned(&self, metadata: Metadata, owner: Option<&super::OwnerName>) -> Result<Metadata> {
        let owner: Option<Owner> = self.accounts.owner(owner)?;
        Ok(Metadata { owner, ..metadata })
    }

    /// Returns the full path of what a source means: itself, or the first of
    /// these that is in it if it is a whole store path.
    fn found(&self, source: &Source, candidates: &[&str]) -> Result<String> {
        let candidates: Vec<&str> = match source.inside.as_str() {
            "" if !candidates.is_empty() => candidates.to_vec(),
            inside => vec![inside],
        };
        let mut there = BTreeSet::new();
        self.content.visit(self.cx, &source.path, &mut |entry| {
            let is_link = matches!(entry, Entry::Symlink { .. });
            for candidate in &candidates {
                let path = candidate.as_bytes();
                // Where a link leads is for the container to find out.
                let is_behind = is_link
                    && path
                        .strip_prefix(entry.path())
                        .is_some_and(|rest| rest.starts_with(b"/"));
                if entry.path() == path || is_behind {
                    there.insert(*candidate);
                }
            }
            Ok(())
        })?;
        let found = candidates.iter().find(|path| there.contains(*path));
        let full = self.store_dir.join(&source.path);
        match found {
            Some(inside) => Ok(format!("{full}/{inside}")),
            None => {
                let problem = format!("{full} has no {}", candidates.join(" and no "));
                Err(self.wrong(&source.key, problem))
            }
        }
    }
}

fn inline(bytes: &[u8], executable: bool) -> RootNode {
    RootNode::File(RootFile::Inline {
        bytes: bytes.into(),
        executable,
    })
}

fn symlink(target: String) -> RootNode {
    RootNode::Symlink {
        target: target.into_bytes(),
    }
}
