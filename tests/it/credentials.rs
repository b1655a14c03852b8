//! Credential files mean what they mean to the programs that they are from.
//!
//! skopeo tells the user name that it finds in a file of podman or docker, and
//! curl sends what it finds in a netrc file.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;
use nix2oci::credentials::{CredentialFiles, CredentialSource as _, Credentials, Lookup, Netrc};
use nix2oci_tests::command::{output, run};
use serde_json::{Map, Value, json};

/// Keys of `auths` that both understand in the same way.
const KEYS: &[&str] = &[
    "h.io",
    "h.io:5000",
    "h.io/team",
    "h.io/team/app",
    "h.io/te",
    "https://h.io/v1/",
    "http://h.io",
    "https://h.io/v2/",
    "docker.io",
    "docker.io/library",
    "index.docker.io",
    "registry-1.docker.io",
    "https://index.docker.io/v1/",
];

/// Registries and repositories that are asked for.
const ASKED: &[(&str, &str)] = &[
    ("h.io", "team/app"),
    ("h.io", "teams/app"),
    ("h.io:5000", "team/app"),
    ("docker.io", "library/app"),
    ("docker.io", "me/app"),
];

/// Returns a file with entries of these keys; the user's name is the key's
/// place in [`KEYS`].
fn auths(keys: &[usize]) -> Value {
    let entry = |key: &usize| {
        let auth = BASE64.encode(format!("user{key}:secret").as_bytes());
        (KEYS[*key].to_owned(), json!({ "auth": auth }))
    };
    json!({ "auths": keys.iter().map(entry).collect::<Map<_, _>>() })
}

/// Returns the user that is found in a file.
fn ours(file: &Path, helper_dir: &Path, host: &str, repository: &str) -> Option<String> {
    let mut files = CredentialFiles::default();
    files.named = Some(file.to_owned());
    files.helper_dirs = vec![helper_dir.to_owned()];
    match Lookup::new(files).unwrap().find(host, repository).unwrap() {
        Credentials::Password { user, .. } => Some(user),
        Credentials::Anonymous => None,
        other => panic!("{other:?}"),
    }
}

/// Returns the user that skopeo finds in a file.
fn skopeos(file: &Path, helper_dir: &Path, host: &str, repository: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap();
    let found = output(
        Command::new("skopeo")
            .args(["login", "--get-login", "--authfile"])
            .arg(file)
            .arg(format!("{host}/{repository}"))
            .env("PATH", format!("{}:{path}", helper_dir.display())),
    );
    match found {
        Ok(user) => Some(user.trim().to_owned()),
        Err(told) => {
            assert!(told.contains("not logged in"), "{told}");
            None
        }
    }
}

#[test]
fn skopeo_finds_the_same_in_auth_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let compare = |content: &Value, host, repository| {
        fs::write(&file, content.to_string()).unwrap();
        assert_eq!(
            ours(&file, dir.path(), host, repository),
            skopeos(&file, dir.path(), host, repository),
            "{host}/{repository} in {content}"
        );
    };
    for key in 0..KEYS.len() {
        for (host, repository) in ASKED {
            compare(&auths(&[key]), *host, *repository);
        }
    }
    // Several keys fit: not two addresses of one registry, of which it takes
    // either.
    for keys in [
        &[0, 2, 3][..],
        &[0, 2],
        &[0, 1],
        &[2, 5],
        &[0, 5],
        &[4, 0],
        &[8, 9],
        &[8, 12],
        &[9, 12],
    ] {
        for (host, repository) in ASKED {
            compare(&auths(keys), *host, *repository);
        }
    }
}

/// Writes a credential helper that knows one address.
fn helper(dir: &Path, name: &str, address: &str) {
    let program = dir.join(format!("docker-credential-{name}"));
    let script = format!(
        r#"#!/bin/sh
if [ "$(cat)" = {address} ]; then echo '{{"Username":"{name}","Secret":"secret"}}'
else echo credentials not found in native keychain; exit 1; fi
"#
    );
    // By another process: what is open for writing anywhere cannot be started.
    run(Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$0\" && chmod +x \"$0\""])
        .args([program.as_os_str(), script.as_ref()]));
}

#[test]
fn skopeo_asks_the_same_helpers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    helper(dir.path(), "host", "h.io");
    helper(dir.path(), "port", "h.io:5000");
    helper(dir.path(), "hub", "docker.io");
    let mut content = auths(&[0, 1, 2, 8]);
    content["credHelpers"] = json!({ "h.io": "host", "h.io:5000": "hub", "docker.io": "hub" });
    fs::write(&file, content.to_string()).unwrap();
    for (host, repository, user) in [
        ("h.io", "team/app", Some("host")),
        ("h.io:5000", "team/app", None),
        ("docker.io", "library/app", Some("hub")),
    ] {
        let found = ours(&file, dir.path(), host, repository);
        assert_eq!(found.as_deref(), user, "{host}/{repository}");
        let theirs = skopeos(&file, dir.path(), host, repository);
        assert_eq!(found, theirs, "{host}/{repository}");
    }
}

/// Returns the name and the password that curl sends to a host.
fn curls(netrc: &Path, host: &str) -> Option<(String, String)> {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let head = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    run(Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*", "--netrc-file"])
        .arg(netrc)
        .args(["--connect-to", &format!("::{address}")])
        .arg(format!("http://{host}/")));
    let head = head.join().unwrap();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Authorization: Basic "))?;
    let pair = String::from_utf8(BASE64.decode(line.as_bytes()).unwrap()).unwrap();
    let (user, password) = pair.split_once(':').unwrap();
    Some((user.to_owned(), password.to_owned()))
}

#[test]
fn curl_finds_the_same_in_netrc_files() {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("netrc");
    for text in [
        "",
        "machine h.io login me password secret\n",
        "machine h.io\n\tlogin me\n\tpassword secret\n",
        "machine H.IO login me password secret",
        "machine other.io login you password no\nmachine h.io login me password secret\n",
        "machine other.io login you password no\ndefault login me password secret\n",
        "machine h.io login me password secret\nmachine h.io login you password no\n",
        "# machine h.io login you password no\nmachine h.io login me password secret # login no\n",
        "machine h.io login \"me too\" password \"a \\\"b\\\" \\\\ c\"\n",
        "macdef init\nmachine h.io login you password no\n\nmachine h.io login me password s\n",
        "machine h.io account x login me password secret\n",
        "machine other.io login you password no\n",
    ] {
        fs::write(&file, text).unwrap();
        let ours = Netrc::parse(text.as_bytes(), "netrc").unwrap().find("h.io");
        let ours = ours.map(|found| match found {
            Credentials::Password { user, password } => (user, password.reveal().to_owned()),
            other => panic!("{other:?}"),
        });
        assert_eq!(ours, curls(&file, "h.io"), "{text}");
    }
}
