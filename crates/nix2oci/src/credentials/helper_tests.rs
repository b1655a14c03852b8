//! Tests of credential helpers, with scripts in their place.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::credentials::script::script;

fn helpers(dir: &Path) -> Helpers {
    Helpers {
        dirs: vec!["relative".into(), "/no/such/dir".into(), dir.to_owned()],
        time_limit: Duration::from_secs(60),
        cancel: CancelFlag::default(),
    }
}

fn ask(body: &str) -> Result<Option<Credentials>, HelperFailure> {
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("docker-credential-test"), body);
    helpers(dir.path()).ask("test", "h.io")
}

fn failed(body: &str) -> String {
    match ask(body) {
        Err(HelperFailure::Failed(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_helper_gets_the_address_and_gives_credentials() {
    let answer = ask(
        r#"read -r address; printf '{"ServerURL":"%s","Username":"%s","Secret":"%s"}' "$address" "$1" "$address""#,
    );
    let expected = Credentials::Password {
        user: "get".to_owned(),
        password: Secret::new("h.io"),
    };
    assert_eq!(answer, Ok(Some(expected)));
}

#[test]
fn a_token_is_an_identity_token() {
    assert_eq!(
        ask(r#"echo '{"Username":"<token>","Secret":"it"}'"#),
        Ok(Some(Credentials::IdentityToken(Secret::new("it"))))
    );
}

#[test]
fn no_credentials_are_no_failure() {
    assert_eq!(
        ask("echo credentials not found in native keychain; exit 1"),
        Ok(None)
    );
    assert_eq!(ask(r#"echo '{"Username":"","Secret":""}'"#), Ok(None));
}

#[test]
fn a_failure_is_told_without_secrets() {
    assert_eq!(
        failed("echo no credentials server URL; echo talk >&2; exit 3"),
        "it ended with exit code 3: no credentials server URL: talk"
    );
    assert_eq!(
        failed(r#"echo '{"Username":"u","Secret":"hunter2"}'; exit 1"#),
        "it ended with exit code 1"
    );
    assert_eq!(
        failed("echo https://me:hunter2@h.io/ failed >&2; exit 1"),
        "it ended with exit code 1: https://…@h.io/ failed"
    );
    assert_eq!(failed("kill -9 $$"), "it was ended by a signal");
    for answer in [
        "hunter2",
        "[\"hunter2\"]",
        r#"{"Username":1,"Secret":"hunter2"}"#,
        "",
    ] {
        let problem = failed(&format!("echo '{answer}'; echo talk >&2"));
        assert!(!problem.contains("hunter2"), "{problem}");
        assert!(
            problem.contains("JSON with Username and Secret"),
            "{problem}"
        );
    }
    let problem = failed(r#"echo '{"Secret":"hunter2"}'"#);
    assert_eq!(problem, "it answered with a Secret and no Username");
}

#[test]
fn a_helper_that_does_not_end_is_killed_with_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    script(
        &dir.path().join("docker-credential-test"),
        &format!(
            "echo waiting >&2; sleep 300 & echo $! > {0}.new; mv {0}.new {0}; wait",
            pid.display()
        ),
    );
    let mut helpers = helpers(dir.path());
    helpers.time_limit = Duration::from_secs(3);
    let start = Instant::now();
    assert_eq!(
        helpers.ask("test", "h.io"),
        Err(HelperFailure::Failed(
            "it did not answer within 3 s: waiting".to_owned()
        ))
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    let sleeper = fs::read_to_string(&pid).unwrap();
    let state = || fs::read_to_string(format!("/proc/{}/stat", sleeper.trim()));
    // Whoever adopts it may take a moment to bury it.
    let is_gone = || state().map_or(true, |state| state.contains(") Z "));
    while !is_gone() {
        assert!(start.elapsed() < Duration::from_secs(20), "sleep is alive");
        std::thread::sleep(TICK);
    }
}

#[test]
fn a_cancelled_wait_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("docker-credential-test"), "sleep 300");
    let helpers = helpers(dir.path());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| helpers.ask("test", "h.io"));
        std::thread::sleep(Duration::from_millis(100));
        helpers.cancel.cancel();
        assert_eq!(asked.join().unwrap(), Err(HelperFailure::Cancelled));
    });
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_answer_has_a_bound_and_talk_has_none() {
    assert_eq!(failed("yes"), "it wrote more than 1048576 bytes");
    let talkative = r#"yes | head -c 3000000 >&2; echo '{"Username":"u","Secret":"p"}'"#;
    assert!(matches!(ask(talkative), Ok(Some(_))));
}

/// A daemon that a helper starts keeps its end of the pipe open.
#[test]
fn an_answer_is_whole_when_the_helper_ended() {
    let start = Instant::now();
    let answer = ask(r#"sleep 30 & echo '{"Username":"u","Secret":"p"}'"#);
    assert!(matches!(answer, Ok(Some(_))));
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_helper_is_a_program_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("docker-credential-dir")).unwrap();
    fs::write(dir.path().join("docker-credential-file"), "").unwrap();
    let helpers = helpers(dir.path());
    for name in ["dir", "file", "none"] {
        assert_eq!(
            helpers.ask(name, "h.io"),
            Err(HelperFailure::Missing),
            "{name}"
        );
    }
    for name in ["", "../test", "a/b", "a\0b"] {
        assert_eq!(
            helpers.ask(name, "h.io"),
            Err(HelperFailure::Failed(
                "its name is no part of a program's name".to_owned()
            )),
            "{name:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(bytes: Vec<u8>, secret in "[a-z]{12}", cut in 0..60_usize) {
        let _ = parse_answer(&bytes);
        let whole = format!(r#"{{"ServerURL":"h.io","Username":"u","Secret":"{secret}"}}"#);
        let told = format!("{:?}", parse_answer(&whole.as_bytes()[..cut.min(whole.len())]));
        prop_assert!(!told.contains(&secret), "{told}");
    }
}
