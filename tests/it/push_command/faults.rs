//! What goes wrong at a registry, what is said about it, and what is left
//! behind: exit codes and words, no tag that should not be there, no file.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix2oci_tests::FakeRegistry;
use nix2oci_tests::command::run;
use nix2oci_tests::fake_registry::{FakeAuth, Fault};
use nix2oci_tests::http_server::Answer;
use serde_json::json;

use super::{Workload, count};

/// Pushes a small image while something goes wrong.
struct Trial {
    workload: Workload,
    registry: FakeRegistry,
}

impl Trial {
    fn new() -> Self {
        Self::at(FakeRegistry::start())
    }

    fn at(registry: FakeRegistry) -> Self {
        Self {
            workload: Workload::small(),
            registry,
        }
    }

    fn name(&self) -> String {
        format!("{}/team/app:v1", self.registry.host())
    }

    /// The push gets through all the same, says that it tried again, and every
    /// blob is taken once.
    #[track_caller]
    fn assert_gets_through(&self, fault: Fault) -> String {
        self.registry.fault(fault);
        let finished = self.workload.push(1, &self.name()).run();
        let log = self.registry.log().text();
        assert_eq!(finished.code, Some(0), "{}{log}", finished.stderr);
        assert_eq!(finished.spooled, 0);
        assert_eq!(self.registry.tags("team/app").len(), 1);
        for digest in self.registry.blobs("team/app").keys() {
            assert_eq!(self.registry.log().completed(digest), 1, "{log}");
        }
        finished.stderr
    }

    /// The push ends with this code and these words, and no tag.
    #[track_caller]
    fn assert_fails(&self, fault: Fault, code: i32, words: &[&str]) -> String {
        self.registry.fault(fault);
        let push = self.workload.push(1, &self.name());
        let said = push.args(&["--retry", "1"]).fail(code, words);
        let error = said.split("error: ").nth(1).expect("it is an error");
        for word in [&*self.registry.host(), "team/app"] {
            assert!(error.contains(word), "{word} is not said: {said}");
        }
        assert!(self.registry.tags("team/app").is_empty());
        said
    }
}

#[test]
fn a_registry_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let workload = Workload::small();
    let push = workload.push(1, &format!("{host}/app:v1"));
    let start = Instant::now();
    let said = push.fail(7, &["error: ", &host, "onnection refused", "hint: "]);
    // What listens nowhere is not waited for.
    assert!(start.elapsed() < Duration::from_secs(5), "{said}");

    let push = workload.push(1, "no-such-host.invalid/app:v1");
    push.args(&["--retry", "0"])
        .fail(7, &["error: ", "no-such-host.invalid"]);
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let upload = |method| Fault::on(method, "/blobs/uploads/").first(2);
    let once_more = [
        upload("PUT").after_bytes(10_000).reset(),
        upload("PATCH").after_bytes(10_000).reset(),
        upload("PUT").hang_up(),
        upload("PATCH").hang_up(),
        upload("POST").reset(),
        Fault::on("GET", "/manifests/").first(2).reset(),
        Fault::on("PUT", "/manifests/").first(2).reset(),
    ];
    // They wait more than they work.
    thread::scope(|scope| {
        for fault in once_more {
            scope.spawn(|| Trial::new().assert_gets_through(fault));
        }
    });
    let lasting = Fault::on("POST", "/blobs/uploads/").reset();
    Trial::new().assert_fails(lasting, 7, &["2 times"]);
}

#[test]
fn a_pause_is_no_end() {
    let stall = Duration::from_secs(2);
    for method in ["PUT", "PATCH", "POST"] {
        let fault = Fault::on(method, "/blobs/uploads/").first(1).stall(stall);
        let said = Trial::new().assert_gets_through(fault);
        assert!(!said.contains("again"), "{said}");
    }
}

#[test]
fn a_registry_that_asks_for_patience_gets_it() {
    let trial = Trial::new();
    let busy = Fault::on("POST", "/blobs/uploads/").first(1);
    let said = trial.assert_gets_through(busy.status(429, &[("Retry-After", "2")]));
    assert!(said.contains("trying again in 2"), "{said}");
    let entries = trial.registry.log().entries();
    let refused = entries.iter().position(|entry| entry.status == Some(429));
    let (refused, later) = entries.split_at(refused.unwrap() + 1);
    let pause = Duration::from_millis(1900);
    // Those that were on their way already were not told.
    let next = later
        .iter()
        .find(|entry| entry.at > refused.last().unwrap().at + pause / 2);
    assert!(
        next.unwrap().at >= refused.last().unwrap().at + pause,
        "{}",
        trial.registry.log().text()
    );

    let unavailable = Fault::on("PUT", "/manifests/").first(2).status(503, &[]);
    let said = Trial::new().assert_gets_through(unavailable);
    assert!(
        said.contains("503") && said.contains("trying again"),
        "{said}"
    );
    let long = Fault::on("POST", "/blobs/").status(429, &[("Retry-After", "86400")]);
    Trial::new().assert_fails(long, 7, &["429"]);
}

#[test]
fn a_burst_of_errors_passes() {
    let trial = Trial::new();
    trial
        .registry
        .fault(Fault::on("*", "/v2/").first(4).status(500, &[]));
    trial.assert_gets_through(Fault::on("PUT", "/").first(3).status(502, &[]));
    let for_ever = Fault::on("*", "/blobs/uploads/").status(500, &[]);
    Trial::new().assert_fails(for_ever, 7, &["500", "tried 2 times"]);
}

fn with_tokens() -> (FakeRegistry, [&'static str; 2]) {
    let auth = FakeAuth::bearer();
    (
        FakeRegistry::start_with_auth(auth),
        ["--creds", "user:secret"],
    )
}

#[test]
fn a_session_that_ends_in_mid_upload_is_signed_in_again() {
    for fault in [
        Fault::on("PUT", "/blobs/uploads/")
            .first(1)
            .after_bytes(10_000)
            .revoke_tokens(),
        Fault::on("PATCH", "/blobs/uploads/")
            .first(1)
            .after_bytes(10_000)
            .revoke_tokens(),
        Fault::on("POST", "/blobs/uploads/").nth(2).revoke_tokens(),
        Fault::on("PUT", "/manifests/").first(1).revoke_tokens(),
    ] {
        let (registry, arguments) = with_tokens();
        let trial = Trial::at(registry);
        trial.registry.fault(fault);
        let push = trial.workload.push(1, &trial.name()).args(&arguments);
        let finished = push.run();
        let log = trial.registry.log();
        assert_eq!(finished.code, Some(0), "{}{}", finished.stderr, log.text());
        assert_eq!(trial.registry.tags("team/app").len(), 1);
        for digest in trial.registry.blobs("team/app").keys() {
            assert_eq!(log.completed(digest), 1, "{}", log.text());
        }
    }
}

#[test]
fn a_token_that_ends_while_layers_are_sent_is_renewed() {
    let registry = FakeRegistry::start_with_auth(FakeAuth {
        // Less than it says.
        token_lives: Duration::from_millis(500),
        ..FakeAuth::bearer()
    });
    let pause = Duration::from_secs(1);
    for (method, target) in [("POST", "/blobs/uploads/"), ("PUT", "/manifests/")] {
        registry.fault(Fault::on(method, target).first(1).stall(pause));
    }
    let trial = Trial::at(registry);
    let push = trial.workload.push(1, &trial.name());
    push.args(&["--creds", "user:secret"]).succeed();
    let log = trial.registry.log();
    assert!(log.count("GET", "/token") >= 2, "{}", log.text());
    assert_eq!(trial.registry.tags("team/app").len(), 1);
}

#[test]
fn answers_that_make_no_sense_are_told_apart() {
    let html = || {
        let page = "<html><body><h1>Sign in</h1>to the proxy of the company</body></html>";
        Answer::new(403)
            .header("Content-Type", "text/html")
            .body(page)
    };
    Trial::new().assert_fails(
        Fault::on("POST", "/blobs/").answer(html),
        6,
        &["403", "Sign in"],
    );
    let wrong = || {
        let digest = format!("sha256:{}", "0".repeat(64));
        Answer::new(201).header("Docker-Content-Digest", digest)
    };
    for target in ["/blobs/uploads/", "/manifests/"] {
        let fault = Fault::on("PUT", target).after_body().answer(wrong);
        Trial::new().assert_fails(fault, 5, &["sha256:0000"]);
    }

    // An answer that breaks off is asked for again.
    let trial = Trial::new();
    trial.workload.push(1, &trial.name()).succeed();
    trial
        .registry
        .fault(Fault::on("GET", "/manifests/").first(2).cut(100));
    let report = trial.workload.push(2, &trial.name()).report();
    assert_eq!(count(&report, "reused"), 2);
    // From one that is whole and makes no sense nothing is taken over.
    let half = || {
        Answer::new(200)
            .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            .body("{\"schemaVersion\": 2, \"layers\": [{\"media")
    };
    let trial = Trial::new();
    let fault = Fault::on("GET", "/manifests/").answer(half);
    let said = trial.assert_gets_through(fault);
    assert!(said.contains("warning: no layer is taken over"), "{said}");
    assert!(said.contains("is no manifest"), "{said}");
}

#[test]
fn a_chunk_that_does_not_fit_is_sent_where_it_fits() {
    let registry = FakeRegistry::start();
    let workload = Workload::new(1, 3_500_000);
    registry.fault(
        Fault::on("PATCH", "/blobs/uploads/")
            .nth(2)
            .status(416, &[]),
    );
    let name = format!("{}/app:v1", registry.host());
    let push = workload.push(1, &name);
    push.args(&["--chunk-size", "1M"]).succeed();
    assert!(
        registry.log().count("PATCH", "") >= 8,
        "{}",
        registry.log().text()
    );
    assert_eq!(registry.tags("app").len(), 1);
}

#[test]
fn a_full_registry_says_so() {
    let full = || {
        let problem = json!({"errors": [{
            "code": "UNKNOWN",
            "message": "unknown error",
            "detail": {"DriverName": "filesystem", "Enclosed": {"Err": "no space left on device"}},
        }]});
        Answer::json(500, &problem)
    };
    let fault = Fault::on("PUT", "/blobs/uploads/")
        .after_body()
        .answer(full);
    Trial::new().assert_fails(fault, 7, &["500"]);
    let text = || Answer::new(507).body("quota of project team is used up");
    let fault = Fault::on("*", "/blobs/uploads/").answer(text);
    Trial::new().assert_fails(fault, 7, &["507", "quota of project team is used up"]);
    let quota = || {
        let message = "adding 40 KiB of storage resource would exceed the quota";
        Answer::json(
            403,
            &json!({"errors": [{"code": "DENIED", "message": message}]}),
        )
    };
    let fault = Fault::on("PUT", "/manifests/").answer(quota);
    Trial::new().assert_fails(fault, 6, &["would exceed the quota"]);
}

/// At whatever moment somebody loses patience.
#[test]
fn an_interrupted_push_leaves_nothing() {
    for (method, target) in [
        ("GET", "/manifests/"),
        ("POST", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        let registry = FakeRegistry::start();
        let long = Duration::from_secs(60);
        registry.fault(Fault::on(method, target).stall(long));
        assert_interrupted(&registry, method, target);
    }
    // And while it waits to try again.
    let registry = FakeRegistry::start();
    let busy = Fault::on("POST", "/blobs/").status(429, &[("Retry-After", "60")]);
    registry.fault(busy);
    assert_interrupted(&registry, "POST", "/blobs/");
}

fn assert_interrupted(registry: &FakeRegistry, method: &str, target: &str) {
    let workload = Workload::small();
    let mut push = workload.push(1, &format!("{}/app:v1", registry.host()));
    let start = Instant::now();
    let child = push.spawn();
    while registry.log().count(method, target) == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it does not begin"
        );
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(100));
    let process = format!("/proc/{}", child.id());
    assert!(Path::new(&process).exists());
    let asked = Instant::now();
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let finished = push.finish(child, asked);
    assert_eq!(finished.code, Some(130), "{}", finished.stderr);
    assert!(
        finished.elapsed < Duration::from_secs(1),
        "{method}: {:?}",
        finished.elapsed
    );
    assert_eq!(finished.stdout, "");
    assert_eq!(finished.spooled, 0);
    assert!(registry.tags("app").is_empty());
}
