//! What is fetched from a cache: nothing that the registry has already, and
//! nothing that was fetched before.

use nix2oci_tests::image_files::text;
use nix2oci_tests::nix_cache::base_name;
use nix2oci_tests::{CacheServer, DockerRegistry};
use serde_json::Value;

use super::Cached;
use crate::push_command::{Push, Workload, count, docker};

/// A cache of twenty libraries and an application, served, and a registry.
struct Trial {
    cached: Cached,
    server: CacheServer,
    registry: DockerRegistry,
}

impl Trial {
    fn new() -> Self {
        let cached = Cached::new(Workload::new(20, 20_000), "zstd");
        Self {
            server: CacheServer::start(cached.cache.folder()),
            registry: DockerRegistry::start(),
            cached,
        }
    }

    fn name(&self) -> String {
        format!("{}/app:v1", self.registry.localhost())
    }

    fn push(&self, release: usize) -> Push {
        let url = self.server.url();
        self.cached.push(release, &[&url], &self.name())
    }

    /// The files that were asked for, without their folder.
    fn fetched(&self) -> Vec<String> {
        let requests = self.server.log().of("GET", "/nar/").into_iter();
        requests.map(|r| base_name(&r.path).to_owned()).collect()
    }

    /// The size of the file with a store path's NAR, and its name.
    fn file(&self, path: &str) -> (u64, String) {
        let info = self.cached.cache.narinfo(path);
        let size = info.get("FileSize").unwrap().parse().unwrap();
        (size, base_name(info.get("URL").unwrap()).to_owned())
    }
}

#[test]
fn an_unchanged_push_fetches_no_nar() {
    let trial = Trial::new();
    let pushed = trial.push(1).report();
    assert_eq!(count(&pushed, "new"), 21);
    let digest = trial.registry.assert_whole("app", "v1");
    assert_eq!(digest, trial.cached.expected(1));
    assert_eq!(trial.server.nars(), 21);

    trial.server.log().clear();
    let report = trial.push(1).report();
    assert_eq!(count(&report, "reused"), 21);
    assert_eq!(report["totals"]["downloadBytes"], 0);
    assert_eq!(trial.server.nars(), 0);
    assert_eq!(trial.server.narinfos(), 21, "{}", trial.server.log().text());
}

/// Also when another run fetched them, hours before.
#[test]
fn narinfos_are_fetched_once() {
    let trial = Trial::new();
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().display().to_string();
    let push = || trial.push(1).args(&["--cache-dir", &kept]);
    push().succeed();
    assert_eq!(trial.server.narinfos(), 21);
    trial.server.log().clear();
    assert_eq!(count(&push().report(), "reused"), 21);
    assert_eq!(trial.server.log().entries().len(), 0);
    // The next release has one of its own.
    trial.push(2).args(&["--cache-dir", &kept]).succeed();
    assert_eq!(trial.server.narinfos(), 1);
    assert_eq!(trial.server.nars(), 1);
}

#[test]
fn a_new_release_fetches_the_application() {
    let trial = Trial::new();
    trial.push(1).succeed();
    trial.server.log().clear();
    let report = trial.push(2).report();
    let (size, file) = trial.file(&trial.cached.app(2));
    assert_eq!(count(&report, "new"), 1);
    assert_eq!(report["totals"]["downloadBytes"], size);
    assert_eq!(trial.fetched(), [file]);
    let digest = trial.registry.assert_whole("app", "v1");
    assert_eq!(digest, trial.cached.expected(2));
}

/// The names of what is at the root have to be known before anything is planned.
#[test]
fn what_is_fetched_to_plan_is_told_apart() {
    let trial = Trial::new();
    trial.push(1).succeed();
    trial.server.log().clear();
    let app = trial.cached.app(1);
    let (size, file) = trial.file(&app);
    let report = trial.push(1).args(&["--contents", &app]).report();
    assert_eq!(trial.fetched(), [file]);
    assert_eq!(report["totals"]["planDownloadBytes"], size);
    assert_eq!(report["totals"]["downloadBytes"], 0);
    let url = trial.server.url();
    let plan = trial.cached.command("plan", 1, &[&url]);
    let plan = plan.args(&["--contents", &app]).report();
    assert_eq!(plan["totals"]["planDownloadBytes"], size);
}

/// Before anything is fetched, the plan says what the push then does.
#[test]
fn a_plan_says_what_a_push_does() {
    let trial = Trial::new();
    trial.push(1).succeed();
    trial.server.log().clear();
    let url = trial.server.url();
    let plan = trial.cached.command("plan", 2, &[&url]);
    let plan = plan.args(&["--against", &docker(&trial.name())]).report();
    assert_eq!(trial.server.nars(), 0);
    let report = trial.push(2).report();
    let (size, _) = trial.file(&trial.cached.app(2));
    assert_eq!(plan["totals"]["downloadBytes"], size);
    let per_layer = |report: &Value| -> Vec<(Value, Value, Value)> {
        let layers = report["layers"].as_array().unwrap().iter();
        let fields = layers.map(|l| (&l["paths"], &l["state"], &l["downloadBytes"]));
        fields
            .map(|(p, s, d)| (p.clone(), s.clone(), d.clone()))
            .collect()
    };
    assert_eq!(per_layer(&plan), per_layer(&report));
    let new: Vec<_> = plan["layers"].as_array().unwrap().iter().collect();
    let new: Vec<_> = new.iter().filter(|l| l["state"] == "new").collect();
    assert_eq!(new.len(), 1);
    assert_eq!(text(&new[0]["paths"][0]), trial.cached.app(2));
}
