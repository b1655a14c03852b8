//! Several caches that have, lack or break things.

use std::slice::from_ref;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::super::test_cache::{
    Fault, Heard, TestCache, caches, fixture, fixture_infos, fixture_path, narinfo, options,
};
use super::super::{NarInfoCache, PublicKeys};
use super::*;

const ONE: &str = "https://one.example";
const TWO: &str = "https://two.example";

fn names(infos: &[Arc<NarInfo>]) -> Vec<&str> {
    let mut names: Vec<_> = infos.iter().map(|info| info.path.name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_closure_is_what_the_narinfos_say() {
    let folder = format!("file://{}", fixture().display());
    let urls = vec![folder.parse().unwrap()];
    let folder = BinaryCaches::new(StoreDir::default(), urls, options());
    let server = TestCache::new();
    for all in [folder, caches(&[(ONE, &server)], options())] {
        let (heard, cx) = Heard::context();
        let found = all.closure(&cx, &[fixture_path("plain")]).unwrap();
        assert_eq!(names(&found), ["base.txt", "plain", "self", "text.conf"]);
        assert_eq!(heard.take().last().unwrap(), "known 4");
        let found = all
            .closure(&cx, &[fixture_path("x"), fixture_path("x")])
            .unwrap();
        assert_eq!(names(&found), ["base.txt", "text.conf", "x"]);
        assert!(all.closure(&cx, &[]).unwrap().is_empty());
    }
    let mut asked = server.take_asked();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 1 + 5, "what is known is not asked for again");
}

#[test]
fn what_no_cache_has_is_left_out() {
    let (one, two) = (TestCache::new(), TestCache::new());
    for cache in [&one, &two] {
        cache.remove(&narinfo(&fixture_path("base.txt")));
    }
    let all = caches(&[(ONE, &one), (TWO, &two)], options());
    let (heard, cx) = Heard::context();
    let found = all.closure(&cx, &[fixture_path("plain")]).unwrap();
    assert_eq!(names(&found), ["plain", "self", "text.conf"]);
    assert!(all.info(&cx, &fixture_path("base.txt")).unwrap().is_none());
    assert!(heard.warnings().is_empty());
    assert_eq!(
        two.take_asked().len(),
        2,
        "itself, and what the first lacks"
    );
    let error = all
        .open_nar(&cx, &fixture_path("base.txt"), None)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .ends_with("-base.txt is not known to https://one.example, https://two.example"),
        "{error}"
    );
}

#[test]
fn caches_are_asked_by_their_priority() {
    let path = fixture_path("plain");
    for (urls, priorities, first) in [
        ([ONE, TWO], ["", ""], 0),
        ([ONE, TWO], ["Priority: 40\n", "Priority: 30\n"], 1),
        ([ONE, TWO], ["Priority: 40\n", "Priority: 40\n"], 0),
        ([ONE, TWO], ["", "Priority: 49\n"], 1),
        ([ONE, TWO], ["", "Priority: 50\n"], 0),
        (
            ["https://one.example?priority=60", TWO],
            ["Priority: 1\n", "Priority: 50\n"],
            1,
        ),
        (
            [ONE, "https://two.example?priority=0"],
            ["Priority: 1\n", "Priority: 50\n"],
            1,
        ),
    ] {
        let servers = [TestCache::new(), TestCache::new()];
        for (server, priority) in servers.iter().zip(priorities) {
            server.put(
                "nix-cache-info",
                format!("StoreDir: /nix/store\n{priority}"),
            );
        }
        let all = caches(&[(urls[0], &servers[0]), (urls[1], &servers[1])], options());
        all.info(&Context::default(), &path).unwrap().unwrap();
        assert_eq!(
            servers[first].take_asked().len(),
            2,
            "{urls:?} {priorities:?}"
        );
        assert_eq!(servers[1 - first].take_asked(), ["nix-cache-info"]);
    }
}

#[test]
fn a_cache_of_another_store_is_refused() {
    let (one, two) = (TestCache::new(), TestCache::new());
    two.put("nix-cache-info", "StoreDir: /gnu/store\n");
    let path = fixture_path("plain");
    let cx = Context::default();
    let all = caches(&[(ONE, &one), (TWO, &two)], options());
    assert_eq!(
        all.info(&cx, &path).unwrap_err().to_string(),
        "https://two.example: it has store paths of /gnu/store, expected those of /nix/store"
    );
    let all = caches(
        &[(ONE, &one), ("https://two.example?store=/nix/store", &two)],
        options(),
    );
    all.info(&cx, &path).unwrap().unwrap();
    two.remove("nix-cache-info");
    let all = caches(&[(ONE, &one), (TWO, &two)], options());
    assert_eq!(
        all.info(&cx, &path).unwrap_err().to_string(),
        "https://two.example: it has no nix-cache-info, which every binary cache has"
    );
}

#[test]
fn a_cache_that_fails_is_passed_over() {
    let (one, two) = (TestCache::new(), TestCache::new());
    let path = fixture_path("plain");
    one.break_file("nix-cache-info", Fault::Fails);
    let (heard, cx) = Heard::context();
    let all = caches(&[(ONE, &one), (TWO, &two)], options());
    assert_eq!(all.closure(&cx, from_ref(&path)).unwrap().len(), 4);
    assert_eq!(
        heard.warnings(),
        [
            "https://one.example is not asked any more: test failed to give nix-cache-info: 500 \
          Internal Server Error"
        ]
    );
    let all = caches(&[(ONE, &one)], options());
    assert!(matches!(
        all.info(&cx, &path).unwrap_err().kind(),
        ErrorKind::Answer {
            status: Some(500),
            ..
        }
    ));
    assert!(heard.warnings().is_empty(), "it is an error instead");

    // Later, and only for a path: the others are asked for elsewhere.
    let (one, two) = (TestCache::new(), TestCache::new());
    one.break_file(&narinfo(&path), Fault::Fails);
    let all = caches(&[(ONE, &one), (TWO, &two)], options());
    assert_eq!(all.closure(&cx, from_ref(&path)).unwrap().len(), 4);
    assert_eq!(heard.warnings().len(), 1);
    assert_eq!(one.take_asked().len(), 2, "it is not asked any more");
    let all = caches(&[(TWO, &two), (ONE, &one)], options());
    two.remove(&narinfo(&path));
    let error = all.closure(&cx, from_ref(&path)).unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    let other = fixture_path("x");
    two.remove(&narinfo(&other));
    one.break_file(&narinfo(&other), Fault::Fails);
    assert!(all.info(&cx, &other).is_err());
}

#[test]
fn nobody_is_believed_who_is_not_trusted() {
    let (one, two) = (TestCache::new(), TestCache::new());
    let path = fixture_path("plain");
    one.edit(&path, "NarSize: 168", "NarSize: 169");
    let (heard, cx) = Heard::context();
    let all = caches(&[(ONE, &one)], options());
    assert_eq!(
        all.info(&cx, &path).unwrap_err().to_string(),
        "/nix/store/71kyls5bs4myp09691zfpr4lsyx5vm1b-plain of https://one.example has no valid \
         signature by a trusted key (test.example-1)"
    );
    let all = caches(&[(ONE, &one), (TWO, &two)], options());
    assert_eq!(all.info(&cx, &path).unwrap().unwrap().nar_size, 168);
    assert_eq!(heard.warnings().len(), 1);
    let all = caches(&[("https://one.example?trusted=1", &one)], options());
    assert_eq!(all.info(&cx, &path).unwrap().unwrap().nar_size, 169);
    assert!(heard.warnings()[0].contains("without signatures"));
    let everything = CacheOptions {
        trust: Trust::Everything,
        ..options()
    };
    let all = caches(&[(ONE, &one)], everything);
    assert_eq!(all.info(&cx, &path).unwrap().unwrap().nar_size, 169);

    // A folder of this machine is no better.
    let urls = || vec![format!("file://{}", fixture().display()).parse().unwrap()];
    let nobody = CacheOptions {
        trust: Trust::Keys(PublicKeys::default()),
        ..options()
    };
    let all = BinaryCaches::new(StoreDir::default(), urls(), nobody);
    let error = all.closure(&cx, &[path]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Untrusted { .. }),
        "{error}"
    );
    assert!(all.info(&cx, &fixture_path("base.txt")).unwrap().is_some());
}

#[test]
fn a_narinfo_of_another_path_is_refused() {
    let one = TestCache::new();
    let path = fixture_path("plain");
    one.put(&narinfo(&path), one.get(&narinfo(&fixture_path("x"))));
    let all = caches(&[(ONE, &one)], options());
    let error = all
        .info(&Context::default(), &path)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("-plain: it is that of /nix/store/"),
        "{error}"
    );
    one.put(&narinfo(&path), "<html>\n");
    let error = all
        .info(&Context::default(), &path)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("https://one.example: the narinfo of /nix/store/71kyls5bs4myp09691zfpr4lsyx5vm1b-plain: line 1: "),
        "{error}"
    );
}

#[test]
fn what_was_said_before_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let with_cache = |now| CacheOptions {
        info_cache: Some(NarInfoCache::new(dir.path(), now)),
        ..options()
    };
    let (one, two) = (TestCache::new(), TestCache::new());
    let path = fixture_path("plain");
    one.remove(&narinfo(&fixture_path("self")));
    let cx = Context::default();
    let urls = [(ONE, &one), (TWO, &two)];
    let first = caches(&urls, with_cache(now));
    let first = first.closure(&cx, from_ref(&path)).unwrap();
    assert_eq!((one.take_asked().len(), two.take_asked().len()), (5, 2));
    let again = caches(&urls, with_cache(now));
    assert_eq!(
        names(&again.closure(&cx, from_ref(&path)).unwrap()),
        names(&first)
    );
    assert!(one.take_asked().is_empty() && two.take_asked().is_empty());
    // What was missing is asked for after an hour.
    let later = now + Duration::from_secs(2 * 60 * 60);
    let again = caches(&urls, with_cache(later));
    again.closure(&cx, from_ref(&path)).unwrap();
    assert_eq!(one.take_asked(), [narinfo(&fixture_path("self"))]);
    assert!(two.take_asked().is_empty());

    // What is kept is judged again: without the key it is asked for, and not
    // believed.
    let nobody = CacheOptions {
        trust: Trust::default(),
        ..with_cache(now)
    };
    let error = caches(&urls, nobody)
        .closure(&cx, from_ref(&path))
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Untrusted { .. }));
    assert_eq!(one.take_asked(), [narinfo(&path)]);

    // Nobody's directory ends a walk.
    let taken = dir.path().join("file");
    std::fs::write(&taken, "").unwrap();
    let (heard, cx) = Heard::context();
    let nowhere = CacheOptions {
        info_cache: Some(NarInfoCache::new(&taken, now)),
        ..options()
    };
    assert_eq!(
        caches(&urls, nowhere).closure(&cx, &[path]).unwrap().len(),
        4
    );
    let warnings = heard.warnings();
    assert_eq!(warnings.len(), 2, "one of each cache: {warnings:?}");
    assert!(
        warnings[0].contains("is not kept: failed to"),
        "{warnings:?}"
    );
}

/// What a portal of a network says in a cache's place, and what its owner
/// mends, counts for one run and not for a week.
#[test]
fn what_makes_no_sense_of_a_cache_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let kept = NarInfoCache::new(dir.path(), now);
    let (one, cx, path) = (TestCache::new(), Context::default(), fixture_path("plain"));
    let good = one.get("nix-cache-info");
    let info = || {
        let options = CacheOptions {
            info_cache: Some(kept.clone()),
            ..options()
        };
        caches(&[(ONE, &one)], options).info(&cx, &path)
    };
    for bad in ["Priority: many\n", "StoreDir: /other/store\n"] {
        one.put("nix-cache-info", bad);
        info().unwrap_err();
        one.put("nix-cache-info", &*good);
        info().unwrap().unwrap();
        kept.clear().unwrap();
    }
    kept.keep_cache_info(ONE, b"Priority: many\n").unwrap();
    info().unwrap().unwrap();
}

/// Waits until a test's condition holds.
fn until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never holds");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn many_are_asked_for_at_once_and_not_more() {
    let one = TestCache::new();
    let all = caches(
        &[(ONE, &one)],
        CacheOptions {
            jobs: std::num::NonZeroUsize::new(3).unwrap(),
            trust: Trust::Everything,
            ..options()
        },
    );
    let cx = Context::default();
    all.info(&cx, &fixture_path("x")).unwrap();
    one.hold();
    let paths: Vec<_> = fixture_infos().into_iter().map(|info| info.path).collect();
    thread::scope(|scope| {
        let found = scope.spawn(|| all.closure(&cx, &paths).unwrap().len());
        let mut left = paths.len() - 1;
        while left > 0 {
            until(|| one.held() == left.min(3));
            left -= left.min(3);
            one.release();
        }
        assert_eq!(found.join().unwrap(), paths.len());
    });
}

#[test]
fn a_walk_ends_when_it_is_cancelled() {
    let one = TestCache::new();
    let all = caches(&[(ONE, &one)], options());
    let cx = Context::default();
    all.info(&cx, &fixture_path("x")).unwrap();
    one.hold();
    thread::scope(|scope| {
        let ended = scope.spawn(|| all.closure(&cx, &[fixture_path("plain")]));
        until(|| one.held() == 1);
        cx.cancel.cancel();
        let error = ended.join().unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled));
    });
    one.release();
}

#[test]
fn unknown_settings_are_told() {
    let one = TestCache::new();
    let (heard, cx) = Heard::context();
    let all = caches(
        &[("https://one.example?compression=xz&prioritty=1", &one)],
        options(),
    );
    all.info(&cx, &fixture_path("x")).unwrap();
    assert_eq!(
        heard.warnings(),
        ["the setting \"prioritty\" of https://one.example is not known"]
    );
}
