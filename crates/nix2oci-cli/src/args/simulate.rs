//! What `simulate` takes.

use std::str::FromStr;

use clap::{Args, ValueHint};
use nix2oci::StoreDir;
use nix2oci::build::DEFAULT_MAX_LAYERS;
use nix2oci::closure::SOURCES;

use super::layers::strategies_help;
use super::{help_table, is_whole_store, values};

/// Show what each way of making layers would have moved over past releases
///
/// Plans every release in turn and counts the bytes in layers that the release
/// before did not have: what a node pulls that has that one. No image is needed,
/// and no store path has to be here: a HISTORY is a file that tells of one
/// release.
///
/// Above the table is the least that is possible: what is new, with a layer for
/// each store path. A strategy that can keep the layers of the release before,
/// as `push` does, is shown with and without. Sizes are those of the NAR
/// serialisation, before compression.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nix path-info --json --recursive ./result > v1.json      # at each release
  nix2oci simulate v1.json v2.json v3.json
  nix2oci simulate releases/*.json --layers cost --max-layers 20 --max-layers 100
  nix2oci simulate releases/*.json --volatile app --volatile app-config")]
pub(crate) struct SimulateArgs {
    /// The closure of one release each, the oldest first; two at least
    #[arg(
        value_name = "HISTORY",
        num_args = 2..,
        required = true,
        value_hint = ValueHint::FilePath,
        long_help = histories_help(),
    )]
    pub(crate) histories: Vec<String>,
    /// The store directory that the paths say
    #[arg(long, value_name = "DIR", default_value_t = StoreDir::default(), value_hint = ValueHint::DirPath)]
    pub(crate) store_dir: StoreDir,
    /// How store paths are grouped; may be given more than once
    #[arg(
        long,
        value_name = "STRATEGY[:ARG]",
        help_heading = "Layers",
        long_help = strategies_help(
            "How store paths are grouped; may be given more than once",
            "Without this option all are shown.",
        ),
    )]
    pub(crate) layers: Vec<String>,
    /// The most layers there may be, at most 125; may be given more than once
    #[arg(
        long,
        value_name = "N",
        help_heading = "Layers",
        default_values_t = [DEFAULT_MAX_LAYERS.get()],
        value_parser = values::max_layers,
        allow_negative_numbers = true,
    )]
    pub(crate) max_layers: Vec<usize>,
    /// Store paths of this name change with every release
    ///
    /// NAME is what follows the hash, with or without the version: `app` means
    /// /nix/store/…-app and /nix/store/…-app-1.2, not /nix/store/…-app-config.
    #[arg(long, value_name = "NAME", help_heading = "Layers")]
    pub(crate) volatile: Vec<PathName>,
    /// A layer of its own for the store paths of these names
    ///
    /// A PATH is said as for --volatile. A release that has none of them has
    /// no such layer.
    #[arg(long, value_name = "NAME=PATH,PATH…", help_heading = "Layers")]
    pub(crate) layer: Vec<LayerOfNames>,
    /// Print the figures of every release as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Lists what a HISTORY can be.
fn histories_help() -> String {
    let of_one_release = SOURCES.iter().filter(|kind| !is_whole_store(kind.name));
    help_table(
        "The closure of one release each, the oldest first; two at least",
        of_one_release
            .map(|kind| (kind.syntax(), kind.help))
            .chain([("FILE".to_owned(), "the same as path-info:FILE")]),
        "NAR sizes must be known, and graph: has none.",
    )
}

/// The name of a store path, its version left out or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathName(String);

impl PathName {
    /// Returns the name as it was typed.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a store path of this name is meant. A version begins
    /// with what is no letter, as Nix has it.
    pub(crate) fn fits(&self, name: &str) -> bool {
        match name.strip_prefix(&self.0) {
            Some("") => true,
            Some(rest) => rest
                .strip_prefix('-')
                .and_then(|version| version.chars().next())
                .is_some_and(|first| !first.is_alphabetic()),
            None => false,
        }
    }
}

impl FromStr for PathName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.contains('/') {
            return Err(
                "expected the name of a store path without its hash, which changes with every \
                 release"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }
}

/// A layer asked for by name, and what is in it in each release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerOfNames {
    /// Its name, for people.
    pub(crate) name: String,
    /// The names of store paths.
    pub(crate) paths: Vec<PathName>,
}

impl FromStr for LayerOfNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected NAME=PATH,PATH…, such as base=glibc,bash";
        let (name, paths) = text.split_once('=').ok_or(expected)?;
        if name.is_empty() {
            return Err(expected.to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            paths: paths.split(',').map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_with_any_version() {
        let app: PathName = "app".parse().unwrap();
        for name in ["app", "app-1.2", "app-2-bin", "app-0"] {
            assert!(app.fits(name), "{name}");
        }
        for name in ["ap", "apps", "app-config", "app-", "my-app", "app-config-1"] {
            assert!(!app.fits(name), "{name}");
        }
        assert!("app-1.2".parse::<PathName>().unwrap().fits("app-1.2"));
        for text in ["", "/nix/store/x-app"] {
            assert!(text.parse::<PathName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_layer_has_names() {
        let layer: LayerOfNames = "base=glibc,bash".parse().unwrap();
        assert_eq!(layer.name, "base");
        assert_eq!(layer.paths.len(), 2);
        for text in ["", "base", "base=", "=a", "base=a,", "base=/nix/store/a"] {
            assert!(text.parse::<LayerOfNames>().is_err(), "{text}");
        }
    }
}
