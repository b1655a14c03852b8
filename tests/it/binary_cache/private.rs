//! Caches that ask who comes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix2oci_tests::CacheServer;
use nix2oci_tests::fake_registry::Fault;

use super::{Cached, digest};
use crate::push_command::Push;

const SECRET: &str = "hunter2-is-secret";

/// A netrc that knows a host.
fn netrc(folder: &std::path::Path, host: &str) -> String {
    let file = folder.join("netrc");
    fs::write(
        &file,
        format!("machine {host} login user password {SECRET}\n"),
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

fn basic() -> String {
    let pair = format!("user:{SECRET}");
    format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()))
}

/// A build, whose talk may never have the secret.
#[track_caller]
fn fails(build: Push, code: i32, words: &[&str]) {
    let said = build.args(&["-vv"]).fail(code, words);
    assert!(!said.contains(SECRET) && !said.contains(&basic()), "{said}");
}

#[test]
fn a_netrc_says_who_asks() {
    let cached = Cached::small();
    let server = CacheServer::start(cached.cache.folder());
    server.require("Authorization", &basic());
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let build = || cached.build(1, &[&url]);
    fails(build(), 6, &[&url, "401"]);
    let wrong = netrc(folder.path(), "other.example.org");
    fails(build().args(&["--netrc-file", &wrong]), 6, &[&url, "401"]);
    let right = netrc(folder.path(), "127.0.0.1");
    let found = digest(build().args(&["--netrc-file", &right]));
    assert_eq!(found, cached.expected(1));

    // Who redirects to another server does not get the password there.
    let elsewhere = CacheServer::start(cached.cache.folder());
    let target = elsewhere.url();
    server.fail(Fault::on("GET", "/nar/").change(move |answer| {
        // Every NAR by the same name there.
        drop(answer);
        nix2oci_tests::http_server::Answer::new(302).header("Location", format!("{target}/gone"))
    }));
    fails(build().args(&["--netrc-file", &right]), 7, &[]);
    let asked = elsewhere.log().entries();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|entry| entry.authorization().is_none()));
}

#[test]
fn a_header_opens_a_cache() {
    let cached = Cached::small();
    let server = CacheServer::start(cached.cache.folder());
    server.require("X-Token", SECRET);
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let build = || cached.build(1, &[&url]);
    fails(build(), 6, &[&url, "401"]);
    let header = format!("X-Token: {SECRET}");
    let found = digest(build().args(&["--cache-header", &header]));
    assert_eq!(found, cached.expected(1));
    let file = folder.path().join("headers");
    fs::write(&file, format!("{header}\n")).unwrap();
    let from_file = format!("@{}", file.display());
    digest(build().args(&["--cache-header", &from_file]));
    let wrong = format!("X-Token: not-{SECRET}");
    fails(build().args(&["--cache-header", &wrong]), 6, &[&url]);
}

/// A URL with a password is refused before anybody can see it, with advice.
#[test]
fn a_password_in_a_url_is_refused() {
    let cached = Cached::small();
    let url = format!("https://user:{SECRET}@cache.example.org");
    fails(cached.build(1, &[&url]), 2, &["netrc"]);
}
