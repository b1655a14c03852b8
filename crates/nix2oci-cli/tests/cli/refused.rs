//! Command lines that are refused, and what the user is told.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{APP, Fixture, LIB, run};

/// Arguments after `nix2oci build` with the fixture's closure, the exit code,
/// and a part of what is told.
const REFUSED: &[(i32, &[&str], &str)] = &[
    (2, &["result"], "--output <DEST>"),
    (
        2,
        &["result", "-o", "x", "--max-layers", "126"],
        "of at most 125 layers",
    ),
    (
        2,
        &["result", "-o", "x", "--layers", "best"],
        "expected one of cost, largest, popularity",
    ),
    (
        2,
        &["result", "-o", "x", "--closure", "best"],
        "expected one of attrs:FILE",
    ),
    (
        2,
        &["result", "-o", "x", "--compression", "lz4"],
        "expected none, gzip[:1-9]",
    ),
    (2, &["result", "-o", "best:x"], "is not a destination"),
    (
        2,
        &["result", "-o", "archive:a:b.tar"],
        "such as ./a:b without archive:",
    ),
    (
        2,
        &["result", "-o", "docker:a/b"],
        "a registry is written docker://",
    ),
    (
        2,
        &["result", "-o", "docker-daemon:a"],
        "hint: `nix2oci load … docker` hands",
    ),
    (
        2,
        &["result", "-o", "podman:a"],
        "podman: is unknown; expected docker://HOST/REPOSITORY[:TAG], oci:DIR[:TAG], ",
    ),
    (
        2,
        &["result", "-o", "podman:a"],
        "hint: `nix2oci load … podman` hands",
    ),
    (
        3,
        &["result", "-o", "x", "--from", "debian:12"],
        "there is no file debian:12\n\nhint: an image of a registry is written docker://debian:12",
    ),
    (
        3,
        &["result", "-o", "x", "--leave-out", LIB],
        "-lib: /nix/store/00000000000000000000000000000001-app refers to it\n",
    ),
    (
        3,
        &[
            "result",
            "-o",
            "x",
            "--leave-out",
            "/nix/store/00000000000000000000000000000002-gone",
        ],
        "-gone: it is not in the closure\n",
    ),
    (
        2,
        &["result", "-o", "x", "--stop-signal", "BOGUS"],
        "stop signal \"BOGUS\": expected a name such as SIGTERM",
    ),
    (
        2,
        &["result", "-o", "x", "--volume", "/a:/b"],
        "volume \"/a:/b\": expected a path in the image alone",
    ),
    (
        2,
        &["result", "-o", "x", "--user", "a b"],
        "user \"a b\": expected USER[:GROUP]",
    ),
    (
        2,
        &["result", "-o", "x", "--env", "HOME"],
        "--env: \"HOME\" has no value, expected NAME=VALUE\n\nhint: the environment of this",
    ),
    (
        3,
        &["result", "-o", "x", "--env-file", "env-space"],
        "env-space, line 2: the name has a space in it",
    ),
    (
        2,
        &["result", "-o", "x", "-t", "app"],
        "tip: --name says the image's name, --tag a tag of it",
    ),
    (
        2,
        &["result", "-o", "x", "--dest-tls-verify=false"],
        "tip: --tls-verify=false is for all registries of the command",
    ),
    (
        3,
        &["docker://h.io/app", "-o", "x"],
        "hint: that is an image and no store path: --from docker://h.io/app builds on it",
    ),
    (
        2,
        &["result", "-o", "x", "--created", "2024"],
        "expected 2024-01-01 for the year, or @2024 for seconds since 1970",
    ),
    (
        2,
        &["result", "-o", "x", "--name", "docker://a/b"],
        "has no scheme: say a/b",
    ),
    (
        2,
        &["result", "-o", "x", "--compression", "gz"],
        "is gzip meant?",
    ),
    (
        2,
        &["result", "-o", "x", "--compression", "zstd:22"],
        "it has no such level",
    ),
    (
        2,
        &["result", "-o", "x", "--threads", "0"],
        "expected a number from 1",
    ),
    (
        2,
        &["result", "-o", "x", "--max-layers", "-1"],
        "expected a number from 1 to 125",
    ),
    (
        2,
        &["result", "-o", "x", "--created", "2024-13-01"],
        "expected a time since 1970, such as 2024-05-01, ",
    ),
    (
        3,
        &["github:owner/app", "-o", "x"],
        "hint: flake references are for Nix",
    ),
    (
        3,
        &["path:.", "-o", "x"],
        "hint: flake references are for Nix",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "graph:list"],
        "this is a plain list of store paths",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "graph:zeros"],
        "\\0\"… is not in the store directory",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "path-info:one.json"],
        "was it written with --recursive?",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "db:none"],
        "hint: is Nix's state elsewhere?",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "db:root"],
        "hint: is it a database of Nix, and whole?",
    ),
    (
        2,
        &["-o", "x", "--tag", "a"],
        "hint: say --name as well: only a single root",
    ),
    (
        2,
        &["result", "-o", "x", "--annotation", "index:a=b"],
        "an image of one platform has a manifest only",
    ),
    (
        2,
        &["result", "-o", "x", "--closure", "graph:-", "--config", "-"],
        "--config - and --closure graph:- both want standard input",
    ),
    (
        2,
        &["result", "-o", "x", "--name", "A"],
        "must be in lower case",
    ),
    (
        2,
        &["result", "-o", "x", "--env", "A"],
        "expected NAME=VALUE",
    ),
    (
        2,
        &["result", "-o", "x", "--mtime", "now"],
        "only --created takes now",
    ),
    (
        2,
        &["result", "-o", "x", "--platform", "amd64"],
        "such as linux/amd64",
    ),
    (
        2,
        &["result", "-o", "x", "--cmd", "[a"],
        "a JSON array of strings",
    ),
    (2, &["result", "-o", "x", "-q", "-v"], "cannot be used with"),
    (
        2,
        &["result", "-o", "-", "--json"],
        "hint: --metadata-file FILE",
    ),
    (
        2,
        &["result", "-o", "-", "--digest-file", "-"],
        "--output and --digest-file both want standard output",
    ),
    (
        2,
        &["result", "-o", "/dev/stdout", "--metadata-file", "-"],
        "--output and --metadata-file both want standard output",
    ),
    (
        2,
        &[
            "result",
            "-o",
            "x",
            "--json",
            "--metadata-file",
            "/dev/stdout",
        ],
        "--json and --metadata-file both want standard output",
    ),
    (3, &["nowhere", "-o", "x"], "hint: is it built?"),
    (
        3,
        &["nixpkgs#app", "-o", "x"],
        "hint: flake references are for Nix",
    ),
    (
        3,
        &["graph.json", "-o", "x"],
        "neither in the store /nix/store nor a symlink",
    ),
    (
        3,
        &["result/bin", "-o", "x"],
        "hint: only whole store paths have a closure; say /nix/store/0",
    ),
    (
        3,
        &[
            "/nix/store/00000000000000000000000000000001-app/bin",
            "-o",
            "x",
        ],
        "lies inside of a store path",
    ),
    (
        3,
        &["/nix/store/00000000000000000000000000000002-b", "-o", "x"],
        "is not known to graph.json\n\nhint: graph.json does not list it",
    ),
    (
        3,
        &["/nix/store/app", "-o", "x"],
        "expected 32 digits of hash",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "attrs:no.json"],
        "failed to read no.json\n  caused by: No such file",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "attrs:broken.json"],
        "error: broken.json",
    ),
    (
        3,
        &["result", "-o", "x", "--config", "broken.json"],
        "error: broken.json",
    ),
    (
        3,
        &["result", "-o", "x", "--config", "/dev/zero"],
        "error: /dev/zero: found more, expected at most",
    ),
    (
        3,
        &["result", "-o", "x", "--root-tree", "/dev/zero"],
        "error: /dev/zero: found more, expected at most",
    ),
    (
        3,
        &["result", "-o", "x", "--closure", "registration:huge"],
        "error: huge: found 2000000000 bytes, expected at most",
    ),
    (
        3,
        &["-o", "x", "--contents", "result", "--max-layers", "1"],
        "hint: raise --max-layers",
    ),
    (
        3,
        &["result", "-o", "x", "--layer", "a=nowhere"],
        "--layer a: nowhere cannot be found",
    ),
    (4, &["result", "-o", "no/x"], "failed to create no/x"),
    (
        4,
        &["result", "-o", "x", "--digest-file", "no/x"],
        "failed to create no/x\n  caused by: No such file",
    ),
    (5, &["result", "-o", "x", "--verify"], "NAR hash"),
];

#[test]
fn what_is_refused_has_a_code_and_a_reason_and_leaves_nothing() {
    let fixture = Fixture::new();
    let one = json!([{"path": APP, "references": [LIB], "narSize": 500}]).to_string();
    fs::create_dir(fixture.file("root/db")).unwrap();
    for (name, text) in [
        ("broken.json", "{"),
        ("list", &format!("{APP}\n{LIB}\n{APP}\n")),
        ("zeros", &"\0".repeat(5000)),
        ("one.json", &one),
        ("env-space", "A=1\nexport B=2\n"),
        ("root/db/db.sqlite", "no database, but longer than nothing"),
    ] {
        fs::write(fixture.file(name), text).unwrap();
    }
    let huge = fs::File::create(fixture.file("huge")).unwrap();
    huge.set_len(2_000_000_000).unwrap();
    let files = fixture.new_files();
    for (code, args, told) in REFUSED {
        let (found, stdout, stderr) = fixture.run("build", args);
        assert_eq!((found, stdout.as_str()), (*code, ""), "{args:?}\n{stderr}");
        assert!(stderr.contains(told), "{args:?}\n{stderr}");
        assert_eq!(fixture.new_files(), files, "{args:?}");
        assert!(stderr.len() < 1000, "{stderr}");
    }
    let (code, _, stderr) = run(Path::new("/"), &["pull", "x"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("unrecognized subcommand 'pull'"),
        "{stderr}"
    );
}

#[test]
fn a_push_refuses_what_it_would_ignore() {
    let fixture = Fixture::new();
    fs::write(fixture.file("recipe.json"), "{\"version\": 1}").unwrap();
    for (args, told) in [
        (
            &["result", "docker://h.io/a", "--tag", "b"][..],
            "--tag has no meaning",
        ),
        (
            &["result", "docker://h.io/a", "--name", "b"],
            "--name has no meaning",
        ),
        (
            &["oci:layout", "docker://h.io/a", "--entrypoint", "/x"],
            "--entrypoint changes what is in an image",
        ),
        (
            &["recipe.json", "docker://h.io/a", "--compression", "zstd"],
            "--compression changes what is in an image",
        ),
        (&["result", "dockr://h.io/a"], "it begins with docker://"),
        (&["result", "h.io/team/a"], "is docker://h.io/team/a meant?"),
        (
            &["result", "docker://h.io/a", "docker://h.io/b"],
            "one repository",
        ),
    ] {
        let mut all = vec!["push"];
        all.extend(args);
        let (code, stdout, stderr) = run(fixture.path(), &all);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}\n{stderr}");
        assert!(stderr.contains(told), "{args:?}\n{stderr}");
    }
}
