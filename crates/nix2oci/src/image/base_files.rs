//! Files of a base whose bytes an image on it needs: those that tell of users,
//! and others by their path.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::layer::tar_read::{Member, MemberKind};
use crate::oci::Owner;
use crate::plan::{AccountFiles, Metadata};

/// Bytes of one file that tells of users, and of all of them. Only large ones are
/// left out: one of 1 MiB tells of some 20,000 users.
const MAX_ACCOUNT_FILE: u64 = 1 << 20;
const MAX_ACCOUNT_FILES: u64 = 16 << 20;

/// Bytes of a file on disk: of a Nix database of a million paths.
const MAX_SPOOLED: u64 = 512 << 20;

/// The files that layers leave when they are put on each other.
#[derive(Debug, Default)]
pub(super) struct BaseFiles {
    pub(super) accounts: AccountCandidates,
    pub(super) spooled: SpooledFiles,
}

/// Files by their paths, without `/` at the beginning. They go when they are
/// dropped.
pub(super) type SpooledFiles = BTreeMap<&'static str, NamedTempFile>;

/// The files that are called as those are that tell of users, wherever they are: a
/// link may lead there. One that was too large to be kept has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AccountCandidates(BTreeMap<Vec<u8>, (Option<Vec<u8>>, Metadata)>);

impl AccountCandidates {
    /// Returns those that tell of the users of a base of this name; `follow` says
    /// where links lead.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) for one that is too large.
    pub(super) fn files(
        &self,
        name: &str,
        follow: impl Fn(&str) -> Vec<u8>,
    ) -> Result<AccountFiles> {
        let mut found = AccountFiles::new(format!("the base image {name}"));
        for path in AccountFiles::PATHS {
            let Some((bytes, metadata)) = self.0.get(&follow(path)) else {
                continue;
            };
            let bytes = bytes.clone().ok_or_else(|| {
                let problem = format!(
                    "is larger than {MAX_ACCOUNT_FILE} bytes, so no users can be added to it"
                );
                Error::image(format!("the base image {name}: /{path}"), problem)
            })?;
            found.insert(path, bytes, metadata.clone());
        }
        Ok(found)
    }

    fn bytes(&self) -> u64 {
        let files = self.0.values();
        files
            .map(|(bytes, _)| bytes.as_ref().map_or(0, Vec::len) as u64)
            .sum()
    }
}

impl BaseFiles {
    /// Takes away those of these paths.
    pub(super) fn delete(&mut self, is_deleted: impl Fn(&[u8]) -> bool) {
        self.accounts.0.retain(|path, _| !is_deleted(path));
        self.spooled.retain(|path, _| !is_deleted(path.as_bytes()));
    }

    /// Adds those of a layer on top.
    pub(super) fn put_on(&mut self, layer: Self) {
        self.accounts.0.extend(layer.accounts.0);
        self.spooled.extend(layer.spooled);
    }
}

/// Keeps files of one layer.
pub(super) struct Keeping<'a> {
    wanted: &'a [&'static str],
    dir: &'a Path,
    /// What errors call the layer.
    place: &'a str,
    kept: BaseFiles,
    current: Current,
    /// Why a file could not be kept.
    failure: Option<Error>,
}

/// Where the contents go that come next.
enum Current {
    Nowhere,
    Account(Vec<u8>),
    Spooled(&'static str),
}

impl<'a> Keeping<'a> {
    /// Begins a layer. Files of the paths `wanted` are spooled in `dir`.
    pub(super) fn new(wanted: &'a [&'static str], dir: &'a Path, place: &'a str) -> Self {
        Self {
            wanted,
            dir,
            place,
            kept: BaseFiles::default(),
            current: Current::Nowhere,
            failure: None,
        }
    }

    /// Takes an entry on the files `below`. Returns whether its contents are
    /// wanted.
    pub(super) fn entry(&mut self, member: &Member, path: &[u8], below: &BaseFiles) -> bool {
        self.kept.delete(|kept| kept == path);
        self.current = Current::Nowhere;
        if member.kind != MemberKind::File || self.failure.is_some() {
            return false;
        }
        if let Some(path) = self.wanted.iter().find(|at| at.as_bytes() == path) {
            match self.spool(path, member.size) {
                Ok(()) => self.current = Current::Spooled(path),
                Err(error) => self.failure = Some(error),
            }
        } else if tells_of_accounts(path) {
            let sum = below.accounts.bytes() + self.kept.accounts.bytes() + member.size;
            let is_kept = member.size <= MAX_ACCOUNT_FILE && sum <= MAX_ACCOUNT_FILES;
            let file = (is_kept.then(Vec::new), metadata(member));
            self.kept.accounts.0.insert(path.to_vec(), file);
            if is_kept {
                self.current = Current::Account(path.to_vec());
            }
        }
        !matches!(self.current, Current::Nowhere)
    }

    fn spool(&mut self, path: &'static str, size: u64) -> Result<()> {
        if size > MAX_SPOOLED {
            let problem = format!("has {size} bytes, and at most {MAX_SPOOLED} are read");
            return Err(Error::image(format!("{}: /{path}", self.place), problem));
        }
        let file = NamedTempFile::new_in(self.dir)
            .map_err(Error::writing("create a file in", self.dir))?;
        self.kept.spooled.insert(path, file);
        Ok(())
    }

    /// Takes the next bytes of the last entry.
    pub(super) fn contents(&mut self, bytes: &[u8]) {
        match &self.current {
            Current::Nowhere => {}
            Current::Account(path) => {
                if let Some((Some(kept), _)) = self.kept.accounts.0.get_mut(path) {
                    kept.extend_from_slice(bytes);
                }
            }
            Current::Spooled(path) => {
                let Some(file) = self.kept.spooled.get_mut(path) else {
                    return;
                };
                if let Err(error) = file.write_all(bytes) {
                    self.failure = Some(Error::writing("write a file in", self.dir)(error));
                    self.current = Current::Nowhere;
                }
            }
        }
    }

    /// Ends the layer.
    ///
    /// # Errors
    ///
    /// Whatever kept a file from being kept.
    pub(super) fn finish(self) -> Result<BaseFiles> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.kept),
        }
    }
}

/// Returns mode and owner of a file.
pub(super) fn metadata(member: &Member) -> Metadata {
    let (uid, gid) = member.owner;
    Metadata {
        owner: Some(Owner { uid, gid }),
        ..Metadata::mode(member.mode)
    }
}

/// Returns whether a file is called as one is that tells of users.
fn tells_of_accounts(path: &[u8]) -> bool {
    AccountFiles::PATHS.iter().any(|known| {
        path.strip_suffix(known.as_bytes())
            .is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
    })
}
