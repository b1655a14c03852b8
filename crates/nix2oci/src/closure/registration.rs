//! Registrations: what `nix-store --load-db` reads.
//!
//! nixpkgs' `closureInfo` writes them as `registration`, with the NAR hash in
//! Nix's base 32 and no deriver; `nix-store --dump-db` writes bare base 16 and
//! the deriver. The file of `closureInfo` ends with a newline like any other:
//! its `head -n -1` takes the empty line that jq adds.

use std::path::PathBuf;

use crate::context::Context;
use crate::error::Result;
use crate::store::{StoreDir, StorePath};

use super::document::Input;
use super::records::{self, Hashes};
use super::source::{ClosureSource, PathInfos};

/// Reads a registration. No roots are named.
///
/// # Errors
///
/// [`ErrorKind::Document`](crate::error::ErrorKind::Document) with the line
/// for anything that is not such a record, for a reference that has no record
/// of its own, for a cycle, and for two records of one path that differ.
pub fn parse(bytes: &[u8], document: &str, store_dir: &StoreDir) -> Result<PathInfos> {
    records::parse(bytes, document, store_dir, Hashes::Present)
}

/// A registration.
#[derive(Debug, Clone)]
pub struct Registration {
    pub(super) input: Input,
    pub(super) store_dir: StoreDir,
}

impl Registration {
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

impl ClosureSource for Registration {
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
    const DRV: &str = "/nix/store/22222222222222222222222222222222-a.drv";
    const BASE_16: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const BASE_32: &str = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    fn read(text: &str) -> Result<PathInfos> {
        parse(text.as_bytes(), "registration", &StoreDir::default())
    }

    #[test]
    fn closure_info_and_dump_db_say_the_same() {
        let info = read(&format!("{A}\n{BASE_32}\n120\n\n0\n")).unwrap();
        let dump = read(&format!("{A}\n{BASE_16}\n120\n{DRV}\n0\n")).unwrap();
        assert_eq!(info.infos[0].nar_hash, dump.infos[0].nar_hash);
        assert_eq!(info.infos[0].nar_hash, Some(BASE_32.parse().unwrap()));
        assert_eq!(info.infos[0].nar_size, Some(120));
        assert_eq!(info.infos[0].deriver, None);
        let deriver = StoreDir::default().parse_path(DRV).unwrap();
        assert_eq!(dump.infos[0].deriver, Some(deriver));
    }

    #[test]
    fn a_size_of_zero_is_unknown() {
        let found = read(&format!("{A}\n{BASE_32}\n0\n\n0\n")).unwrap();
        assert_eq!(found.infos[0].nar_size, None);
    }

    #[test]
    fn problems_name_the_line_and_the_path() {
        for (text, problem) in [
            (
                format!("{A}\nsha256:00\n1\n\n0\n"),
                format!("line 2: NAR hash of {A}: \"sha256:00\" is not a hash"),
            ),
            (
                format!("{A}\n{BASE_16}\n1k\n\n0\n"),
                format!("line 3: NAR size of {A}: \"1k\" is not a number"),
            ),
            (
                format!("{A}\n{BASE_16}\n1\nhello.drv\n0\n"),
                format!("line 4: deriver of {A}: \"hello.drv\" is not in the store directory"),
            ),
            (
                format!("{A}\n{BASE_16}\n1\n\n1\n"),
                format!("line 5: the document ends before reference 1 of 1 of {A}"),
            ),
            (
                format!("{A}\n{BASE_16}\n1\n\n0\n{A}\n{BASE_16}\n2\n\n0\n"),
                format!("line 6: a second entry for {A} differs from the first: NAR size 1 and 2"),
            ),
            (
                format!("{A}\n{BASE_16}\n1\n\n0\ngarbage"),
                "line 6: store path: \"garbage\" is not in the store directory".to_owned(),
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            let expected = format!("registration, {problem}");
            assert!(error.starts_with(&expected), "{error}\n{expected}");
        }
    }
}
