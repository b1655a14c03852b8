//! Images of store paths that are not on this machine: what comes out, and what
//! the user is told. What caches may say is tested by the library.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::run;

/// A store path that is nowhere on this machine.
const APP: &str = "/nix/store/00000000000000000000000000000001-app";

/// The NAR hash of [`nar`], as `nix-hash --type sha256 --base32` tells it.
const NAR_HASH: &str = "sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";

/// The NAR of a file with the text `hello`.
fn nar() -> Vec<u8> {
    let mut nar = Vec::new();
    for string in [
        "nix-archive-1",
        "(",
        "type",
        "regular",
        "contents",
        "hello\n",
        ")",
    ] {
        nar.extend((string.len() as u64).to_le_bytes());
        nar.extend(string.as_bytes());
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}

/// A directory with a binary cache, `cache`, that nobody signed.
fn unsigned() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::create_dir_all(cache.join("nar")).unwrap();
    fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    fs::write(cache.join("nar/app.nar"), nar()).unwrap();
    let size = nar().len();
    let narinfo = format!(
        "StorePath: {APP}\nURL: nar/app.nar\nCompression: none\nFileHash: {NAR_HASH}\n\
         FileSize: {size}\nNarHash: {NAR_HASH}\nNarSize: {size}\nReferences: \n"
    );
    let file = cache.join("00000000000000000000000000000001.narinfo");
    fs::write(file, narinfo).unwrap();
    dir
}

/// Runs a verb with the cache in `cache`.
fn with_cache(dir: &Path, verb: &str, args: &[&str]) -> (i32, String, String) {
    let cache = format!("cache:file://{}/cache", dir.display());
    let common = [verb, "--closure", &cache, "--cache-dir", "none"];
    run(dir, &[&common[..], args].concat())
}

#[test]
fn an_image_is_built_of_what_is_not_here() {
    let dir = unsigned();
    let dir = dir.path();
    let (code, _, stderr) = with_cache(dir, "build", &[APP, "--no-check-sigs", "-o", "app.tar"]);
    assert_eq!(code, 0, "{stderr}");
    let warning = "warning: --no-check-sigs: signatures of binary caches are not checked";
    assert_eq!(stderr.matches(warning).count(), 1, "{stderr}");

    // By a link that leads to nothing here.
    std::os::unix::fs::symlink(APP, dir.join("result")).unwrap();
    let twice = ["result", "-o", "two.tar", "--no-check-sigs", "--next"];
    let cache = format!("cache:{}/cache", dir.display());
    let second = ["result", "--platform", "linux/arm64", "--closure", &cache];
    let (code, _, stderr) = with_cache(dir, "build", &[&twice[..], &second].concat());
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stderr.matches(warning).count(),
        1,
        "once for both: {stderr}"
    );

    // A recipe is packed from there, and the closure alone may come from there.
    let (code, _, stderr) = with_cache(dir, "resolve", &[APP, "--no-check-sigs", "-o", "app.json"]);
    assert_eq!(code, 0, "{stderr}");
    let cache = format!("cache:file://{}/cache", dir.display());
    let index = ["index", "app.json", "-o", "index.tar", "--no-check-sigs"];
    let (code, _, stderr) = run(dir, &[&index[..], &["--content", &cache]].concat());
    assert_eq!(code, 0, "{stderr}");
    let local = [APP, "--no-check-sigs", "-o", "no.tar", "--content", "local"];
    let (code, _, stderr) = with_cache(dir, "build", &local);
    assert_eq!(code, 3, "{stderr}");
    assert!(!dir.join("no.tar").exists());
}

#[test]
fn what_nobody_signed_is_refused_with_advice() {
    let dir = unsigned();
    let (code, stdout, stderr) = with_cache(dir.path(), "build", &[APP, "-o", "app.tar"]);
    assert_eq!((code, stdout.as_str()), (5, ""));
    assert!(stderr.contains("-app of file:///"), "{stderr}");
    assert!(stderr.contains(" is not signed\n"), "{stderr}");
    assert!(
        stderr.contains("hint: whoever fills the cache signs"),
        "{stderr}"
    );
    assert!(!dir.path().join("app.tar").exists());

    let other = "/nix/store/00000000000000000000000000000002-other";
    let (code, _, stderr) = with_cache(dir.path(), "build", &[other, "-o", "app.tar"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("hint: is it in another cache?"), "{stderr}");
}

#[test]
fn a_damaged_nar_is_told_with_path_and_cache() {
    let dir = unsigned();
    let file = dir.path().join("cache/nar/app.nar");
    fs::write(
        &file,
        String::from_utf8(nar()).unwrap().replace("hello", "jello"),
    )
    .unwrap();
    let args = [APP, "--no-check-sigs", "-o", "app.tar"];
    let (code, _, stderr) = with_cache(dir.path(), "build", &args);
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains(&format!("the NAR of {APP}")), "{stderr}");
    assert!(stderr.contains("hint: the cache is damaged"), "{stderr}");
    fs::remove_file(&file).unwrap();
    let (code, _, stderr) = with_cache(dir.path(), "build", &args);
    assert_eq!(code, 7, "{stderr}");
    assert!(stderr.contains("was it collected"), "{stderr}");
    assert!(!dir.path().join("app.tar").exists());
}

#[test]
fn a_plan_says_what_a_build_downloads() {
    let dir = unsigned();
    let dir = dir.path();
    let args = [APP, "--no-check-sigs", "-q"];
    let (code, stdout, _) = with_cache(dir, "plan", &args);
    assert_eq!(code, 0);
    // A folder is no network.
    assert!(
        stdout.ends_with("\na build downloads nothing\n"),
        "{stdout}"
    );
    let json = [&args[..], &["--json", "--html", "plan.html"]].concat();
    let (_, stdout, _) = with_cache(dir, "plan", &json);
    let plan: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(plan["layers"][0]["downloadBytes"], 0);
    assert_eq!(plan["totals"]["downloadBytes"], 0);
    let page = fs::read_to_string(dir.join("plan.html")).unwrap();
    assert!(page.contains("to download"));
    // It reads no NAR.
    fs::remove_dir_all(dir.join("cache/nar")).unwrap();
    assert_eq!(with_cache(dir, "plan", &args).0, 0);
}

#[test]
fn options_of_caches_that_make_no_sense_are_refused() {
    let dir = unsigned();
    let two = [
        "--closure",
        "cache:https://b.invalid",
        "--closure",
        "cache:https://a.invalid",
    ];
    for (code, args, part) in [
        (
            2,
            &["--closure", "cache:ftp://x"][..],
            "\"ftp://x\" is no binary cache",
        ),
        (
            2,
            &["--content", "cache:https://user:hunter2@h"],
            "expected them in a netrc file",
        ),
        (
            2,
            &["--content", "cache"],
            "an argument is missing, expected cache:URL",
        ),
        (2, &["--content", "best"], "expected one of local[:ROOT]"),
        (2, &["--trusted-public-key", "name:hunter2"], "NAME:BASE64"),
        (
            2,
            &["--no-check-sigs", "--no-default-key"],
            "cannot be used with",
        ),
        (2, &["--cache-header", "hunter2"], "expected NAME:VALUE"),
        (
            2,
            &[&two[..], &["--cache-header", "X:hunter2"]].concat(),
            "HOST/X:VALUE, with a.invalid or",
        ),
        // What the closure comes from is one cache, and what the files come from
        // another.
        (
            2,
            &[
                &two[..2],
                &["--content", "cache:https://a.invalid"],
                &["--cache-header", "X:hunter2"],
            ]
            .concat(),
            "HOST/X:VALUE, with a.invalid or",
        ),
        (3, &["--cache-header", "@missing"], "failed to read missing"),
        (3, &["--netrc-file", "missing"], "failed to read missing"),
    ] {
        let args = [&[APP, "-o", "app.tar"], args].concat();
        let (found, stdout, stderr) = with_cache(dir.path(), "build", &args);
        assert_eq!((found, stdout.as_str()), (code, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    // What was not signed in: a secret that is visible is told of without it.
    let header = ["-o", "app.tar", "--cache-header", "X-Token: hunter2", APP];
    let (_, _, stderr) = with_cache(dir.path(), "build", &header);
    assert!(
        stderr.contains("warning: --cache-header: a secret"),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}
