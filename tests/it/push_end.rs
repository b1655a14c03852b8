//! How a push ends that cannot go on: soon, and with the reason.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix2oci::build::{PushOptions, PushSource, push};
use nix2oci::content::Entry;
use nix2oci::registry::{Registries, RegistryOptions};
use nix2oci::{ContentSource, Context, Error, ErrorClass, ErrorKind, Result, StorePath};
use nix2oci_tests::MemoryStore;
use nix2oci_tests::fake_registry::{FakeAuth, FakeRegistry, Fault, MountAnswer, Quirks};
use nix2oci_tests::handmade_image::{HandmadeImage, in_dir};

use super::push::{
    LAYERS, assert_whole, names, push_stored, push_to, registries, release, release_of, stored,
};

#[test]
fn a_registry_that_is_down_is_no_empty_one() {
    let registry = FakeRegistry::start();
    registry.fault(Fault::on("GET", "/manifests/").status(500, &[]));
    let cx = Context::default();
    let mut options = RegistryOptions::default();
    options.retries = 0;
    let registries = Registries::new(&cx, options).unwrap();
    let v1 = release(1);
    let to = names(&registry, &["app:v1"]);
    let source = PushSource::Image(&v1.spec);
    let error = push(&cx, source, &registries, &to, &PushOptions::default()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Remote, "{error}");
}

/// Runs something that has to end by itself.
fn in_time<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(what()));
    let result = receiver.recv_timeout(Duration::from_secs(60));
    result.expect("it hangs")
}

/// Each upload waits for its bytes, which come from the same registry.
#[test]
fn a_copy_within_a_registry_that_mounts_nothing_ends() {
    let registry = Arc::new(FakeRegistry::start_with_quirks(Quirks {
        mount: MountAnswer::Session,
        ..Quirks::default()
    }));
    push_to(
        &registry,
        &release(1).spec,
        &["app:v1"],
        &PushOptions::default(),
    )
    .unwrap();
    let there = Arc::clone(&registry);
    let report = in_time(move || {
        let mut options = RegistryOptions::default();
        options.jobs = 2.try_into().unwrap();
        let registries = Arc::new(Registries::new(&Context::default(), options).unwrap());
        let from = &names(&there, &["app:v1"])[0];
        let image = Arc::new(registries.open(from).unwrap());
        push_stored(&image, &registries, &names(&there, &["copy:v1"]))
    });
    assert_whole(&registry, "copy", "v1", &report.unwrap());
}

/// An upload that breaks while its bytes are waited for must not wait for them
/// on the thread that brings them.
#[test]
fn a_copy_whose_upload_breaks_before_its_bytes_come_goes_on() {
    let (one, two) = (FakeRegistry::start(), FakeRegistry::start());
    let image = in_dir(&HandmadeImage::default().layout());
    let from = names(&one, &["app:v1"]);
    push_stored(&stored(&image.path), &registries(), &from).unwrap();
    one.fault(Fault::on("GET", "/blobs/").stall(Duration::from_secs(1)));
    two.fault(Fault::on("PUT", "/blobs/uploads/").first(3).hang_up());
    let to = names(&two, &["app:v1"]);
    let report = in_time(move || {
        let registries = registries();
        let image = Arc::new(registries.open(&from[0]).unwrap());
        push_stored(&image, &registries, &to)
    });
    assert_whole(&two, "app", "v1", &report.unwrap());
}

/// Who may not push hears so before a layer is packed.
#[test]
fn who_may_not_push_hears_it_at_once() {
    let registry = FakeRegistry::start_with_auth(FakeAuth::bearer());
    let v1 = release_of(1, 3_000_000);
    let error = push_to(&registry, &v1.spec, &["app:v1"], &PushOptions::default()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error}");
    assert_eq!(v1.read(), [""; 0]);
}

/// Gives a store path whole and then says that it could not be read.
struct Unreadable(MemoryStore);

impl ContentSource for Unreadable {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.0.visit(cx, path, visitor)?;
        // Others wait for a permit by now.
        std::thread::sleep(Duration::from_millis(200));
        Err(Error::reading(Path::new("/nix/store"))(
            std::io::ErrorKind::PermissionDenied.into(),
        ))
    }
}

/// Blocks that wait to be packed must not keep their stream, whose permit
/// another thread waits for.
#[test]
fn a_store_that_cannot_be_read_ends_a_push_with_more_threads_than_permits() {
    let registry = Arc::new(FakeRegistry::start());
    let there = Arc::clone(&registry);
    let error = in_time(move || {
        let mut options = RegistryOptions::default();
        options.jobs = 1.try_into().unwrap();
        let mut cx = Context::default();
        cx.threads = 2.try_into().unwrap();
        let registries = Registries::new(&cx, options).unwrap();
        let mut v1 = release_of(1, 12_000_000);
        v1.spec.content = Arc::new(Unreadable(v1.content.store.clone()));
        let to = names(&there, &["app:v1"]);
        let source = PushSource::Image(&v1.spec);
        push(&cx, source, &registries, &to, &PushOptions::default()).unwrap_err()
    });
    assert!(
        matches!(error.kind(), ErrorKind::ReadInput { .. }),
        "{error}"
    );
    assert!(registry.tags("app").is_empty());
}

/// Streams, files, rounds and repetitions do not multiply.
#[test]
fn a_registry_that_always_fails_is_asked_a_bounded_number_of_times() {
    const RETRIES: u32 = 2;
    let fail: fn(Fault) -> Fault = |fault| fault.status(503, &[]);
    for (fault, methods) in [
        (fail, &["*"][..]),
        (fail, &["PATCH", "PUT"]),
        (Fault::reset, &["*"]),
        (Fault::reset, &["PATCH", "PUT"]),
    ] {
        let registry = FakeRegistry::start();
        for method in methods {
            registry.fault(fault(Fault::on(method, "/blobs/uploads/")));
        }
        let cx = Context::default();
        let mut options = RegistryOptions::default();
        options.retries = RETRIES;
        let registries = Registries::new(&cx, options).unwrap();
        let v1 = release(1);
        let to = names(&registry, &["app:v1"]);
        let start = Instant::now();
        let source = PushSource::Image(&v1.spec);
        let error = push(&cx, source, &registries, &to, &PushOptions::default()).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(error.class(), ErrorClass::Remote, "{error}");
        assert!(error.to_string().contains("3 times"), "{error}");
        assert!(registry.tags("app").is_empty());
        // Each layer as a stream and, with repetitions, from a file: a session,
        // its bytes, whether it came, its end.
        let log = registry.log();
        let entries = log.entries();
        let asked = entries.iter().filter(|e| e.target().contains("/blobs/"));
        let most = LAYERS * (2 + RETRIES as usize) * 4;
        assert!(asked.count() <= most, "{}", log.text());
    }
}

/// What is still on its way is not waited for.
#[test]
fn a_refusal_ends_the_other_uploads() {
    let registry = FakeRegistry::start();
    let long = Duration::from_secs(20);
    registry.fault(Fault::on("PUT", "/blobs/uploads/").nth(1).stall(long));
    registry.fault(Fault::on("PUT", "/blobs/uploads/").nth(2).status(403, &[]));
    let disk = in_dir(&HandmadeImage::default().layout());
    let start = Instant::now();
    let to = names(&registry, &["app:v1"]);
    let error = push_stored(&stored(&disk.path), &registries(), &to).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied, "{error}");
    assert!(start.elapsed() < long / 2);
}

/// Connections may serve many pushes, each with a flag of its own.
#[test]
fn the_flag_of_a_push_ends_it() {
    let registry = FakeRegistry::start();
    let long = Duration::from_secs(20);
    registry.fault(
        Fault::on("PATCH", "/blobs/uploads/")
            .after_bytes(1)
            .stall(long),
    );
    let cx = Context::default();
    let cancel = cx.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        cancel.cancel();
    });
    let start = Instant::now();
    let v1 = release_of(1, 12_000_000);
    let to = names(&registry, &["app:v1"]);
    let source = PushSource::Image(&v1.spec);
    let error = push(&cx, source, &registries(), &to, &PushOptions::default()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Cancelled, "{error}");
    assert!(start.elapsed() < long / 2);
}

/// A registry that is started anew breaks all streams at once.
#[test]
fn streams_that_break_together_are_sent_again() {
    let registry = FakeRegistry::start();
    let outage = Fault::on("PATCH", "/blobs/uploads/");
    registry.fault(outage.first(3).after_bytes(100_000).reset());
    let large = release_of(1, 3_000_000);
    let mut cx = Context::default();
    cx.threads = 4.try_into().unwrap();
    let to = names(&registry, &["app:v1"]);
    let source = PushSource::Image(&large.spec);
    let report = push(&cx, source, &registries(), &to, &PushOptions::default()).unwrap();
    assert_whole(&registry, "app", "v1", &report);
}
