//! What other programs see of an image that was pushed: the bytes that were
//! sent, and the store in them.

use nix2oci_tests::command::{run, run_bytes, skopeo};
use nix2oci_tests::image_files::{config, manifest, text};
use nix2oci_tests::{DockerRegistry, Isolated};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Push, Workload};
use crate::loaders;

const CODECS: [&str; 3] = ["none", "gzip:6", "zstd:3"];

/// Pushes the fixture's image and returns the manifest's digest.
fn push_fixture(registry: &DockerRegistry, codec: &str) -> String {
    let name = format!("docker://{}/fixture:v1", registry.host());
    let mut push = Push::of(&[]);
    let mut arguments = loaders::arguments(codec);
    // Without the verb, and without the name, which the destination is.
    let option = arguments.iter().position(|argument| argument == "--name");
    let option = option.unwrap();
    arguments.drain(option..option + 2);
    push.command.args(&arguments[1..]).arg(name);
    push.succeed();
    registry.assert_whole("fixture", "v1")
}

#[test]
fn skopeo_reads_the_store_and_the_same_digests() {
    for codec in CODECS {
        let registry = DockerRegistry::start();
        let digest = push_fixture(&registry, codec);
        let folder = tempfile::tempdir().unwrap();
        let name = format!("docker://{}/fixture:v1", registry.host());
        let raw = run_bytes(
            skopeo(folder.path())
                .args(["inspect", "--raw", "--tls-verify=false"])
                .arg(&name),
        );
        assert_eq!(raw, registry.blob(&digest), "{codec}");

        let copy = folder.path().join("copy");
        run(skopeo(folder.path())
            .args(["copy", "--quiet", "--preserve-digests"])
            .args(["--src-tls-verify=false", &name])
            .arg(format!("oci:{}:v1", copy.display())));
        let index: Value =
            serde_json::from_slice(&std::fs::read(copy.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], *digest);
        let pushed: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(manifest(&copy), pushed);
        // And as `build` writes it.
        let built = loaders::image(folder.path(), codec, "oci");
        assert_eq!(manifest(&built), pushed, "{codec}");
        assert_eq!(config(&built), config(&copy), "{codec}");
        if codec.starts_with("zstd") {
            // umoci before 0.5 knows no zstd.
            continue;
        }
        let tar = Isolated::plain()
            .output(
                folder.path(),
                &[("layout", copy.to_str().unwrap())],
                "umoci unpack --image \"$layout:v1\" \"$state/bundle\" >&2
                 tar --create --numeric-owner --directory \"$state/bundle/rootfs\" .",
            )
            .unwrap();
        loaders::assert_is_store(&tar, &format!("skopeo, {codec}"));
    }
}

#[test]
fn podman_pulls_the_store() {
    if loaders::is_without("podman") {
        return;
    }
    for codec in CODECS {
        let registry = DockerRegistry::start();
        let digest = push_fixture(&registry, codec);
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{}/fixture:v1", registry.host());
        let printed = Isolated::podman().with_network().run(
            folder.path(),
            &[("name", &name)],
            "podman pull --quiet --tls-verify=false \"docker://$name\"
             podman image inspect --format '{{.Digest}}' \"$name\"
             podman run --rm --pull never \"$name\" a 'b c'
             tar --create --numeric-owner --file root.tar --directory \"$(podman image mount \"$name\")\" .",
        );
        let pushed: Value = serde_json::from_slice(&registry.blob(&digest)).unwrap();
        let id = text(&pushed["config"]["digest"]).replace("sha256:", "");
        let expected = format!("{id}\n{digest}\n{}", loaders::printed_outside());
        assert_eq!(printed, expected, "{codec}");
        let tar = std::fs::read(folder.path().join("root.tar")).unwrap();
        loaders::assert_is_store(&tar, &format!("podman, {codec}"));
    }
}

fn sha256(bytes: &[u8]) -> String {
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
    )
}

/// The other client in Rust, which shares with us what speaks HTTP and nothing
/// of what it says.
#[test]
fn oci_client_agrees_on_all_digests() {
    let registry = DockerRegistry::start();
    let workload = Workload::small();
    let name = format!("{}/app:v1", registry.host());
    let report = workload.push(1, &name).report();
    // reqwest wants one even for what is not encrypted. Only this test needs it
    // to be anybody's default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pulled = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let client = Client::new(ClientConfig {
                protocol: ClientProtocol::Http,
                ..ClientConfig::default()
            });
            let reference: Reference = name.parse().unwrap();
            let auth = RegistryAuth::Anonymous;
            let (manifest, digest) = client.pull_image_manifest(&reference, &auth).await.unwrap();
            let mut blobs = Vec::new();
            for descriptor in manifest.layers.iter().chain([&manifest.config]) {
                let mut bytes = Vec::new();
                client
                    .pull_blob(&reference, descriptor, &mut bytes)
                    .await
                    .unwrap();
                assert_eq!(bytes.len() as i64, descriptor.size);
                assert_eq!(sha256(&bytes), descriptor.digest);
                blobs.push(descriptor.digest.clone());
            }
            (digest, blobs)
        });
    let told = |value: &Value| text(value).to_owned();
    let layers = report["layers"].as_array().unwrap().iter();
    let mut expected: Vec<_> = layers.map(|layer| told(&layer["digest"])).collect();
    expected.push(told(&report["configDigest"]));
    assert_eq!(pulled, (told(&report["digest"]), expected));
}
