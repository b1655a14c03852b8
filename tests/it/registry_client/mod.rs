//! The registry client against a registry that does what it is told to, and
//! against Debian's.

mod access;
mod blobs;
mod chaos;
mod chunks;
mod distribution;
mod hosts;
mod lists;
mod manifests;

use std::io::Read;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix2oci::oci::{Descriptor, MediaType, descriptor};
use nix2oci::registry::{Client, RegistryOptions, Replayable, Repository, Sent, SentFn};
use nix2oci::{Context, Digest, Event, Observer};
use nix2oci_tests::FakeRegistry;
use nix2oci_tests::fake_registry::{FakeOptions, Quirks};

/// A registry, a client of it, and what the client told.
struct Rig {
    registry: FakeRegistry,
    client: Client,
    repository: Repository,
    told: Arc<Told>,
}

/// What observers and uploads heard.
#[derive(Default)]
struct Told {
    retries: AtomicUsize,
    again: AtomicUsize,
    /// Bytes that were sent and not lost.
    sent: AtomicU64,
    messages: Mutex<Vec<String>>,
}

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        if let Event::Retry { message, .. } = event {
            self.retries.fetch_add(1, Ordering::SeqCst);
            self.messages.lock().unwrap().push((*message).to_owned());
        }
    }
}

impl Told {
    fn retries(&self) -> usize {
        self.retries.load(Ordering::SeqCst)
    }

    fn again(&self) -> usize {
        self.again.load(Ordering::SeqCst)
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(Quirks::default(), |_| {})
    }

    fn with(quirks: Quirks, options: impl FnOnce(&mut RegistryOptions)) -> Self {
        let registry = FakeRegistry::start_with(FakeOptions {
            quirks,
            ..FakeOptions::default()
        });
        Self::of(registry, options)
    }

    fn of(registry: FakeRegistry, change: impl FnOnce(&mut RegistryOptions)) -> Self {
        let told = Arc::new(Told::default());
        let mut cx = Context::default();
        cx.observer = told.clone();
        let mut options = RegistryOptions::default();
        change(&mut options);
        let client = Client::new(&cx, &registry.host(), &options).unwrap();
        let repository = client.repository("app");
        Self {
            registry,
            client,
            repository,
            told,
        }
    }

    fn sent(&self) -> SentFn {
        let told = self.told.clone();
        Arc::new(move |sent| match sent {
            Sent::Bytes(bytes) => {
                told.sent.fetch_add(bytes, Ordering::SeqCst);
            }
            Sent::Again => {
                told.again.fetch_add(1, Ordering::SeqCst);
                told.sent.store(0, Ordering::SeqCst);
            }
            _ => unreachable!("an upload tells nothing else"),
        })
    }

    /// Sends a blob.
    fn put(&self, bytes: &[u8]) -> nix2oci::Result<()> {
        let sent = self.sent();
        block_on(self.repository.put_blob(&blob(bytes), None, &sent))
    }

    /// Sends a blob, which must arrive.
    #[track_caller]
    fn put_whole(&self, bytes: &[u8]) {
        self.told.sent.store(0, Ordering::SeqCst);
        if let Err(error) = self.put(bytes) {
            panic!("{error}\n{}", self.registry.log().text());
        }
        let digest = Digest::of(bytes).to_string();
        let there = self.registry.blobs("app");
        assert_eq!(there.get(&digest), Some(&(bytes.len() as u64)));
        assert_eq!(self.told.sent(), bytes.len() as u64, "bytes told");
    }

    /// Returns how many requests had this method and this text in their target.
    fn count(&self, method: &str, target: &str) -> usize {
        self.registry.log().count(method, target)
    }

    /// Returns the methods of all requests in order, those that ask whether the
    /// registry speaks TLS left out.
    fn methods(&self) -> Vec<String> {
        let entries = self.registry.log().entries();
        entries.into_iter().map(|entry| entry.method).collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Makes bytes that no two places of have in common.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn layer(bytes: &[u8]) -> Descriptor {
    let digest = Digest::of(bytes);
    descriptor(MediaType::ImageLayerGzip, digest, bytes.len() as u64)
}

fn blob(bytes: &[u8]) -> Replayable {
    let descriptor = layer(bytes);
    let bytes: Arc<[u8]> = bytes.into();
    let open = move || -> nix2oci::Result<Box<dyn Read + Send>> {
        Ok(Box::new(std::io::Cursor::new(bytes.clone())))
    };
    Replayable {
        descriptor,
        open: Arc::new(open),
    }
}
