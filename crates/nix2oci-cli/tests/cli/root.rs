//! What is at the root, as it is asked for and refused.

use super::*;

/// Writes a document and plans with it; returns the exit code and standard
/// error.
fn plan(fixture: &Fixture, document: &Value, args: &[&str]) -> (i32, String) {
    fs::write(fixture.file("root.json"), document.to_string()).unwrap();
    let all = [&["result", "--root-tree", "root.json"], args].concat();
    let (code, _, stderr) = fixture.run("plan", &all);
    (code, stderr)
}

/// The same with `build`, into `a.tar`.
fn build(fixture: &Fixture, document: &Value, args: &[&str]) -> (i32, String) {
    fs::write(fixture.file("root.json"), document.to_string()).unwrap();
    let all = [&["result", "--root-tree", "root.json", "-o", "a.tar"], args].concat();
    let (code, _, stderr) = fixture.run("build", &all);
    (code, stderr)
}

#[test]
fn what_a_document_says_wrong_is_told_with_its_key() {
    let fixture = Fixture::new();
    for (document, expected) in [
        (
            json!({"version": 1, "fils": []}),
            "error: root.json, key fils: it is not a known key; known are version,",
        ),
        (
            json!({"version": 1, "copies": [{"source": format!("{LIB}/sbin")}]}),
            "error: root.json, key copies[0].source: the copy of /nix/store/",
        ),
        (
            json!({"version": 1, "files": [{"path": "/x", "source": format!("{LIB}/bin")}]}),
            "it is a directory, expected a file: copies take directories",
        ),
        (
            json!({"version": 1, "binSh": format!("{LIB}/bin/sh")}),
            "error: root.json, key binSh: /nix/store/",
        ),
        (
            json!({"version": 1, "timezone": {"name": "UTC", "data": LIB}}),
            "error: root.json, key timezone.data: /nix/store/",
        ),
        (
            json!({"version": 1, "directories": [{"path": "/x", "owner": "app"}]}),
            "error: root.json, key directories[0].owner: \"app\" is no user",
        ),
        (
            json!({"version": 1, "binSh": format!("{}x", LIB.replace("00-", "0f-"))}),
            "is not known to graph.json",
        ),
    ] {
        let (code, stderr) = plan(&fixture, &document, &[]);
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn two_that_say_different_things_are_both_named() {
    let fixture = Fixture::new();
    let file = |text: &str| json!({"version": 1, "files": [{"path": "/etc/x", "text": text}]});
    fs::write(fixture.file("other.json"), file("1").to_string()).unwrap();
    let other = ["--root-tree", "other.json"];
    let (code, stderr) = plan(&fixture, &file("1"), &other);
    assert_eq!(code, 0, "{stderr}");
    let (code, stderr) = plan(&fixture, &file("2"), &other);
    assert_eq!(code, 3, "{stderr}");
    let message = "error: /etc/x comes from both root.json and other.json, which differ";
    assert!(stderr.contains(message), "{stderr}");
    let (code, stderr) = plan(&fixture, &file("1"), &["--root-tree", "-", "--config", "-"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("both want standard input"), "{stderr}");
    let hidden = json!({"version": 1, "files": [{"path": format!("{APP}/x"), "text": ""}]});
    let (code, stderr) = plan(&fixture, &hidden, &[]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("would hide what is in /nix/store"),
        "{stderr}"
    );
}

#[test]
fn a_stored_image_has_its_root() {
    let fixture = Fixture::new();
    let (code, _, stderr) = fixture.run("build", &["result", "-o", "oci:out:1"]);
    assert_eq!(code, 0, "{stderr}");
    for option in ["--root-tree", "--copy-to-root"] {
        let args = ["load", "oci:out:1", "podman", option, "result"];
        let (code, _, stderr) = run(fixture.path(), &args);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(&format!("{option} changes what is in an image")));
    }
}

#[test]
fn one_document_that_contradicts_itself_is_named_once() {
    let fixture = Fixture::new();
    let files = [
        json!({"path": "/x", "text": "1"}),
        json!({"path": "/x", "text": "2"}),
    ];
    let (code, stderr) = plan(&fixture, &json!({"version": 1, "files": files}), &[]);
    let expected = "error: /x is twice in root.json, and not the same";
    assert!(code == 3 && stderr.contains(expected), "{stderr}");

    let directories = |second: Value| {
        let first = json!({"path": "/d", "mode": "0700", "owner": "1:1"});
        json!({"version": 1, "directories": [first, second]})
    };
    for second in [
        json!({"path": "/d", "mode": "0755"}),
        json!({"path": "/d", "owner": "2:2"}),
    ] {
        let (code, stderr) = plan(&fixture, &directories(second), &[]);
        let expected = "error: /d is twice in root.json, and not the same";
        assert!(code == 3 && stderr.contains(expected), "{stderr}");
    }
    let (code, stderr) = plan(&fixture, &directories(json!({"path": "/d"})), &[]);
    assert_eq!(code, 0, "{stderr}");

    let linked = json!({
        "version": 1,
        "files": [{"path": "/a/x", "text": ""}],
        "symlinks": [{"path": "/a", "target": "/b"}],
    });
    let (code, stderr) = plan(&fixture, &linked, &[]);
    let expected = "error: /a of root.json: it is a symbolic link to /b, so it cannot be a \
                    directory: say what is below it where the link leads";
    assert!(code == 3 && stderr.contains(expected), "{stderr}");
}

#[test]
fn a_store_path_that_is_linked_and_copied_names_both_options() {
    let fixture = Fixture::new();
    let args = ["--contents", "result", "--copy-to-root", "result"];
    let (code, stderr) = plan(&fixture, &json!({"version": 1}), &args);
    let expected = "error: /bin/file is twice at the root: --contents links it into ";
    assert!(code == 3 && stderr.contains(expected), "{stderr}");
}

#[test]
fn users_of_one_number_are_warned_of() {
    let fixture = Fixture::new();
    let users = [
        json!({"name": "a", "uid": 7}),
        json!({"name": "b", "uid": 7}),
    ];
    let (code, stderr) = plan(&fixture, &json!({"version": 1, "users": users}), &[]);
    let expected = "warning: the users a and b have one number, 7: to Linux they are one";
    assert!(code == 0 && stderr.contains(expected), "{stderr}");
}

#[test]
fn a_root_that_needs_more_store_paths_leaves_the_name_of_the_one_root() {
    let fixture = Fixture::new();
    let (code, _, stderr) = fixture.run("build", &["result", "--contents", LIB, "-o", "a.tar"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("a.tar: localhost/app:"), "{stderr}");
    let two = ["result", LIB, "-o", "b.tar"];
    let (code, _, stderr) = fixture.run("build", &two);
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("localhost/"), "{stderr}");
}

#[test]
fn files_alone_and_a_base_alone_make_an_image() {
    let fixture = Fixture::new();
    let document = json!({"version": 1, "files": [{"path": "/etc/x", "text": "x"}]});
    fs::write(fixture.file("root.json"), document.to_string()).unwrap();
    let alone = [
        "build",
        "--root-tree",
        "root.json",
        "--name",
        "x",
        "-o",
        "a.tar",
    ];
    let (code, _, stderr) = run(fixture.path(), &alone);
    assert_eq!(code, 0, "{stderr}");
    let base = [
        "build", "--from", "a.tar", "--env", "A=1", "--name", "y", "-o", "b.tar",
    ];
    let (code, _, stderr) = run(fixture.path(), &base);
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = run(fixture.path(), &["inspect", "b.tar", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(told["layers"].as_array().unwrap().len(), 1, "{stdout}");
    let (code, _, stderr) = run(fixture.path(), &["build", "--name", "x", "-o", "c.tar"]);
    assert!(code == 2 && stderr.contains("no ROOT is given"), "{stderr}");
}

#[test]
fn a_rule_about_nothing_is_warned_of() {
    let fixture = Fixture::new();
    let warning = |glob: &str| {
        let rules = [json!({"glob": glob, "mode": "4755"})];
        let (code, stderr) = build(&fixture, &json!({"version": 1, "rules": rules}), &[]);
        assert_eq!(code, 0, "{stderr}");
        stderr.contains(&format!(
            "the rule for {glob:?} is about nothing in the image"
        ))
    };
    assert!(warning("/nix/store/*-sudo-*/bin/sudo"));
    assert!(warning("/etc/shadow"));
    for glob in [&format!("{LIB}/bin/*"), "/nix", "/", "**/bin/su"] {
        assert!(!warning(glob), "{glob}");
    }
}

#[test]
fn a_user_whom_the_image_does_not_know_is_warned_of() {
    let fixture = Fixture::new();
    let none = json!({"version": 1, "tmp": true});
    let app = json!({"version": 1, "users": [{"name": "app", "uid": 1000}]});
    for (document, user, told) in [
        (&none, "app", Some("the user app is not in /etc/passwd")),
        (&none, "root", Some("the user root is not in /etc/passwd")),
        (
            &none,
            "1000:video",
            Some("the group video is not in /etc/group"),
        ),
        (&none, "1000:100", None),
        (&app, "app", None),
        (&app, "app:app", None),
        (&app, "root", None),
        (&app, "ap", Some("the user ap is not in /etc/passwd")),
    ] {
        let args = ["--user", user, "--cmd", "./x"];
        let (code, stderr) = build(&fixture, document, &args);
        assert_eq!(code, 0, "{stderr}");
        let is_told = stderr.contains("of the image, so nothing can start");
        assert_eq!(is_told, told.is_some(), "{user}: {stderr}");
        assert!(
            stderr.contains(told.unwrap_or_default()),
            "{user}: {stderr}"
        );
    }
    fs::remove_file(fixture.file("a.tar")).unwrap();
    let strict = [
        "result", "-o", "a.tar", "--cmd", "./x", "--user", "app", "--strict",
    ];
    let (code, _, stderr) = fixture.run("build", &strict);
    assert!(
        code == 3 && stderr.contains("error: the user app"),
        "{stderr}"
    );
    assert!(!fixture.file("a.tar").exists());
}
