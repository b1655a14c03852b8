//! Histories of applications: which store paths changed in which release.

use std::error::Error;
use std::path::Path;
use std::{fs, io};

use libdeflater::Decompressor;
use nix2oci::store::{PathInfo, nix32};
use nix2oci::{Closure, Digest, StoreDir, StorePath};
use serde_json::Value;

/// The most that a file may decompress to.
const MOST: usize = 256 << 20;

/// Releases of one application, as a file of JSON tells them, gzipped or not:
///
/// - `app` and `scenario`: what it is, in a word each
/// - `paths`: `name`, `narSize` in bytes, and `references` as places in `paths`
/// - `app_paths`: places of the application's own. The last is the root, which
///   refers to the one before it, and so on; the first refers to every path
///   that is there and that nothing else needs
/// - `releases`: places of the paths that `changed`, those carried along by
///   Nix included, and of those that are `absent`
#[derive(Debug, Clone)]
pub struct History {
    /// The application's name.
    pub app: String,
    /// What kind of releases these are.
    pub scenario: String,
    paths: Vec<Described>,
    app_paths: Vec<usize>,
    releases: Vec<Release>,
}

#[derive(Debug, Clone)]
struct Described {
    name: String,
    nar_size: u64,
    references: Vec<usize>,
}

/// One release: what is there, in which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// For each path of the history the release in which it changed last.
    changed_in: Vec<usize>,
    /// For each path whether it is in the image.
    is_there: Vec<bool>,
}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read or has another form; the message names it.
    pub fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        let named = |error: Box<dyn Error>| format!("{}: {error}", file.display());
        let bytes = fs::read(file).map_err(|error| named(error.into()))?;
        Ok(Self::parse(&bytes).map_err(named)?)
    }

    /// Reads all files of a directory that end in `.json` or `.json.gz`, by
    /// name.
    ///
    /// # Errors
    ///
    /// As those of [`History::read`], and if there is none.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>, Box<dyn Error>> {
        let entries = fs::read_dir(directory)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        files.retain(|file| {
            let name = file.to_string_lossy();
            name.ends_with(".json") || name.ends_with(".json.gz")
        });
        files.sort_unstable();
        if files.is_empty() {
            return Err(format!("{}: there is no history in it", directory.display()).into());
        }
        files.iter().map(|file| Self::read(file)).collect()
    }

    /// Parses a document.
    ///
    /// # Errors
    ///
    /// If it is not of the form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Box<dyn Error>> {
        let document: Value = if bytes.starts_with(&[0x1f, 0x8b]) {
            serde_json::from_slice(&gunzip(bytes)?)?
        } else {
            serde_json::from_slice(bytes)?
        };
        let paths = list(&document, "paths", |path| {
            Ok(Described {
                name: text(path, "name")?,
                nar_size: number(&path["narSize"])?,
                references: places(path, "references")?,
            })
        })?;
        let app_paths = places(&document, "app_paths")?;
        let mut changed_in = vec![0; paths.len()];
        let mut number = 0;
        let releases = list(&document, "releases", |release| {
            for place in places(release, "changed")? {
                *changed_in.get_mut(place).ok_or("a place is too large")? = number;
            }
            let mut is_there = vec![true; paths.len()];
            for place in places(release, "absent")? {
                *is_there.get_mut(place).ok_or("a place is too large")? = false;
            }
            number += 1;
            Ok(Release {
                changed_in: changed_in.clone(),
                is_there,
            })
        })?;
        let mut all = paths.iter().flat_map(|path| &path.references);
        if app_paths.is_empty() || !all.all(|place| *place < paths.len()) {
            return Err("expected app_paths, and references to paths".into());
        }
        Ok(Self {
            app: text(&document, "app")?,
            scenario: text(&document, "scenario")?,
            paths,
            app_paths,
            releases,
        })
    }

    /// Returns the releases, oldest first.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// Returns the closure of a release.
    ///
    /// # Panics
    ///
    /// If the release is of another history.
    pub fn closure(&self, release: &Release) -> Closure {
        let (first, others) = self
            .app_paths
            .split_first()
            .expect("a history has app_paths");
        let is_app = |n: usize| self.app_paths.contains(&n);
        let there = |n: &usize| release.is_there[*n];
        let library = |n: &usize| there(n) && !is_app(*n);
        let mut is_needed = vec![false; self.paths.len()];
        for n in (0..self.paths.len()).filter(library) {
            for reference in &self.paths[n].references {
                is_needed[*reference] = true;
            }
        }
        let info = |n: usize, references: &mut dyn Iterator<Item = usize>| PathInfo {
            nar_size: Some(self.paths[n].nar_size),
            ..PathInfo::new(
                self.store_path(release, n),
                references.map(|r| self.store_path(release, r)),
            )
        };
        let libraries = (0..self.paths.len()).filter(library);
        let mut infos: Vec<PathInfo> = libraries
            .clone()
            .map(|n| {
                info(
                    n,
                    &mut self.paths[n].references.iter().copied().filter(library),
                )
            })
            .collect();
        infos.push(info(*first, &mut libraries.filter(|n| !is_needed[*n])));
        for (n, before) in others.iter().zip(&self.app_paths) {
            infos.push(info(*n, &mut std::iter::once(*before)));
        }
        let root = infos.last().expect("there is the application").path.clone();
        Closure::new(StoreDir::default(), infos, &[root], "the history")
            .expect("a history has no cycle, and references to what is there only")
    }

    /// Returns a release with nothing new but the application's own paths.
    pub fn with_new_app(&self, release: &Release) -> Release {
        let mut next = release.clone();
        for n in &self.app_paths {
            next.changed_in[*n] = self.releases.len();
        }
        next
    }

    /// Returns a release for each library that nothing but the application
    /// needs: without it, and with no other change.
    pub fn without_one(&self, release: &Release) -> Vec<Release> {
        let is_library = |n: usize| release.is_there[n] && !self.app_paths.contains(&n);
        let libraries: Vec<usize> = (0..self.paths.len()).filter(|n| is_library(*n)).collect();
        let is_needed = |n: usize| {
            let mut others = libraries.iter();
            others.any(|other| self.paths[*other].references.contains(&n))
        };
        let unneeded = libraries.iter().filter(|n| !is_needed(**n));
        unneeded
            .map(|n| {
                let mut next = release.clone();
                next.is_there[*n] = false;
                next
            })
            .collect()
    }

    /// Returns the size of the application's own paths.
    pub fn app_size(&self) -> u64 {
        let sizes = self.app_paths.iter().map(|n| self.paths[*n].nar_size);
        sizes.sum()
    }

    /// Returns a store path that says the name and the release of the last
    /// change.
    fn store_path(&self, release: &Release, n: usize) -> StorePath {
        let name = &self.paths[n].name;
        let digest = Digest::of(format!("{name} of release {}", release.changed_in[n]).as_bytes());
        let hash = nix32::encode(&digest.as_bytes()[..20]);
        format!("{hash}-{name}")
            .parse()
            .expect("a package's name is one of a store path")
    }
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let size = bytes.last_chunk().copied().map_or(0, u32::from_le_bytes) as usize;
    if size > MOST {
        return Err("it is too large".into());
    }
    let mut out = vec![0; size];
    let len = Decompressor::new().gzip_decompress(bytes, &mut out)?;
    out.truncate(len);
    Ok(out)
}

fn list<T>(
    object: &Value,
    key: &str,
    take: impl FnMut(&Value) -> Result<T, Box<dyn Error>>,
) -> Result<Vec<T>, Box<dyn Error>> {
    let array = object[key].as_array();
    let array = array.ok_or_else(|| format!("expected a list {key}"))?;
    array.iter().map(take).collect()
}

fn places(object: &Value, key: &str) -> Result<Vec<usize>, Box<dyn Error>> {
    list(object, key, |place| Ok(usize::try_from(number(place)?)?))
}

fn number(value: &Value) -> Result<u64, Box<dyn Error>> {
    let number = value.as_u64();
    Ok(number.ok_or_else(|| format!("expected a number, found {value}"))?)
}

fn text(object: &Value, key: &str) -> Result<String, Box<dyn Error>> {
    let text = object[key].as_str();
    Ok(text
        .ok_or_else(|| format!("expected a text {key}"))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &[u8] = br#"{
        "app": "web", "scenario": "rolling",
        "paths": [
            {"name": "libc", "narSize": 1000, "references": []},
            {"name": "lib", "narSize": 200, "references": [0]},
            {"name": "tool", "narSize": 30, "references": [1]},
            {"name": "app", "narSize": 4, "references": []},
            {"name": "app-env", "narSize": 1, "references": []}
        ],
        "app_paths": [3, 4],
        "releases": [
            {"changed": [0, 1, 2, 3, 4], "absent": [2]},
            {"changed": [2, 3, 4], "absent": []}
        ]
    }"#;

    fn shown(closure: &Closure) -> Vec<String> {
        let name = |id| closure.path(id).name().to_owned();
        closure
            .ids()
            .map(|id| {
                let references = closure.references(id).iter().map(|r| name(*r));
                format!("{}: {}", name(id), references.collect::<Vec<_>>().join(" "))
            })
            .collect()
    }

    #[test]
    fn the_application_needs_what_nothing_else_does() {
        let history = History::parse(DOCUMENT).unwrap();
        let [first, second] = history.releases() else {
            panic!("there are two releases");
        };
        let (first, second) = (history.closure(first), history.closure(second));
        let names = ["libc: ", "lib: libc", "app: lib", "app-env: app"];
        assert_eq!(shown(&first), names);
        let names = [
            "libc: ",
            "lib: libc",
            "tool: lib",
            "app: tool",
            "app-env: app",
        ];
        assert_eq!(shown(&second), names);
        let same = first
            .infos()
            .iter()
            .filter(|i| second.find(&i.path).is_some());
        assert_eq!(same.count(), 2);
        assert_eq!(history.app_size(), 5);
    }

    #[test]
    fn releases_that_never_were() {
        let history = History::parse(DOCUMENT).unwrap();
        let last = &history.releases()[1];
        let before = history.closure(last);
        let after = history.closure(&history.with_new_app(last));
        let new = after
            .infos()
            .iter()
            .filter(|i| before.find(&i.path).is_none());
        assert_eq!(new.map(|i| i.nar_size.unwrap()).sum::<u64>(), 5);
        let without = history.without_one(last);
        assert_eq!(without.len(), 1);
        let names = ["libc: ", "lib: libc", "app: lib", "app-env: app"];
        assert_eq!(shown(&history.closure(&without[0])), names);
    }

    #[test]
    fn gzip_is_recognised_and_what_is_broken_is_told() {
        let mut gzip = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut packed = vec![0; gzip.gzip_compress_bound(DOCUMENT.len())];
        let len = gzip.gzip_compress(DOCUMENT, &mut packed).unwrap();
        let history = History::parse(&packed[..len]).unwrap();
        assert_eq!(history.releases().len(), 2);
        assert!(History::parse(&packed[..len / 2]).is_err());
        let error = |text: &str| History::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("{}"), "expected a list paths");
        let text = std::str::from_utf8(DOCUMENT).unwrap();
        assert_eq!(
            error(&text.replace("[0, 1, 2, 3, 4]", "[7]")),
            "a place is too large"
        );
        assert_eq!(
            error(&text.replace("\"references\": [1]", "\"references\": [9]")),
            "expected app_paths, and references to paths"
        );
    }
}
