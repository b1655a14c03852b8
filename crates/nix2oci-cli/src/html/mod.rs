//! One page for a browser that shows an image, a plan or a difference.
//!
//! The page is a single file without a script, style or picture from elsewhere,
//! and its policy lets a browser load none. It can be read without JavaScript:
//! the map's places are in its stylesheet, and everything that the map shows
//! is in tables.
//!
//! - [`Page`]: what a page shows; each verb fills it: [`image`](fn@image),
//!   [`plan`](fn@plan), [`difference`](fn@difference)
//! - [`places`]: where the map has each layer and store path
//! - [`policy`]: what a browser may load: nothing
//! - [`view`]: the page's texts, for the template `templates/page.html`
//! - [`words`]: names that came from an image, made harmless for the eye
//! - `page.css`, `page.js`: how it looks, and what it does

mod difference;
mod image;
mod places;
mod plan;
mod policy;
mod view;
mod words;

use std::path::{Path as FilePath, PathBuf};

use nix2oci::build::LayerState;
use nix2oci::plan::LayerOrigin;

use crate::exit::Failure;
use crate::output::PendingFile;
use crate::stdout;

pub(crate) use difference::difference;
pub(crate) use image::image;
pub(crate) use plan::{Moved, plan};

/// What a page shows.
///
/// All texts may come from an image and so from anybody: they are shown as
/// they are, with what would deceive the eye spelled out.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// What it is about.
    pub(crate) kind: Kind,
    /// The name of the image.
    pub(crate) heading: String,
    /// The totals as a sentence; may be empty.
    pub(crate) summary: String,
    /// The few numbers that matter most: value and what it is.
    pub(crate) figures: Vec<(String, String)>,
    /// What else is known, such as the digest: name and value.
    pub(crate) facts: Vec<(String, String)>,
    /// What a layer's size is, as in `bytes of the blob`.
    pub(crate) measure: &'static str,
    /// The layers, bottom first. Of a difference those of the new image, then
    /// those that are gone.
    pub(crate) layers: Vec<Layer>,
    /// What changed between two images, in the order of the names.
    pub(crate) packages: Vec<Package>,
}

/// What a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An image that is there.
    Image,
    /// An image that would be built.
    Plan,
    /// Two images.
    Difference,
}

/// A layer of the page.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Its number as people say it: `7`, of a layer that is gone `old 7`.
    pub(crate) label: String,
    /// Bytes, by the page's measure, if that is known.
    pub(crate) size: Option<u64>,
    /// Why these paths are together, or whatever is told of it.
    pub(crate) why: String,
    /// What became of it; `None` colours it by its number.
    pub(crate) state: Option<State>,
    /// The store paths in it.
    pub(crate) paths: Vec<Path>,
}

/// A store path of the page.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    /// All of it, `/nix/store/…`, or its last part.
    pub(crate) path: String,
    /// Its NAR size in bytes, if that is known.
    pub(crate) size: Option<u64>,
    /// What became of it, if that is not what became of its layer.
    pub(crate) state: Option<State>,
}

/// A package that is not the same in both images.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Its name without a version.
    pub(crate) name: String,
    /// What happened to it.
    pub(crate) change: Change,
    /// Its versions in the first image; none if it is not there.
    pub(crate) before: Vec<String>,
    /// Its versions in the second.
    pub(crate) after: Vec<String>,
    /// Bytes of the second less bytes of the first, if both are known.
    pub(crate) growth: Option<i64>,
}

/// What happened to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Only the second image has it.
    Added,
    /// Both have it, in other versions.
    Changed,
    /// Both have it in the same versions and with other hashes.
    Rebuilt,
    /// Only the first image has it.
    Removed,
}

impl Change {
    /// Returns its name.
    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Rebuilt => "rebuilt",
            Self::Removed => "removed",
        }
    }
}

/// What became of a layer or a store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Not there yet: it is sent, or pulled.
    New,
    /// The same path as before, but in a layer that is new.
    Again,
    /// A layer of the image that is replaced.
    Kept,
    /// A layer of another image.
    Shared,
    /// See [`LayerState::Reused`].
    Reused,
    /// See [`LayerState::Cached`].
    Cached,
    /// See [`LayerState::Exists`].
    Exists,
    /// See [`LayerState::Mounted`].
    Mounted,
    /// A layer of the base.
    Base,
    /// Only in the image before.
    Gone,
}

impl State {
    /// All of them, in the order of the legend.
    const ALL: [Self; 10] = [
        Self::New,
        Self::Again,
        Self::Kept,
        Self::Shared,
        Self::Reused,
        Self::Cached,
        Self::Exists,
        Self::Mounted,
        Self::Base,
        Self::Gone,
    ];

    /// Returns its name, which is also that of its colour.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Again => "again",
            Self::Kept => "kept",
            Self::Shared => "shared",
            Self::Reused => "reused",
            Self::Cached => "cached",
            Self::Exists => "exists",
            Self::Mounted => "mounted",
            Self::Base => "base",
            Self::Gone => "gone",
        }
    }

    /// Returns what it means, in a few words.
    fn meaning(self) -> &'static str {
        match self {
            Self::New => "not there yet",
            Self::Again => "unchanged, but in a new layer",
            Self::Kept => "as in the image before",
            Self::Shared => "as in another image",
            Self::Reused => "in an earlier image there",
            Self::Cached => "packed before, and there",
            Self::Exists => "there already",
            Self::Mounted => "in another repository there",
            Self::Base => "of the base, as it is",
            Self::Gone => "only in the image before",
        }
    }
}

impl From<LayerOrigin> for State {
    fn from(origin: LayerOrigin) -> Self {
        match origin {
            LayerOrigin::New => Self::New,
            LayerOrigin::Kept => Self::Kept,
            LayerOrigin::Shared => Self::Shared,
        }
    }
}

impl From<LayerState> for State {
    fn from(state: LayerState) -> Self {
        match state {
            LayerState::Cached => Self::Cached,
            LayerState::Reused => Self::Reused,
            LayerState::Exists => Self::Exists,
            LayerState::Mounted => Self::Mounted,
            // What the library may learn to say is at least not wrong as new.
            _ => Self::New,
        }
    }
}

/// The file of `--html`.
#[derive(Debug)]
pub(crate) struct PageFile(Option<PendingFile>);

impl PageFile {
    /// Prepares to write it, if it is asked for. Standard output has what the
    /// verb prints.
    pub(crate) fn new(path: Option<&PathBuf>) -> Result<Self, Failure> {
        let path = path.map(FilePath::new);
        if stdout::is_wanted(path) {
            let failure = Failure::usage("--html wants standard output, which has the result");
            return Err(failure.hint("name a file for --html"));
        }
        Ok(Self(path.map(PendingFile::new).transpose()?))
    }

    /// Writes the page, which is made only if it is asked for.
    pub(crate) fn finish(self, page: impl FnOnce() -> Page) -> Result<(), Failure> {
        match self.0 {
            Some(file) => file.finish(page().to_html().as_bytes()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
