//! `nix2oci cache`, over a cache that the library filled.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix2oci::digest::{DiffId, Digest};
use nix2oci::layer::{Compression, DirCache, LayerCache as _, LayerRecord};
use nix2oci::oci::Timestamp;
use nix2oci_tests::Isolated;
use nix2oci_tests::command::nix2oci;
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of an entry with numbers of four digits.
const ENTRY_BYTES: u64 = 354;

/// Puts entries into a cache that were used so many days ago.
fn fill(dir: &Path, days: &[u32]) {
    let now = SystemTime::now();
    for (day, n) in days.iter().zip(0_u8..) {
        let cache = DirCache::new(dir, now - DAY * *day);
        let record = LayerRecord {
            diff_id: DiffId::new(Digest::of(&[n])),
            uncompressed_size: 4096,
            digest: Digest::of(&[n, n]),
            size: 1234,
            media_type: Compression::default().media_type(),
        };
        let key = Digest::of(&[n, n, n]).to_string().parse().unwrap();
        cache.put(&key, &record).unwrap();
    }
}

/// Returns the exit code, standard output and standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs `nix2oci cache` with arguments, for this cache.
fn cache(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run(Command::new(nix2oci())
        .arg("cache")
        .args(args)
        .arg("--cache-dir")
        .arg(dir))
}

#[track_caller]
fn cache_json(dir: &Path, args: &[&str]) -> Value {
    let (code, stdout, stderr) = cache(dir, &[args, &["--json"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    serde_json::from_str(&stdout).unwrap()
}

fn files(dir: &Path) -> usize {
    let shards = fs::read_dir(dir.join("v1")).unwrap();
    let in_shard = |shard: PathBuf| fs::read_dir(shard).unwrap().count();
    shards.map(|shard| in_shard(shard.unwrap().path())).sum()
}

#[test]
fn a_cache_tells_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    let empty = json!({
        "version": 1, "directory": dir, "entries": 0, "size": 0,
        "oldestUse": null, "newestUse": null,
        "narInfos": {"entries": 0, "size": 0, "oldest": null, "newest": null},
    });
    assert_eq!(cache_json(&dir, &["info"]), empty);
    assert!(!dir.exists(), "to look is not to make");
    let (_, text, _) = cache(&dir, &["info"]);
    let expected = format!("directory  {}\nentries    0, 0 B\n", dir.display());
    assert_eq!(text, expected);

    fill(&dir, &[100, 0, 10]);
    for entry in fs::read_dir(dir.join("v1")).unwrap() {
        for file in fs::read_dir(entry.unwrap().path()).unwrap() {
            let bytes = file.unwrap().metadata().unwrap().len();
            assert_eq!(bytes, ENTRY_BYTES);
        }
    }
    let info = cache_json(&dir, &["info"]);
    assert_eq!(
        (&info["entries"], &info["size"]),
        (&json!(3), &json!(3 * ENTRY_BYTES))
    );
    let time = |key: &str| -> Timestamp { info[key].as_str().unwrap().parse().unwrap() };
    let (oldest, newest) = (time("oldestUse"), time("newestUse"));
    let apart = newest.unix_seconds() - oldest.unix_seconds();
    assert_eq!((apart + 60) / (24 * 60 * 60), 100, "{info}");
    let (_, text, _) = cache(&dir, &["info"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], "entries    3, 1.1 kB");
    assert_eq!(lines[2], format!("oldest use {oldest}"));
    assert_eq!(lines[3], format!("newest use {newest}"));
}

#[test]
fn what_was_not_used_for_long_is_removed() {
    for (args, removed) in [
        (&["prune"][..], 1),
        (&["prune", "--unused-for", "101"], 0),
        (&["prune", "--unused-for", "99"], 1),
        (&["prune", "--unused-for", "9"], 2),
        (&["prune", "--unused-for", "0"], 3),
        (&["prune", "--unused-for", "4294967295"], 0),
        (&["prune", "--max-entries", "1"], 2),
        (&["prune", "--max-entries", "9"], 1),
        (&["clear"], 3),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), &[100, 0, 10]);
        let report = cache_json(dir.path(), args);
        let (entries, size) = (&report["removedEntries"], &report["removedSize"]);
        let expected = (&json!(removed), &json!(removed * ENTRY_BYTES));
        assert_eq!((entries, size), expected, "{args:?}");
        assert_eq!(report["entries"], 3 - removed, "{args:?}");
        assert_eq!(files(dir.path()) as u64, 3 - removed, "{args:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), &[100, 0, 10]);
    File::create(dir.path().join("notes")).unwrap();
    let (code, text, _) = cache(dir.path(), &["clear"]);
    let path = dir.path().display();
    let expected = format!("directory  {path}\nremoved    3, 1.1 kB\nentries    0, 0 B\n");
    assert_eq!((code, text), (0, expected));
    assert!(dir.path().join("notes").is_file());
}

#[test]
fn the_cache_is_where_the_user_s_caches_are() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (xdg, below_home) = (home.join("caches"), home.join(".cache"));
    let xdg = xdg.to_str().unwrap();
    for (xdg, found) in [
        (None, &below_home),
        (Some(""), &below_home),
        (Some("relative"), &below_home),
        (Some(xdg), &PathBuf::from(xdg)),
    ] {
        let mut command = Command::new(nix2oci());
        command.args(["cache", "info", "--json"]).env_clear();
        command.env("HOME", home).current_dir(home);
        command.envs(xdg.map(|dir| ("XDG_CACHE_HOME", dir)));
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!(code, 0, "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["directory"], json!(found.join("nix2oci")), "{xdg:?}");
    }
}

#[test]
fn what_cannot_be_done_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, stderr) = cache(&file, &["info"]);
    let told = format!("error: failed to read {}/v1", file.display());
    assert_eq!((code, stderr.lines().next().unwrap()), (3, told.as_str()));
    let (code, _, stderr) = cache(Path::new("none"), &["clear"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("hint: a directory of that name is ./none"));
    for (args, told) in [
        (
            &["prune", "--unused-for", "-1"][..],
            "unexpected argument '-1'",
        ),
        (&["prune", "--unused-for", "90d"], "invalid value '90d'"),
        (&["prune", "--max-entries", "many"], "invalid value 'many'"),
        (&["info", "--max-entries", "1"], "unexpected argument"),
        (&["empty"], "unrecognized subcommand 'empty'"),
    ] {
        let (code, _, stderr) = cache(dir.path(), args);
        assert_eq!(code, 2, "{args:?}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    }
}

/// As in a container that mounts the host's cache.
#[test]
fn a_read_only_cache_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fill(&cache, &[100, 0]);
    let variables = [
        ("cache", cache.to_str().unwrap()),
        ("nix2oci", nix2oci().to_str().unwrap()),
    ];
    let told = Isolated::plain().run(
        dir.path(),
        &variables,
        "mount --bind $cache $cache
         mount -o remount,bind,ro $cache
         $nix2oci cache info --cache-dir $cache | grep entries
         $nix2oci cache clear --cache-dir $cache 2>&1 || echo $?",
    );
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "entries    2, 708 B");
    assert!(lines[1].starts_with("error: failed to remove "), "{told}");
    assert_eq!(lines[2], "  caused by: Read-only file system (os error 30)");
    assert_eq!(*lines.last().unwrap(), "4");
    assert_eq!(files(&cache), 2);
}
