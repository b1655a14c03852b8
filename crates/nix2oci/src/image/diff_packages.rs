//! What changed of packages: store paths by name, with their versions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::store::{PackageName, StorePathPrefix};

use super::TablePath;
use super::diff::{PathPairs, SizedPath, sum};

/// A package that changed: all store paths of its name, whatever their version
/// and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PackageChange {
    /// Its name: `openssl`.
    pub name: String,
    /// What happened to it.
    pub change: PackageDifference,
    /// The versions that the first image has, each once; an empty text for what
    /// has none. They name the output as well (`3.0.13-dev`) where the versions
    /// are the same and outputs came or went.
    pub from: Vec<String>,
    /// The same of the second image.
    pub to: Vec<String>,
    /// Its store paths that only the first image has.
    pub removed: Vec<SizedPath>,
    /// Its store paths that only the second image has.
    pub added: Vec<SizedPath>,
    /// The sum of the NAR sizes of all its store paths in the first image.
    pub from_size: Option<u64>,
    /// The same of the second image.
    pub to_size: Option<u64>,
}

/// What happened to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageDifference {
    /// Both have it, in other versions or with other outputs.
    Changed,
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have the same versions, and store paths with other hashes: it was
    /// built again, or something that it is built of changed.
    Rebuilt,
}

/// All store paths of a package.
#[derive(Default)]
struct Package<'a> {
    kept: Vec<&'a TablePath>,
    removed: Vec<&'a TablePath>,
    added: Vec<&'a TablePath>,
}

/// Compares packages; those of which nothing changed are left out. Ordered by
/// name.
pub(super) fn package_changes(paths: &PathPairs<'_>) -> Vec<PackageChange> {
    let mut packages: BTreeMap<&str, Package<'_>> = BTreeMap::new();
    for (name, pair) in &paths.by_name {
        let package = packages.entry(PackageName::of(name).name).or_default();
        package.kept.extend(&pair.kept);
        package.removed.extend(&pair.removed);
        package.added.extend(&pair.added);
    }
    packages
        .into_iter()
        .filter(|(_, package)| !package.removed.is_empty() || !package.added.is_empty())
        .map(|(name, package)| package.change(name))
        .collect()
}

impl Package<'_> {
    fn change(&self, name: &str) -> PackageChange {
        let before: Vec<_> = self.kept.iter().chain(&self.removed).copied().collect();
        let after: Vec<_> = self.kept.iter().chain(&self.added).copied().collect();
        let has_same_builds = labels(&self.removed) == labels(&self.added);
        let (mut from, mut to) = (versions(&before), versions(&after));
        let change = if before.is_empty() {
            PackageDifference::Added
        } else if after.is_empty() {
            PackageDifference::Removed
        } else if has_same_builds {
            PackageDifference::Rebuilt
        } else {
            if from == to {
                (from, to) = (labels(&before), labels(&after));
            }
            PackageDifference::Changed
        };
        let once = |mut texts: Vec<String>| {
            texts.dedup();
            texts
        };
        PackageChange {
            name: name.to_owned(),
            change,
            from: once(from),
            to: once(to),
            removed: self.removed.iter().copied().map(SizedPath::from).collect(),
            added: self.added.iter().copied().map(SizedPath::from).collect(),
            from_size: sum(before.iter().map(|path| path.nar_size)),
            to_size: sum(after.iter().map(|path| path.nar_size)),
        }
    }
}

/// Returns the versions, each once.
fn versions(paths: &[&TablePath]) -> Vec<String> {
    let version = |path: &&TablePath| split(&path.path).version.to_owned();
    let versions: BTreeSet<String> = paths.iter().map(version).collect();
    versions.into_iter().collect()
}

/// Returns the versions with the outputs, as often as they are there.
fn labels(paths: &[&TablePath]) -> Vec<String> {
    let label = |path: &&TablePath| {
        let PackageName {
            version, output, ..
        } = split(&path.path);
        match output {
            "" => version.to_owned(),
            output => format!("{version}-{output}"),
        }
    };
    let mut labels: Vec<String> = paths.iter().map(label).collect();
    labels.sort_unstable();
    labels
}

fn split(path: &StorePathPrefix) -> PackageName<'_> {
    PackageName::of(path.name())
}
