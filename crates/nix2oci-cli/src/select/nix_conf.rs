//! What Nix's settings say of binary caches.
//!
//! Read as Nix reads them: `nix.conf` in `$NIX_CONF_DIR` or `/etc/nix`, then those
//! of the user from the last to the first, then `$NIX_CONFIG`; what comes later
//! wins. What Nix refuses in these files is passed over: it is about other
//! settings than the few that count here, or Nix itself says it better.
//!
//! Source: `loadConfFile` in NixOS/nix, `src/libstore/globals.cc`, and
//! `parseConfigFiles` in `src/libutil/configuration.cc` (2.35).

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix2oci::binary_cache::{CACHE_NIXOS_ORG, PublicKeys};

use crate::exit::{Failure, Outcome};

use super::registry::Environment;

/// The most bytes of one file.
const LARGEST_FILE: u64 = 1 << 20;

/// How deep files may include each other, and themselves.
const MAX_DEPTH: usize = 8;

/// Settings of Nix.
#[derive(Debug)]
pub(super) struct NixConf {
    /// Those of `trusted-public-keys`.
    keys: Vec<String>,
    /// `netrc-file`.
    netrc_file: PathBuf,
}

impl NixConf {
    /// Reads the settings of this machine and user. What cannot be read says
    /// nothing.
    pub(super) fn read(env: &Environment<'_>) -> Self {
        let folder = env.path("NIX_CONF_DIR");
        let folder = folder.unwrap_or_else(|| PathBuf::from("/etc/nix"));
        let mut conf = Self::at(&folder);
        conf.take_file(&folder.join("nix.conf"), 0);
        for file in user_files(env).iter().rev() {
            conf.take_file(file, 0);
        }
        if let Some(text) = env.text(&["NIX_CONFIG"]) {
            conf.take(&text, Path::new(""), 0);
        }
        conf
    }

    /// Returns what Nix takes where no setting says anything.
    fn at(folder: &Path) -> Self {
        Self {
            keys: vec![CACHE_NIXOS_ORG.to_owned()],
            netrc_file: folder.join("netrc"),
        }
    }

    /// Returns the keys that Nix trusts.
    pub(super) fn trusted_public_keys(&self) -> Outcome<PublicKeys> {
        let keys = self.keys.join(" ").parse::<PublicKeys>();
        keys.map_err(|error| {
            let problem = format!("trusted-public-keys in Nix's settings: {error}");
            Failure::input(problem).hint(
                "with --no-default-key only the keys of --trusted-public-key count, and none of \
                 nix.conf",
            )
        })
    }

    /// Returns where Nix has the credentials of binary caches.
    pub(super) fn netrc_file(&self) -> &Path {
        &self.netrc_file
    }

    fn take_file(&mut self, path: &Path, depth: usize) {
        let mut bytes = Vec::new();
        let opened = File::open(path).map(|file| file.take(LARGEST_FILE));
        if opened
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .is_ok()
        {
            let folder = path.parent().unwrap_or(Path::new("/"));
            self.take(&String::from_utf8_lossy(&bytes), folder, depth);
        }
    }

    /// Takes the settings in a text; what it includes is relative to `folder`.
    fn take(&mut self, text: &str, folder: &Path, depth: usize) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["include" | "!include", file] if depth < MAX_DEPTH => {
                    self.take_file(&folder.join(file), depth + 1);
                }
                [name, "=", ref values @ ..] => self.set(name, values),
                _ => {}
            }
        }
    }

    fn set(&mut self, name: &str, values: &[&str]) {
        let words = values.iter().map(|value| (*value).to_owned());
        match name {
            // The second name is from before Nix 2.0.
            "trusted-public-keys" | "binary-cache-public-keys" => self.keys = words.collect(),
            "extra-trusted-public-keys" | "extra-binary-cache-public-keys" => {
                self.keys.extend(words);
            }
            "netrc-file" if !values.is_empty() => self.netrc_file = values.join(" ").into(),
            _ => {}
        }
    }
}

/// Returns the files of the user, of which the first counts most.
fn user_files(env: &Environment<'_>) -> Vec<PathBuf> {
    let split = |text: String| -> Vec<PathBuf> {
        let parts = text.split(':').filter(|part| !part.is_empty());
        parts.map(PathBuf::from).collect()
    };
    if let Some(files) = env.text(&["NIX_USER_CONF_FILES"]) {
        return split(files);
    }
    let own = env
        .path("XDG_CONFIG_HOME")
        .or_else(|| env.at_home(".config"));
    let shared = env.text(&["XDG_CONFIG_DIRS"]);
    let shared = split(shared.unwrap_or_else(|| "/etc/xdg".to_owned()));
    let folders = own.into_iter().chain(shared);
    folders.map(|folder| folder.join("nix/nix.conf")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fs;

    use super::*;

    const KEY: &str = "7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=";

    /// Reads the settings where these files are below a folder and these variables
    /// are set, in which `@` stands for the folder.
    fn read(files: &[(&str, &str)], variables: &[(&str, &str)]) -> NixConf {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let here = dir.path().to_str().unwrap();
        let mut all = HashMap::from([
            ("NIX_CONF_DIR", format!("{here}/etc")),
            ("XDG_CONFIG_DIRS", format!("{here}/xdg")),
        ]);
        all.extend(variables.iter().map(|(name, value)| {
            let value = value.replace('@', here);
            (*name, value)
        }));
        let var = |name: &str| all.get(name).map(OsString::from);
        let mut conf = NixConf::read(&Environment {
            var: &var,
            home: Some(dir.path().join("home")),
            uid: 0,
        });
        if let Ok(inside) = conf.netrc_file.strip_prefix(here) {
            conf.netrc_file = inside.to_owned();
        }
        conf
    }

    fn names(conf: &NixConf) -> Vec<String> {
        let keys = conf.trusted_public_keys().ok().unwrap();
        keys.iter().map(|key| key.name().to_owned()).collect()
    }

    #[test]
    fn without_settings_there_are_those_of_nix() {
        let conf = read(&[], &[]);
        assert_eq!(names(&conf), ["cache.nixos.org-1"]);
        assert_eq!(conf.netrc_file(), Path::new("etc/netrc"));
    }

    #[test]
    fn what_comes_later_wins_and_extras_are_added() {
        let set = |name: &str| format!("trusted-public-keys = {name}:{KEY}\n");
        let extra = |name: &str| format!("extra-{}", set(name));
        let own = "home/.config/nix/nix.conf";
        for (files, config, expected) in [
            (vec![("etc/nix.conf", set("a"))], "", &["a"][..]),
            (
                vec![("etc/nix.conf", extra("a"))],
                "",
                &["cache.nixos.org-1", "a"],
            ),
            (
                vec![("etc/nix.conf", set("a")), (own, extra("b"))],
                &extra("c"),
                &["a", "b", "c"],
            ),
            (
                vec![("etc/nix.conf", extra("a")), (own, set("b"))],
                "",
                &["b"],
            ),
            (
                vec![("xdg/nix/nix.conf", set("a")), (own, set("b"))],
                "",
                &["b"],
            ),
            (vec![(own, set("b"))], &set("c"), &["c"]),
            (vec![(own, set("b"))], "trusted-public-keys =", &[]),
        ] {
            let files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
            let found = read(&files, &[("NIX_CONFIG", config)]);
            assert_eq!(names(&found), expected, "{files:?} {config:?}");
        }
    }

    #[test]
    fn files_are_named_and_include_others() {
        let conf = read(
            &[
                ("one", "include two # the other\nnetrc-file = /the/netrc\n"),
                (
                    "two",
                    "extra-trusted-public-keys = two:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=\n!include two\ninclude nothing",
                ),
                ("home/.config/nix/nix.conf", "trusted-public-keys ="),
            ],
            &[("NIX_USER_CONF_FILES", "@/one:@/missing")],
        );
        assert_eq!(names(&conf).first().unwrap(), "cache.nixos.org-1");
        assert!(names(&conf).contains(&"two".to_owned()));
        assert_eq!(conf.netrc_file(), Path::new("/the/netrc"));
    }

    #[test]
    fn what_is_no_key_is_told_without_it() {
        let text = "builders\nx = y\n= \ntrusted-public-keys = hunter2\n";
        let conf = read(&[("etc/nix.conf", text)], &[]);
        let told = conf.trusted_public_keys().err().unwrap().to_text(false);
        assert!(
            told.contains("trusted-public-keys in Nix's settings: ")
                && told.contains("--no-default-key"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}
