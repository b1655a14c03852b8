//! Caches that somebody changed: every change is refused, and the error says
//! which path of which cache.

use std::fs;
use std::process::Command;
use std::time::Instant;

use nix2oci_tests::nix_cache::{Shows, TAMPERINGS, bombs};
use nix2oci_tests::{CacheKey, NixCache};

use super::{Cached, MOST_MEMORY, digest, error_of};
use crate::push_command::{Finished, Push, Workload};

/// What is said of every change, and with which exit code; nothing is written
/// and nothing printed.
#[test]
fn every_change_is_refused_and_named() {
    for (compression, is_told) in [("none", true), ("xz", false), ("zstd", false)] {
        let cached = Cached::new(Workload::small(), compression);
        let (app, library) = (cached.app(1), cached.workload.paths(1).remove(0));
        let mut told = String::new();
        for tampering in TAMPERINGS {
            let cache = cached.cache.copy();
            tampering.apply(&cache, &app, &library, &cached.key);
            let folder = tempfile::tempdir().unwrap();
            let output = format!("oci:{}/image", folder.path().display());
            let build = cached.command("build", 1, &[&cache.url()]);
            let finished = build.args(&["-o", &output]).run();
            let said = finished.stderr.replace(&cache.url(), "CACHE");
            let what = format!("{}: {said}", tampering.name);
            assert!(matches!(finished.code, Some(5 | 7)), "{what}");
            assert!(said.contains("CACHE") && said.contains(&app), "{what}");
            assert_eq!(finished.stdout, "", "{what}");
            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{what}");
            if tampering.shows == Shows::InNar {
                assert_eq!(finished.code, Some(5), "{what}");
            }
            let code = finished.code.expect("it ended by itself");
            let error = error_of(&finished).replace(&cache.url(), "CACHE");
            told += &format!("## {}: {code}\n{error}\n", tampering.name);
        }
        // What the tools of this machine compress has other hashes elsewhere.
        if is_told {
            insta::assert_snapshot!("tampered", told);
        }
    }
}

#[test]
fn signatures_are_not_checked_only_if_somebody_says_so() {
    let cached = Cached::small();
    let nobody = CacheKey::generate("nobody-1");
    let url = cached.cache.url();
    let app = cached.app(1);
    let build = |arguments: &[&str]| {
        Push::verb("build")
            .args(&[&app, "--platform", "linux/amd64", "--layers", "largest"])
            .args(&[
                "--closure",
                &format!("cache:{url}"),
                "-o",
                "/dev/null",
                "--json",
            ])
            .args(arguments)
    };
    for arguments in [&[][..], &["--trusted-public-key", nobody.public()]] {
        build(arguments).fail(5, &[&app, &url, "--trusted-public-key"]);
    }
    let finished = build(&["--no-check-sigs"]).run();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("warning: "), "{}", finished.stderr);
    // Hashes are checked all the same.
    let library = cached.workload.paths(1).remove(0);
    for tampering in TAMPERINGS.iter().filter(|t| t.shows == Shows::InNar) {
        let changed = cached.cache.copy();
        tampering.apply(&changed, &app, &library, &cached.key);
        Push::verb("build")
            .args(&[&app, "--platform", "linux/amd64", "--no-check-sigs"])
            .args(&[
                "--closure",
                &format!("cache:{}", changed.url()),
                "-o",
                "/dev/null",
            ])
            .fail(5, &[&app, &changed.url()]);
    }
}

/// A second cache makes good what a first one has spoilt.
#[test]
fn another_cache_has_what_is_right() {
    let cached = Cached::small();
    let (app, library) = (cached.app(1), cached.workload.paths(1).remove(0));
    let expected = cached.expected(1);
    for name in [
        "no signature",
        "NarHash",
        "the signature of a key that nobody trusts",
    ] {
        let tampering = TAMPERINGS.iter().find(|t| t.name == name).unwrap();
        let changed = cached.cache.copy();
        tampering.apply(&changed, &app, &library, &cached.key);
        let urls = [changed.url(), cached.cache.url()];
        let found = digest(cached.build(1, &[&urls[0], &urls[1]]));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn bombs_do_no_harm() {
    let key = CacheKey::generate("cache.test-1");
    let path = "/nix/store/00000000000000000000000000000000-bomb";
    for bomb in bombs() {
        let cache = NixCache::new();
        bomb.add(&cache, path, &key);
        let build = Push::verb("build")
            .args(&[path, "--platform", "linux/amd64", "-o", "/dev/null"])
            .args(&["--closure", &format!("cache:{}", cache.url())])
            .args(&["--trusted-public-key", key.public()]);
        let (finished, peak) = measured(build);
        let what = format!("{}: {finished:?}", bomb.name);
        assert_eq!(finished.code, Some(5), "{what}");
        assert!(finished.stderr.contains(path), "{what}");
        assert!(
            bomb.words.iter().any(|word| finished.stderr.contains(word)),
            "{what}"
        );
        assert!(peak < MOST_MEMORY, "{what}");
        assert_eq!(finished.spooled, 0, "{what}");
    }
}

/// Runs it, and says how much memory it needed, which the command itself says
/// only if it succeeds.
fn measured(mut push: Push) -> (Finished, u64) {
    const SCRIPT: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], 'w').write(str(peak * 1024))
sys.exit(code)";
    let file = push.home().join("peak");
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).arg(&file);
    python.arg(push.command.get_program());
    python.args(push.command.get_args()).env_clear();
    for (name, value) in push.command.get_envs() {
        python.env(name, value.expect("nothing is taken away"));
    }
    push.command = python;
    let start = Instant::now();
    let child = push.spawn();
    let finished = push.finish(child, start);
    let peak = fs::read_to_string(file).expect("the script wrote it");
    (finished, peak.parse().expect("it is a number"))
}
