//! Whole store paths from caches.

use std::fs;

use crate::binary_cache::test_cache::{
    Fault, Heard, TestCache, caches, fixture, fixture_infos, fixture_path, narinfo, options,
};
use crate::binary_cache::{CacheOptions, Trust};
use crate::closure::{BinaryCacheClosure, ClosureSource, read_closure};
use crate::content::{nar_hash, set_nar_sizes};
use crate::digest::Digest;
use crate::net::test_server::{TestServer, answer};
use crate::store::{NarHash, PathInfo, StoreDir};

use super::*;

const ONE: &str = "https://one.example";

fn everything() -> CacheOptions {
    CacheOptions {
        trust: Trust::Everything,
        ..options()
    }
}

fn nar(nar_hash: NarHash, nar_size: Option<u64>) -> ExpectedNar {
    ExpectedNar { nar_hash, nar_size }
}

fn closure(caches: &Arc<BinaryCaches>, cx: &Context, names: &[&str]) -> Closure {
    let source = BinaryCacheClosure {
        caches: Arc::clone(caches),
    };
    let roots: Vec<_> = names.iter().map(|name| fixture_path(name)).collect();
    read_closure(cx, &StoreDir::default(), &[&source], &roots).unwrap()
}

#[test]
fn every_path_of_a_folder_is_what_it_was() {
    let urls = vec![fixture().to_str().unwrap().parse().unwrap()];
    let caches = BinaryCaches::new(StoreDir::default(), urls, everything());
    let content = BinaryCacheContent::new(caches, HashMap::new());
    let (heard, cx) = Heard::context();
    for info in fixture_infos() {
        assert_eq!(nar_hash(&cx, &content, &info.path).unwrap(), info.nar_hash);
        assert_eq!(content.download_size(&cx, &info.path).unwrap(), 0);
    }
    assert!(
        heard
            .take()
            .iter()
            .all(|event| !event.starts_with("downloaded"))
    );
}

#[test]
fn a_closure_and_its_content_come_from_one_cache() {
    let one = TestCache::new();
    let caches = caches(&[(ONE, &one)], options());
    let (heard, cx) = Heard::context();
    let closure = closure(&caches, &cx, &["plain", "x"]);
    assert_eq!(closure.len(), 5);
    assert_eq!(one.take_asked().len(), 6);
    let content = BinaryCacheContent::for_closure(caches, &closure);
    heard.take();
    let mut sizes = 0;
    for id in closure.ids() {
        let path = closure.path(id);
        sizes += content.download_size(&cx, path).unwrap();
        assert!(content.has(&cx, path).unwrap());
        assert_eq!(
            Some(nar_hash(&cx, &content, path).unwrap()),
            closure.info(id).nar_hash
        );
    }
    assert_eq!(one.take_asked().len(), 5, "each NAR once, and nothing else");
    let told = heard
        .take()
        .iter()
        .map(|event| {
            event
                .strip_prefix("downloaded ")
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum::<u64>();
    assert_eq!(told, sizes);
}

#[test]
fn the_source_must_be_told_the_roots() {
    let one = TestCache::new();
    let source = BinaryCacheClosure {
        caches: caches(&[(ONE, &one)], options()),
    };
    assert_eq!(source.name(), ONE);
    let error = source.path_infos(&Context::default(), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("expected the roots to be named"),
        "{error}"
    );
}

#[test]
fn what_comes_is_begun_before_it_is_visited() {
    let one = TestCache::new();
    let caches = caches(&[(ONE, &one)], everything());
    let cx = Context::default();
    let paths: Vec<_> = fixture_infos().into_iter().map(|info| info.path).collect();
    caches.look_up(&cx, &paths).unwrap();
    one.take_asked();
    let expected = |path: &StorePath| {
        let info = caches.info(&cx, path).unwrap().unwrap();
        (path.clone(), nar(info.nar_hash, Some(info.nar_size)))
    };
    let expected = paths.iter().map(expected).collect();
    let content = BinaryCacheContent::new(Arc::clone(&caches), expected);
    let nars: Vec<_> = paths.iter().map(|path| one.nar(path)).collect();
    content.expect(&cx, &paths[..12]);
    assert_eq!(one.take_asked(), nars[..AHEAD]);
    content.expect(&cx, &paths[10..]);
    assert!(one.take_asked().is_empty());
    for (n, path) in paths.iter().enumerate() {
        let hash = nar_hash(&cx, &content, path).unwrap();
        assert_eq!(hash, content.expected[path].nar_hash);
        assert!(content.coming().begun.len() <= AHEAD);
        let asked = one.take_asked();
        assert!(asked.len() <= 1, "{n}: {asked:?}");
    }
    assert!(content.coming().begun.is_empty() && content.coming().queues.is_empty());
    // Two layers take turns.
    content.expect(&cx, &paths[..10]);
    one.take_asked();
    content.expect(&cx, &paths[10..]);
    for path in &paths[..4] {
        nar_hash(&cx, &content, path).unwrap();
    }
    let asked = one.take_asked();
    assert_eq!(asked, [&*nars[8], &nars[10], &nars[9], &nars[11]]);
}

/// A path whose closure came from elsewhere is looked up with those that are
/// expected with it.
#[test]
fn what_is_not_known_is_asked_for_together() {
    let one = TestCache::new();
    let caches = caches(&[(ONE, &one)], everything());
    let cx = Context::default();
    let infos = fixture_infos();
    let expected: HashMap<_, _> = infos
        .iter()
        .map(|info| (info.path.clone(), nar(info.nar_hash, None)))
        .collect();
    let paths: Vec<_> = infos.iter().map(|info| info.path.clone()).collect();
    let content = BinaryCacheContent::new(Arc::clone(&caches), expected.clone());
    content.expect(&cx, &paths[..4]);
    assert!(one.take_asked().is_empty(), "it returns at once");
    nar_hash(&cx, &content, &paths[0]).unwrap();
    let mut asked = one.take_asked();
    let nars = asked.split_off(5);
    assert_eq!(asked[1..], [0, 1, 2, 3].map(|n| narinfo(&paths[n])));
    assert_eq!(nars, [0, 1, 2, 3].map(|n| one.nar(&paths[n])));

    let content = BinaryCacheContent::new(caches, expected);
    content.download_size(&cx, &paths[9]).unwrap();
    assert_eq!(one.take_asked().len(), paths.len() - 4);
    content.download_size(&cx, &paths[12]).unwrap();
    assert!(one.take_asked().is_empty());
}

/// A closure of the text reference graph has neither hashes nor sizes.
#[test]
fn sizes_of_nars_are_told_and_not_measured() {
    let one = TestCache::new();
    let caches = caches(&[(ONE, &one)], everything());
    let cx = Context::default();
    let infos = fixture_infos();
    let bare = infos.iter().map(|info| {
        let references = info.references.iter().cloned();
        PathInfo::new(info.path.clone(), references)
    });
    let paths: Vec<_> = infos.iter().map(|info| info.path.clone()).collect();
    let mut closure = Closure::new(StoreDir::default(), bare, &paths, "the test").unwrap();
    let content = BinaryCacheContent::for_closure(caches, &closure);
    set_nar_sizes(&cx, &content, &mut closure).unwrap();
    for info in &infos {
        let id = closure.find(&info.path).unwrap();
        assert_eq!(closure.info(id).nar_size, Some(info.nar_size));
        assert!(content.has(&cx, &info.path).unwrap());
        assert!(content.download_size(&cx, &info.path).unwrap() > 0);
    }
    // Each narinfo once, and no NAR.
    let asked = one.take_asked();
    assert_eq!(asked.len(), 1 + paths.len());
    assert!(asked[1..].iter().all(|name| name.ends_with(".narinfo")));
    // What nobody has is measured, in vain.
    let unknown: StorePath = format!("{}-x", "0".repeat(32)).parse().unwrap();
    assert_eq!(content.nar_size(&cx, &unknown).unwrap(), None);
}

#[test]
fn content_that_is_not_that_of_the_closure_is_refused() {
    let one = TestCache::new();
    let caches = caches(&[(ONE, &one)], options());
    let (cx, path) = (Context::default(), fixture_path("plain"));
    let other = NarHash::new([1; 32]);
    let expected = HashMap::from([(path.clone(), nar(other, None))]);
    let content = BinaryCacheContent::new(caches, expected);
    content.expect(&cx, std::slice::from_ref(&path));
    let error = nar_hash(&cx, &content, &path).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Nar { .. }), "{error}");
    assert!(
        error.to_string().contains("its hash is said to be"),
        "{error}"
    );
    let error = content.visit(
        &cx,
        &"0123456789abcdfghijklmnpqrsvwxyz-x".parse().unwrap(),
        &mut |_| Ok(()),
    );
    assert!(matches!(
        error.unwrap_err().kind(),
        ErrorKind::UnknownPath { .. }
    ));
}

/// A server that gives one connection at a time, as `limit_conn 1` of nginx,
/// refuses all others until the one is read that nobody reads yet.
#[test]
fn what_was_begun_too_early_is_asked_for_again() {
    let one = TestCache::new();
    let caches = caches(&[(ONE, &one)], everything());
    let cx = Context::default();
    let closure = closure(&caches, &cx, &["plain"]);
    let paths: Vec<_> = closure.infos().iter().map(|i| i.path.clone()).collect();
    let content = BinaryCacheContent::for_closure(Arc::clone(&caches), &closure);
    for path in &paths[1..] {
        one.break_file(&one.nar(path), Fault::FailsOnce);
    }
    one.take_asked();
    content.expect(&cx, &paths);
    for path in &paths {
        let hash = nar_hash(&cx, &content, path).unwrap();
        assert_eq!(hash, content.expected[path].nar_hash);
    }
    let nars: Vec<_> = paths.iter().map(|path| one.nar(path)).collect();
    assert_eq!(one.take_asked(), [&nars[..], &nars[1..]].concat());
    // It is not the look ahead that fails here.
    one.break_file(&nars[0], Fault::Fails);
    content.expect(&cx, &paths);
    nar_hash(&cx, &content, &paths[0]).unwrap_err();
    assert_eq!(one.take_asked(), [&*nars[0]]);
}

/// A NAR that was begun may break as well.
#[test]
fn a_nar_that_breaks_goes_on_elsewhere() {
    let (one, two) = (TestCache::new(), TestCache::new());
    let path = fixture_path("plain");
    one.break_file(&one.nar(&path), Fault::Breaks(90));
    let caches = caches(&[(ONE, &one), ("https://two.example", &two)], options());
    let (heard, cx) = Heard::context();
    let closure = closure(&caches, &cx, &["plain"]);
    let content = BinaryCacheContent::for_closure(caches, &closure);
    content.expect(&cx, std::slice::from_ref(&path));
    heard.take();
    let hash = nar_hash(&cx, &content, &path).unwrap();
    assert_eq!(hash, content.expected[&path].nar_hash);
    assert_eq!(
        heard.warnings(),
        [
            "another cache is asked for the rest: test did not answer when asked to give a NAR: the connection broke"
        ]
    );
}

/// Whoever can write to a folder can put anything there.
#[test]
fn strange_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = fixture_path("plain");
    let one = TestCache::new();
    for name in ["nix-cache-info", &narinfo(&path)] {
        fs::write(dir.path().join(name), one.get(name)).unwrap();
    }
    fs::create_dir(dir.path().join("nar")).unwrap();
    let nar = dir.path().join(one.nar(&path));
    let open = || {
        let urls = vec![dir.path().to_str().unwrap().parse().unwrap()];
        let caches = BinaryCaches::new(StoreDir::default(), urls, options());
        BinaryCacheContent::new(caches, HashMap::new())
    };
    let cx = Context::default();
    let error = nar_hash(&cx, &open(), &path).unwrap_err();
    assert!(error.to_string().contains("but has no nar/"), "{error}");
    fs::create_dir(&nar).unwrap();
    let error = nar_hash(&cx, &open(), &path).unwrap_err();
    assert!(error.to_string().starts_with("failed to read "), "{error}");
    fs::remove_dir(&nar).unwrap();
    let pipe = rustix::fs::mknodat(
        rustix::fs::CWD,
        &nar,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    );
    pipe.unwrap();
    let error = nar_hash(&cx, &open(), &path).unwrap_err();
    assert!(error.to_string().starts_with("failed to read "), "{error}");
    fs::remove_file(&nar).unwrap();
    fs::write(&nar, one.get(&one.nar(&path))).unwrap();
    assert!(nar_hash(&cx, &open(), &path).is_ok());
    let large = dir.path().join(narinfo(&path));
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let error = nar_hash(&cx, &open(), &path).unwrap_err();
    assert!(
        error.to_string().ends_with("has more than 1048576 bytes"),
        "{error}"
    );
    let gone = format!("{}/gone", dir.path().display());
    let caches = BinaryCaches::new(StoreDir::default(), vec![gone.parse().unwrap()], options());
    let error = caches.info(&cx, &path).unwrap_err();
    assert_eq!(error.to_string(), format!("failed to read {gone}"));
}

/// Puts a store path into a cache that is one file of zeros.
fn put_file(cache: &TestCache, digit: char, size: usize) -> StorePath {
    let path: StorePath = format!("{}-x", String::from(digit).repeat(32))
        .parse()
        .unwrap();
    let word = |text: &[u8]| {
        let mut word = (text.len() as u64).to_le_bytes().to_vec();
        word.extend_from_slice(text);
        word.resize(word.len().next_multiple_of(8), 0);
        word
    };
    let words: [&[u8]; 5] = [b"nix-archive-1", b"(", b"type", b"regular", b"contents"];
    let mut nar: Vec<u8> = words.iter().flat_map(|text| word(text)).collect();
    nar.extend(word(&vec![0; size]));
    nar.extend(word(b")"));
    let nar_hash = NarHash::new(*Digest::of(&nar).as_bytes());
    let info = format!(
        "StorePath: /nix/store/{path}\nURL: {digit}.nar\nCompression: none\nNarHash: {nar_hash}\n\
         NarSize: {}\nReferences: \n",
        nar.len()
    );
    cache.put(&narinfo(&path), info);
    cache.put(&format!("{digit}.nar"), nar);
    path
}

/// A server of one worker answers nobody else while it gives a NAR that nobody
/// reads yet, and does not refuse them either.
#[test]
fn what_waits_for_what_was_begun_too_early_is_asked_for_again() {
    let one = TestCache::empty();
    one.put("nix-cache-info", "StoreDir: /nix/store\n");
    // More than all buffers on the way hold.
    let large = put_file(&one, '0', 48 << 20);
    let small = ['1', '2', '3'].map(|digit| put_file(&one, digit, 100));
    let server = TestServer::one_at_a_time(move |seen| {
        let found = one.find_file(seen.target.trim_start_matches('/'));
        let found = found.map_or_else(|| answer(404), |bytes| answer(200).body(bytes));
        found.header("Connection", "close")
    });
    let url = format!("http://{}", server.host()).parse().unwrap();
    let caches = BinaryCaches::new(StoreDir::default(), vec![url], everything());
    let cx = Context::default();
    let expected = [&large, &small[0], &small[1], &small[2]].map(|path| {
        let info = caches.info(&cx, path).unwrap().unwrap();
        (path.clone(), nar(info.nar_hash, Some(info.nar_size)))
    });
    let mut content = BinaryCacheContent::new(Arc::clone(&caches), HashMap::from(expected));
    content.answer_wait = Duration::from_millis(200);
    let asked = || {
        let seen = server.seen().into_iter();
        let nars = seen.filter(|seen| seen.target.ends_with(".nar"));
        nars.map(|seen| seen.target).collect::<Vec<_>>()
    };
    content.expect(&cx, std::slice::from_ref(&large));
    while asked().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    content.expect(&cx, &small);
    let begin = std::time::Instant::now();
    for path in small.iter().chain([&large]) {
        let hash = nar_hash(&cx, &content, path).unwrap();
        assert_eq!(hash, content.expected[path].nar_hash);
    }
    assert!(
        begin.elapsed() < Duration::from_secs(50),
        "the limit of an answer is a minute"
    );
    assert!(content.coming().begun.is_empty());
    // The server is remembered, whoever reads from it.
    let content = BinaryCacheContent::new(caches, content.expected);
    content.expect(&cx, &small);
    assert!(content.coming().begun.is_empty());
    nar_hash(&cx, &content, &small[0]).unwrap();
}
