//! What a push costs on a machine that knows nothing: every one has an empty
//! home and no cache. A proxy that does no harm counts the bytes.

use std::fs;

use nix2oci_tests::chaos_proxy::{ChaosOptions, ChaosProxy};
use nix2oci_tests::docker_registry::{DockerAuth, DockerOptions, PASSWORD, USER};
use nix2oci_tests::image_files::text;
use nix2oci_tests::{DockerRegistry, command};
use serde_json::Value;

use super::{Push, Workload, count, docker, states};

/// A registry, and what counts the bytes in front of it.
fn counted() -> (DockerRegistry, ChaosProxy) {
    let registry = DockerRegistry::start();
    let proxy = ChaosProxy::start(registry.addr(), 1, ChaosOptions::none());
    (registry, proxy)
}

/// The bytes of manifest and config.
fn documents(registry: &DockerRegistry, digest: &str) -> u64 {
    let manifest = registry.blob(digest);
    let parsed: Value = serde_json::from_slice(&manifest).unwrap();
    manifest.len() as u64 + parsed["config"]["size"].as_u64().unwrap()
}

#[test]
fn an_unchanged_push_is_a_few_requests_and_reads_no_file() {
    for auth in [DockerAuth::None, DockerAuth::Htpasswd, DockerAuth::Token] {
        let registry = DockerRegistry::start_with(DockerOptions {
            auth,
            ..DockerOptions::default()
        });
        let workload = Workload::new(20, 20_000);
        let name = format!("{}/app:v1", registry.localhost());
        let credentials = format!("{USER}:{PASSWORD}");
        let push = || workload.push(1, &name).args(&["--creds", &credentials]);
        let first = push().succeed();
        let (before, tokens) = (registry.requests().len(), registry.token_requests());
        workload.lose_store();
        let report = push().report();
        assert_eq!(text(&report["pinned"]), first.trim_end());
        assert_eq!(count(&report, "reused"), workload.layers());
        assert_eq!(report["changedTags"], Value::Array(Vec::new()));
        let requests = &registry.requests()[before..];
        let tokens = registry.token_requests() - tokens;
        assert!(requests.len() as u64 + tokens <= 4, "{requests:?}");
        assert!(requests.iter().all(|r| r.method == "GET"), "{requests:?}");
    }
}

#[test]
fn a_new_release_is_one_layer() {
    let (registry, proxy) = counted();
    let workload = Workload::new(20, 200_000);
    let name = format!("{}/app:v1", proxy.host());
    workload.push(1, &name).succeed();
    let old = registry.blobs("app");
    proxy.log().clear();
    let report = workload.push(2, &name).report();
    let digest = registry.assert_whole("app", "v1");
    assert_eq!(count(&report, "new"), 1);
    assert_eq!(count(&report, "reused"), 20);
    let new: Vec<_> = registry.blobs("app").difference(&old).cloned().collect();
    assert_eq!(new.len(), 2, "a layer and a config: {new:?}");
    let layer = report["totals"]["uploadBytes"].as_u64().unwrap();
    assert!(layer < 210_000);
    assert_eq!(
        proxy.log().received(),
        layer + documents(&registry, &digest),
        "{}",
        proxy.log().text()
    );
    for blob in &new {
        assert_eq!(proxy.log().completed(blob), 1);
    }
}

/// Another machine's push of the same image under another tag, and what a
/// library's change costs.
#[test]
fn another_tag_costs_a_manifest() {
    let (registry, proxy) = counted();
    let workload = Workload::small();
    let host = proxy.host();
    workload.push(1, &format!("{host}/app:latest")).succeed();
    proxy.log().clear();
    workload.lose_store();
    let report = workload.push(1, &format!("{host}/app:v1")).report();
    let digest = registry.assert_whole("app", "v1");
    assert_eq!(states(&report), ["reused"; 3]);
    let size = registry.blob(&digest).len() as u64;
    assert_eq!(proxy.log().received(), size, "{}", proxy.log().text());
}

#[test]
fn stored_images_and_recipes_keep_their_digests() {
    let workload = Workload::small();
    let folder = workload.folder().display();
    let (layout, archive) = (
        format!("oci:{folder}/layout"),
        format!("archive:{folder}/image.tar"),
    );
    let recipe = format!("{folder}/recipe.json");
    workload.write("build", 1, &layout);
    workload.write("build", 1, &archive);
    workload.write("resolve", 1, &recipe);
    let store_root = workload.store_root().display().to_string();
    let mut digests = Vec::new();
    for (source, arguments) in [
        (&layout, vec![]),
        (&archive, vec![]),
        (&recipe, vec!["--store-root", &store_root]),
    ] {
        let (registry, proxy) = counted();
        let to = docker(&format!("{}/app:v1", proxy.host()));
        let push = || Push::of(&[source, &to]).args(&arguments);
        let report = push().report();
        let digest = registry.assert_whole("app", "v1");
        assert_eq!(text(&report["digest"]), digest, "{source}");
        assert_eq!(states(&report), ["new"; 3], "{source}");
        for blob in registry.blobs("app") {
            let size = registry.stored_blobs()[&blob];
            assert_eq!(proxy.log().uploaded_bytes(&blob), size, "{source}: {blob}");
        }
        proxy.log().clear();
        push().succeed();
        assert!(proxy.log().entries().len() <= 2, "{}", proxy.log().text());
        assert_eq!(proxy.log().received(), 0);
        digests.push(digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

/// A file of the store that is not what it was when the recipe was written.
#[test]
fn a_recipe_that_cannot_be_made_names_the_store_path() {
    let registry = DockerRegistry::start();
    let workload = Workload::small();
    let recipe = format!("{}/recipe.json", workload.folder().display());
    workload.write("resolve", 1, &recipe);
    let path = &workload.paths(1)[1];
    let file = workload.store_root().join(&path[1..]).join("bin");
    fs::remove_file(&file).ok();
    command::run(
        std::process::Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(workload.store_root()),
    );
    fs::write(&file, "another program").unwrap();
    command::run(std::process::Command::new("chmod").arg("0555").arg(&file));
    let store_root = workload.store_root().display().to_string();
    let to = docker(&format!("{}/app:v1", registry.host()));
    let push = Push::of(&[&recipe, &to]).args(&["--store-root", &store_root]);
    push.fail(5, &[path]);
    assert!(registry.tags("app").is_empty());
}

#[test]
fn copies_within_a_registry_move_no_blob() {
    let (registry, proxy) = counted();
    let workload = Workload::small();
    let host = proxy.host();
    workload.push(1, &format!("{host}/app:v1")).succeed();
    workload.lose_store();
    proxy.log().clear();
    let from = docker(&format!("{host}/app:v1"));
    let report = Push::of(&[&from, &docker(&format!("{host}/team/copy:v1"))]).report();
    let digest = registry.assert_whole("team/copy", "v1");
    assert_eq!(registry.tags("app")["v1"], digest);
    assert_eq!(states(&report), ["mounted"; 3]);
    let manifest = registry.blob(&digest).len() as u64;
    assert_eq!(proxy.log().received(), manifest, "{}", proxy.log().text());
    assert_eq!(
        proxy.log().count("GET", "/blobs/"),
        0,
        "{}",
        proxy.log().text()
    );
    // Another tag of the same repository.
    proxy.log().clear();
    Push::of(&[&from, &docker(&format!("{host}/app:v2"))]).succeed();
    assert_eq!(registry.assert_whole("app", "v2"), digest);
    assert_eq!(proxy.log().received(), manifest, "{}", proxy.log().text());
}

#[test]
fn copies_between_registries_are_the_same_bytes() {
    let from = DockerRegistry::start();
    let (to, proxy) = counted();
    let workload = Workload::small();
    workload
        .push(1, &format!("{}/app:v1", from.host()))
        .succeed();
    workload.lose_store();
    let source = docker(&format!("{}/app:v1", from.host()));
    let push = || Push::of(&[&source, &docker(&format!("{}/copy:v1", proxy.host()))]);
    let report = push().report();
    assert_eq!(to.assert_whole("copy", "v1"), from.tags("app")["v1"]);
    assert_eq!(states(&report), ["new"; 3]);
    for blob in to.blobs("copy") {
        let size = to.stored_blobs()[&blob];
        assert_eq!(proxy.log().uploaded_bytes(&blob), size, "{blob}");
    }
    proxy.log().clear();
    push().succeed();
    assert_eq!(proxy.log().received(), 0, "{}", proxy.log().text());
}

/// `--no-reuse` makes everything and sends nothing that is there;
/// `--verify-reused` makes what it takes over.
#[test]
fn who_trusts_nothing_reads_everything() {
    let (registry, proxy) = counted();
    let workload = Workload::small();
    let name = format!("{}/app:v1", proxy.host());
    workload.push(1, &name).succeed();
    for (option, state) in [("--no-reuse", "exists"), ("--verify-reused", "reused")] {
        proxy.log().clear();
        let report = workload.push(1, &name).args(&[option]).report();
        assert_eq!(states(&report), [state; 3], "{option}");
        assert_eq!(proxy.log().count("POST", ""), 0, "{}", proxy.log().text());
    }
    registry.assert_whole("app", "v1");
    workload.lose_store();
    let push = || workload.push(1, &name);
    push().args(&["--no-reuse"]).fail(3, &["lib"]);
    push().args(&["--verify-reused"]).fail(3, &["lib"]);
}

/// What a release would move that has room for more layers than the one before,
/// and whether `plan --against` said so.
#[test]
fn layers_of_the_image_that_is_replaced_are_kept() {
    let registry = DockerRegistry::start();
    let workload = Workload::new(12, 200_000).planned("cost");
    let name = format!("{}/app:v1", registry.localhost());
    let narrow = ["--max-layers", "4"];
    let first = workload.push(1, &name).args(&narrow).report();
    let wide = ["--max-layers", "7"];
    let origins = |report: &Value| -> Vec<String> {
        let layers = report["layers"].as_array().unwrap().iter();
        layers
            .map(|layer| text(&layer["origin"]).to_owned())
            .collect()
    };
    let paths = |report: &Value| -> Vec<Value> {
        let layers = report["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["paths"].clone()).collect()
    };
    let plan = |arguments: &[&str]| {
        let mut plan = Push::verb("plan");
        plan.command.args(workload.image(2));
        plan.args(&["--against", &docker(&name)])
            .args(arguments)
            .report()
    };
    let anew = ["--max-layers", "7", "--keep-layers", "none"];
    let (kept, fresh) = (plan(&wide), plan(&anew));
    assert_eq!(origins(&kept), ["kept", "kept", "kept", "new"]);
    assert_eq!(paths(&kept)[..3], paths(&first)[..3]);
    assert_eq!(states(&kept), ["reused", "reused", "reused", "new"]);
    assert_eq!(paths(&fresh).len(), 7);
    assert!(states(&fresh).iter().filter(|s| **s == "new").count() > 1);

    // Another tag goes on from the repository's `latest`, or what is named.
    let other = format!("{}/app:v2", registry.localhost());
    let push = workload.push(2, &other).args(&wide);
    let report = push.args(&["--reuse-from", &docker(&name)]).report();
    assert_eq!(paths(&report), paths(&kept));
    let latest = format!("{}/app:latest", registry.localhost());
    assert_eq!(
        workload.push(1, &latest).args(&wide).report()["layers"]
            .as_array()
            .unwrap()
            .len(),
        7
    );

    // Without it the plan is that of a build.
    let report = workload.push(2, &name).args(&anew).report();
    assert_eq!(paths(&report), paths(&fresh));
    let built = format!("oci:{}/anew", workload.folder().display());
    let mut build = Push::verb("build");
    build.command.args(workload.image(2));
    let build = build.args(&wide).args(&["-o", &built]).report();
    assert_eq!(build["digest"], report["digest"]);
    // And a layout goes on from an image in the registry as well.
    let built = format!("oci:{}/kept", workload.folder().display());
    let mut build = Push::verb("build");
    build.command.args(workload.image(2));
    let build = build
        .args(&wide)
        .args(&["--keep-layers", &docker(&other), "-o", &built])
        .report();
    assert_eq!(paths(&build), paths(&kept));
    let again = workload.push(2, &other).args(&wide).report();
    assert_eq!(again["changedTags"], Value::Array(Vec::new()));
    assert_eq!(build["digest"], again["digest"]);
}
