//! Copies of store paths in the image's root, and the layers that hold them:
//! the bytes, modes and owners, through rules as well.

use std::sync::Arc;

use nix2oci::build::{Recipe, build, plan, resolve};
use nix2oci::image::ImageConfig;
use nix2oci::layer::{Compression, Owner, survey};
use nix2oci::oci::parse_platform;
use nix2oci::plan::{
    Copies, Metadata, Pattern, PatternKind, Rewrite, RootFile, RootNode, RootTree, Rule,
};
use nix2oci::sink::Destination;
use nix2oci::{
    Closure, Context, ErrorKind, ImageSpec, NarHash, PathInfo, Result, StoreDir, StorePath,
};
use nix2oci_tests::image_files::layer_tars;
use nix2oci_tests::{MemoryStore, Node, Tree};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn path(name: &str) -> StorePath {
    format!("{}-{name}", "0".repeat(32)).parse().unwrap()
}

fn full(name: &str) -> String {
    StoreDir::default().join(&path(name))
}

fn nar_hash(node: &Node) -> NarHash {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(node.nar()));
    format!("sha256:{hash}").parse().unwrap()
}

/// A store, and what its paths have in their NARs.
fn store<const N: usize>(paths: [(&str, Node); N]) -> MemoryStore {
    MemoryStore::from(paths.map(|(name, node)| (path(name), node)))
}

fn add(tree: &mut RootTree, store: &MemoryStore, copies: &Copies) -> Result<()> {
    let known = |path: &StorePath| store.get(path).map(nar_hash);
    tree.add_copies(
        &Context::default(),
        &StoreDir::default(),
        store,
        &known,
        copies,
    )
}

fn copied(store: &MemoryStore, names: &[&str]) -> Result<RootTree> {
    let mut tree = RootTree::default();
    for name in names {
        add(&mut tree, store, &Copies::new(path(name)))?;
    }
    Ok(tree)
}

/// The tree in lines: `@name/inside` where bytes come from the store.
fn list(tree: &RootTree) -> Vec<String> {
    let line = |(at, node, metadata): (&[u8], &RootNode, &Metadata)| {
        let at = at.escape_ascii();
        let mode = metadata.mode.unwrap_or(node.default_mode());
        match node {
            RootNode::Directory => format!("{at}/ {mode:o}"),
            RootNode::Symlink { target } => format!("{at} -> {}", target.escape_ascii()),
            RootNode::File(RootFile::Stored { path, inside, .. }) => {
                format!("{at} {mode:o} @{}/{}", path.name(), inside.escape_ascii())
            }
            other => panic!("{at} is {other:?}"),
        }
    };
    tree.nodes().map(line).collect()
}

fn tools() -> Node {
    Node::directory([
        (
            "bin",
            Node::directory([
                ("ls", Node::executable("list")),
                ("dir", Node::symlink("ls")),
            ]),
        ),
        (
            "etc",
            Node::directory([("conf", Node::file("a = 1")), ("empty", dir([]))]),
        ),
    ])
}

fn dir<const N: usize>(names: [(&str, Node); N]) -> Node {
    Node::directory(names)
}

#[test]
fn files_are_copied_with_the_modes_of_the_store() {
    let tree = copied(&store([("tools", tools())]), &["tools"]).unwrap();
    let expected = [
        "bin/ 755",
        "bin/dir -> ls",
        "bin/ls 555 @tools/bin/ls",
        "etc/ 755",
        "etc/conf 444 @tools/etc/conf",
        "etc/empty/ 755",
    ];
    assert_eq!(list(&tree), expected);
    assert_eq!(tree.file_bytes(), 9);
}

#[test]
fn links_to_directories_become_them_if_that_is_asked_for_and_ends() {
    let store = store([
        ("tools", tools()),
        ("again", Node::symlink(full("tools"))),
        (
            "env",
            dir([
                ("bin", Node::symlink(format!("{}/bin", full("again")))),
                ("config", Node::symlink("deep/etc")),
                ("conf", Node::symlink(format!("{}/etc/conf", full("tools")))),
                ("deep", Node::symlink(full("tools"))),
                ("host", Node::symlink("/etc")),
                ("loop", Node::symlink(".")),
                ("nothing", Node::symlink("nowhere")),
            ]),
        ),
    ]);
    let mut copies = Copies::new(path("env"));
    copies.follow_directory_links = true;
    let mut tree = RootTree::default();
    add(&mut tree, &store, &copies).unwrap();
    let conf = format!("conf -> {}/etc/conf", full("tools"));
    let expected = [
        "bin/ 755",
        "bin/dir -> ls",
        "bin/ls 555 @tools/bin/ls",
        &conf,
        "config/ 755",
        "config/conf 444 @tools/etc/conf",
        "config/empty/ 755",
        "deep/ 755",
        "deep/bin/ 755",
        "deep/bin/dir -> ls",
        "deep/bin/ls 555 @tools/bin/ls",
        "deep/etc/ 755",
        "deep/etc/conf 444 @tools/etc/conf",
        "deep/etc/empty/ 755",
        "host -> /etc",
        "loop -> .",
        "nothing -> nowhere",
    ];
    assert_eq!(list(&tree), expected);
    // Two packages that join in one directory.
    let mut other = Copies::new(path("tools"));
    other.target = "deep".into();
    add(&mut tree, &store, &other).unwrap();
    assert_eq!(list(&tree), expected);
}

#[test]
fn a_link_to_a_store_path_that_is_not_there_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let store_dir = StoreDir::default();
    let store = nix2oci::LocalStore::below(folder.path(), &store_dir);
    let env = folder.path().join(&full("env")[1..]);
    std::fs::create_dir_all(&env).unwrap();
    std::os::unix::fs::symlink(full("gone"), env.join("bin")).unwrap();
    let mut copies = Copies::new(path("env"));
    copies.follow_directory_links = true;
    let mut tree = RootTree::default();
    let cx = Context::default();
    tree.add_copies(&cx, &store_dir, &store, &|_| None, &copies)
        .unwrap();
    assert_eq!(list(&tree), [format!("bin -> {}", full("gone"))]);
}

#[test]
fn a_part_goes_where_it_is_told_with_modes_and_an_owner() {
    let store = store([
        ("tools", tools()),
        ("link", Node::symlink(full("tools"))),
        ("file", Node::file("x")),
    ]);
    let mut tree = RootTree::default();
    for (name, inside, target) in [
        ("tools", "etc", "srv/app"),
        ("link", "bin/dir", "usr/bin/list"),
        ("file", "", "etc/file"),
    ] {
        let copies = Copies {
            inside: inside.into(),
            target: target.into(),
            file_mode: Some(0o640),
            directory_mode: Some(0o750),
            owner: Some(Owner { uid: 7, gid: 8 }),
            ..Copies::new(path(name))
        };
        add(&mut tree, &store, &copies).unwrap();
    }
    let expected = [
        "etc/ 755",
        "etc/file 640 @file/",
        "srv/ 755",
        "srv/app/ 750",
        "srv/app/conf 640 @tools/etc/conf",
        "srv/app/empty/ 750",
        "usr/ 755",
        "usr/bin/ 755",
        "usr/bin/list 640 @tools/bin/ls",
    ];
    assert_eq!(list(&tree), expected);
    let owned = tree.nodes().filter(|(.., m)| m.owner.is_some()).count();
    assert_eq!(owned, 5, "what is copied, not the directories above");
}

#[test]
fn rewrites_are_those_of_nix2container() {
    let store = store([("tools", tools())]);
    let rewritten = |regex: &str, replacement: &str| {
        let mut tree = RootTree::default();
        let copies = Copies {
            rewrites: vec![Rewrite::new(regex, replacement).unwrap()],
            ..Copies::new(path("tools"))
        };
        add(&mut tree, &store, &copies).map(|()| list(&tree))
    };
    let all = rewritten(&format!("^{}", full("tools")), "").unwrap();
    assert_eq!(all, list(&copied(&store, &["tools"]).unwrap()));
    let parted = rewritten(&format!("^{}/(bin|etc)", full("tools")), "/opt/$1").unwrap();
    assert_eq!(
        parted,
        [
            "opt/ 755",
            "opt/bin/ 755",
            "opt/bin/dir -> ls",
            "opt/bin/ls 555 @tools/bin/ls",
            "opt/etc/ 755",
            "opt/etc/conf 444 @tools/etc/conf",
            "opt/etc/empty/ 755",
        ]
    );
    let error = rewritten("^.*$", "../x").unwrap_err();
    assert!(error.to_string().contains("without empty names, . or .."));
    assert!(Rewrite::new("(", "").is_err());
}

#[test]
fn equal_files_of_two_store_paths_are_fine_and_others_are_not() {
    let one = |text: &str| dir([("bin", dir([("x", Node::executable(text))]))]);
    let store = store([
        ("a", one("same")),
        ("b", one("same")),
        ("c", one("diff")),
        ("d", one("longer")),
        ("e", dir([("bin", dir([("x", Node::file("same"))]))])),
        ("f", dir([("bin", Node::symlink("usr/bin"))])),
    ]);
    let tree = copied(&store, &["b", "a", "b"]).unwrap();
    assert_eq!(list(&tree), ["bin/ 755", "bin/x 555 @a/bin/x"]);
    for (name, place) in [
        ("c", "/bin/x"),
        ("d", "/bin/x"),
        ("e", "/bin/x"),
        ("f", "/bin"),
    ] {
        let error = copied(&store, &["a", name]).unwrap_err();
        let ErrorKind::RootTreeConflict {
            path,
            first,
            second,
        } = error.kind()
        else {
            panic!("{error}")
        };
        assert_eq!((first, second), (&full("a"), &full(name)));
        assert_eq!(path, place);
    }
}

#[test]
fn what_cannot_be_copied_is_named() {
    let store = store([
        ("file", Node::file("x")),
        ("out", Node::symlink("/etc")),
        ("tools", tools()),
    ]);
    let refused = |name: &str, inside: &str| {
        let copies = Copies {
            inside: inside.into(),
            ..Copies::new(path(name))
        };
        let error = add(&mut RootTree::default(), &store, &copies).unwrap_err();
        error
            .to_string()
            .replace(full("x").trim_end_matches('x'), "@")
    };
    assert_eq!(
        refused("file", ""),
        "the copy of @file: @file would be the root itself: say where it goes"
    );
    assert_eq!(
        refused("out", ""),
        "the copy of @out: it leads to /etc, expected a file or a directory in /nix/store"
    );
    assert_eq!(
        refused("tools", "sbin"),
        "the copy of @tools/sbin: @tools/sbin does not exist, expected a file or a directory"
    );
}

/// An image of these paths, in layers that are not compressed.
fn spec(store: MemoryStore, in_closure: &[&str]) -> ImageSpec {
    let info = |name: &&str| {
        let node = store.get(&path(name)).expect("it is in the store");
        PathInfo {
            nar_hash: Some(nar_hash(node)),
            nar_size: Some(node.nar().len() as u64),
            ..PathInfo::new(path(name), [])
        }
    };
    let infos: Vec<_> = in_closure.iter().map(info).collect();
    let roots: Vec<_> = infos.iter().map(|info| info.path.clone()).collect();
    let closure = Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap();
    let config = ImageConfig::new(parse_platform("linux/amd64").unwrap());
    let mut spec = ImageSpec::new(closure, Arc::new(store), config);
    spec.packing.compression = Compression::None;
    spec
}

/// Builds it; returns the layers, which break no rule of tars.
fn layers(spec: &ImageSpec) -> Vec<Vec<u8>> {
    let (cx, folder) = (Context::default(), tempfile::tempdir().unwrap());
    let file = folder.path().join("image.tar");
    let mut sink = Destination::Archive { file: file.clone() }
        .open(None)
        .unwrap();
    build(&cx, spec, sink.as_mut()).unwrap();
    let tars = layer_tars(&file);
    for tar in &tars {
        let found = survey(&cx, &StoreDir::default(), tar.as_slice()).unwrap();
        // Rules may give modes that Nix does not.
        let problems = found.problems.iter().filter(|p| !p.is_harmless());
        assert_eq!(problems.count(), 0, "{:?}", found.problems);
    }
    tars
}

#[test]
fn a_layer_holds_copies_however_often_and_rules_change_them() {
    let store = store([
        ("tools", tools()),
        ("other", dir([("y", Node::file("other"))])),
    ]);
    let mut spec = spec(store.clone(), &["tools"]);
    spec.verify = true;
    for (name, target) in [("tools", ""), ("tools", "twice"), ("other", "")] {
        let copies = Copies {
            target: target.into(),
            ..Copies::new(path(name))
        };
        add(&mut spec.root_tree, &store, &copies).unwrap();
    }
    let inline = RootNode::File(RootFile::Inline {
        bytes: b"root:x:0:0".as_slice().into(),
        executable: false,
    });
    spec.root_tree
        .insert(b"etc/passwd", inline, Metadata::default(), "the test")
        .unwrap();
    let plain = layers(&spec);

    let mut setuid = Rule::new(Pattern::new(PatternKind::Glob, "/twice/bin/*").unwrap());
    setuid.file_mode = Some(0o4755);
    setuid.owner = Some(Owner { uid: 3, gid: 4 });
    let source = format!("^{}/", full("other"));
    let mut from = Rule::new(Pattern::new(PatternKind::Source, &source).unwrap());
    from.file_mode = Some(0o600);
    spec.rules = vec![setuid, from];
    let ruled = layers(&spec);
    assert_eq!(plain.len(), 2);
    assert!(plain[0] == ruled[0], "no rule is about the store path");

    let root = Tree::of_tar(ruled[1].as_slice());
    let seen = |at: &str| {
        let object = &root.0[at.as_bytes()];
        let text = String::from_utf8_lossy(&object.content).into_owned();
        (object.mode, object.owner, text)
    };
    assert_eq!(seen("bin/ls"), (0o555, (0, 0), "list".to_owned()));
    assert_eq!(seen("twice/bin/ls"), (0o4755, (3, 4), "list".to_owned()));
    assert_eq!(seen("twice/bin/dir"), (0o777, (3, 4), "ls".to_owned()));
    assert_eq!(seen("etc/passwd"), (0o644, (0, 0), "root:x:0:0".to_owned()));
    assert_eq!(seen("y"), (0o600, (0, 0), "other".to_owned()));
    assert_eq!(root.0.len(), 16);
}

#[test]
fn rules_reach_store_paths_and_the_directories_above_them_in_every_layer() {
    let store = store([
        ("tools", tools()),
        ("other", dir([("y", Node::file("other"))])),
    ]);
    let mut spec = spec(store, &["other", "tools"]);
    spec.strategy = nix2oci::plan::strategy("largest").unwrap();
    let cx = Context::default();
    let keys = |spec: &ImageSpec| -> Vec<_> {
        let plan = plan(&cx, spec).unwrap();
        plan.layers
            .iter()
            .map(|layer| (layer.paths()[0].name().to_owned(), layer.key.unwrap()))
            .collect()
    };
    let plain = keys(&spec);
    let mut rule = Rule::new(
        Pattern::new(PatternKind::Regex, &format!("^{}/bin/ls$", full("tools"))).unwrap(),
    );
    rule.file_mode = Some(0o6555);
    rule.xattrs = [("security.capability".to_owned(), vec![1, 0, 0, 2])].into();
    spec.rules = vec![rule];
    let ruled = keys(&spec);
    for ((name, plain), (_, ruled)) in plain.iter().zip(&ruled) {
        assert_eq!(plain == ruled, name == "other", "{name}");
    }
    let mut above = Rule::new(Pattern::new(PatternKind::Glob, "{/,/nix}").unwrap());
    above.directory_mode = Some(0o700);
    spec.rules.push(above);
    for tar in layers(&spec) {
        let tree = Tree::of_tar(tar.as_slice());
        let mode = |at: &str| tree.0[at.as_bytes()].mode;
        assert_eq!(
            (mode(""), mode("nix"), mode("nix/store")),
            (0o700, 0o700, 0o755)
        );
        let tool = format!("{}/bin/ls", &full("tools")[1..]);
        if let Some(found) = tree.0.get(tool.as_bytes()) {
            assert_eq!(found.mode, 0o6555);
        }
    }
    // A recipe says all of it, and makes the same layers.
    let recipe = resolve(&cx, &spec).unwrap();
    assert_eq!(recipe.version, 2);
    let recipe = Recipe::parse(&recipe.to_json(), "app.json").unwrap();
    let parts = recipe.parts("app.json").unwrap();
    for (layer, outline) in parts.layers.iter().zip(plan(&cx, &spec).unwrap().layers) {
        assert_eq!(layer.0, outline.spec);
        assert_eq!(layer.0.key(&parts.packing), outline.key);
    }
}

/// What may be added to a tree, in any order.
fn additions() -> Vec<(&'static str, &'static str)> {
    vec![
        ("a", ""),
        ("b", ""),
        ("a", "opt"),
        ("c", "opt/x"),
        ("b", "opt"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_order_of_additions_does_not_matter(order in Just(additions()).prop_shuffle()) {
        let package = |name: &str| {
            let names = [("shared".to_owned(), Node::file("1")), (name.to_owned(), tools())];
            dir([("share", Node::directory(names))])
        };
        let store = store([("a", package("a")), ("b", package("b")), ("c", package("c"))]);
        let tree = |order: &[(&str, &str)]| {
            let mut spec = spec(store.clone(), &[]);
            for (name, target) in order {
                let copies = Copies { target: (*target).into(), ..Copies::new(path(name)) };
                add(&mut spec.root_tree, &store, &copies).unwrap();
            }
            layers(&spec)
        };
        let tars = tree(&order);
        prop_assert!(tars == tree(&additions()));
    }
}
