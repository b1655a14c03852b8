//! Images straight from binary caches: the same bytes as from a store, nothing
//! fetched that is not needed, and nothing believed that is not signed.

mod chaos;
mod faults;
mod many;
mod memory;
mod mixed;
mod only_missing;
mod private;
mod same;
mod tampered;
mod without_nix;

use std::fs;

use nix2oci_tests::image_files::text;
use nix2oci_tests::{CacheKey, NixCache};
use serde_json::Value;

use crate::push_command::{Finished, Push, Workload, docker};

/// More than a build of anything may take.
const MOST_MEMORY: u64 = 160 * 1024 * 1024;

/// Releases of an application in a signed binary cache, and in a store that
/// says what their images must be.
struct Cached {
    workload: Workload,
    key: CacheKey,
    cache: NixCache,
}

impl Cached {
    fn new(workload: Workload, compression: &str) -> Self {
        let key = CacheKey::generate("cache.test-1");
        let document = fs::read(workload.closure()).expect("the workload has its closure");
        let document: Value = serde_json::from_slice(&document).expect("it is JSON");
        let root = workload.store_root();
        let cache = NixCache::of_path_info(&document, &root, compression, &key);
        Self {
            workload,
            key,
            cache,
        }
    }

    /// Three small layers, compressed by zstd.
    fn small() -> Self {
        Self::new(Workload::small(), "zstd")
    }

    /// The store path of a release's application.
    fn app(&self, release: usize) -> String {
        let mut paths = self.workload.paths(release);
        paths.pop().expect("there is an application")
    }

    /// A run on a machine that has no store and no store's database, with the
    /// closure from these caches.
    fn command(&self, verb: &str, release: usize, urls: &[&str]) -> Push {
        let app = self.app(release);
        let mut push = Push::verb(verb).args(&[&app, "--platform", "linux/amd64"]);
        for url in urls {
            push = push.args(&["--closure", &format!("cache:{url}")]);
        }
        push.args(&["--layers", "largest", "--store-root", "/nonexistent"])
            .args(&["--trusted-public-key", self.key.public()])
    }

    /// A build that keeps nothing.
    fn build(&self, release: usize, urls: &[&str]) -> Push {
        let build = self.command("build", release, urls);
        build.args(&["-o", "/dev/null", "--json"])
    }

    /// A push of a release to a name in a registry.
    fn push(&self, release: usize, urls: &[&str], name: &str) -> Push {
        self.command("push", release, urls).args(&[&docker(name)])
    }

    /// The digest of a release's image, made from the store.
    fn expected(&self, release: usize) -> String {
        let mut build = Push::verb("build");
        build.command.args(self.workload.image(release));
        digest(build.args(&["-o", "/dev/null", "--json"]))
    }
}

/// The digest of what a run that succeeds builds.
#[track_caller]
fn digest(build: Push) -> String {
    let finished = build.run();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    digest_of(&finished)
}

/// The digest that a run printed as JSON.
fn digest_of(finished: &Finished) -> String {
    let report: Value = serde_json::from_str(&finished.stdout).expect("--json prints JSON");
    text(&report["digest"]).to_owned()
}

/// The peak of the memory that a run with `--progress json` needed.
fn peak(finished: &Finished) -> u64 {
    let last = finished.stderr.lines().last().expect("there is an end");
    let last: Value = serde_json::from_str(last).expect("an event is JSON");
    last["peakMemory"].as_u64().expect("Linux tells it")
}

/// What a run that failed says of it, without what it said before.
fn error_of(finished: &Finished) -> &str {
    let at = finished.stderr.find("error: ");
    &finished.stderr[at.expect("it says an error")..]
}
