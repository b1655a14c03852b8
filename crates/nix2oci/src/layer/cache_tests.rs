use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::digest::{DiffId, Digest};
use crate::error::ErrorClass;
use crate::layer::Codec;

use super::*;

fn key(n: u8) -> LayerKey {
    Digest::from([n; 32]).to_string().parse().unwrap()
}

fn record(n: u8, codec: Codec) -> LayerRecord {
    let diff_id = DiffId::new(Digest::from([n; 32]));
    let (digest, size) = match codec {
        Codec::None => (diff_id.digest(), 4096),
        _ => (Digest::from([n ^ 0xff; 32]), 1000 + u64::from(n)),
    };
    LayerRecord {
        diff_id,
        uncompressed_size: 4096,
        digest,
        size,
        media_type: codec.media_type(),
    }
}

/// Noon of a day.
fn day(n: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * u32::try_from(n).unwrap() + DAY / 2
}

/// A cache on the hundredth day, in a directory that is not there yet.
fn cache() -> (TempDir, DirCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = DirCache::new(dir.path().join("a/cache"), day(100));
    (dir, cache)
}

fn use_at(cache: &DirCache, key: LayerKey, time: SystemTime) {
    let file = File::open(cache.path(&key)).unwrap();
    file.set_modified(time).unwrap();
}

fn used(cache: &DirCache, key: LayerKey) -> SystemTime {
    let metadata = fs::metadata(cache.path(&key)).unwrap();
    metadata.modified().unwrap()
}

fn keys(cache: &DirCache) -> Vec<u8> {
    (0..=255)
        .filter(|n| cache.path(&key(*n)).symlink_metadata().is_ok())
        .collect()
}

#[test]
fn what_was_put_in_comes_out() {
    let (_dir, cache) = cache();
    for (n, codec) in [(1, Codec::None), (2, Codec::Gzip), (3, Codec::Zstd)] {
        assert_eq!(cache.get(&key(n)).unwrap(), None);
        cache.put(&key(n), &record(n, codec)).unwrap();
        assert_eq!(cache.get(&key(n)).unwrap(), Some(record(n, codec)));
    }
    cache.put(&key(1), &record(9, Codec::Zstd)).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), Some(record(9, Codec::Zstd)));
    assert_eq!(keys(&cache), [1, 2, 3]);
    let other_day = DirCache::new(cache.dir(), day(7));
    assert_eq!(
        other_day.get(&key(2)).unwrap(),
        Some(record(2, Codec::Gzip))
    );
}

#[test]
fn repositories_that_have_a_layer_are_remembered_the_last_first() {
    let (_dir, cache) = cache();
    let (one, other) = (record(1, Codec::Gzip), record(2, Codec::Gzip));
    // One that is not known is not believed because somebody saw it.
    cache.see_in(&key(1), &one, "h.io/a").unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), None);
    cache.put(&key(1), &one).unwrap();
    for place in ["h.io/a", "h.io/b", "h.io/c", "h.io/b", "h.io/d", "h.io/e"] {
        cache.see_in(&key(1), &one, place).unwrap();
        cache.see_in(&key(1), &other, "h.io/other").unwrap();
    }
    let seen = ["h.io/e", "h.io/d", "h.io/c", "h.io/b"];
    assert_eq!(cache.seen_in(&key(1), &one).unwrap(), seen);
    assert_eq!(cache.get(&key(1)).unwrap(), Some(one.clone()));
    cache.put(&key(1), &one).unwrap();
    assert_eq!(cache.seen_in(&key(1), &one).unwrap(), seen);
    // Another layer under the key was seen nowhere.
    assert!(cache.seen_in(&key(1), &other).unwrap().is_empty());
    cache.put(&key(1), &other).unwrap();
    assert!(cache.seen_in(&key(1), &other).unwrap().is_empty());
}

/// Other versions of the program read it.
#[test]
fn the_file_is_golden() {
    let (dir, cache) = cache();
    cache.put(&key(0xab), &record(1, Codec::Gzip)).unwrap();
    let hex = |n: &str| n.repeat(32);
    let path = format!("a/cache/v1/ab/{}.json", hex("ab"));
    assert_eq!(
        fs::read_to_string(dir.path().join(path)).unwrap(),
        format!(
            concat!(
                r#"{{"diffId":"sha256:{}","digest":"sha256:{}","key":"sha256:{}","#,
                r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","#,
                r#""size":1001,"uncompressedSize":4096,"version":1}}"#,
                "\n"
            ),
            hex("01"),
            hex("fe"),
            hex("ab")
        )
    );
}

#[test]
fn nothing_is_made_before_the_first_entry() {
    let (dir, cache) = cache();
    assert_eq!(cache.get(&key(1)).unwrap(), None);
    assert_eq!(cache.info().unwrap(), CacheInfo::default());
    assert_eq!(cache.clear().unwrap(), CacheRemoval::default());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    for made in ["a", "a/cache"] {
        let mode = fs::metadata(dir.path().join(made)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
}

#[test]
fn a_directory_that_is_there_keeps_its_mode() {
    let (_dir, cache) = cache();
    fs::create_dir_all(cache.dir()).unwrap();
    fs::set_permissions(cache.dir(), fs::Permissions::from_mode(0o775)).unwrap();
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    assert_eq!(fs::metadata(cache.dir()).unwrap().mode() & 0o777, 0o775);
}

#[test]
fn a_broken_or_foreign_file_is_no_entry() {
    let (_dir, cache) = cache();
    let good = record(1, Codec::Gzip);
    cache.put(&key(1), &good).unwrap();
    let path = cache.path(&key(1));
    let written = fs::read_to_string(&path).unwrap();
    let other_key = String::from_utf8(document(&key(2), &good, Notes::default())).unwrap();
    let replaced = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        written.replace(from, to)
    };
    for broken in [
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        "\0".repeat(400),
        "[".repeat(10_000),
        written[..written.len() / 2].to_owned(),
        format!("{written}{written}"),
        format!("{}{written}", " ".repeat(MAX_ENTRY_BYTES as usize)),
        other_key,
        replaced(r#""version":1"#, r#""version":2"#),
        replaced(r#""version":1"#, r#""version":"1""#),
        replaced(r#""size":1001"#, r#""size":-1"#),
        replaced(r#""size":1001"#, r#""size":0"#),
        replaced(r#""size":1001"#, r#""size":18446744073709551616"#),
        replaced(r#""digest":"sha256:"#, r#""digest":"sha512:"#),
        replaced(r#""diffId":"sha256:01"#, r#""diffId":"sha256:"#),
        replaced("layer.v1.tar+gzip", "layer.v1.tar"),
        replaced("layer.v1.tar+gzip", "layer.v1.tar+xz"),
        replaced(r#""digest""#, r#""Digest""#),
    ] {
        fs::write(&path, &broken).unwrap();
        use_at(&cache, key(1), day(1));
        let found = cache.get(&key(1)).unwrap();
        assert_eq!(found, None, "{broken:.80}");
        assert_eq!(used(&cache, key(1)), day(1), "it was not used");
    }
    cache.put(&key(1), &good).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), Some(good));
}

#[test]
fn what_is_no_file_is_no_entry() {
    let (dir, cache) = cache();
    let outside = dir.path().join("outside");
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    let path = cache.path(&key(1));
    fs::rename(&path, &outside).unwrap();

    symlink(&outside, &path).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), None);
    cache.put(&key(1), &record(2, Codec::Gzip)).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), Some(record(2, Codec::Gzip)));
    let untouched = fs::read(&outside).unwrap();
    let found = parse(&key(1), &untouched).map(|(record, _)| record);
    assert_eq!(found, Some(record(1, Codec::Gzip)));

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), None);
    let error = cache.put(&key(1), &record(2, Codec::Gzip)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Output);
    let told = format!("failed to write {}", path.display());
    assert_eq!(error.to_string(), told);

    fs::remove_dir(&path).unwrap();
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(cache.get(&key(1)).unwrap(), None);
    let socket = cache.path(&key(2));
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    // The address of a socket has room for 108 bytes.
    let short = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&short).unwrap();
    fs::rename(&short, &socket).unwrap();
    assert_eq!(cache.get(&key(2)).unwrap(), None);
}

#[test]
fn a_cache_that_cannot_be_written_can_be_read() {
    let (dir, cache) = cache();
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    use_at(&cache, key(1), day(1));
    for sub in ["v1/01", "v1", "."] {
        let mode = fs::Permissions::from_mode(0o555);
        fs::set_permissions(cache.dir().join(sub), mode).unwrap();
    }
    assert_eq!(cache.get(&key(1)).unwrap(), Some(record(1, Codec::Gzip)));
    // The same again need not be written.
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    if !rustix::process::geteuid().is_root() {
        let error = cache.put(&key(2), &record(2, Codec::Gzip)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Output);
    }

    // Nobody can make a directory below a file.
    fs::write(dir.path().join("file"), "").unwrap();
    let nowhere = DirCache::new(dir.path().join("file/cache"), day(100));
    assert_eq!(nowhere.get(&key(1)).unwrap(), None);
    let error = nowhere.put(&key(1), &record(1, Codec::Gzip)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Output);
    let shard = nowhere.dir().join("v1/01");
    let told = format!("failed to create {}", shard.display());
    assert_eq!(error.to_string(), told);
    assert_eq!(nowhere.info().unwrap_err().class(), ErrorClass::Input);
}

#[test]
fn the_last_use_is_known_to_a_day() {
    let (_dir, cache) = cache();
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    assert_eq!(used(&cache, key(1)), day(100));
    for (before, after) in [
        (day(0), day(100)),
        (day(99), day(100)),
        (day(99) + DAY / 2, day(99) + DAY / 2),
        (day(100), day(100)),
        (day(200), day(200)),
    ] {
        use_at(&cache, key(1), before);
        cache.get(&key(1)).unwrap();
        assert_eq!(used(&cache, key(1)), after);
        use_at(&cache, key(1), before);
        cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
        assert_eq!(used(&cache, key(1)), after);
    }
}

/// A cache with the entries 10 to 14, last used on the days 10 to 14, and what
/// is not its own.
fn full() -> (TempDir, DirCache) {
    let (dir, cache) = cache();
    for n in 10..15 {
        cache.put(&key(n), &record(n, Codec::Gzip)).unwrap();
        use_at(&cache, key(n), day(n.into()));
    }
    (dir, cache)
}

#[test]
fn the_cache_tells_what_is_in_it() {
    let (_dir, cache) = full();
    let file = fs::metadata(cache.path(&key(10))).unwrap().len();
    let expected = CacheInfo {
        entries: 5,
        bytes: 5 * file,
        oldest_use: Some(day(10)),
        newest_use: Some(day(14)),
    };
    assert_eq!(cache.info().unwrap(), expected);
}

#[test]
fn what_was_not_used_for_long_is_pruned() {
    let all = [10, 11, 12, 13, 14];
    for (used_since, max_entries, left) in [
        (None, None, &all[..]),
        (Some(day(0)), None, &all),
        (Some(day(12)), None, &all[2..]),
        (Some(day(12) + DAY / 4), None, &all[3..]),
        (Some(day(15)), None, &[]),
        (None, Some(5), &all),
        (None, Some(u64::MAX), &all),
        (None, Some(2), &all[3..]),
        (None, Some(0), &[]),
        (Some(day(12)), Some(4), &all[2..]),
        (Some(day(12)), Some(1), &all[4..]),
    ] {
        let (_dir, cache) = full();
        let file = fs::metadata(cache.path(&key(10))).unwrap().len();
        let limits = CacheLimits {
            used_since,
            max_entries,
        };
        let removal = cache.prune(&limits).unwrap();
        assert_eq!(keys(&cache), left, "{limits:?}");
        assert_eq!(removal.entries, 5 - left.len() as u64);
        assert_eq!(removal.bytes, removal.entries * file);
    }
}

#[test]
fn only_what_is_ours_is_removed() {
    let (dir, cache) = full();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let hex = |n: &str| format!("{}.json", n.repeat(32));
    let foreign = [
        "README".to_owned(),
        "v1/README".to_owned(),
        format!("v1/{}", hex("0a")),
        "v1/0a/README".to_owned(),
        // In the directory of another key.
        format!("v1/0a/{}", hex("0b")),
        format!("v1/0a/{}", hex("0A")),
        "v1/0a/.nix2oci-".to_owned(),
        format!("v1/0A/{}", hex("0A")),
        format!("v1/other/{}", hex("0a")),
        format!("v2/0a/{}", hex("0a")),
    ];
    for name in &foreign {
        let path = cache.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    // Links to a file, and to a directory that looks like one of the cache's.
    fs::write(outside.join(hex("0f")), "").unwrap();
    symlink(&outside, cache.dir().join("v1/0f")).unwrap();
    fs::create_dir(cache.dir().join("v1/1f")).unwrap();
    let link = cache.dir().join("v1/1f").join(hex("1f"));
    symlink(outside.join(hex("0f")), &link).unwrap();

    assert_eq!(cache.info().unwrap().entries, 5);
    assert_eq!(cache.clear().unwrap().entries, 5);
    assert_eq!(cache.info().unwrap(), CacheInfo::default());
    for name in &foreign {
        assert!(cache.dir().join(name).is_file(), "{name}");
    }
    assert!(outside.join(hex("0f")).is_file());
    assert!(link.is_symlink());

    // Nor is the whole of it sought elsewhere.
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(cache.dir().join("v1"), elsewhere.join("v1")).unwrap();
    cache.put(&key(1), &record(1, Codec::Gzip)).unwrap();
    let error = DirCache::new(&elsewhere, day(100)).clear().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Input);
    assert!(cache.path(&key(1)).is_file());
}

/// A writer that is killed leaves its temporary file.
#[test]
fn what_a_killed_writer_left_goes_after_a_day() {
    for clear in [false, true] {
        let (_dir, cache) = full();
        let shard = cache.dir().join("v1/0a");
        for (name, time) in [(".nix2oci-0aZ9bc", day(99)), (".nix2oci-abcdef", day(100))] {
            let file = File::create(shard.join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        assert_eq!(cache.info().unwrap().entries, 5);
        let removal = if clear {
            cache.clear()
        } else {
            cache.prune(&CacheLimits::default())
        };
        assert_eq!(removal.unwrap().entries, if clear { 5 } else { 0 });
        assert!(!shard.join(".nix2oci-0aZ9bc").exists());
        assert!(shard.join(".nix2oci-abcdef").exists());
    }
}

/// Two writers that do not agree, so that each really writes, and the reader
/// sees one of both and nothing between.
fn put_and_get(cache: &DirCache, rounds: usize) {
    let records = [record(1, Codec::Gzip), record(2, Codec::Zstd)];
    for round in 0..rounds {
        cache.put(&key(1), &records[round % 2]).unwrap();
        let found = cache.get(&key(1)).unwrap().expect("it was put in");
        assert!(records.contains(&found), "{found:?}");
    }
}

#[test]
fn threads_share_a_key() {
    let (_dir, cache) = cache();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| put_and_get(&cache, 200));
        }
    });
    let shard = cache.dir().join("v1/01");
    assert_eq!(fs::read_dir(shard).unwrap().count(), 1, "nothing is left");
}

const SHARED: &str = "NIX2OCI_TEST_SHARED_CACHE";

#[test]
fn processes_share_a_key() {
    let (_dir, cache) = cache();
    let this = std::env::current_exe().unwrap();
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            Command::new(&this)
                .arg(format!("{module}::as_another_process"))
                .args(["--exact", "--ignored"])
                .env(SHARED, cache.dir())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }
    let shard = cache.dir().join("v1/01");
    assert_eq!(fs::read_dir(shard).unwrap().count(), 1, "nothing is left");
}

#[test]
#[ignore = "processes_share_a_key starts it"]
fn as_another_process() {
    let dir = std::env::var_os(SHARED).expect("the test that starts this sets it");
    put_and_get(&DirCache::new(dir, day(100)), 200);
}

#[test]
fn what_was_found_in_programs_is_kept_beside_the_record() {
    let (_dir, cache) = cache();
    let good = record(1, Codec::Gzip);
    let found = |files: usize| -> Vec<ForeignPrograms> {
        let one = |n| ForeignPrograms {
            file: format!("/nix/store/{n:032}-app/bin/app"),
            found: "amd64 (ELF)".to_owned(),
            expected: "linux/arm64".to_owned(),
            more: n,
        };
        (0..files).map(one).collect()
    };
    let told = |question: &str| cache.programs(&key(1), question).unwrap();
    // Of a layer that is not known nothing is kept.
    cache
        .put_programs(&key(1), "linux/arm64", &found(1))
        .unwrap();
    assert_eq!(told("linux/arm64"), None);
    cache.put(&key(1), &good).unwrap();
    assert_eq!(told("linux/arm64"), None);
    cache
        .put_programs(&key(1), "linux/arm64", &found(2))
        .unwrap();
    cache.put_programs(&key(1), "linux/amd64", &[]).unwrap();
    assert_eq!(told("linux/arm64"), Some(found(2)));
    assert_eq!(told("linux/amd64"), Some(Vec::new()));
    assert_eq!(told("linux/s390x"), None);
    // The record is as it was, and putting it again keeps them.
    cache.put(&key(1), &good).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap(), Some(good));
    assert_eq!(told("linux/arm64"), Some(found(2)));
    // Another record is of other bytes, of which nothing is known.
    cache.put(&key(1), &record(2, Codec::Gzip)).unwrap();
    assert_eq!(told("linux/arm64"), None);
    // No entry becomes too large to be read.
    cache
        .put_programs(&key(1), "linux/arm64", &found(1000))
        .unwrap();
    assert_eq!(told("linux/arm64"), None);
    assert!(cache.get(&key(1)).unwrap().is_some());
}

proptest! {
    /// No damage makes a record for another key, or an error.
    #[test]
    fn damage_is_harmless(at in 0..400_usize, byte in any::<u8>(), cut in 0..400_usize) {
        let good = record(1, Codec::Gzip);
        let mut bytes = document(&key(1), &good, Notes::default());
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        prop_assert!(parse(&key(2), &bytes).is_none());
        if let Some((found, _)) = parse(&key(1), &bytes) {
            prop_assert!(found.is_plausible());
        }
    }
}
