//! Memory is bounded, whatever a cache has.

use nix2oci_tests::CacheServer;

use super::{Cached, MOST_MEMORY, digest_of, peak};
use crate::push_command::Workload;

/// A NAR that is larger than the memory that a build may take, and many beside
/// it that are fetched ahead.
#[test]
fn a_large_nar_needs_little_memory() {
    const LARGE: usize = 200 * 1024 * 1024;
    let workload = Workload::with_releases(1, 12, &|number| match number {
        1 => LARGE,
        _ => 3 * 1024 * 1024,
    });
    let cached = Cached::new(workload, "zstd");
    let expected = cached.expected(1);
    let server = CacheServer::start(cached.cache.folder());
    for url in [server.url(), cached.cache.url()] {
        let build = cached.build(1, &[&url]);
        let build = build.args(&["--threads", "8", "--jobs", "8", "--progress", "json"]);
        let finished = build.run();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert_eq!(digest_of(&finished), expected);
        let peak = peak(&finished);
        assert!(peak < MOST_MEMORY, "{url}: {peak} bytes");
    }
}
