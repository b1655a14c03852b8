//! Programs for another platform than the image's, and what cannot start.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::{APP, Fixture, LIB, run};

/// The beginning of a program of this machine: nobody starts it here.
fn own_program() -> Vec<u8> {
    let mut program = fs::read(env!("CARGO_BIN_EXE_nix2oci")).unwrap();
    program.truncate(4096);
    program
}

/// Writes a program into a store path of the fixture.
fn install(fixture: &Fixture, path: &str, name: &str, bytes: &[u8]) {
    let file = fixture.file(&format!("root{path}/bin/{name}"));
    fs::write(&file, bytes).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A platform that no machine of ours is.
const OTHER: &str = "linux/s390x";

#[test]
fn a_program_for_another_platform_is_warned_of_or_refused() {
    let fixture = Fixture::new();
    install(&fixture, LIB, "tool", &own_program());
    install(&fixture, LIB, "also", &own_program());
    let file = format!("{LIB}/bin/also");
    let foreign = ["result", "-o", "a.tar", "--cmd", "./x", "--platform", OTHER];
    let (code, _, stderr) = fixture.run("build", &foreign);
    assert_eq!(code, 0, "{stderr}");
    let warning = stderr.lines().find(|line| line.contains(&file)).unwrap();
    assert!(
        warning.starts_with("warning: a store path has programs that linux/s390x cannot run: "),
        "{stderr}"
    );
    fs::remove_file(fixture.file("a.tar")).unwrap();

    let (code, stdout, stderr) = fixture.run("build", &[&foreign[..], &["--strict"]].concat());
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    let told = format!("error: {file} is a program for ");
    assert!(stderr.contains(&told), "{stderr}");
    assert!(stderr.contains("expected one for linux/s390x"), "{stderr}");
    assert_eq!(fixture.new_files(), [""; 0], "nothing is written");
    let recipe = [
        "result",
        "-o",
        "r.json",
        "--cmd",
        "./x",
        "--platform",
        OTHER,
        "--strict",
    ];
    let (code, _, _) = fixture.run("resolve", &recipe);
    assert_eq!((code, fixture.new_files()), (3, Vec::new()));

    let own = ["result", "-o", "a.tar", "--cmd", "./x", "--strict"];
    let (code, _, stderr) = fixture.run("build", &own);
    assert_eq!((code, stderr.contains("warning")), (0, false), "{stderr}");
    // It changes no byte, and has no meaning for an image that is made.
    let (code, _, stderr) = run(fixture.path(), &["load", "a.tar", "--strict"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn what_cannot_start_is_told_with_the_reason() {
    let fixture = Fixture::new();
    let mut program = own_program();
    install(&fixture, LIB, "own", &program);
    // The machine of the header: one that nobody has.
    program[18..20].fill(0x77);
    install(&fixture, LIB, "foreign", &program);
    install(&fixture, LIB, "script", b"#!/usr/bin/env python3\n");
    let link = |target: &str, name: &str| {
        symlink(target, fixture.file(&format!("root{APP}/bin/{name}"))).unwrap();
    };
    link(&format!("{LIB}/bin/script"), "over-there");
    link("loop", "loop");
    link("../../00000000000000000000000000000009-gone/bin/x", "gone");
    for (program, told) in [
        (
            "over-there",
            "is a script for /usr/bin/env, which will not be in the image",
        ),
        ("loop", "is a loop of symlinks"),
        (
            "gone",
            "is in 00000000000000000000000000000009-gone, which is not in the image",
        ),
        ("file/x", "is not there"),
    ] {
        let program = format!("{APP}/bin/{program}");
        let args = ["result", "-o", "a.tar", "--entrypoint", &program];
        let (code, _, stderr) = fixture.run("build", &args);
        let told = format!("warning: the entrypoint {program} {told}");
        assert!(code == 0 && stderr.contains(&told), "{told}\n{stderr}");
        fs::remove_file(fixture.file("a.tar")).unwrap();
        let (code, _, stderr) = fixture.run("build", &[&args[..], &["--strict"]].concat());
        assert_eq!(code, 3, "{stderr}");
        assert!(
            stderr.contains(&told.replace("warning", "error")),
            "{stderr}"
        );
        assert_eq!(fixture.new_files(), [""; 0]);
    }
    let foreign = format!("{LIB}/bin/foreign");
    let args = [
        "result",
        "-o",
        "a.tar",
        "--entrypoint",
        &foreign,
        "--strict",
    ];
    let (code, _, stderr) = fixture.run("build", &args);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("is a program for processor 30583 (ELF)"),
        "{stderr}"
    );
}
