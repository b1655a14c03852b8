//! The image from a cache is the image from the store.

use std::fs;
use std::process::Command;

use nix2oci_tests::certificates::TestCa;
use nix2oci_tests::command::run;
use nix2oci_tests::nix_cache::COMPRESSIONS;
use nix2oci_tests::{CacheKey, CacheServer, FixtureStore, Nginx, NixCache};

use super::digest;
use crate::push_command::Push;

/// A build of a store path that keeps nothing.
fn build(path: &str, layers: &str) -> Push {
    Push::verb("build")
        .args(&[path, "--platform", "linux/amd64", "--compression", layers])
        .args(&["-o", "/dev/null", "--json"])
}

fn from_store(store: &FixtureStore, path: &str, layers: &str) -> String {
    let root = store.root().display().to_string();
    digest(build(path, layers).args(&["--closure", "db", "--store-root", &root]))
}

fn from_cache(url: &str, key: &CacheKey, path: &str, layers: &str) -> Push {
    build(path, layers)
        .args(&["--closure", &format!("cache:{url}")])
        .args(&["--trusted-public-key", key.public()])
}

/// Every compression that Nix 2.8 writes and we read, by file, by HTTP/1.1 and
/// by HTTP/2 with TLS; layers as tars and compressed.
#[test]
fn however_nars_are_compressed_and_served() {
    let store = FixtureStore::new();
    let key = CacheKey::generate("cache.test-1");
    let app = store.fixture("app-1.0");
    let expected = ["none", "zstd"].map(|layers| (layers, from_store(&store, app, layers)));
    let ca = TestCa::new("test");
    let authority = store.folder().join("ca.crt");
    fs::write(&authority, ca.pem()).unwrap();
    let authority = authority.display().to_string();
    for compression in COMPRESSIONS {
        let cache = NixCache::copied(&store, app, compression, Some(&key));
        assert_eq!(cache.narinfo(app).get("Compression"), Some(compression));
        let server = CacheServer::start(cache.folder());
        let nginx = Nginx::start(cache.folder(), &ca);
        for (layers, expected) in &expected {
            let what = format!("{compression} to {layers}");
            let file = digest(from_cache(&cache.url(), &key, app, layers));
            assert_eq!(file, *expected, "{what} by file");
            let http = digest(from_cache(&server.url(), &key, app, layers));
            assert_eq!(http, *expected, "{what} by HTTP/1.1");
            let https = from_cache(&nginx.url(), &key, app, layers);
            let https = digest(https.args(&["--ca-file", &authority]));
            assert_eq!(https, *expected, "{what} by HTTP/2");
        }
        // Large bodies have a connection each.
        let requests = nginx.requests().into_iter();
        let narinfos: Vec<_> = requests
            .filter(|r| r.target.ends_with(".narinfo"))
            .collect();
        assert!(!narinfos.is_empty());
        let is_http2 = narinfos.iter().all(|r| r.protocol == "HTTP/2.0");
        assert!(is_http2, "{narinfos:?}");
    }
}

/// Nix writes more compressions than anybody uses; what is not read is said.
#[test]
fn a_compression_that_nobody_reads_is_named() {
    let store = FixtureStore::new();
    let key = CacheKey::generate("cache.test-1");
    let app = store.fixture("app-1.0");
    let cache = NixCache::copied(&store, app, "lzip", Some(&key));
    let said = from_cache(&cache.url(), &key, app, "none").fail(7, &["lzip", "zstd", &cache.url()]);
    assert!(said.contains("/nix/store/"), "{said}");
}

/// What is content-addressed proves itself.
#[test]
fn paths_that_are_content_addressed_need_no_signature() {
    let store = FixtureStore::new();
    let folder = store.folder().join("a folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "some bytes").unwrap();
    let nobody = CacheKey::generate("nobody-1");
    for arguments in [
        &["--add-fixed", "sha256", "--recursive"][..],
        &["--add-fixed", "sha256"],
        &["--add"],
    ] {
        let is_recursive = arguments.len() != 2;
        let source = if is_recursive {
            folder.clone()
        } else {
            folder.join("file")
        };
        let named = store.folder().join("source");
        run(Command::new("cp").arg("-R").arg(&source).arg(&named));
        let path = run(store.nix("nix-store").args(arguments).arg(&named));
        let path = path.trim_end();
        run(Command::new("rm").arg("-r").arg(&named));
        let cache = NixCache::copied(&store, path, "xz", None);
        assert_eq!(cache.narinfo(path).get("Sig"), None);
        let found = digest(from_cache(&cache.url(), &nobody, path, "none"));
        assert_eq!(found, from_store(&store, path, "none"), "{arguments:?}");

        // But not anything else in their place.
        let other = cache.copy();
        other.edit_nar(path, |nar| {
            let at = nar.windows(10).position(|bytes| bytes == b"some bytes");
            nar[at.expect("the file is in it")] = b'S';
        });
        let nar =
            nix2oci_tests::nix_cache::decompress(&fs::read(other.nar_file(path)).unwrap(), "xz");
        other.edit_narinfo(path, |info| {
            info.set("NarHash", &nix2oci_tests::nix_cache::sha256(&nar));
        });
        from_cache(&other.url(), &nobody, path, "none").fail(5, &[path, &other.url()]);
    }
}
