//! Blobs in one request, and what is done when that fails.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix2oci::oci::{MediaType, descriptor};
use nix2oci::registry::{Client, Mounted, RegistryOptions, Replayable};
use nix2oci::{Context, Digest, Error, ErrorClass, ErrorKind};
use nix2oci_tests::fake_registry::{
    ContentDigest, ErrorBodies, Fault, LocationForm, MountAnswer, PatchSupport, Quirks,
};

use super::{FakeRegistry, Rig, blob, block_on, layer, noise};

#[test]
fn a_blob_is_one_post_and_one_put() {
    let rig = Rig::new();
    let bytes = noise(700_000);
    rig.put_whole(&bytes);
    assert_eq!(rig.methods(), ["POST", "PUT"]);
    let put = &rig.registry.log().of("PUT", "/uploads/")[0];
    assert_eq!(put.headers.get("Content-Length"), Some("700000"));
    assert_eq!(
        put.headers.get("Content-Type"),
        Some("application/octet-stream")
    );
    let digest = Digest::of(&bytes).to_string();
    assert_eq!(rig.registry.blob("app", &digest).unwrap(), bytes);
    assert_eq!(rig.told.again(), 0);
}

#[test]
fn a_blob_may_be_empty() {
    let rig = Rig::new();
    rig.put_whole(b"");
    let put = &rig.registry.log().of("PUT", "/uploads/")[0];
    assert_eq!(put.headers.get("Content-Length"), Some("0"));
}

#[test]
fn a_blob_is_found_and_read() {
    let rig = Rig::new();
    let bytes = noise(1000);
    let digest = Digest::of(&bytes);
    let size = || block_on(rig.repository.blob_size(digest)).unwrap();
    assert_eq!(size(), None);
    rig.registry.put_blob("app", &bytes);
    assert_eq!(size(), Some(1000));
    let read = |limit| block_on(rig.repository.read_blob(&layer(&bytes), limit));
    assert_eq!(read(1000).unwrap(), bytes);
    assert!(matches!(
        read(999).unwrap_err().kind(),
        ErrorKind::Answer { .. }
    ));

    // What is called so and is something else.
    let wrong = descriptor(MediaType::ImageLayer, digest, 999);
    let error = block_on(rig.repository.read_blob(&wrong, 2000)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    rig.registry
        .fault(Fault::on("GET", "/blobs/").change(|answer| answer.body(&noise(1001)[1..])));
    let error = read(1000).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
        "{error}"
    );
}

#[test]
fn a_blob_that_breaks_off_is_read_again() {
    let rig = Rig::new();
    let bytes = noise(1000);
    rig.registry.put_blob("app", &bytes);
    rig.registry
        .fault(Fault::on("GET", "/blobs/").nth(1).cut(500));
    let read = block_on(rig.repository.read_blob(&layer(&bytes), 1000));
    assert_eq!(read.unwrap(), bytes);
    assert_eq!(rig.told.retries(), 1);
}

/// A registry whose HEAD names another digest is not believed: the blob is
/// sent.
#[test]
fn another_digest_is_not_the_blob() {
    let rig = Rig::with(
        Quirks {
            content_digest: ContentDigest::Wrong,
            ..Quirks::default()
        },
        |_| {},
    );
    rig.registry.put_blob("app", b"bytes");
    let size = block_on(rig.repository.blob_size(Digest::of(b"bytes")));
    assert_eq!(size.unwrap(), None);
    let error = rig.put(b"other").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::DigestMismatch { .. }),
        "{error}"
    );
}

#[test]
fn every_form_of_location_is_followed() {
    for location in [
        LocationForm::Path,
        LocationForm::Absolute,
        LocationForm::Relative,
        LocationForm::WithoutScheme,
        LocationForm::Storage,
        LocationForm::Localhost,
    ] {
        for chunk in [None, Some(300_u64)] {
            let quirks = Quirks {
                location,
                ..Quirks::default()
            };
            let rig = Rig::with(quirks, |options| {
                options.chunk_size = chunk.and_then(std::num::NonZeroU64::new);
            });
            rig.put_whole(&noise(1000));
        }
    }
}

#[test]
fn a_session_without_location_is_an_error() {
    let rig = Rig::with(
        Quirks {
            location: LocationForm::Absent,
            ..Quirks::default()
        },
        |_| {},
    );
    let error = rig.put(b"bytes").unwrap_err().to_string();
    assert!(error.contains("without saying where"), "{error}");
}

#[test]
fn a_registry_that_has_the_blob_already_is_believed() {
    let rig = Rig::new();
    rig.registry
        .fault(Fault::on("POST", "/uploads/").status(201, &[]));
    rig.put(b"bytes").unwrap();
    assert_eq!(rig.methods(), ["POST"]);
}

/// apple/containerization#790: ECR answers 416 for good to the first byte in a
/// session that took some.
#[test]
fn a_broken_blob_starts_anew_in_a_new_session() {
    let rig = Rig::new();
    rig.registry.fault(
        Fault::on("PUT", "/uploads/")
            .nth(1)
            .after_bytes(300_000)
            .reset(),
    );
    rig.put_whole(&noise(1_000_000));
    assert_eq!(rig.told.again(), 1);
    assert_eq!(rig.told.retries(), 1);
    let puts = rig.registry.log().of("PUT", "/uploads/");
    assert_eq!(puts.len(), 2);
    assert_ne!(puts[0].path, puts[1].path);
}

/// distribution 2.8.2 forgets sessions (404), ECR is at another byte (416).
#[test]
fn a_lost_session_is_replaced() {
    for status in [404, 416] {
        let rig = Rig::new();
        rig.registry
            .fault(Fault::on("PUT", "/uploads/").nth(1).status(status, &[]));
        rig.put_whole(&noise(1000));
        assert_eq!(rig.count("POST", "/uploads/"), 2, "{status}");
    }
}

#[test]
fn a_blob_whose_answer_was_lost_is_not_sent_twice() {
    let rig = Rig::new();
    rig.registry
        .fault(Fault::on("PUT", "/uploads/").lose_answer());
    rig.put_whole(&noise(100_000));
    assert_eq!(rig.methods(), ["POST", "PUT", "HEAD"]);
}

/// harbor#11647: 500 to every blob in one PUT where a project has a quota.
/// containerd#3533: Artifactory wants a PATCH in some versions.
#[test]
fn a_registry_that_fails_whole_blobs_gets_a_stream() {
    let rig = Rig::new();
    let bytes = noise(100_000);
    rig.registry
        .fault(Fault::on("PUT", "digest=").first(2).status(500, &[]));
    rig.put_whole(&bytes);
    let patches = rig.registry.log().of("PATCH", "/uploads/");
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].headers.get("Content-Range"), None);
    assert_eq!(patches[0].received, 100_000);
}

/// atlanhq/application-sdk#2020: Docker Hub said 400 to large blobs in one PUT
/// and took them in one PATCH.
#[test]
fn a_registry_that_refuses_whole_blobs_gets_a_stream() {
    let rig = Rig::new();
    rig.registry
        .fault(Fault::on("PUT", "digest=").nth(1).status(400, &[]));
    rig.put_whole(&noise(100_000));
    assert_eq!(rig.methods(), ["POST", "PUT", "POST", "PATCH", "PUT"]);
    assert_eq!(rig.told.retries(), 0);
    rig.registry.log().clear();
    rig.put_whole(&noise(90_000));
    assert_eq!(rig.methods(), ["POST", "PATCH", "PUT"], "it is remembered");
}

/// distribution-spec#485: what stands in front of a registry caps bodies, at
/// 100 MB for one.
#[test]
fn a_body_that_is_too_large_comes_in_chunks() {
    let rig = Rig::with(
        Quirks {
            body_max: Some(5 << 20),
            ..Quirks::default()
        },
        // Another way is no repetition.
        |options| options.retries = 0,
    );
    rig.put_whole(&noise(9 << 20));
    assert_eq!(rig.count("PUT", "digest="), 2);
    // One chunk of all is too large as well; half of it is not.
    let patches = rig.registry.log().of("PATCH", "/uploads/");
    let statuses: Vec<_> = patches.iter().map(|patch| patch.status).collect();
    assert_eq!(statuses, [Some(413), Some(202), Some(202)]);

    // What was learnt holds for the next blob: it is never sent in one.
    rig.registry.log().clear();
    rig.put_whole(&noise((9 << 20) + 1)[1..]);
    assert_eq!(rig.count("POST", "/uploads/"), 1);
    assert_eq!(rig.count("PUT", "digest="), 1);
}

#[test]
fn trouble_without_end_is_told_and_cleared_up() {
    let rig = Rig::with(
        Quirks {
            error_bodies: ErrorBodies::Html,
            ..Quirks::default()
        },
        |options| options.retries = 1,
    );
    rig.registry
        .fault(Fault::on("PUT", "digest=").status(500, &[]));
    let error = rig.put(&noise(1000)).unwrap_err();
    let ErrorKind::Answer { status, action, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(*status, Some(500));
    let digest = Digest::of(&noise(1000));
    assert_eq!(*action, format!("take blob {digest} of repository app"));
    assert!(!error.to_string().contains("_state"), "{error}");
    assert_eq!(rig.told.retries(), 1);
    // The session before was not of use any more; the last is taken back.
    assert_eq!(rig.count("DELETE", "/uploads/"), 1);
}

#[test]
fn wrong_bytes_are_refused_in_the_end() {
    let rig = Rig::new();
    let mut wrong = blob(b"these bytes");
    wrong.descriptor = descriptor(MediaType::ImageLayer, Digest::of(b"others"), 11);
    let sent = rig.sent();
    let error = block_on(rig.repository.put_blob(&wrong, None, &sent)).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Answer {
                status: Some(400),
                ..
            }
        ),
        "{error}"
    );
    assert!(rig.registry.blobs("app").is_empty());
}

#[test]
fn a_reader_that_fails_ends_the_upload_with_its_error() {
    let rig = Rig::new();
    let bytes = noise(600_000);
    let bad = Replayable {
        descriptor: layer(&bytes),
        open: Arc::new(move || {
            let error = Error::image("the store", "a file changed");
            let failing = io::Read::chain(
                io::Cursor::new(bytes[..400_000].to_vec()),
                Failing(Some(error)),
            );
            Ok(Box::new(failing))
        }),
    };
    let sent = rig.sent();
    let error = block_on(rig.repository.put_blob(&bad, None, &sent)).unwrap_err();
    assert_eq!(error.to_string(), "the store: a file changed");
    assert_eq!(rig.told.retries(), 0);
    assert!(rig.registry.blobs("app").is_empty());
}

struct Failing(Option<Error>);

impl io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(self.0.take().expect("it is read once")))
    }
}

#[test]
fn cancelling_stops_at_once() {
    let registry = FakeRegistry::start();
    let cx = Context::default();
    let client = Client::new(&cx, &registry.host(), &RegistryOptions::default()).unwrap();
    let repository = client.repository("app");
    registry.fault(Fault::on("PUT", "/uploads/").stall(Duration::from_secs(20)));
    let cancel = cx.cancel.clone();
    let start = Instant::now();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancel.cancel();
    });
    let sent = Arc::new(|_| {}) as _;
    let error = block_on(repository.put_blob(&blob(b"bytes"), None, &sent)).unwrap_err();
    canceller.join().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_mount_takes_no_bytes() {
    let rig = Rig::new();
    rig.registry.put_blob("team/base", b"bytes");
    let mounted = block_on(rig.repository.mount(&layer(b"bytes"), "team/base")).unwrap();
    assert!(matches!(mounted, Mounted::Done), "{mounted:?}");
    assert_eq!(rig.registry.blobs("app").len(), 1);
    assert_eq!(rig.registry.log().received(), 0);
}

/// A registry that does not mount opens a session, which is used.
#[test]
fn the_session_of_a_mount_is_used() {
    let rig = Rig::with(
        Quirks {
            mount: MountAnswer::Session,
            ..Quirks::default()
        },
        |_| {},
    );
    let mounted = block_on(rig.repository.mount(&layer(b"bytes"), "base")).unwrap();
    let Mounted::Session(session) = mounted else {
        panic!("{mounted:?}");
    };
    assert!(!format!("{session:?}").contains("_state"));
    let sent = rig.sent();
    block_on(
        rig.repository
            .put_blob(&blob(b"bytes"), Some(session), &sent),
    )
    .unwrap();
    assert_eq!(rig.methods(), ["POST", "PUT"]);
}

/// harbor#17097, go-containerregistry#1393 and manifest-tool#53: 401 where a
/// session could have been opened.
#[test]
fn a_refused_mount_is_no_error() {
    for status in [400, 401, 403, 404, 405] {
        let rig = Rig::with(
            Quirks {
                mount: MountAnswer::Refused(status),
                ..Quirks::default()
            },
            |_| {},
        );
        let mounted = block_on(rig.repository.mount(&layer(b"bytes"), "base")).unwrap();
        assert!(matches!(mounted, Mounted::Refused(_)), "{status}");
        rig.put_whole(b"bytes");
    }
}

#[test]
fn names_that_lead_elsewhere_are_not_sent() {
    let rig = Rig::new();
    for name in ["../admin", "a?b", ""] {
        let repository = rig.client.repository(name);
        let error = block_on(repository.blob_size(Digest::of(b""))).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Input, "{name}: {error}");
        let error = block_on(rig.repository.mount(&layer(b""), name)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Input, "{name}: {error}");
    }
    assert_eq!(rig.registry.log().entries().len(), 0);
}

/// A registry under a name of its user's that is Google's: dotnet's
/// sdk-container-builds#287, kitops#777.
#[test]
fn a_registry_without_patch_gets_whole_blobs() {
    let rig = Rig::with(
        Quirks {
            patch: PatchSupport::None,
            ..Quirks::default()
        },
        |options| options.chunk_size = std::num::NonZeroU64::new(1000),
    );
    rig.put_whole(&noise(5000));
    assert_eq!(rig.methods(), ["POST", "PATCH", "POST", "PUT"]);
    rig.registry.log().clear();
    rig.put_whole(&noise(6000));
    assert_eq!(rig.methods(), ["POST", "PUT"]);
}
