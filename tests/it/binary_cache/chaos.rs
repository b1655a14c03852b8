//! Fifty builds from a cache behind a bad network: each ends in the right image
//! or in a clear error.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix2oci_tests::CacheServer;
use nix2oci_tests::chaos_proxy::{ChaosOptions, ChaosProxy};

use super::{Cached, MOST_MEMORY, digest_of, peak};
use crate::push_command::Workload;

const BUILDS: usize = 50;
const AT_ONCE: usize = 8;

#[test]
fn fifty_builds_through_a_bad_network() {
    let workload = Workload::with_releases(1, 6, &|number| match number {
        1 => 3_000_000,
        _ => 200_000,
    });
    let cached = Cached::new(workload, "zstd");
    let expected = cached.expected(1);
    let server = CacheServer::start(cached.cache.folder());
    let options = ChaosOptions {
        truncate: 20,
        stall: 0,
        reset_in_body: 0,
        ..ChaosOptions::default()
    };
    let proxy = ChaosProxy::start(server.server().addr(), 20_26, options);
    let url = format!("http://{}", proxy.host());
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let build = || {
        let build = cached.build(1, &[&url]).args(&["--progress", "json"]);
        let finished = build.run();
        assert_eq!(finished.spooled, 0);
        match finished.code {
            Some(0) => {
                assert_eq!(digest_of(&finished), expected);
                assert!(peak(&finished) < MOST_MEMORY, "{finished:?}");
            }
            Some(7) => {
                failures.fetch_add(1, Ordering::SeqCst);
                assert!(finished.stderr.contains(&proxy.host()), "{finished:?}");
            }
            _ => panic!("{finished:?}"),
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::SeqCst) < BUILDS {
                    build();
                }
            });
        }
    });
    let failures = failures.load(Ordering::SeqCst);
    assert!(failures <= BUILDS / 10, "{failures} builds failed");
    let mishaps = proxy.mishaps();
    assert_eq!(mishaps.len(), 5, "everything happened: {mishaps:?}");
}
