//! A closure of more store paths than nginx answers on one connection: after a
//! thousand requests it wants another one.

use std::fs;

use nix2oci_tests::certificates::TestCa;
use nix2oci_tests::{CacheKey, CacheServer, Nginx, NixCache, Node};
use serde_json::Value;

use crate::push_command::Push;

const LIBRARIES: usize = 1200;

fn path(n: usize) -> String {
    format!("/nix/store/{n:032}-library")
}

/// An application that needs all libraries; of these, every tenth needs the
/// tenth before it, so that they are not all known from the start.
fn cache(key: &CacheKey) -> (NixCache, String) {
    let cache = NixCache::new();
    let nar = Node::file("the same in each").nar();
    for n in 0..LIBRARIES {
        let before = path(n.saturating_sub(10));
        let references = [&*before];
        let needs = n >= 10 && n % 10 == 0;
        cache.add(&path(n), &nar, &references[..needs.into()], "none", key);
    }
    let last = path(LIBRARIES - 10);
    let direct: Vec<_> = (0..LIBRARIES).filter(|n| n % 10 != 0).map(path).collect();
    let mut references: Vec<_> = direct.iter().map(String::as_str).collect();
    references.push(&last);
    let app = "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-app".to_owned();
    cache.add(&app, &nar, &references, "none", key);
    (cache, app)
}

#[test]
fn a_thousand_narinfos_are_read() {
    let key = CacheKey::generate("cache.test-1");
    let (cache, app) = cache(&key);
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.crt");
    let ca = TestCa::new("test");
    fs::write(&authority, ca.pem()).unwrap();
    let server = CacheServer::start(cache.folder());
    let nginx = Nginx::start(cache.folder(), &ca);
    for url in [cache.url(), server.url(), nginx.url()] {
        let report = Push::verb("plan")
            .args(&[&app, "--platform", "linux/amd64"])
            .args(&["--closure", &format!("cache:{url}")])
            .args(&["--trusted-public-key", key.public()])
            .args(&["--ca-file", &authority.display().to_string()])
            .report();
        assert_eq!(
            report["totals"]["paths"],
            Value::from(LIBRARIES + 1),
            "{url}"
        );
    }
    assert_eq!(server.narinfos(), LIBRARIES + 1);
    assert_eq!(server.nars(), 0);
    assert!(server.log().most_at_once() > 1, "several at once");
}
