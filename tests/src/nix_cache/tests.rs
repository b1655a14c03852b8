//! Nix reads what is made by hand, and refuses what is tampered with where its
//! own checks reach.

use super::*;
use crate::memory_store::Node;

const APP: &str = "/nix/store/00000000000000000000000000000000-app";
const LIBRARY: &str = "/nix/store/11111111111111111111111111111111-library";

fn handmade(key: &CacheKey, compression: &str) -> NixCache {
    let cache = NixCache::new();
    let library = Node::directory([("lib", Node::file("some bytes"))]).nar();
    let app = Node::directory([("bin", Node::executable(LIBRARY))]).nar();
    cache.add(LIBRARY, &library, &[], compression, key);
    cache.add(APP, &app, &[LIBRARY], compression, key);
    cache
}

/// Lets Nix copy the application to an empty store, trusting the key.
fn fetch(cache: &NixCache, key: &CacheKey) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    crate::command::output(
        Command::new("nix")
            .args(["--extra-experimental-features", "nix-command"])
            .args(["copy", "--from", &cache.url()])
            .args(["--to", &format!("local?root={}", root.display())])
            .args(["--option", "trusted-public-keys", key.public()])
            .args(["--option", "build-users-group", ""])
            .arg(APP)
            .env("HOME", folder.path())
            .env("NIX_CONF_DIR", folder.path()),
    )
}

#[test]
fn nix_takes_what_is_made_by_hand() {
    let key = CacheKey::generate("test-1");
    for compression in ["none", "xz", "gzip", "zstd"] {
        let cache = handmade(&key, compression);
        fetch(&cache, &key).unwrap_or_else(|e| panic!("{compression}: {e}"));
    }
}

#[test]
fn signatures_are_those_of_nix() {
    let store = FixtureStore::new();
    let key = CacheKey::generate("test-1");
    let app = store.fixture("app-1.0");
    let cache = NixCache::copied(&store, app, "none", Some(&key));
    for (_, path) in store.fixtures() {
        let written = cache.narinfo(path);
        let mut signed = written.clone();
        signed.sign(&key);
        assert_eq!(signed.get("Sig"), written.get("Sig"));
    }
    let unsigned = NixCache::copied(&store, app, "none", None);
    assert_eq!(unsigned.narinfo(app).get("Sig"), None);
}

/// Nix 2.8 checks neither FileHash nor FileSize nor what follows a NAR.
#[test]
fn nix_refuses_what_is_tampered_with() {
    let unseen = [
        "garbage after the NAR, compressed again",
        "FileHash",
        "a larger FileSize",
        "a smaller FileSize",
    ];
    let key = CacheKey::generate("test-1");
    let whole = handmade(&key, "zstd");
    let mut believed = Vec::new();
    for tampering in TAMPERINGS {
        let cache = whole.copy();
        tampering.apply(&cache, APP, LIBRARY, &key);
        let result = fetch(&cache, &key);
        if result.is_ok() {
            believed.push(tampering.name);
        }
    }
    assert_eq!(believed, unseen);
}

#[test]
fn bombs_say_what_they_are() {
    let key = CacheKey::generate("test-1");
    for bomb in bombs() {
        let cache = NixCache::new();
        bomb.add(&cache, APP, &key);
        let file = fs::metadata(cache.nar_file(APP)).unwrap();
        assert!(file.len() < 1 << 20, "{}: {}", bomb.name, file.len());
        let info = cache.narinfo(APP);
        let mut signed = info.clone();
        signed.sign(&key);
        assert_eq!(signed, info, "{}", bomb.name);
    }
}

#[test]
fn nix_writes_every_compression() {
    let store = FixtureStore::new();
    let app = store.fixture("app-1.0");
    for compression in COMPRESSIONS {
        let cache = NixCache::copied(&store, app, compression, None);
        let info = cache.narinfo(app);
        assert_eq!(info.get("Compression"), Some(compression));
        let file = fs::read(cache.nar_file(app)).unwrap();
        assert_eq!(info.get("FileHash"), Some(&*sha256(&file)));
        assert_eq!(info.get("URL"), Some(&*file_name(&file, compression)));
    }
}
