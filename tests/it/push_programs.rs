//! Programs that an image's platform cannot run are told of by every push, also
//! of layers that are not made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use nix2oci::build::{IndexPart, IndexSource, PushOptions, build_index, push, push_index};
use nix2oci::build::{PushSource, resolve_index};
use nix2oci::content::Entry;
use nix2oci::image::ImageConfig;
use nix2oci::layer::DirCache;
use nix2oci::oci::parse_platform;
use nix2oci::sink::Discard;
use nix2oci::store::PathInfo;
use nix2oci::{
    Closure, ContentSource, Context, ErrorKind, Event, ImageSpec, NarHash, Observer, Result,
    StoreDir, StorePath,
};
use nix2oci_tests::fake_registry::FakeRegistry;
use nix2oci_tests::{MemoryStore, Node};
use sha2::{Digest as _, Sha256};

use super::push::{names, registries};

/// Counts visits.
struct Counted(MemoryStore, AtomicUsize);

impl ContentSource for Counted {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.visit(cx, path, visitor)
    }
}

/// A store path with a program for amd64, and an image of it.
fn image(platform: &str) -> (ImageSpec, Arc<Counted>) {
    let mut program = vec![0; 64];
    program[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    program[16] = 2;
    program[18] = 62;
    program[20] = 1;
    let bin = Node::directory([("app", Node::executable(program))]);
    let node = Node::directory([("bin", bin)]);
    let path: StorePath = format!("{}-app", "a".repeat(32)).parse().unwrap();
    let nar = node.nar();
    let mut info = PathInfo::new(path.clone(), []);
    info.nar_hash = Some(NarHash::new(Sha256::digest(&nar).into()));
    info.nar_size = Some(nar.len() as u64);
    let mut store = MemoryStore::default();
    store.insert(path.clone(), node);
    let closure = Closure::new(StoreDir::default(), [info], &[path], "the test").unwrap();
    let content = Arc::new(Counted(store, AtomicUsize::new(0)));
    let config = ImageConfig::new(parse_platform(platform).unwrap());
    let spec = ImageSpec::new(closure, Arc::clone(&content) as _, config);
    (spec, content)
}

/// Keeps what the observer is warned of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &Event<'_>) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

fn listening() -> (Context, Arc<Warnings>) {
    let heard = Arc::new(Warnings::default());
    let mut cx = Context::default();
    cx.observer = Arc::<Warnings>::clone(&heard);
    (cx, heard)
}

const TOLD: &str = "a store path has programs that linux/arm64 cannot run: \
                    /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-app/bin/app is for amd64 (ELF)";

#[test]
fn a_push_of_what_is_there_warns_as_the_first_one_did() {
    let registry = FakeRegistry::start();
    let dir = tempfile::tempdir().unwrap();
    let mut options = PushOptions::default();
    options.cache = Some(Arc::new(DirCache::new(dir.path(), SystemTime::UNIX_EPOCH)));
    let names = names(&registry, &["app:v1"]);
    let (mut spec, content) = image("linux/arm64");
    let mut told = Vec::new();
    for reuse in [true, true, false] {
        options.reuse = reuse;
        let (cx, heard) = listening();
        push(
            &cx,
            PushSource::Image(&spec),
            &registries(),
            &names,
            &options,
        )
        .unwrap();
        told.extend(heard.0.lock().unwrap().clone());
    }
    assert_eq!(told, [TOLD; 3]);
    assert_eq!(content.1.load(Ordering::Relaxed), 1, "it was packed once");

    // Nobody who is to refuse it has to trust that something is known.
    spec.strict = true;
    for cache in [options.cache.clone(), None] {
        options.cache = cache;
        options.reuse = true;
        let cx = Context::default();
        let error = push(
            &cx,
            PushSource::Image(&spec),
            &registries(),
            &names,
            &options,
        );
        let error = error.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ForeignProgram { .. }),
            "{error}"
        );
    }
    let (mut fitting, _) = image("linux/amd64");
    fitting.strict = true;
    let cx = Context::default();
    push(
        &cx,
        PushSource::Image(&fitting),
        &registries(),
        &names,
        &options,
    )
    .unwrap();
}

/// The same store path for two platforms is packed for the first of them, whose
/// program it is.
#[test]
fn a_layer_of_another_platform_s_image_is_looked_at() {
    let (amd64, _) = image("linux/amd64");
    let (mut arm64, _) = image("linux/arm64");
    let registry = FakeRegistry::start();
    let names = names(&registry, &["app:v1"]);
    let no = BTreeMap::new();
    for strict in [false, true] {
        arm64.strict = strict;
        let parts = [("a", &amd64), ("b", &arm64)].map(|(name, spec)| IndexPart {
            name: name.to_owned(),
            source: IndexSource::Image(spec),
        });
        let options = PushOptions::default();
        let recipe = [("a".to_owned(), &amd64), ("b".to_owned(), &arm64)];
        let (cx, heard) = listening();
        let results = [
            build_index(&cx, &parts, &no, &[], &mut Discard).map(drop),
            push_index(&cx, &parts, &no, &registries(), &names, &options).map(drop),
            resolve_index(&cx, &recipe, &no, &[]).map(drop),
        ];
        for result in results {
            match result {
                Ok(()) => assert!(!strict),
                Err(error) => {
                    assert!(strict, "{error}");
                    assert!(matches!(error.kind(), ErrorKind::ForeignProgram { .. }));
                }
            }
        }
        let expected = if strict { 0 } else { 3 };
        assert_eq!(*heard.0.lock().unwrap(), vec![TOLD; expected]);
    }
}
