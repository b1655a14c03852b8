//! Tests of the order of places.

use std::os::unix::fs::PermissionsExt as _;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::*;
use crate::credentials::script::script;

/// A directory with places in it.
struct Home {
    dir: tempfile::TempDir,
    files: CredentialFiles,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = CredentialFiles {
            defaults: vec![dir.path().join("auth.json"), dir.path().join("config.json")],
            legacy: Some(dir.path().join(".dockercfg")),
            netrc: Some(dir.path().join(".netrc")),
            helper_dirs: vec![dir.path().join("bin")],
            ..CredentialFiles::default()
        };
        fs::create_dir(dir.path().join("bin")).unwrap();
        Self { dir, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &Value) {
        fs::write(self.path(name), content.to_string()).unwrap();
    }

    /// Puts a helper there that counts how often it runs.
    fn helper(&self, name: &str, body: &str) {
        let runs = self.path(&format!("{name}.runs"));
        script(
            &self.path(&format!("bin/{PREFIX}{name}")),
            &format!("echo run >> {}; {body}", runs.display()),
        );
    }

    fn runs(&self, name: &str) -> usize {
        let runs = fs::read_to_string(self.path(&format!("{name}.runs")));
        runs.map_or(0, |runs| runs.lines().count())
    }

    fn lookup(&self) -> Lookup {
        Lookup::new(self.files.clone()).unwrap()
    }

    fn user(&self, host: &str) -> String {
        user(&self.lookup(), host)
    }
}

fn user(lookup: &Lookup, host: &str) -> String {
    match lookup.find(host, "team/app") {
        Ok(Credentials::Password { user, .. }) => user,
        Ok(Credentials::Anonymous) => "nobody".to_owned(),
        Ok(other) => panic!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

fn auths(host: &str, user: &str) -> Value {
    json!({ "auths": { host: { "auth": BASE64.encode(format!("{user}:hunter2").as_bytes()) } } })
}

const ANSWER: &str = r#"echo '{"Username":"helped","Secret":"hunter2"}'"#;

#[test]
fn the_first_place_that_knows_wins() {
    let mut home = Home::new();
    assert_eq!(home.user("h.io"), "nobody");
    fs::write(home.path(".netrc"), "machine h.io login netrc password p").unwrap();
    assert_eq!(home.user("h.io"), "netrc");
    let text = auths("h.io", "text").to_string();
    home.files.auth_config = Some(Secret::new(text));
    assert_eq!(home.user("h.io"), "text");
    let legacy = auths("h.io", "legacy")["auths"].take();
    home.write(".dockercfg", &legacy);
    assert_eq!(home.user("h.io"), "legacy");
    home.write("config.json", &auths("h.io", "docker"));
    assert_eq!(home.user("h.io"), "docker");
    home.write("auth.json", &auths("h.io", "podman"));
    assert_eq!(home.user("h.io"), "podman");
    home.write("named.json", &auths("h.io", "named"));
    home.files.named = Some(home.path("named.json"));
    assert_eq!(home.user("h.io"), "named");
    home.files.given = Some((
        "h.io".to_owned(),
        Credentials::new("given", Secret::new("p")),
    ));
    assert_eq!(home.user("h.io"), "given");
}

#[test]
fn given_credentials_go_to_their_registry_alone() {
    let mut home = Home::new();
    let given = Credentials::new("given", Secret::new("p"));
    home.files.given = Some(("docker.io".to_owned(), given));
    assert_eq!(home.user("docker.io"), "given");
    assert_eq!(home.user("registry-1.docker.io"), "given");
    assert_eq!(home.user("docker.io.evil.example"), "nobody");
    assert_eq!(home.user("ghcr.io"), "nobody");
}

#[test]
fn a_named_file_stands_alone_and_must_be_there() {
    let mut home = Home::new();
    home.write("config.json", &auths("h.io", "docker"));
    home.write("named.json", &auths("other.io", "named"));
    home.files.named = Some(home.path("named.json"));
    assert_eq!(home.user("h.io"), "nobody");
    assert_eq!(home.user("other.io"), "named");

    home.files.named = Some(home.path("missing.json"));
    let error = Lookup::new(home.files.clone()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ReadInput { .. }));
    assert!(error.to_string().ends_with("missing.json"), "{error}");
}

#[test]
fn what_is_read_once_is_kept() {
    let home = Home::new();
    home.write(
        "config.json",
        &json!({ "credHelpers": { "h.io": "test", "other.io": "test" } }),
    );
    home.helper("test", ANSWER);
    let lookup = home.lookup();
    for _ in 0..3 {
        assert_eq!(user(&lookup, "h.io"), "helped");
        fs::write(home.path("config.json"), "broken").unwrap();
    }
    assert_eq!(home.runs("test"), 1);
    assert_eq!(user(&lookup, "other.io"), "helped");
    assert_eq!(home.runs("test"), 2, "another address is another question");

    home.write("config.json", &json!({ "credsStore": "test" }));
    let lookup = &home.lookup();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || assert_eq!(user(lookup, "third.io"), "helped"));
        }
    });
    assert_eq!(home.runs("test"), 3);
}

#[test]
fn a_helper_that_knows_nothing_leaves_it_to_the_next_place() {
    let home = Home::new();
    home.write("auth.json", &json!({ "credHelpers": { "h.io": "test" } }));
    home.helper(
        "test",
        "echo credentials not found in native keychain; exit 1",
    );
    assert_eq!(home.user("h.io"), "nobody");
    home.write("config.json", &auths("h.io", "docker"));
    assert_eq!(home.user("h.io"), "docker");
}

#[test]
fn a_helper_that_fails_ends_the_search() {
    let home = Home::new();
    home.write("auth.json", &json!({ "credHelpers": { "h.io": "test" } }));
    home.write("config.json", &auths("h.io", "docker"));
    let file = home.path("auth.json");
    let told = |problem: &str| {
        let file = file.display();
        format!(
            "no credentials for h.io from docker-credential-test, which {file} names: {problem}"
        )
    };
    assert_eq!(home.user("h.io"), told("there is no such program in PATH"));
    home.helper("test", "echo no network >&2; exit 1");
    assert_eq!(
        home.user("h.io"),
        told("it ended with exit code 1: no network")
    );
    let error = home.lookup().find("h.io", "app").unwrap_err();
    assert_eq!(error.class(), crate::error::ErrorClass::Denied);
}

#[test]
fn a_store_that_is_not_installed_is_an_error_only_if_nobody_knows() {
    let home = Home::new();
    home.write("config.json", &json!({ "credsStore": "desktop" }));
    assert!(home.user("h.io").contains("docker-credential-desktop"));
    fs::write(home.path(".netrc"), "machine h.io login netrc password p").unwrap();
    assert_eq!(home.user("h.io"), "netrc");
}

#[test]
fn a_broken_file_is_an_error_when_it_is_reached() {
    let home = Home::new();
    fs::write(home.path("config.json"), "{\"auths\": hunter2}").unwrap();
    let told = home.user("h.io");
    assert!(
        told.contains("config.json, line 1, column 11: not JSON"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
    home.write("auth.json", &auths("h.io", "podman"));
    assert_eq!(home.user("h.io"), "podman");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_a_closed_directory_is_none() {
    let home = Home::new();
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("auth.json"), "{}").unwrap();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    assert!(
        !is_absent(&closed.join("auth.json"), &denied()),
        "it can be seen"
    );
    assert!(is_absent(
        &closed.join("no/file"),
        &io::ErrorKind::NotFound.into()
    ));
    // Nothing is closed to root.
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        assert!(is_absent(&closed.join("auth.json"), &denied()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn debug_shows_no_secret() {
    let mut home = Home::new();
    home.write("named.json", &auths("h.io", "named"));
    home.files.named = Some(home.path("named.json"));
    home.files.auth_config = Some(Secret::new("hunter2"));
    home.files.given = Some((
        "h.io".to_owned(),
        Credentials::new("given", Secret::new("hunter2")),
    ));
    let told = format!("{:?} {:?}", home.files, home.lookup());
    assert!(told.contains("named.json"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}
