//! The closure from one source and the content from another.

use std::process::Command;

use nix2oci_tests::command::run;
use nix2oci_tests::{CacheServer, DockerRegistry};

use super::{Cached, digest};
use crate::push_command::{Push, Workload, docker};

/// The cache gives what the store lacks, and nothing else.
#[test]
fn a_cache_has_what_was_never_realised() {
    let cached = Cached::new(Workload::new(5, 20_000), "zstd");
    let expected = cached.expected(1);
    let server = CacheServer::start(cached.cache.folder());
    let library = cached.workload.paths(1).remove(2);
    let lost = cached.workload.store_root().join(&library[1..]);
    run(Command::new("rm").arg("-rf").arg(lost));
    let build = || {
        let mut build = Push::verb("build").args(&["-o", "/dev/null", "--json"]);
        build.command.args(cached.workload.image(1));
        build
    };
    build().fail(3, &[&library]);
    let cache = format!("cache:{}", server.url());
    let key = cached.key.public();
    let mixed = build()
        .args(&["--content", "local", "--content", &cache])
        .args(&["--trusted-public-key", key]);
    assert_eq!(digest(mixed), expected);
    assert_eq!(server.nars(), 1, "{}", server.log().text());

    // The other way round everything comes from the cache.
    server.log().clear();
    let far = build()
        .args(&["--content", &cache, "--content", "local"])
        .args(&["--trusted-public-key", key]);
    assert_eq!(digest(far), expected);
    assert_eq!(server.nars(), 6, "{}", server.log().text());
}

/// The hashes that the closure tells hold for whatever gives the content.
#[test]
fn what_a_cache_gives_must_be_what_the_closure_tells() {
    let cached = Cached::small();
    let app = cached.app(1);
    let other = cached.cache.copy();
    other.edit_nar(&app, |nar| {
        let middle = nar.len() / 2;
        nar[middle] ^= 1;
    });
    let nar = std::fs::read(other.nar_file(&app)).unwrap();
    let nar = nix2oci_tests::nix_cache::decompress(&nar, "zstd");
    // Whoever has the key may sign something else; it is not what was asked for.
    other.edit_narinfo(&app, |info| {
        info.set("NarHash", &nix2oci_tests::nix_cache::sha256(&nar));
        info.sign(&cached.key);
    });
    let mut build = Push::verb("build").args(&["-o", "/dev/null"]);
    build.command.args(cached.workload.image(1));
    build
        .args(&["--content", &format!("cache:{}", other.url())])
        .args(&["--trusted-public-key", cached.key.public()])
        .fail(5, &[&app, &other.url()]);
}

/// A recipe is pushed from a machine that has nothing of it.
#[test]
fn a_recipe_is_pushed_without_a_store() {
    let cached = Cached::small();
    let server = CacheServer::start(cached.cache.folder());
    let registry = DockerRegistry::start();
    let recipe = cached.workload.folder().join("recipe.json");
    let recipe = recipe.display().to_string();
    cached.workload.write("resolve", 1, &recipe);
    cached.workload.lose_store();
    let to = docker(&format!("{}/app:v1", registry.localhost()));
    Push::of(&[&recipe, &to])
        .args(&["--content", &format!("cache:{}", server.url())])
        .args(&["--trusted-public-key", cached.key.public()])
        .succeed();
    assert_eq!(server.nars(), 3);
    let digest = registry.assert_whole("app", "v1");
    let written = std::fs::read_to_string(&recipe).unwrap();
    assert!(written.contains(&digest), "{digest}");
}
