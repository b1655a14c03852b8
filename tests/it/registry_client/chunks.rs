//! Blobs in chunks.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::sync::Arc;

use nix2oci::Digest;
use nix2oci::oci::{MediaType, descriptor};
use nix2oci::registry::Replayable;
use nix2oci_tests::fake_registry::{Entry, Fault, PatchSupport, Quirks, RangeAnswer};

use super::{Rig, block_on, noise};

const CHUNK: u64 = 100_000;

fn chunked(quirks: Quirks) -> Rig {
    Rig::with(quirks, |options| {
        options.chunk_size = NonZeroU64::new(CHUNK);
    })
}

fn ranges(rig: &Rig) -> Vec<String> {
    let range = |entry: &Entry| entry.headers.get("Content-Range").map(str::to_owned);
    let patches = rig.registry.log().of("PATCH", "/uploads/");
    patches.iter().filter_map(range).collect()
}

#[test]
fn chunks_come_in_order_and_are_closed() {
    let rig = chunked(Quirks::default());
    rig.put_whole(&noise(250_000));
    assert_eq!(rig.methods(), ["POST", "PATCH", "PATCH", "PATCH", "PUT"]);
    assert_eq!(ranges(&rig), ["0-99999", "100000-199999", "200000-249999"]);
    rig.registry.log().clear();
    rig.put_whole(&noise(CHUNK as usize));
    assert_eq!(rig.methods(), ["POST", "PATCH", "PUT"]);
}

#[test]
fn chunks_are_as_long_as_the_registry_wants() {
    let rig = chunked(Quirks {
        chunk_min: Some(120_000),
        ..Quirks::default()
    });
    rig.put_whole(&noise(250_000));
    assert_eq!(ranges(&rig), ["0-119999", "120000-239999"]);
    // A short PATCH would not be known to be the last.
    let put = &rig.registry.log().of("PUT", "digest=")[0];
    assert_eq!(put.headers.get("Content-Range"), Some("240000-249999"));
}

/// serverless-registry#115: a limit of no specification.
#[test]
fn chunks_are_as_short_as_the_registry_wants() {
    let rig = chunked(Quirks::default());
    rig.registry.fault(
        Fault::on("POST", "/uploads/")
            .change(|answer| answer.header("OCI-Chunk-Max-Length", "70000")),
    );
    rig.put_whole(&noise(150_000));
    assert_eq!(ranges(&rig), ["0-69999", "70000-139999", "140000-149999"]);
}

#[test]
fn a_limit_that_makes_no_sense_is_none() {
    for limit in ["0", "1"] {
        let rig = chunked(Quirks::default());
        rig.registry.fault(
            Fault::on("POST", "/uploads/")
                .change(move |answer| answer.header("OCI-Chunk-Max-Length", limit)),
        );
        rig.put_whole(&noise(150_000));
        assert_eq!(ranges(&rig), ["0-65535", "65536-131071", "131072-149999"]);
    }
}

/// openai/tart#273, jdx/mise#11376: ECR says 201 to a chunk.
/// aws/containers-roadmap#2831, chalk#682: its Range stays at the first.
#[test]
fn the_chunks_of_ecr_arrive() {
    let rig = chunked(Quirks {
        patch_status: 201,
        range: RangeAnswer::Sticks,
        manifest_location: false,
        ..Quirks::default()
    });
    rig.put_whole(&noise(450_000));
    assert_eq!(rig.methods().len(), 7);
    assert_eq!(rig.told.retries(), 0);
}

/// regclient#961: zot's Range was too small.
#[test]
fn a_range_that_is_too_small_or_missing_is_borne() {
    for range in [RangeAnswer::Short, RangeAnswer::Absent] {
        let rig = chunked(Quirks {
            range,
            ..Quirks::default()
        });
        rig.put_whole(&noise(450_000));
        assert_eq!(rig.methods().len(), 7);
        assert_eq!(rig.told.again(), 0);
    }
}

/// rust-oci-client#35, ocx-sh/ocx#237: 416 to a chunk of more than 4 MiB. By
/// its host only ghcr.io is known; others like it say so.
#[test]
fn a_416_to_the_first_chunk_makes_chunks_small() {
    let rig = Rig::with(
        Quirks {
            chunk_max: Some(4 << 20),
            ..Quirks::default()
        },
        |options| options.chunk_size = NonZeroU64::new(5 << 20),
    );
    rig.put_whole(&noise(9 << 20));
    let ranges = ranges(&rig);
    assert_eq!(ranges[0], "0-5242879");
    assert_eq!(
        ranges[1..],
        ["0-4194303", "4194304-8388607", "8388608-9437183"]
    );
}

/// distribution 2.8.2 does not look at Content-Range and appends what comes, so
/// nothing may be sent twice.
#[test]
fn a_broken_chunk_goes_on_where_it_broke() {
    for ignores_content_range in [false, true] {
        let rig = chunked(Quirks {
            ignores_content_range,
            ..Quirks::default()
        });
        rig.registry.fault(
            Fault::on("PATCH", "/uploads/")
                .nth(2)
                .after_bytes(40_000)
                .reset(),
        );
        let bytes = noise(500_000);
        rig.put_whole(&bytes);
        assert_eq!(rig.count("POST", "/uploads/"), 1);
        assert_eq!(rig.count("GET", "/uploads/"), 1);
        let digest = Digest::of(&bytes).to_string();
        assert_eq!(rig.registry.log().uploaded_bytes(&digest), 500_000);
        assert_eq!(rig.told.again(), 0);
        assert!(ranges(&rig).contains(&"140000-239999".to_owned()));
    }
}

/// What is there is not given up because the network is away for longer.
#[test]
fn a_session_is_asked_until_it_answers() {
    let rig = chunked(Quirks::default());
    rig.registry.fault(
        Fault::on("PATCH", "/uploads/")
            .nth(3)
            .after_bytes(40_000)
            .reset(),
    );
    rig.registry
        .fault(Fault::on("GET", "/uploads/").first(2).hang_up());
    rig.put_whole(&noise(500_000));
    assert_eq!(rig.count("POST", "/uploads/"), 1);
    assert_eq!(rig.count("GET", "/uploads/"), 3);
}

#[test]
fn a_lost_answer_to_a_chunk_is_asked_for() {
    let rig = chunked(Quirks {
        location_state: false,
        ..Quirks::default()
    });
    rig.registry
        .fault(Fault::on("PATCH", "/uploads/").nth(2).lose_answer());
    let bytes = noise(300_000);
    rig.put_whole(&bytes);
    let digest = Digest::of(&bytes).to_string();
    assert_eq!(rig.registry.log().uploaded_bytes(&digest), 300_000);
}

/// distribution 2.8.2: the state of a session with a lost answer is old, and
/// an old one is answered 404.
#[test]
fn a_session_that_cannot_go_on_is_replaced() {
    let rig = chunked(Quirks::default());
    rig.registry
        .fault(Fault::on("PATCH", "/uploads/").nth(2).lose_answer());
    rig.put_whole(&noise(300_000));
    assert_eq!(rig.count("POST", "/uploads/"), 2);
    assert_eq!(rig.told.again(), 1);
}

/// A registry that has less than it said takes up where it is.
#[test]
fn a_416_in_the_middle_is_looked_into() {
    let rig = chunked(Quirks::default());
    rig.registry.fault(
        Fault::on("PATCH", "/uploads/")
            .nth(2)
            .after_bytes(60_000)
            .status(202, &[]),
    );
    let bytes = noise(400_000);
    rig.put_whole(&bytes);
    assert_eq!(rig.count("POST", "/uploads/"), 1);
    let digest = Digest::of(&bytes).to_string();
    assert_eq!(
        rig.registry.log().uploaded_bytes(&digest),
        400_000,
        "{}",
        rig.registry.log().text()
    );
}

/// Every chunk but the first breaks once: more failures than retries, but each
/// after progress.
#[test]
fn retries_count_from_the_last_progress() {
    let rig = Rig::with(Quirks::default(), |options| {
        options.chunk_size = NonZeroU64::new(CHUNK);
        options.retries = 1;
    });
    // A fault does not count the requests that another one broke.
    for n in [2, 3, 4] {
        rig.registry.fault(
            Fault::on("PATCH", "/uploads/")
                .nth(n)
                .after_bytes(1000)
                .reset(),
        );
    }
    rig.put_whole(&noise(450_000));
    assert_eq!(rig.told.retries(), 3);
    assert_eq!(rig.count("POST", "/uploads/"), 1);
}

#[test]
fn a_registry_that_takes_a_little_each_time_is_given_up() {
    let rig = Rig::with(Quirks::default(), |options| {
        options.chunk_size = NonZeroU64::new(CHUNK);
        options.retries = 2;
    });
    rig.registry
        .fault(Fault::on("PATCH", "/uploads/").after_bytes(1000).reset());
    let error = rig.put(&noise(40_000)).unwrap_err();
    assert!(error.to_string().contains("3 times"), "{error}");
    assert_eq!(rig.count("PATCH", "/uploads/"), 3);
}

#[test]
fn chunks_that_are_refused_become_a_whole() {
    let rig = chunked(Quirks {
        patch: PatchSupport::Streams,
        ..Quirks::default()
    });
    rig.put_whole(&noise(250_000));
    assert_eq!(rig.methods(), ["POST", "PATCH", "POST", "PUT"]);
}

/// Zeros without end.
struct Zeros;

impl Read for Zeros {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        buf.fill(0);
        Ok(buf.len())
    }
}

/// A blob of more than 64 MiB is not sent twice because it broke near its end.
#[test]
fn a_large_blob_goes_on_in_chunks() {
    const SIZE: u64 = 70 << 20;
    let rig = Rig::with(
        Quirks {
            location_state: false,
            ..Quirks::default()
        },
        |_| {},
    );
    rig.registry.fault(
        Fault::on("PUT", "digest=")
            .nth(1)
            .after_bytes(65 << 20)
            .reset(),
    );
    let mut hasher = nix2oci::digest::Hasher::new();
    for _ in 0..70 {
        hasher.update(&vec![0; 1 << 20]);
    }
    let digest = hasher.finish();
    let large = Replayable {
        descriptor: descriptor(MediaType::ImageLayerGzip, digest, SIZE),
        open: Arc::new(|| Ok(Box::new(Zeros.take(SIZE)))),
    };
    let sent = rig.sent();
    block_on(rig.repository.put_blob(&large, None, &sent)).unwrap();
    let digest = digest.to_string();
    assert_eq!(rig.registry.blobs("app").get(&digest), Some(&SIZE));
    let received = rig.registry.log().uploaded_bytes(&digest);
    assert_eq!(received, SIZE, "{}", rig.registry.log().text());
    assert_eq!(rig.told.again(), 0);
    assert_eq!(rig.told.sent(), SIZE);
}
