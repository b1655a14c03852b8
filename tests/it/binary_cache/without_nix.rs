//! A machine without Nix: nothing at `/nix`, and a home where nothing is.

use nix2oci_tests::command::nix2oci;
use nix2oci_tests::{CacheServer, DockerRegistry, FixtureStore, Isolated, NixCache};

use nix2oci_tests::CacheKey;

use super::digest;
use crate::push_command::Push;

#[test]
fn a_machine_without_nix_pushes_the_same_image() {
    let store = FixtureStore::new();
    let key = CacheKey::generate("cache.test-1");
    let app = store.fixture("app-1.0");
    let cache = NixCache::copied(&store, app, "xz", Some(&key));
    let server = CacheServer::start(cache.folder());
    let registry = DockerRegistry::start();
    let root = store.root().display().to_string();
    let local = Push::verb("build").args(&[app, "--closure", "db", "--store-root", &root]);
    let expected = digest(local.args(&["-o", "/dev/null", "--json", "--compression", "zstd"]));

    let bin = nix2oci().display().to_string();
    let to = format!("docker://{}/app:v1", registry.localhost());
    let closure = format!("cache:{}", server.url());
    let folder = tempfile::tempdir().unwrap();
    Isolated::plain().with_network().run(
        folder.path(),
        &[
            ("bin", &bin),
            ("app", app),
            ("closure", &closure),
            ("key", key.public()),
            ("to", &to),
        ],
        r#"
mkdir -p "$state/empty" /nix
mount --bind "$state/empty" /nix
cd /
[ -z "$(ls -A /nix)" ] && [ -z "$(ls -A "$HOME")" ]
env -i HOME="$HOME" PATH=/usr/bin:/bin "$bin" push "$app" --closure "$closure" \
    --trusted-public-key "$key" --compression zstd --cache-dir none "$to"
[ -z "$(ls -A /nix)" ] && [ -z "$(ls -A "$HOME")" ]
"#,
    );
    assert_eq!(registry.assert_whole("app", "v1"), expected);
}
