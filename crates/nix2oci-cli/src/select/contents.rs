//! Where what is inside store paths comes from.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use nix2oci::binary_cache::BinaryCaches;
use nix2oci::content::{ContentOptions, content_kind, open_contents};
use nix2oci::store::ExpectedNar;
use nix2oci::{ContentSource, Context, StoreDir, StorePath};

use crate::args::{ClosureArgs, ContentArgs};
use crate::exit::{Failure, Outcome};
use crate::host;

use super::caches::{Reach, cache_options, cache_urls};

/// What is read if nobody says otherwise.
const LOCAL: &str = "local";

/// Where what is inside store paths comes from, as it was asked for.
pub(super) struct Contents<'a> {
    /// What `--content` says.
    pub(super) named: &'a [String],
    /// What stands for it where it says nothing.
    pub(super) by_default: &'a [String],
    pub(super) store_root: Option<&'a Path>,
    pub(super) store_dir: &'a StoreDir,
    /// What the NARs of store paths must be, as far as it is known.
    pub(super) expected: HashMap<StorePath, ExpectedNar>,
    /// Caches that were asked for the closure.
    pub(super) opened: Option<Arc<BinaryCaches>>,
}

/// Refuses what cannot be opened, before anything is read.
pub(super) fn check(args: &ContentArgs) -> Outcome<()> {
    for text in &args.content {
        content_kind(text).map_err(Failure::misuse)?;
    }
    cache_urls("--content", &args.content).map(|_| ())
}

impl Contents<'_> {
    /// Opens them: of several, the first that has a store path gives it.
    pub(super) fn open(self, cx: &Context, reach: &Reach<'_>) -> Outcome<Arc<dyn ContentSource>> {
        let local = [LOCAL.to_owned()];
        let texts = [self.named, self.by_default, &local];
        let texts = texts.into_iter().find(|texts| !texts.is_empty());
        let texts = texts.expect("the last one is not empty");
        let urls = cache_urls("--content", texts)?;
        let mut options = ContentOptions {
            store_dir: self.store_dir.clone(),
            store_root: self.store_root.map(Path::to_owned),
            daemon_socket: host::daemon_socket(self.store_root),
            expected: self.expected,
            ..ContentOptions::default()
        };
        if !urls.is_empty() {
            let others = self.opened.as_ref().map_or(&[][..], |opened| opened.urls());
            options.caches = cache_options(cx, reach, &urls, others)?;
            options.opened = self.opened;
        }
        open_contents(cx, &options, texts).map_err(Failure::misuse)
    }
}

/// Opens the content of store paths in `store_dir` whose closure nobody told;
/// what is known of their NARs is `expected`.
pub(crate) fn content(
    cx: &Context,
    args: &ContentArgs,
    reach: &Reach<'_>,
    store_dir: &StoreDir,
    expected: HashMap<StorePath, ExpectedNar>,
) -> Outcome<Arc<dyn ContentSource>> {
    let contents = Contents {
        named: &args.content,
        by_default: &[],
        store_root: args.store_root.as_deref(),
        store_dir,
        expected,
        opened: None,
    };
    contents.open(cx, reach)
}

/// Returns the content that goes with closure sources, in their order and each
/// once: what knows the closure of a cache or of a daemon has its files as well.
pub(super) fn of_closures<'a>(closures: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut contents: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        if !contents.iter().any(|known| known == text) {
            contents.push(text.to_owned());
        }
    };
    for closure in closures {
        match closure.split(':').next() {
            Some("cache") => add(closure),
            Some("daemon") => {
                add(LOCAL);
                add(closure);
            }
            _ => add(LOCAL),
        }
    }
    contents
}

/// Returns whether content may come from anywhere but this machine.
pub(crate) fn is_far(args: &ClosureArgs) -> bool {
    let by_default = of_closures(args.closure.iter().map(String::as_str));
    let texts = match args.contents.content.is_empty() {
        true => &by_default,
        false => &args.contents.content,
    };
    texts
        .iter()
        .filter_map(|text| content_kind(text).ok())
        .any(|(kind, _)| !kind.is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_goes_with_the_closure() {
        for (closures, contents) in [
            (&[][..], &[][..]),
            (&["db"], &["local"]),
            (&["attrs:f#k", "path-info:-"], &["local"]),
            (&["cache:https://a"], &["cache:https://a"]),
            (
                &[
                    "cache:https://a",
                    "db",
                    "cache:https://a",
                    "cache:file:///b",
                ],
                &["cache:https://a", "local", "cache:file:///b"],
            ),
            (&["daemon"], &["local", "daemon"]),
            (&["db", "daemon:/s"], &["local", "daemon:/s"]),
        ] {
            let found = of_closures(closures.iter().copied());
            assert_eq!(found, contents, "{closures:?}");
        }
    }
}
