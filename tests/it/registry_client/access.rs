//! Who asks, and how many at once.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use nix2oci::credentials::{CredentialSource, Credentials, Secret};
use nix2oci::registry::{Mounted, RegistryOptions};
use nix2oci::{Digest, ErrorKind};
use nix2oci_tests::FakeRegistry;
use nix2oci_tests::fake_registry::{FakeAuth, Fault};
use nix2oci_tests::http_server::Answer;
use serde_json::json;

use super::{Rig, blob, block_on, layer, noise};

/// The user whom the registry knows.
struct User;

impl CredentialSource for User {
    fn find(&self, _: &str, _: &str) -> nix2oci::Result<Credentials> {
        Ok(Credentials::Password {
            user: "user".to_owned(),
            password: Secret::new("secret"),
        })
    }
}

fn with_tokens(auth: FakeAuth, change: impl FnOnce(&mut RegistryOptions)) -> Rig {
    let registry = FakeRegistry::start_with_auth(auth);
    Rig::of(registry, |options| {
        options.credentials = Arc::new(User);
        change(options);
    })
}

fn tokens(rig: &Rig) -> usize {
    rig.count("*", "/token")
}

#[test]
fn reading_and_writing_need_one_token() {
    let rig = with_tokens(FakeAuth::bearer(), |_| {});
    let repository = rig.repository.for_push();
    let size = block_on(repository.blob_size(Digest::of(b"bytes"))).unwrap();
    assert_eq!(size, None);
    rig.put_whole(b"bytes");
    assert_eq!(tokens(&rig), 1);
}

/// rust-oci-client#235, go-containerregistry#123: Docker Hub mounts only with a
/// token that allows both.
#[test]
fn a_mount_has_both_scopes_in_one_token() {
    let rig = with_tokens(FakeAuth::bearer(), |_| {});
    rig.registry.put_blob("team/base", b"bytes");
    let mounted = block_on(rig.repository.mount(&layer(b"bytes"), "team/base")).unwrap();
    assert!(matches!(mounted, Mounted::Done), "{mounted:?}");
    let post = &rig.registry.log().of("POST", "/uploads/")[0];
    // quay fails without (go-containerregistry, write.go).
    assert!(post.query.contains("from=team%2Fbase"), "{}", post.query);
    let asked = rig.registry.log().of("GET", "/token").pop().unwrap();
    for scope in ["repository:app:pull,push", "repository:team/base:pull"] {
        let asked = nix2oci_tests::http_server::query_values(&asked.query, "scope");
        assert!(
            asked
                .iter()
                .any(|asked| asked.split(' ').any(|one| one == scope)),
            "{asked:?}"
        );
    }
}

/// moby#33558: tokens of GitLab live five minutes, less than large uploads.
#[test]
fn a_token_that_ends_on_the_way_is_renewed() {
    for chunk_size in [None, NonZeroU64::new(100_000)] {
        let auth = FakeAuth {
            token_lives: Duration::from_millis(300),
            ..FakeAuth::bearer()
        };
        let rig = with_tokens(auth, |options| options.chunk_size = chunk_size);
        rig.registry.fault(
            Fault::on("POST", "/uploads/")
                .change(|answer| answer.delayed(Duration::from_millis(400))),
        );
        let bytes = noise(300_000);
        let sent = rig.sent();
        block_on(rig.repository.put_blob(&blob(&bytes), None, &sent)).unwrap();
        assert_eq!(rig.registry.blobs("app").len(), 1);
        assert_eq!(rig.told.sent(), 300_000);
        assert!(tokens(&rig) > 1);
    }
}

#[test]
fn who_may_not_write_is_told_so() {
    let rig = with_tokens(
        FakeAuth {
            may_push: false,
            ..FakeAuth::bearer()
        },
        |_| {},
    );
    let error = rig.put(b"bytes").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Denied { .. }), "{error}");
    assert_eq!(rig.told.retries(), 0);
}

/// An answer to HEAD has no body, so GET is asked why (as containerd does).
#[test]
fn a_refused_question_is_explained() {
    let rig = Rig::new();
    rig.registry.fault(Fault::on("*", "/blobs/").answer(|| {
        let problem = json!({"errors": [{"code": "DENIED", "message": "pay your bill"}]});
        Answer::json(403, &problem)
    }));
    let error = block_on(rig.repository.blob_size(Digest::of(b""))).unwrap_err();
    assert!(error.to_string().contains("pay your bill"), "{error}");
    assert_eq!(rig.methods(), ["HEAD", "GET"]);
}

/// wire-server#2784: quay answers 429 to many questions at once.
#[test]
fn a_busy_registry_is_asked_again() {
    let rig = Rig::new();
    rig.registry.put_blob("app", b"bytes");
    rig.registry
        .fault(Fault::on("HEAD", "/blobs/").first(2).status(429, &[]));
    let size = block_on(rig.repository.blob_size(Digest::of(b"bytes")));
    assert_eq!(size.unwrap(), Some(5));
    assert_eq!(rig.told.retries(), 2);
}

#[test]
fn no_more_run_at_once_than_allowed() {
    let rig = Rig::of(FakeRegistry::start(), |options| {
        options.jobs = NonZeroUsize::new(2).unwrap();
    });
    rig.registry
        .fault(Fault::on("PUT", "/uploads/").stall(Duration::from_millis(50)));
    let all = noise(100_000);
    block_on(async {
        let uploads: Vec<_> = (0..12)
            .map(|n| {
                let (repository, blob) = (rig.repository.clone(), blob(&all[n..]));
                let sent = rig.sent();
                tokio::spawn(async move { repository.put_blob(&blob, None, &sent).await })
            })
            .collect();
        for upload in uploads {
            upload.await.unwrap().unwrap();
        }
    });
    assert_eq!(rig.registry.blobs("app").len(), 12);
    assert_eq!(rig.registry.log().most_at_once(), 2);
}
