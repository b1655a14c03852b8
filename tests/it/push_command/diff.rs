//! What `diff` and `explain` ask a registry for.

use nix2oci_tests::DockerRegistry;
use serde_json::Value;

use super::{Push, Workload, docker};

#[test]
fn two_releases_are_compared_without_a_look_at_a_layer() {
    let registry = DockerRegistry::start();
    let workload = Workload::small();
    let name = |release: usize| format!("{}/app:v{release}", registry.localhost());
    for release in [1, 2] {
        workload.push(release, &name(release)).succeed();
    }
    let before = registry.requests().len();
    let args = [&*docker(&name(1)), &docker(&name(2)), "--json"];
    let printed = Push::verb("diff").args(&args).succeed();
    let requests = &registry.requests()[before..];
    assert_eq!(requests.len(), 4, "{requests:?}");
    let diff: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(diff["commonPrefix"], workload.layers() - 1);
    assert_eq!(diff["storePaths"]["kept"], workload.layers() - 1);
    let packages = diff["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 1);
    assert_eq!(
        (&packages[0]["name"], &packages[0]["change"]),
        (&"app".into(), &"rebuilt".into())
    );
    assert!(packages[0]["toSize"].as_u64().unwrap() > 40_000);
    let layers = diff["layers"].as_array().unwrap();
    let new: Vec<&Value> = layers.iter().filter(|l| l["state"] == "new").collect();
    assert_eq!(new.len(), 1);
    assert_eq!(diff["pull"]["size"], new[0]["size"]);
}

#[test]
fn layers_are_fetched_only_if_that_was_asked_for() {
    let registry = DockerRegistry::start();
    let workload = Workload::small();
    let name = format!("{}/app:v1", registry.localhost());
    workload.push(1, &name).succeed();
    let before = registry.requests().len();
    let args = ["--path", "lib0"];
    let refused = Push::verb("explain")
        .args(&[&docker(&name)])
        .args(&args)
        .run();
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--read-layers"),
        "{}",
        refused.stderr
    );
    assert_eq!(registry.requests().len(), before);
    let printed = Push::verb("explain")
        .args(&[&docker(&name), "--read-layers"])
        .args(&args)
        .succeed();
    assert!(printed.contains("-lib0\n"), "{printed}");
}
