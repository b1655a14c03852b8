//! Many uploads at once while much goes wrong, the same in every run.

use std::num::NonZeroU64;
use std::time::Duration;

use nix2oci::Digest;
use nix2oci_tests::fake_registry::{Fault, Quirks};

use super::{Rig, blob, block_on, layer, noise};

/// A generator of small numbers (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn trouble(chance: &mut Chance) -> Fault {
    let (method, target) = match chance.below(5) {
        0 => ("POST", "/uploads/"),
        1 | 2 => ("PUT", "digest="),
        3 => ("PATCH", "/uploads/"),
        _ => ("GET", "/uploads/"),
    };
    let fault = Fault::on(method, target).nth(1 + chance.below(24));
    match chance.below(7) {
        0 => fault.reset(),
        1 => fault.hang_up(),
        2 => fault.lose_answer(),
        3 => fault.status(503, &[("Retry-After", "1")]),
        4 => fault.status(500, &[]),
        5 => fault.stall(Duration::from_millis(300)),
        _ => fault.after_bytes(chance.below(400_000)).reset(),
    }
}

/// Twelve blobs with fourteen faults, in four settings.
#[test]
fn every_blob_arrives_whole_through_faults() {
    for (seed, chunk, quirks) in [
        (1, None, Quirks::default()),
        (2, Some(60_000), Quirks::default()),
        (3, None, Quirks::distribution()),
        (4, Some(90_000), Quirks::distribution()),
    ] {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ seed);
        let rig = Rig::with(quirks, |options| {
            options.chunk_size = chunk.and_then(NonZeroU64::new);
            options.retries = 8;
        });
        for _ in 0..14 {
            rig.registry.fault(trouble(&mut chance));
        }
        let all = noise(500_000);
        let blobs: Vec<_> = (0..12)
            .map(|n| all[n..n + 1000 + chance.below(450_000) as usize].to_vec())
            .collect();
        block_on(async {
            let uploads: Vec<_> = blobs
                .iter()
                .map(|bytes| {
                    let (repository, blob) = (rig.repository.clone(), blob(bytes));
                    let sent = rig.sent();
                    tokio::spawn(async move { repository.put_blob(&blob, None, &sent).await })
                })
                .collect();
            for upload in uploads {
                if let Err(error) = upload.await.unwrap() {
                    panic!("seed {seed}: {error}\n{}", rig.registry.log().text());
                }
            }
        });
        for bytes in &blobs {
            let digest = Digest::of(bytes).to_string();
            let kept = rig.registry.blob("app", &digest);
            assert!(kept.as_deref() == Some(bytes), "seed {seed}: {digest}");
        }
        for message in rig.told.messages.lock().unwrap().iter() {
            assert!(!message.contains("state"), "{message}");
        }
    }
}

/// crust-gather#461: ghcr.io counts uploads; quay answers 429 to
/// many requests (wire-server#2784).
#[test]
fn a_registry_that_takes_few_at_once_gets_all() {
    let rig = Rig::with(
        Quirks {
            uploads_at_once: Some(2),
            latency: Duration::from_millis(20),
            ..Quirks::default()
        },
        |_| {},
    );
    let all = noise(100_000);
    block_on(async {
        let uploads: Vec<_> = (0..16)
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
    assert_eq!(rig.registry.blobs("app").len(), 16);
}

/// Blobs lie elsewhere, at a server that refuses whoever shows credentials.
#[test]
fn blobs_are_found_behind_redirects() {
    let rig = Rig::with(
        Quirks {
            redirects_blobs: true,
            ..Quirks::default()
        },
        |_| {},
    );
    let bytes = noise(1000);
    rig.registry.put_blob("app", &bytes);
    let size = block_on(rig.repository.blob_size(Digest::of(&bytes)));
    assert_eq!(size.unwrap(), Some(1000));
    let read = block_on(rig.repository.read_blob(&layer(&bytes), 1000));
    assert_eq!(read.unwrap(), bytes);
}
