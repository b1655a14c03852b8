//! Every source of contents gives the same objects and the same images: a
//! store on disk, its NARs, and some of both.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix2oci::build::resolve;
use nix2oci::content::{
    ContentSource, Entry, FirstOf, NarOrigin, NarReader, VerifiedContent, nar_size,
};
use nix2oci::image::ImageConfig;
use nix2oci::oci::parse_platform;
use nix2oci::store::PathInfo;
use nix2oci::{
    Closure, Context, Error, ImageSpec, LocalStore, NarHash, Result, StoreDir, StorePath,
};
use nix2oci_tests::command::run_bytes;
use nix2oci_tests::{FixtureStore, MemoryStore, Node};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

/// Store paths as NARs in memory.
#[derive(Default)]
struct Nars(BTreeMap<StorePath, Vec<u8>>);

impl Nars {
    fn of(store: &MemoryStore) -> Self {
        Self(
            store
                .paths()
                .map(|(path, node)| (path.clone(), node.nar()))
                .collect(),
        )
    }
}

fn origin(path: &StorePath) -> NarOrigin {
    NarOrigin {
        from: "the test".to_owned(),
        path: StoreDir::default().join(path),
    }
}

impl ContentSource for Nars {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(nar) = self.0.get(path) else {
            return Err(Error::invalid(path.as_str(), "there is no NAR of it"));
        };
        let size = nar.len() as u64;
        NarReader::new(&nar[..], origin(path))
            .with_nar_size(size)
            .visit(cx, visitor)
    }

    fn has(&self, _: &Context, path: &StorePath) -> Result<bool> {
        Ok(self.0.contains_key(path))
    }
}

/// Objects with all that they are.
type Objects = Vec<(Vec<u8>, String, Vec<u8>)>;

/// Adds an object, whose contents are read `piece` bytes at a time.
fn add(objects: &mut Objects, entry: Entry<'_>, piece: usize) -> Result<()> {
    let path = entry.path().to_vec();
    objects.push(match entry {
        Entry::Directory { .. } => (path, "directory".to_owned(), Vec::new()),
        Entry::Symlink { target, .. } => (path, "symlink".to_owned(), target.to_vec()),
        Entry::File {
            executable,
            size,
            contents,
            ..
        } => {
            let mut bytes = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                match contents.read(&mut buffer)? {
                    0 => break,
                    n => bytes.extend_from_slice(&buffer[..n]),
                }
            }
            let kind = if executable { "executable" } else { "file" };
            (path, format!("{kind} of {size}"), bytes)
        }
    });
    Ok(())
}

fn objects(source: &dyn ContentSource, path: &StorePath) -> Objects {
    let mut objects = Objects::new();
    source
        .visit(&Context::default(), path, &mut |entry| {
            add(&mut objects, entry, 4099)
        })
        .unwrap();
    objects
}

fn store_path(digit: char, name: &str) -> StorePath {
    let hash: String = std::iter::repeat_n(digit, 32).collect();
    format!("{hash}-{name}").parse().unwrap()
}

/// A closure of all that a store in memory has.
fn closure(store: &MemoryStore) -> Closure {
    let infos = store.paths().map(|(path, node)| {
        let nar = node.nar();
        let mut info = PathInfo::new(path.clone(), []);
        info.nar_hash = Some(NarHash::new(Sha256::digest(&nar).into()));
        info.nar_size = Some(nar.len() as u64);
        info
    });
    let roots: Vec<_> = store.paths().map(|(path, _)| path.clone()).collect();
    Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap()
}

fn image(closure: &Closure, content: Arc<dyn ContentSource>) -> String {
    let config = ImageConfig::new(parse_platform("linux/amd64").unwrap());
    let spec = ImageSpec::new(closure.clone(), content, config);
    let recipe = resolve(&Context::default(), &spec).unwrap();
    recipe.manifest_digest
}

/// Bytes that do not repeat soon.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// What a store may have in it, odd and large things too.
fn odd_store() -> MemoryStore {
    let deep = (0..200).fold(Node::file("deep"), |node, _| Node::directory([("d", node)]));
    let many = (0..3000).map(|n| (format!("{n:04}"), Node::file(n.to_string())));
    let odd = Node::directory([
        (b"empty".to_vec(), Node::directory::<&str>([])),
        (b"a b".to_vec(), Node::file("")),
        (b"a.b".to_vec(), Node::directory([("x", Node::file("x"))])),
        (b"a".to_vec(), Node::directory([("y", Node::symlink("z"))])),
        (b"\xff\xfe".to_vec(), Node::executable("#!/bin/sh\n")),
        (b"new\nline".to_vec(), Node::symlink(b"to \xff")),
        (vec![b'n'; 255], Node::symlink(vec![b't'; 4000])),
        ("ünïcödé".into(), Node::executable("")),
    ]);
    MemoryStore::from([
        (store_path('0', "odd"), odd),
        (store_path('1', "deep"), deep),
        (store_path('2', "many"), Node::directory(many)),
        (
            store_path('3', "large"),
            Node::directory([
                ("bin", Node::executable(noise(3 << 20))),
                ("zero", Node::file(vec![0; (1 << 20) + 1])),
            ]),
        ),
        (store_path('4', "file"), Node::executable(noise(70_001))),
        (store_path('5', "link"), Node::symlink("/nix/store/other")),
        (store_path('6', "empty"), Node::directory::<&str>([])),
    ])
}

#[test]
fn an_image_is_the_same_from_disk_and_from_nars() {
    let store = odd_store();
    let root = tempfile::tempdir().unwrap();
    let store_dir = StoreDir::default();
    store.write(root.path(), &store_dir).unwrap();
    let local = LocalStore::below(root.path(), &store_dir);
    for (path, _) in store.paths() {
        let (disk, nar) = (objects(&local, path), objects(&Nars::of(&store), path));
        assert!(disk == nar, "{path}");
    }

    let closure = closure(&store);
    let expected = image(&closure, Arc::new(store.clone()));
    let nars = || Arc::new(Nars::of(&store));
    assert_eq!(image(&closure, Arc::new(local.clone())), expected);
    assert_eq!(image(&closure, nars()), expected);
    let verified = VerifiedContent::new(nars(), &closure).unwrap();
    assert_eq!(image(&closure, Arc::new(verified)), expected);

    // Every other path is on disk, the rest comes from the NARs.
    for (path, _) in store.paths().step_by(2) {
        let real = store_dir.join_below(root.path(), path);
        let removed = if real.is_symlink() || real.is_file() {
            fs::remove_file(&real)
        } else {
            make_writable(&real);
            fs::remove_dir_all(&real)
        };
        removed.unwrap();
    }
    let both = FirstOf::new(
        store_dir,
        vec![
            ("the disk".to_owned(), Arc::new(local) as _),
            ("the NARs".to_owned(), nars() as _),
        ],
    );
    assert_eq!(image(&closure, Arc::new(both)), expected);
    make_writable(root.path());
}

/// Lets others than root delete what is in a folder.
fn make_writable(path: &Path) {
    run_bytes(Command::new("chmod").args(["-R", "u+w"]).arg(path));
}

#[test]
fn nix_dumps_what_is_read() {
    let store = FixtureStore::new();
    let local = LocalStore::below(&store.root(), &StoreDir::default());
    for (name, full) in store.fixtures() {
        let nar = run_bytes(
            store
                .nix("nix-store")
                .arg("--dump")
                .arg(store.outside(full)),
        );
        let path = StoreDir::default().parse_path(full).unwrap();
        let nars = Nars(BTreeMap::from([(path.clone(), nar)]));
        assert!(objects(&nars, &path) == objects(&local, &path), "{name}");
    }
}

/// A name that a directory may have.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c.]{1,3}".prop_map(String::into_bytes),
        prop::collection::vec(1..=255_u8, 1..12),
    ]
    .prop_filter("not a name", |name| {
        !name.contains(&b'/') && !matches!(&name[..], b"." | b"..")
    })
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..40), any::<bool>()).prop_map(
            |(contents, executable)| Node::File {
                contents,
                executable,
            }
        ),
        prop::collection::vec(1..=255_u8, 1..40).prop_map(Node::Symlink),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop::collection::btree_map(name(), inner, 0..6).prop_map(Node::Directory)
    })
}

/// Reads a NAR as one of several in a row.
fn objects_of_one(input: impl BufRead, path: &StorePath, piece: usize) -> Objects {
    let mut objects = Objects::new();
    NarReader::buffered(input, origin(path))
        .visit_one(&Context::default(), &mut |entry| {
            add(&mut objects, entry, piece)
        })
        .unwrap();
    objects
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_tree_is_the_same_from_disk_and_from_its_nar(
        node in tree(),
        piece in 1..50_usize,
        buffer in 1..50_usize,
    ) {
        let path = store_path('0', "tree");
        let store = MemoryStore::from([(path.clone(), node)]);
        let root = tempfile::tempdir().unwrap();
        store.write(root.path(), &StoreDir::default()).unwrap();
        let local = LocalStore::below(root.path(), &StoreDir::default());
        let nars = Nars::of(&store);
        let expected = objects(&store, &path);
        prop_assert_eq!(&objects(&local, &path), &expected);
        prop_assert_eq!(&objects(&nars, &path), &expected);

        let nar = &nars.0[&path];
        let small = BufReader::with_capacity(buffer, &nar[..]);
        prop_assert_eq!(&objects_of_one(small, &path, piece), &expected);
        let cx = Context::default();
        prop_assert_eq!(nar_size(&cx, &nars, &path).unwrap(), nar.len() as u64);
        prop_assert_eq!(nar_size(&cx, &local, &path).unwrap(), nar.len() as u64);
        make_writable(root.path());
    }
}
