//! Permission bits that Nix gives no store path, and those that let anybody
//! change what others rely on.
//!
//! Each rule is told once a layer: an image whose files all have other modes
//! is one finding, not a hundred thousand.

use super::tar_read::{Member, MemberKind};
use super::tar_rules::{LayerProblem, show};

/// Who may write besides the owner: the group and all others.
const WRITABLE: u32 = 0o022;

/// The bit by which only its owner may remove a file of a directory.
const STICKY: u32 = 0o1000;

/// Judges the modes of a layer's entries one by one.
#[derive(Debug)]
pub(super) struct ModeRules<'a> {
    /// The store directory without its first slash.
    store_prefix: &'a str,
    store: Option<First>,
    writable: Option<First>,
}

/// The first entry that breaks a rule, and how many do.
#[derive(Debug)]
struct First {
    path: Vec<u8>,
    mode: u32,
    count: u64,
}

impl<'a> ModeRules<'a> {
    pub(super) fn new(store_prefix: &'a str) -> Self {
        Self {
            store_prefix,
            store: None,
            writable: None,
        }
    }

    /// Judges an entry with its normal path.
    pub(super) fn entry(&mut self, member: &Member, path: &[u8]) {
        let is_directory = match member.kind {
            MemberKind::Directory => true,
            MemberKind::File => false,
            _ => return,
        };
        let in_store = path
            .strip_prefix(self.store_prefix.as_bytes())
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with(b"/"));
        // Source: canonicalisePathMetaData of Nix 2.8, src/libstore/local-store.cc.
        let is_nixs = member.mode == 0o555 || (member.mode == 0o444 && !is_directory);
        let broken = if is_directory && member.mode & WRITABLE != 0 && member.mode & STICKY == 0 {
            &mut self.writable
        } else if in_store && !is_nixs && !is_whiteout(path) {
            &mut self.store
        } else {
            return;
        };
        let first = broken.get_or_insert_with(|| First {
            path: path.to_vec(),
            mode: member.mode,
            count: 0,
        });
        first.count += 1;
    }

    /// Returns what is wrong.
    pub(super) fn finish(self) -> impl Iterator<Item = LayerProblem> {
        let store = self.store.map(|first| LayerProblem::StoreMode {
            path: show(&first.path),
            mode: first.mode,
            count: first.count,
        });
        let writable = self.writable.map(|first| LayerProblem::WritableDirectory {
            path: show(&first.path),
            mode: first.mode,
            count: first.count,
        });
        store.into_iter().chain(writable)
    }
}

/// Returns whether an entry is a mark that deletes what lower layers have.
fn is_whiteout(path: &[u8]) -> bool {
    let name = path.rsplit(|b| *b == b'/').next();
    name.is_some_and(|name| name.starts_with(b".wh."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(entries: &[(&str, MemberKind, u32)]) -> Vec<String> {
        let mut rules = ModeRules::new("nix/store");
        for (path, kind, mode) in entries {
            let member = Member {
                owner: (0, 0),
                path: path.as_bytes().to_vec(),
                link: Vec::new(),
                kind: *kind,
                size: 0,
                mode: *mode,
                is_executable: mode & 0o100 != 0,
                offset: 0,
            };
            rules.entry(&member, path.as_bytes());
        }
        rules.finish().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn modes_that_nix_gives_are_right_and_others_are_told_once() {
        use MemberKind::{Directory, File, Symlink};
        let right = [
            ("", Directory, 0o755),
            ("nix", Directory, 0o755),
            ("nix/store", Directory, 0o755),
            ("nix/store", Directory, 0o1775),
            ("nix/store/a", Directory, 0o555),
            ("nix/store/a/x", File, 0o444),
            ("nix/store/a/y", File, 0o555),
            ("nix/store/a/z", Symlink, 0o777),
            ("nix/store/a/.wh.b", File, 0o600),
            ("nix/storeroom", File, 0o600),
            ("etc/shadow", File, 0o640),
            ("tmp", Directory, 0o1777),
        ];
        assert_eq!(problems(&right), [""; 0]);
        assert_eq!(
            problems(&[
                ("nix/store/a", Directory, 0o755),
                ("nix/store/a/x", File, 0o4555),
                ("nix/store/b", Directory, 0o444),
                ("nix/store/c", Directory, 0o777),
                ("var/mail", Directory, 0o2775),
            ]),
            [
                "nix/store/a has mode 0755, and Nix gives 0444 or 0555, and 2 more paths",
                "the directory nix/store/c has mode 0777: not only its owner may replace what is \
                 in it, and one more path",
            ]
        );
    }
}
