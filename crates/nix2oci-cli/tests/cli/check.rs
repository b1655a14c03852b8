//! What is wrong with an image, and what a store has otherwise.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::Value;

use super::{APP, Fixture, LIB, run};

#[test]
fn files_that_differ_from_the_store_are_named() {
    let fixture = Fixture::new();
    let at = |file: &str| fixture.file(&format!("root{file}"));
    let file = |name: &str| format!("{LIB}/bin/{name}");
    for (name, text) in [
        ("same-size", "one"),
        ("grown", "one"),
        ("mode", "x"),
        ("gone", ""),
    ] {
        fs::write(at(&file(name)), text).unwrap();
    }
    symlink("a", at(&file("link"))).unwrap();
    fs::write(at(&file("kind")), "").unwrap();
    fs::create_dir(at(&file("dir"))).unwrap();
    let (code, _, stderr) = fixture.run("build", &["result", "-o", "a.tar", "--cmd", "./x"]);
    assert_eq!(code, 0, "{stderr}");
    let check = |args: &[&str]| {
        let against = ["check", "a.tar", "--against-store", "--store-root", "root"];
        run(fixture.path(), &[&against[..], args].concat())
    };
    let (code, stdout, _) = check(&[]);
    assert_eq!((code, stdout.as_str()), (0, "ok\n"));

    fs::write(at(&file("same-size")), "two").unwrap();
    fs::write(at(&file("grown")), "three").unwrap();
    fs::set_permissions(at(&file("mode")), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(at(&file("gone"))).unwrap();
    fs::remove_file(at(&file("link"))).unwrap();
    symlink("b", at(&file("link"))).unwrap();
    fs::remove_file(at(&file("kind"))).unwrap();
    fs::create_dir(at(&file("kind"))).unwrap();
    fs::write(at(&file("dir/new")), "").unwrap();
    let (code, stdout, _) = check(&[]);
    assert_eq!(code, 8);
    let told = |name: &str, what: &str| format!("error: {}: {what}", file(name));
    assert_eq!(
        stdout.lines().collect::<Vec<_>>(),
        [
            &*told("dir/new", "is in the store and not in the image"),
            &*told("gone", "is in the image and not in the store"),
            &*told("grown", "has 3 bytes in the image and 5 in the store"),
            &*told(
                "kind",
                "is a file in the image and a directory in the store"
            ),
            &*told("link", "leads to a in the image and to b in the store"),
            &*told("mode", "may not be executed, but in the store it may"),
            &*told("same-size", "has other bytes than in the store, 3 of them"),
            "7 errors",
        ]
    );
    for n in 0..30 {
        fs::write(at(&file(&format!("extra-{n:02}"))), "").unwrap();
    }
    fs::remove_dir_all(at(APP)).unwrap();
    let (code, stdout, _) = check(&["--json"]);
    let findings: Value = serde_json::from_str(&stdout).unwrap();
    let problems = findings["problems"].as_array().unwrap();
    assert_eq!((code, problems.len()), (8, 22));
    let whole = |problem: &Value| {
        assert_eq!(problem["rule"], "differs-from-store");
        format!("{} {}", problem["place"], problem["message"])
    };
    assert_eq!(
        whole(&problems[20]),
        format!("\"{LIB}\" \"has 17 more files that differ\"")
    );
    assert_eq!(
        whole(&problems[21]),
        format!("\"{APP}\" \"is not in the store\"")
    );
    let (code, _, stderr) = run(fixture.path(), &["check", "a.tar", "--store-root", "root"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn a_store_path_that_is_not_what_was_registered_is_named() {
    let fixture = Fixture::new();
    // The fixture's hashes are made up.
    let verified = ["result", "-o", "a.tar", "--cmd", "./x", "--verify"];
    let (code, _, stderr) = fixture.run("build", &verified);
    assert_eq!(code, 5);
    assert!(stderr.contains("error: /nix/store/"), "{stderr}");
    assert!(stderr.contains("has NAR hash sha256:"), "{stderr}");
    assert_eq!(fixture.new_files(), [""; 0]);
}
