//! What goes wrong at a cache, what is said about it, and what is left behind.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix2oci_tests::CacheServer;
use nix2oci_tests::command::run;
use nix2oci_tests::fake_registry::Fault;
use nix2oci_tests::http_server::Answer;

use super::{Cached, digest, error_of};
use crate::push_command::Workload;

/// What a client tries again.
fn passing() -> Vec<(&'static str, Fault)> {
    let nar = || Fault::on("GET", "/nar/").first(1);
    let info = || Fault::on("GET", ".narinfo").first(1);
    vec![
        (
            "503 for a narinfo",
            info().status(503, &[("Retry-After", "0")]),
        ),
        ("500 for a narinfo", info().status(500, &[])),
        ("a reset for a narinfo", info().reset()),
        ("half a narinfo", info().cut(100)),
        ("503 for a NAR", nar().status(503, &[("Retry-After", "1")])),
        ("429 for a NAR", nar().status(429, &[])),
        ("a reset for a NAR", nar().reset()),
        ("no answer for a NAR", nar().hang_up()),
        ("half a NAR", nar().cut(20_000)),
        (
            "a NAR reset in its middle",
            nar().change(|a| a.reset_after(20_000)),
        ),
        (
            "a NAR that comes slowly",
            nar().change(|a| a.trickled(5_000, Duration::from_millis(50))),
        ),
        ("a NAR in chunks", nar().change(Answer::chunked)),
        (
            "half a NAR and then no ranges",
            Fault::on("GET", "/nar/").first(2).change(|answer| {
                if answer.status == 206 {
                    Answer::new(503)
                } else {
                    answer.cut_after(20_000)
                }
            }),
        ),
    ]
}

#[test]
fn what_may_pass_is_tried_again() {
    let cached = Cached::small();
    let expected = cached.expected(1);
    // They wait more than they work.
    thread::scope(|scope| {
        for (name, fault) in passing() {
            let (cached, expected) = (&cached, &expected);
            scope.spawn(move || {
                let server = CacheServer::start(cached.cache.folder());
                server.fail(fault);
                let found = digest(cached.build(1, &[&server.url()]));
                assert_eq!(found, *expected, "{name}: {}", server.log().text());
            });
        }
    });
}

/// What lasts, with the exit code and words of its error.
fn lasting() -> Vec<(&'static str, Fault, i32, &'static [&'static str])> {
    let nar = || Fault::on("GET", "/nar/");
    let info = || Fault::on("GET", ".narinfo");
    vec![
        ("404 for a NAR", nar().status(404, &[]), 7, &["has no nar/"]),
        ("410 for a NAR", nar().status(410, &[]), 7, &[]),
        ("500 for a NAR", nar().status(500, &[]), 7, &["500"]),
        ("500 for a narinfo", info().status(500, &[]), 7, &["500"]),
        ("resets for a narinfo", info().reset(), 7, &[]),
        (
            "401 for a narinfo",
            info().status(401, &[("WWW-Authenticate", "Basic")]),
            6,
            &["401"],
        ),
        (
            "401 for a NAR",
            nar().status(401, &[("WWW-Authenticate", "Basic")]),
            6,
            &["401"],
        ),
        (
            "a NAR that is always cut at the same place",
            nar().change(|answer| match answer.status {
                206 => Answer::reset(),
                _ => answer.cut_after(1000),
            }),
            7,
            &[],
        ),
        (
            "a shorter NAR than announced by its narinfo",
            nar().change(|answer| Answer::new(answer.status).body(vec![0; 1000])),
            5,
            &[],
        ),
        (
            "no NAR but a page",
            nar().answer(|| Answer::new(200).body("<html>")),
            5,
            &[],
        ),
        (
            "no narinfo but a page",
            info().answer(|| Answer::new(200).body("<html>")),
            7,
            &[],
        ),
        (
            "an empty narinfo",
            info().answer(|| Answer::new(200)),
            7,
            &[],
        ),
        (
            "a narinfo without an end",
            info().answer(|| Answer::new(200).reader(std::io::repeat(b'a'), None)),
            7,
            &[],
        ),
        (
            "a redirect in a circle",
            info().change(|_| Answer::new(302).header("Location", "/again.narinfo")),
            7,
            &[],
        ),
        (
            "no cache at all",
            Fault::on("GET", "nix-cache-info").status(404, &[]),
            3,
            &["nix-cache-info"],
        ),
        (
            "a cache for another store",
            Fault::on("GET", "nix-cache-info")
                .answer(|| Answer::new(200).body("StoreDir: /gnu/store\n")),
            3,
            &["/gnu/store", "/nix/store"],
        ),
    ]
}

/// Each ends in a clear error, and nothing is written.
#[test]
fn what_lasts_is_said() {
    let cached = Cached::small();
    let told: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = lasting()
            .into_iter()
            .map(|(name, fault, code, words)| {
                let cached = &cached;
                scope.spawn(move || {
                    let server = CacheServer::start(cached.cache.folder());
                    server.fail(fault);
                    let url = server.url();
                    let folder = tempfile::tempdir().unwrap();
                    let output = format!("{}/image.tar", folder.path().display());
                    let build = cached.command("build", 1, &[&url]);
                    let build = build.args(&["-o", &output, "--retry", "1", "--threads", "1"]);
                    let finished = build.run();
                    let said = &finished.stderr;
                    let what = format!("{name}: {said}");
                    assert_eq!(finished.code, Some(code), "{what}");
                    let host = url.strip_prefix("http://").unwrap();
                    assert!(said.contains(host), "{what}");
                    assert!(words.iter().all(|word| said.contains(word)), "{what}");
                    assert_eq!((&*finished.stdout, finished.spooled), ("", 0), "{what}");
                    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{what}");
                    // Another zstd gives the NAR another name.
                    let library = cached.cache.narinfo(&cached.workload.paths(1)[0]);
                    let nar = library.get("URL").expect("it has one");
                    let error = error_of(&finished)
                        .replace(&url, "CACHE")
                        .replace(host, "HOST")
                        .replace(nar, "nar/NAR");
                    format!("## {name}: {code}\n{error}\n")
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    insta::assert_snapshot!("faults", told.concat());
}

/// A path that no cache has: all that were asked are named.
#[test]
fn a_path_that_no_cache_has() {
    let cached = Cached::small();
    let other = Cached::small();
    let library = cached.workload.paths(1).remove(0);
    for cache in [&cached.cache, &other.cache] {
        let name = nix2oci_tests::NixCache::narinfo_name(&library);
        std::fs::remove_file(cache.folder().join(name)).unwrap();
    }
    let urls = [cached.cache.url(), other.cache.url()];
    let said = cached.build(1, &[&urls[0], &urls[1]]).fail(3, &[&library]);
    assert!(urls.iter().all(|url| said.contains(url.as_str())), "{said}");
}

/// The next cache is asked where one fails, whatever it is that fails.
#[test]
fn another_cache_has_what_one_lacks() {
    let cached = Cached::small();
    let expected = cached.expected(1);
    let server = CacheServer::start(cached.cache.folder());
    let faults = [
        Fault::on("GET", "/nar/").status(404, &[]),
        Fault::on("GET", "/nar/").status(500, &[]),
        Fault::on("GET", "/nar/").reset(),
        Fault::on("GET", ".narinfo").status(404, &[]),
        Fault::on("GET", ".narinfo").status(500, &[]),
        Fault::on("GET", ".narinfo").reset(),
        Fault::on("GET", "").reset(),
        // It breaks in the middle for good.
        Fault::on("GET", "/nar/").change(|answer| match answer.status {
            206 => Answer::reset(),
            _ => answer.cut_after(20_000),
        }),
    ];
    for fault in faults {
        server.heal();
        let what = format!("{fault:?}");
        server.fail(fault);
        let urls = [server.url(), cached.cache.url()];
        let build = cached.build(1, &[&urls[0], &urls[1]]);
        let finished = build.args(&["--retry", "0"]).run();
        assert_eq!(finished.code, Some(0), "{what}: {}", finished.stderr);
        assert_eq!(super::digest_of(&finished), expected, "{what}");
    }
}

/// At whatever moment somebody loses patience.
#[test]
fn an_interrupted_build_leaves_nothing() {
    let cached = Cached::new(Workload::small(), "none");
    for target in ["nix-cache-info", ".narinfo", "/nar/"] {
        for in_body in [false, true] {
            let server = CacheServer::start(cached.cache.folder());
            let long = Duration::from_secs(600);
            let fault = Fault::on("GET", target);
            server.fail(if in_body {
                fault.change(move |answer| answer.trickled(5, long))
            } else {
                fault.stall(long)
            });
            assert_interrupted(&cached, &server, target);
        }
    }
    // And while it waits to try again.
    let server = CacheServer::start(cached.cache.folder());
    server.fail(Fault::on("GET", "/nar/").status(429, &[("Retry-After", "60")]));
    assert_interrupted(&cached, &server, "/nar/");
}

fn assert_interrupted(cached: &Cached, server: &CacheServer, target: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = format!("oci:{}/image", folder.path().display());
    let build = cached.command("build", 1, &[&server.url()]);
    let mut build = build.args(&["-o", &output]);
    let start = Instant::now();
    let child = build.spawn();
    while server.log().count("GET", target) == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it does not begin"
        );
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(100));
    assert!(Path::new(&format!("/proc/{}", child.id())).exists());
    let asked = Instant::now();
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let finished = build.finish(child, asked);
    assert_eq!(finished.code, Some(130), "{target}: {}", finished.stderr);
    // Far less than any of its own limits.
    assert!(
        finished.elapsed < Duration::from_secs(5),
        "{target}: {finished:?}"
    );
    assert_eq!((&*finished.stdout, finished.spooled), ("", 0));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{target}");
}
