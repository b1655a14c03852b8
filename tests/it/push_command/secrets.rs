//! No password, token or session of a registry is said anywhere: not on
//! standard output, not in messages, not in files, not in the list of
//! processes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use nix2oci_tests::FakeRegistry;
use nix2oci_tests::fake_registry::{AuthScheme, FakeAuth, Fault};
use nix2oci_tests::http_server::Answer;
use serde_json::json;

use super::{Push, Workload};

const PASSWORD: &str = "Zk7-password-of-the-test";
const IDENTITY: &str = "Zk7-identity-token-of-the-test";

fn registry(scheme: AuthScheme) -> FakeRegistry {
    let auth = match scheme {
        AuthScheme::Bearer => FakeAuth::bearer(),
        _ => FakeAuth::basic(),
    };
    FakeRegistry::start_with_auth(FakeAuth {
        password: PASSWORD.to_owned(),
        identity_token: Some(IDENTITY.to_owned()),
        ..auth
    })
}

/// What must not be said: what the user gave, what travels, and what the
/// registry gave.
fn secrets(registry: &FakeRegistry) -> Vec<String> {
    let mut secrets = vec![
        "Zk7".to_owned(),
        BASE64.encode(format!("user:{PASSWORD}").as_bytes()),
        BASE64.encode(PASSWORD.as_bytes()),
        "_state=".to_owned(),
    ];
    for entry in registry.log().entries() {
        let sent = entry.authorization().map(|sent| sent.split_once(' '));
        secrets.extend(sent.flatten().map(|(_, secret)| secret.to_owned()));
    }
    secrets.sort();
    secrets.dedup();
    secrets
}

/// Runs a push with a lot of talk, and reads all that it says and leaves.
#[track_caller]
fn assert_silent(registry: &FakeRegistry, push: Push, input: Option<&str>, code: i32) {
    let metadata = push.home().join("metadata.json");
    let mut push = push.args(&["-vv", "--json", "--retry", "1"]);
    push.command.arg("--metadata-file").arg(&metadata);
    push.command.stdin(Stdio::piped());
    let start = Instant::now();
    let mut child = push.spawn();
    let mut stdin = child.stdin.take().expect("it was asked for");
    // It may not read it.
    let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    drop(stdin);
    let finished = push.finish(child, start);
    assert_eq!(finished.code, Some(code), "{}", finished.stderr);
    let secrets = secrets(registry);
    let sent = registry.log().entries();
    assert!(sent.iter().any(|entry| entry.authorization().is_some()));
    let metadata = fs::read_to_string(metadata).unwrap_or_default();
    for text in [&finished.stdout, &finished.stderr, &metadata] {
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} is said: {text}");
        }
    }
}

/// A file with the user's password or an identity token.
fn authfile(push: &Push, host: &str, entry: serde_json::Value) -> String {
    let file = push.home().join("authfile.json");
    fs::write(&file, json!({"auths": {host: entry}}).to_string()).unwrap();
    file.display().to_string()
}

#[test]
fn secrets_are_not_said_however_a_push_ends() {
    let workload = Workload::small();
    // Some registries and proxies repeat what they were sent.
    let echo = |registry: &FakeRegistry| {
        let basic = BASE64.encode(format!("user:{PASSWORD}").as_bytes());
        let host = registry.host();
        let page = format!("<p>bad request of {host}</p>");
        let location = format!("http://user:{PASSWORD}@{host}/v2/x?_state=1&sig={basic}");
        Fault::on("POST", "/blobs/uploads/").answer(move || {
            Answer::new(500)
                .header("Content-Type", "text/html")
                .header("Location", location.clone())
                .body(&page)
        })
    };
    type Trouble<'a> = &'a dyn Fn(&FakeRegistry) -> Option<Fault>;
    let troubles: [(Trouble<'_>, i32); 7] = [
        (&|_| None, 0),
        (&|registry| Some(echo(registry)), 7),
        (
            &|_| Some(Fault::on("POST", "/blobs/uploads/").status(403, &[])),
            6,
        ),
        (&|_| Some(Fault::on("PUT", "/blobs/uploads/").reset()), 7),
        (
            &|_| Some(Fault::on("PATCH", "/blobs/uploads/").status(416, &[])),
            0,
        ),
        (
            &|_| Some(Fault::on("PUT", "/manifests/").status(401, &[])),
            6,
        ),
        (
            &|_| {
                let elsewhere = "http://10.0.0.1/v2/?_state=Zk7";
                Some(Fault::on("POST", "/blobs/uploads/").status(202, &[("Location", elsewhere)]))
            },
            7,
        ),
    ];
    for scheme in [AuthScheme::Basic, AuthScheme::Bearer] {
        for (trouble, code) in &troubles {
            for progress in ["plain", "json"] {
                let registry = registry(scheme);
                if let Some(fault) = trouble(&registry) {
                    registry.fault(fault);
                }
                let name = format!("{}/app:v1", registry.host());
                let push = workload.push(1, &name).args(&["--progress", progress]);
                if progress == "plain" {
                    let push = push.args(&["--creds-stdin"]);
                    let typed = format!("user:{PASSWORD}\n");
                    assert_silent(&registry, push, Some(&typed), *code);
                } else {
                    let auth = BASE64.encode(format!("user:{PASSWORD}").as_bytes());
                    let file = authfile(&push, &registry.host(), json!({"auth": auth}));
                    assert_silent(&registry, push.args(&["--authfile", &file]), None, *code);
                }
            }
        }
    }
}

#[test]
fn identity_tokens_and_wrong_passwords_are_not_said() {
    let workload = Workload::small();
    let registry = registry(AuthScheme::Bearer);
    let name = format!("{}/app:v1", registry.host());
    let push = workload.push(1, &name);
    let file = authfile(&push, &registry.host(), json!({"identitytoken": IDENTITY}));
    assert_silent(&registry, push.args(&["--authfile", &file]), None, 0);

    let push = workload.push(1, &name).args(&["--creds-stdin"]);
    assert_silent(&registry, push, Some("user:Zk7-wrong\n"), 6);
    // A file that cannot be read is named, not quoted.
    let push = workload.push(1, &name);
    let file = push.home().join("authfile.json");
    fs::write(
        &file,
        format!("{{\"auths\": {{\"h.io\": {{\"auth\": \"{PASSWORD}"),
    )
    .unwrap();
    let push = push.args(&["--authfile", file.to_str().unwrap()]);
    let said = push.fail(3, &["authfile.json"]);
    assert!(!said.contains("Zk7"), "{said}");
}

/// `--creds` are for the registry that is written to, also if an image that is
/// elsewhere is planned on from; and standard input is read once.
#[test]
fn credentials_go_to_no_registry_of_a_kept_image() {
    let workload = Workload::small().planned("cost");
    let (here, there) = (registry(AuthScheme::Basic), registry(AuthScheme::Basic));
    let [name, other] = [&here, &there].map(|r| format!("docker://{}/app:v1", r.host()));
    let given = ["--creds".to_owned(), format!("user:{PASSWORD}")];
    let given = [&*given[0], &*given[1], "--keep-layers", &*other];
    let push = workload.push(1, &name["docker://".len()..]).args(&given);
    push.fail(6, &[&there.host()]);
    let mut plan = Push::verb("plan");
    plan.command.args(workload.image(1));
    plan.args(&given)
        .args(&["--against", &name])
        .fail(6, &[&there.host()]);
    // Without a registry of its own, a verb is not told which of two is meant.
    let mut plan = Push::verb("plan");
    plan.command.args(workload.image(1));
    let plan = plan.args(&given).args(&["--share-layers", &name]);
    plan.fail(2, &["--creds are for one registry"]);
    let sent = there.log().entries();
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|entry| entry.authorization().is_none()));

    let push = workload.push(1, &name["docker://".len()..]);
    let push = push.args(&["--creds-stdin", "--keep-layers", &name]);
    assert_silent(&here, push, Some(&format!("user:{PASSWORD}\n")), 0);
}

/// A credential helper gets the name of the registry on its standard input and
/// answers on its standard output; neither it nor we have a secret among our
/// arguments or in our environment, at any time.
#[test]
fn the_list_of_processes_has_no_secret() {
    let workload = Workload::small();
    let registry = registry(AuthScheme::Bearer);
    registry.fault(Fault::on("POST", "/blobs/uploads/").stall(Duration::from_secs(1)));
    let host = registry.host();
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let answer = json!({"ServerURL": host, "Username": "user", "Secret": PASSWORD});
    let script = format!(
        "#!/bin/sh\nread -r host\n\
         for process in $$ $PPID; do\n\
         tr '\\0' '\\n' < /proc/$process/cmdline\n\
         tr '\\0' '\\n' < /proc/$process/environ\n\
         done > '{}'\n\
         cat '{}'\n",
        seen.display(),
        folder.path().join("answer").display(),
    );
    let helper = folder.path().join("docker-credential-test");
    fs::write(folder.path().join("answer"), answer.to_string()).unwrap();
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({"credsStore": "test"}).to_string();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let paths = [folder.path().to_owned()].into_iter();
    let path = std::env::join_paths(paths.chain(std::env::split_paths(&path)));
    let mut push = workload
        .push(1, &format!("{host}/app:v1"))
        .env("PATH", path.unwrap())
        .env("DOCKER_CONFIG", folder.path());
    let start = Instant::now();
    let child = push.spawn();
    while registry.log().count("POST", "/blobs/uploads/") == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it does not begin"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut texts = vec![fs::read_to_string(&seen).expect("the helper was asked")];
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let finished = push.finish(child, start);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(texts[0].contains("docker-credential-test") && texts[0].contains("nix2oci"));
    for text in &texts {
        for secret in secrets(&registry) {
            assert!(!text.contains(&secret), "{secret} is seen: {text}");
        }
    }
}
