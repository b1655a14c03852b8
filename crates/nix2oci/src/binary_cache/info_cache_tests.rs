//! What is kept, for how long, and what is not taken for it.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const CACHE: &str = "https://cache.example.org";
const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

fn at(dir: &Path, now: SystemTime) -> NarInfoCache {
    NarInfoCache::new(dir.join("narinfo"), now)
}

fn found(text: &str) -> Kept {
    Kept::Found(text.as_bytes().to_vec())
}

#[test]
fn what_was_found_is_kept_by_cache_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let cache = at(dir.path(), now());
    assert_eq!(cache.narinfo(CACHE, HASH), None);
    assert_eq!(cache.info().unwrap(), NarInfoCacheInfo::default());
    cache.keep_narinfo(CACHE, HASH, &found("one")).unwrap();
    assert_eq!(cache.narinfo(CACHE, HASH), Some(found("one")));
    assert_eq!(cache.narinfo("https://other.example.org", HASH), None);
    assert_eq!(cache.narinfo(CACHE, &HASH.replace('0', "1")), None);
    cache.keep_narinfo(CACHE, HASH, &Kept::Missing).unwrap();
    assert_eq!(cache.narinfo(CACHE, HASH), Some(Kept::Missing));
    cache.forget_narinfo(CACHE, HASH);
    assert_eq!(cache.narinfo(CACHE, HASH), None);
    cache.forget_narinfo(CACHE, HASH);
}

#[test]
fn entries_count_as_long_as_with_nix() {
    let dir = tempfile::tempdir().unwrap();
    let cache = at(dir.path(), now());
    let other = HASH.replace('0', "1");
    cache.keep_narinfo(CACHE, HASH, &found("one")).unwrap();
    cache.keep_narinfo(CACHE, &other, &Kept::Missing).unwrap();
    cache.keep_cache_info(CACHE, b"Priority: 1\n").unwrap();
    for (age, is_found, is_missing, is_info) in [
        (Duration::ZERO, true, true, true),
        (HOUR - Duration::from_secs(1), true, true, true),
        (HOUR, true, false, true),
        (7 * DAY, true, false, false),
        (30 * DAY, false, false, false),
    ] {
        let later = at(dir.path(), now() + age);
        assert_eq!(later.narinfo(CACHE, HASH).is_some(), is_found, "{age:?}");
        assert_eq!(
            later.narinfo(CACHE, &other).is_some(),
            is_missing,
            "{age:?}"
        );
        assert_eq!(later.cache_info(CACHE).is_some(), is_info, "{age:?}");
    }
    // A clock that was wrong when it was put in.
    assert!(
        at(dir.path(), now() - HOUR / 2)
            .narinfo(CACHE, HASH)
            .is_some()
    );
    assert_eq!(at(dir.path(), now() - DAY).narinfo(CACHE, HASH), None);
}

#[test]
fn what_is_no_entry_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = at(dir.path(), now());
    cache.keep_narinfo(CACHE, HASH, &found("one")).unwrap();
    let path = cache.narinfo_path(CACHE, HASH);
    let whole = fs::read(&path).unwrap();
    for bytes in [
        Vec::new(),
        whole[..10].to_vec(),
        b"nix2oci 2 found\none".to_vec(),
        b"StorePath: x\n".to_vec(),
        [MISSING, b"x"].concat(),
        vec![b' '; MAX_NARINFO_SIZE as usize + 100],
    ] {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(cache.narinfo(CACHE, HASH), None, "{} bytes", bytes.len());
    }
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, &whole).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert_eq!(cache.narinfo(CACHE, HASH), None, "a link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(cache.narinfo(CACHE, HASH), None, "a directory");
    let error = cache.keep_narinfo(CACHE, HASH, &found("one")).unwrap_err();
    assert!(error.to_string().starts_with("failed to write "), "{error}");
    fs::remove_dir(&path).unwrap();
    cache.keep_narinfo(CACHE, HASH, &found("two")).unwrap();
    assert_eq!(cache.narinfo(CACHE, HASH), Some(found("two")));
}

#[test]
fn the_directory_is_its_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cache = at(dir.path(), now());
    cache.keep_narinfo(CACHE, HASH, &found("one")).unwrap();
    let path = cache.narinfo_path(CACHE, HASH);
    for directory in path.ancestors().skip(1).take(4) {
        let mode = fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    }
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn old_entries_are_removed_and_strange_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let cache = at(dir.path(), now());
    let other = HASH.replace('0', "1");
    cache
        .keep_narinfo(CACHE, HASH, &found("a narinfo"))
        .unwrap();
    cache.keep_narinfo(CACHE, &other, &Kept::Missing).unwrap();
    cache.keep_cache_info(CACHE, b"Priority: 1\n").unwrap();
    let shard = cache.narinfo_path(CACHE, HASH).parent().unwrap().to_owned();
    for strange in ["README", HASH.strip_prefix("01").unwrap(), "01"] {
        fs::write(shard.join(strange), "mine").unwrap();
    }
    fs::write(shard.join(".nix2oci-abc123"), "half").unwrap();
    let half = fs::File::open(shard.join(".nix2oci-abc123")).unwrap();
    half.set_modified(now()).unwrap();
    let info = cache.info().unwrap();
    assert_eq!((info.entries, info.oldest), (3, Some(now())));
    assert_eq!(cache.prune(None).unwrap(), NarInfoCacheRemoval::default());
    let removal = at(dir.path(), now() + HOUR).prune(None).unwrap();
    assert_eq!(removal.entries, 1, "what was missing an hour ago");
    assert!(!shard.join(".nix2oci-abc123").exists());
    let removal = cache.prune(Some(now() + HOUR)).unwrap();
    assert_eq!(removal.entries, 2);
    cache
        .keep_narinfo(CACHE, HASH, &found("a narinfo"))
        .unwrap();
    assert_eq!(cache.clear().unwrap().entries, 1);
    assert!(shard.join("README").exists() && shard.join("01").exists());
    assert_eq!(
        at(&dir.path().join("none"), now()).clear().unwrap().entries,
        0
    );
}
