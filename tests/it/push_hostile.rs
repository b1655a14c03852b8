//! What a push makes of a registry, an earlier image or a cache that is not as
//! it should be: the image gets there all the same, or the error says why not.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nix2oci::Context;
use nix2oci::build::PushOptions;
use nix2oci::registry::{Registries, RegistryOptions};
use nix2oci_tests::fake_registry::{FakeRegistry, MountAnswer, Quirks};

use super::push::{assert_whole, names, push_stored, push_to, release};

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
