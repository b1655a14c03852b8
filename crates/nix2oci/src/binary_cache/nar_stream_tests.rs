//! NARs that are right, and others.

use std::time::{Duration, SystemTime};

use super::super::test_cache::{
    Fault, Heard, TestCache, caches, fixture_infos, fixture_path, narinfo, options,
};
use super::super::{CacheOptions, HashAlgorithm, NarInfoCache, Trust};
use super::*;

const ONE: &str = "https://one.example";
const TWO: &str = "https://two.example";

fn everything() -> CacheOptions {
    CacheOptions {
        trust: Trust::Everything,
        ..options()
    }
}

/// Reads a NAR in small pieces.
fn read(all: &Arc<BinaryCaches>, cx: &Context, path: &StorePath) -> Result<Vec<u8>> {
    let mut stream = all.open_nar(cx, path, None)?;
    let mut nar = Vec::new();
    let mut piece = [0; 50];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => nar.extend_from_slice(&piece[..n]),
            Err(error) => {
                assert!(stream.read(&mut piece).is_err(), "it fails again");
                return Err(error.downcast::<Error>().unwrap());
            }
        }
    }
    stream.finish()?;
    Ok(nar)
}

#[test]
fn nars_are_what_was_put_in() {
    let one = TestCache::new();
    let all = caches(&[(ONE, &one)], everything());
    let mut downloaded = 0;
    for info in fixture_infos() {
        let (heard, cx) = Heard::context();
        let nar = read(&all, &cx, &info.path).unwrap();
        assert_eq!(nar.len() as u64, info.nar_size);
        let digest = crate::digest::Digest::of(&nar);
        assert_eq!(NarHash::new(*digest.as_bytes()), info.nar_hash);
        assert_eq!(
            heard.take(),
            [format!("downloaded {}", info.file_size.unwrap())]
        );
        downloaded += 1;
        let again = all.open_nar(&cx, &info.path, None).unwrap();
        assert_eq!(
            (again.from(), again.nar_size()),
            (ONE.to_owned(), info.nar_size)
        );
        again.finish().unwrap();
    }
    assert_eq!(downloaded, 17);
}

/// Each lie of a narinfo, and each change of a file, is told with the path and
/// the cache.
#[test]
fn what_is_not_as_it_was_said_is_an_error() {
    let path = fixture_path("plain");
    let cx = Context::default();
    let zero = "0".repeat(52);
    let info = |one: &TestCache, from: &str, to: &str| one.edit(&path, from, to);
    let nar = |one: &TestCache, change: fn(&mut Vec<u8>)| {
        let name = one.nar(&path);
        let mut bytes = one.get(&name);
        change(&mut bytes);
        one.put(&name, bytes);
    };
    type Change<'a> = &'a dyn Fn(&TestCache);
    let cases: &[(&str, Change<'_>, &str)] = &[
        (
            "file hash",
            &|one| info(one, "FileHash: sha256:0f5", "FileHash: sha256:1f5"),
            "its file has hash sha256:0f5ic4bwqfrqzdvbpddyw5z6x5rav32di5w619i4p3l5znhnriig, \
             expected sha256:1f5",
        ),
        (
            "file hash of a kind that is no use",
            &|one| {
                let hash = "FileHash: sha256:0f5ic4bwqfrqzdvbpddyw5z6x5rav32di5w619i4p3l5znhnriig";
                info(one, hash, "FileHash: md5:3dgr8qs34jc10kdaigs66avc9j");
            },
            "expected one by SHA-256 or SHA-512",
        ),
        (
            "small file",
            &|one| info(one, "FileSize: 172", "FileSize: 171"),
            "its file has more than 171 bytes",
        ),
        (
            "large file",
            &|one| info(one, "FileSize: 172", "FileSize: 173"),
            "its file ends after 172 bytes, expected 173",
        ),
        (
            "NAR hash",
            &|one| {
                let hash = "0bwrk7a6zp607s0j34ki0v3bhk07qdpls18cbmg023g6c7yz146y";
                info(one, hash, &zero);
            },
            "its hash is sha256:0bwrk7a6zp607s0j34ki0v3bhk07qdpls18cbmg023g6c7yz146y, expected \
             sha256:0000000000000000000000000000000000000000000000000000",
        ),
        (
            "small NAR",
            &|one| info(one, "NarSize: 168", "NarSize: 160"),
            "it has more than the 160 bytes",
        ),
        (
            "large NAR",
            &|one| info(one, "NarSize: 168", "NarSize: 1152921504606846976"),
            "it ends after 168 bytes, expected 1152921504606846976",
        ),
        (
            "compression",
            &|one| info(one, "Compression: xz", "Compression: zstd"),
            "it cannot be decompressed: ",
        ),
        (
            "not compressed",
            &|one| info(one, "Compression: xz", "Compression: none"),
            "it has more than the 168",
        ),
        ("cut file", &|one| nar(one, |bytes| bytes.truncate(100)), ""),
        (
            "longer file",
            &|one| nar(one, |bytes| bytes.extend([0; 3])),
            "",
        ),
        ("changed file", &|one| nar(one, |bytes| bytes[60] ^= 1), ""),
        ("empty file", &|one| nar(one, Vec::clear), ""),
    ];
    for (name, change, told) in cases {
        let one = TestCache::new();
        change(&one);
        let all = caches(&[(ONE, &one)], everything());
        let error = read(&all, &cx, &path).unwrap_err();
        let ErrorKind::Nar {
            from,
            path,
            problem,
        } = error.kind()
        else {
            panic!("{name}: {error}");
        };
        assert_eq!(from, ONE);
        assert!(path.ends_with("-plain"));
        assert!(problem.contains(told), "{name}: {problem}");
    }
}

#[test]
fn without_a_file_hash_the_nar_hash_does() {
    let path = fixture_path("plain");
    let one = TestCache::new();
    let text = String::from_utf8(one.get(&narinfo(&path))).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("File"));
    one.put(
        &narinfo(&path),
        lines.map(|line| format!("{line}\n")).collect::<String>(),
    );
    let all = caches(&[(ONE, &one)], options());
    assert_eq!(read(&all, &Context::default(), &path).unwrap().len(), 168);
}

#[test]
fn a_closure_may_expect_another_nar() {
    let (path, cx) = (fixture_path("plain"), Context::default());
    let one = TestCache::new();
    let all = caches(&[(ONE, &one)], options());
    let info = all.info(&cx, &path).unwrap().unwrap();
    let other = NarHash::new([0; 32]);
    let expected = |nar_hash, nar_size| ExpectedNar { nar_hash, nar_size };
    let open = |nar| all.open_nar(&cx, &path, Some(nar));
    let error = open(expected(other, None)).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "https://one.example: the NAR of /nix/store/{path}: its hash is said to be {}, \
             expected {other}",
            info.nar_hash
        )
    );
    let error = open(expected(info.nar_hash, Some(1))).err().unwrap();
    assert!(
        error
            .to_string()
            .ends_with("it is said to have 168 bytes, expected 1"),
        "{error}"
    );
    for size in [None, Some(168)] {
        let stream = open(expected(info.nar_hash, size)).unwrap();
        stream.finish().unwrap();
    }
}

/// Content that a path has its name from needs no signature, and is checked.
#[test]
fn content_has_the_address_that_the_name_follows_from() {
    let cx = Context::default();
    let strict = || CacheOptions {
        trust: Trust::default(),
        ..options()
    };
    let one = TestCache::new();
    let all = caches(&[(ONE, &one)], strict());
    let mut right = 0;
    for info in fixture_infos() {
        match read(&all, &cx, &info.path) {
            Ok(_) => right += 1,
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Untrusted { .. }),
                "{error}"
            ),
        }
    }
    assert_eq!(right, 4 + 2 + 3, "by SHA-2, texts, made content-addressed");

    // The NAR of another file, of which all is told as it is.
    let (flat, base) = (fixture_path("flat.txt"), fixture_path("base.txt"));
    let flat = fixture_infos().into_iter().find(|info| {
        info.path.name() == flat.name()
            && info
                .content_address
                .as_ref()
                .is_some_and(|ca| ca.hash.algorithm() == HashAlgorithm::Sha512)
    });
    let flat = flat.unwrap().path;
    let read_info = |path| {
        let text = String::from_utf8(one.get(&narinfo(path))).unwrap();
        let field = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            format!("{line}\n")
        };
        [
            "URL: ",
            "FileHash: ",
            "FileSize: ",
            "NarHash: ",
            "NarSize: ",
        ]
        .map(field)
    };
    let (ours, theirs) = (read_info(&flat), read_info(&base));
    for (from, to) in ours.iter().zip(&theirs) {
        one.edit(&flat, from, to);
    }
    let all = caches(&[(ONE, &one)], strict());
    let error = read(&all, &cx, &flat).unwrap_err();
    assert!(
        error.to_string().contains("its content has hash sha512:"),
        "{error}"
    );

    // Nor is it taken because it is what is expected, from the second cache
    // after a first one that is believed and has another.
    let base = fixture_infos().into_iter().find(|info| info.path == base);
    let base = base.unwrap();
    let two = TestCache::new();
    let believed = "https://two.example?trusted=true&priority=1";
    let all = caches(&[(believed, &two), (ONE, &one)], strict());
    let expected = ExpectedNar {
        nar_hash: base.nar_hash,
        nar_size: Some(base.nar_size),
    };
    let stream = all.open_nar(&cx, &flat, Some(expected)).unwrap();
    assert_eq!(stream.from(), ONE);
    let error = stream.finish().unwrap_err();
    assert!(
        error.to_string().contains("its content has hash sha512:"),
        "{error}"
    );
}

#[test]
fn a_nar_that_is_missing_or_breaks_comes_from_the_next_cache() {
    let path = fixture_path("tree");
    let path = &fixture_infos()
        .into_iter()
        .find(|info| info.path == path)
        .unwrap()
        .path;
    let whole = read(
        &caches(&[(ONE, &TestCache::new())], everything()),
        &Context::default(),
        path,
    );
    let whole = whole.unwrap();
    let nar = TestCache::new().nar(path);
    let size = TestCache::new().get(&nar).len();
    let mut faults: Vec<Option<Fault>> = (0..=size)
        .step_by(7)
        .map(|at| Some(Fault::Breaks(at)))
        .collect();
    faults.extend([Some(Fault::Fails), None]);
    for fault in faults {
        let (one, two) = (TestCache::new(), TestCache::new());
        match fault {
            Some(fault) => one.break_file(&nar, fault),
            None => one.remove(&nar),
        }
        let (heard, cx) = Heard::context();
        let all = caches(&[(ONE, &one), (TWO, &two)], everything());
        assert_eq!(read(&all, &cx, path).unwrap(), whole, "{fault:?}");
        assert_eq!(two.take_asked(), ["nix-cache-info", &narinfo(path), &nar]);
        // Where it fails before its first bytes nothing is told, since nothing
        // was lost.
        let warnings = heard.warnings();
        assert!(warnings.len() <= 1, "{warnings:?}");

        let all = caches(&[(ONE, &one)], everything());
        let error = read(&all, &cx, path).unwrap_err();
        match fault {
            None => assert_eq!(
                error.to_string(),
                format!(
                    "https://one.example failed to give the NAR of /nix/store/{path}: it tells \
                     of the store path, but has no {nar}"
                )
            ),
            Some(_) => assert!(error.to_string().contains("test"), "{error}"),
        }
    }
}

/// Parts that do not fit together are found out by the hash.
#[test]
fn another_nar_does_not_go_on_unseen() {
    let path = fixture_path("tree");
    let (one, two) = (TestCache::new(), TestCache::new());
    let mut nar = read(
        &caches(&[(ONE, &one)], everything()),
        &Context::default(),
        &path,
    )
    .unwrap();
    let last = nar.len() - 100;
    for (cache, at) in [(&one, 0), (&two, last)] {
        let mut other = nar.clone();
        other[at] ^= if at == 0 { 0 } else { 1 };
        cache.put("nar/x", other);
        let name = cache.nar(&path);
        let text = String::from_utf8(cache.get(&narinfo(&path))).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("File"));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let text = text
            .replace(&name, "nar/x")
            .replace("Compression: xz", "Compression: none");
        cache.put(&narinfo(&path), text);
    }
    nar.truncate(300);
    one.break_file("nar/x", Fault::Breaks(300));
    let all = caches(&[(ONE, &one), (TWO, &two)], everything());
    let error = read(&all, &Context::default(), &path).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("https://one.example and https://two.example: the NAR of /nix/store/"),
        "{error}"
    );
    assert!(error.to_string().contains("its hash is sha256:"), "{error}");
}

/// A narinfo that was kept may be of a NAR that is not there any more.
#[test]
fn an_old_narinfo_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let kept = || CacheOptions {
        info_cache: Some(NarInfoCache::new(dir.path(), now)),
        ..options()
    };
    let (path, cx) = (fixture_path("plain"), Context::default());
    let one = TestCache::new();
    caches(&[(ONE, &one)], kept())
        .info(&cx, &path)
        .unwrap()
        .unwrap();
    let nar = one.nar(&path);
    one.put("nar/new.nar.xz", one.get(&nar));
    one.remove(&nar);
    one.edit(&path, &nar, "nar/new.nar.xz");
    one.take_asked();

    let all = caches(&[(ONE, &one)], kept());
    assert_eq!(read(&all, &cx, &path).unwrap().len(), 168);
    assert_eq!(one.take_asked(), [&nar, &narinfo(&path), "nar/new.nar.xz"]);
    assert_eq!(read(&all, &cx, &path).unwrap().len(), 168);
    assert_eq!(
        one.take_asked(),
        ["nar/new.nar.xz"],
        "what was wrong is corrected"
    );

    one.remove("nar/new.nar.xz");
    let all = caches(&[(ONE, &one)], kept());
    let error = read(&all, &cx, &path).unwrap_err();
    assert!(
        error.to_string().contains("has no nar/new.nar.xz"),
        "{error}"
    );
    assert_eq!(one.take_asked().len(), 3, "it is asked for again once");
}

/// A cache that compresses anew, or has a path built anew, under the same name.
#[test]
fn an_old_narinfo_does_not_fail_twice() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let kept = || CacheOptions {
        info_cache: Some(NarInfoCache::new(dir.path(), now)),
        ..options()
    };
    let (path, cx) = (fixture_path("plain"), Context::default());
    let one = TestCache::new();
    let info = caches(&[(ONE, &one)], kept()).info(&cx, &path).unwrap();
    let info = info.unwrap();
    // The same NAR in another file.
    let nar = read(&caches(&[(ONE, &one)], options()), &cx, &path).unwrap();
    one.put(&info.url, nar);
    let file = format!("FileHash: {}\nFileSize: {}", info.nar_hash, info.nar_size);
    let text = String::from_utf8(one.get(&narinfo(&path))).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("File"));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let text = text.replace("Compression: xz", &format!("Compression: none\n{file}"));
    assert!(text.contains("Compression: none"), "{text}");
    one.put(&narinfo(&path), text);
    read(&caches(&[(ONE, &one)], kept()), &cx, &path).unwrap_err();
    read(&caches(&[(ONE, &one)], kept()), &cx, &path).unwrap();
}

#[test]
fn the_query_of_an_address_is_not_shown() {
    let (path, cx) = (fixture_path("plain"), Context::default());
    let one = TestCache::new();
    one.edit(&path, &one.nar(&path), "nar/x.nar.xz?token=hunter2");
    let all = caches(&[(ONE, &one)], options());
    let error = read(&all, &cx, &path).unwrap_err().to_string();
    assert!(error.contains("has no nar/x.nar.xz"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    one.edit(&path, "nar/x.nar.xz", "nar//x.nar.xz");
    let error = caches(&[(ONE, &one)], options())
        .info(&cx, &path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("nar//x.nar.xz"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn an_address_of_a_server_leads_out_of_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (path, cx) = (fixture_path("plain"), Context::default());
    let one = TestCache::new();
    one.edit(&path, "URL: nar/", "URL: https://elsewhere.example/nar/");
    for name in ["nix-cache-info", &narinfo(&path)] {
        std::fs::write(dir.path().join(name), one.get(name)).unwrap();
    }
    let url = dir.path().to_str().unwrap().parse().unwrap();
    let all = BinaryCaches::new(crate::store::StoreDir::default(), vec![url], options());
    let error = all.open_nar(&cx, &path, None).err().unwrap();
    assert!(
        error.to_string().contains("expected one in the folder"),
        "{error}"
    );
}
