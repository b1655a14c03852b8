//! Which store path a ROOT means.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix2oci::{StoreDir, StorePath};

use crate::exit::Failure;

use super::stored::{RECIPE_HINT, is_recipe};

/// Symlinks followed before it is called a loop, as Linux does it.
const MOST_SYMLINKS: usize = 40;

/// Where the store is: what paths say, and where it lies.
#[derive(Debug)]
pub(crate) struct Store {
    dir: StoreDir,
    /// Directories whose entries are store paths, `dir` first.
    places: Vec<PathBuf>,
}

impl Store {
    /// Takes the store directory, and the root below which it lies if that is
    /// not `/`.
    pub(crate) fn new(dir: StoreDir, root: Option<&Path>) -> Self {
        let mut places = vec![dir.as_path().to_owned()];
        if let Some(root) = root {
            let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
            places.push(root.join(&dir.as_str()[1..]));
        }
        // A store that is reached over a symlink is known by both names.
        if let Some(real) = places.last().and_then(|place| place.canonicalize().ok()) {
            places.push(real);
        }
        places.dedup();
        Self { dir, places }
    }

    /// Returns the store directory that the paths say.
    pub(crate) fn dir(&self) -> &StoreDir {
        &self.dir
    }

    /// Returns the store path that `path` is, or that the symlinks from `path`
    /// lead to. A store path that is itself a symlink is not followed. `what`
    /// names the option in errors.
    pub(crate) fn find(&self, what: &str, path: &Path) -> Result<StorePath, Failure> {
        let mut todo = path.to_owned();
        for _ in 0..=MOST_SYMLINKS {
            let full = std::path::absolute(&todo)
                .map_err(|error| Failure::input(format!("{what} {todo:?}")).because(&error))?;
            if let Some(inside) = self.strip(&full) {
                return self.store_path(what, path, &full, inside);
            }
            match next_symlink(&full) {
                Ok(Some(target)) => todo = target,
                Ok(None) => return Err(self.not_in_store(what, path)),
                Err(error) => return Err(self.unreadable(what, path, &error)),
            }
        }
        Err(Failure::input(format!(
            "{what} {} is a loop of symlinks",
            path.display()
        )))
    }

    /// Returns the store path that a file is or lies in, over symlinks as well.
    pub(crate) fn holder(&self, file: &Path) -> Option<StorePath> {
        let real = file.canonicalize().ok();
        let places = [std::path::absolute(file).ok(), real];
        let inside = places.iter().flatten().find_map(|full| self.strip(full))?;
        inside
            .components()
            .next()?
            .as_os_str()
            .to_str()?
            .parse()
            .ok()
    }

    /// Returns what follows the store directory, if the path is in one.
    fn strip<'a>(&self, full: &'a Path) -> Option<&'a Path> {
        let inside = self
            .places
            .iter()
            .find_map(|place| full.strip_prefix(place).ok())?;
        let climbs = inside.components().any(|c| c == Component::ParentDir);
        (!climbs).then_some(inside)
    }

    fn store_path(
        &self,
        what: &str,
        typed: &Path,
        full: &Path,
        inside: &Path,
    ) -> Result<StorePath, Failure> {
        let mut names = inside.components();
        let Some(name) = names.next() else {
            return Err(Failure::input(format!(
                "{what} {} is the store directory, expected a store path in it",
                typed.display()
            )));
        };
        let refuse = |error: &dyn std::error::Error| {
            Failure::input(format!("{what} {}: {error}", typed.display()))
        };
        let name = name.as_os_str().to_string_lossy();
        let path: StorePath = name.parse().map_err(|error| refuse(&error))?;
        if names.next().is_none() {
            return Ok(path);
        }
        let whole = self.dir.join(&path);
        let leads = if typed == full {
            String::new()
        } else {
            format!(" leads to {}, which", full.display())
        };
        Err(Failure::input(format!(
            "{what} {}{leads} lies inside of a store path",
            typed.display()
        ))
        .hint(format!(
            "only whole store paths have a closure; say {whole}"
        )))
    }

    fn not_in_store(&self, what: &str, path: &Path) -> Failure {
        if is_recipe(path) {
            return Failure::input(format!(
                "{what} {} is a recipe, and no store path",
                path.display()
            ))
            .hint(RECIPE_HINT);
        }
        Failure::input(format!(
            "{what} {} is neither in the store {} nor a symlink into it",
            path.display(),
            self.dir
        ))
        .hint(
            "say a store path, or the `result` of nix-build; \
             --store-dir and --store-root name another store",
        )
    }

    fn unreadable(&self, what: &str, path: &Path, error: &io::Error) -> Failure {
        let failure =
            Failure::input(format!("{what} {} cannot be found", path.display())).because(error);
        let text = path.to_string_lossy();
        if text.starts_with("docker://") {
            failure.hint(format!(
                "that is an image and no store path: --from {text} builds on it, `nix2oci copy` \
                 copies it"
            ))
        } else if text.parse::<StorePath>().is_ok() {
            failure.hint(format!("write the store path in full: {}/{text}", self.dir))
        } else if is_flake_reference(&text) {
            failure.hint(format!(
                "flake references are for Nix: `nix build --print-out-paths '{text}'` gives the \
                 store path"
            ))
        } else if error.kind() == io::ErrorKind::NotFound {
            failure.hint("is it built? `nix build` and `nix-build` make the symlink `result`")
        } else {
            failure
        }
    }
}

/// Returns whether a text is how Nix names what a flake has: `nixpkgs#hello`,
/// `github:owner/repository`, `git+https://…`.
fn is_flake_reference(text: &str) -> bool {
    const KINDS: &[&str] = &[
        "file",
        "flake",
        "git",
        "github",
        "gitlab",
        "hg",
        "http",
        "https",
        "indirect",
        "path",
        "sourcehut",
        "tarball",
    ];
    let kind = text.split_once(':').map(|(kind, _)| kind);
    text.contains('#') || kind.is_some_and(|kind| KINDS.contains(&kind) || kind.contains('+'))
}

/// Follows the first symlink on the way of an absolute path and returns the
/// path after it; `None` if there is none.
fn next_symlink(full: &Path) -> io::Result<Option<PathBuf>> {
    let mut left: VecDeque<OsString> = VecDeque::new();
    let mut at = PathBuf::from("/");
    for component in full.components() {
        match component {
            Component::Normal(name) => left.push_back(name.to_owned()),
            Component::ParentDir => left.push_back("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let here = at.join(&name);
        if here.symlink_metadata()?.is_symlink() {
            let mut target = at.join(here.read_link()?);
            target.extend(left);
            return Ok(Some(target));
        }
        at = here;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const NAME: &str = "0123456789abcdfghijklmnpqrsvwxyz-hello";

    fn found(store: &Store, path: impl AsRef<Path>) -> String {
        match store.find("root", path.as_ref()) {
            Ok(path) => path.to_string(),
            Err(failure) => failure.message().to_owned(),
        }
    }

    #[test]
    fn a_store_path_need_not_exist_here() {
        let store = Store::new(StoreDir::default(), None);
        assert_eq!(found(&store, format!("/nix/store/{NAME}")), NAME);
        assert_eq!(found(&store, format!("/nix/store/{NAME}/")), NAME);
        assert_eq!(
            found(&store, format!("/nix/store/{NAME}/bin/hello")),
            format!("root /nix/store/{NAME}/bin/hello lies inside of a store path")
        );
        assert_eq!(
            found(&store, "/nix/store"),
            "root /nix/store is the store directory, expected a store path in it"
        );
    }

    #[test]
    fn symlinks_are_followed_into_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink(format!("/nix/store/{NAME}"), at("result")).unwrap();
        symlink("result", at("again")).unwrap();
        symlink(format!("/nix/store/{NAME}/bin"), at("bin")).unwrap();
        symlink("loop", at("loop")).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("file"), "").unwrap();

        let store = Store::new(StoreDir::default(), None);
        for name in ["result", "again", "result/", "dir/../result", "./result/."] {
            assert_eq!(found(&store, at(name)), NAME, "{name}");
        }
        for (name, told) in [
            ("bin", "lies inside of a store path"),
            ("result/bin", "lies inside of a store path"),
            ("loop", "is a loop of symlinks"),
            (
                "file",
                "is neither in the store /nix/store nor a symlink into it",
            ),
            ("missing", "cannot be found"),
        ] {
            let message = found(&store, at(name));
            assert!(message.ends_with(told), "{message}");
        }
    }

    #[test]
    fn a_store_below_a_root_is_known_by_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let path = real.join("gnu/store").join(NAME);
        std::fs::create_dir_all(&path).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        symlink(format!("/gnu/store/{NAME}"), real.join("result")).unwrap();

        let store_dir: StoreDir = "/gnu/store".parse().unwrap();
        let store = Store::new(store_dir, Some(&dir.path().join("link")));
        for path in [
            PathBuf::from(format!("/gnu/store/{NAME}")),
            path,
            dir.path().join("link/gnu/store").join(NAME),
            real.join("result"),
        ] {
            assert_eq!(found(&store, &path), NAME, "{}", path.display());
        }
    }
}
